// SPDX-License-Identifier: GPL-2.0-only
/*
 * Capric: one DMA of up to 2047 bytes at a time each way, no descriptors,
 * 32-bit addresses, one vector for both directions.
 */
#include <linux/delay.h>
#include <linux/io.h>

#include <pciedma_card.h>

#include "capric_regs.h"

/**
 * struct capric - a card
 * @bar:   its registers
 * @lock:  protects @dcsr1
 * @dcsr1: what was last written to DCSR1
 */
struct capric {
	void __iomem *bar;
	spinlock_t lock; /* dcsr1 */
	u32 dcsr1;
};

/**
 * struct capric_engine - one direction
 * @length: bytes of the DMA under way
 */
struct capric_engine {
	u32 length;
};

/* Where a direction's bits and registers are. */
struct capric_map {
	u32 address;
	u32 size;
	u32 start;
	u32 done;
	u32 interrupt;
};

static const struct capric_map capric_maps[] = {
	[PCIEDMA_C2H] = { WR_DMA_ADR, WR_DMA_SIZE, DCSR2_MWR_START, INT_REG_WR_DONE_CLR,
			  DCSR1_INT_WR_ENB },
	[PCIEDMA_H2C] = { RD_DMA_ADR, RD_DMA_SIZE, DCSR2_MRD_START, INT_REG_RD_DONE_CLR,
			  DCSR1_INT_RD_ENB },
};

static struct capric *to_capric(struct pciedma_engine *engine)
{
	return pciedma_card_priv(pciedma_engine_card(engine));
}

static const struct capric_map *to_map(struct pciedma_engine *engine)
{
	return &capric_maps[pciedma_engine_direction(engine)];
}

static const struct pciedma_engine_desc capric_engine = {
	.address_bits	= 32,
	.segments	= 1,
	.max_segment	= CAPRIC_DMA_MAX,
	.max_dma	= CAPRIC_DMA_MAX,
	.drain_ms	= 250,
	.halt_scope	= PCIEDMA_HALT_CARD,
	.buffers	= 2,
	.buffer_size	= PAGE_SIZE,
};

static const struct pciedma_channel_desc capric_channel = {
	.kind	= PCIEDMA_KIND_MESSAGE,
	.c2h	= &capric_engine,
	.h2c	= &capric_engine,
};

/* driver_data of the id with another subsystem; of an id that the user adds it is 0 */
#define CAPRIC_ID_SHARED	1

static const struct pci_device_id capric_ids[] = {
	{ PCI_DEVICE_SUB(CAPRIC_VENDOR_ID, CAPRIC_DEVICE_ID,
			 CAPRIC_SUBVENDOR_ID, CAPRIC_SUBDEVICE_ID) },
	{ PCI_DEVICE(CAPRIC_VENDOR_ID, CAPRIC_DEVICE_ID), .driver_data = CAPRIC_ID_SHARED },
	{ }
};
MODULE_DEVICE_TABLE(pci, capric_ids);

/*
 * 10EE:0007 is also the default id of the Xilinx XAPP1052 reference design.
 * There is no identity register: the subsystem id and the BAR's length decide,
 * and the user, who may have added an id (ids=, new_id).
 */
static int capric_identify(struct pciedma_card *card, const struct pci_device_id *id)
{
	struct pci_dev *pdev = pciedma_card_pdev(card);
	struct capric *capric = pciedma_card_priv(card);

	if (id->driver_data == CAPRIC_ID_SHARED) {
		pci_info(pdev, "not a capric card: subsystem id %04x:%04x\n",
			 pdev->subsystem_vendor, pdev->subsystem_device);
		return -ENODEV;
	}
	capric->bar = pciedma_card_map(card, CAPRIC_BAR, CAPRIC_BAR_LENGTH, CAPRIC_BAR_LENGTH);
	if (IS_ERR(capric->bar))
		return PTR_ERR(capric->bar);
	spin_lock_init(&capric->lock);
	return pciedma_channel_add(card, &capric_channel);
}

static int capric_init(struct pciedma_card *card)
{
	struct capric *capric = pciedma_card_priv(card);

	writel(DCSR1_INIT_RST_O, capric->bar + DCSR1);
	if (PCI_POSSIBLE_ERROR(readl(capric->bar + DCSR1)))
		return -ENODEV;
	udelay(CAPRIC_RESET_US);
	capric->dcsr1 = 0;
	writel(capric->dcsr1, capric->bar + DCSR1);
	return 0;
}

