// SPDX-License-Identifier: GPL-2.0-only
/*
 * XDMA's engines: chained descriptors, up to four channels each way.
 *
 * Each engine walks a ring of linked descriptors for ever: descriptor credits
 * say how far it may go, and it writes its progress to memory. So a transfer
 * costs one register write, and a look at its end none.
 */
#include <linux/bitfield.h>

#include "xdma.h"

#define STATUS_PROGRESS	(STATUS_DESCRIPTOR_COMPLETED | STATUS_DESCRIPTOR_STOPPED)
#define IE_ERRORS	(STATUS_MAGIC_STOPPED | STATUS_READ_ERROR | STATUS_WRITE_ERROR | \
			 STATUS_DESCRIPTOR_ERROR | STATUS_ALIGN_MISMATCH | STATUS_INVALID_LENGTH)
/* Reserved in C2H channels: everywhere, and only in IRQ_MASK. */
#define NOT_OF_C2H	STATUS_WRITE_ERROR
#define NOT_MASKED_OF_C2H (STATUS_WRITE_ERROR | STATUS_ALIGN_MISMATCH | STATUS_INVALID_LENGTH)
#define CONTROL_RUNNING	(CONTROL_RUN | CONTROL_POLLMODE_WB | IE_ERRORS | \
			 STATUS_DESCRIPTOR_COMPLETED | STATUS_IDLE_STOPPED)

static struct device *to_dev(struct pciedma_engine *engine)
{
	return &pciedma_card_pdev(pciedma_engine_card(engine))->dev;
}

static u32 control_running(struct pciedma_engine *engine)
{
	bool c2h = pciedma_engine_direction(engine) == PCIEDMA_C2H;

	return c2h ? CONTROL_RUNNING & ~NOT_OF_C2H : CONTROL_RUNNING;
}

static u32 irq_mask_errors(struct pciedma_engine *engine)
{
	bool c2h = pciedma_engine_direction(engine) == PCIEDMA_C2H;

	return c2h ? IE_ERRORS & ~NOT_MASKED_OF_C2H : IE_ERRORS;
}

/* How many descriptors lie adjacent behind the one after ring[index], in one block. */
static u32 ring_adjacent(u32 index)
{
	u32 per_block = DESCRIPTOR_BLOCK / sizeof(struct xdma_descriptor);
	u32 next = (index + 1) % XDMA_RING_LENGTH;

	return min_t(u32, ADJACENT_MAX, per_block - 1 - next % per_block);
}

static void ring_init(struct xdma_engine *priv)
{
	u32 i;

	for (i = 0; i < XDMA_RING_LENGTH; i++)
		priv->ring[i].next = cpu_to_le64(priv->ring_dma + (i + 1) % XDMA_RING_LENGTH *
						 sizeof(struct xdma_descriptor));
}

/* The card was reset, or is new: nothing is under way. */
void xdma_engine_init(struct pciedma_engine *engine)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);
	dma_addr_t dma;

	priv->regs = xdma_engine_regs(engine);
	priv->ring = pciedma_engine_memory(engine, &dma);
	priv->ring_dma = dma;
	priv->record = (void *)priv->ring + XDMA_RECORD_OFFSET;
	priv->state = XDMA_STOPPED;
	priv->irq = false;
	priv->head = 0;
	priv->tail = 0;
	priv->adjacent = 0;
	ring_init(priv);
	writel(lower_32_bits(dma), priv->regs + XDMA_SGDMA + FIRST_DESCRIPTOR_LO);
	writel(upper_32_bits(dma), priv->regs + XDMA_SGDMA + FIRST_DESCRIPTOR_HI);
	writel(0, priv->regs + XDMA_SGDMA + FIRST_ADJACENT);
	writel(lower_32_bits(dma + XDMA_RECORD_OFFSET), priv->regs + POLL_ADDRESS_LO);
	writel(upper_32_bits(dma + XDMA_RECORD_OFFSET), priv->regs + POLL_ADDRESS_HI);
	writel(irq_mask_errors(engine), priv->regs + IRQ_MASK);
}

/* All of a descriptor but its control, which makes it valid; returns that. */
static u32 write_descriptor(struct xdma_engine *priv, const struct pciedma_segment *segment)
{
	u32 index = priv->head++ % XDMA_RING_LENGTH;
	struct xdma_descriptor *descriptor = &priv->ring[index];
	bool c2h = segment->direction == PCIEDMA_C2H;

	descriptor->length = cpu_to_le32(segment->length);
	descriptor->source = cpu_to_le64(c2h ? segment->address : segment->dma);
	descriptor->destination = cpu_to_le64(c2h ? segment->dma : segment->address);
	return DESCRIPTOR_MAGIC | FIELD_PREP(DESCRIPTOR_ADJACENT, ring_adjacent(index)) |
	       (segment->notify ? DESCRIPTOR_COMPLETED : 0);
}

