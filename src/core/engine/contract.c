// SPDX-License-Identifier: GPL-2.0-only
/*
 * What back ends ask of core: their memory, their BARs, their engines.
 */
#include <linux/pci.h>

#include "engine.h"

/**
 * pciedma_card_pdev() - the card's PCI function
 * @card: the card
 *
 * Return: it.
 */
struct pci_dev *pciedma_card_pdev(struct pciedma_card *card)
{
	return card->pdev;
}
EXPORT_SYMBOL_GPL(pciedma_card_pdev);

/**
 * pciedma_card_priv() - the back end's memory for a card
 * @card: the card
 *
 * Return: it; zeroed at probe.
 */
void *pciedma_card_priv(struct pciedma_card *card)
{
	return card->priv;
}
EXPORT_SYMBOL_GPL(pciedma_card_priv);

/**
 * pciedma_engine_card() - the card of an engine
 * @engine: the engine
 *
 * Return: the card.
 */
struct pciedma_card *pciedma_engine_card(struct pciedma_engine *engine)
{
	return engine->card;
}
EXPORT_SYMBOL_GPL(pciedma_engine_card);

/**
 * pciedma_engine_priv() - the back end's memory for an engine
 * @engine: the engine
 *
 * Return: it; zeroed at probe.
 */
void *pciedma_engine_priv(struct pciedma_engine *engine)
{
	return engine->priv;
}
EXPORT_SYMBOL_GPL(pciedma_engine_priv);

/**
 * pciedma_engine_desc() - the description of an engine
 * @engine: the engine
 *
 * Return: what its back end gave pciedma_channel_add().
 */
const struct pciedma_engine_desc *pciedma_engine_desc(struct pciedma_engine *engine)
{
	return engine->desc;
}
EXPORT_SYMBOL_GPL(pciedma_engine_desc);

/**
 * pciedma_engine_kind() - the kind of an engine's channel
 * @engine: the engine
 *
 * Return: it.
 */
enum pciedma_kind pciedma_engine_kind(struct pciedma_engine *engine)
{
	return engine->kind;
}
EXPORT_SYMBOL_GPL(pciedma_engine_kind);

/**
 * pciedma_card_engine() - iterate over a card's engines
 * @card: the card
 * @last: the engine before, or NULL
 *
 * Return: the next one, or NULL.
 */
struct pciedma_engine *pciedma_card_engine(struct pciedma_card *card,
					   struct pciedma_engine *last)
{
	return pciedma_card_next_engine(card, last ? last->index + 1 : 0);
}
EXPORT_SYMBOL_GPL(pciedma_card_engine);

/**
 * pciedma_engine_direction() - which way an engine moves data
 * @engine: the engine, not a shared one
 *
 * Return: it.
 */
enum pciedma_direction pciedma_engine_direction(struct pciedma_engine *engine)
{
	return engine->direction;
}
EXPORT_SYMBOL_GPL(pciedma_engine_direction);

/**
 * pciedma_engine_vector() - the interrupt vector that serves an engine
 * @engine: the engine
 *
 * Return: the vector of its description, or 0 if the card got fewer.
 */
unsigned int pciedma_engine_vector(struct pciedma_engine *engine)
{
	unsigned int vector = engine->desc->vector;

	return vector < engine->card->num_vectors ? vector : 0;
}
EXPORT_SYMBOL_GPL(pciedma_engine_vector);

/**
 * pciedma_card_event_vector() - the interrupt vector of a card's event lines
 * @card: the card
 *
 * Context: from init on.
 * Return: it; 0 if they share the first one.
 */
unsigned int pciedma_card_event_vector(struct pciedma_card *card)
{
	return card->event_vector;
}
EXPORT_SYMBOL_GPL(pciedma_card_event_vector);

/**
 * pciedma_engine_memory() - an engine's coherent memory
 * @engine: the engine
 * @dma:    where to put its address as the engine sees it
 *
 * It stays allocated as long as the hardware may use it.
 *
 * Context: from init on.
 * Return: memory_size bytes of its description, zeroed at probe.
 */
void *pciedma_engine_memory(struct pciedma_engine *engine, dma_addr_t *dma)
{
	*dma = engine->memory_dma;
	return engine->memory;
}
EXPORT_SYMBOL_GPL(pciedma_engine_memory);

/**
 * pciedma_card_request() - have a BAR for core, unless it was had before
 * @card: the card
 * @bar:  number of the BAR
 *
 * Context: inside identify. Core releases it.
 * Return: 0 or an errno.
 */
int pciedma_card_request(struct pciedma_card *card, int bar)
{
	int ret = 0;

	if (!(card->requested & BIT(bar)))
		ret = pci_request_region(card->pdev, bar, card->type->name);
	if (!ret)
		card->requested |= BIT(bar);
	return ret;
}

/**
 * pciedma_card_map() - map a BAR whose length is plausible
 * @card: the card
 * @bar:  number of the BAR
 * @min:  bytes that it must have at least
 * @max:  bytes that it may have at most
 *
 * Context: inside identify. Core unmaps it.
 * Return: the registers; ERR_PTR(-ENODEV) after a log line if the BAR is not
 * the card's; another errno.
 */
void __iomem *pciedma_card_map(struct pciedma_card *card, int bar, resource_size_t min,
			       resource_size_t max)
{
	struct pci_dev *pdev = card->pdev;
	resource_size_t length = pci_resource_len(pdev, bar);
	int ret;

	if (!(pci_resource_flags(pdev, bar) & IORESOURCE_MEM) || length < min || length > max) {
		pci_info(pdev, "not a %s card: BAR%d has %llu bytes\n", card->type->name, bar,
			 (unsigned long long)length);
		return IOMEM_ERR_PTR(-ENODEV);
	}
	ret = pciedma_card_request(card, bar);
	if (ret)
		return IOMEM_ERR_PTR(ret);
	card->mmio[bar] = pci_iomap(pdev, bar, 0);
	return card->mmio[bar] ?: IOMEM_ERR_PTR(-ENOMEM);
}
EXPORT_SYMBOL_GPL(pciedma_card_map);
