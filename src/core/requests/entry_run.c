// SPDX-License-Identifier: GPL-2.0-only
/*
 * Entries under way: from when they are started until they have ended.
 */
#include "entry.h"

/* Entries that are looked at before others get the lock. */
#define AT_ONCE		32

static struct pciedma_entry *of_waiter(struct pciedma_waiter *waiter)
{
	return container_of(waiter, struct pciedma_entry, waiter);
}

/* It ends without having been at work; somebody without locks is to see that. Engine lock held. */
static void entry_refuse(struct pciedma_entry *entry, int error)
{
	struct pciedma_lane *lane = entry->lane;

	entry->state = PCIEDMA_ENTRY_IDLE;
	entry->error = error;
	if (!entry->quiet)
		pciedma_lane_unsure(lane);
	if (!entry->alone)
		WRITE_ONCE(entry->first->call.failed, true);
	if (error == -ETIMEDOUT)
		lane->engine.stats[entry->direction].timeouts++;
	list_add_tail(&entry->node, &lane->ended);
	mod_delayed_work(pciedma_workqueue, &lane->watch, 0);
}

/*
 * Nanoseconds that an entry that has not begun may still wait: progress of its call is progress.
 * Engine lock held.
 */
static s64 entry_left(const struct pciedma_entry *entry, ktime_t now)
{
	struct pciedma_lane *lane = entry->lane;
	const struct pciedma_transfer *oldest;
	s64 left;

	left = ktime_to_ns(ktime_sub(READ_ONCE(entry->first->call.progress), now)) + entry->timeout;
	oldest = list_first_entry_or_null(&lane->queue.list, struct pciedma_transfer, node);
	if (oldest && oldest->taken && oldest->group == entry->first)
		left = max(left, pciedma_engine_patience_ns(&lane->engine, entry->timeout));
	return left;
}

static s64 entry_op_left(const struct pciedma_op *op, ktime_t now)
{
	return entry_left(op->owner, now);
}

/* The only transfer of its op has finished; engine lock held. */
static void entry_op_ended(struct pciedma_op *op)
{
	struct pciedma_entry *entry = op->owner;
	struct pciedma_transfer *transfer;

	transfer = list_first_entry(&op->transfers, struct pciedma_transfer, sibling);
	entry->state = PCIEDMA_ENTRY_IDLE;
	entry->op = NULL;
	entry->bytes = transfer->done;
	entry->error = 0;
	WRITE_ONCE(entry->first->call.progress, entry->lane->engine.busy_since);
	if (transfer->done == transfer->length)
		return;
	entry->error = op->error ?: transfer->error ?: -EIO;
	if (!entry->alone)
		WRITE_ONCE(entry->first->call.failed, true);
}

static bool entry_has_begun(const struct pciedma_entry *entry)
{
	return pciedma_entry_transfer(entry)->taken;
}

/* One of a call was not whole: what has not begun of the others does not. */
static void entry_drop(struct pciedma_entry *entry, const struct pciedma_entry *first)
{
	struct pciedma_lane *lane = entry->lane;

	guard(spinlock_irqsave)(&lane->engine.lock);
	if (entry->first != first)
		return;
	if (entry->state == PCIEDMA_ENTRY_WAITING)
		pciedma_waiter_refuse(&lane->queue, &entry->waiter, -ECANCELED);
	else if (entry->state == PCIEDMA_ENTRY_AT_WORK && !entry_has_begun(entry))
		pciedma_op_stop(entry->op, -ECANCELED);
}

static void call_drop(const struct pciedma_entry *first)
{
	struct pciedma_entries *set = first->set;
	struct pciedma_entry *entry;

	for (entry = set->entry; entry < set->entry + PCIEDMA_ENTRIES; entry++)
		if (smp_load_acquire(&entry->state) != PCIEDMA_ENTRY_IDLE && /* it has a lane */
		    entry->first == first)
			entry_drop(entry, first);
}

/* No lock held. */
static void entry_end(struct pciedma_entry *entry)
{
	if (entry->error && !entry->alone && READ_ONCE(entry->first->call.left) > 1 &&
	    !xchg(&entry->first->call.dropped, true))
		call_drop(entry->first);
	pciedma_entry_end(entry);
}

