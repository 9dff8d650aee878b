// SPDX-License-Identifier: GPL-2.0-only
/*
 * Asynchronous requests that find no room when they are submitted, or that an
 * engine cannot have all at once: a thread of the engine takes them up, in
 * their order, in the address space of whoever submitted them. There it may
 * wait for pages that never come, and whoever ends the request kills that wait.
 */
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include <compat.h>

#include "core.h"

/**
 * struct pciedma_postponed - an asynchronous request that waits to be taken up
 * @node:    on engine->postponed
 * @request: what it is; its file is this structure, so that it can be cancelled
 *           alone
 * @iocb:    the kernel's request
 * @iter:    its memory
 * @vector:  the copy of the vector in @iter, or NULL
 * @mm:      the address space that the memory is in; NULL: the kernel's
 * @cancels: it shall end
 * @late:    since its time is over
 */
struct pciedma_postponed {
	struct list_head node;
	struct pciedma_request request;
	struct kiocb *iocb;
	struct iov_iter iter;
	const void *vector;
	struct mm_struct *mm;
	atomic_t cancels;
	bool late;
};

static void postponed_free(struct pciedma_postponed *postponed)
{
	if (postponed->mm)
		mmdrop(postponed->mm);
	kfree(postponed->vector);
	kfree(postponed);
}

static struct pciedma_postponed *postponed_alloc(const struct pciedma_request *request,
						 struct kiocb *iocb, struct iov_iter *iter)
{
	struct pciedma_postponed *postponed = kzalloc(sizeof(*postponed), GFP_KERNEL);

	if (!postponed)
		return NULL;
	postponed->iocb = iocb;
	postponed->iter = *iter;
	if (iter_is_iovec(iter)) {
		postponed->vector = dup_iter(&postponed->iter, iter, GFP_KERNEL);
		if (!postponed->vector) {
			kfree(postponed);
			return NULL;
		}
	}
	postponed->mm = current->mm;
	if (postponed->mm)
		mmgrab(postponed->mm);
	postponed->request = *request;
	postponed->request.file = postponed;
	postponed->request.cancels = &postponed->cancels;
	postponed->request.cancels_seen = 0;
	postponed->request.nonblock = false;
	postponed->request.timeout = pciedma_async_timeout(request);
	pciedma_request_start(&postponed->request);
	return postponed;
}

/* Returns 0, or why it must not begin any more. */
static int postponed_queue(const struct pciedma_request *request,
			   struct pciedma_postponed *postponed)
{
	struct pciedma_engine *engine = request->engine;

	guard(spinlock_irqsave)(&engine->lock);
	if (engine->state == PCIEDMA_ENGINE_BROKEN)
		return engine->broken_error;
	if (pciedma_async_cancelled(request, postponed->iocb))
		return -ECANCELED;
	list_add_tail(&postponed->node, &engine->postponed);
	pciedma_async_watch_by(engine, postponed->request.timeout);
	kthread_queue_work(engine->taker, &engine->take_up);
	return 0;
}

/**
 * pciedma_postpone() - let the engine's thread take up an asynchronous request
 * @request: engine, direction, file, files, cancels, mode and timeout set
 * @iocb:    the kernel's request; its position is the card's address
 * @iter:    the memory, already cut to what may be moved
 *
 * It leaves the gate when it ends.
 *
 * Context: process, inside the gate.
 * Return: -EIOCBQUEUED, or an errno.
 */
int pciedma_postpone(const struct pciedma_request *request, struct kiocb *iocb,
		     struct iov_iter *iter)
{
	struct pciedma_postponed *postponed = postponed_alloc(request, iocb, iter);
	int ret;

	if (!postponed)
		return -ENOMEM;
	ret = postponed_queue(request, postponed);
	if (!ret)
		return -EIOCBQUEUED;
	postponed_free(postponed);
	return ret;
}

static void postponed_end(struct pciedma_postponed *postponed, ssize_t ret)
{
	struct pciedma_channel *channel = postponed->request.engine->channel;
	struct kiocb *iocb = postponed->iocb;

	postponed_free(postponed);
	if (ret > 0 && channel->kind == PCIEDMA_KIND_MEMORY)
		iocb->ki_pos += ret;
	pciedma_card_leave(channel->card);
	iocb->ki_complete(iocb, ret);
}

