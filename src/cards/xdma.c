// SPDX-License-Identifier: GPL-2.0-only
/*
 * AMD/Xilinx's DMA/Bridge Subsystem for PCI Express: chained descriptors, up
 * to four channels each way.
 *
 * Each engine walks a ring of linked descriptors for ever: descriptor credits
 * say how far it may go, and it writes its progress to memory. So a transfer
 * costs one register write, and a look at its end none.
 */
#include <linux/bitfield.h>
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/iopoll.h>

#include <pciedma_card.h>

#include "xdma_regs.h"

#define RING_LENGTH	1024	/* descriptors; the hardware has at most CREDITS_MAX of them */
#define RING_BYTES	(RING_LENGTH * sizeof(struct xdma_descriptor))
#define RECORD_OFFSET	RING_BYTES
#define MEMORY_BYTES	(RECORD_OFFSET + sizeof(__le32))

#define DRAIN_MS	1000
#define INIT_IDLE_US	100000
#define BUFFERS		8
#define BUFFER_BYTES	SZ_16K
#define MAX_ENGINES	(XDMA_CHANNELS * PCIEDMA_DIRECTIONS)

#define STATUS_PROGRESS	(STATUS_DESCRIPTOR_COMPLETED | STATUS_DESCRIPTOR_STOPPED)
#define IE_ERRORS	(STATUS_MAGIC_STOPPED | STATUS_READ_ERROR | STATUS_WRITE_ERROR | \
			 STATUS_DESCRIPTOR_ERROR | STATUS_ALIGN_MISMATCH | STATUS_INVALID_LENGTH)
#define CONTROL_RUNNING	(CONTROL_RUN | CONTROL_POLLMODE_WB | IE_ERRORS | \
			 STATUS_DESCRIPTOR_COMPLETED | STATUS_IDLE_STOPPED)

static char *memory_size = "0";
module_param(memory_size, charp, 0444);
MODULE_PARM_DESC(memory_size, "bytes of card memory (suffix K, M, G, T); 0: unknown, no limit");

static bool credits = true;
module_param(credits, bool, 0444);
MODULE_PARM_DESC(credits, "use descriptor credits; off: a chain at a time, for cores without them");

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
	struct pciedma_engine_desc engines[MAX_ENGINES];
};

/**
 * enum xdma_state - where an engine is
 * @XDMA_STOPPED: not running, everything it had was reported
 * @XDMA_RUNNING: walks its ring
 * @XDMA_FAILED:  stopped by an error, which was reported
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

static struct xdma *to_xdma(struct pciedma_engine *engine)
{
	return pciedma_card_priv(pciedma_engine_card(engine));
}

static struct device *to_dev(struct pciedma_engine *engine)
{
	return &pciedma_card_pdev(pciedma_engine_card(engine))->dev;
}

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

static u32 channel_offset(enum pciedma_direction direction, unsigned int number)
{
	return (direction == PCIEDMA_H2C ? XDMA_H2C : XDMA_C2H) + number * XDMA_CHANNEL_STRIDE;
}

/* Returns whether the card has this channel in this direction. */
static bool xdma_has(struct xdma *xdma, enum pciedma_direction direction, unsigned int number,
		     u32 *identifier)
{
	*identifier = readl(xdma->bar + channel_offset(direction, number) + IDENTIFIER);
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
	u32 alignments = readl(xdma->bar + channel_offset(direction, number) + ALIGNMENTS);

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
		.memory_size		= MEMORY_BYTES,
		.number			= number,
	};
	return desc;
}

static u64 xdma_memory_size(void)
{
	return memparse(memory_size, NULL) ?: PCIEDMA_SIZE_UNKNOWN;
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
			.size	= kinds[i] == PCIEDMA_KIND_MEMORY ? xdma_memory_size() : 0,
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
	for (i = 0; i < MAX_ENGINES; i++)
		xdma->engines[i].vector = xdma_irq_number(xdma, i % PCIEDMA_DIRECTIONS,
							  i / PCIEDMA_DIRECTIONS);
	pci_info(pdev, "XDMA core in BAR%d: %u H2C, %u C2H channels\n", bar,
		 xdma->counts[PCIEDMA_H2C], xdma->counts[PCIEDMA_C2H]);
	return ret ?: xdma->counts[PCIEDMA_H2C] + xdma->counts[PCIEDMA_C2H] ? ret : -ENODEV;
}

