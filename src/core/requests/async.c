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

#include "request.h"

/* Give all transfers back, last the first, at whose place the request itself is. */
static void async_release(struct pciedma_async *async, bool may_sleep)
{
	struct pciedma_transfer *transfer, *before;

	list_for_each_entry_safe_reverse(transfer, before, &async->transfers, sibling)
		pciedma_transfer_release(transfer, may_sleep);
}

/**
 * pciedma_async_less() - one of a request's transfers has finished, or was taken back
 * @async: the request; it has ended when all have
 *
 * Context: engine lock held.
 */
void pciedma_async_less(struct pciedma_async *async)
{
	if (--async->pending)
		return;
	async->lane->at_work--;
	list_move_tail(&async->node, &async->lane->done);
}

/* Under the engine's lock. An asynchronous request has ended when all of its transfers have. */
static void async_finished(struct pciedma_transfer *transfer)
{
	struct pciedma_async *async = transfer->owner;

	if (async->pending > 1)
		async->deadline = ktime_add_ns(ktime_get(), async->timeout);
	pciedma_async_less(async);
}

static const struct pciedma_transfer_ops async_transfer_ops = {
	.finished = async_finished,
};

/* The request whose first transfer is this one. */
static struct pciedma_async *async_at(struct pciedma_lane *lane, struct pciedma_transfer *transfer)
{
	struct pciedma_async *async = &lane->async[transfer - lane->queue.transfers];

	async->lane = lane;
	INIT_LIST_HEAD(&async->node);
	INIT_LIST_HEAD(&async->transfers);
	return async;
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
		if (!pciedma_user_mem_still_dirty(&transfer->user))
			return false;
	return true;
}

static void async_end(struct pciedma_lane *lane, struct pciedma_async *async, bool may_sleep)
{
	struct kiocb *iocb = async->iocb;
	ssize_t ret = async_result(async);

	async_release(async, may_sleep);
	if (ret > 0)
		iocb->ki_pos += ret;
	pciedma_card_leave(lane->engine.card);
	iocb->ki_complete(iocb, ret);
}

static struct pciedma_async *lane_take(struct pciedma_lane *lane, struct list_head *list)
{
	struct pciedma_async *async;

	guard(spinlock_irqsave)(&lane->engine.lock);
	async = list_first_entry_or_null(list, struct pciedma_async, node);
	if (!async)
		return NULL;
	list_del_init(&async->node);
	async->iocb->private = NULL; /* nobody can cancel it any more */
	return async;
}

static void lane_defer(struct pciedma_lane *lane, struct pciedma_async *async)
{
	guard(spinlock_irqsave)(&lane->engine.lock);
	list_add_tail(&async->node, &lane->deferred);
	mod_delayed_work(pciedma_workqueue, &lane->watch, 0);
}

/**
 * pciedma_async_complete() - complete the requests that have ended
 * @lane: their lane
 *
 * Context: any; no lock held.
 */
void pciedma_async_complete(struct pciedma_lane *lane)
{
	struct pciedma_async *async;

	while ((async = lane_take(lane, &lane->done))) {
		if (async_still_dirty(async))
			async_end(lane, async, false);
		else
			lane_defer(lane, async);
	}
}

/**
 * pciedma_async_complete_deferred() - complete those whose completion sleeps
 * @lane: their lane
 *
 * Context: process; no lock held.
 */
void pciedma_async_complete_deferred(struct pciedma_lane *lane)
{
	struct pciedma_async *async;

	while ((async = lane_take(lane, &lane->deferred)))
		async_end(lane, async, true);
}

/**
 * pciedma_async_begin() - an asynchronous request has arrived
 * @iocb:   the kernel's request
 * @cancel: how AIO cancels it
 *
 * Once, before it is submitted or postponed. From now on, and under its engine's
 * lock, its private pointer leads to what it is while it is postponed, and, marked,
 * while the engine has it; is an ERR_PTR if it was cancelled while nobody had it, and
 * NULL otherwise.
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

/* One more is at work: look after it before its time is over. Engine lock held. */
static void lane_begins(struct pciedma_lane *lane, const struct pciedma_async *async)
{
	if (!lane->at_work++ || ktime_before(async->deadline, lane->sweep))
		lane->sweep = async->deadline;
	pciedma_work_within(&lane->watch, min(async->timeout,
					      pciedma_engine_drain_bound_ns(&lane->engine)));
}

