// SPDX-License-Identifier: GPL-2.0-only
/*
 * An engine's queue: handing transfers to the hardware, and taking what it has
 * finished.
 */
#include "core.h"
#include "trace.h"

static const struct pciedma_card_ops *engine_ops(struct pciedma_engine *engine)
{
	return pciedma_ops(engine->channel->card);
}

/**
 * pciedma_engine_inflight() - segments that the hardware has
 * @engine: the engine
 *
 * Context: engine lock held, or a hint only.
 * Return: their number.
 */
unsigned int pciedma_engine_inflight(const struct pciedma_engine *engine)
{
	return READ_ONCE(engine->flight_head) - READ_ONCE(engine->flight_tail);
}

/**
 * pciedma_engine_flights() - the size of the ring of segments that the hardware has
 * @engine: the engine
 *
 * A power of two, so that it goes on when the segments' numbers wrap.
 *
 * Return: at least as many as there can be.
 */
unsigned int pciedma_engine_flights(const struct pciedma_engine *engine)
{
	return roundup_pow_of_two(engine->desc->segments);
}

/**
 * pciedma_engine_ready() - whether a request would start at once, behind no other
 * @engine: the engine
 *
 * Context: engine lock held.
 * Return: true if so.
 */
bool pciedma_engine_ready(struct pciedma_engine *engine)
{
	return engine->state == PCIEDMA_ENGINE_RUN && !engine->failed &&
	       !pciedma_engine_postpones(engine) && list_empty(&engine->waiters) &&
	       engine->free_count == engine->desc->buffers;
}

/* The hardware has, or must not have, all of the transfer: read on behind it. */
static void cursor_pass(struct pciedma_engine *engine, struct pciedma_transfer *transfer)
{
	if (engine->cursor.transfer == transfer)
		engine->cursor.transfer = list_is_last(&transfer->node, &engine->queue) ?
			NULL : list_next_entry(transfer, node);
}

/* The owner of the oldest transfer may poll now, if it sleeps until then. */
static void engine_pass_turn(struct pciedma_engine *engine)
{
	struct pciedma_transfer *oldest;

	oldest = list_first_entry_or_null(&engine->queue, struct pciedma_transfer, node);
	if (!oldest || !oldest->waits_turn)
		return;
	oldest->waits_turn = false;
	complete(&oldest->finished);
}

static void engine_remove(struct pciedma_engine *engine, struct pciedma_transfer *transfer)
{
	lockdep_assert_held(&engine->lock);
	cursor_pass(engine, transfer);
	list_del(&transfer->node);
	if (!transfer->polled)
		engine->sleepers--;
	transfer->state = PCIEDMA_TRANSFER_OWNED;
	engine_pass_turn(engine);
}

/* An asynchronous request has ended when all of its transfers have. */
static void async_less(struct pciedma_engine *engine, struct pciedma_async *async)
{
	if (!--async->pending)
		list_move_tail(&async->node, &engine->done);
}

/* Take back what the hardware has not begun of the transfers from one on. */
static void async_cut(struct pciedma_engine *engine, struct pciedma_async *async,
		      struct pciedma_transfer *transfer)
{
	list_for_each_entry_from(transfer, &async->transfers, sibling) {
		if (transfer->state != PCIEDMA_TRANSFER_QUEUED || transfer->taken)
			continue;
		engine_remove(engine, transfer);
		async_less(engine, async);
	}
}

static void async_transfer_finished(struct pciedma_engine *engine,
				    struct pciedma_transfer *transfer)
{
	struct pciedma_async *async = &transfer->leader->async;

	async->deadline = ktime_add_ns(ktime_get(), async->timeout);
	if (transfer->done < transfer->length)
		async_cut(engine, async, transfer);
	async_less(engine, async);
}

static void engine_finish(struct pciedma_engine *engine, struct pciedma_transfer *transfer)
{
	struct pciedma_stats *stats = &engine->stats[transfer->direction];

	engine_remove(engine, transfer);
	if (transfer->error)
		stats->errors++;
	else
		stats->transfers++;
	if (unlikely(engine->ailing) && !transfer->error)
		pciedma_engine_recovered(engine);
	stats->bytes += transfer->done;
	stats->copied += transfer->direct ? 0 : transfer->done;
	trace_pciedma_complete(engine, transfer);
	if (transfer->leader)
		async_transfer_finished(engine, transfer);
	else
		complete(&transfer->finished);
}

