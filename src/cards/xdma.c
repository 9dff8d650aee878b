// SPDX-License-Identifier: GPL-2.0-only
/*
 * AMD/Xilinx's DMA/Bridge Subsystem for PCI Express: which cards are such, what
 * they have, and their interrupts.
 */
#include <linux/bitfield.h>
#include <linux/ctype.h>
#include <linux/delay.h>
#include <linux/iopoll.h>

#include "xdma.h"

#define DRAIN_MS	1000
#define INIT_IDLE_US	100000
#define BUFFERS		8
#define BUFFER_BYTES	SZ_16K

static char *memory_size = "0";
static u64 memory_bytes;

/* Exactly, unlike memparse(), and no more than a file can have. Returns 0 or an errno. */
static int memory_size_parse(const char *text, u64 *bytes)
{
	static const char suffixes[] = "KMGTP";
	size_t length = strlen(text);
	char digits[24] = "";
	const char *suffix;
	unsigned int shift;
	int ret;

	suffix = length ? strchr(suffixes, toupper(text[length - 1])) : NULL;
	shift = suffix ? 10 * (suffix - suffixes + 1) : 0;
	length -= !!suffix;
	if (!length || length >= sizeof(digits) || !isdigit(text[0]) || !isxdigit(text[length - 1]))
		return -EINVAL;
	memcpy(digits, text, length);
	ret = kstrtou64(digits, tolower(digits[1]) == 'x' ? 16 : 10, bytes);
	if (ret)
		return ret;
	if (*bytes > (u64)LLONG_MAX >> shift)
		return -ERANGE;
	*bytes <<= shift;
	return 0;
}

static int memory_size_set(const char *text, const struct kernel_param *param)
{
	if (memory_size_parse(text, &memory_bytes)) {
		pr_err("pciedma: memory_size=: \"%s\" is not a number of bytes up to 2^63-1, decimal or 0x and hexadecimal, with K, M, G, T, P or nothing behind it\n",
		       text);
		return -EINVAL;
	}
	return param_set_charp(text, param);
}

static const struct kernel_param_ops memory_size_ops = {
	.set	= memory_size_set,
	.get	= param_get_charp,
	.free	= param_free_charp,
};

module_param_cb(memory_size, &memory_size_ops, &memory_size, 0444);
__MODULE_PARM_TYPE(memory_size, "charp");
MODULE_PARM_DESC(memory_size, "bytes of card memory (suffix K, M, G, T, P); 0: unknown, no limit");

static bool credits = true;
module_param(credits, bool, 0444);
MODULE_PARM_DESC(credits, "use descriptor credits; off: a chain at a time, for cores without them");

static u32 target(void __iomem *regs)
{
	return FIELD_GET(IDENTIFIER_TARGET, readl(regs + IDENTIFIER));
}

/* Only reads, and only where the core is expected: other BARs belong to the user's logic. */
static bool xdma_is_config(struct pci_dev *pdev, int bar)
{
	resource_size_t length = pci_resource_len(pdev, bar);
	void __iomem *regs;
	bool found;

	if (!(pci_resource_flags(pdev, bar) & IORESOURCE_MEM) || length < XDMA_BAR_MIN ||
	    length > XDMA_BAR_MAX)
		return false;
	regs = pci_iomap(pdev, bar, 0);
	if (!regs)
		return false;
	found = target(regs + XDMA_IRQ) == TARGET_IRQ &&
		target(regs + XDMA_CONFIG) == TARGET_CONFIG;
	pci_iounmap(pdev, regs);
	return found;
}

/*
 * The BARs that there are come in the order user, DMA, bypass, of which the
 * first and the last may be missing. Of two, the second is asked first: if it
 * is the bypass, a read does no harm there.
 */
static int xdma_find_config(struct pci_dev *pdev)
{
	static const int order[][3] = { { }, { 0 }, { 1, 0 }, { 1 } };
	static const int tries[] = { 0, 1, 2, 1 };
	int bars[PCI_STD_NUM_BARS];
	int count = 0;
	int i;

	for (i = 0; i < PCI_STD_NUM_BARS; i++)
		if (pci_resource_len(pdev, i))
			bars[count++] = i;
	if (count >= ARRAY_SIZE(tries))
		return -ENODEV;
	for (i = 0; i < tries[count]; i++)
		if (xdma_is_config(pdev, bars[order[count][i]]))
			return bars[order[count][i]];
	return -ENODEV;
}

/* Returns whether the card has this channel in this direction. */
static bool xdma_has(struct xdma *xdma, enum pciedma_direction direction, unsigned int number,
		     u32 *identifier)
{
	*identifier = readl(xdma_channel_regs(xdma, direction, number) + IDENTIFIER);
	return FIELD_GET(IDENTIFIER_TARGET, *identifier) ==
	       (direction == PCIEDMA_H2C ? TARGET_H2C : TARGET_C2H) &&
	       FIELD_GET(IDENTIFIER_CHANNEL, *identifier) == number;
}

