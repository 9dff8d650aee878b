// SPDX-License-Identifier: GPL-2.0-only
/*
 * How fast an engine is seen to be, and what follows: a slow one gets short
 * segments, so that it shows progress, and few of them at a time, so that
 * whoever gives up does not wait long for what was queued ahead of him.
 */
#include <linux/log2.h>
#include <linux/math64.h>

#include "engine.h"

/* Chunks that a slow engine is given at a time; together what it moves in the drain bound. */
#define CHUNKS		4
/* However short they are: each may take its time. */
#define SLOW_SEGMENTS	32
/* Of an engine that is not known yet: 0.1 MB/s are enough for it within a second. */
#define CHUNK_FIRST	SZ_64K
/* From this on it is no limit; and no chunk is shorter than that. */
#define CHUNK_FAST	SZ_4M
#define CHUNK_MIN	SZ_4K
/* Longer drain bounds do not make longer chunks. */
#define BOUND_NS	(16 * (s64)NSEC_PER_SEC)

/* A message is never cut, nor memory if nobody knows where. */
static bool engine_divides(const struct pciedma_engine *engine)
{
	u32 granularity = max(engine->desc->length_granularity, 1U);
	u32 alignment = max(engine->desc->address_alignment, 1U);

	return engine->kind == PCIEDMA_KIND_MEMORY && !(CHUNK_MIN % granularity) &&
	       !(CHUNK_MIN % alignment);
}

/**
 * pciedma_rate_init() - nothing is known of an engine
 * @engine: the engine, its channel and description set
 *
 * Context: process.
 */
void pciedma_rate_init(struct pciedma_engine *engine)
{
	bool divides = engine_divides(engine);

	engine->rate.chunk = divides ? CHUNK_FIRST : U32_MAX;
	engine->rate.segment = divides ? CHUNK_FAST : U32_MAX;
}

/**
 * pciedma_rate_full() - whether a slow engine has as much as it moves in the drain bound
 * @rate:     its rate
 * @segments: how many it has
 *
 * Context: engine lock held.
 * Return: true if so.
 */
bool pciedma_rate_full(const struct pciedma_rate *rate, u32 segments)
{
	return segments >= SLOW_SEGMENTS || rate->inflight >= CHUNKS * (u64)rate->chunk;
}

/**
 * pciedma_rate_start() - a slow engine gets a segment
 * @rate:   its rate
 * @length: the segment's bytes
 * @notify: its end is told of anyhow
 *
 * Context: engine lock held.
 * Return: whether its end is to be told of, since it shall get more before it has
 * nothing to do.
 */
bool pciedma_rate_start(struct pciedma_rate *rate, u32 length, bool notify)
{
	rate->untold += length;
	rate->untold_segments++;
	notify |= rate->untold >= rate->chunk || rate->untold_segments >= SLOW_SEGMENTS / 2;
	if (!notify)
		return false;
	rate->untold = 0;
	rate->untold_segments = 0;
	return true;
}

static void rate_set_chunk(struct pciedma_rate *rate, u64 bytes)
{
	rate->chunk = bytes >= CHUNK_FAST ? U32_MAX :
		      rounddown_pow_of_two(max_t(u32, bytes, CHUNK_MIN));
}

/**
 * pciedma_rate_learn() - learn from what was moved since the last progress
 * @engine: the engine; what has ended is no longer in flight
 * @now:    the time
 *
 * If all was done, the engine may have had nothing to do for a while: then it
 * is at least so fast. If not, it is at most so fast.
 *
 * Context: engine lock held.
 */
void pciedma_rate_learn(struct pciedma_engine *engine, ktime_t now)
{
	struct pciedma_rate *rate = &engine->rate;
	bool busy = pciedma_engine_inflight(engine);
	s64 quarter, took;
	u64 bytes;

	if (!busy && !pciedma_rate_is_slow(rate))
		return;
	took = max_t(s64, ktime_to_ns(ktime_sub(now, engine->busy_since)), 1);
	quarter = min_t(s64, pciedma_engine_drain_bound_ns(engine), BOUND_NS) / CHUNKS;
	if (pciedma_rate_is_slow(rate) && rate->moved * quarter >= 2 * took * (u64)rate->chunk) {
		rate_set_chunk(rate, div64_u64(rate->moved * quarter, took));
	} else if (busy && took > 2 * quarter && engine_divides(engine)) {
		bytes = rate->moved + pciedma_engine_oldest_length(engine);
		bytes = div64_u64(bytes * quarter, took);
		if (bytes < rate->chunk)
			rate_set_chunk(rate, bytes);
	}
}
