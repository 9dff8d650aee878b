// SPDX-License-Identifier: GPL-2.0-only
/*
 * How engines are stopped, and what is known of them then: the rungs of the ladder that a card
 * climbs in recovery.c.
 */
#include <linux/delay.h>

#include "../trace/trace.h"
#include "stop.h"

#define HALT_MS		100	/* least time until a halted engine must read idle */

/**
 * pciedma_all_engines() - all of a card's engines
 * @card: the card
 *
 * Return: their mask.
 */
u32 pciedma_all_engines(struct pciedma_card *card)
{
	struct pciedma_engine *engine;
	u32 mask = 0;

	pciedma_for_each_engine(card, engine)
		mask |= BIT(engine->index);
	return mask;
}

/**
 * pciedma_engines_set_state() - set engines' state
 * @card:  the card
 * @mask:  the engines
 * @state: the state; if DEAF, nobody touches registers any more
 *
 * Context: process.
 */
void pciedma_engines_set_state(struct pciedma_card *card, u32 mask, enum pciedma_engine_state state)
{
	struct pciedma_engine *engine;

	if (state == PCIEDMA_ENGINE_DEAF)
		card->user_ops->closing(card, card->recovery.frozen ? -EIO : 0);
	pciedma_for_each_engine(card, engine) {
		if (!(mask & BIT(engine->index)))
			continue;
		guard(spinlock_irqsave)(&engine->lock);
		engine->state = state;
	}
}

/**
 * pciedma_engines_pause() - start nothing more
 * @card: the card
 * @mask: the engines; one whose registers must not be touched stays so
 *
 * Context: process.
 */
void pciedma_engines_pause(struct pciedma_card *card, u32 mask)
{
	struct pciedma_engine *engine;

	pciedma_for_each_engine(card, engine) {
		if (!(mask & BIT(engine->index)))
			continue;
		guard(spinlock_irqsave)(&engine->lock);
		if (engine->state != PCIEDMA_ENGINE_DEAF)
			engine->state = PCIEDMA_ENGINE_PAUSED;
	}
}

/**
 * pciedma_engines_unproven() - whose memory the hardware is not known to have left
 * @card: the card
 * @mask: the engines, paused; they are looked at
 *
 * Context: process.
 * Return: a mask.
 */
u32 pciedma_engines_unproven(struct pciedma_card *card, u32 mask)
{
	struct pciedma_engine *engine;
	u32 busy = 0;

	pciedma_for_each_engine(card, engine) {
		if (!(mask & BIT(engine->index)))
			continue;
		pciedma_engine_look(engine);
		guard(spinlock_irqsave)(&engine->lock);
		if (pciedma_engine_inflight(engine) || engine->kept)
			busy |= BIT(engine->index);
	}
	return busy;
}

/**
 * pciedma_engines_with_memory() - which engines have memory of their own
 * @card: the card
 *
 * They may look into it although they have nothing to do.
 *
 * Return: a mask.
 */
u32 pciedma_engines_with_memory(struct pciedma_card *card)
{
	struct pciedma_engine *engine;
	u32 mask = 0;

	pciedma_for_each_engine(card, engine)
		if (engine->memory)
			mask |= BIT(engine->index);
	return mask;
}

/* Whether what has begun still gets on; asks the card itself before it says no. */
static bool engine_may_drain(struct pciedma_engine *engine)
{
	scoped_guard(spinlock_irqsave, &engine->lock) {
		if (engine->state != PCIEDMA_ENGINE_PAUSED || !pciedma_engine_inflight(engine) ||
		    engine->failed)
			return false;
		if (pciedma_engine_drain_ns(engine) > 0)
			return true;
	}
	pciedma_engine_stray(engine);
	guard(spinlock_irqsave)(&engine->lock);
	return !engine->failed && pciedma_engine_drain_ns(engine) > 0;
}

/**
 * pciedma_engines_drain() - wait for what has begun
 * @card: the card
 * @mask: the engines, paused
 *
 * As long as the engines get on within their bounds.
 *
 * Context: process.
 * Return: a mask of those whose memory the hardware is not known to have left.
 */
u32 pciedma_engines_drain(struct pciedma_card *card, u32 mask)
{
	struct pciedma_engine *engine;
	bool wait;
	u32 busy;

	for (;;) {
		busy = pciedma_engines_unproven(card, mask);
		wait = false;
		pciedma_for_each_engine(card, engine)
			wait |= (busy & BIT(engine->index)) && engine_may_drain(engine);
		if (!wait)
			return busy;
		usleep_range(100, 200);
	}
}

/*
 * Engines that may still touch memory, and how long they may take: the segment
 * that a halted engine has begun comes to its end in about a quarter of the
 * drain bound, or in more if the card has just become slow. One that reads all
 * ones has not proven anything, and is not waited for long.
 */
