// SPDX-License-Identifier: GPL-2.0-only
/*
 * Requests that nobody waits for in a call, from when the engine gets them until they are
 * completed, from where their end is seen.
 */
#include "lane.h"
#include "op.h"

/* Completed before the engine is told of what gets a transfer by that. */
#define COMPLETED_AT_ONCE	32

/**
 * pciedma_op_release() - give an op's transfers back
 * @op:        it is not at work
 * @may_sleep: the caller may; otherwise its pages are still marked as changed
 *
 * Last the first, at whose place the op itself is.
 *
 * Context: any.
 */
void pciedma_op_release(struct pciedma_op *op, bool may_sleep)
{
	struct pciedma_transfer *transfer, *before;

	list_for_each_entry_safe_reverse(transfer, before, &op->transfers, sibling)
		pciedma_transfer_release(transfer, may_sleep);
}

/**
 * pciedma_op_less() - one of an op's transfers has finished, or was taken back
 * @op: it has ended when all have
 *
 * Context: engine lock held.
 */
void pciedma_op_less(struct pciedma_op *op)
{
	if (--op->pending)
		return;
	op->lane->at_work--;
	list_move_tail(&op->node, &op->lane->done);
}

/* Under the engine's lock. */
static void op_finished(struct pciedma_transfer *transfer)
{
	struct pciedma_op *op = transfer->owner;

	if (!transfer->taken && !transfer->quiet)
		pciedma_lane_unsure(op->lane);
	if (op->pending > 1)
		op->deadline = ktime_add_ns(ktime_get(), op->timeout);
	pciedma_op_less(op);
}

static const struct pciedma_transfer_ops op_transfer_ops = {
	.finished = op_finished,
};

/**
 * pciedma_op_at() - the op whose first transfer is a given one
 * @lane:  its lane
 * @first: the transfer, owned by the caller
 *
 * Context: any.
 * Return: the op, without transfers; for whom it is, its file, files and timeout are to be set.
 */
struct pciedma_op *pciedma_op_at(struct pciedma_lane *lane, struct pciedma_transfer *first)
{
	struct pciedma_op *op = &lane->op[first - lane->queue.transfers];

	op->lane = lane;
	INIT_LIST_HEAD(&op->node);
	INIT_LIST_HEAD(&op->transfers);
	return op;
}

/**
 * pciedma_op_add() - let an op have one more transfer
 * @op:       it is not handed in
 * @transfer: owned by the caller; its memory, address and length set
 *
 * Context: process.
 */
void pciedma_op_add(struct pciedma_op *op, struct pciedma_transfer *transfer)
{
	transfer->ops = &op_transfer_ops;
	transfer->owner = op;
	transfer->group = op;
	transfer->alone = false;
	transfer->file = NULL;
	transfer->polled = false;
	list_add_tail(&transfer->sibling, &op->transfers);
}

/* One more is at work: look after it before its time is over. Engine lock held. */
static void lane_begins(struct pciedma_lane *lane, const struct pciedma_op *op)
{
	if (!lane->at_work++ || ktime_before(op->deadline, lane->sweep))
		lane->sweep = op->deadline;
	pciedma_work_within(&lane->watch, min(op->timeout,
					      pciedma_engine_drain_bound_ns(&lane->engine)));
}

/**
 * pciedma_op_queue() - put an op at the end of the queue
 * @op:       with all of its transfers
 * @deadline: when its time without progress is over
 * @quiet:    its end need not be told of: another follows, whose end is
 *
 * Then pciedma_engine_kick() must be called.
 *
 * Context: engine lock held; the engine is not broken.
 */
void pciedma_op_queue(struct pciedma_op *op, ktime_t deadline, bool quiet)
{
	struct pciedma_lane *lane = op->lane;
	struct pciedma_transfer *transfer;

	lockdep_assert_held(&lane->engine.lock);
	op->error = 0;
	op->deadline = deadline;
	lane_begins(lane, op);
	list_for_each_entry(transfer, &op->transfers, sibling) {
		op->pending++;
		/* Whose door is waited for is told of. */
		transfer->quiet = quiet ||
				  (!transfer->copies &&
				   !list_is_last(&transfer->sibling, &op->transfers));
		pciedma_queue_add(&lane->queue, transfer);
	}
}

/**
 * pciedma_op_hand_in() - let the engine have an op, all at once
 * @op: with all of its transfers
 *
 * Context: engine lock held; the engine is not broken.
 */
