/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An engine: what moves the data of a channel, one way or both. It knows segments and where
 * they come from, its source; what they are for is the source's affair.
 *
 * Life times: an engine is part of its channel. The coherent memory of its back end stays from
 * probe to remove, and for ever if the hardware is not proven to have left it.
 */
#ifndef PCIEDMA_ENGINE_H
#define PCIEDMA_ENGINE_H

#include <linux/dma-direction.h>
#include <linux/ktime.h>
#include <linux/spinlock.h>

#include "card.h"
#include "rate.h"

struct pciedma_source;

/**
 * enum pciedma_engine_state - what an engine may do
 * @PCIEDMA_ENGINE_RUN:    everything
 * @PCIEDMA_ENGINE_PAUSED: finish, but start nothing; requests queue
 * @PCIEDMA_ENGINE_DEAF:   as PAUSED, and its registers must not be touched
 * @PCIEDMA_ENGINE_BROKEN: requests fail with engine->broken_error until a reset
 *                         proves the engine
 */
enum pciedma_engine_state {
	PCIEDMA_ENGINE_RUN,
	PCIEDMA_ENGINE_PAUSED,
	PCIEDMA_ENGINE_DEAF,
	PCIEDMA_ENGINE_BROKEN,
};

/**
 * struct pciedma_source_ops - where an engine's segments come from, and who is told of their ends
 *
 * Under the engine's lock, possibly in a hard interrupt, but for @settled.
 */
struct pciedma_source_ops {
	/**
	 * @next: Give the next segment, of at most @limit bytes, and what it belongs to. The
	 * hardware has it from now on. Only called while @more is set. Returns whether there
	 * was one.
	 */
	bool (*next)(struct pciedma_source *source, u32 limit, struct pciedma_segment *segment,
		     void **item);
	/**
	 * @done: The next @segments of an item, of @length bytes together, have ended, after
	 * @bytes of them. More than one only if all is well.
	 */
	void (*done)(struct pciedma_source *source, void *item, u32 segments, u32 length,
		     u32 bytes, int error);
	/**
	 * @rewind: The engine was halted alone and reads idle; what had begun has been
	 * reported. The rest is given again from where it is, but for what is to end.
	 */
	void (*rewind)(struct pciedma_source *source);
	/**
	 * @finish: What had begun ends with @error, unless it has a reason of its own. If the
	 * hardware is not @proven to have left its memory, that is kept.
	 */
	void (*finish)(struct pciedma_source *source, int error, bool proven);
	/** @fail: The engine is broken: whatever waits ends with @error. */
	void (*fail)(struct pciedma_source *source, int error);
	/** @proven: The hardware has left all memory that was kept. */
	void (*proven)(struct pciedma_source *source);
	/**
	 * @settled: Something may have ended, been kept or been proven: no lock is held any
	 * more. If not @may_sleep from any context.
	 */
	void (*settled)(struct pciedma_source *source, bool may_sleep);
};

/**
 * struct pciedma_source - where an engine's segments come from
 * @ops:  what it does
 * @more: it has some that the hardware does not have
 */
struct pciedma_source {
	const struct pciedma_source_ops *ops;
	bool more;
};

/**
 * struct pciedma_flight - a segment that the hardware has
 * @item:   what it belongs to, of the source
 * @length: its bytes
 */
struct pciedma_flight {
	void *item;
	u32 length;
};

/**
 * struct pciedma_stats - counters of one direction of an engine, under its lock
 * @bytes:     bytes that arrived
 * @transfers: transfers that ended without an error
 * @errors:    transfers that ended with one
 * @timeouts:  requests that ended with ETIMEDOUT
 * @halts:     times that the engine was halted
 * @looks:     ends that were found by looking because no interrupt told of them
 * @poll_misses: waits that polled in vain, and slept after all
 * @copied:    those of @bytes that went through a DMA buffer
 */
struct pciedma_stats {
	u64 bytes;
	u64 transfers;
	u64 errors;
	u64 timeouts;
	u64 halts;
	u64 looks;
	u64 poll_misses;
	u64 copied;
};

/**
 * struct pciedma_cursor - what start reads segments from: its engine's source
 */
struct pciedma_cursor {
};

