/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What core and a card's back end agree on. A back end describes its engines
 * as data and implements the few operations of struct pciedma_card_ops; core
 * owns queues, memory, waiting, time-outs, files, recovery and removal.
 */
#ifndef PCIEDMA_CARD_H
#define PCIEDMA_CARD_H

#include <linux/module.h>
#include <linux/pci.h>

#include <uapi/pciedma.h>

/**
 * PCIEDMA_CONTRACT - number of what the modules of core and of a back end agree on
 *
 * Each back end has it compiled in, and core takes none with another, also where the kernel does
 * not compare the versions of symbols (CONFIG_MODVERSIONS, which Debian's newest lack).
 *
 * It is raised by one with each change after which a module that was compiled before would not
 * work: to a struct here, at its end too, to an enumeration, to a function's arguments; when core
 * calls an operation in other circumstances, or expects more of it. It stays with a new function,
 * and with one that is merely mended.
 */
#define PCIEDMA_CONTRACT	2

struct pciedma_card;
struct pciedma_cursor;
struct pciedma_engine;

/**
 * enum pciedma_direction - which way an engine moves data
 * @PCIEDMA_C2H: card to host: user space reads
 * @PCIEDMA_H2C: host to card: user space writes
 * @PCIEDMA_DIRECTIONS: how many there are
 */
enum pciedma_direction {
	PCIEDMA_C2H,
	PCIEDMA_H2C,
	PCIEDMA_DIRECTIONS,
};

/**
 * enum pciedma_halt_scope - what one halt stops
 * @PCIEDMA_HALT_NONE:   the engine cannot be stopped: it is waited for
 * @PCIEDMA_HALT_ENGINE: this engine alone; start works afterwards. Once it reads idle, what
 *                       reap does not report has never begun
 * @PCIEDMA_HALT_CARD:   every engine of the card; init is needed afterwards
 */
enum pciedma_halt_scope {
	PCIEDMA_HALT_NONE,
	PCIEDMA_HALT_ENGINE,
	PCIEDMA_HALT_CARD,
};

/**
 * struct pciedma_engine_desc - one engine, as data
 * @address_bits:       bits of host address that the engine drives; a memory engine with at
 *                      least 32 works on user memory directly
 * @segments:           segments that the engine holds at a time; 1: one DMA at a time
 * @max_segment:        most bytes of one segment; of a memory engine a multiple of each alignment
 * @max_dma:            most bytes of one request to a message engine
 * @segment_boundary:   a power of two, from 512 on, of which a segment of host memory may lie on
 *                      one side only; 0: none but 4 GiB, which holds for all. The least of a card's
 *                      engines holds for all of them
 * @host_alignment:     bytes to which host memory must be aligned, a power of two up to 4096; what
 *                      is not is copied. 0 means 1; @address_alignment and @length_granularity ask
 *                      for it in any case, as a segment ends where a page does
 * @address_alignment:  bytes to which the card's address must be aligned, a power of two up to
 *                      4096; 0 means 1
 * @length_granularity: bytes of which a length must be a multiple, such a power of two; 0 means 1
 * @drain_ms:           milliseconds after which a DMA that brought no progress counts as hung
 * @halt_scope:         what the halt operation stops
 * @buffers:            DMA buffers to preallocate
 * @buffer_size:        bytes of each; at least @max_dma for a message engine, such a multiple for a
 *                      memory engine
 * @vector:             interrupt vector that the engine would like; see pciedma_engine_vector()
 * @number:             the back end's own number for it
 * @memory_size:        bytes of coherent memory for descriptors and records; see
 *                      pciedma_engine_memory()
 * @irq_at_start:       whether a DMA interrupts is settled when it starts
 */
struct pciedma_engine_desc {
	u8 address_bits;
	u16 segments;
	u32 max_segment;
	u32 max_dma;
	u32 segment_boundary;
	u32 host_alignment;
	u32 address_alignment;
	u32 length_granularity;
	u16 drain_ms;
	enum pciedma_halt_scope halt_scope;
	u8 buffers;
	u32 buffer_size;
	u8 vector;
	u8 number;
	u32 memory_size;
	bool irq_at_start;
};

/**
 * struct pciedma_channel_desc - one channel: up to one engine each way
 * @kind: what it is for its user
 * @size: bytes of card memory, or PCIEDMA_SIZE_UNKNOWN; only for PCIEDMA_KIND_MEMORY
 * @c2h:  the engine that user space reads from, or NULL
 * @h2c:  the engine that user space writes to, or NULL; the same description
 *        as @c2h makes two engines unless @shared
 * @shared: @c2h and @h2c are one engine that moves data one way at a time
 */
