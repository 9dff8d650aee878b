// SPDX-License-Identifier: GPL-2.0-only
/*
 * What back ends ask of core: their memory, their BARs, their channels.
 */
#include <linux/pci.h>

#include "core.h"

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
	return engine->channel->card;
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
	return engine->channel->kind;
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

	return vector < engine->channel->card->num_vectors ? vector : 0;
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

/* Returns what is wrong with an engine, or NULL. */
static const char *engine_mistake(const struct pciedma_card *card,
				  const struct pciedma_channel_desc *channel,
				  const struct pciedma_engine_desc *desc)
{
	bool halts;

	if (!desc || channel->kind == PCIEDMA_KIND_STREAM)
		return NULL;
	if (!desc->address_bits || desc->address_bits > 64)
		return "address_bits is not 1 to 64";
	if (!desc->segments)
		return "segments is 0";
	if (!desc->max_segment)
		return "max_segment is 0";
	if (!desc->drain_ms)
		return "drain_ms is 0";
	if (!desc->buffer_size)
		return "buffer_size is 0";
	if (!desc->buffers || desc->buffers > PCIEDMA_MAX_BUFFERS)
		return "buffers is not 1 to " __stringify(PCIEDMA_MAX_BUFFERS);
	if (channel->kind == PCIEDMA_KIND_MESSAGE &&
	    (!desc->max_dma || desc->max_dma > desc->buffer_size))
		return "max_dma is not 1 to buffer_size, as a message engine's has to be";
	halts = desc->halt_scope != PCIEDMA_HALT_NONE;
	if (halts != !!card->type->ops.halt)
		return "halt_scope has to be PCIEDMA_HALT_NONE if there is no halt, and only then";
	return NULL;
}

/* Returns what is wrong with a channel but for its engines, or NULL. */
static const char *channel_mistake(const struct pciedma_card *card,
				   const struct pciedma_channel_desc *desc)
{
	if (card->num_channels == PCIEDMA_MAX_CHANNELS)
		return "a card has at most " __stringify(PCIEDMA_MAX_CHANNELS) " channels";
	if (desc->kind < PCIEDMA_KIND_MEMORY || desc->kind > PCIEDMA_KIND_STREAM)
		return "kind is none of enum pciedma_kind";
	if (!desc->c2h && !desc->h2c)
		return "it has neither c2h nor h2c";
	if (desc->shared && desc->c2h != desc->h2c)
		return "shared, but c2h and h2c are not the same description";
	if (desc->kind == PCIEDMA_KIND_MEMORY && (!desc->size || desc->size > LLONG_MAX))
		return "size is 0 or more than PCIEDMA_SIZE_UNKNOWN";
	return NULL;
}

static int channel_check(const struct pciedma_card *card, const struct pciedma_channel_desc *desc)
{
	const char *mistake = channel_mistake(card, desc);
	const char *where = "";

	if (!mistake) {
		where = "c2h: ";
		mistake = engine_mistake(card, desc, desc->c2h);
	}
	if (!mistake) {
		where = "h2c: ";
		mistake = engine_mistake(card, desc, desc->h2c);
	}
	if (!mistake)
		return 0;
	pci_err(card->pdev, "bad description of %s, channel %u: %s%s\n", card->type->name,
		card->num_channels, where, mistake);
	return -EINVAL;
}

/**
 * pciedma_channel_add() - a card has this channel
 * @card: the card
 * @desc: the channel; its engines' descriptions must outlive the card
 *
 * Context: inside identify.
 * Return: 0; -EINVAL after a log line if the description cannot be; another errno.
 */
int pciedma_channel_add(struct pciedma_card *card, const struct pciedma_channel_desc *desc)
{
	struct pciedma_channel *channel;
	int ret = channel_check(card, desc);

	if (ret)
		return ret;
	channel = pciedma_channel_alloc(card, desc);
	if (IS_ERR(channel))
		return PTR_ERR(channel);
	card->channels[card->num_channels++] = channel;
	return 0;
}
EXPORT_SYMBOL_GPL(pciedma_channel_add);
