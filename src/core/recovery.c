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

#include "core.h"
#include "trace.h"

#define HALT_MS		100	/* least time until a halted engine must read idle */
#define CONFIG_LOST	"configuration space was lost: memory space or bus mastering is off, or a BAR has changed"
#define RESET_TRIES	20	/* the function reset needs device_lock, and only tries it */
#define RESET_RETRY_MS	20

/* What the ladder found out of an engine. */
enum proof {
	PROOF_HALTED,	/* idle and ready to go on; what it had begun has been reported */
	PROOF_USABLE,	/* idle and ready to go on */
	PROOF_SAFE,	/* cannot touch memory, but does not work */
	PROOF_NONE,
};

static u32 all_engines(struct pciedma_card *card)
{
	struct pciedma_engine *engine;
	u32 mask = 0;

	pciedma_for_each_engine(card, engine)
		mask |= BIT(engine->index);
	return mask;
}

static void engines_set_state(struct pciedma_card *card, u32 mask, enum pciedma_engine_state state)
{
	struct pciedma_engine *engine;

	if (state == PCIEDMA_ENGINE_DEAF) {
		pciedma_events_silence(card);
		card->node_ops->closing(card, card->frozen ? -EIO : 0);
	}
	pciedma_for_each_engine(card, engine) {
		if (!(mask & BIT(engine->index)))
			continue;
		guard(spinlock_irqsave)(&engine->lock);
		engine->state = state;
	}
}

/* Start nothing more. An engine whose registers must not be touched stays so. */
static void engines_pause(struct pciedma_card *card, u32 mask)
{
	struct pciedma_engine *engine;

	pciedma_for_each_engine(card, engine) {
		if (!(mask & BIT(engine->index)))
			continue;
		guard(spinlock_irqsave)(&engine->lock);
		if (engine->state != PCIEDMA_ENGINE_DEAF)
			engine->state = PCIEDMA_ENGINE_PAUSED;
	}
}

/* Paused engines with memory that the hardware is not known to have left. */
static u32 engines_unproven(struct pciedma_card *card, u32 mask)
{
	struct pciedma_engine *engine;
	u32 busy = 0;

	pciedma_for_each_engine(card, engine) {
		if (!(mask & BIT(engine->index)))
			continue;
		pciedma_engine_look(engine);
		guard(spinlock_irqsave)(&engine->lock);
		if (pciedma_engine_inflight(engine) || engine->parked)
			busy |= BIT(engine->index);
	}
	return busy;
}

/* They may look into their memory although they have nothing to do. */
static u32 engines_with_memory(struct pciedma_card *card)
{
	struct pciedma_engine *engine;
	u32 mask = 0;

	pciedma_for_each_engine(card, engine)
		if (engine->memory)
			mask |= BIT(engine->index);
	return mask;
}

/* Whether what has begun still gets on; asks the card itself before it says no. */
static bool engine_may_drain(struct pciedma_engine *engine)
{
	scoped_guard(spinlock_irqsave, &engine->lock) {
		if (engine->state != PCIEDMA_ENGINE_PAUSED || !pciedma_engine_inflight(engine) ||
		    engine->failed)
			return false;
		if (pciedma_engine_drain_ns(engine) > 0)
			return true;
	}
	pciedma_engine_stray(engine);
	guard(spinlock_irqsave)(&engine->lock);
	return !engine->failed && pciedma_engine_drain_ns(engine) > 0;
}

/* Wait for what has begun, as long as the engines get on within their bounds. */
static u32 engines_drain(struct pciedma_card *card, u32 mask)
{
	struct pciedma_engine *engine;
	bool wait;
	u32 busy;

	for (;;) {
		busy = engines_unproven(card, mask);
		wait = false;
		pciedma_for_each_engine(card, engine)
			wait |= (busy & BIT(engine->index)) && engine_may_drain(engine);
		if (!wait)
			return busy;
		usleep_range(100, 200);
	}
}

/*
 * Engines that may still touch memory, and how long they may take: the segment
 * that a halted engine has begun comes to its end in about a quarter of the
 * drain bound, or in more if the card has just become slow. One that reads all
 * ones has not proven anything, and is not waited for long.
 */
static u32 engines_not_idle(struct pciedma_card *card, u32 mask, s64 *bound)
{
	struct pciedma_engine *engine;
	u32 busy = 0;
	int idle;

	*bound = HALT_MS * (s64)NSEC_PER_MSEC;
	pciedma_for_each_engine(card, engine) {
		if (!(mask & BIT(engine->index)))
			continue;
		scoped_guard(spinlock_irqsave, &engine->lock)
			idle = pciedma_ops(card)->idle(engine);
		if (idle == 1)
			continue;
		busy |= BIT(engine->index);
		if (!idle)
			*bound = max(*bound, 2 * pciedma_engine_drain_bound_ns(engine));
	}
	return busy;
}