static void transfer_rewind(struct pciedma_transfer *transfer, u32 taken)
{
	transfer->taken = taken;
	transfer->sg = transfer->table.sgl;
	while (taken && taken >= sg_dma_len(transfer->sg)) {
		taken -= sg_dma_len(transfer->sg);
		transfer->sg = sg_next(transfer->sg);
	}
	transfer->sg_taken = taken;
}

/* The next piece of a transfer that is contiguous for the engine. */
static void transfer_take(struct pciedma_engine *engine, struct pciedma_transfer *transfer,
			  struct pciedma_segment *segment)
{
	u32 left = sg_dma_len(transfer->sg) - transfer->sg_taken;

	segment->dma = sg_dma_address(transfer->sg) + transfer->sg_taken;
	segment->address = transfer->address + transfer->taken;
	segment->length = min3(left, engine->desc->max_segment, engine->rate.chunk);
	segment->direction = transfer->direction;
	transfer->taken += segment->length;
	transfer->sg_taken += segment->length;
	segment->notify = transfer->taken == transfer->length;
	if (segment->length == left) {
		transfer->sg = sg_next(transfer->sg);
		transfer->sg_taken = 0;
	}
}

static bool engine_full(const struct pciedma_engine *engine)
{
	return pciedma_engine_inflight(engine) == engine->desc->segments ||
	       pciedma_rate_full(&engine->rate);
}

static struct pciedma_flight *engine_flight(struct pciedma_engine *engine, u32 number)
{
	return &engine->flights[number & (pciedma_engine_flights(engine) - 1)];
}

/**
 * pciedma_engine_oldest_length() - how long the segment is that an engine works on
 * @engine: the engine, which has one
 *
 * Context: engine lock held.
 * Return: bytes.
 */
u32 pciedma_engine_oldest_length(struct pciedma_engine *engine)
{
	return engine_flight(engine, engine->flight_tail)->length;
}

/**
 * pciedma_cursor_next() - the next segment for the hardware
 * @cursor:  handed to start
 * @segment: where to put it
 *
 * The segment counts as being with the hardware from now on, until
 * pciedma_segment_done() is called for it.
 *
 * Context: inside start.
 * Return: false if there is none, or the engine holds as many as it can.
 */
bool pciedma_cursor_next(struct pciedma_cursor *cursor, struct pciedma_segment *segment)
{
	struct pciedma_engine *engine = container_of(cursor, struct pciedma_engine, cursor);
	struct pciedma_transfer *transfer = cursor->transfer;
	struct pciedma_flight *flight;

	lockdep_assert_held(&engine->lock);
	if (!transfer || engine_full(engine))
		return false;

	if (!pciedma_engine_inflight(engine)) {
		engine->busy_since = ktime_get();
		engine->rate.moved = 0;
	}
	transfer_take(engine, transfer, segment);
	flight = engine_flight(engine, engine->flight_head);
	flight->transfer = transfer;
	flight->length = segment->length;
	WRITE_ONCE(engine->flight_head, engine->flight_head + 1);
	if (transfer->taken == segment->length)
		trace_pciedma_start(engine, transfer);
	transfer->inflight++;
	segment->notify = pciedma_rate_start(&engine->rate, segment->length, segment->notify);
	if (transfer->taken == transfer->length)
		cursor_pass(engine, transfer);
	return true;
}
EXPORT_SYMBOL_GPL(pciedma_cursor_next);

static struct pciedma_flight *engine_take_flight(struct pciedma_engine *engine)
{
	struct pciedma_flight *flight;

	flight = engine_flight(engine, engine->flight_tail);
	WRITE_ONCE(engine->flight_tail, engine->flight_tail + 1);
	flight->transfer->inflight--;
	engine->rate.inflight -= flight->length;
	return flight;
}

/**
 * pciedma_segment_done() - the oldest segment with the hardware has ended
 * @engine: its engine
 * @bytes:  bytes that arrived: fewer than its length end the transfer
 * @error:  0 or a negative errno
 *
 * The segment must have been acknowledged to the card, so that the next may
 * start.
 *
 * Context: inside reap.
 */
