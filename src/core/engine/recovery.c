// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ladder: how core makes sure that hardware cannot touch memory any more
 * before the memory goes back, after an error, a time-out, a signal, at a
 * reset, and at removal.
 *
 * Rungs: let what has begun end (drain); halt, and read back idle; reset the
 * function, and ask again; bus mastering off, read back, pending transactions
 * awaited. If nothing proves it, the memory is quarantined.
 */
#include <linux/delay.h>

#include "stop.h"

#define CONFIG_LOST	"configuration space was lost: memory space or bus mastering is off, or a BAR has changed"
#define RESET_TRIES	20	/* the function reset needs device_lock, and only tries it */
#define RESET_RETRY_MS	20

/* A pin that stays asserted while nobody may ask the card why would have its line shut off. */
static void card_pin(struct pciedma_card *card, bool on)
{
	if (!pciedma_card_uses_messages(card))
		pci_intx(card->pdev, on);
}

static int card_init(struct pciedma_card *card)
{
	struct pciedma_engine *engine;
	int ret;

	ret = pciedma_ops(card)->init(card);
	if (ret)
		return ret;
	pciedma_for_each_engine(card, engine) {
		guard(spinlock_irqsave)(&engine->lock);
		engine->irq_on = false;
		engine->state = PCIEDMA_ENGINE_PAUSED;
	}
	card_pin(card, true);
	card->user_ops->ready(card);
	card->user_ops->open(card);
	return 0;
}

/* The registers must not be touched while the function is reset. */
static int card_function_reset(struct pciedma_card *card, bool locked)
{
	int tries = RESET_TRIES;
	int ret;

	pciedma_engines_set_state(card, pciedma_all_engines(card), PCIEDMA_ENGINE_DEAF);
	card_pin(card, false);
	WRITE_ONCE(card->recovery.reset_owner, current);
	do {
		ret = locked ? pci_reset_function_locked(card->pdev) :
			       pci_try_reset_function(card->pdev);
		if (ret != -EAGAIN || READ_ONCE(card->removed))
			break;
		msleep(RESET_RETRY_MS);
	} while (--tries);
	WRITE_ONCE(card->recovery.reset_owner, NULL);
	if (!ret)
		atomic64_inc(&card->resets);
	return ret;
}

static void card_bus_master_on(struct pciedma_card *card)
{
	pci_set_master(card->pdev);
	WRITE_ONCE(card->stopped, false);
}

static bool card_bus_master_off(struct pciedma_card *card)
{
	u16 command;

	pci_clear_master(card->pdev);
	pci_read_config_word(card->pdev, PCI_COMMAND, &command);
	if (PCI_POSSIBLE_ERROR(command) || (command & PCI_COMMAND_MASTER))
		return false;
	return !pci_is_pcie(card->pdev) || pci_wait_for_pending_transaction(card->pdev);
}

/**
 * pciedma_card_link_active() - whether the port above reports the card's link as active
 * @card: the card
 *
 * Context: process.
 * Return: false if it is not, or if the port cannot tell.
 */
bool pciedma_card_link_active(struct pciedma_card *card)
{
	struct pci_dev *port = pci_upstream_bridge(card->pdev);
	u16 status;

	if (!port || !pci_is_pcie(port))
		return false;
	pcie_capability_read_word(port, PCI_EXP_LNKSTA, &status);
	return !PCI_POSSIBLE_ERROR(status) && (status & PCI_EXP_LNKSTA_DLLLA);
}

/* All ones prove nothing by themselves; a link that went down does. */
static bool card_disconnected(struct pciedma_card *card)
{
	return card->pdev->error_state == pci_channel_io_perm_failure ||
	       (card->link_reported && !pciedma_card_link_active(card));
}

/* The last rungs, for engines that neither a halt nor a reset could prove. */
static void card_give_up(struct pciedma_card *card)
{
	enum pciedma_proof proof = PCIEDMA_PROOF_NONE;
	bool config_lost = !card->lost && pciedma_card_config_lost(card);
	int error = card->lost ? -ENODEV : -EIO;

	if (card->lost ? card_disconnected(card) : card_bus_master_off(card))
		proof = PCIEDMA_PROOF_SAFE;
	if (!card->lost && !config_lost)
		WRITE_ONCE(card->stopped, true);
	pciedma_engines_settle(card, pciedma_all_engines(card), proof,
			       READ_ONCE(card->removed) ? -ENODEV : error);
	if (!card->recovery.frozen)
		card->user_ops->open(card); /* the user's logic may work, the engines or not */
	dev_err(&card->dev, "%s; %s%s\n",
		card->lost ? "the card does not answer" :
		config_lost ? CONFIG_LOST : "the card could not be stopped",
		proof == PCIEDMA_PROOF_SAFE ? "it cannot reach memory any more" :
				      "memory that it may reach is quarantined",
		READ_ONCE(card->removed) ? "" : "; only a reset can bring it back");
}

