// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a back end says of its card when it has identified it: its channels.
 */
#include "nodes/channel.h"

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
static const char *channel_mistake(const struct pciedma_card_node *node,
				   const struct pciedma_channel_desc *desc)
{
	if (node->num_channels == PCIEDMA_MAX_CHANNELS)
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

static int channel_check(const struct pciedma_card_node *node,
			 const struct pciedma_channel_desc *desc)
{
	const struct pciedma_card *card = &node->card;
	const char *mistake = channel_mistake(node, desc);
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
		node->num_channels, where, mistake);
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
	struct pciedma_card_node *node = pciedma_card_node(card);
	struct pciedma_channel *channel;
	enum pciedma_direction i;
	int ret = channel_check(node, desc);

	if (ret)
		return ret;
	channel = pciedma_channel_alloc(node, desc);
	if (IS_ERR(channel))
		return PTR_ERR(channel);
	node->channels[node->num_channels++] = channel;
	for (i = 0; i < PCIEDMA_DIRECTIONS; i++)
		if (channel->lanes[i].engine.desc)
			card->engines[channel->lanes[i].engine.index] = &channel->lanes[i].engine;
	return 0;
}
EXPORT_SYMBOL_GPL(pciedma_channel_add);
