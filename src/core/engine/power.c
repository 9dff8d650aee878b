// SPDX-License-Identifier: GPL-2.0-only
/*
 * When others stop the card: function resets (sysfs, VFIO), errors of the bus,
 * suspend.
 */
#include <linux/pm.h>

#include "engine.h"

/**
 * pciedma_card_save_config() - remember the configuration space
 * @card: the card, enabled, not a bus master yet
 *
 * Context: process.
 * Return: 0 or -ENOMEM.
 */
int pciedma_card_save_config(struct pciedma_card *card)
{
	int i;

	pci_save_state(card->pdev);
	for (i = 0; i < PCI_STD_NUM_BARS; i++)
		pci_read_config_dword(card->pdev, PCI_BASE_ADDRESS_0 + i * sizeof(u32),
				      &card->bars[i]);
	card->config = pci_store_saved_state(card->pdev);
	return card->config ? 0 : -ENOMEM;
}

/**
 * pciedma_card_config_lost() - whether the configuration space is not as core left it
 * @card: the card
 *
 * So it is after an FPGA was configured anew: it answers, but not at its addresses.
 *
 * Context: process.
 * Return: true if it is so; false also if the card does not answer at all.
 */
bool pciedma_card_config_lost(struct pciedma_card *card)
{
	u16 needed = PCI_COMMAND_MEMORY | (READ_ONCE(card->stopped) ? 0 : PCI_COMMAND_MASTER);
	u16 command;
	u32 bar;
	int i;

	pci_read_config_word(card->pdev, PCI_COMMAND, &command);
	if (PCI_POSSIBLE_ERROR(command))
		return false;
	for (i = 0; i < PCI_STD_NUM_BARS; i++) {
		pci_read_config_dword(card->pdev, PCI_BASE_ADDRESS_0 + i * sizeof(u32), &bar);
		if (bar != card->bars[i])
			return true;
	}
	return (command & needed) != needed;
}

/**
 * pciedma_card_restore_config() - write back what a reset of the bus has wiped
 * @card: the card
 *
 * A reset of the function keeps the configuration space by itself. Bus mastering
 * stays off until the card is proven to leave memory alone.
 *
 * Context: process.
 */
void pciedma_card_restore_config(struct pciedma_card *card)
{
	WRITE_ONCE(card->stopped, true);
	if (!pci_load_saved_state(card->pdev, card->config))
		pci_restore_state(card->pdev);
}

static void reset_prepare(struct pci_dev *pdev)
{
	struct pciedma_card *card = pci_get_drvdata(pdev);

	if (card && READ_ONCE(card->recovery.reset_owner) != current)
		pciedma_card_hold(card);
}

static void reset_done(struct pci_dev *pdev)
{
	struct pciedma_card *card = pci_get_drvdata(pdev);

	if (!card || READ_ONCE(card->recovery.reset_owner) == current)
		return;
	atomic64_inc(&card->resets);
	pciedma_card_go_on(card);
}

/* A frozen channel must not be touched; other errors are found by the engines. */
static pci_ers_result_t error_detected(struct pci_dev *pdev, pci_channel_state_t state)
{
	struct pciedma_card *card = pci_get_drvdata(pdev);

	if (!card || state == pci_channel_io_normal)
		return PCI_ERS_RESULT_CAN_RECOVER;
	pciedma_card_freeze(card);
	if (state == pci_channel_io_frozen)
		return PCI_ERS_RESULT_NEED_RESET;
	/* Newer kernels say so of a card that did not recover, too: only a reset brings it back. */
	if (!pci_device_is_present(pdev))
		pciedma_card_go_on(card); /* finds it gone: every call ends */
	return PCI_ERS_RESULT_DISCONNECT;
}

static pci_ers_result_t mmio_enabled(struct pci_dev *pdev)
{
	return PCI_ERS_RESULT_RECOVERED;
}

static pci_ers_result_t slot_reset(struct pci_dev *pdev)
{
	struct pciedma_card *card = pci_get_drvdata(pdev);

	if (card) {
		pciedma_card_freeze(card); /* a neighbour wanted the reset, or RESET came first */
		pciedma_card_restore_config(card);
		atomic64_inc(&card->resets);
	}
	return PCI_ERS_RESULT_RECOVERED;
}

static void error_resume(struct pci_dev *pdev)
{
	struct pciedma_card *card = pci_get_drvdata(pdev);

	if (card)
		pciedma_card_go_on(card);
}

const struct pci_error_handlers pciedma_error_handlers = {
	.error_detected	= error_detected,
	.mmio_enabled	= mmio_enabled,
	.slot_reset	= slot_reset,
	.resume		= error_resume,
	.reset_prepare	= reset_prepare,
	.reset_done	= reset_done,
};

static int __maybe_unused power_suspend(struct device *dev)
{
	struct pciedma_card *card = dev_get_drvdata(dev);

	if (card)
		pciedma_card_hold(card);
	return 0;
}

static int __maybe_unused power_resume(struct device *dev)
{
	struct pciedma_card *card = dev_get_drvdata(dev);

	return card ? pciedma_card_go_on(card) : 0;
}

const struct dev_pm_ops pciedma_pm_ops = {
	SET_SYSTEM_SLEEP_PM_OPS(power_suspend, power_resume)
};