/*
 * From a card on which everything is paused and drained to one whose engines
 * all are proven idle. Returns whether they are.
 */
static bool card_reset_all(struct pciedma_card *card, bool locked)
{
	u32 all = pciedma_all_engines(card);
	int ret;

	pciedma_engines_halt(card, all, false);
	ret = card_function_reset(card, locked);
	if (ret && ret != -ENOTTY)
		dev_warn(&card->dev, "function reset failed: %d\n", ret);
	if (card_init(card) || pciedma_engines_wait_idle(card, all, false))
		return false;
	card_bus_master_on(card);
	return !pciedma_card_config_lost(card);
}

static bool card_present(struct pciedma_card *card)
{
	bool present = pci_device_is_present(card->pdev);

	WRITE_ONCE(card->lost, !present);
	return present;
}

/* Returns whether the configuration space is as it has to be. */
static bool card_restore_lost(struct pciedma_card *card)
{
	if (!pciedma_card_config_lost(card))
		return true;
	pciedma_card_restore_config(card);
	if (pciedma_card_config_lost(card))
		return false;
	dev_warn(&card->dev, CONFIG_LOST "; restored\n");
	return true;
}

/* Climb on when halting the engines did not help, or when a reset is wanted. */
static int card_climb(struct pciedma_card *card, bool locked)
{
	u32 all = pciedma_all_engines(card);

	if (card->recovery.frozen)
		pciedma_card_restore_config(card);
	pciedma_engines_pause(card, all);
	pciedma_engines_drain(card, all);
	if (card_present(card) && card_restore_lost(card) && card_reset_all(card, locked)) {
		card->recovery.frozen = false;
		pciedma_engines_settle(card, all, PCIEDMA_PROOF_USABLE,
				       READ_ONCE(card->removed) ? -ENODEV : -EIO);
		return 0;
	}
	card_give_up(card);
	return card->lost ? -ENODEV : -EIO;
}

/* Has a card that is halted said how far it came? */
static bool engines_unknown(struct pciedma_card *card, u32 mask)
{
	struct pciedma_engine *engine;

	pciedma_for_each_engine(card, engine)
		if ((mask & BIT(engine->index)) && READ_ONCE(engine->unknown))
			return true;
	return false;
}

/* What answers now may be another design, as only its user can know: nothing is written to it. */
static void card_cut_off(struct pciedma_card *card)
{
	pciedma_engines_pause(card, pciedma_all_engines(card));
	pciedma_engines_drain(card, pciedma_all_engines(card));
	card_give_up(card);
}

/* The first rungs, for engines in trouble and whatever one halt hits. */
static void card_help(struct pciedma_card *card, u32 troubled)
{
	bool whole = pciedma_card_halts_whole(card, troubled);
	u32 scope = whole ? pciedma_all_engines(card) : troubled;
	u32 unreported = 0;
	u32 busy;

	pciedma_engines_pause(card, scope);
	busy = pciedma_engines_drain(card, scope);
	if (pciedma_card_config_lost(card)) {
		card_cut_off(card);
		return;
	}
	if (busy && card_present(card)) {
		busy = pciedma_engines_halt(card, whole ? scope : busy, true);
		if (!busy && whole && card_init(card))
			busy = scope;
		if (!busy)
			unreported = pciedma_engines_unproven(card, scope);
	}
	if (busy || engines_unknown(card, scope))
		card_climb(card, false);
	else if (whole || (unreported && !pciedma_ops(card)->halt))
		pciedma_engines_settle(card, scope, PCIEDMA_PROOF_USABLE, -EIO);
	else
		pciedma_engines_settle(card, scope, PCIEDMA_PROOF_HALTED, -EIO);
}

static void engines_forgive(struct pciedma_card *card)
{
	struct pciedma_engine *engine;

	pciedma_for_each_engine(card, engine)
		pciedma_engine_forgive(engine);
}

static u32 engines_in_trouble(struct pciedma_card *card)
{
	struct pciedma_engine *engine;
	u32 mask = 0;

	pciedma_for_each_engine(card, engine) {
		guard(spinlock_irqsave)(&engine->lock);
		if (engine->trouble && engine->state != PCIEDMA_ENGINE_BROKEN)
			mask |= BIT(engine->index);
	}
	return mask;
}

/* Run the ladder for whoever asked. */
static void recovery_work(struct work_struct *work)
{
	struct pciedma_card *card = container_of(work, struct pciedma_card, recovery.work);
	u32 troubled;

	guard(mutex)(&card->recovery.lock);
	if (READ_ONCE(card->removed) || card->recovery.held)
		return;
	if (card->recovery.reset_wanted) {
		card->recovery.reset_wanted = false;
		card->recovery.reset_result = card_climb(card, false);
		if (!card->recovery.reset_result)
			engines_forgive(card);
	}
	troubled = engines_in_trouble(card);
	if (troubled)
		card_help(card, troubled);
}

