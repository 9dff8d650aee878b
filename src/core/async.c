// SPDX-License-Identifier: GPL-2.0-only
/*
 * Asynchronous requests (Linux AIO, io_uring): everything pinned when they are
 * submitted, completed from where their end is seen, and looked after by a
 * work item, since nobody waits for them.
 */
#include <linux/aio.h>
#include <linux/fs.h>
#include <linux/sched.h>

#include <compat.h>

#include "core.h"

static struct pciedma_transfer *async_leader(struct pciedma_async *async)
{
	return container_of(async, struct pciedma_transfer, async);
}

/* Give all transfers back, the one with the request itself last. */
static void async_release(struct pciedma_engine *engine, struct pciedma_async *async,
			  bool may_sleep)
{
	struct pciedma_transfer *leader = async_leader(async);
	struct pciedma_transfer *transfer, *next;

	list_for_each_entry_safe(transfer, next, &async->transfers, sibling)
		if (transfer != leader)
			pciedma_transfer_release(engine, transfer, may_sleep);
	pciedma_transfer_release(engine, leader, may_sleep);
}

/* What is known to have arrived, up to the first transfer that is not whole. */
static ssize_t async_result(struct pciedma_async *async)
{
	struct pciedma_transfer *transfer;
	ssize_t done = 0;

	list_for_each_entry(transfer, &async->transfers, sibling) {
		done += transfer->done;
		if (transfer->done < transfer->length)
			return done ?: async->error ?: transfer->error ?: -EIO;
	}
	return done;
}

static bool async_still_dirty(struct pciedma_async *async)
{
	struct pciedma_transfer *transfer;

	list_for_each_entry(transfer, &async->transfers, sibling)
		if (!pciedma_direct_still_dirty(transfer))
			return false;
	return true;
}

static void async_end(struct pciedma_engine *engine, struct pciedma_async *async, bool may_sleep)
{
	struct kiocb *iocb = async->iocb;
	ssize_t ret = async_result(async);

	async_release(engine, async, may_sleep);
	if (ret > 0)
		iocb->ki_pos += ret;
	pciedma_card_leave(engine->channel->card);
	iocb->ki_complete(iocb, ret);
}

static struct pciedma_async *engine_take(struct pciedma_engine *engine, struct list_head *list)
{
	struct pciedma_async *async;

	guard(spinlock_irqsave)(&engine->lock);
	async = list_first_entry_or_null(list, struct pciedma_async, node);
	if (async)
		list_del_init(&async->node);
	return async;
}

static void engine_defer(struct pciedma_engine *engine, struct pciedma_async *async)
{
	guard(spinlock_irqsave)(&engine->lock);
	list_add_tail(&async->node, &engine->deferred);
	mod_delayed_work(pciedma_workqueue, &engine->watch, 0);
}

/**
 * pciedma_async_complete() - complete the requests that have ended
 * @engine: the engine
 *
 * Context: any; no lock held.
 */
void pciedma_async_complete(struct pciedma_engine *engine)
{
	struct pciedma_async *async;

	while ((async = engine_take(engine, &engine->done))) {
		if (async_still_dirty(async))
			async_end(engine, async, false);
		else
			engine_defer(engine, async);
	}
}

/**
 * pciedma_async_begin() - an asynchronous request has arrived
 * @iocb:   the kernel's request
 * @cancel: how AIO cancels it
 *
 * Once, before it is submitted or postponed. From now on, and under its engine's
 * lock, its private pointer leads to what it is while it is postponed, is an
 * ERR_PTR if it was cancelled while nobody had it, and NULL otherwise.
 *
 * Context: process.
 */
void pciedma_async_begin(struct kiocb *iocb, int (*cancel)(struct kiocb *iocb))
{
	iocb->private = NULL;
	if (iocb->ki_flags & IOCB_AIO_RW)
		kiocb_set_cancel_fn(iocb, cancel);
}

/**
 * pciedma_async_cancelled() - whether a request was cancelled before it was handed in
 * @request: the request
 * @iocb:    the same, as the kernel sees it
 *
 * Context: engine lock held.
 * Return: true if so.
 */
bool pciedma_async_cancelled(const struct pciedma_request *request, const struct kiocb *iocb)
{
	return IS_ERR(iocb->private) || pciedma_request_cancelled(request);
}

/**
 * pciedma_async_timeout() - how long an asynchronous request may be without progress
 * @request: the request
 *
 * Nobody can be asked whether he still waits, so it is never long.
 *
 * Return: nanoseconds.
 */
s64 pciedma_async_timeout(const struct pciedma_request *request)
{
	return request->timeout < 0 ? PCIEDMA_TIMEOUT_SHORT_NS :
		min_t(s64, request->timeout, PCIEDMA_TIMEOUT_SHORT_NS);
}

/**
 * pciedma_work_within() - let a work item run soon enough
 * @work: on core's work queue; if it runs sooner anyway, it still does
 * @ns:   nanoseconds from now
 *
 * Context: lock of its engine held, lest another make it later.
 */
