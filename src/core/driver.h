/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From a back end's PCI driver to its cards.
 */
#ifndef PCIEDMA_DRIVER_H
#define PCIEDMA_DRIVER_H

#include "engine/card.h"

/* card.c */
int pciedma_card_probe(struct pci_dev *pdev, const struct pci_device_id *id,
		       const struct pciedma_card_type *type);
void pciedma_card_remove(struct pciedma_card *card);

#endif /* PCIEDMA_DRIVER_H */