/**
 * struct pciedma_engine - an engine
 * @card:          its card
 * @dev:           its channel's device, for the log
 * @desc:          what it is, a copy of its back end's, which may be unloaded while files are
 *                 open; NULL if the channel does not have it
 * @own_desc:      that copy
 * @kind:          what its channel is
 * @channel:       its channel's number
 * @index:         number on its card
 * @direction:     which way it moves data, unless it is shared
 * @dma_direction: the same as the DMA API spells it
 * @lock:          protects all that follows but @memory and @priv, and what the source holds
 * @source:        where its segments come from
 * @cursor:        what start reads them from
 * @state:         what it may do
 * @broken_error:  errno of requests while BROKEN
 * @trouble:       0 or the errno for which recovery was asked
 * @failed:        the card reported the trouble: waiting would not help, and nothing
 *                 may be started before recovery
 * @unknown:       during recovery the card could not say how far it came
 * @flights:       ring of segments that the hardware has
 * @flight_mask:   their number less 1
 * @flight_head:   number of segments ever started
 * @flight_tail:   number of segments ever finished
 * @busy_since:    last start of an idle engine, or last progress
 * @rate:          how fast it is seen to be
 * @sleepers:      how many wait for an interrupt
 * @irq_on:        the completion interrupt is switched on
 * @kept:          pieces of memory that hardware may still use, although they have ended
 * @drain_ms:      milliseconds after which a DMA that brought no progress counts as hung
 * @stats:         counters of each direction
 * @health:        whether it still works
 * @memory:        coherent memory for the back end
 * @memory_dma:    the same, as the engine sees it
 * @unproven:      hardware may still use it
 * @priv:          the back end's
 */
struct pciedma_engine {
	struct pciedma_card *card;
	struct device *dev;
	const struct pciedma_engine_desc *desc;
	struct pciedma_engine_desc own_desc;
	enum pciedma_kind kind;
	unsigned int channel;
	unsigned int index;
	enum pciedma_direction direction;
	enum dma_data_direction dma_direction;

	spinlock_t lock; /* state, registers, source of this engine */
	struct pciedma_source *source;
	struct pciedma_cursor cursor;
	enum pciedma_engine_state state;
	int broken_error;
	int trouble;
	bool failed;
	bool unknown;
	struct pciedma_flight *flights;
	u32 flight_mask;
	u32 flight_head;
	u32 flight_tail;
	ktime_t busy_since;
	struct pciedma_rate rate;
	unsigned int sleepers;
	bool irq_on;
	unsigned int kept;
	u32 drain_ms;
	struct pciedma_stats stats[PCIEDMA_DIRECTIONS];
	struct pciedma_health health;
	void *memory;
	dma_addr_t memory_dma;
	bool unproven;
	void *priv;
};

/* The device that DMA memory is allocated and mapped for. */
static inline struct device *pciedma_dma_device(const struct pciedma_engine *engine)
{
	return &engine->card->pdev->dev;
}

/* engine.c */
int pciedma_engine_alloc(struct pciedma_engine *engine);
void pciedma_engine_free(struct pciedma_engine *engine);
unsigned int pciedma_engine_inflight(const struct pciedma_engine *engine);
u32 pciedma_engine_oldest_length(struct pciedma_engine *engine);
void pciedma_engine_drop_flights(struct pciedma_engine *engine);
void pciedma_engine_recover(struct pciedma_engine *engine, int error);
void pciedma_engine_switch_irq(struct pciedma_engine *engine, bool on);
void pciedma_engine_kick(struct pciedma_engine *engine);
int pciedma_engine_look(struct pciedma_engine *engine);
void pciedma_engine_look_closely(struct pciedma_engine *engine);
bool pciedma_engine_stray(struct pciedma_engine *engine);
void pciedma_engine_look_late(struct pciedma_engine *engine, enum pciedma_direction direction);
s64 pciedma_engine_drain_bound_ns(const struct pciedma_engine *engine);
s64 pciedma_engine_drain_ns(struct pciedma_engine *engine);
s64 pciedma_engine_patience_ns(struct pciedma_engine *engine, s64 timeout);

#endif /* PCIEDMA_ENGINE_H */
