// SPDX-License-Identifier: GPL-2.0-only
/*
 * Channels: their life.
 */
#include <linux/slab.h>

#include "channel.h"

static void channel_dev_release(struct device *dev)
{
	struct pciedma_channel *channel = container_of(dev, struct pciedma_channel, dev);
	enum pciedma_direction i;

	for (i = 0; i < PCIEDMA_DIRECTIONS; i++)
		kfree(channel->lanes[i].engine.priv);
	put_device(&channel->node->card.dev);
	kfree(channel);
}

static int lane_init(struct pciedma_channel *channel, enum pciedma_direction direction,
		     const struct pciedma_engine_desc *desc, bool shared)
{
	struct pciedma_lane *lane = &channel->lanes[direction];
	struct pciedma_card *card = &channel->node->card;
	struct pciedma_engine *engine = &lane->engine;

	if (!desc)
		return 0;
	engine->card = card;
	engine->dev = &channel->dev;
	engine->desc = desc;
	engine->kind = channel->kind;
	engine->channel = channel->index;
	engine->index = channel->index * PCIEDMA_DIRECTIONS + direction;
	engine->direction = direction;
	engine->dma_direction = direction == PCIEDMA_C2H ? DMA_FROM_DEVICE : DMA_TO_DEVICE;
	if (shared)
		engine->dma_direction = DMA_BIDIRECTIONAL;
	pciedma_lane_init(lane, &channel->buffers, &channel->poll_wait);
	channel->by_direction[direction] = lane;
	engine->priv = kzalloc(card->type->engine_priv, GFP_KERNEL);
	return engine->priv ? 0 : -ENOMEM;
}

static int lanes_init(struct pciedma_channel *channel, const struct pciedma_channel_desc *desc)
{
	int ret;

	ret = lane_init(channel, PCIEDMA_C2H, desc->c2h, desc->shared);
	if (ret || !desc->shared)
		return ret ?: lane_init(channel, PCIEDMA_H2C, desc->h2c, false);
	channel->by_direction[PCIEDMA_H2C] = &channel->lanes[PCIEDMA_C2H];
	return 0;
}

/**
 * pciedma_channel_alloc() - make a channel
 * @node: its card
 * @desc: what it is
 *
 * Context: process.
 * Return: the channel, to be given back with put_device(), or an ERR_PTR.
 */
struct pciedma_channel *pciedma_channel_alloc(struct pciedma_card_node *node,
					      const struct pciedma_channel_desc *desc)
{
	struct pciedma_channel *channel = kzalloc(sizeof(*channel), GFP_KERNEL);
	int ret;

	if (!channel)
		return ERR_PTR(-ENOMEM);
	device_initialize(&channel->dev);
	channel->dev.groups = pciedma_channel_groups;
	channel->dev.release = channel_dev_release;
	channel->dev.parent = &node->card.dev;
	get_device(&node->card.dev);
	channel->node = node;
	channel->index = node->num_channels;
	channel->kind = desc->kind;
	channel->size = desc->size;
	pciedma_buffer_home_init(&channel->buffers, &channel->dev, pciedma_workqueue);
	init_waitqueue_head(&channel->poll_wait);
	mutex_init(&channel->open_lock);
	INIT_LIST_HEAD(&channel->entries);
	ret = lanes_init(channel, desc);
	if (ret) {
		put_device(&channel->dev);
		return ERR_PTR(ret);
	}
	return channel;
}

/**
 * pciedma_channel_open_buffers() - its lanes have memory: there can be buffers, too
 * @channel: the channel
 *
 * Context: process.
 */
void pciedma_channel_open_buffers(struct pciedma_channel *channel)
{
	enum pciedma_direction i;

	for (i = 0; i < PCIEDMA_DIRECTIONS; i++)
		if (channel->by_direction[i])
			pciedma_buffer_home_open(&channel->buffers,
						 &channel->by_direction[i]->queue.limits);
}

/**
 * pciedma_channel_close() - its card goes, and nothing is under way any more
 * @channel: the channel
 *
 * Context: process.
 */
void pciedma_channel_close(struct pciedma_channel *channel)
{
	struct pciedma_entries *set;

	pciedma_buffer_home_close(&channel->buffers);
	guard(mutex)(&channel->open_lock);
	channel->closed = true;
	list_for_each_entry(set, &channel->entries, node)
		pciedma_entries_close(set);
}

/**
 * pciedma_channel_register() - make its node
 * @channel: the channel
 *
 * Context: process.
 * Return: 0 or an errno.
 */
int pciedma_channel_register(struct pciedma_channel *channel)
{
	int ret;

	ret = dev_set_name(&channel->dev, "pciedma%dc%u", channel->node->card.index,
			   channel->index);
	if (ret)
		return ret;
	return pciedma_node_add(&channel->cdev, &channel->dev, &pciedma_channel_fops);
}