/* How many descriptors lie adjacent behind the one after ring[index], in one block. */
static u32 ring_adjacent(u32 index)
{
	u32 per_block = DESCRIPTOR_BLOCK / sizeof(struct xdma_descriptor);
	u32 next = (index + 1) % RING_LENGTH;

	return min_t(u32, ADJACENT_MAX, per_block - 1 - next % per_block);
}

static void ring_init(struct xdma_engine *priv)
{
	u32 i;

	for (i = 0; i < RING_LENGTH; i++)
		priv->ring[i].next = cpu_to_le64(priv->ring_dma + (i + 1) % RING_LENGTH *
						 sizeof(struct xdma_descriptor));
}

static void engine_init(struct pciedma_engine *engine)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);
	struct xdma *xdma = to_xdma(engine);
	dma_addr_t dma;

	priv->regs = xdma->bar + channel_offset(pciedma_engine_direction(engine),
						pciedma_engine_desc(engine)->number);
	priv->ring = pciedma_engine_memory(engine, &dma);
	priv->ring_dma = dma;
	priv->record = (void *)priv->ring + RECORD_OFFSET;
	priv->state = XDMA_STOPPED;
	priv->irq = false;
	priv->head = 0;
	priv->tail = 0;
	priv->adjacent = 0;
	ring_init(priv);
	writel(lower_32_bits(dma), priv->regs + XDMA_SGDMA + FIRST_DESCRIPTOR_LO);
	writel(upper_32_bits(dma), priv->regs + XDMA_SGDMA + FIRST_DESCRIPTOR_HI);
	writel(0, priv->regs + XDMA_SGDMA + FIRST_ADJACENT);
	writel(lower_32_bits(dma + RECORD_OFFSET), priv->regs + POLL_ADDRESS_LO);
	writel(upper_32_bits(dma + RECORD_OFFSET), priv->regs + POLL_ADDRESS_HI);
	writel(IE_ERRORS, priv->regs + IRQ_MASK);
}

/* The core's bit of an engine's descriptor credits. */
static u32 credit_bit(struct pciedma_engine *engine)
{
	u32 bit = BIT(pciedma_engine_desc(engine)->number);

	return pciedma_engine_direction(engine) == PCIEDMA_H2C ? bit : bit << CREDIT_C2H_SHIFT;
}

static bool engine_serves(struct pciedma_engine *engine)
{
	return pciedma_engine_kind(engine) == PCIEDMA_KIND_MEMORY;
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
		regs = xdma->bar + channel_offset(pciedma_engine_direction(engine),
						  pciedma_engine_desc(engine)->number);
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
		if (!engine_serves(engine))
			continue;
		engine_init(engine);
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

static void write_descriptor(struct xdma_engine *priv, const struct pciedma_segment *segment)
{
	u32 index = priv->head++ % RING_LENGTH;
	struct xdma_descriptor *descriptor = &priv->ring[index];
	u32 control = DESCRIPTOR_MAGIC | FIELD_PREP(DESCRIPTOR_ADJACENT, ring_adjacent(index));
	bool c2h = segment->direction == PCIEDMA_C2H;

	if (segment->last)
		control |= DESCRIPTOR_COMPLETED;
	descriptor->control = cpu_to_le32(control);
	descriptor->length = cpu_to_le32(segment->length);
	descriptor->source = cpu_to_le64(c2h ? segment->address : segment->dma);
	descriptor->destination = cpu_to_le64(c2h ? segment->dma : segment->address);
}

/* End a chain: the last descriptor stops the engine, and no block reaches beyond it. */
static void chain_end(struct xdma_engine *priv)
{
	u32 control, i;

	for (i = 0; i < priv->head; i++) {
		control = le32_to_cpu(priv->ring[i].control) & ~DESCRIPTOR_ADJACENT;
		if (i + 1 < priv->head)
			control |= FIELD_PREP(DESCRIPTOR_ADJACENT,
					      min(ring_adjacent(i), priv->head - i - 2));
		else
			control |= DESCRIPTOR_STOP | DESCRIPTOR_COMPLETED;
		priv->ring[i].control = cpu_to_le32(control);
	}
}

static void set_adjacent(struct xdma_engine *priv, u32 adjacent)
{
	if (priv->adjacent == adjacent)
		return;
	priv->adjacent = adjacent;
	writel(adjacent, priv->regs + XDMA_SGDMA + FIRST_ADJACENT);
}

/* From the ring's beginning; a rising edge of Run clears count and status. */
static void engine_run(struct xdma_engine *priv)
{
	WRITE_ONCE(*priv->record, 0);
	dma_wmb();
	writel(CONTROL_RUN, priv->regs + CONTROL_W1C);
	writel(CONTROL_RUNNING, priv->regs + CONTROL);
	priv->state = XDMA_RUNNING;
}

static void start_chain(struct pciedma_engine *engine, struct pciedma_cursor *cursor)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);
	struct pciedma_segment segment;

	if (priv->state == XDMA_RUNNING && priv->head != priv->tail)
		return;
	priv->head = 0;
	priv->tail = 0;
	while (pciedma_cursor_next(cursor, &segment))
		write_descriptor(priv, &segment);
	if (!priv->head)
		return;
	chain_end(priv);
	set_adjacent(priv, min(ring_adjacent(RING_LENGTH - 1), priv->head - 1));
	engine_run(priv);
}

