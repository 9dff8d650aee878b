// SPDX-License-Identifier: GPL-2.0-only
/*
 * A lane's ops are looked after by a work item, since nobody waits for them: those that are to
 * end early, or whose time is over, and those whose completion sleeps.
 */
#include "lane.h"
#include "entry.h"

/* Requests that are looked at before others get the lock. */
#define SWEEP_AT_ONCE	32

static enum pciedma_direction op_direction(const struct pciedma_op *op)
{
	return list_first_entry(&op->transfers, struct pciedma_transfer, sibling)->direction;
}

/* Take back what the hardware has not begun; of a part of a buffer, which may be long, the rest. */
static void op_cut(struct pciedma_op *op)
{
	struct pciedma_queue *queue = &op->lane->queue;
	struct pciedma_transfer *transfer;

	list_for_each_entry(transfer, &op->transfers, sibling) {
		if (transfer->state != PCIEDMA_TRANSFER_QUEUED)
			continue;
		if (transfer->buffer && transfer->taken) {
			pciedma_queue_cut(queue, transfer);
		} else if (!transfer->taken) {
			pciedma_queue_remove(queue, transfer);
			if (!transfer->quiet)
				pciedma_lane_unsure(op->lane);
			pciedma_op_less(op);
		}
	}
}

/**
 * pciedma_op_stop() - end an op early
 * @op:    at work
 * @error: why; the first reason stays
 *
 * It takes a time that does not depend on how many there are, and completes nothing. What has
 * begun may end within the drain bound.
 *
 * Context: engine lock held.
 */
void pciedma_op_stop(struct pciedma_op *op, int error)
{
	struct pciedma_lane *lane = op->lane;

	if (op->error)
		return;
	op->error = error;
	if (error == -ETIMEDOUT)
		lane->engine.stats[op_direction(op)].timeouts++;
	op_cut(op);
	if (op->pending)
		list_add_tail(&op->node, &lane->stopping);
	mod_delayed_work(pciedma_workqueue, &lane->watch, 0);
}

/* Let @look see some of the requests at work. Returns the place of the next, or 0. */
static unsigned int lane_see_some(struct pciedma_lane *lane, unsigned int place,
				  void (*look)(struct pciedma_op *op, void *data), void *data)
{
	unsigned int end = min(place + SWEEP_AT_ONCE, lane->queue.num);

	guard(spinlock_irqsave)(&lane->engine.lock);
	if (!lane->at_work)
		return 0;
	for (; place < end; place++)
		if (lane->op[place].pending)
			look(&lane->op[place], data);
	return place < lane->queue.num ? place : 0;
}

static void lane_see(struct pciedma_lane *lane,
		     void (*look)(struct pciedma_op *op, void *data), void *data)
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

static void op_cancel(struct pciedma_op *op, void *data)
{
	const struct whose *whose = data;

	if (op->file == whose->file && (!whose->files || op->files == whose->files))
		pciedma_op_stop(op, -ECANCELED);
}

/**
 * pciedma_ops_cancel() - end ops early
 * @lane:  their lane
 * @file:  the open file whose they are
 * @files: the process whose they are; NULL: of all processes
 *
 * Context: process.
 */
void pciedma_ops_cancel(struct pciedma_lane *lane, const void *file, const void *files)
{
	struct whose whose = { .file = file, .files = files };

	lane_see(lane, op_cancel, &whose);
}

static bool op_has_begun(const struct pciedma_op *op)
{
	struct pciedma_transfer *transfer;

	list_for_each_entry(transfer, &op->transfers, sibling)
		if (transfer->taken)
			return true;
	return false;
}

/* Stop it if its time is over; else note when it will be. */
static void op_sweep(struct pciedma_op *op, void *data)
{
	struct pciedma_lane *lane = op->lane;
	ktime_t now = *(ktime_t *)data;
	s64 left;

	if (op->error)
		return;
	left = ktime_to_ns(ktime_sub(op->deadline, now));
	if (op->ops->left)
		left = op->ops->left(op, now);
	if (op_has_begun(op)) /* progress of what is before it is progress */
		left = max(left, pciedma_engine_patience_ns(&lane->engine, op->timeout));
	if (left <= 0)
		pciedma_op_stop(op, -ETIMEDOUT);
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
		lane_see(lane, op_sweep, &now);
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
	struct pciedma_op *op;

	if (left > 0 || list_empty(&lane->stopping))
		return max(left, 0);
	list_for_each_entry(op, &lane->stopping, node) {
		list_for_each_entry(transfer, &op->transfers, sibling)
			if (transfer->state == PCIEDMA_TRANSFER_QUEUED)
				transfer->error = op->error;
		pciedma_engine_recover(engine, op->error);
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
		delay = min3(delay, left, PCIEDMA_LOOK_NS);
	if (lane->unsure)
		delay = min(delay, PCIEDMA_LOOK_NS);
	left = ktime_to_ns(ktime_sub(lane->sweep, ktime_get()));
	pciedma_work_within(&lane->watch, min(delay, max(left, 0)));
}

/* What is to end early may have nothing that tells of its end, nor what is before it. */
static bool lane_is_quiet(struct pciedma_lane *lane)
{
	const struct pciedma_transfer *first;

	guard(spinlock_irqsave)(&lane->engine.lock);
	first = list_first_entry_or_null(&lane->queue.list, struct pciedma_transfer, node);
	if (!first || (s32)(first->id - lane->unsure_before) >= 0)
		lane->unsure = false;
	return lane->unsure || !list_empty(&lane->stopping);
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
 * pciedma_ops_watch() - look after a lane's ops
 * @work: the lane's
 *
 * Context: work item.
 */
void pciedma_ops_watch(struct work_struct *work)
{
	struct pciedma_lane *lane = container_of(to_delayed_work(work), struct pciedma_lane, watch);

	pciedma_ops_complete_deferred(lane);
	watch_look(&lane->engine);
	if (lane_is_quiet(lane))
		pciedma_engine_look_closely(&lane->engine);
	lane_sweep(lane);
	lane_watch(lane);
	pciedma_entries_expire(lane);
	pciedma_ops_complete(lane);
	pciedma_entries_ended(lane);
}
