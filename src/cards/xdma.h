/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of the XDMA back end share: a card, its engines.
 */
#ifndef PCIEDMA_XDMA_H
#define PCIEDMA_XDMA_H

#include <linux/io.h>
#include <linux/sizes.h>

#include <pciedma_card.h>

#include "xdma_regs.h"

/* Descriptors; the hardware has at most CREDITS_MAX of them. */
#define XDMA_RING_LENGTH	1024
#define XDMA_RECORD_OFFSET	(XDMA_RING_LENGTH * sizeof(struct xdma_descriptor))
#define XDMA_MEMORY_BYTES	(XDMA_RECORD_OFFSET + sizeof(__le32))
#define XDMA_MAX_ENGINES	(XDMA_CHANNELS * PCIEDMA_DIRECTIONS)

/**
 * struct xdma - a card
 * @bar:     the DMA configuration BAR
 * @counts:  channels each way
 * @credits: the core has descriptor credits
 * @engines: descriptions of its engines
 */
struct xdma {
	void __iomem *bar;
	unsigned int counts[PCIEDMA_DIRECTIONS];
	bool credits;
	struct pciedma_engine_desc engines[XDMA_MAX_ENGINES];
};

/**
 * enum xdma_state - where an engine is
 * @XDMA_STOPPED: not running, everything it had was reported
 * @XDMA_RUNNING: walks its ring
 * @XDMA_FAILED:  stops, or has stopped, by an error
 * @XDMA_HALTED:  told to stop: its register says how far it came
 */
enum xdma_state {
	XDMA_STOPPED,
	XDMA_RUNNING,
	XDMA_FAILED,
	XDMA_HALTED,
};

/**
 * struct xdma_engine - an engine
 * @regs:     its channel registers
 * @ring:     its descriptors
 * @ring_dma: where the engine finds them
 * @record:   where it writes how many it has completed
 * @state:    where it is
 * @irq:      completions interrupt
 * @head:     descriptors handed over since it was started
 * @tail:     descriptors reported since then
 * @adjacent: what FIRST_ADJACENT holds
 */
struct xdma_engine {
	void __iomem *regs;
	struct xdma_descriptor *ring;
	dma_addr_t ring_dma;
	__le32 *record;
	enum xdma_state state;
	bool irq;
	u32 head;
	u32 tail;
	u32 adjacent;
};

static inline struct xdma *to_xdma(struct pciedma_engine *engine)
{
	return pciedma_card_priv(pciedma_engine_card(engine));
}

/* Stream channels are found, but not served yet. */
static inline bool xdma_engine_serves(struct pciedma_engine *engine)
{
	return pciedma_engine_kind(engine) == PCIEDMA_KIND_MEMORY;
}

static inline void __iomem *xdma_channel_regs(struct xdma *xdma, enum pciedma_direction direction,
					      unsigned int number)
{
	return xdma->bar + (direction == PCIEDMA_H2C ? XDMA_H2C : XDMA_C2H) +
	       number * XDMA_CHANNEL_STRIDE;
}

static inline void __iomem *xdma_engine_regs(struct pciedma_engine *engine)
{
	return xdma_channel_regs(to_xdma(engine), pciedma_engine_direction(engine),
				 pciedma_engine_desc(engine)->number);
}

void xdma_engine_init(struct pciedma_engine *engine);
void xdma_engine_exit(struct pciedma_engine *engine);
void xdma_start(struct pciedma_engine *engine, struct pciedma_cursor *cursor);
int xdma_reap(struct pciedma_engine *engine);
bool xdma_stray(struct pciedma_engine *engine, bool busy);
void xdma_halt(struct pciedma_engine *engine);
int xdma_idle(struct pciedma_engine *engine);
void xdma_irq(struct pciedma_engine *engine, bool on);

/* xdma_error.c */
const char *xdma_error_name(u32 status, bool h2c);
const char *xdma_error_place(u32 status, bool h2c);

#endif /* PCIEDMA_XDMA_H */