struct pciedma_channel_desc {
	enum pciedma_kind kind;
	u64 size;
	const struct pciedma_engine_desc *c2h;
	const struct pciedma_engine_desc *h2c;
	bool shared;
};

/**
 * struct pciedma_window_desc - registers of the user's logic that user space may reach
 * @name:    1 to 15 small letters, digits and hyphens
 * @bar:     where they are
 * @offset:  bytes into the BAR; a multiple of the widest access
 * @length:  bytes, another; 0: the rest of the BAR
 * @widths:  accesses that the card's bus takes: a mask of 1, 2, 4 and 8 bytes
 * @write_combining: writes may be put together, and reads made early: memory, no registers
 * @mappable: programs may map it, if it is whole pages. The processor then makes accesses of
 *           any width, so none may do harm, and a page must hold nothing else
 *
 * Nothing in it may lead the card to memory that its DMA was not given, send interrupts, or
 * reset it.
 */
struct pciedma_window_desc {
	const char *name;
	int bar;
	resource_size_t offset;
	resource_size_t length;
	u8 widths;
	bool write_combining;
	bool mappable;
};

/**
 * struct pciedma_segment - one contiguous piece of work for an engine
 * @dma:     host bus address
 * @address: the card's address (memory channels)
 * @length:  bytes, never 0
 * @direction: which way it goes
 * @notify:  core wants to know of its end: ask for the interrupt here. So it is at the last
 *           segment of a transfer, and on a slow card at some others
 */
struct pciedma_segment {
	dma_addr_t dma;
	u64 address;
	u32 length;
	enum pciedma_direction direction;
	bool notify;
};

/**
 * struct pciedma_card_ops - what a back end does
 *
 * start, reap, stray, halt, irq and idle run under the engine's lock: all of these but halt
 * possibly in a hard interrupt, and so does events. The others run in process context.
 * docs/contract.md has a table of who calls what when.
 */
struct pciedma_card_ops {
	/**
	 * @identify: Decide whether this is the card: first from configuration
	 * space, then map its BAR with pciedma_card_map(), then by registers
	 * that are read only; add its channels. Nothing is written to a card
	 * that is not ours. Logs one line when declining with -ENODEV. Returns
	 * 0 or an errno.
	 */
	int (*identify)(struct pciedma_card *card, const struct pci_device_id *id);
	/**
	 * @init: Bring the card from any state in which it is idle, or will
	 * become so by itself, to one in which start works, the engines'
	 * interrupts off. No engine runs. Returns 0; -ENODEV if the registers
	 * read all ones; -EIO.
	 */
	int (*init)(struct pciedma_card *card);
	/**
	 * @exit: The card is let go of: leave it as a reset of the function does, so that
	 * another driver works next. All engines are idle, no interrupt is served.
	 * Optional.
	 */
	void (*exit)(struct pciedma_card *card);
	/**
	 * @start: Take as many segments from the cursor as the engine holds
	 * now, and start them.
	 */
	void (*start)(struct pciedma_engine *engine, struct pciedma_cursor *cursor);
	/**
	 * @reap: Call pciedma_segment_done() for each finished segment, in
	 * order, after it was acknowledged to the card: its memory, which goes
	 * back at once, was written, or fetched. Only called while
	 * segments are with the engine; also after a halt, before the next
	 * start. Returns how many had finished; -ENODEV if the registers read
	 * all ones; -EIO.
	 */
	int (*reap)(struct pciedma_engine *engine);
	/**
	 * @stray: An interrupt or a look brought no progress: clear what the
	 * engine signals although it is not busy; report what went wrong with
	 * pciedma_engine_fail() if it is. Optional. Returns whether the card
	 * had raised an interrupt.
	 */
	bool (*stray)(struct pciedma_engine *engine, bool busy);
	/**
	 * @halt: Stop the engine; its registers need not read idle yet. Nothing
	 * is started meanwhile. Absent if and only if the halt scope is
	 * PCIEDMA_HALT_NONE.
	 */
	void (*halt)(struct pciedma_engine *engine);
	/**
	 * @idle: Ask the hardware, by a read that also flushes posted writes,
	 * whether the engine can still touch memory. Returns 1 idle, 0 busy,
	 * -ENODEV if it reads all ones.
	 */
	int (*idle)(struct pciedma_engine *engine);
	/**
	 * @irq: Switch the completion interrupt of DMAs that end from now on
	 * (with irq_at_start: that start from now on). Posted writes will do:
	 * where segments are with the engine core flushes them by @idle, and
	 * looks once more, for what has ended before they took effect.
	 */
	void (*irq)(struct pciedma_engine *engine, bool on);
	/**
	 * @events: Ask the card which event lines are active, and switch these
	 * off. May run in a hard interrupt, under a lock of its own. Present
	 * if and only if the card has event lines. Returns a bit for each.
	 */
	u32 (*events)(struct pciedma_card *card);
	/** @arm_events: Switch event lines on; one that is active interrupts at once. */
	void (*arm_events)(struct pciedma_card *card, u32 lines);
};

