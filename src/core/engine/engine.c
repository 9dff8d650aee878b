// SPDX-License-Identifier: GPL-2.0-only
/*
 * Handing an engine's segments to the hardware, and taking what it has finished.
 */
#include <linux/dma-mapping.h>
#include <linux/slab.h>

#include "engine.h"

/* The number of the first segment: soon the numbers wrap, where tests see it. */
#define FIRST_FLIGHT	((u32)-3000)

static const struct pciedma_card_ops *engine_ops(struct pciedma_engine *engine)
{
	return pciedma_ops(engine->card);
}

/**
 * pciedma_engine_alloc() - allocate an engine's ring of segments and its back end's memory
 * @engine: the engine
 *
 * Context: process.
 * Return: 0 or -ENOMEM; then pciedma_engine_free() undoes what was done.
 */
int pciedma_engine_alloc(struct pciedma_engine *engine)
{
	/* A power of two, so that the ring goes on when the numbers of segments wrap. */
	u32 flights = roundup_pow_of_two(engine->desc->segments);

	engine->flights = kvcalloc(flights, sizeof(*engine->flights), GFP_KERNEL);
	if (!engine->flights)
		return -ENOMEM;
	engine->flight_mask = flights - 1;
	engine->rate.tell_each = max(engine->desc->segments - engine->desc->segments / 4, 1);
	engine->flight_head = FIRST_FLIGHT;
	engine->flight_tail = FIRST_FLIGHT;
	if (!engine->desc->memory_size)
		return 0;
	engine->memory = dma_alloc_coherent(pciedma_dma_device(engine),
					    engine->desc->memory_size, &engine->memory_dma,
					    GFP_KERNEL);
	return engine->memory ? 0 : -ENOMEM;
}

/**
 * pciedma_engine_free() - free them
 * @engine: nobody uses it any more; what hardware may still use stays for ever
 *
 * Context: process.
 */