/* Describe an engine after its registers; its place in the vectors' order is set later. */
static struct pciedma_engine_desc *xdma_describe(struct xdma *xdma,
						 enum pciedma_direction direction,
						 unsigned int number)
{
	struct pciedma_engine_desc *desc = &xdma->engines[number * PCIEDMA_DIRECTIONS + direction];
	u32 alignments = readl(xdma_channel_regs(xdma, direction, number) + ALIGNMENTS);

	*desc = (struct pciedma_engine_desc) {
		.address_bits		= FIELD_GET(ALIGNMENTS_ADDRESS_BITS, alignments) ?: 64,
		.segments		= CREDITS_MAX,
		.max_segment		= DESCRIPTOR_LENGTH_MAX,
		.max_dma		= DESCRIPTOR_LENGTH_MAX,
		.address_alignment	= FIELD_GET(ALIGNMENTS_ADDRESS, alignments),
		.length_granularity	= FIELD_GET(ALIGNMENTS_LENGTH, alignments),
		.drain_ms		= DRAIN_MS,
		.halt_scope		= PCIEDMA_HALT_ENGINE,
		.buffers		= BUFFERS,
		.buffer_size		= BUFFER_BYTES,
		.memory_size		= XDMA_MEMORY_BYTES,
		.number			= number,
	};
	return desc;
}

/* One node for both directions of a number, unless one is memory and the other a stream. */
static int xdma_add_channels(struct pciedma_card *card, unsigned int number)
{
	static const enum pciedma_kind kinds[] = { PCIEDMA_KIND_MEMORY, PCIEDMA_KIND_STREAM };
	struct xdma *xdma = pciedma_card_priv(card);
	struct pciedma_engine_desc *descs[PCIEDMA_DIRECTIONS][ARRAY_SIZE(kinds)] = { };
	struct pciedma_channel_desc channel;
	enum pciedma_direction direction;
	u32 identifier;
	int ret = 0;
	int i;

	for (direction = 0; direction < PCIEDMA_DIRECTIONS; direction++) {
		if (!xdma_has(xdma, direction, number, &identifier))
			continue;
		if (FIELD_GET(IDENTIFIER_VERSION, identifier) < VERSION_2016_1) {
			pci_info(pciedma_card_pdev(card), "XDMA cores before 2016.1 have no poll mode\n");
			return -ENODEV;
		}
		descs[direction][!!(identifier & IDENTIFIER_STREAM)] =
			xdma_describe(xdma, direction, number);
		xdma->counts[direction]++;
	}
	for (i = 0; i < ARRAY_SIZE(kinds) && !ret; i++) {
		channel = (struct pciedma_channel_desc) {
			.kind	= kinds[i],
			.size	= kinds[i] == PCIEDMA_KIND_MEMORY ?
				  memory_bytes ?: PCIEDMA_SIZE_UNKNOWN : 0,
			.c2h	= descs[PCIEDMA_C2H][i],
			.h2c	= descs[PCIEDMA_H2C][i],
		};
		if (channel.c2h || channel.h2c)
			ret = pciedma_channel_add(card, &channel);
	}
	return ret;
}

/* H2C channels first, C2H channels behind the last H2C channel that there is. */
static unsigned int xdma_irq_number(struct xdma *xdma, enum pciedma_direction direction,
				    unsigned int number)
{
	return direction == PCIEDMA_H2C ? number : xdma->counts[PCIEDMA_H2C] + number;
}

/*
 * The user's logic: registers behind an AXI-Lite bus of 32 bits, which serves one doubleword at a
 * time, with a strobe for each byte of it; and, past the engines, the memory that they reach, or
 * whatever else the designer has put there: only a prefetchable BAR says that it is memory.
 */
static void xdma_add_windows(struct pciedma_card *card, int config)
{
	struct pci_dev *pdev = pciedma_card_pdev(card);
	struct pciedma_window_desc window;
	int bar;

	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		if (bar == config || !pci_resource_len(pdev, bar))
			continue;
		window = (struct pciedma_window_desc) {
			.name		= bar < config ? "user" : "bypass",
			.bar		= bar,
			.widths		= bar < config ? 1 | 2 | 4 : 1 | 2 | 4 | 8,
			.write_combining = bar > config &&
				(pci_resource_flags(pdev, bar) & IORESOURCE_PREFETCH),
			.mappable	= true,
		};
		/* Data move without it; the log has the reason. */
		pciedma_window_add(card, &window);
	}
}