/**
 * struct pciedma_card_type - one kind of card
 * @name:         its name: at most 15 characters
 * @card_priv:    bytes of zeroed private memory for each card
 * @engine_priv:  bytes of zeroed private memory for each engine; may be 0
 * @vectors:      most interrupt vectors that the card can use
 * @event_lines:  interrupt lines of the user's own logic
 * @ops:          its operations
 */
struct pciedma_card_type {
	const char *name;
	size_t card_priv;
	size_t engine_priv;
	u8 vectors;
	u8 event_lines;
	struct pciedma_card_ops ops;
};

/* For identify */
void __iomem *pciedma_card_map(struct pciedma_card *card, int bar, resource_size_t min,
			       resource_size_t max);
int pciedma_channel_add(struct pciedma_card *card, const struct pciedma_channel_desc *desc);
int pciedma_window_add(struct pciedma_card *card, const struct pciedma_window_desc *given);

/* At any time */
struct pci_dev *pciedma_card_pdev(struct pciedma_card *card);
void *pciedma_card_priv(struct pciedma_card *card);
struct pciedma_card *pciedma_engine_card(struct pciedma_engine *engine);
void *pciedma_engine_priv(struct pciedma_engine *engine);
const struct pciedma_engine_desc *pciedma_engine_desc(struct pciedma_engine *engine);
enum pciedma_direction pciedma_engine_direction(struct pciedma_engine *engine);
enum pciedma_kind pciedma_engine_kind(struct pciedma_engine *engine);
struct pciedma_engine *pciedma_card_engine(struct pciedma_card *card,
					   struct pciedma_engine *last);

/* Iterate over a card's engines, from init on. */
#define pciedma_for_each_card_engine(card, engine)				\
	for ((engine) = pciedma_card_engine(card, NULL); (engine);		\
	     (engine) = pciedma_card_engine(card, engine))
unsigned int pciedma_engine_vector(struct pciedma_engine *engine);
unsigned int pciedma_card_event_vector(struct pciedma_card *card);
void *pciedma_engine_memory(struct pciedma_engine *engine, dma_addr_t *dma);

/* For start, reap and stray */
#define PCIEDMA_SEGMENT_WHOLE	U32_MAX	/* all bytes of a segment arrived */
bool pciedma_cursor_next(struct pciedma_cursor *cursor, struct pciedma_segment *segment);
void pciedma_segment_done(struct pciedma_engine *engine, u32 bytes, int error);
void pciedma_segments_done(struct pciedma_engine *engine, u32 count);
void pciedma_engine_fail(struct pciedma_engine *engine, int error);

/**
 * struct pciedma_driver - a back end's PCI driver
 * @contract: PCIEDMA_CONTRACT as it was compiled in; filled in by module_pciedma_driver()
 * @pci:  filled in by core but for name and id_table
 * @type: the card
 *
 * Core reads @contract before it knows whether anything else is where it should be: neither its
 * place nor the first two arguments of __pciedma_driver_register() ever change.
 */
struct pciedma_driver {
	u32 contract;
	struct pci_driver pci;
	const struct pciedma_card_type *type;
};

int __pciedma_driver_register(struct pciedma_driver *driver, struct module *owner,
			      const char *ids);
void pciedma_driver_unregister(struct pciedma_driver *driver);

/**
 * module_pciedma_driver() - the whole of a back end's module boilerplate
 * @__driver: its struct pciedma_driver
 *
 * Adds the module parameter ids=vendor:device[:subvendor:subdevice],... by
 * which a user's own PCI ids are bound.
 */
#define module_pciedma_driver(__driver)						\
static char *ids;								\
module_param(ids, charp, 0444);							\
MODULE_PARM_DESC(ids, "more PCI ids, hexadecimal: vendor:device[:subvendor:subdevice],...");	\
static int __init __driver##_init(void)						\
{										\
	(__driver).contract = PCIEDMA_CONTRACT;					\
	return __pciedma_driver_register(&(__driver), THIS_MODULE, ids);		\
}										\
module_init(__driver##_init);							\
static void __exit __driver##_exit(void)					\
{										\
	pciedma_driver_unregister(&(__driver));					\
}										\
module_exit(__driver##_exit)

#endif /* PCIEDMA_CARD_H */
