// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whether an engine still works: how often it had to be stopped in a row.
 */
#include "engine.h"

#define FAILURES	3	/* one or two can be a program's own doing */

static const char *engine_name(const struct pciedma_engine *engine)
{
	if (engine->dma_direction == DMA_BIDIRECTIONAL)
		return "the engine";
	return engine->direction == PCIEDMA_C2H ? "c2h" : "h2c";
}

/**
 * pciedma_engine_failed() - the engine had to be stopped
 * @engine: the engine
 *
 * Context: engine lock held; its trouble not forgotten yet.
 */
void pciedma_engine_failed(struct pciedma_engine *engine)
{
	lockdep_assert_held(&engine->lock);
	engine->health.ailing = true;
	if (!engine->health.failures++)
		engine->health.since = ktime_get_boottime();
	if (engine->health.failures != FAILURES)
		return;
	engine->health.told = true;
	dev_err_ratelimited(engine->dev,
			    "%s had to be stopped %u times in a row, in %lld ms, and no transfer went well (the last: errno %d); reset the card\n",
			    engine_name(engine), FAILURES,
			    ktime_ms_delta(ktime_get_boottime(), engine->health.since),
			    -engine->trouble);
}

/**
 * pciedma_engine_recovered() - a transfer went well after the engine had been stopped
 * @engine: the engine
 *
 * Context: engine lock held.
 */
void pciedma_engine_recovered(struct pciedma_engine *engine)
{
	if (engine->health.told)
		dev_info_ratelimited(engine->dev, "%s works again\n",
				     engine_name(engine));
	engine->health.ailing = false;
	engine->health.told = false;
	engine->health.failures = 0;
}

/**
 * pciedma_engine_forgive() - the card was reset: what was before says nothing any more
 * @engine: the engine
 *
 * The log still says so when it works again.
 *
 * Context: any.
 */
void pciedma_engine_forgive(struct pciedma_engine *engine)
{
	guard(spinlock_irqsave)(&engine->lock);
	engine->health.failures = 0;
}

/**
 * pciedma_engine_health() - an engine's health in a word
 * @engine: the engine
 *
 * Context: any.
 * Return: "ok"; "failing" if it had to be stopped again and again; "broken" if its
 * requests fail at once until the card is reset.
 */
const char *pciedma_engine_health(struct pciedma_engine *engine)
{
	guard(spinlock_irqsave)(&engine->lock);
	if (engine->state == PCIEDMA_ENGINE_BROKEN)
		return "broken";
	return engine->health.failures >= FAILURES ? "failing" : "ok";
}