static int xdma_identify(struct pciedma_card *card, const struct pci_device_id *id)
{
	struct pci_dev *pdev = pciedma_card_pdev(card);
	struct xdma *xdma = pciedma_card_priv(card);
	int bar = xdma_find_config(pdev);
	unsigned int i;
	int ret = 0;

	if (bar < 0) {
		pci_info(pdev, "not an XDMA card: no BAR with its identifiers where it has to be\n");
		return bar;
	}
	xdma->bar = pciedma_card_map(card, bar, XDMA_BAR_MIN, XDMA_BAR_MAX);
	if (IS_ERR(xdma->bar))
		return PTR_ERR(xdma->bar);
	for (i = 0; i < XDMA_CHANNELS && !ret; i++)
		ret = xdma_add_channels(card, i);
	if (ret)
		return ret;
	for (i = 0; i < XDMA_MAX_ENGINES; i++)
		xdma->engines[i].vector = xdma_irq_number(xdma, i % PCIEDMA_DIRECTIONS,
							  i / PCIEDMA_DIRECTIONS);
	xdma_add_windows(card, bar);
	pci_info(pdev, "XDMA core in BAR%d: %u H2C, %u C2H channels\n", bar,
		 xdma->counts[PCIEDMA_H2C], xdma->counts[PCIEDMA_C2H]);
	return xdma->counts[PCIEDMA_H2C] + xdma->counts[PCIEDMA_C2H] ? 0 : -ENODEV;
}

/* The core's bit of an engine's descriptor credits. */
static u32 credit_bit(struct pciedma_engine *engine)
{
	u32 bit = BIT(pciedma_engine_desc(engine)->number);

	return pciedma_engine_direction(engine) == PCIEDMA_H2C ? bit : bit << CREDIT_C2H_SHIFT;
}

/* Stop whatever the last driver left running. */
static int xdma_stop_all(struct pciedma_card *card)
{
	struct xdma *xdma = pciedma_card_priv(card);
	struct pciedma_engine *engine;
	void __iomem *regs;
	u32 status;

	writel(0, xdma->bar + XDMA_IRQ + CHANNEL_ENABLE);
	writel(0, xdma->bar + XDMA_IRQ + USER_ENABLE);
	pciedma_for_each_card_engine(card, engine) {
		regs = xdma_engine_regs(engine);
		writel(CONTROL_RUN | CONTROL_NON_INC, regs + CONTROL_W1C);
		if (readl_poll_timeout(regs + STATUS, status,
				       !(status & STATUS_BUSY) || PCI_POSSIBLE_ERROR(status), 50,
				       INIT_IDLE_US))
			return -EIO;
		if (PCI_POSSIBLE_ERROR(status))
			return -ENODEV;
	}
	return 0;
}

static void xdma_set_vector(struct xdma *xdma, u32 place, unsigned int number, unsigned int vector)
{
	void __iomem *reg = xdma->bar + XDMA_IRQ + place +
			    number / VECTORS_PER_REGISTER * sizeof(u32);
	unsigned int shift = number % VECTORS_PER_REGISTER * VECTOR_BITS;
	u32 value = readl(reg);

	value &= ~(GENMASK(VECTOR_BITS - 1, 0) << shift);
	writel(value | vector << shift, reg);
}

static int xdma_init(struct pciedma_card *card)
{
	struct xdma *xdma = pciedma_card_priv(card);
	struct pciedma_engine *engine;
	u32 wanted = 0;
	u32 irqs = 0;
	int ret, i;

	ret = xdma_stop_all(card);
	if (ret)
		return ret;
	pciedma_for_each_card_engine(card, engine) {
		if (!xdma_engine_serves(engine))
			continue;
		xdma_engine_init(engine);
		wanted |= credit_bit(engine);
		irqs |= BIT(pciedma_engine_desc(engine)->vector);
		xdma_set_vector(xdma, CHANNEL_VECTORS, pciedma_engine_desc(engine)->vector,
				pciedma_engine_vector(engine));
	}
	for (i = 0; i < XDMA_USER_IRQS; i++)
		xdma_set_vector(xdma, USER_VECTORS, i, pciedma_card_event_vector(card));
	writel(credits ? wanted : 0, xdma->bar + XDMA_COMMON + CREDIT_ENABLE);
	xdma->credits = credits && readl(xdma->bar + XDMA_COMMON + CREDIT_ENABLE) == wanted;
	writel(irqs, xdma->bar + XDMA_IRQ + CHANNEL_ENABLE_W1S);
	return 0;
}

