/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A card as hardware: its PCI function, registers, engines, interrupts, and its gate.
 *
 * Life times: from probe to the last close, embedded struct device. The PCI function, and with
 * it the registers and all memory that engines use, stays as long as somebody is inside the
 * gate, and until remove has ended.
 *
 * Order of locks, outermost first
 *   device_lock(pdev)         taken by the PCI core around probe, remove, resets
 *   card->reset_lock          one RESET at a time
 *   card->recovery_lock       one ladder at a time
 *   windows->lock             whether windows' registers may be touched; taken by faults with
 *                             mmap_lock held, so nothing under it may touch user memory
 *   channel->open_lock        exclusive opens
 *   handles->lock             an open file's buffers; taken by mmap() with mmap_lock held
 *   home->lock                what buffers of a channel are mapped for the card; taken by munmap()
 *                             with mmap_lock held, so nothing under either may touch user memory
 *   backlog->sift_lock        one walk over an open file's postponed requests at a time
 *   AIO's ctx_lock            held where the kernel cancels a request: hence no request
 *                             completes with an engine's lock held
 *   events->lock              listeners; never together with an engine's
 *   engine->lock              state, registers and source of one engine
 *   set->lock                 an open file's entries
 *   a back end's own locks
 * The recovery work only ever tries device_lock. Two engine locks are never held together.
 */
#ifndef PCIEDMA_CORE_CARD_H
#define PCIEDMA_CORE_CARD_H

#include <linux/completion.h>
#include <linux/device.h>
#include <linux/mutex.h>
#include <linux/percpu-refcount.h>
#include <linux/workqueue.h>

#include <pciedma_card.h>

#define PCIEDMA_MAX_CHANNELS	8
#define PCIEDMA_MAX_ENGINES	(PCIEDMA_MAX_CHANNELS * PCIEDMA_DIRECTIONS)
#define PCIEDMA_MAX_VECTORS	(PCIEDMA_MAX_ENGINES + 1)

/**
 * struct pciedma_card_user_ops - what resets, power, interrupts and removal tell to those who
 *                                give a card to user space
 *
 * But for @interrupt in process context, possibly with device_lock and recovery_lock held.
 */
struct pciedma_card_user_ops {
	/**
	 * @closing: From its return until @open nobody may touch registers. Calls fail with
	 * @error meanwhile, or wait if that is 0. May be called again.
	 */
	void (*closing)(struct pciedma_card *card, int error);
	/** @ready: The card was initialized: its event lines are off, and may be armed. */
	void (*ready)(struct pciedma_card *card);
	/** @open: Registers may be touched, unless the card has gone. */
	void (*open)(struct pciedma_card *card);
	/** @gone: From its return on nobody touches registers. */
	void (*gone)(struct pciedma_card *card);
	/** @wake: Something has changed for those who poll() its nodes. */
	void (*wake)(struct pciedma_card *card);
	/** @interrupt: One came on the vector of the event lines. Returns whether it was theirs. */
	bool (*interrupt)(struct pciedma_card *card);
};

/**
 * struct pciedma_vector - an interrupt vector of a card
 * @card:  the card
 * @index: its number
 * @engines: those that it serves
 * @num_engines: how many
 * @name:  what /proc/interrupts shows
 */
struct pciedma_vector {
	struct pciedma_card *card;
	unsigned int index;
	struct pciedma_engine *engines[PCIEDMA_MAX_ENGINES];
	unsigned int num_engines;
	char name[32];
};

/**
 * struct pciedma_recovery - how a card is stopped, and brought back
 * @work:         runs the ladder
 * @reset_lock:   one RESET at a time
 * @lock:         one ladder at a time; protects @held, @frozen, @reset_wanted and @reset_result
 * @held:         somebody else resets the card or has powered it down
 * @frozen:       after an error of the bus, not recovered yet
 * @reset_wanted: RESET was asked
 * @reset_result: what the last RESET led to
 * @reset_owner:  the task that resets the function from inside the ladder
 */
struct pciedma_recovery {
	struct work_struct work;
	struct mutex reset_lock; /* one RESET at a time */
	struct mutex lock; /* one ladder at a time */
	bool held;
	bool frozen;
	bool reset_wanted;
	int reset_result;
	struct task_struct *reset_owner;
};