void pciedma_segment_done(struct pciedma_engine *engine, u32 bytes, int error)
{
	struct pciedma_flight *flight;
	struct pciedma_transfer *transfer;

	lockdep_assert_held(&engine->lock);
	if (WARN_ON_ONCE(!pciedma_engine_inflight(engine)))
		return;

	flight = engine_take_flight(engine);
	transfer = flight->transfer;
	transfer->done += min(bytes, flight->length);
	engine->rate.moved += min(bytes, flight->length);
	if (error && !transfer->error) /* else it was to end: that is its caller's reason */
		transfer->error = error;
	if (error || bytes < flight->length) {
		transfer->ended = true;
		cursor_pass(engine, transfer);
	}
	if (transfer->inflight || (!transfer->ended && transfer->taken < transfer->length))
		return;
	if (transfer->done == transfer->length)
		transfer->error = 0;
	engine_finish(engine, transfer);
}
EXPORT_SYMBOL_GPL(pciedma_segment_done);

static void engine_recover(struct pciedma_engine *engine, int error)
{
	struct pciedma_card *card = engine->channel->card;

	lockdep_assert_held(&engine->lock);
	if (!engine->trouble)
		engine->trouble = error;
	if (!READ_ONCE(card->removed))
		queue_work(pciedma_workqueue, &card->recovery);
}

/**
 * pciedma_engine_fail() - the card reports an error: the engine gets no further by itself
 * @engine: the engine
 * @error:  a negative errno for its request
 *
 * Starts recovery: what the engine has is ended there.
 *
 * Context: any; engine lock held.
 */
void pciedma_engine_fail(struct pciedma_engine *engine, int error)
{
	engine->failed = true;
	engine_recover(engine, error);
}
EXPORT_SYMBOL_GPL(pciedma_engine_fail);

/*
 * What is with the hardware may end before a write that is on its way switches
 * its interrupt on: so that arrives before whoever goes to sleep looks again.
 */
static void engine_switch_irq(struct pciedma_engine *engine, bool on)
{
	engine->irq_on = on;
	engine_ops(engine)->irq(engine, on);
	if (on && pciedma_engine_inflight(engine))
		engine_ops(engine)->idle(engine);
}

/**
 * pciedma_engine_kick() - give the hardware what it can hold
 * @engine: the engine
 *
 * Context: engine lock held.
 */
void pciedma_engine_kick(struct pciedma_engine *engine)
{
	u32 head;

	while (engine->state == PCIEDMA_ENGINE_RUN && !engine->failed && engine->cursor.transfer &&
	       !engine_full(engine)) {
		if (engine->irq_on != !!engine->sleepers)
			engine_switch_irq(engine, !engine->irq_on);
		head = engine->flight_head;
		engine_ops(engine)->start(engine, &engine->cursor);
		if (head == engine->flight_head)
			break;
	}
}

static void engine_queue(struct pciedma_engine *engine, struct pciedma_transfer *transfer)
{
	lockdep_assert_held(&engine->lock);
	transfer->id = engine->next_id++;
	transfer_rewind(transfer, 0);
	transfer->done = 0;
	transfer->error = 0;
	transfer->inflight = 0;
	transfer->ended = false;
	transfer->cancelled = false;
	transfer->waits_turn = false;
	transfer->since = ktime_get();
	transfer->state = PCIEDMA_TRANSFER_QUEUED;
	reinit_completion(&transfer->finished);
	list_add_tail(&transfer->node, &engine->queue);
	if (!transfer->polled)
		engine->sleepers++;
	if (!engine->cursor.transfer)
		engine->cursor.transfer = transfer;
	trace_pciedma_submit(engine, transfer);
}

/**
 * pciedma_engine_submit() - hand a transfer to the engine
 * @engine: the engine
 * @transfer: owned by the caller; its memory, address and length set
 *
 * Context: process.
 * Return: 0, or the engine's errno while it is broken; then the caller keeps
 * the transfer.
 */
int pciedma_engine_submit(struct pciedma_engine *engine, struct pciedma_transfer *transfer)
{
	guard(spinlock_irqsave)(&engine->lock);
	if (engine->state == PCIEDMA_ENGINE_BROKEN)
		return engine->broken_error;
	engine_queue(engine, transfer);
	pciedma_engine_kick(engine);
	return 0;
}

/**
 * pciedma_engine_submit_async() - hand in all transfers of an asynchronous request
 * @request: the request
 * @async:   the same, in its first transfer
 *
 * It may be over before this returns.
 *
 * Context: process.
 * Return: 0; the engine's errno while it is broken, or -ECANCELED: then the
 * caller keeps the transfers.
 */
int pciedma_engine_submit_async(const struct pciedma_request *request,
				struct pciedma_async *async)
{
	struct pciedma_engine *engine = request->engine;
	struct pciedma_transfer *transfer;