void pciedma_engine_free(struct pciedma_engine *engine)
{
	if (engine->memory && !engine->unproven)
		dma_free_coherent(pciedma_dma_device(engine), engine->desc->memory_size,
				  engine->memory, engine->memory_dma);
	engine->memory = NULL;
	kvfree(engine->flights);
	engine->flights = NULL;
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

static bool engine_full(const struct pciedma_engine *engine)
{
	u32 inflight = pciedma_engine_inflight(engine);

	return inflight == engine->desc->segments || engine->rate.inflight >= PCIEDMA_FAST_BYTES ||
	       (pciedma_rate_is_slow(&engine->rate) && pciedma_rate_full(&engine->rate, inflight));
}

static struct pciedma_flight *engine_flight(struct pciedma_engine *engine, u32 number)
{
	return &engine->flights[number & engine->flight_mask];
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
	struct pciedma_source *source = engine->source;
	struct pciedma_flight *flight;
	u32 limit;

	lockdep_assert_held(&engine->lock);
	if (!source->more || engine_full(engine))
		return false;
	flight = engine_flight(engine, engine->flight_head);
	limit = min3(engine->desc->max_segment, engine->rate.chunk, engine->rate.segment);
	if (!source->ops->next(source, limit, segment, &flight->item))
		return false;
	if (!pciedma_engine_inflight(engine)) {
		engine->busy_since = ktime_get();
		engine->rate.moved = 0;
	}
	flight->length = segment->length;
	WRITE_ONCE(engine->flight_head, engine->flight_head + 1);
	engine->rate.inflight += segment->length;
	if (pciedma_rate_is_slow(&engine->rate))
		segment->notify = pciedma_rate_start(&engine->rate, segment->length,
						     segment->notify);
	else
		segment->notify = pciedma_rate_tells(&engine->rate, segment->length,
						     segment->notify);
	return true;
}
EXPORT_SYMBOL_GPL(pciedma_cursor_next);

/**
 * pciedma_segment_done() - the oldest segment with the hardware has ended
 * @engine: its engine
 * @bytes:  bytes that arrived: fewer than its length end the transfer
 * @error:  0 or a negative errno
 *
 * The segment must have been acknowledged to the card, so that the next may
 * start.
 *
 * Context: inside reap or stray.
 */
void pciedma_segment_done(struct pciedma_engine *engine, u32 bytes, int error)
{
	struct pciedma_flight *flight;

	lockdep_assert_held(&engine->lock);
	if (WARN_ON_ONCE(!pciedma_engine_inflight(engine)))
		return;

	flight = engine_flight(engine, engine->flight_tail);
	WRITE_ONCE(engine->flight_tail, engine->flight_tail + 1);
	bytes = min(bytes, flight->length);
	engine->rate.inflight -= flight->length;
	engine->rate.moved += bytes;
	engine->source->ops->done(engine->source, flight->item, 1, flight->length, bytes, error);
}
EXPORT_SYMBOL_GPL(pciedma_segment_done);

/* As many of the oldest segments as belong to one item, at most @count. Returns their number. */
static u32 segments_done_of_item(struct pciedma_engine *engine, u32 count)
{
	u32 tail = engine->flight_tail;
	struct pciedma_flight *flight = engine_flight(engine, tail);
	void *item = flight->item;
	u32 bytes = 0;
	u32 i = 0;

	do {
		bytes += flight->length;
		flight = engine_flight(engine, tail + ++i);
	} while (i < count && flight->item == item);
	WRITE_ONCE(engine->flight_tail, tail + i);
	engine->rate.inflight -= bytes;
	engine->rate.moved += bytes;
	engine->source->ops->done(engine->source, item, i, bytes, bytes, 0);
	return i;
}

/**
 * pciedma_segments_done() - the oldest segments with the hardware have ended, and all is well
 * @engine: their engine
 * @count:  how many; all bytes of each have arrived
 *
 * They must have been acknowledged to the card, so that the next may start.
 *
 * Context: inside reap or stray.
 */
void pciedma_segments_done(struct pciedma_engine *engine, u32 count)
{
	lockdep_assert_held(&engine->lock);
	if (WARN_ON_ONCE(count > pciedma_engine_inflight(engine)))
		count = pciedma_engine_inflight(engine);
	while (count)
		count -= segments_done_of_item(engine, count);
}
EXPORT_SYMBOL_GPL(pciedma_segments_done);

/**
 * pciedma_engine_drop_flights() - the hardware has no segment any more
 * @engine: the engine; its source knows
 *
 * Context: engine lock held.
 */
void pciedma_engine_drop_flights(struct pciedma_engine *engine)
{
	WRITE_ONCE(engine->flight_tail, engine->flight_head);
	engine->rate.inflight = 0;
}

/**
 * pciedma_engine_recover() - ask recovery for help
 * @engine: the engine
 * @error:  errno for its request
 *
 * Context: engine lock held.
 */
void pciedma_engine_recover(struct pciedma_engine *engine, int error)
{
	struct pciedma_card *card = engine->card;

	lockdep_assert_held(&engine->lock);
	if (!engine->trouble)
		engine->trouble = error;
	if (!READ_ONCE(card->removed))
		queue_work(pciedma_workqueue, &card->recovery.work);
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
	pciedma_engine_recover(engine, error);
}
EXPORT_SYMBOL_GPL(pciedma_engine_fail);

/**
 * pciedma_engine_switch_irq() - switch the completion interrupt
 * @engine: the engine
 * @on:     whether it is to come
 *
 * What is with the hardware may end before a write that is on its way switches
 * its interrupt on: so that arrives before whoever goes to sleep looks again.
 *
 * Context: engine lock held.
 */
void pciedma_engine_switch_irq(struct pciedma_engine *engine, bool on)
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

	while (engine->state == PCIEDMA_ENGINE_RUN && !engine->failed && engine->source->more &&
	       !engine_full(engine)) {
		if (engine->irq_on != !!engine->sleepers)
			pciedma_engine_switch_irq(engine, !engine->irq_on);
		head = engine->flight_head;
		engine_ops(engine)->start(engine, &engine->cursor);
		if (head == engine->flight_head)
			break;
	}
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
		engine->source->ops->settled(engine->source, false);
	return ret;
}

/* Let the card say what it signals, and whether it did. Returns how many segments had ended. */
static u32 engine_stray(struct pciedma_engine *engine, bool *raised)
{
	u32 tail, found;

	*raised = false;
	scoped_guard(spinlock_irqsave, &engine->lock) {
		if (engine->state > PCIEDMA_ENGINE_PAUSED)
			return 0;
		tail = engine->flight_tail;
		if (engine_ops(engine)->stray)
			*raised = engine_ops(engine)->stray(engine,
							    pciedma_engine_inflight(engine));
		found = engine->flight_tail - tail;
		if (found)
			engine_progress(engine);
		else
			pciedma_rate_learn(engine, ktime_get());
	}
	engine->source->ops->settled(engine->source, false);
	return found;
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
	bool raised;

	engine_stray(engine, &raised);
	return raised;
}

/**
 * pciedma_engine_look_closely() - look for ends that nothing tells of
 * @engine: the engine
 *
 * Context: any.
 */
void pciedma_engine_look_closely(struct pciedma_engine *engine)
{
	if (!pciedma_engine_look(engine))
		pciedma_engine_stray(engine);
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
	bool raised;

	if (!found)
		found = engine_stray(engine, &raised);
	if (!found)
		return;
	guard(spinlock_irqsave)(&engine->lock);
	engine->stats[direction].looks += found;
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
