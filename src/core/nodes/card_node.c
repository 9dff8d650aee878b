// SPDX-License-Identifier: GPL-2.0-only
/*
 * The card nodes /dev/pciedma<card>: information, reset, event lines.
 */
#include <linux/compat.h>
#include <linux/fs.h>
#include <linux/poll.h>
#include <linux/slab.h>

#include "channel.h"
#include "windows.h"

static int card_open(struct inode *inode, struct file *file)
{
	struct pciedma_card_node *node = container_of(inode->i_cdev, struct pciedma_card_node,
						      cdev);
	struct pciedma_listener *listener = kzalloc(sizeof(*listener), GFP_KERNEL);

	if (!listener)
		return -ENOMEM;
	if (!pciedma_card_enter(&node->card)) {
		kfree(listener);
		return -ENODEV;
	}
	get_device(&node->card.dev);
	pciedma_card_leave(&node->card);
	pciedma_listener_init(listener, node);
	file->private_data = listener;
	return stream_open(inode, file);
}

static int card_release(struct inode *inode, struct file *file)
{
	struct pciedma_listener *listener = file->private_data;
	struct pciedma_card_node *node = listener->card;

	pciedma_listener_exit(listener);
	kfree(listener);
	put_device(&node->card.dev);
	return 0;
}

static ssize_t card_read(struct file *file, char __user *user, size_t length, loff_t *position)
{
	if (length < sizeof(u32))
		return -EINVAL;
	return pciedma_listener_read(file->private_data, (u32 __user *)user,
				     file->f_flags & O_NONBLOCK);
}

static __poll_t card_poll(struct file *file, poll_table *wait)
{
	struct pciedma_listener *listener = file->private_data;
	struct pciedma_card_node *node = listener->card;
	__poll_t mask = 0;

	poll_wait(file, &node->poll_wait, wait);
	if (pciedma_listener_fired(listener))
		mask |= EPOLLIN | EPOLLRDNORM;
	if (READ_ONCE(node->card.removed) || READ_ONCE(node->card.lost))
		mask |= EPOLLHUP | EPOLLERR;
	return mask;
}

/**
 * pciedma_card_get_info() - PCIEDMA_IOC_CARD_INFO
 * @node: the card
 * @info: its argument
 *
 * Context: process, inside the gate.
 * Return: 0 or -EINVAL.
 */
long pciedma_card_get_info(struct pciedma_card_node *node, struct pciedma_card_info *info)
{
	const struct pciedma_card *card = &node->card;
	struct pci_dev *pdev = card->pdev;

	if (info->flags || memchr_inv(info->reserved, 0, sizeof(info->reserved)))
		return -EINVAL;
	memset(info, 0, sizeof(*info));
	info->abi_version = PCIEDMA_ABI_VERSION;
	info->index = card->index;
	info->channels = node->num_channels;
	info->windows = node->windows->count;
	info->event_lines = card->type->event_lines;
	info->vendor = pdev->vendor;
	info->device = pdev->device;
	info->subsystem_vendor = pdev->subsystem_vendor;
	info->subsystem_device = pdev->subsystem_device;
	strscpy(info->name, card->type->name, sizeof(info->name));
	strscpy(info->pci_address, pci_name(pdev), sizeof(info->pci_address));
	strscpy(info->driver_version, PCIEDMA_VERSION, sizeof(info->driver_version));
	return 0;
}

static long card_reset(struct file *file, const struct pciedma_reset *reset)
{
	if (!(file->f_mode & FMODE_WRITE))
		return -EBADF;
	if (memchr_inv(reset, 0, sizeof(*reset)))
		return -EINVAL;
	return pciedma_card_reset(&((struct pciedma_listener *)file->private_data)->card->card);
}

static long card_ioctl(struct file *file, unsigned int command, unsigned long value)
{
	struct pciedma_listener *listener = file->private_data;
	struct pciedma_card_node *node = listener->card;
	struct pciedma_ioctl ioctl;
	long ret;

	ret = pciedma_ioctl_begin(&ioctl, command, value);
	if (ret)
		return ret;
	if (!pciedma_card_enter(&node->card))
		return -ENODEV;
	switch (command) {
	case PCIEDMA_IOC_CARD_INFO:
		ret = pciedma_card_get_info(node, &ioctl.argument.card_info);
		break;
	case PCIEDMA_IOC_RESET:
		ret = card_reset(file, &ioctl.argument.reset);
		break;
	case PCIEDMA_IOC_SET_EVENTS:
		ret = pciedma_listener_set(listener, &ioctl.argument.events);
		break;
	case PCIEDMA_IOC_GET_EVENTS:
		ret = pciedma_listener_get(listener, &ioctl.argument.events);
		break;
	default:
		ret = -ENOTTY;
	}
	pciedma_card_leave(&node->card);
	ret = pciedma_ioctl_end(&ioctl, ret);
	if (ret == -EFAULT && command == PCIEDMA_IOC_GET_EVENTS)
		pciedma_listener_put_back(listener, ioctl.argument.events.lines);
	return ret;
}

static const struct file_operations card_fops = {
	.owner		= THIS_MODULE,
	.open		= card_open,
	.release	= card_release,
	.read		= card_read,
	.poll		= card_poll,
	.unlocked_ioctl	= card_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

/**
 * pciedma_card_register() - make a card's node
 * @node: the card; its device has a name
 *
 * Context: process.
 * Return: 0 or an errno.
 */
int pciedma_card_register(struct pciedma_card_node *node)
{
	node->card.dev.groups = pciedma_card_groups;
	return pciedma_node_add(&node->cdev, &node->card.dev, &card_fops);
}

static void card_closing(struct pciedma_card *card, int error)
{
	struct pciedma_card_node *node = pciedma_card_node(card);

	pciedma_events_silence(node);
	pciedma_windows_close(node, error);
}

static void card_opened(struct pciedma_card *card)
{
	pciedma_windows_open(pciedma_card_node(card));
}

static void card_gone(struct pciedma_card *card)
{
	pciedma_windows_gone(pciedma_card_node(card));
}

static void card_wake(struct pciedma_card *card)
{
	struct pciedma_card_node *node = pciedma_card_node(card);
	unsigned int i;

	wake_up_interruptible(&node->poll_wait);
	for (i = 0; i < node->num_channels; i++)
		wake_up_interruptible(&node->channels[i]->poll_wait);
}

const struct pciedma_card_user_ops pciedma_card_node_ops = {
	.closing	= card_closing,
	.ready		= pciedma_events_restore,
	.open		= card_opened,
	.gone		= card_gone,
	.wake		= card_wake,
	.interrupt	= pciedma_events_interrupt,
};
