// SPDX-License-Identifier: GPL-2.0-only
/*
 * QEMU's edu device: 4096 bytes of memory, one DMA at a time for both
 * directions together, 28-bit addresses, no abort, no reset.
 */
#include <linux/bitfield.h>
#include <linux/delay.h>
#include <linux/io.h>

#include <pciedma_card.h>

#include "edu_regs.h"

/**
 * struct edu - a card
 * @bar: its registers
 */
struct edu {
	void __iomem *bar;
};

/**
 * struct edu_engine - its engine
 * @irq:         raise an interrupt at the end of DMAs started from now on
 * @irq_running: the DMA under way will raise one
 * @length:      its bytes
 */
struct edu_engine {
	bool irq;
	bool irq_running;
	u32 length;
};

static struct edu *to_edu(struct pciedma_engine *engine)
{
	return pciedma_card_priv(pciedma_engine_card(engine));
}

static const struct pciedma_engine_desc edu_engine = {
	.address_bits	= EDU_ADDRESS_BITS,
	.segments	= 1,
	.max_segment	= EDU_MEMORY_LENGTH,
	.max_dma	= EDU_MEMORY_LENGTH,
	.drain_ms	= 10 * EDU_DMA_MS,
	.halt_scope	= PCIEDMA_HALT_NONE,
	.buffers	= 2,
	.buffer_size	= EDU_MEMORY_LENGTH,
	.irq_at_start	= true,
};

static const struct pciedma_channel_desc edu_channel = {
	.kind	= PCIEDMA_KIND_MEMORY,
	.size	= EDU_MEMORY_LENGTH,
	.c2h	= &edu_engine,
	.h2c	= &edu_engine,
	.shared	= true,
};

static int edu_identify(struct pciedma_card *card, const struct pci_device_id *id)
{
	struct edu *edu = pciedma_card_priv(card);
	u32 ident;

	edu->bar = pciedma_card_map(card, EDU_BAR, EDU_BAR_LENGTH, EDU_BAR_LENGTH);
	if (IS_ERR(edu->bar))
		return PTR_ERR(edu->bar);
	ident = readl(edu->bar + EDU_IDENT);
	if (FIELD_GET(EDU_IDENT_MAGIC, ident) != EDU_IDENT_MAGIC_VALUE) {
		pci_info(pciedma_card_pdev(card), "not an edu card: identification 0x%08x\n",
			 ident);
		return -ENODEV;
	}
	return pciedma_channel_add(card, &edu_channel);
}

/* No reset clears the device: wait for the DMA of whoever had it before. */
static int edu_init(struct pciedma_card *card)
{
	struct edu *edu = pciedma_card_priv(card);
	int tries = 10;
	u32 command;

	while ((command = readl(edu->bar + EDU_DMA_COMMAND)) & EDU_DMA_RUN) {
		if (PCI_POSSIBLE_ERROR(command))
			return -ENODEV;
		if (!tries--)
			return -EIO;
		msleep(EDU_DMA_MS);
	}
	writel(readl(edu->bar + EDU_IRQ_STATUS), edu->bar + EDU_IRQ_ACK);
	return 0;
}

static void edu_start(struct pciedma_engine *engine, struct pciedma_cursor *cursor)
{
	struct edu_engine *priv = pciedma_engine_priv(engine);
	struct pciedma_segment segment;
	u32 command = EDU_DMA_RUN;
	struct edu *edu = to_edu(engine);
	u32 memory, host;

	if (!pciedma_cursor_next(cursor, &segment))
		return;
	memory = EDU_MEMORY + segment.address;
	host = lower_32_bits(segment.dma);
	if (segment.direction == PCIEDMA_C2H)
		command |= EDU_DMA_TO_RAM;
	if (priv->irq)
		command |= EDU_DMA_IRQ;
	priv->irq_running = priv->irq;
	priv->length = segment.length;
	writel(segment.direction == PCIEDMA_C2H ? memory : host, edu->bar + EDU_DMA_SOURCE);
	writel(segment.direction == PCIEDMA_C2H ? host : memory, edu->bar + EDU_DMA_DESTINATION);
	writel(segment.length, edu->bar + EDU_DMA_COUNT);
	writel(command, edu->bar + EDU_DMA_COMMAND);
}

/* With the interrupt on, its source is the news; it must be acknowledged in any case. */
static int edu_reap(struct pciedma_engine *engine)
{
	struct edu_engine *priv = pciedma_engine_priv(engine);
	struct edu *edu = to_edu(engine);
	u32 status;

	status = readl(edu->bar + (priv->irq_running ? EDU_IRQ_STATUS : EDU_DMA_COMMAND));
	if (PCI_POSSIBLE_ERROR(status))
		return -ENODEV;
	if (priv->irq_running ? !(status & EDU_IRQ_DMA) : status & EDU_DMA_RUN)
		return 0;
	if (priv->irq_running)
		writel(EDU_IRQ_DMA, edu->bar + EDU_IRQ_ACK);
	pciedma_segment_done(engine, priv->length, 0);
	return 1;
}

/* Nobody here waits for the other sources: acknowledge them all. */
static bool edu_stray(struct pciedma_engine *engine, bool busy)
{
	struct edu *edu = to_edu(engine);
	u32 status = readl(edu->bar + EDU_IRQ_STATUS);

	if (PCI_POSSIBLE_ERROR(status))
		return false;
	if (busy)
		status &= ~EDU_IRQ_DMA;
	if (status)
		writel(status, edu->bar + EDU_IRQ_ACK);
	return status;
}

static int edu_idle(struct pciedma_engine *engine)
{
	u32 command = readl(to_edu(engine)->bar + EDU_DMA_COMMAND);

	if (PCI_POSSIBLE_ERROR(command))
		return -ENODEV;
	return !(command & EDU_DMA_RUN);
}

static void edu_irq(struct pciedma_engine *engine, bool on)
{
	struct edu_engine *priv = pciedma_engine_priv(engine);

	priv->irq = on;
}

static const struct pciedma_card_type edu_type = {
	.name		= "edu",
	.card_priv	= sizeof(struct edu),
	.engine_priv	= sizeof(struct edu_engine),
	.vectors	= 1,
	.ops		= {
		.identify	= edu_identify,
		.init		= edu_init,
		.start		= edu_start,
		.reap		= edu_reap,
		.stray		= edu_stray,
		.idle		= edu_idle,
		.irq		= edu_irq,
	},
};

static const struct pci_device_id edu_ids[] = {
	{ PCI_DEVICE(EDU_VENDOR_ID, EDU_DEVICE_ID) },
	{ }
};
MODULE_DEVICE_TABLE(pci, edu_ids);

static struct pciedma_driver edu_driver = {
	.pci	= {
		.name		= "pciedma_edu",
		.id_table	= edu_ids,
	},
	.type	= &edu_type,
};
module_pciedma_driver(edu_driver);

MODULE_DESCRIPTION("pciedma back end for QEMU's edu device");
MODULE_LICENSE("GPL");