	guard(spinlock_irqsave)(&engine->lock);
	if (engine->state == PCIEDMA_ENGINE_BROKEN)
		return engine->broken_error;
	if (pciedma_async_cancelled(request, async->iocb))
		return -ECANCELED;
	pciedma_async_watch_by(engine, async->timeout);
	async->iocb->private = NULL; /* it may have been postponed */
	list_add_tail(&async->node, &engine->asyncs);
	list_for_each_entry(transfer, &async->transfers, sibling) {
		async->pending++;
		engine_queue(engine, transfer);
	}
	pciedma_engine_kick(engine);
	return 0;
}

/**
 * pciedma_engine_cancel() - take a transfer back that the hardware has not begun
 * @engine: the engine
 * @transfer: submitted by the caller
 *
 * Context: process.
 * Return: false if it has begun or ended.
 */
bool pciedma_engine_cancel(struct pciedma_engine *engine, struct pciedma_transfer *transfer)
{
	guard(spinlock_irqsave)(&engine->lock);
	if (transfer->state != PCIEDMA_TRANSFER_QUEUED || transfer->taken)
		return false;
	engine_remove(engine, transfer);
	return true;
}

/**
 * pciedma_engine_arm() - the owner of a polled transfer goes to sleep
 * @engine: the engine; its interrupt can be switched at any time
 * @transfer: submitted by the caller
 *
 * The caller looks once more before it sleeps: what ended before this made no
 * interrupt.
 *
 * Context: process.
 */
void pciedma_engine_arm(struct pciedma_engine *engine, struct pciedma_transfer *transfer)
{
	guard(spinlock_irqsave)(&engine->lock);
	if (transfer->state != PCIEDMA_TRANSFER_QUEUED || !transfer->polled)
		return;
	transfer->polled = false;
	engine->sleepers++;
	if (engine->irq_on || engine->state != PCIEDMA_ENGINE_RUN)
		return;
	engine_switch_irq(engine, true);
}

/**
 * pciedma_engine_is_oldest() - whether no transfer is before one
 * @engine:   the engine
 * @transfer: submitted by the caller
 *
 * Context: process.
 * Return: true if so, or if it has finished.
 */
bool pciedma_engine_is_oldest(struct pciedma_engine *engine, struct pciedma_transfer *transfer)
{
	guard(spinlock_irqsave)(&engine->lock);
	return transfer->state != PCIEDMA_TRANSFER_QUEUED ||
	       list_is_first(&transfer->node, &engine->queue);
}

/**
 * pciedma_engine_turn() - whether it is a transfer's turn to be polled for
 * @engine:   the engine
 * @transfer: submitted by the caller
 *
 * If not, its completion is signalled when it is, as well as when it finishes.
 *
 * Context: process.
 * Return: 1 if it is, or if the transfer has finished; -ECANCELED; else 0.
 */
int pciedma_engine_turn(struct pciedma_engine *engine, struct pciedma_transfer *transfer)
{
	guard(spinlock_irqsave)(&engine->lock);
	if (transfer->cancelled)
		return -ECANCELED;
	if (transfer->state != PCIEDMA_TRANSFER_QUEUED ||
	    list_is_first(&transfer->node, &engine->queue))
		return 1;
	transfer->waits_turn = true;
	return 0;
}

/**
 * pciedma_engine_cancel_file() - let those who wait for transfers give up
 * @engine:    the engine
 * @direction: of those that move data this way
 * @file:      and work for this open file, or postponed request
 *
 * Context: engine lock held.
 */
void pciedma_engine_cancel_file(struct pciedma_engine *engine, enum pciedma_direction direction,
				const void *file)
{
	struct pciedma_transfer *transfer;

	lockdep_assert_held(&engine->lock);
	list_for_each_entry(transfer, &engine->queue, node) {
		if (transfer->leader || transfer->file != file || transfer->direction != direction)
			continue;
		transfer->cancelled = true;
		complete(&transfer->finished);
	}
	pciedma_waiters_refuse(engine, file, -ECANCELED);
}

static void engine_progress(struct pciedma_engine *engine)
{
	ktime_t now = ktime_get();

	pciedma_rate_learn(engine, now);
	engine->rate.moved = 0;
	engine->busy_since = now;
	pciedma_engine_kick(engine);
}