/* Patient: before something that would cut off what they still do. */
static u32 engines_wait_idle(struct pciedma_card *card, u32 mask, bool patient)
{
	ktime_t start = ktime_get();
	s64 bound;
	u32 busy;

	for (;;) {
		busy = engines_not_idle(card, mask, &bound);
		if (!patient)
			bound = HALT_MS * (s64)NSEC_PER_MSEC;
		if (!busy || ktime_to_ns(ktime_sub(ktime_get(), start)) > bound)
			return busy;
		usleep_range(20, 50);
	}
}

static bool card_halts_whole(struct pciedma_card *card, u32 mask)
{
	struct pciedma_engine *engine;

	pciedma_for_each_engine(card, engine)
		if ((mask & BIT(engine->index)) && engine->desc->halt_scope == PCIEDMA_HALT_CARD)
			return true;
	return false;
}

/* An interrupt that tells of an error comes before or after this, not in between. */
static void engine_halt(struct pciedma_engine *engine)
{
	trace_pciedma_halt(engine);
	guard(spinlock_irqsave)(&engine->lock);
	pciedma_ops(engine->channel->card)->halt(engine);
	engine->stats[engine->direction].halts++;
}

/*
 * Returns the engines that do not read idle. Of a card that is halted whole,
 * nothing but that may be read until it was initialized again.
 */
static u32 engines_halt(struct pciedma_card *card, u32 mask, bool patient)
{
	struct pciedma_engine *engine;
	s64 bound;

	if (!pciedma_ops(card)->halt)
		return engines_not_idle(card, mask, &bound);
	if (card_halts_whole(card, mask))
		engines_set_state(card, mask, PCIEDMA_ENGINE_DEAF);
	pciedma_for_each_engine(card, engine) {
		if (!(mask & BIT(engine->index)))
			continue;
		engine_halt(engine);
		if (engine->desc->halt_scope == PCIEDMA_HALT_CARD)
			break;
	}
	return engines_wait_idle(card, mask, patient);
}

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
	pciedma_events_restore(card);
	card->node_ops->open(card);
	return 0;
}