/**
 * pciedma_recovery_init() - nothing has happened to a card
 * @card: the card
 *
 * Context: process.
 */
void pciedma_recovery_init(struct pciedma_card *card)
{
	mutex_init(&card->recovery.reset_lock);
	mutex_init(&card->recovery.lock);
	INIT_WORK(&card->recovery.work, recovery_work);
}

/**
 * pciedma_card_reset() - PCIEDMA_IOC_RESET
 * @card: the card
 *
 * Context: process, inside the gate.
 * Return: 0; -EIO if the card could not be proven idle; -EBUSY while somebody
 * else resets it; -ENODEV.
 */
int pciedma_card_reset(struct pciedma_card *card)
{
	guard(mutex)(&card->recovery.reset_lock);
	scoped_guard(mutex, &card->recovery.lock)
		card->recovery.reset_wanted = true;
	queue_work(pciedma_workqueue, &card->recovery.work);
	flush_work(&card->recovery.work);
	guard(mutex)(&card->recovery.lock);
	if (READ_ONCE(card->removed))
		return -ENODEV;
	if (!card->recovery.reset_wanted)
		return card->recovery.reset_result;
	card->recovery.reset_wanted = false;
	return -EBUSY;
}

/**
 * pciedma_card_shut_down() - stop everything for good
 * @card: being removed, its gate closed
 *
 * Ends all requests: those that had begun with what arrived, the others with
 * ENODEV.
 *
 * Context: process, device_lock held.
 */
void pciedma_card_shut_down(struct pciedma_card *card)
{
	u32 all = pciedma_all_engines(card);
	u32 busy;

	guard(mutex)(&card->recovery.lock);
	pciedma_engines_pause(card, all);
	if (!card->recovery.frozen && card_present(card))
		card_restore_lost(card);
	busy = card->recovery.frozen ? all : pciedma_engines_drain(card, all) |
					     pciedma_engines_with_memory(card);
	if (busy && !card->recovery.frozen && card_present(card)) {
		busy = pciedma_engines_halt(card, all, true);
		pciedma_engines_unproven(card, all);
	}
	if (busy)
		card_climb(card, true);
	else
		pciedma_engines_settle(card, all, PCIEDMA_PROOF_USABLE, -ENODEV);
}

/**
 * pciedma_card_hold() - stop, since somebody else is about to reset the card or power it down
 * @card: the card
 *
 * What had begun may end first; nothing is started, and no ladder climbed,
 * before pciedma_card_go_on(). May be called again.
 *
 * Context: process.
 */
void pciedma_card_hold(struct pciedma_card *card)
{
	u32 all = pciedma_all_engines(card);

	guard(mutex)(&card->recovery.lock);
	if (card->recovery.held)
		return;
	card->recovery.held = true;
	pciedma_engines_pause(card, all);
	if ((pciedma_engines_drain(card, all) | pciedma_engines_with_memory(card)) &&
	    !pciedma_engines_halt(card, all, true))
		pciedma_engines_unproven(card, all);
	pciedma_engines_set_state(card, all, PCIEDMA_ENGINE_DEAF);
	card_pin(card, false);
}

/**
 * pciedma_card_freeze() - the card cannot be reached, and may never be again
 * @card: the card
 *
 * All requests fail with EIO, and so do new ones before pciedma_card_go_on() or
 * a reset: not every kernel says that the bus did not recover.
 *
 * Context: process.
 */
void pciedma_card_freeze(struct pciedma_card *card)
{
	u32 all = pciedma_all_engines(card);

	guard(mutex)(&card->recovery.lock);
	if (card->recovery.frozen)
		return;
	card->recovery.frozen = true;
	pciedma_engines_set_state(card, all, PCIEDMA_ENGINE_DEAF);
	pciedma_engines_settle(card, all, PCIEDMA_PROOF_NONE, -EIO);
	dev_err(&card->dev, "the bus has failed; memory that the card may reach is quarantined until it recovers\n");
}

/**
 * pciedma_card_go_on() - the card was reset or powered up again
 * @card: the card
 *
 * What it had begun before fails with EIO, what was queued goes on.
 *
 * Context: process.
 * Return: 0; -EIO or -ENODEV if it does not work, and stays broken.
 */
int pciedma_card_go_on(struct pciedma_card *card)
{
	u32 all = pciedma_all_engines(card);
	int ret = 0;

	guard(mutex)(&card->recovery.lock);
	if (!card->recovery.held && !card->recovery.frozen)
		return 0;
	card->recovery.held = false;
	if (card_present(card) && !card_init(card) &&
	    !pciedma_engines_wait_idle(card, all, false)) {
		card->recovery.frozen = false;
		card_bus_master_on(card);
		pciedma_engines_settle(card, all, PCIEDMA_PROOF_USABLE, -EIO);
		engines_forgive(card);
	} else {
		card_give_up(card);
		ret = card->lost ? -ENODEV : -EIO;
	}
	return ret;
}