static void xdma_exit(struct pciedma_card *card)
{
	struct xdma *xdma = pciedma_card_priv(card);
	struct pciedma_engine *engine;
	int i;

	if (xdma_stop_all(card))
		return;
	pciedma_for_each_card_engine(card, engine) {
		if (!xdma_engine_serves(engine))
			continue;
		xdma_engine_exit(engine);
		xdma_set_vector(xdma, CHANNEL_VECTORS, pciedma_engine_desc(engine)->vector, 0);
	}
	for (i = 0; i < XDMA_USER_IRQS; i++)
		xdma_set_vector(xdma, USER_VECTORS, i, 0);
	writel(0, xdma->bar + XDMA_COMMON + CREDIT_ENABLE);
	readl(xdma->bar + XDMA_COMMON + CREDIT_ENABLE);
}

static u32 xdma_events(struct pciedma_card *card)
{
	struct xdma *xdma = pciedma_card_priv(card);
	u32 lines = readl(xdma->bar + XDMA_IRQ + USER_REQUEST);

	if (PCI_POSSIBLE_ERROR(lines))
		return 0;
	writel(lines, xdma->bar + XDMA_IRQ + USER_ENABLE_W1C);
	return lines;
}

static void xdma_arm_events(struct pciedma_card *card, u32 lines)
{
	struct xdma *xdma = pciedma_card_priv(card);

	writel(lines, xdma->bar + XDMA_IRQ + USER_ENABLE_W1S);
}

static const struct pciedma_card_type xdma_type = {
	.name		= "xdma",
	.card_priv	= sizeof(struct xdma),
	.engine_priv	= sizeof(struct xdma_engine),
	.vectors	= XDMA_MAX_ENGINES + 1,
	.event_lines	= XDMA_USER_IRQS,
	.ops		= {
		.identify	= xdma_identify,
		.init		= xdma_init,
		.exit		= xdma_exit,
		.start		= xdma_start,
		.reap		= xdma_reap,
		.stray		= xdma_stray,
		.halt		= xdma_halt,
		.idle		= xdma_idle,
		.irq		= xdma_irq,
		.events		= xdma_events,
		.arm_events	= xdma_arm_events,
	},
};

#define XDMA_ID(_device)							\
	{ PCI_DEVICE(XDMA_VENDOR_ID, _device) }

/* Family, 0, generation, lanes (f: 16). Unrelated designs have these ids as well. */
static const struct pci_device_id xdma_ids[] = {
	XDMA_ID(0x9011), XDMA_ID(0x9012), XDMA_ID(0x9014), XDMA_ID(0x9018),
	XDMA_ID(0x9021), XDMA_ID(0x9022), XDMA_ID(0x9024), XDMA_ID(0x9028),
	XDMA_ID(0x9031), XDMA_ID(0x9032), XDMA_ID(0x9034), XDMA_ID(0x9038), XDMA_ID(0x903f),
	XDMA_ID(0x9041), XDMA_ID(0x9042), XDMA_ID(0x9044), XDMA_ID(0x9048),
	XDMA_ID(0x8011), XDMA_ID(0x8012), XDMA_ID(0x8014), XDMA_ID(0x8018),
	XDMA_ID(0x8021), XDMA_ID(0x8022), XDMA_ID(0x8024), XDMA_ID(0x8028),
	XDMA_ID(0x8031), XDMA_ID(0x8032), XDMA_ID(0x8034), XDMA_ID(0x8038),
	XDMA_ID(0x7011), XDMA_ID(0x7012), XDMA_ID(0x7014), XDMA_ID(0x7018),
	XDMA_ID(0x7021), XDMA_ID(0x7022), XDMA_ID(0x7024), XDMA_ID(0x7028),
	XDMA_ID(0x7031), XDMA_ID(0x7032), XDMA_ID(0x7034), XDMA_ID(0x7038),
	XDMA_ID(0x6828), XDMA_ID(0x6830), XDMA_ID(0x6928), XDMA_ID(0x6930),
	XDMA_ID(0x6a28), XDMA_ID(0x6a30), XDMA_ID(0x6d30),
	XDMA_ID(0x4808), XDMA_ID(0x4828), XDMA_ID(0x4908), XDMA_ID(0x4a28), XDMA_ID(0x4b28),
	XDMA_ID(0x2808),
	{ PCI_DEVICE(0x1d0f, 0xf000) },
	{ PCI_DEVICE(0x1d0f, 0xf001) },
	{ }
};
MODULE_DEVICE_TABLE(pci, xdma_ids);

static struct pciedma_driver xdma_driver = {
	.pci	= {
		.name		= "pciedma_xdma",
		.id_table	= xdma_ids,
	},
	.type	= &xdma_type,
};
module_pciedma_driver(xdma_driver);

MODULE_DESCRIPTION("pciedma back end for AMD/Xilinx's DMA for PCI Express (XDMA)");
MODULE_LICENSE("GPL");