/**
 * struct pciedma_card - a card
 * @dev:            its node's device
 * @pdev:           the PCI function; valid inside the gate and until remove ends
 * @type:           its back end
 * @user_ops:       who gives it to user space
 * @index:          its number
 * @gate:           a reference for each operation that is under way
 * @gate_closed:    the last of them has left
 * @mmio:           mapped BARs
 * @requested:      BARs that core has for itself, as a mask
 * @engines:        its engines by their numbers; NULL where there is none
 * @vectors:        its interrupt vectors
 * @num_vectors:    how many
 * @event_vector:   that of the event lines
 * @config:         configuration space as it was at probe, bus mastering off
 * @bars:           its base addresses
 * @stopped:        core has bus mastering off on purpose
 * @recovery:       how it is stopped, and brought back
 * @link_reported:  the port above reported an active link at probe
 * @lost:           the PCI function does not answer
 * @removed:        remove has begun
 * @resets:         function resets
 * @quarantined:    bytes in quarantine
 * @priv:           the back end's
 */
struct pciedma_card {
	struct device dev;
	struct pci_dev *pdev;
	const struct pciedma_card_type *type;
	const struct pciedma_card_user_ops *user_ops;
	int index;
	struct percpu_ref gate;
	struct completion gate_closed;
	void __iomem *mmio[PCI_STD_NUM_BARS];
	unsigned long requested;
	struct pciedma_engine *engines[PCIEDMA_MAX_ENGINES];
	struct pciedma_vector vectors[PCIEDMA_MAX_VECTORS];
	unsigned int num_vectors;
	unsigned int event_vector;
	struct pci_saved_state *config;
	u32 bars[PCI_STD_NUM_BARS];
	bool stopped;
	struct pciedma_recovery recovery;
	bool link_reported;
	bool lost;
	bool removed;
	atomic64_t resets;
	atomic64_t quarantined;
	void *priv;
};

/* Iterate over the engines that exist. */
#define pciedma_for_each_engine(card, engine)					\
	for ((engine) = pciedma_card_next_engine(card, 0); (engine);		\
	     (engine) = pciedma_card_next_engine(card, (engine)->index + 1))

static inline const struct pciedma_card_ops *pciedma_ops(const struct pciedma_card *card)
{
	return &card->type->ops;
}

/* Whether interrupts come as messages: MSI or MSI-X. Otherwise the card has a pin. */
static inline bool pciedma_card_uses_messages(const struct pciedma_card *card)
{
	return card->pdev->msi_enabled || card->pdev->msix_enabled;
}

/* gate.c */
int pciedma_gate_init(struct pciedma_card *card);
void pciedma_gate_close(struct pciedma_card *card);
bool pciedma_card_enter(struct pciedma_card *card);
void pciedma_card_stay(struct pciedma_card *card, unsigned int count);
void pciedma_card_leave(struct pciedma_card *card);
struct pciedma_engine *pciedma_card_next_engine(struct pciedma_card *card, unsigned int index);

/* work.c */
extern struct workqueue_struct *pciedma_workqueue;
void pciedma_work_within(struct delayed_work *work, s64 ns);

/* contract.c */
int pciedma_card_request(struct pciedma_card *card, int bar);

/* recovery.c */
void pciedma_recovery_init(struct pciedma_card *card);
int pciedma_card_reset(struct pciedma_card *card);
void pciedma_card_shut_down(struct pciedma_card *card);
bool pciedma_card_link_active(struct pciedma_card *card);
void pciedma_card_hold(struct pciedma_card *card);
void pciedma_card_freeze(struct pciedma_card *card);
int pciedma_card_go_on(struct pciedma_card *card);

/* power.c */
int pciedma_card_save_config(struct pciedma_card *card);
bool pciedma_card_config_lost(struct pciedma_card *card);
void pciedma_card_restore_config(struct pciedma_card *card);
extern const struct pci_error_handlers pciedma_error_handlers;
extern const struct dev_pm_ops pciedma_pm_ops;

/* irq.c */
int pciedma_irq_alloc(struct pciedma_card *card);
int pciedma_irq_request(struct pciedma_card *card);
void pciedma_irq_free(struct pciedma_card *card);

#endif /* PCIEDMA_CORE_CARD_H */