/* The registers must not be touched while the function is reset. */
static int card_function_reset(struct pciedma_card *card, bool locked)
{
	int tries = RESET_TRIES;
	int ret;

	engines_set_state(card, all_engines(card), PCIEDMA_ENGINE_DEAF);
	card_pin(card, false);
	WRITE_ONCE(card->reset_owner, current);
	do {
		ret = locked ? pci_reset_function_locked(card->pdev) :
			       pci_try_reset_function(card->pdev);
		if (ret != -EAGAIN || READ_ONCE(card->removed))
			break;
		msleep(RESET_RETRY_MS);
	} while (--tries);
	WRITE_ONCE(card->reset_owner, NULL);
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

static void engine_resume(struct pciedma_engine *engine, enum proof proof, int error)
{
	guard(spinlock_irqsave)(&engine->lock);
	if (proof == PROOF_HALTED)
		pciedma_engine_rewind(engine);
	else
		pciedma_engine_finish_inflight(engine, error, proof != PROOF_NONE);
	if (engine->trouble)
		pciedma_engine_failed(engine);
	engine->trouble = 0;
	engine->failed = false;
	engine->unknown = false;
	engine->unproven = proof == PROOF_NONE;
	if (proof != PROOF_NONE)
		pciedma_transfers_unpark(engine);
	if (proof <= PROOF_USABLE && !READ_ONCE(engine->channel->card->removed)) {
		engine->state = PCIEDMA_ENGINE_RUN;
		pciedma_engine_kick(engine);
		return;
	}
	engine->state = PCIEDMA_ENGINE_BROKEN;
	engine->broken_error = error;
	pciedma_engine_fail_queued(engine, error);
}

static void engine_settle(struct pciedma_engine *engine, enum proof proof, int error)
{
	engine_resume(engine, proof, error);
	pciedma_transfers_give_back(engine);
	pciedma_async_complete(engine);
}

static void engines_settle(struct pciedma_card *card, u32 mask, enum proof proof, int error)
{
	struct pciedma_engine *engine;

	pciedma_for_each_engine(card, engine)
		if (mask & BIT(engine->index))
			engine_settle(engine, proof, error);
	pciedma_card_wake(card);
}

/* The last rungs, for engines that neither a halt nor a reset could prove. */
static void card_give_up(struct pciedma_card *card)
{
	enum proof proof = PROOF_NONE;
	bool config_lost = !card->lost && pciedma_card_config_lost(card);
	int error = card->lost ? -ENODEV : -EIO;

	if (card->lost ? card_disconnected(card) : card_bus_master_off(card))
		proof = PROOF_SAFE;
	if (!card->lost && !config_lost)
		WRITE_ONCE(card->stopped, true);
	engines_settle(card, all_engines(card), proof, READ_ONCE(card->removed) ? -ENODEV : error);
	if (!card->frozen)
		card->node_ops->open(card); /* the user's logic may work, the engines or not */
	dev_err(&card->dev, "%s; %s%s\n",
		card->lost ? "the card does not answer" :
		config_lost ? CONFIG_LOST : "the card could not be stopped",
		proof == PROOF_SAFE ? "it cannot reach memory any more" :
				      "memory that it may reach is quarantined",
		READ_ONCE(card->removed) ? "" : "; only a reset can bring it back");
}

/*
 * From a card on which everything is paused and drained to one whose engines
 * all are proven idle. Returns whether they are.
 */
static bool card_reset_all(struct pciedma_card *card, bool locked)
{
	u32 all = all_engines(card);
	int ret;

	engines_halt(card, all, false);
	ret = card_function_reset(card, locked);
	if (ret && ret != -ENOTTY)
		dev_warn(&card->dev, "function reset failed: %d\n", ret);
	if (card_init(card) || engines_wait_idle(card, all, false))
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
	u32 all = all_engines(card);

	if (card->frozen)
		pciedma_card_restore_config(card);
	engines_pause(card, all);
	engines_drain(card, all);
	if (card_present(card) && card_restore_lost(card) && card_reset_all(card, locked)) {
		card->frozen = false;
		engines_settle(card, all, PROOF_USABLE, READ_ONCE(card->removed) ? -ENODEV : -EIO);
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
	engines_pause(card, all_engines(card));
	engines_drain(card, all_engines(card));
	card_give_up(card);
}

/* The first rungs, for engines in trouble and whatever one halt hits. */
static void card_help(struct pciedma_card *card, u32 troubled)
{
	bool whole = card_halts_whole(card, troubled);
	u32 scope = whole ? all_engines(card) : troubled;
	u32 unreported = 0;
	u32 busy;

	engines_pause(card, scope);
	busy = engines_drain(card, scope);
	if (pciedma_card_config_lost(card)) {
		card_cut_off(card);
		return;
	}
	if (busy && card_present(card)) {
		busy = engines_halt(card, whole ? scope : busy, true);
		if (!busy && whole && card_init(card))
			busy = scope;
		if (!busy)
			unreported = engines_unproven(card, scope);
	}
	if (busy || engines_unknown(card, scope))
		card_climb(card, false);
	else if (whole || (unreported && !pciedma_ops(card)->halt))
		engines_settle(card, scope, PROOF_USABLE, -EIO);
	else
		engines_settle(card, scope, PROOF_HALTED, -EIO);
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

/**
 * pciedma_recovery_work() - run the ladder for whoever asked
 * @work: the card's
 *
 * Context: work item.
 */
void pciedma_recovery_work(struct work_struct *work)
{
	struct pciedma_card *card = container_of(work, struct pciedma_card, recovery);
	u32 troubled;

	guard(mutex)(&card->recovery_lock);
	if (READ_ONCE(card->removed) || card->held)
		return;
	if (card->reset_wanted) {
		card->reset_wanted = false;
		card->reset_result = card_climb(card, false);
		if (!card->reset_result)
			engines_forgive(card);
	}
	troubled = engines_in_trouble(card);
	if (troubled)
		card_help(card, troubled);
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
	guard(mutex)(&card->reset_lock);
	scoped_guard(mutex, &card->recovery_lock)
		card->reset_wanted = true;
	queue_work(pciedma_workqueue, &card->recovery);
	flush_work(&card->recovery);
	guard(mutex)(&card->recovery_lock);
	if (READ_ONCE(card->removed))
		return -ENODEV;
	if (!card->reset_wanted)
		return card->reset_result;
	card->reset_wanted = false;
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
	u32 all = all_engines(card);
	u32 busy;

	guard(mutex)(&card->recovery_lock);
	engines_pause(card, all);
	if (!card->frozen && card_present(card))
		card_restore_lost(card);
	busy = card->frozen ? all : engines_drain(card, all) | engines_with_memory(card);
	if (busy && !card->frozen && card_present(card)) {
		busy = engines_halt(card, all, true);
		engines_unproven(card, all);
	}
	if (busy)
		card_climb(card, true);
	else
		engines_settle(card, all, PROOF_USABLE, -ENODEV);
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
	u32 all = all_engines(card);

	guard(mutex)(&card->recovery_lock);
	if (card->held)
		return;
	card->held = true;
	engines_pause(card, all);
	if ((engines_drain(card, all) | engines_with_memory(card)) &&
	    !engines_halt(card, all, true))
		engines_unproven(card, all);
	engines_set_state(card, all, PCIEDMA_ENGINE_DEAF);
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
	u32 all = all_engines(card);

	guard(mutex)(&card->recovery_lock);
	if (card->frozen)
		return;
	card->frozen = true;
	engines_set_state(card, all, PCIEDMA_ENGINE_DEAF);
	engines_settle(card, all, PROOF_NONE, -EIO);
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
	u32 all = all_engines(card);
	int ret = 0;

	guard(mutex)(&card->recovery_lock);
	if (!card->held && !card->frozen)
		return 0;
	card->held = false;
	if (card_present(card) && !card_init(card) && !engines_wait_idle(card, all, false)) {
		card->frozen = false;
		card_bus_master_on(card);
		engines_settle(card, all, PROOF_USABLE, -EIO);
		engines_forgive(card);
	} else {
		card_give_up(card);
		ret = card->lost ? -ENODEV : -EIO;
	}
	return ret;
}