static void write_control(struct xdma_engine *priv, u32 number, u32 control)
{
	priv->ring[number % XDMA_RING_LENGTH].control = cpu_to_le32(control);
}

/*
 * Descriptors behind the last valid one are announced as adjacent, and a core
 * may fetch them although no credit allows it. So the one behind it has no
 * magic: none of those behind, with addresses of old, is ever executed. There
 * always is one, since the hardware has at most CREDITS_MAX, one less than the
 * ring. The first that is added takes its place: it becomes valid when all
 * others are. Returns how many were added.
 */
static u32 ring_add(struct xdma_engine *priv, struct pciedma_cursor *cursor)
{
	struct pciedma_segment segment;
	u32 first = priv->head;
	u32 first_control, control;

	if (!pciedma_cursor_next(cursor, &segment))
		return 0;
	first_control = write_descriptor(priv, &segment);
	while (pciedma_cursor_next(cursor, &segment)) {
		control = write_descriptor(priv, &segment);
		write_control(priv, priv->head - 1, control);
	}
	write_control(priv, priv->head, 0);
	dma_wmb();
	write_control(priv, first, first_control);
	return priv->head - first;
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
		write_control(priv, i, control);
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
static void engine_run(struct pciedma_engine *engine)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);

	WRITE_ONCE(*priv->record, 0);
	dma_wmb();
	writel(CONTROL_RUN, priv->regs + CONTROL_W1C);
	writel(control_running(engine), priv->regs + CONTROL);
	priv->state = XDMA_RUNNING;
}

static void start_chain(struct pciedma_engine *engine, struct pciedma_cursor *cursor)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);

	if (priv->state == XDMA_RUNNING && priv->head != priv->tail)
		return;
	priv->head = 0;
	priv->tail = 0;
	if (!ring_add(priv, cursor))
		return;
	chain_end(priv);
	set_adjacent(priv, min(ring_adjacent(XDMA_RING_LENGTH - 1), priv->head - 1));
	engine_run(engine);
}

static void start_ring(struct pciedma_engine *engine, struct pciedma_cursor *cursor)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);
	u32 added;

	if (priv->state != XDMA_RUNNING) {
		priv->head = 0;
		priv->tail = 0;
	}
	added = ring_add(priv, cursor);
	if (!added)
		return;
	if (priv->state != XDMA_RUNNING) {
		set_adjacent(priv, ring_adjacent(XDMA_RING_LENGTH - 1));
		engine_run(engine);
	}
	dma_wmb();
	writel(added, priv->regs + XDMA_SGDMA + CREDITS);
}

/* One register write, but for the first of an engine that does not run. */
void xdma_start(struct pciedma_engine *engine, struct pciedma_cursor *cursor)
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

/*
 * Report what is completed up to a count modulo 2^24; returns how many, or -EIO.
 * The count may be an old one: the record is only written at some descriptors,
 * and late on some cores.
 */
static int report(struct pciedma_engine *engine, u32 count)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);
	u32 done = (count - priv->tail) & RECORD_COUNT;

	if (((priv->tail - count) & RECORD_COUNT) <= XDMA_RING_LENGTH)
		return 0;
	if (done > priv->head - priv->tail) {
		dev_err_ratelimited(to_dev(engine), "completed count %u is impossible\n", count);
		return -EIO;
	}
	priv->tail += done;
	pciedma_segments_done(engine, done);
	return done;
}

/*
 * The engine stops at the first descriptor that is not completed. It may still
 * be busy now: what it has done is reported when it reads idle.
 */
static void engine_error(struct pciedma_engine *engine, u32 status)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);
	bool h2c = pciedma_engine_direction(engine) == PCIEDMA_H2C;

	writel(status & ~STATUS_BUSY, priv->regs + STATUS);
	if (priv->state == XDMA_FAILED)
		return;
	dev_err_ratelimited(to_dev(engine), "%s channel %u: error %s: %s (status 0x%08x, descriptor %u)\n",
			    h2c ? "H2C" : "C2H", pciedma_engine_desc(engine)->number,
			    xdma_error_place(status, h2c), xdma_error_name(status, h2c), status,
			    readl(priv->regs + COMPLETED_COUNT));
	if (priv->state != XDMA_STOPPED)
		priv->state = XDMA_FAILED;
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
	u32 status;
	int ret;

	if (record & RECORD_ERROR) {
		status = readl(priv->regs + STATUS);
		if (PCI_POSSIBLE_ERROR(status))
			return -ENODEV;
		engine_error(engine, status);
		return 0;
	}
	ret = report(engine, record & RECORD_COUNT);
	if (ret > 0 && priv->irq)
		ret = reap_interrupted(engine, ret);
	return ret;
}