static ssize_t postponed_carry_out(struct pciedma_postponed *postponed)
{
	struct pciedma_request *request = &postponed->request;
	bool memory = request->engine->channel->kind == PCIEDMA_KIND_MEMORY;
	ssize_t ret;

	ret = pciedma_async_submit(request, postponed->iocb, &postponed->iter, true);
	if (ret == -ETIMEDOUT)
		pciedma_request_count_timeout(request);
	if (ret == -EAGAIN)
		ret = pciedma_sync_run(request, &postponed->iter,
				       memory ? postponed->iocb->ki_pos : 0);
	return ret;
}

/* The address space is let go of elsewhere: its end waits for requests that may wait for us. */
static ssize_t postponed_carry_out_for(struct pciedma_postponed *postponed)
{
	struct mm_struct *mm = postponed->mm;
	ssize_t ret;

	if (!mm)
		return postponed_carry_out(postponed);
	if (!mmget_not_zero(mm))
		return -ECANCELED;
	kthread_use_mm(mm);
	ret = postponed_carry_out(postponed);
	kthread_unuse_mm(mm);
	mmput_async(mm);
	return ret;
}

/* The next to be taken up. A kill was meant for the one before. */
static struct pciedma_postponed *postponed_next(struct pciedma_engine *engine)
{
	guard(spinlock_irqsave)(&engine->lock);
	flush_signals(current);
	engine->taken_up = list_first_entry_or_null(&engine->postponed, struct pciedma_postponed,
						    node);
	if (engine->taken_up)
		list_del(&engine->taken_up->node);
	return engine->taken_up;
}

/* Killed waits end with one errno or another: returns the reason for the kill. */
static ssize_t postponed_result(struct pciedma_engine *engine,
				const struct pciedma_postponed *postponed, ssize_t ret)
{
	lockdep_assert_held(&engine->lock);
	if (ret >= 0 || ret == -EIOCBQUEUED)
		return ret;
	if (postponed->late)
		return -ETIMEDOUT;
	if (atomic_read(&postponed->cancels))
		return -ECANCELED;
	return engine->state == PCIEDMA_ENGINE_BROKEN ? engine->broken_error : ret;
}

static void postponed_work(struct kthread_work *work)
{
	struct pciedma_engine *engine = container_of(work, struct pciedma_engine, take_up);
	struct pciedma_postponed *postponed;
	ssize_t ret;

	allow_kernel_signal(SIGKILL);
	while ((postponed = postponed_next(engine))) {
		ret = postponed_carry_out_for(postponed);
		scoped_guard(spinlock_irqsave, &engine->lock) {
			ret = postponed_result(engine, postponed, ret);
			engine->taken_up = NULL;
		}
		if (ret == -EIOCBQUEUED)
			postponed_free(postponed);
		else
			postponed_end(postponed, ret);
	}
	wake_up_interruptible(&engine->channel->poll_wait);
}

/**
 * pciedma_taker_create() - make the thread that takes up postponed requests
 * @engine: the engine
 *
 * Context: process.
 * Return: 0 or an errno.
 */
int pciedma_taker_create(struct pciedma_engine *engine)
{
	struct kthread_worker *taker;

	kthread_init_work(&engine->take_up, postponed_work);
	taker = kthread_run_worker(0, "pciedma%d-%u", engine->channel->card->index, engine->index);
	if (IS_ERR(taker))
		return PTR_ERR(taker);
	engine->taker = taker;
	return 0;
}

/**
 * pciedma_taker_destroy() - end that thread
 * @engine: nothing is postponed any more
 *
 * Context: process.
 */
void pciedma_taker_destroy(struct pciedma_engine *engine)
{
	if (engine->taker)
		kthread_destroy_worker(engine->taker);
	engine->taker = NULL;
}

/**
 * pciedma_postponed_kill() - end the wait for pages of the request that is taken up
 * @engine: the engine
 *
 * Context: engine lock held.
 */