void pciedma_work_within(struct delayed_work *work, s64 ns)
{
	unsigned long delay = nsecs_to_jiffies(max(ns, 0LL)) + 1;

	/* One that is queued has no timer any more. */
	if (timer_pending(&work->timer) ?
	    time_before(jiffies + delay, READ_ONCE(work->timer.expires)) :
	    !work_pending(&work->work))
		mod_delayed_work(pciedma_workqueue, work, delay);
}

/**
 * pciedma_async_watch_by() - look after asynchronous requests before a time-out is over
 * @engine:  the engine
 * @timeout: nanoseconds
 *
 * Context: engine lock held.
 */
void pciedma_async_watch_by(struct pciedma_engine *engine, s64 timeout)
{
	pciedma_work_within(&engine->watch, min(timeout, pciedma_engine_drain_bound_ns(engine)));
}

/* The engine has it: to be ended by the watch. */
static void async_cancel(struct pciedma_engine *engine, struct pciedma_async *async)
{
	if (!async->error)
		async->error = -ECANCELED;
	mod_delayed_work(pciedma_workqueue, &engine->watch, 0);
}

/**
 * pciedma_async_cancel_iocb() - end one asynchronous request early
 * @engine: its engine
 * @iocb:   the kernel's request, which cannot go before this returns
 *
 * Others may be cancelled with the same locks held, so this takes a time that
 * does not depend on how many requests there are, and completes nothing.
 *
 * Context: any.
 */
void pciedma_async_cancel_iocb(struct pciedma_engine *engine, struct kiocb *iocb)
{
	struct pciedma_async *async;

	guard(spinlock_irqsave)(&engine->lock);
	if (IS_ERR(iocb->private))
		return;
	if (iocb->private) {
		pciedma_postponed_cancel(engine, iocb->private);
		return;
	}
	list_for_each_entry(async, &engine->asyncs, node) { /* at most one for each transfer */
		if (async->iocb == iocb) {
			async_cancel(engine, async);
			return;
		}
	}
	iocb->private = ERR_PTR(-ECANCELED);
}

/**
 * pciedma_async_cancel() - end asynchronous requests early
 * @engine: the engine
 * @backlog: where postponed ones are
 * @file:   the open file whose requests they are
 * @files:  the process whose they are; NULL: of all processes
 *
 * Context: process.
 */
void pciedma_async_cancel(struct pciedma_engine *engine, struct pciedma_backlog *backlog,
			  const void *file, const void *files)
{
	struct pciedma_async *async;

	pciedma_backlog_cancel(engine, backlog, files);
	guard(spinlock_irqsave)(&engine->lock);
	list_for_each_entry(async, &engine->asyncs, node)
		if (async->file == file && (!files || async->files == files))
			async_cancel(engine, async);
}

static bool async_has_begun(struct pciedma_async *async)
{
	struct pciedma_transfer *transfer;

	list_for_each_entry(transfer, &async->transfers, sibling)
		if (transfer->taken)
			return true;
	return false;
}

/* Stop what is to stop, and look again as long as something is left. */
static void engine_watch(struct pciedma_engine *engine)
{
	s64 delay = pciedma_engine_drain_bound_ns(engine);
	struct pciedma_async *async, *next;
	ktime_t now = ktime_get();
	s64 left;

	guard(spinlock_irqsave)(&engine->lock);
	list_for_each_entry_safe(async, next, &engine->asyncs, node) {
		left = ktime_to_ns(ktime_sub(async->deadline, now));
		if (async_has_begun(async)) /* progress of what is before it is progress */
			left = max(left, pciedma_engine_patience_ns(engine, async->timeout));
		if (async->error || left <= 0) {
			pciedma_engine_stop_async(engine, async, async->error ?: -ETIMEDOUT);
			left = pciedma_engine_drain_ns(engine);
			left = left > 0 ? left : pciedma_engine_drain_bound_ns(engine);
		}
		delay = min(delay, left);
	}
	if (!list_empty(&engine->asyncs))
		pciedma_work_within(&engine->watch, delay);
}

static bool engine_hangs(struct pciedma_engine *engine)
{
	guard(spinlock_irqsave)(&engine->lock);
	return pciedma_engine_inflight(engine) && pciedma_engine_drain_ns(engine) <= 0;
}

/* Look in place of an interrupt that should have come. */
static void watch_look(struct pciedma_engine *engine)
{
	if (engine_hangs(engine))
		pciedma_engine_look_late(engine, engine->direction);
}

/**
 * pciedma_async_watch() - look after an engine's asynchronous requests
 * @work: the engine's
 *
 * Context: work item.
 */
void pciedma_async_watch(struct work_struct *work)
{
	struct pciedma_engine *engine = container_of(to_delayed_work(work), struct pciedma_engine,
						     watch);
	struct pciedma_async *async;

	while ((async = engine_take(engine, &engine->deferred)))
		async_end(engine, async, true);
	watch_look(engine);
	engine_watch(engine);
	pciedma_async_complete(engine);
}

