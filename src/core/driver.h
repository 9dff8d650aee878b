/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From a back end's PCI driver to its cards.
 */
#ifndef PCIEDMA_DRIVER_H
#define PCIEDMA_DRIVER_H

#include "engine/card.h"

struct pciedma_card_node;

/* card.c */
int pciedma_card_probe(struct pci_dev *pdev, const struct pci_device_id *id,
		       const struct pciedma_card_type *type);
void pciedma_card_remove(struct pciedma_card *card);

/* description.c */
int pciedma_type_check(const struct pciedma_driver *driver);
int pciedma_channel_check(const struct pciedma_card_node *node,
			  const struct pciedma_channel_desc *desc);

#endif /* PCIEDMA_DRIVER_H */