static u32 engines_not_idle(struct pciedma_card *card, u32 mask, s64 *bound)
{
	struct pciedma_engine *engine;
	u32 busy = 0;
	int idle;

	*bound = HALT_MS * (s64)NSEC_PER_MSEC;
	pciedma_for_each_engine(card, engine) {
		if (!(mask & BIT(engine->index)))
			continue;
		scoped_guard(spinlock_irqsave, &engine->lock)
			idle = pciedma_ops(card)->idle(engine);
		if (idle == 1)
			continue;
		busy |= BIT(engine->index);
		if (!idle)
			*bound = max(*bound, 2 * pciedma_engine_drain_bound_ns(engine));
	}
	return busy;
}

/**
 * pciedma_engines_wait_idle() - wait until engines read idle
 * @card:    the card
 * @mask:    the engines
 * @patient: something follows that would cut off what they still do
 *
 * Context: process.
 * Return: a mask of those that do not.
 */
u32 pciedma_engines_wait_idle(struct pciedma_card *card, u32 mask, bool patient)
{
	ktime_t start = ktime_get();
	s64 bound;
	u32 busy;

	for (;;) {
		busy = engines_not_idle(card, mask, &bound);
		if (!patient)
			bound = HALT_MS * (s64)NSEC_PER_MSEC;
		if (!busy || ktime_to_ns(ktime_sub(ktime_get(), start)) > bound)
			return busy;
		usleep_range(20, 50);
	}
}

/**
 * pciedma_card_halts_whole() - whether a halt of some engines hits the whole card
 * @card: the card
 * @mask: the engines
 *
 * Return: true if so.
 */
bool pciedma_card_halts_whole(struct pciedma_card *card, u32 mask)
{
	struct pciedma_engine *engine;

	pciedma_for_each_engine(card, engine)
		if ((mask & BIT(engine->index)) && engine->desc->halt_scope == PCIEDMA_HALT_CARD)
			return true;
	return false;
}

/* An interrupt that tells of an error comes before or after this, not in between. */
static void engine_halt(struct pciedma_engine *engine)
{
	trace_pciedma_halt(engine->card->index, engine->channel, engine->direction);
	guard(spinlock_irqsave)(&engine->lock);
	pciedma_ops(engine->card)->halt(engine);
	engine->stats[engine->direction].halts++;
}

/**
 * pciedma_engines_halt() - halt engines
 * @card:    the card
 * @mask:    the engines, paused
 * @patient: see pciedma_engines_wait_idle()
 *
 * Of a card that is halted whole, nothing but that may be read until it was initialized
 * again.
 *
 * Context: process.
 * Return: a mask of those that do not read idle.
 */
u32 pciedma_engines_halt(struct pciedma_card *card, u32 mask, bool patient)
{
	struct pciedma_engine *engine;
	s64 bound;

	if (!pciedma_ops(card)->halt)
		return engines_not_idle(card, mask, &bound);
	if (pciedma_card_halts_whole(card, mask))
		pciedma_engines_set_state(card, mask, PCIEDMA_ENGINE_DEAF);
	pciedma_for_each_engine(card, engine) {
		if (!(mask & BIT(engine->index)))
			continue;
		engine_halt(engine);
		if (engine->desc->halt_scope == PCIEDMA_HALT_CARD)
			break;
	}
	return pciedma_engines_wait_idle(card, mask, patient);
}

static void engine_resume(struct pciedma_engine *engine, enum pciedma_proof proof, int error)
{
	struct pciedma_source *source = engine->source;

	guard(spinlock_irqsave)(&engine->lock);
	pciedma_engine_drop_flights(engine);
	if (proof == PCIEDMA_PROOF_HALTED)
		source->ops->rewind(source);
	else
		source->ops->finish(source, error, proof != PCIEDMA_PROOF_NONE);
	if (engine->trouble)
		pciedma_engine_failed(engine);
	engine->trouble = 0;
	engine->failed = false;
	engine->unknown = false;
	engine->unproven = proof == PCIEDMA_PROOF_NONE;
	if (proof != PCIEDMA_PROOF_NONE)
		source->ops->proven(source);
	if (proof <= PCIEDMA_PROOF_USABLE && !READ_ONCE(engine->card->removed)) {
		engine->state = PCIEDMA_ENGINE_RUN;
		pciedma_engine_kick(engine);
		return;
	}
	engine->state = PCIEDMA_ENGINE_BROKEN;
	engine->broken_error = error;
	source->ops->fail(source, error);
}

static void engine_settle(struct pciedma_engine *engine, enum pciedma_proof proof, int error)
{
	engine_resume(engine, proof, error);
	engine->source->ops->settled(engine->source, true);
}

/**
 * pciedma_engines_settle() - tell engines' sources what was found out, and let them go on
 * @card:  the card
 * @mask:  the engines
 * @proof: what was found out
 * @error: errno for what ends
 *
 * Context: process.
 */
void pciedma_engines_settle(struct pciedma_card *card, u32 mask, enum pciedma_proof proof,
			    int error)
{
	struct pciedma_engine *engine;

	pciedma_for_each_engine(card, engine)
		if (mask & BIT(engine->index))
			engine_settle(engine, proof, error);
	card->user_ops->wake(card);
}