static int engine_reap(struct pciedma_engine *engine)
{
	int ret;

	guard(spinlock_irqsave)(&engine->lock);
	if (engine->state > PCIEDMA_ENGINE_PAUSED || !pciedma_engine_inflight(engine))
		return 0;
	ret = engine_ops(engine)->reap(engine);
	if (ret > 0) {
		engine_progress(engine);
		return ret;
	}
	if (ret < 0 && engine->state == PCIEDMA_ENGINE_RUN)
		pciedma_engine_fail(engine, ret);
	else if (ret < 0)
		engine->unknown = true;
	return 0;
}

/**
 * pciedma_engine_look() - take what the hardware has finished, and go on
 * @engine: the engine
 *
 * Registers are read only if segments are with the hardware.
 *
 * Context: any.
 * Return: number of segments that had ended.
 */
int pciedma_engine_look(struct pciedma_engine *engine)
{
	int ret = engine_reap(engine);

	if (ret)
		pciedma_async_complete(engine);
	return ret;
}

/**
 * pciedma_engine_stray() - nothing had ended: let the card say what it signals
 * @engine: the engine
 *
 * Context: any.
 * Return: whether the card had raised an interrupt for it.
 */
bool pciedma_engine_stray(struct pciedma_engine *engine)
{
	bool ret = false;
	u32 tail;

	scoped_guard(spinlock_irqsave, &engine->lock) {
		if (engine->state > PCIEDMA_ENGINE_PAUSED)
			return false;
		tail = engine->flight_tail;
		if (engine_ops(engine)->stray)
			ret = engine_ops(engine)->stray(engine, pciedma_engine_inflight(engine));
		if (tail != engine->flight_tail)
			engine_progress(engine);
		else
			pciedma_rate_learn(engine, ktime_get());
	}
	pciedma_async_complete(engine);
	return ret;
}

/**
 * pciedma_engine_look_late() - look in place of an interrupt that should have come
 * @engine:    the engine
 * @direction: of what is waited for
 *
 * Context: process.
 */
void pciedma_engine_look_late(struct pciedma_engine *engine, enum pciedma_direction direction)
{
	int found = pciedma_engine_look(engine);

	if (!found) {
		pciedma_engine_stray(engine);
		return;
	}
	guard(spinlock_irqsave)(&engine->lock);
	engine->stats[direction].looks += found;
}

/**
 * pciedma_engine_abort() - ask recovery to end a transfer that the hardware has
 * @engine: the engine
 * @transfer: submitted by the caller
 * @error:  errno for its request
 *
 * The caller then waits until it is not queued: the ladder always ends.
 *
 * Context: process.
 */
void pciedma_engine_abort(struct pciedma_engine *engine, struct pciedma_transfer *transfer,
			  int error)
{
	guard(spinlock_irqsave)(&engine->lock);
	if (transfer->state != PCIEDMA_TRANSFER_QUEUED)
		return;
	transfer->error = error;
	if (transfer->taken)
		engine_recover(engine, error);
	else
		engine_remove(engine, transfer); /* the ladder has taken it back meanwhile */
}

/**
 * pciedma_engine_drain_bound_ns() - how long what has begun may go on without progress
 * @engine: the engine
 *
 * Return: nanoseconds, more than 0.
 */
s64 pciedma_engine_drain_bound_ns(const struct pciedma_engine *engine)
{
	return max(READ_ONCE(engine->drain_ms), 1U) * (s64)NSEC_PER_MSEC;
}

/**
 * pciedma_engine_drain_ns() - how long what has begun may still go on without progress
 * @engine: the engine
 *
 * Context: engine lock held.
 * Return: nanoseconds; 0 or less if it counts as hung.
 */
s64 pciedma_engine_drain_ns(struct pciedma_engine *engine)
{
	return pciedma_engine_drain_bound_ns(engine) -
	       ktime_to_ns(ktime_sub(ktime_get(), engine->busy_since));
}

/**
 * pciedma_engine_patience_ns() - how long a request that has begun may still be without progress
 * @engine:  the engine
 * @timeout: its time-out, nanoseconds
 *
 * What the hardware has may end within the drain bound, whatever the time-out,
 * and progress of what was begun before it is progress.
 *
 * Context: engine lock held.
 * Return: nanoseconds; 0 or less if its time is over.
 */
s64 pciedma_engine_patience_ns(struct pciedma_engine *engine, s64 timeout)
{
	return max(timeout, pciedma_engine_drain_bound_ns(engine)) -
	       ktime_to_ns(ktime_sub(ktime_get(), engine->busy_since));
}

