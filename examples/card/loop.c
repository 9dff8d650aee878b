// SPDX-License-Identifier: GPL-2.0-only
/*
 * Loop, a made-up card: 64 KiB of memory, one DMA of up to 4096 bytes at a time
 * for both directions together, 64-bit addresses.
 */
#include <linux/bitfield.h>
#include <linux/io.h>
#include <linux/iopoll.h>

#include <pciedma_card.h>

#include "loop_regs.h"

/**
 * struct loop - a card
 * @bar: its registers
 */
struct loop {
	void __iomem *bar;
};

static void __iomem *to_bar(struct pciedma_engine *engine)
{
	struct loop *loop = pciedma_card_priv(pciedma_engine_card(engine));

	return loop->bar;
}

static const struct pciedma_engine_desc loop_engine = {
	.address_bits	= 64,
	.segments	= 1,
	.max_segment	= LOOP_DMA_MAX,
	.drain_ms	= 100,
	.halt_scope	= PCIEDMA_HALT_ENGINE,
	.buffers	= 2,
	.buffer_size	= LOOP_DMA_MAX,
};

static const struct pciedma_channel_desc loop_channel = {
	.kind	= PCIEDMA_KIND_MEMORY,
	.size	= LOOP_MEMORY_LENGTH,
	.c2h	= &loop_engine,
	.h2c	= &loop_engine,
	.shared	= true,
};

static const struct pciedma_window_desc loop_user = {
	.name		= "user",
	.bar		= LOOP_USER_BAR,
	.widths		= 4,
	.mappable	= true,
};

static int loop_identify(struct pciedma_card *card, const struct pci_device_id *id)
{
	struct loop *loop = pciedma_card_priv(card);
	u32 found;
	int ret;

	loop->bar = pciedma_card_map(card, LOOP_BAR, LOOP_BAR_LENGTH, LOOP_BAR_LENGTH);
	if (IS_ERR(loop->bar))
		return PTR_ERR(loop->bar);
	found = readl(loop->bar + ID);
	if (found != ID_LOOP) {
		pci_info(pciedma_card_pdev(card), "not a loop card: identification 0x%08x\n",
			 found);
		return -ENODEV;
	}
	ret = pciedma_channel_add(card, &loop_channel);
	return ret ?: pciedma_window_add(card, &loop_user);
}

/* Whoever had the card before may have left a DMA under way. */
static int loop_init(struct pciedma_card *card)
{
	struct loop *loop = pciedma_card_priv(card);
	u32 status;

	writel(0, loop->bar + INTERRUPT);
	writel(COMMAND_ABORT, loop->bar + COMMAND);
	if (readl_poll_timeout(loop->bar + STATUS, status, !(status & STATUS_BUSY), 100,
			       LOOP_ABORT_US))
		return PCI_POSSIBLE_ERROR(status) ? -ENODEV : -EIO;
	writel(STATUS_DONE, loop->bar + STATUS);
	return 0;
}

static void loop_start(struct pciedma_engine *engine, struct pciedma_cursor *cursor)
{
	void __iomem *bar = to_bar(engine);
	struct pciedma_segment segment;

	if (!pciedma_cursor_next(cursor, &segment))
		return;
	writel(lower_32_bits(segment.dma), bar + HOST_LOW);
	writel(upper_32_bits(segment.dma), bar + HOST_HIGH);
	writel(segment.address, bar + CARD);
	writel(segment.length, bar + LENGTH);
	writel(segment.direction == PCIEDMA_C2H ? COMMAND_START_C2H : COMMAND_START_H2C,
	       bar + COMMAND);
}

/* A DMA that was aborted ends like any other, with a smaller count. */
static int loop_reap(struct pciedma_engine *engine)
{
	void __iomem *bar = to_bar(engine);
	u32 status = readl(bar + STATUS);

	if (PCI_POSSIBLE_ERROR(status))
		return -ENODEV;
	if (!(status & STATUS_DONE))
		return 0;
	writel(STATUS_DONE, bar + STATUS);
	pciedma_segment_done(engine, FIELD_GET(STATUS_COUNT, status), 0);
	return 1;
}

static void loop_halt(struct pciedma_engine *engine)
{
	writel(COMMAND_ABORT, to_bar(engine) + COMMAND);
}

static int loop_idle(struct pciedma_engine *engine)
{
	u32 status = readl(to_bar(engine) + STATUS);

	if (PCI_POSSIBLE_ERROR(status))
		return -ENODEV;
	return !(status & STATUS_BUSY);
}

static void loop_irq(struct pciedma_engine *engine, bool on)
{
	writel(on ? INTERRUPT_ENABLE : 0, to_bar(engine) + INTERRUPT);
}

static const struct pciedma_card_type loop_type = {
	.name		= "loop",
	.card_priv	= sizeof(struct loop),
	.vectors	= 1,
	.ops		= {
		.identify	= loop_identify,
		.init		= loop_init,
		.start		= loop_start,
		.reap		= loop_reap,
		.halt		= loop_halt,
		.idle		= loop_idle,
		.irq		= loop_irq,
	},
};

static const struct pci_device_id loop_ids[] = {
	{ PCI_DEVICE(LOOP_VENDOR_ID, LOOP_DEVICE_ID) },
	{ }
};
MODULE_DEVICE_TABLE(pci, loop_ids);

static struct pciedma_driver loop_driver = {
	.pci	= {
		.name		= "pciedma_loop",
		.id_table	= loop_ids,
	},
	.type	= &loop_type,
};
module_pciedma_driver(loop_driver);

MODULE_DESCRIPTION("pciedma back end for the made-up card loop");
MODULE_LICENSE("GPL");