static void start_ring(struct pciedma_engine *engine, struct pciedma_cursor *cursor)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);
	struct pciedma_segment segment;
	u32 before;

	if (priv->state != XDMA_RUNNING) {
		priv->head = 0;
		priv->tail = 0;
	}
	before = priv->head;
	while (pciedma_cursor_next(cursor, &segment))
		write_descriptor(priv, &segment);
	if (priv->head == before)
		return;
	if (priv->state != XDMA_RUNNING) {
		set_adjacent(priv, ring_adjacent(RING_LENGTH - 1));
		engine_run(priv);
	}
	dma_wmb();
	writel(priv->head - before, priv->regs + XDMA_SGDMA + CREDITS);
}

static void xdma_start(struct pciedma_engine *engine, struct pciedma_cursor *cursor, bool more)
{
	if (to_xdma(engine)->credits)
		start_ring(engine, cursor);
	else
		start_chain(engine, cursor);
}

/* The data of what it counts as completed is there. */
static u32 read_record(struct xdma_engine *priv)
{
	u32 record = le32_to_cpu(READ_ONCE(*priv->record));

	dma_rmb();
	return record;
}

/* Report what is completed up to a count modulo 2^24; returns how many, or -EIO. */
static int report(struct pciedma_engine *engine, u32 count)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);
	u32 done = (count - priv->tail) & RECORD_COUNT;
	u32 i;

	if (done > priv->head - priv->tail) {
		dev_err_ratelimited(to_dev(engine), "completed count %u is impossible\n", count);
		return -EIO;
	}
	priv->tail += done;
	for (i = 0; i < done; i++)
		pciedma_segment_done(engine, PCIEDMA_SEGMENT_WHOLE, 0);
	return done;
}

static const char *error_name(u32 status, bool h2c)
{
	static const char * const pcie[] = {
		"unsupported request", "completer abort", "parity", "poisoned",
		"unexpected completion",
	};
	static const char * const axi[] = { "decode error", "slave error" };
	u32 on_pcie = FIELD_GET(STATUS_DESCRIPTOR_ERROR, status);
	u32 on_axi = FIELD_GET(STATUS_WRITE_ERROR, status);

	if (h2c)
		on_pcie |= FIELD_GET(STATUS_READ_ERROR, status);
	else
		on_axi |= FIELD_GET(STATUS_READ_ERROR, status);
	if (status & STATUS_MAGIC_STOPPED)
		return "bad magic in a descriptor";
	if (status & (STATUS_ALIGN_MISMATCH | STATUS_INVALID_LENGTH))
		return "alignment or length";
	if (on_pcie)
		return pcie[__ffs(on_pcie)];
	return on_axi && __ffs(on_axi) < ARRAY_SIZE(axi) ? axi[__ffs(on_axi)] : "unknown";
}

static const char *error_place(u32 status, bool h2c)
{
	if (status & STATUS_DESCRIPTOR_ERROR)
		return "fetching a descriptor";
	if (status & STATUS_READ_ERROR)
		return h2c ? "reading host memory" : "reading card memory";
	if (status & STATUS_WRITE_ERROR)
		return "writing card memory";
	return "checking a descriptor";
}

/* The engine has stopped at the first descriptor that is not completed. */
static void engine_error(struct pciedma_engine *engine, u32 status)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);
	bool h2c = pciedma_engine_direction(engine) == PCIEDMA_H2C;
	u32 count;

	writel(status & ~STATUS_BUSY, priv->regs + STATUS);
	if (priv->state == XDMA_FAILED)
		return;
	count = readl(priv->regs + COMPLETED_COUNT);
	dev_err_ratelimited(to_dev(engine), "%s channel %u: error %s: %s (status 0x%08x, descriptor %u)\n",
			    h2c ? "H2C" : "C2H", pciedma_engine_desc(engine)->number,
			    error_place(status, h2c), error_name(status, h2c), status, count);
	if (priv->state == XDMA_RUNNING && !PCI_POSSIBLE_ERROR(count)) {
		report(engine, count & RECORD_COUNT);
		if (priv->head != priv->tail)
			pciedma_segment_done(engine, 0, -EIO);
		priv->state = XDMA_FAILED;
	}
	pciedma_engine_fail(engine, -EIO);
}

