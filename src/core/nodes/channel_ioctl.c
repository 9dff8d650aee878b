// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ioctls of the data nodes.
 */
#include <linux/fs.h>

#include "channel.h"

static void lane_info(const struct pciedma_lane *lane, struct pciedma_engine_info *info)
{
	const struct pciedma_engine_desc *desc;

	if (!lane)
		return;
	desc = lane->engine.desc;
	info->flags = PCIEDMA_ENGINE_PRESENT;
	info->address_bits = desc->address_bits;
	info->max_dma = desc->max_dma;
	info->address_alignment = max(desc->address_alignment, 1U);
	info->length_granularity = max(desc->length_granularity, 1U);
	info->buffers = desc->buffers;
	info->buffer_size = desc->buffer_size;
	info->drain_ms = READ_ONCE(lane->engine.drain_ms);
}

static long channel_info(struct pciedma_channel *channel, struct pciedma_channel_info *info)
{
	if (info->flags || info->c2h.reserved || info->h2c.reserved ||
	    memchr_inv(info->reserved, 0, sizeof(info->reserved)))
		return -EINVAL;
	memset(info, 0, sizeof(*info));
	info->card = channel->node->card.index;
	info->channel = channel->index;
	info->kind = channel->kind;
	info->size = channel->size;
	lane_info(channel->by_direction[PCIEDMA_C2H], &info->c2h);
	lane_info(channel->by_direction[PCIEDMA_H2C], &info->h2c);
	return 0;
}

static long channel_get_wait(struct pciedma_channel_file *cf, struct pciedma_wait *wait)
{
	if (memchr_inv(wait, 0, sizeof(*wait)))
		return -EINVAL;
	guard(spinlock)(&cf->lock);
	wait->mode = cf->mode;
	wait->timeout_ns = cf->timeout_ns;
	return 0;
}

static long channel_set_wait(struct pciedma_channel_file *cf, const struct pciedma_wait *wait)
{
	if (wait->flags || memchr_inv(wait->reserved, 0, sizeof(wait->reserved)) ||
	    wait->mode > PCIEDMA_WAIT_ADAPTIVE || wait->timeout_ns < PCIEDMA_TIMEOUT_NONE)
		return -EINVAL;
	guard(spinlock)(&cf->lock);
	cf->mode = wait->mode;
	cf->timeout_ns = wait->timeout_ns;
	return 0;
}

static void channel_cancel_direction(struct pciedma_channel_file *cf,
				     enum pciedma_direction direction)
{
	struct pciedma_lane *lane = cf->channel->by_direction[direction];

	if (!lane)
		return;
	scoped_guard(spinlock_irqsave, &lane->engine.lock)
		pciedma_transfers_cancel(&lane->queue, direction, cf);
	pciedma_aio_cancel(lane, pciedma_file_backlog(cf, lane), cf, NULL);
}

static long channel_cancel(struct pciedma_channel_file *cf, const struct pciedma_cancel *cancel)
{
	if (memchr_inv(cancel, 0, sizeof(*cancel)))
		return -EINVAL;
	atomic_inc(&cf->cancels);
	channel_cancel_direction(cf, PCIEDMA_C2H);
	channel_cancel_direction(cf, PCIEDMA_H2C);
	pciedma_file_stop_entries(cf, NULL);
	return 0;
}

/**
 * pciedma_channel_ioctl() - the ioctls of a data node
 * @file:    the open file
 * @command: which
 * @value:   user space's argument
 *
 * Context: process.
 * Return: 0 or an errno.
 */
long pciedma_channel_ioctl(struct file *file, unsigned int command, unsigned long value)
{
	struct pciedma_channel_file *cf = file->private_data;
	struct pciedma_channel *channel = cf->channel;
	struct pciedma_ioctl ioctl;
	long ret;

	ret = pciedma_ioctl_begin(&ioctl, command, value);
	if (ret)
		return ret;
	ret = pciedma_transfer_ioctl(file, &ioctl);
	if (ret == -ENOTTY)
		ret = pciedma_buffers_ioctl(file, &ioctl);
	if (ret != -ENOTTY)
		return ret;
	if (!pciedma_channel_enter(channel))
		return -ENODEV;
	switch (command) {
	case PCIEDMA_IOC_CARD_INFO:
		ret = pciedma_card_get_info(channel->node, &ioctl.argument.card_info);
		break;
	case PCIEDMA_IOC_CHANNEL_INFO:
		ret = channel_info(channel, &ioctl.argument.channel_info);
		break;
	case PCIEDMA_IOC_GET_WAIT:
		ret = channel_get_wait(cf, &ioctl.argument.wait);
		break;
	case PCIEDMA_IOC_SET_WAIT:
		ret = channel_set_wait(cf, &ioctl.argument.wait);
		break;
	case PCIEDMA_IOC_CANCEL:
		ret = channel_cancel(cf, &ioctl.argument.cancel);
		break;
	default:
		ret = -ENOTTY;
	}
	pciedma_channel_leave(channel);
	return pciedma_ioctl_end(&ioctl, ret);
}