void pciedma_op_hand_in(struct pciedma_op *op)
{
	pciedma_op_queue(op, ktime_add_ns(ktime_get(), op->timeout), false);
	pciedma_engine_kick(&op->lane->engine);
}

/* What is known to have arrived, up to the first transfer that is not whole. */
static ssize_t op_result(struct pciedma_op *op)
{
	struct pciedma_transfer *transfer;
	ssize_t done = 0;

	list_for_each_entry(transfer, &op->transfers, sibling) {
		pciedma_door_out(transfer);
		pciedma_transfer_for_cpu(transfer);
		done += transfer->done;
		if (transfer->done < transfer->length)
			return done ?: op->error ?: transfer->error ?: -EIO;
	}
	return done;
}

/* Whether that sleeps, or takes long. */
static bool op_ends_slowly(struct pciedma_op *op)
{
	struct pciedma_transfer *transfer;

	list_for_each_entry(transfer, &op->transfers, sibling)
		if (!pciedma_user_mem_still_dirty(&transfer->user) ||
		    pciedma_transfer_syncs(transfer))
			return true;
	return false;
}

static void op_end(struct pciedma_lane *lane, struct pciedma_op *op, bool may_sleep)
{
	const struct pciedma_op_ops *ops = op->ops;
	void *owner = op->owner;
	ssize_t ret = op_result(op);

	pciedma_op_release(op, may_sleep);
	ops->complete(lane, owner, ret);
}

static struct pciedma_op *lane_take(struct pciedma_lane *lane, struct list_head *list)
{
	struct pciedma_op *op;

	if (list_empty_careful(list)) /* who adds to it looks after that */
		return NULL;
	guard(spinlock_irqsave)(&lane->engine.lock);
	op = list_first_entry_or_null(list, struct pciedma_op, node);
	if (!op)
		return NULL;
	list_del_init(&op->node);
	op->ops->ended(op);
	return op;
}

static void lane_defer(struct pciedma_lane *lane, struct pciedma_op *op)
{
	guard(spinlock_irqsave)(&lane->engine.lock);
	list_add_tail(&op->node, &lane->deferred);
	mod_delayed_work(pciedma_workqueue, &lane->watch, 0);
}

/* Returns whether somebody may get a transfer by what is completed now. */
static bool lane_hold_news(struct pciedma_lane *lane)
{
	/* Of who asks after this the engine is told at once. */
	if (list_empty_careful(&lane->queue.waiters))
		return false;
	guard(spinlock_irqsave)(&lane->engine.lock);
	lane->completer = current;
	return true;
}

static void lane_tell(struct pciedma_lane *lane)
{
	guard(spinlock_irqsave)(&lane->engine.lock);
	lane->completer = NULL;
	if (lane->unkicked)
		pciedma_engine_kick(&lane->engine);
	lane->unkicked = false;
}

static void lane_complete_some(struct pciedma_lane *lane)
{
	bool held = lane_hold_news(lane);
	unsigned int count;
	struct pciedma_op *op;

	for (count = 0; count < COMPLETED_AT_ONCE; count++) {
		op = lane_take(lane, &lane->done);
		if (!op)
			break;
		if (op_ends_slowly(op))
			lane_defer(lane, op);
		else
			op_end(lane, op, false);
	}
	if (held)
		lane_tell(lane);
}

/**
 * pciedma_ops_complete() - complete the ops that have ended
 * @lane: their lane
 *
 * Context: any; no lock held.
 */
void pciedma_ops_complete(struct pciedma_lane *lane)
{
	while (!list_empty_careful(&lane->done))
		lane_complete_some(lane);
}

/**
 * pciedma_op_granted() - an op was queued that had waited for a transfer: tell the engine
 * @op: the op
 *
 * An engine that is at work is told of several at once.
 *
 * Context: engine lock held.
 */
void pciedma_op_granted(struct pciedma_op *op)
{
	struct pciedma_lane *lane = op->lane;

	lockdep_assert_held(&lane->engine.lock);
	if (lane->completer == current && pciedma_engine_inflight(&lane->engine))
		lane->unkicked = true;
	else
		pciedma_engine_kick(&lane->engine);
}

/**
 * pciedma_ops_complete_deferred() - complete those whose completion sleeps
 * @lane: their lane
 *
 * Context: process; no lock held.
 */
void pciedma_ops_complete_deferred(struct pciedma_lane *lane)
{
	struct pciedma_op *op;

	while ((op = lane_take(lane, &lane->deferred)))
		op_end(lane, op, true);
}
