/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the kernels differ in. New code is written for the newest one; here
 * older ones are made to look like it. Kbuild probes for each feature.
 */
#ifndef PCIEDMA_COMPAT_H
#define PCIEDMA_COMPAT_H

#include <linux/eventfd.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/uio.h>

#ifndef HAVE_ITER_IOV
/* Before 6.4 the member had no accessor. */
static inline const struct iovec *iter_iov(const struct iov_iter *iter)
{
	return iter->iov;
}
#endif

#ifndef HAVE_EVENTFD_SIGNAL_ONE
/* Before 6.8 one said how much to add. */
#define eventfd_signal(ctx)	eventfd_signal(ctx, 1)
#endif

#ifndef HAVE_KTHREAD_RUN_WORKER
/* Before 6.14 a worker ran as soon as it was created. */
#define kthread_run_worker	kthread_create_worker
#endif

#ifndef IOCB_AIO_RW
/* Before 6.8, 6.6.19 and 6.1.80 nothing told AIO's requests: none is cancelled singly. */
#define IOCB_AIO_RW	0
#endif

#ifndef HAVE_COPY_SPLICE_READ
#include "copy_splice_read.h"
#endif

#ifndef HAVE_VM_FLAGS_SET
/* Before 6.3 flags were set as they are. */
static inline void vm_flags_set(struct vm_area_struct *vma, unsigned long flags)
{
	vma->vm_flags |= flags;
}
#endif

#ifndef HAVE_RELEASE_FAULT_LOCK
/* Before 6.7 there was but one lock that a fault of a file could hold. */
static inline void release_fault_lock(struct vm_fault *vmf)
{
	mmap_read_unlock(vmf->vma->vm_mm);
}
#endif

#ifdef HAVE_GUP_UNSHARES_ANON_ONLY
/* Before 6.2 a program got other pages by its next write than those that were pinned to be read. */
#define FOLL_TO_READ	(FOLL_WRITE | FOLL_FORCE)
#else
#define FOLL_TO_READ	0
#endif

#ifdef HAVE_INVALIDATE_MAPPINGS
#define DMA_BUF_MOVES	invalidate_mappings
#else
/* Before 7.0 it had another name. */
#define DMA_BUF_MOVES	move_notify
#endif

#endif /* PCIEDMA_COMPAT_H */
