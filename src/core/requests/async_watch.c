// SPDX-License-Identifier: GPL-2.0-only
/*
 * Asynchronous requests that the engine has: cancelling them, and looking after them, since
 * nobody waits for them.
 */
#include <linux/fs.h>

#include "request.h"

/* Requests that are looked at before others get the lock. */
#define SWEEP_AT_ONCE	32

static enum pciedma_direction async_direction(const struct pciedma_async *async)
{
	return list_first_entry(&async->transfers, struct pciedma_transfer, sibling)->direction;
}

/* Take back what the hardware has not begun. */
static void async_cut(struct pciedma_async *async)
{
	struct pciedma_transfer *transfer;

	list_for_each_entry(transfer, &async->transfers, sibling) {
		if (transfer->state != PCIEDMA_TRANSFER_QUEUED || transfer->taken)
			continue;
		pciedma_queue_remove(&async->lane->queue, transfer);
		pciedma_async_less(async);
	}
}

/*
 * End it early, which takes a time that does not depend on how many there are. What has begun may
 * end within the drain bound. Engine lock held.
 */
static void async_stop(struct pciedma_async *async, int error)
{
	struct pciedma_lane *lane = async->lane;

	if (async->error)
		return;
	async->error = error;
	if (error == -ETIMEDOUT)
		lane->engine.stats[async_direction(async)].timeouts++;
	async_cut(async);
	if (async->pending)
		list_add_tail(&async->node, &lane->stopping);
	mod_delayed_work(pciedma_workqueue, &lane->watch, 0);
}

/**
 * pciedma_async_cancel_iocb() - end one asynchronous request early
 * @lane: its lane
 * @iocb: the kernel's request, which cannot go before this returns
 *
 * Others may be cancelled with the same locks held, so this takes a time that
 * does not depend on how many requests there are, and completes nothing.
 *
 * Context: any.
 */
void pciedma_async_cancel_iocb(struct pciedma_lane *lane, struct kiocb *iocb)
{
	guard(spinlock_irqsave)(&lane->engine.lock);
	if (IS_ERR(iocb->private))
		return;
	if ((unsigned long)iocb->private & PCIEDMA_PRIVATE_ASYNC)
		async_stop(iocb->private - PCIEDMA_PRIVATE_ASYNC, -ECANCELED);
	else if (iocb->private)
		pciedma_postponed_cancel(lane, iocb->private);
	else
		iocb->private = ERR_PTR(-ECANCELED);
}

/* Let @look see some of the requests at work. Returns the place of the next, or 0. */
static unsigned int lane_see_some(struct pciedma_lane *lane, unsigned int place,
				  void (*look)(struct pciedma_async *async, void *data), void *data)
{
	unsigned int end = min(place + SWEEP_AT_ONCE, lane->queue.num);

	guard(spinlock_irqsave)(&lane->engine.lock);
	if (!lane->at_work)
		return 0;
	for (; place < end; place++)
		if (lane->async[place].pending)
			look(&lane->async[place], data);
	return place < lane->queue.num ? place : 0;
}

static void lane_see(struct pciedma_lane *lane,
		     void (*look)(struct pciedma_async *async, void *data), void *data)
{
	unsigned int place = 0;

	do
		place = lane_see_some(lane, place, look, data);
	while (place);
}

struct whose {
	const void *file;
	const void *files;
};

static void async_cancel(struct pciedma_async *async, void *data)
{
	const struct whose *whose = data;

	if (async->file == whose->file && (!whose->files || async->files == whose->files))
		async_stop(async, -ECANCELED);
}

/**
 * pciedma_async_cancel() - end asynchronous requests early
 * @lane:    their lane
 * @backlog: where postponed ones are
 * @file:    the open file whose requests they are
 * @files:   the process whose they are; NULL: of all processes
 *
 * Context: process.
 */
void pciedma_async_cancel(struct pciedma_lane *lane, struct pciedma_backlog *backlog,
			  const void *file, const void *files)
{
	struct whose whose = { .file = file, .files = files };

	pciedma_backlog_cancel(lane, backlog, files);
	lane_see(lane, async_cancel, &whose);
}

static bool async_has_begun(const struct pciedma_async *async)
{
	struct pciedma_transfer *transfer;

	list_for_each_entry(transfer, &async->transfers, sibling)
		if (transfer->taken)
			return true;
	return false;
}

/* Stop it if its time is over; else note when it will be. */
static void async_sweep(struct pciedma_async *async, void *data)
{
	struct pciedma_lane *lane = async->lane;
	ktime_t now = *(ktime_t *)data;
	s64 left;

	if (async->error)
		return;
	left = ktime_to_ns(ktime_sub(async->deadline, now));
	if (async_has_begun(async)) /* progress of what is before it is progress */
		left = max(left, pciedma_engine_patience_ns(&lane->engine, async->timeout));
	if (left <= 0)
		async_stop(async, -ETIMEDOUT);
	else
		lane->sweep = min(lane->sweep, ktime_add_ns(now, left));
}

static bool sweep_is_due(struct pciedma_lane *lane, ktime_t now)
{
	guard(spinlock_irqsave)(&lane->engine.lock);
	if (!lane->at_work || ktime_before(now, lane->sweep))
		return false;
	lane->sweep = KTIME_MAX;
	return true;
}

static void lane_sweep(struct pciedma_lane *lane)
{
	ktime_t now = ktime_get();

	if (sweep_is_due(lane, now))
		lane_see(lane, async_sweep, &now);
}

/*
 * What is to end early but has begun and does not end is recovered from. Returns nanoseconds
 * until it is so far. Engine lock held.
 */
static s64 lane_recover(struct pciedma_lane *lane)
{
	struct pciedma_engine *engine = &lane->engine;
	s64 left = pciedma_engine_drain_ns(engine);
	struct pciedma_transfer *transfer;
	struct pciedma_async *async;

	if (left > 0 || list_empty(&lane->stopping))
		return max(left, 0);
	list_for_each_entry(async, &lane->stopping, node) {
		list_for_each_entry(transfer, &async->transfers, sibling)
			if (transfer->state == PCIEDMA_TRANSFER_QUEUED)
				transfer->error = async->error;
		pciedma_engine_recover(engine, async->error);
	}
	return 0;
}

/* Look again as long as something is at work. */
static void lane_watch(struct pciedma_lane *lane)
{
	s64 delay = pciedma_engine_drain_bound_ns(&lane->engine);
	s64 left;

	guard(spinlock_irqsave)(&lane->engine.lock);
	if (!lane->at_work)
		return;
	left = list_empty(&lane->stopping) ? 0 : lane_recover(lane);
	if (left > 0)
		delay = min(delay, left);
	left = ktime_to_ns(ktime_sub(lane->sweep, ktime_get()));
	pciedma_work_within(&lane->watch, min(delay, max(left, 0)));
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
 * pciedma_async_watch() - look after a lane's asynchronous requests
 * @work: the lane's
 *
 * Context: work item.
 */
void pciedma_async_watch(struct work_struct *work)
{
	struct pciedma_lane *lane = container_of(to_delayed_work(work), struct pciedma_lane, watch);

	pciedma_async_complete_deferred(lane);
	watch_look(&lane->engine);
	lane_sweep(lane);
	lane_watch(lane);
	pciedma_async_complete(lane);
}