/* A transfer more, for a request that has some; an ERR_PTR if there is none. */
static struct pciedma_transfer *async_acquire(struct pciedma_request *request,
					      const struct iov_iter *iter, unsigned int has,
					      bool wait)
{
	struct pciedma_transfer *transfer;
	int ret;

	if (has == request->engine->desc->buffers)
		return ERR_PTR(-EAGAIN);
	request->waiter.size = pciedma_transfer_size(&request->lane->queue, iter);
	if (!wait) {
		transfer = pciedma_transfer_try_acquire(&request->lane->queue,
							request->waiter.size);
		return transfer ?: ERR_PTR(-EAGAIN);
	}
	ret = pciedma_request_acquire(request);
	if (ret)
		return ERR_PTR(ret);
	pciedma_request_start(request);
	return request->waiter.transfer;
}

/* Let a transfer have memory of the request. Returns 0 or an errno; then it is released. */
static int async_add(struct pciedma_request *request, struct pciedma_async **async,
		     struct pciedma_transfer *transfer, struct iov_iter *iter, u64 address)
{
	int ret;

	transfer->direction = request->direction;
	transfer->ops = &async_transfer_ops;
	transfer->file = NULL;
	transfer->address = address;
	transfer->polled = false;
	ret = pciedma_transfer_fill(transfer, iter,
				    pciedma_user_mem_cut(iter, iov_iter_count(iter)), false);
	if (ret) { /* if it cannot be mapped, a synchronous call copies */
		pciedma_transfer_release(transfer, true);
		return ret;
	}
	pciedma_user_mem_dirty(&transfer->user);
	if (!*async)
		*async = async_at(request->lane, transfer);
	transfer->owner = *async;
	list_add_tail(&transfer->sibling, &(*async)->transfers);
	return 0;
}

/* All at once. It may be over before this returns. */
static int async_hand_in(const struct pciedma_request *request, struct pciedma_async *async)
{
	struct pciedma_lane *lane = request->lane;
	struct pciedma_engine *engine = &lane->engine;
	struct pciedma_transfer *transfer;

	guard(spinlock_irqsave)(&engine->lock);
	if (engine->state == PCIEDMA_ENGINE_BROKEN)
		return engine->broken_error;
	if (pciedma_async_cancelled(request, async->iocb))
		return -ECANCELED;
	lane_begins(lane, async);
	async->iocb->private = (void *)((unsigned long)async | PCIEDMA_PRIVATE_ASYNC);
	list_for_each_entry(transfer, &async->transfers, sibling) {
		async->pending++;
		pciedma_queue_add(&lane->queue, transfer);
	}
	pciedma_engine_kick(engine);
	return 0;
}

static int async_start(struct pciedma_request *request, struct pciedma_async *async,
		       struct kiocb *iocb)
{
	async->iocb = iocb;
	async->file = request->open_file;
	async->files = request->files;
	async->error = 0;
	async->timeout = pciedma_async_timeout(request);
	async->deadline = ktime_add_ns(ktime_get(), async->timeout);
	return async_hand_in(request, async);
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
 * @wait, or if it suits a synchronous call better; -EFAULT if its memory was not
 * touched, and is not there; another errno.
 */
int pciedma_async_submit(struct pciedma_request *request, struct kiocb *iocb,
			 struct iov_iter *iter, bool wait)
{
	struct pciedma_queue *queue = &request->lane->queue;
	u64 end_address = iocb->ki_pos + iov_iter_count(iter);
	struct pciedma_async *async = NULL;
	struct iov_iter before = *iter;
	struct pciedma_transfer *transfer;
	unsigned int has;
	int ret;

	ret = wait ? 0 : async_may_begin(request);
	if (ret)
		return ret;
	if (!queue->direct || !pciedma_user_mem_possible(&queue->limits, iter) ||
	    iov_iter_count(iter) > (u64)request->engine->desc->buffers * PCIEDMA_USER_MEM_SIZE)
		return -EAGAIN;
	for (has = 0; !ret && iov_iter_count(iter); has++) {
		transfer = async_acquire(request, iter, has, wait);
		ret = IS_ERR(transfer) ? PTR_ERR(transfer) :
				       async_add(request, &async, transfer, iter,
						 end_address - iov_iter_count(iter));
	}
	if (!ret)
		ret = async_start(request, async, iocb);
	if (!ret)
		return -EIOCBQUEUED;
	if (ret == -EFAULT && pciedma_request_touched(request, iter))
		ret = -EAGAIN; /* what can only be copied needs a synchronous call */
	*iter = before;
	if (async)
		async_release(async, true);
	return ret;
}
