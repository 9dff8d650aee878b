// SPDX-License-Identifier: GPL-2.0-only
/*
 * Asynchronous requests that the engine has: cancelling them, and looking after them, since
 * nobody waits for them.
 */
#include <linux/fs.h>

#include "request.h"

static struct pciedma_transfer *async_first(struct pciedma_async *async)
{
	return list_first_entry(&async->transfers, struct pciedma_transfer, sibling);
}

/* The engine has it: to be ended by the watch. */
static void async_cancel(struct pciedma_lane *lane, struct pciedma_async *async)
{
	if (!async->error)
		async->error = -ECANCELED;
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
	struct pciedma_async *async;

	guard(spinlock_irqsave)(&lane->engine.lock);
	if (IS_ERR(iocb->private))
		return;
	if (iocb->private) {
		pciedma_postponed_cancel(lane, iocb->private);
		return;
	}
	list_for_each_entry(async, &lane->asyncs, node) { /* at most one for each transfer */
		if (async->iocb == iocb) {
			async_cancel(lane, async);
			return;
		}
	}
	iocb->private = ERR_PTR(-ECANCELED);
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
	struct pciedma_async *async;

	pciedma_backlog_cancel(lane, backlog, files);
	guard(spinlock_irqsave)(&lane->engine.lock);
	list_for_each_entry(async, &lane->asyncs, node)
		if (async->file == file && (!files || async->files == files))
			async_cancel(lane, async);
}

static bool async_has_begun(struct pciedma_async *async)
{
	struct pciedma_transfer *transfer;

	list_for_each_entry(transfer, &async->transfers, sibling)
		if (transfer->taken)
			return true;
	return false;
}

/* Take back what the hardware has not begun. */
static void async_cut(struct pciedma_lane *lane, struct pciedma_async *async)
{
	struct pciedma_transfer *transfer;

	list_for_each_entry(transfer, &async->transfers, sibling) {
		if (transfer->state != PCIEDMA_TRANSFER_QUEUED || transfer->taken)
			continue;
		pciedma_queue_remove(&lane->queue, transfer);
		pciedma_async_less(async);
	}
}

/*
 * End it early, although not all of its transfers have finished. What has begun may end within
 * the drain bound; then recovery is asked. Engine lock held.
 */
static void async_stop(struct pciedma_lane *lane, struct pciedma_async *async, int error)
{
	struct pciedma_engine *engine = &lane->engine;
	struct pciedma_transfer *transfer;

	if (!async->error) {
		async->error = error;
		if (error == -ETIMEDOUT)
			engine->stats[async_first(async)->direction].timeouts++;
	}
	async_cut(lane, async);
	if (pciedma_engine_drain_ns(engine) > 0)
		return;
	list_for_each_entry(transfer, &async->transfers, sibling) {
		if (transfer->state != PCIEDMA_TRANSFER_QUEUED)
			continue;
		transfer->error = error;
		pciedma_engine_recover(engine, error);
	}
}

/* Stop what is to stop, and look again as long as something is left. */
static void lane_watch(struct pciedma_lane *lane)
{
	struct pciedma_engine *engine = &lane->engine;
	s64 delay = pciedma_engine_drain_bound_ns(engine);
	struct pciedma_async *async, *next;
	ktime_t now = ktime_get();
	s64 left;

	guard(spinlock_irqsave)(&engine->lock);
	list_for_each_entry_safe(async, next, &lane->asyncs, node) {
		left = ktime_to_ns(ktime_sub(async->deadline, now));
		if (async_has_begun(async)) /* progress of what is before it is progress */
			left = max(left, pciedma_engine_patience_ns(engine, async->timeout));
		if (async->error || left <= 0) {
			async_stop(lane, async, async->error ?: -ETIMEDOUT);
			left = pciedma_engine_drain_ns(engine);
			left = left > 0 ? left : pciedma_engine_drain_bound_ns(engine);
		}
		delay = min(delay, left);
	}
	if (!list_empty(&lane->asyncs))
		pciedma_work_within(&lane->watch, delay);
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
	lane_watch(lane);
	pciedma_async_complete(lane);
}