/* Behind an error: the first descriptor not completed has failed, the others have not begun. */
static int reap_failed(struct pciedma_engine *engine)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);
	u32 status = readl(priv->regs + STATUS);
	int done;

	if (PCI_POSSIBLE_ERROR(status))
		return -ENODEV;
	if (status & STATUS_BUSY)
		return 0;
	done = report(engine, readl(priv->regs + COMPLETED_COUNT) & RECORD_COUNT);
	if (done < 0)
		return done;
	priv->state = XDMA_STOPPED;
	if (priv->head == priv->tail)
		return done;
	pciedma_segment_done(engine, 0, -EIO);
	return done + 1;
}

/* Told to stop: the last descriptor that it finishes may fail, too. */
static int reap_halted(struct pciedma_engine *engine)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);
	u32 status = readl(priv->regs + STATUS);
	u32 count;

	if (PCI_POSSIBLE_ERROR(status))
		return -ENODEV;
	if (check_error(engine, status))
		return reap_failed(engine);
	count = readl(priv->regs + COMPLETED_COUNT);
	return PCI_POSSIBLE_ERROR(count) ? -ENODEV : report(engine, count & RECORD_COUNT);
}

int xdma_reap(struct pciedma_engine *engine)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);

	switch (priv->state) {
	case XDMA_RUNNING:
		return reap_running(engine);
	case XDMA_FAILED:
		return reap_failed(engine);
	case XDMA_HALTED:
		return reap_halted(engine);
	default:
		return 0;
	}
}

bool xdma_stray(struct pciedma_engine *engine, bool busy)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);
	u32 status, count;
	bool raised;

	if (!xdma_engine_serves(engine))
		return false;
	status = readl(priv->regs + STATUS);
	if (PCI_POSSIBLE_ERROR(status)) {
		if (busy)
			pciedma_engine_fail(engine, -EIO);
		return false;
	}
	if (check_error(engine, status))
		return true;
	raised = priv->irq && (status & STATUS_DESCRIPTOR_COMPLETED);
	if (raised)
		writel(status & ~STATUS_BUSY, priv->regs + STATUS);
	/* It knows of descriptors that the record does not tell of; and flushes the write. */
	count = readl(priv->regs + COMPLETED_COUNT);
	if (busy && priv->state == XDMA_RUNNING && !PCI_POSSIBLE_ERROR(count))
		report(engine, count & RECORD_COUNT);
	return raised;
}

/* What is under way is finished first. */
void xdma_halt(struct pciedma_engine *engine)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);

	if (!xdma_engine_serves(engine))
		return;
	writel(CONTROL_RUN, priv->regs + CONTROL_W1C);
	if (priv->state == XDMA_RUNNING)
		priv->state = XDMA_HALTED;
}

/* As a reset leaves it: whoever drives the card next finds nothing of ours switched on. */
void xdma_engine_exit(struct pciedma_engine *engine)
{
	void __iomem *regs = xdma_engine_regs(engine);

	writel(0, regs + CONTROL);
	writel(0, regs + IRQ_MASK);
	writel(0, regs + POLL_ADDRESS_LO);
	writel(0, regs + POLL_ADDRESS_HI);
	writel(0, regs + XDMA_SGDMA + FIRST_DESCRIPTOR_LO);
	writel(0, regs + XDMA_SGDMA + FIRST_DESCRIPTOR_HI);
	writel(0, regs + XDMA_SGDMA + FIRST_ADJACENT);
	readl(regs + STATUS_CLEARED);
}

int xdma_idle(struct pciedma_engine *engine)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);
	u32 status;

	if (!xdma_engine_serves(engine))
		return 1;
	status = readl(priv->regs + STATUS);
	if (PCI_POSSIBLE_ERROR(status))
		return -ENODEV;
	return !(status & STATUS_BUSY);
}

/* A cause that stands would interrupt at once; what was completed before is looked for. */
void xdma_irq(struct pciedma_engine *engine, bool on)
{
	struct xdma_engine *priv = pciedma_engine_priv(engine);

	priv->irq = on;
	if (on)
		writel(STATUS_PROGRESS, priv->regs + STATUS);
	writel(STATUS_DESCRIPTOR_COMPLETED, priv->regs + (on ? IRQ_MASK_W1S : IRQ_MASK_W1C));
}
