// SPDX-License-Identifier: GPL-2.0-only
/*
 * User memory that is not there yet.
 *
 * Most comes by itself as soon as it is touched: anonymous memory, and huge pages. Of other
 * memory nobody knows when, or whether it ever does: a file's, above all in user space (FUSE), and
 * what another thread has to fill in (userfaultfd). That is touched by a thread of its own, which
 * whoever waits can leave alone.
 */
#include <linux/hugetlb.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/userfaultfd_k.h>

#include <compat.h>

#include "fetch.h"
#include "mem.h"

/* Threads that may wait for memory at a time. */
#define MAX_FETCHES	512

static atomic_t fetches = ATOMIC_INIT(0);

static bool vma_comes(struct vm_area_struct *vma)
{
	return (vma_is_anonymous(vma) || is_vm_hugetlb_page(vma)) && !userfaultfd_armed(vma);
}

/* mmap_lock held. */
static bool range_comes(unsigned long start, size_t length)
{
	unsigned long end = start + length;
	struct vm_area_struct *vma;

	while (start < end) {
		vma = find_vma(current->mm, start);
		if (!vma || vma->vm_start > start)
			return true; /* nothing is there: that is soon known */
		if (!vma_comes(vma))
			return false;
		start = vma->vm_end;
	}
	return true;
}

static bool iter_comes(struct iov_iter iter, size_t length)
{
	const struct iovec *iov;
	size_t part;

	if (iter_is_ubuf(&iter))
		return range_comes((unsigned long)iter.ubuf + iter.iov_offset, length);
	for (iov = iter_iov(&iter); length; iov++) {
		part = min(iov->iov_len - iter.iov_offset, length);
		if (!range_comes((unsigned long)iov->iov_base + iter.iov_offset, part))
			return false;
		iter.iov_offset = 0;
		length -= part;
	}
	return true;
}

/**
 * pciedma_memory_comes() - whether memory comes by itself when it is touched
 * @iter:   memory of the calling process
 * @length: bytes, at most what it has
 *
 * Who holds the lock that this needs may be waiting for memory himself: so it is only tried.
 *
 * Context: process.
 * Return: true if so, or if nothing is there.
 */
bool pciedma_memory_comes(const struct iov_iter *iter, size_t length)
{
	bool ret;

	if (!user_backed_iter(iter))
		return true;
	if (!mmap_read_trylock(current->mm))
		return false;
	ret = iter_comes(*iter, length);
	mmap_read_unlock(current->mm);
	return ret;
}

/**
 * pciedma_fetch_put() - let go of a fetch
 * @fetch: it
 *
 * Context: any.
 */
void pciedma_fetch_put(struct pciedma_fetch *fetch)
{
	if (!refcount_dec_and_test(&fetch->refs))
		return;
	if (fetch->task)
		put_task_struct(fetch->task);
	mmdrop(fetch->mm);
	kfree(fetch->vector);
	kfree(fetch);
}

static void fetch_touch(struct pciedma_fetch *fetch)
{
	if (!mmget_not_zero(fetch->mm))
		return;
	kthread_use_mm(fetch->mm);
	fetch->found = pciedma_memory_touch(&fetch->iter, fetch->length, fetch->direction);
	kthread_unuse_mm(fetch->mm);
	mmput_async(fetch->mm);
}

static int fetch_thread(void *data)
{
	struct pciedma_fetch *fetch = data;

	allow_kernel_signal(SIGKILL);
	fetch_touch(fetch);
	scoped_guard(spinlock_irqsave, &fetch->lock) {
		if (fetch->done)
			fetch->done(fetch->owner);
		fetch->done = NULL;
	}
	pciedma_fetch_put(fetch);
	atomic_dec(&fetches);
	module_put_and_kthread_exit(0);
}

static struct pciedma_fetch *fetch_alloc(struct mm_struct *mm, const struct iov_iter *iter)
{
	struct pciedma_fetch *fetch = kzalloc(sizeof(*fetch), GFP_KERNEL_ACCOUNT);

	if (!fetch)
		return NULL;
	fetch->iter = *iter;
	if (iter_is_iovec(iter)) {
		fetch->vector = dup_iter(&fetch->iter, (struct iov_iter *)iter, GFP_KERNEL_ACCOUNT);
		if (!fetch->vector) {
			kfree(fetch);
			return NULL;
		}
	}
	mmgrab(mm);
	fetch->mm = mm;
	spin_lock_init(&fetch->lock);
	refcount_set(&fetch->refs, 2); /* the caller's, and the thread's */
	return fetch;
}

/**
 * pciedma_fetch_start() - have memory come
 * @mm:        its address space
 * @iter:      the memory
 * @length:    bytes, at most what it has
 * @direction: what it is for
 * @done:      called, with a lock held and interrupts off, when all that will come has
 * @owner:     for @done
 *
 * Context: process.
 * Return: the fetch, for pciedma_fetch_put(); an ERR_PTR: -EBUSY if too many are under way.
 */
struct pciedma_fetch *pciedma_fetch_start(struct mm_struct *mm, const struct iov_iter *iter,
					  size_t length, enum dma_data_direction direction,
					  void (*done)(void *owner), void *owner)
{
	struct pciedma_fetch *fetch;
	struct task_struct *task;

	if (atomic_inc_return(&fetches) > MAX_FETCHES) {
		atomic_dec(&fetches);
		return ERR_PTR(-EBUSY);
	}
	fetch = fetch_alloc(mm, iter);
	if (!fetch) {
		atomic_dec(&fetches);
		return ERR_PTR(-ENOMEM);
	}
	fetch->length = length;
	fetch->direction = direction;
	fetch->done = done;
	fetch->owner = owner;
	task = kthread_create(fetch_thread, fetch, "pciedma-fetch");
	if (IS_ERR(task)) {
		atomic_dec(&fetches);
		pciedma_fetch_put(fetch);
		pciedma_fetch_put(fetch);
		return ERR_CAST(task);
	}
	__module_get(THIS_MODULE);
	get_task_struct(task);
	fetch->task = task;
	wake_up_process(task);
	return fetch;
}

/**
 * pciedma_fetch_give_up() - wait for memory no longer
 * @fetch: started by the caller; @done is not called any more
 *
 * Context: any.
 * Return: false if @done has been called.
 */
bool pciedma_fetch_give_up(struct pciedma_fetch *fetch)
{
	guard(spinlock_irqsave)(&fetch->lock);
	if (!fetch->done)
		return false;
	fetch->done = NULL;
	send_sig(SIGKILL, fetch->task, 1);
	return true;
}