/* Out of its reset again, as a reset of the function leaves it. */
static void capric_exit(struct pciedma_card *card)
{
	capric_init(card);
}

/* The start bit last: a size register that is not 0 starts at once. */
static void capric_start(struct pciedma_engine *engine, struct pciedma_cursor *cursor)
{
	struct capric_engine *priv = pciedma_engine_priv(engine);
	const struct capric_map *map = to_map(engine);
	struct capric *capric = to_capric(engine);
	struct pciedma_segment segment;

	if (!pciedma_cursor_next(cursor, &segment))
		return;
	priv->length = segment.length;
	writel(lower_32_bits(segment.dma), capric->bar + map->address);
	writel(segment.length, capric->bar + map->size);
	writel(map->start, capric->bar + DCSR2);
}

static int capric_reap(struct pciedma_engine *engine)
{
	struct capric_engine *priv = pciedma_engine_priv(engine);
	const struct capric_map *map = to_map(engine);
	struct capric *capric = to_capric(engine);
	u32 status = readl(capric->bar + INT_REG);

	if (PCI_POSSIBLE_ERROR(status))
		return -ENODEV;
	if (!(status & map->done))
		return 0;
	writel(map->done, capric->bar + INT_REG);
	pciedma_segment_done(engine, priv->length, 0);
	return 1;
}

/* Only DMA reads get completions, so only they can have gone wrong. */
static bool capric_error(struct pciedma_engine *engine, bool busy)
{
	struct capric *capric = to_capric(engine);
	u32 error;

	if (!busy || pciedma_engine_direction(engine) != PCIEDMA_H2C)
		return false;
	error = readl(capric->bar + ERR) & (ERR_UNEXPECTED | ERR_UR | ERR_CA);
	if (!error)
		return false;
	dev_err_ratelimited(&pciedma_card_pdev(pciedma_engine_card(engine))->dev,
			    "DMA read failed:%s%s%s\n",
			    error & ERR_UNEXPECTED ? " unexpected completion" : "",
			    error & ERR_UR ? " unsupported request" : "",
			    error & ERR_CA ? " completer abort" : "");
	pciedma_engine_fail(engine, -EIO);
	return true;
}

static bool capric_stray(struct pciedma_engine *engine, bool busy)
{
	const struct capric_map *map = to_map(engine);
	struct capric *capric = to_capric(engine);
	u32 status = readl(capric->bar + INT_REG);

	if (PCI_POSSIBLE_ERROR(status))
		return false;
	if (capric_error(engine, busy))
		return true;
	if (!busy && (status & map->done))
		writel(map->done, capric->bar + INT_REG);
	return status & INT_REG_INT_ASSERTED;
}

static void capric_halt(struct pciedma_engine *engine)
{
	struct capric *capric = to_capric(engine);

	writel(DCSR1_INIT_RST_O, capric->bar + DCSR1);
}

static int capric_idle(struct pciedma_engine *engine)
{
	struct capric *capric = to_capric(engine);
	u32 status = readl(capric->bar + DCSR2);

	if (PCI_POSSIBLE_ERROR(status))
		return -ENODEV;
	return !(status & to_map(engine)->start);
}

static void capric_irq(struct pciedma_engine *engine, bool on)
{
	const struct capric_map *map = to_map(engine);
	struct capric *capric = to_capric(engine);

	guard(spinlock_irqsave)(&capric->lock);
	capric->dcsr1 = on ? capric->dcsr1 | map->interrupt : capric->dcsr1 & ~map->interrupt;
	writel(capric->dcsr1, capric->bar + DCSR1);
}

static const struct pciedma_card_type capric_type = {
	.name		= "capric",
	.card_priv	= sizeof(struct capric),
	.engine_priv	= sizeof(struct capric_engine),
	.vectors	= 1,
	.ops		= {
		.identify	= capric_identify,
		.init		= capric_init,
		.exit		= capric_exit,
		.start		= capric_start,
		.reap		= capric_reap,
		.stray		= capric_stray,
		.halt		= capric_halt,
		.idle		= capric_idle,
		.irq		= capric_irq,
	},
};

static struct pciedma_driver capric_driver = {
	.pci	= {
		.name		= "pciedma_capric",
		.id_table	= capric_ids,
	},
	.type	= &capric_type,
};
module_pciedma_driver(capric_driver);

MODULE_DESCRIPTION("pciedma back end for the Capric card");
MODULE_LICENSE("GPL");
