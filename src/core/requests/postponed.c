// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an asynchronous request is made of that waits to be taken up.
 */
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "postpone.h"

/* There may be very many, little longer than what the kernel has a cache for. */
static struct kmem_cache *postponed_cache;

/**
 * pciedma_postpone_init() - make room for what is postponed
 *
 * Context: process; once, before there is any card.
 * Return: 0 or -ENOMEM.
 */
int pciedma_postpone_init(void)
{
	postponed_cache = KMEM_CACHE(pciedma_postponed, SLAB_ACCOUNT);
	return postponed_cache ? 0 : -ENOMEM;
}

/**
 * pciedma_postpone_exit() - undo that
 *
 * Context: process; nobody has anything postponed.
 */
void pciedma_postpone_exit(void)
{
	kmem_cache_destroy(postponed_cache);
}

/**
 * pciedma_postponed_free() - undo pciedma_postponed_alloc()
 * @postponed: what has ended, or was taken up
 *
 * Context: process.
 */
void pciedma_postponed_free(struct pciedma_postponed *postponed)
{
	if (postponed->mm)
		mmdrop(postponed->mm);
	kfree(postponed->vector);
	kmem_cache_free(postponed_cache, postponed);
}

/**
 * pciedma_postponed_alloc() - make of a request one that waits to be taken up
 * @request: the request, of which nothing has moved
 * @iocb:    the kernel's
 * @iter:    its memory
 *
 * Context: process, the caller's.
 * Return: it; NULL if there is no memory.
 */
struct pciedma_postponed *pciedma_postponed_alloc(const struct pciedma_request *request,
						  struct kiocb *iocb, struct iov_iter *iter)
{
	struct pciedma_postponed *postponed;

	postponed = kmem_cache_zalloc(postponed_cache, GFP_KERNEL_ACCOUNT);
	if (!postponed)
		return NULL;
	postponed->iocb = iocb;
	postponed->iter = *iter;
	if (iter_is_iovec(iter)) {
		postponed->vector = dup_iter(&postponed->iter, iter, GFP_KERNEL_ACCOUNT);
		if (!postponed->vector) {
			kmem_cache_free(postponed_cache, postponed);
			return NULL;
		}
	}
	postponed->mm = current->mm;
	if (postponed->mm)
		mmgrab(postponed->mm);
	postponed->file_cancels = request->cancels;
	postponed->file_cancels_seen = request->cancels_seen;
	postponed->request = *request;
	postponed->request.waiter.file = postponed;
	postponed->request.part.buffer = NULL; /* the caller's */
	INIT_LIST_HEAD(&postponed->request.late);
	INIT_WORK(&postponed->came, pciedma_postponed_came);
	postponed->request.cancels = &postponed->cancels;
	postponed->request.cancels_seen = 0;
	postponed->request.nonblock = false;
	postponed->request.timeout = pciedma_aio_timeout(request);
	pciedma_request_start(&postponed->request);
	timerqueue_init(&postponed->deadline);
	return postponed;
}