/* Returns whether the status shows an error, which is then dealt with. */
static bool check_error(struct pciedma_engine *engine, u32 status)
{
	if (!(status & IE_ERRORS))
		return false;
	engine_error(engine, status);
	return true;
}

/*
 * By interrupt: clear its cause first, so that what is completed after the look
 * makes a new edge. The clearing write is still on its way then; it need only
 * be waited for if more is outstanding.
 */
static int reap_interrupted(struct pciedma_engine *engine, int found)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);
	u32 status;
	int more;

	writel(STATUS_PROGRESS, priv->regs + STATUS);
	if (priv->head == priv->tail)
		return found;
	status = readl(priv->regs + STATUS);
	if (PCI_POSSIBLE_ERROR(status) || check_error(engine, status))
		return found;
	more = report(engine, read_record(priv) & RECORD_COUNT);
	return more < 0 ? more : found + more;
}

static int reap_running(struct pciedma_engine *engine)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);
	u32 record = read_record(priv);
	int ret;

	if (record & RECORD_ERROR) {
		engine_error(engine, readl(priv->regs + STATUS));
		return 0;
	}
	ret = report(engine, record & RECORD_COUNT);
	if (ret > 0 && priv->irq)
		ret = reap_interrupted(engine, ret);
	return ret;
}

static int xdma_reap(struct pciedma_engine *engine)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);
	u32 count;

	switch (priv->state) {
	case XDMA_RUNNING:
		return reap_running(engine);
	case XDMA_HALTED:
		count = readl(priv->regs + COMPLETED_COUNT);
		return PCI_POSSIBLE_ERROR(count) ? -ENODEV : report(engine, count & RECORD_COUNT);
	default:
		return 0;
	}
}

static bool xdma_stray(struct pciedma_engine *engine, bool busy)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);
	u32 status;

	if (!engine_serves(engine))
		return false;
	status = readl(priv->regs + STATUS);
	if (PCI_POSSIBLE_ERROR(status)) {
		if (busy)
			pciedma_engine_fail(engine, -EIO);
		return false;
	}
	if (check_error(engine, status))
		return true;
	if (!(status & STATUS_DESCRIPTOR_COMPLETED) || !priv->irq)
		return false;
	writel(status & ~STATUS_BUSY, priv->regs + STATUS);
	readl(priv->regs + STATUS);
	if (busy && priv->state == XDMA_RUNNING)
		report(engine, read_record(priv) & RECORD_COUNT);
	return true;
}

/* What is under way is finished first. */
static void xdma_halt(struct pciedma_engine *engine)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);

	if (!engine_serves(engine))
		return;
	writel(CONTROL_RUN, priv->regs + CONTROL_W1C);
	if (priv->state == XDMA_RUNNING)
		priv->state = XDMA_HALTED;
}

static int xdma_idle(struct pciedma_engine *engine)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);
	u32 status;

	if (!engine_serves(engine))
		return 1;
	status = readl(priv->regs + STATUS);
	if (PCI_POSSIBLE_ERROR(status))
		return -ENODEV;
	return !(status & STATUS_BUSY);
}

/* A cause that stands would interrupt at once: whoever switches on looks afterwards. */
static void xdma_irq(struct pciedma_engine *engine, bool on)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);

	priv->irq = on;
	if (on)
		writel(STATUS_PROGRESS, priv->regs + STATUS);
	writel(STATUS_DESCRIPTOR_COMPLETED, priv->regs + (on ? IRQ_MASK_W1S : IRQ_MASK_W1C));
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
	.vectors	= MAX_ENGINES + 1,
	.event_lines	= XDMA_USER_IRQS,
	.ops		= {
		.identify	= xdma_identify,
		.init		= xdma_init,
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
	{ PCI_DEVICE(XDMA_VENDOR_ID, _device), .driver_data = PCIEDMA_ID_KNOWN }

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
	{ PCI_DEVICE(0x1d0f, 0xf000), .driver_data = PCIEDMA_ID_KNOWN },
	{ PCI_DEVICE(0x1d0f, 0xf001), .driver_data = PCIEDMA_ID_KNOWN },
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