static void entry_op_complete(struct pciedma_lane *lane, void *owner, ssize_t result)
{
	entry_end(owner);
}

static const struct pciedma_op_ops entry_op_ops = {
	.left		= entry_op_left,
	.ended		= entry_op_ended,
	.complete	= entry_op_complete,
};

/* It has a transfer: let the engine have it. Then the engine is to be kicked. Engine lock held. */
static void entry_begin(struct pciedma_entry *entry)
{
	struct pciedma_lane *lane = entry->lane;
	struct pciedma_transfer *transfer = entry->waiter.transfer;
	struct pciedma_op *op = pciedma_op_at(lane, transfer);

	transfer->direction = entry->direction;
	transfer->address = entry->address;
	pciedma_transfer_take(transfer, entry->buffer, entry->offset, entry->length);
	entry->buffer = NULL;
	op->ops = &entry_op_ops;
	op->owner = entry;
	op->file = entry->set->file;
	op->files = entry->files;
	op->timeout = entry->timeout;
	pciedma_op_add(op, transfer);
	transfer->group = entry->first;
	transfer->alone = entry->alone;
	transfer->polled = entry->polled;
	entry->op = op;
	entry->state = PCIEDMA_ENTRY_AT_WORK;
	pciedma_op_queue(op, entry->deadline.expires, entry->quiet);
}

/* Engine lock held. */
static void entry_granted(struct pciedma_waiter *waiter)
{
	struct pciedma_entry *entry = of_waiter(waiter);
	struct pciedma_lane *lane = entry->lane;

	timerqueue_del(&lane->waiting, &entry->deadline);
	if (waiter->error) {
		entry_refuse(entry, waiter->error);
		return;
	}
	entry_begin(entry);
	if (READ_ONCE(entry->first->call.failed))
		pciedma_op_stop(entry->op, -ECANCELED);
	else
		pciedma_op_granted(entry->op);
}

/* Engine lock held. */
static void entry_start(struct pciedma_entry *entry)
{
	struct pciedma_lane *lane = entry->lane;
	struct pciedma_engine *engine = &lane->engine;

	if (engine->state == PCIEDMA_ENGINE_BROKEN) {
		entry_refuse(entry, engine->broken_error);
		return;
	}
	if (entry->error || READ_ONCE(entry->first->call.failed)) {
		entry_refuse(entry, entry->error ?: -ECANCELED);
		return;
	}
	entry->waiter.size = PCIEDMA_TRANSFER_SMALL;
	entry->waiter.file = entry->set->file;
	entry->waiter.grant = entry_granted;
	if (pciedma_transfer_ask(&lane->queue, &entry->waiter)) {
		entry_begin(entry);
		return;
	}
	entry->state = PCIEDMA_ENTRY_WAITING;
	timerqueue_add(&lane->waiting, &entry->deadline);
	pciedma_work_within(&lane->watch, entry->timeout);
}

/*
 * Start some of those that go to a lane, in order. Returns where the first is that was not looked
 * at, or NULL; what goes elsewhere is chained to *@others.
 */
static struct pciedma_entry *lane_start_some(struct pciedma_lane *lane, struct pciedma_entry *entry,
					     struct pciedma_entry ***others)
{
	struct pciedma_entry *next;
	unsigned int count = 0;

	guard(spinlock_irqsave)(&lane->engine.lock);
	for (; entry && count < AT_ONCE; entry = next) {
		next = entry->then;
		if (entry->lane != lane) {
			**others = entry;
			*others = &entry->then;
			continue;
		}
		entry_start(entry);
		count++;
	}
	if (!entry)
		pciedma_engine_kick(&lane->engine);
	return entry;
}

/**
 * pciedma_entries_start() - start entries
 * @entry: the first of those of one or of both directions, in order; or NULL
 *
 * The engines are told of all of them at once.
 *
 * Context: any; no lock held.
 */
void pciedma_entries_start(struct pciedma_entry *entry)
{
	struct pciedma_entry *rest;
	struct pciedma_entry **others;
	struct pciedma_lane *lane;

	for (; entry; entry = rest) {
		lane = entry->lane;
		rest = NULL;
		others = &rest;
		while (entry)
			entry = lane_start_some(lane, entry, &others);
		*others = NULL;
	}
}

