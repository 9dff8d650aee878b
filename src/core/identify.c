// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a back end says of its card when it has identified it: its channels.
 */
#include "driver.h"
#include "nodes/channel.h"

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
	int ret = pciedma_channel_check(node, desc);

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