/* A transfer more, for a request that has some; an ERR_PTR if there is none. */
static struct pciedma_transfer *async_acquire(struct pciedma_request *request, unsigned int has,
					      bool wait)
{
	struct pciedma_transfer *transfer;
	int ret;

	if (has == request->engine->desc->buffers)
		return ERR_PTR(-EAGAIN);
	if (!wait) {
		transfer = pciedma_transfer_try_acquire(request->engine);
		return transfer ?: ERR_PTR(-EAGAIN);
	}
	ret = pciedma_transfer_acquire(request);
	if (ret)
		return ERR_PTR(ret);
	pciedma_request_start(request);
	return request->transfer;
}

/* Let a transfer have memory of the request. Returns 0 or an errno; then it is released. */
static int async_add(struct pciedma_request *request, struct pciedma_async **async,
		     struct pciedma_transfer *transfer, struct iov_iter *iter, u64 address)
{
	struct pciedma_engine *engine = request->engine;
	ssize_t ret;

	transfer->direction = request->direction;
	transfer->owner = NULL;
	transfer->file = request->file;
	transfer->address = address;
	transfer->polled = false;
	ret = pciedma_direct_fill(engine, transfer, iter,
				  pciedma_direct_cut(iter, iov_iter_count(iter)), false);
	if (ret < 0)
		goto err_release;
	ret = pciedma_direct_map(engine, transfer);
	if (ret)
		goto err_unpin;
	pciedma_direct_dirty(transfer);
	if (!*async) {
		*async = &transfer->async;
		INIT_LIST_HEAD(&transfer->async.transfers);
	}
	transfer->leader = async_leader(*async);
	list_add_tail(&transfer->sibling, &(*async)->transfers);
	return 0;

err_unpin:
	pciedma_direct_unpin(transfer, true);
	ret = -EAGAIN; /* for want of bounce buffers: a synchronous call copies then */
err_release:
	pciedma_transfer_release(engine, transfer, true);
	return ret;
}

static int async_start(struct pciedma_request *request, struct pciedma_async *async,
		       struct kiocb *iocb)
{
	async->iocb = iocb;
	async->file = request->open_file;
	async->files = request->files;
	async->pending = 0;
	async->error = 0;
	async->timeout = pciedma_async_timeout(request);
	async->deadline = ktime_add_ns(ktime_get(), async->timeout);
	return pciedma_engine_submit_async(request, async);
}

/* Whether a request may be handed in before it waits: 0, -EAGAIN or another errno. */
static int async_may_begin(struct pciedma_request *request)
{
	struct pciedma_engine *engine = request->engine;

	guard(spinlock_irqsave)(&engine->lock);
	if (engine->state == PCIEDMA_ENGINE_BROKEN)
		return engine->broken_error;
	return pciedma_backlog_has(request) ? -EAGAIN : 0;
}

/**
 * pciedma_async_submit() - begin a request that nobody waits for
 * @request: engine, direction, files, cancels, nonblock and timeout set
 * @iocb:    the kernel's request; its position is the card's address
 * @iter:    user memory, already cut to what may be moved
 * @wait:    it was postponed, and may wait for room now
 *
 * Once it has begun, it leaves the gate when it ends.
 *
 * Context: process, inside the gate.
 * Return: -EIOCBQUEUED; -EAGAIN if there is no room for all of it, ever if
 * @wait, or if it suits a synchronous call better; another errno.
 */
int pciedma_async_submit(struct pciedma_request *request, struct kiocb *iocb,
			 struct iov_iter *iter, bool wait)
{
	struct pciedma_engine *engine = request->engine;
	u64 end_address = iocb->ki_pos + iov_iter_count(iter);
	struct pciedma_async *async = NULL;
	struct iov_iter before = *iter;
	struct pciedma_transfer *transfer;
	unsigned int has;
	int ret;

	ret = wait ? 0 : async_may_begin(request);
	if (ret)
		return ret;
	if (!pciedma_direct_possible(engine, iter) ||
	    iov_iter_count(iter) > (u64)engine->desc->buffers * PCIEDMA_TRANSFER_SIZE)
		return -EAGAIN;
	for (has = 0; !ret && iov_iter_count(iter); has++) {
		transfer = async_acquire(request, has, wait);
		ret = IS_ERR(transfer) ? PTR_ERR(transfer) :
				       async_add(request, &async, transfer, iter,
						 end_address - iov_iter_count(iter));
	}
	if (!ret)
		ret = async_start(request, async, iocb);
	if (!ret)
		return -EIOCBQUEUED;
	if (ret == -EFAULT) /* what can only be copied needs a synchronous call */
		ret = -EAGAIN;
	*iter = before;
	if (async)
		async_release(engine, async, true);
	return ret;
}
