/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is learned of an engine from how its transfers go: how fast it is, and whether it works.
 */
#ifndef PCIEDMA_RATE_H
#define PCIEDMA_RATE_H

#include <linux/ktime.h>
#include <linux/sizes.h>
#include <linux/types.h>

struct pciedma_engine;

/* What a fast engine has at a time: less than it moves in a drain bound of seconds. */
#define PCIEDMA_FAST_BYTES	SZ_32M

/**
 * struct pciedma_rate - how fast an engine is seen to be
 * @chunk:    most bytes of a segment, so that a slow card shows progress often enough: what it
 *            moves in a quarter of the drain bound; U32_MAX: no limit
 * @segment:  most bytes of a segment of a fast one, so that it can be stopped; U32_MAX: no limit
 * @inflight: bytes that the hardware has
 * @moved:    bytes that arrived since the engine's last progress
 * @untold:   bytes handed over since the last segment whose end is told of
 * @untold_segments: the same in segments
 * @tell_each: of a fast engine one in so many segments at least is told of: else it would have
 *            all that it holds, and nobody would give it more
 */
struct pciedma_rate {
	u32 chunk;
	u32 segment;
	u64 inflight;
	u64 moved;
	u32 untold;
	u32 untold_segments;
	u32 tell_each;
};

/**
 * struct pciedma_health - whether an engine still works
 * @ailing:   it was stopped since a transfer last ended well
 * @told:     the log says that it fails
 * @failures: how often it was stopped since, or since a reset
 * @since:    when it was stopped for the first time of these
 */
struct pciedma_health {
	bool ailing;
	bool told;
	unsigned int failures;
	ktime_t since;
};

/* An engine that is known to be fast needs no limits. */
static inline bool pciedma_rate_is_slow(const struct pciedma_rate *rate)
{
	return rate->chunk != U32_MAX;
}

/*
 * Whether the end of a segment that a fast engine gets is told of: if it must be, or in turn, so
 * that it never has all that it gets of what nobody is told of.
 */
static inline bool pciedma_rate_tells(struct pciedma_rate *rate, u32 length, bool notify)
{
	rate->untold += length;
	if (!notify && ++rate->untold_segments < rate->tell_each &&
	    rate->untold < PCIEDMA_FAST_BYTES / 4)
		return false;
	rate->untold = 0;
	rate->untold_segments = 0;
	return true;
}

/* rate.c */
void pciedma_rate_init(struct pciedma_engine *engine);
bool pciedma_rate_full(const struct pciedma_rate *rate, u32 segments);
bool pciedma_rate_start(struct pciedma_rate *rate, u32 length, bool notify);
void pciedma_rate_learn(struct pciedma_engine *engine, ktime_t now);

/* health.c */
void pciedma_engine_failed(struct pciedma_engine *engine);
void pciedma_engine_recovered(struct pciedma_engine *engine);
void pciedma_engine_forgive(struct pciedma_engine *engine);
const char *pciedma_engine_health(struct pciedma_engine *engine);

#endif /* PCIEDMA_RATE_H */
