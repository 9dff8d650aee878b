// SPDX-License-Identifier: GPL-2.0-only
/*
 * How long transfers take, by their lengths, and whether it pays to poll for them: what adaptive
 * waiting goes by.
 */
#include <linux/log2.h>

#include "lane.h"

/* How many transfers of a class are not polled for after one that was in vain. */
#define SKIPS_MIN	16
#define SKIPS_MAX	64

static struct pciedma_pace *lane_pace(struct pciedma_lane *lane, enum pciedma_direction direction,
				      u32 length)
{
	return &lane->pace[direction][ilog2(length)];
}

static u32 spin_limit_ns(const struct pciedma_lane *lane)
{
	return READ_ONCE(lane->spin_us) * NSEC_PER_USEC;
}

/**
 * pciedma_pace_polls() - whether it pays to poll
 * @lane:      where the data goes
 * @direction: which way
 * @length:    bytes, not 0
 *
 * It does if the last of such a length did not take long, if whoever polls can still change his
 * mind, and if it was not wrong lately.
 *
 * Return: true if so.
 */
bool pciedma_pace_polls(struct pciedma_lane *lane, enum pciedma_direction direction, u32 length)
{
	struct pciedma_pace *pace = lane_pace(lane, direction, length);
	u32 ns = READ_ONCE(pace->ns);
	u16 skips = READ_ONCE(pace->skips);

	if (lane->engine.desc->irq_at_start || !ns || ns > spin_limit_ns(lane))
		return false;
	if (skips)
		WRITE_ONCE(pace->skips, skips - 1);
	return !skips;
}

/**
 * pciedma_pace_until() - until when to poll
 * @lane:      where the data goes
 * @direction: which way
 * @length:    bytes, not 0
 *
 * Return: when twice the time that such transfers take will be over.
 */
ktime_t pciedma_pace_until(struct pciedma_lane *lane, enum pciedma_direction direction, u32 length)
{
	return ktime_add_ns(ktime_get(), 2ULL * READ_ONCE(lane_pace(lane, direction, length)->ns));
}

/**
 * pciedma_pace_polled() - somebody has polled
 * @lane:      where the data goes
 * @direction: which way
 * @length:    bytes, not 0
 * @ret:       0 if it has ended; -EAGAIN if the time was over: that costs what sleeping does, and
 *             more, and polling is left for a while
 *
 * Context: process.
 */
void pciedma_pace_polled(struct pciedma_lane *lane, enum pciedma_direction direction, u32 length,
			 int ret)
{
	struct pciedma_pace *pace = lane_pace(lane, direction, length);
	u16 misses = READ_ONCE(pace->misses);

	if (ret == -EAGAIN) {
		misses = clamp(2 * misses, SKIPS_MIN, SKIPS_MAX);
		WRITE_ONCE(pace->misses, misses);
		WRITE_ONCE(pace->skips, misses);
		guard(spinlock_irqsave)(&lane->engine.lock);
		lane->engine.stats[direction].poll_misses++;
	} else if (!ret && unlikely(misses)) {
		WRITE_ONCE(pace->misses, misses / 2);
	}
}

/**
 * pciedma_pace_learn() - know how long a transfer took: a moving average of an eighth
 * @lane:      where the data went
 * @direction: which way
 * @length:    bytes, not 0
 * @since:     when it began
 */
void pciedma_pace_learn(struct pciedma_lane *lane, enum pciedma_direction direction, u32 length,
			ktime_t since)
{
	struct pciedma_pace *pace = lane_pace(lane, direction, length);
	s64 took = ktime_to_ns(ktime_sub(ktime_get(), since));
	u32 old = READ_ONCE(pace->ns);

	took = clamp_t(s64, took, 1, U32_MAX / 8);
	WRITE_ONCE(pace->ns, old ? old - old / 8 + (u32)took / 8 : (u32)took);
}