void pciedma_postponed_kill(struct pciedma_engine *engine)
{
	lockdep_assert_held(&engine->lock);
	if (engine->taken_up)
		send_sig(SIGKILL, engine->taker->task, 1);
}

/**
 * pciedma_engine_postpones() - whether requests wait to be taken up
 * @engine: the engine
 *
 * Context: engine lock held.
 * Return: true if so: asynchronous ones must not overtake them.
 */
bool pciedma_engine_postpones(const struct pciedma_engine *engine)
{
	return engine->taken_up || !list_empty(&engine->postponed);
}

static bool postponed_matches(const struct pciedma_postponed *postponed, const struct kiocb *iocb,
			      const void *file, const void *files)
{
	const struct pciedma_request *request = &postponed->request;

	if (iocb)
		return postponed->iocb == iocb;
	return request->open_file == file && (!files || request->files == files);
}

/**
 * pciedma_postponed_cancel() - end postponed requests early
 * @engine: the engine
 * @iocb:   which; NULL: those of
 * @file:   this open file
 * @files:  and this process, or NULL
 *
 * Those that wait are ended by the engine's watch.
 *
 * Context: engine lock held.
 * Return: whether there was one.
 */
bool pciedma_postponed_cancel(struct pciedma_engine *engine, const struct kiocb *iocb,
			      const void *file, const void *files)
{
	struct pciedma_postponed *postponed = engine->taken_up;
	bool found = false;

	lockdep_assert_held(&engine->lock);
	if (postponed && postponed_matches(postponed, iocb, file, files)) {
		atomic_inc(&postponed->cancels);
		pciedma_engine_cancel_file(engine, postponed->request.direction, postponed);
		pciedma_postponed_kill(engine);
		found = true;
	}
	list_for_each_entry(postponed, &engine->postponed, node) {
		if (!postponed_matches(postponed, iocb, file, files))
			continue;
		atomic_inc(&postponed->cancels);
		found = true;
	}
	return found;
}

/* A postponed request whose time is over, or that is to end; @next: when to look again. */
static struct pciedma_postponed *postponed_over(struct pciedma_engine *engine, int *error,
						s64 *next)
{
	struct pciedma_postponed *postponed;
	s64 left;

	guard(spinlock_irqsave)(&engine->lock);
	list_for_each_entry(postponed, &engine->postponed, node) {
		left = ktime_to_ns(ktime_sub(postponed->request.deadline, ktime_get()));
		*error = atomic_read(&postponed->cancels) ? -ECANCELED :
							    left <= 0 ? -ETIMEDOUT : 0;
		if (*error) {
			if (*error == -ETIMEDOUT)
				engine->stats[postponed->request.direction].timeouts++;
			list_del(&postponed->node);
			return postponed;
		}
		*next = min(*next, left);
	}
	return NULL;
}

/* The request that is taken up minds its time by itself, unless it waits for its pages. */
static s64 taken_up_watch(struct pciedma_engine *engine)
{
	struct pciedma_postponed *postponed;
	s64 left;

	guard(spinlock_irqsave)(&engine->lock);
	postponed = engine->taken_up;
	if (!postponed)
		return S64_MAX;
	left = ktime_to_ns(ktime_sub(READ_ONCE(postponed->request.deadline), ktime_get())) +
	       2 * pciedma_engine_drain_bound_ns(engine);
	if (left > 0)
		return left;
	postponed->late = true;
	atomic_inc(&postponed->cancels);
	pciedma_postponed_kill(engine);
	return pciedma_engine_drain_bound_ns(engine);
}

/**
 * pciedma_postponed_watch() - end postponed requests whose time is over
 * @engine: the engine
 *
 * Context: process.
 * Return: nanoseconds until the next look; S64_MAX if none waits.
 */
s64 pciedma_postponed_watch(struct pciedma_engine *engine)
{
	struct pciedma_postponed *postponed;
	s64 next = taken_up_watch(engine);
	int error;

	while ((postponed = postponed_over(engine, &error, &next)))
		postponed_end(postponed, error);
	return next;
}