/**
 * pciedma_engine_stop_async() - end an asynchronous request early
 * @engine: the engine
 * @async:  the request, not all of whose transfers have finished
 * @error:  why
 *
 * What has begun may end within the drain bound; then recovery is asked.
 *
 * Context: engine lock held.
 */
void pciedma_engine_stop_async(struct pciedma_engine *engine, struct pciedma_async *async,
			       int error)
{
	struct pciedma_transfer *transfer;

	if (!async->error) {
		async->error = error;
		if (error == -ETIMEDOUT)
			engine->stats[list_first_entry(&async->transfers, struct pciedma_transfer,
						       sibling)->direction].timeouts++;
	}
	async_cut(engine, async,
		  list_first_entry(&async->transfers, struct pciedma_transfer, sibling));
	if (pciedma_engine_drain_ns(engine) > 0)
		return;
	list_for_each_entry(transfer, &async->transfers, sibling) {
		if (transfer->state != PCIEDMA_TRANSFER_QUEUED)
			continue;
		transfer->error = error;
		engine_recover(engine, error);
	}
}

/* Finishing one transfer of an asynchronous request can remove others: always begin anew. */
static struct pciedma_transfer *queue_first(struct pciedma_engine *engine)
{
	return list_first_entry_or_null(&engine->queue, struct pciedma_transfer, node);
}

static bool transfer_ended(const struct pciedma_transfer *transfer)
{
	return transfer->error || transfer->ended;
}

static struct pciedma_transfer *queue_first_ended(struct pciedma_engine *engine)
{
	struct pciedma_transfer *transfer;

	list_for_each_entry(transfer, &engine->queue, node)
		if (transfer_ended(transfer))
			return transfer;
	return NULL;
}

/* A synchronous request goes no further behind a transfer that was not whole. */
static void engine_drop(struct pciedma_engine *engine, const void *owner)
{
	struct pciedma_transfer *transfer, *next;

	list_for_each_entry_safe(transfer, next, &engine->queue, node) {
		if (transfer->leader || transfer->owner != owner || transfer->taken ||
		    transfer_ended(transfer))
			continue;
		engine_remove(engine, transfer);
		complete(&transfer->finished);
	}
}

/**
 * pciedma_engine_finish_inflight() - end what the hardware had begun
 * @engine: paused
 * @error:  errno for requests that have none of their own
 * @proven: the hardware cannot touch their memory any more; otherwise it is
 *          quarantined
 *
 * Context: engine lock held.
 */
void pciedma_engine_finish_inflight(struct pciedma_engine *engine, int error, bool proven)
{
	struct pciedma_transfer *transfer;

	while (pciedma_engine_inflight(engine))
		engine_take_flight(engine);

	while ((transfer = queue_first(engine)) && transfer->taken) {
		if (!transfer->error)
			transfer->error = error;
		if (!proven)
			pciedma_transfer_park(engine, transfer);
		engine_finish(engine, transfer);
		engine_drop(engine, transfer->owner);
	}
}

/**
 * pciedma_engine_rewind() - an engine was halted: what had begun has been reported
 * @engine: paused, its halt scope is PCIEDMA_HALT_ENGINE, and it reads idle
 *
 * Requests that were to end do; the others will be started again from where
 * they are.
 *
 * Context: engine lock held.
 */
void pciedma_engine_rewind(struct pciedma_engine *engine)
{
	struct pciedma_transfer *transfer;

	while (pciedma_engine_inflight(engine))
		engine_take_flight(engine);

	list_for_each_entry(transfer, &engine->queue, node)
		if (!transfer_ended(transfer))
			transfer_rewind(transfer, transfer->done);
	while ((transfer = queue_first_ended(engine))) {
		engine_finish(engine, transfer);
		engine_drop(engine, transfer->owner);
	}
	engine->cursor.transfer = queue_first(engine);
}

/**
 * pciedma_engine_fail_queued() - end what no hardware has begun, and those who wait
 * @engine: broken
 * @error:  their errno
 *
 * Context: engine lock held.
 */
void pciedma_engine_fail_queued(struct pciedma_engine *engine, int error)
{
	struct pciedma_transfer *transfer;

	while ((transfer = queue_first(engine))) {
		transfer->error = error;
		engine_finish(engine, transfer);
	}
	pciedma_waiters_refuse(engine, NULL, error);
	pciedma_postponed_kill(engine);
}