/**
 * pciedma_entry_stop() - end an entry early
 * @entry: of a set that lives
 * @files: the process whose it must be; NULL: of any
 * @error: why
 *
 * If it has begun, what the hardware has of it may end within the drain bound.
 *
 * Context: process.
 */
void pciedma_entry_stop(struct pciedma_entry *entry, const void *files, int error)
{
	struct pciedma_lane *lane = READ_ONCE(entry->lane);

	guard(spinlock_irqsave)(&lane->engine.lock);
	/* It may have ended, and be another call's by now, in the other direction. */
	if (smp_load_acquire(&entry->state) == PCIEDMA_ENTRY_IDLE ||
	    READ_ONCE(entry->lane) != lane || (files && entry->files != files))
		return;
	switch (entry->state) {
	case PCIEDMA_ENTRY_STARTING:
		entry->error = entry->error ?: error; /* it does not begin */
		break;
	case PCIEDMA_ENTRY_WAITING:
		pciedma_waiter_refuse(&lane->queue, &entry->waiter, error);
		break;
	case PCIEDMA_ENTRY_AT_WORK:
		pciedma_op_stop(entry->op, error);
		break;
	default:
		break;
	}
}

/**
 * pciedma_entries_stop() - end entries early
 * @set:   an open file's
 * @files: the process whose they are; NULL: of all processes
 * @error: why
 *
 * Context: process.
 */
void pciedma_entries_stop(struct pciedma_entries *set, const void *files, int error)
{
	struct pciedma_entry *entry;

	pciedma_held_stop(set, NULL, files, error);
	for (entry = set->entry; entry < set->entry + PCIEDMA_ENTRIES; entry++)
		if (smp_load_acquire(&entry->state) != PCIEDMA_ENTRY_IDLE) /* it has a lane */
			pciedma_entry_stop(entry, files, error);
}

/* Its call has got on meanwhile. Engine lock held. */
static void entry_put_off(struct pciedma_entry *entry, ktime_t deadline)
{
	struct pciedma_lane *lane = entry->lane;

	timerqueue_del(&lane->waiting, &entry->deadline);
	entry->deadline.expires = deadline;
	timerqueue_add(&lane->waiting, &entry->deadline);
}

/* Returns whether there may be more. */
static bool lane_expire_some(struct pciedma_lane *lane)
{
	ktime_t now = ktime_get();
	unsigned int count = 0;
	struct timerqueue_node *next;
	struct pciedma_entry *entry;
	s64 left;

	guard(spinlock_irqsave)(&lane->engine.lock);
	while ((next = timerqueue_getnext(&lane->waiting)) && count++ < AT_ONCE) {
		if (ktime_before(now, next->expires)) {
			pciedma_work_within(&lane->watch,
					    ktime_to_ns(ktime_sub(next->expires, now)));
			return false;
		}
		entry = container_of(next, struct pciedma_entry, deadline);
		left = entry_left(entry, now);
		if (left > 0) {
			entry_put_off(entry, ktime_add_ns(now, left));
			continue;
		}
		pciedma_waiter_refuse(&lane->queue, &entry->waiter, -ETIMEDOUT);
	}
	return count > AT_ONCE;
}

/**
 * pciedma_entries_expire() - end entries that have waited too long for a transfer
 * @lane: where they wait
 *
 * Context: process.
 */
void pciedma_entries_expire(struct pciedma_lane *lane)
{
	while (lane_expire_some(lane))
		;
}

static struct pciedma_entry *lane_take_ended(struct pciedma_lane *lane)
{
	struct pciedma_entry *entry;

	guard(spinlock_irqsave)(&lane->engine.lock);
	entry = list_first_entry_or_null(&lane->ended, struct pciedma_entry, node);
	if (entry)
		list_del_init(&entry->node);
	return entry;
}

/**
 * pciedma_entries_ended() - see to those that have ended without having been at work
 * @lane: where they waited
 *
 * Context: process; no lock held.
 */
void pciedma_entries_ended(struct pciedma_lane *lane)
{
	struct pciedma_entry *entry;

	while ((entry = lane_take_ended(lane))) {
		if (entry->buffer)
			pciedma_mem_put(&entry->buffer->mem, true);
		entry->buffer = NULL;
		entry_end(entry);
	}
}
