// SPDX-License-Identifier: GPL-2.0-only
/*
 * The windows of a card: their life, from the back end's word to the last close, and the gate
 * in front of their registers.
 */
#include <linux/ctype.h>
#include <linux/freezer.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>

#include "windows.h"

#define WAIT_STATE	(TASK_KILLABLE | TASK_FREEZABLE)

static bool windows = true;
module_param(windows, bool, 0444);
MODULE_PARM_DESC(windows, "nodes for the registers of the user's logic; off: none");

/**
 * pciedma_windows_alloc() - make the gate of a card that has no window yet
 * @node: the card
 *
 * Context: process.
 * Return: 0 or -ENOMEM.
 */
int pciedma_windows_alloc(struct pciedma_card_node *node)
{
	node->windows = kzalloc(sizeof(*node->windows), GFP_KERNEL);
	if (!node->windows)
		return -ENOMEM;
	init_rwsem(&node->windows->lock);
	mutex_init(&node->windows->change);
	init_waitqueue_head(&node->windows->wait);
	return 0;
}

/**
 * pciedma_windows_free() - free it
 * @node: the card, of which nobody has a window any more
 *
 * Context: process.
 */
void pciedma_windows_free(struct pciedma_card_node *node)
{
	kfree(node->windows);
}

static bool name_valid(const char *name)
{
	const char *c = name;

	if (!name || !islower(*name) || strlen(name) >= sizeof_field(struct pciedma_window, name))
		return false;
	while (islower(*c) || isdigit(*c) || *c == '-')
		c++;
	/* c0 is the name of a channel in the links of /dev/pciedma/by-path. */
	return !*c && !(name[0] == 'c' && isdigit(name[1]));
}

static bool overlaps(u64 a, u64 a_length, u64 b, u64 b_length)
{
	return a < b + b_length && b < a + a_length;
}

/* Whoever can write the messages' table can send any interrupt, and write to memory. */
static bool has_msix(struct pci_dev *pdev, const struct pciedma_window_desc *desc)
{
	u32 table, pending;
	u16 flags;
	u32 count;

	if (!pdev->msix_cap)
		return false;
	pci_read_config_word(pdev, pdev->msix_cap + PCI_MSIX_FLAGS, &flags);
	pci_read_config_dword(pdev, pdev->msix_cap + PCI_MSIX_TABLE, &table);
	pci_read_config_dword(pdev, pdev->msix_cap + PCI_MSIX_PBA, &pending);
	count = (flags & PCI_MSIX_FLAGS_QSIZE) + 1;
	return ((table & PCI_MSIX_TABLE_BIR) == desc->bar &&
		overlaps(table & PCI_MSIX_TABLE_OFFSET, count * PCI_MSIX_ENTRY_SIZE, desc->offset,
			 desc->length)) ||
	       ((pending & PCI_MSIX_PBA_BIR) == desc->bar &&
		overlaps(pending & PCI_MSIX_PBA_OFFSET, DIV_ROUND_UP(count, 64) * sizeof(u64),
			 desc->offset, desc->length));
}

/* Returns what is wrong with a window besides its BAR, or NULL. */
static const char *window_fault(struct pciedma_card_node *node,
				const struct pciedma_window_desc *desc)
{
	unsigned int widest = desc->widths ? rounddown_pow_of_two(desc->widths) : 0;
	struct pciedma_window *other;
	unsigned int i;

	if (node->windows->count == PCIEDMA_MAX_WINDOWS)
		return "there are too many";
	if (!desc->widths || desc->widths & ~PCIEDMA_WINDOW_WIDTHS)
		return "widths are a mask of 1, 2, 4 and 8";
	if ((desc->offset | desc->length) & (widest - 1))
		return "its place and its length are no multiples of the widest access";
	if (has_msix(node->card.pdev, desc))
		return "the table of the interrupt messages lies in it";
	if (desc->write_combining && node->card.mmio[desc->bar])
		return "others use its BAR without write-combining";
	for (i = 0; i < node->windows->count; i++) {
		other = node->windows->list[i];
		if (!strcmp(other->name, desc->name))
			return "there is another of this name";
		if (other->bar == desc->bar &&
		    overlaps(other->offset, other->size, desc->offset, desc->length))
			return "another lies at the same place";
	}
	return NULL;
}

/* The same of the BAR; a length of 0 becomes what the BAR has. */
static const char *window_bar_fault(struct pci_dev *pdev, struct pciedma_window_desc *desc)
{
	resource_size_t length;

	if (!name_valid(desc->name))
		return "a name is 1 to 15 small letters, digits and hyphens, and not a channel's";
	if (desc->bar < 0 || desc->bar >= PCI_STD_NUM_BARS ||
	    !(pci_resource_flags(pdev, desc->bar) & IORESOURCE_MEM))
		return "its BAR is not there";
	length = pci_resource_len(pdev, desc->bar);
	if (desc->offset >= length || desc->length > length - desc->offset)
		return "it goes beyond its BAR";
	if (!desc->length)
		desc->length = length - desc->offset;
	return NULL;
}

static void window_dev_release(struct device *dev)
{
	struct pciedma_window *window = container_of(dev, struct pciedma_window, dev);

	put_device(&window->node->card.dev);
	kfree(window);
}

static struct pciedma_window *window_alloc(struct pciedma_card_node *node,
					   const struct pciedma_window_desc *desc)
{
	struct pciedma_window *window = kzalloc(sizeof(*window), GFP_KERNEL);

	if (!window)
		return NULL;
	device_initialize(&window->dev);
	window->dev.groups = pciedma_window_groups;
	window->dev.release = window_dev_release;
	window->dev.parent = &node->card.dev;
	get_device(&node->card.dev);
	window->node = node;
	window->index = node->windows->count;
	strscpy(window->name, desc->name, sizeof(window->name));
	window->bar = desc->bar;
	window->offset = desc->offset;
	window->size = desc->length;
	/* 32-bit processors make two accesses of one. */
	window->widths = IS_ENABLED(CONFIG_64BIT) ? desc->widths : desc->widths & ~8;
	window->write_combining = desc->write_combining;
	window->phys = pci_resource_start(node->card.pdev, desc->bar) + desc->offset;
	window->mappable = desc->mappable && PAGE_ALIGNED(window->phys) &&
			   PAGE_ALIGNED(window->size);
	return window;
}

static int window_map(struct pciedma_window *window)
{
	struct pci_dev *pdev = window->node->card.pdev;
	int ret;

	ret = pciedma_card_request(&window->node->card, window->bar);
	if (ret)
		return ret;
	if (window->write_combining)
		window->regs = pci_iomap_wc_range(pdev, window->bar, window->offset, window->size);
	else
		window->regs = pci_iomap_range(pdev, window->bar, window->offset, window->size);
	return window->regs ? 0 : -ENOMEM;
}

/**
 * pciedma_window_add() - a card has this window
 * @card: the card
 * @given: the window
 *
 * With core's parameter windows=0 nothing happens.
 *
 * Context: inside identify.
 * Return: 0; -EINVAL after a log line if it cannot be one; another errno.
 */
int pciedma_window_add(struct pciedma_card *card, const struct pciedma_window_desc *given)
{
	struct pciedma_card_node *node = pciedma_card_node(card);
	struct pciedma_window_desc desc = *given;
	struct pciedma_window *window;
	const char *fault;
	int ret;

	if (!windows)
		return 0;
	fault = window_bar_fault(card->pdev, &desc) ?: window_fault(node, &desc);
	if (fault) {
		pci_err(card->pdev, "no window \"%s\" in BAR%d: %s\n", desc.name ?: "", desc.bar,
			fault);
		return -EINVAL;
	}
	window = window_alloc(node, &desc);
	if (!window)
		return -ENOMEM;
	ret = window_map(window);
	if (ret) {
		pci_err(card->pdev, "no window \"%s\" in BAR%d: error %d\n", desc.name, desc.bar,
			ret);
		put_device(&window->dev);
		return ret;
	}
	node->windows->list[node->windows->count++] = window;
	return 0;
}
EXPORT_SYMBOL_GPL(pciedma_window_add);

/**
 * pciedma_windows_register() - make the nodes
 * @node: the card
 *
 * Context: process.
 * Return: 0 or an errno.
 */
int pciedma_windows_register(struct pciedma_card_node *node)
{
	struct pciedma_window *window;
	unsigned int i;
	int ret = 0;

	for (i = 0; !ret && i < node->windows->count; i++) {
		window = node->windows->list[i];
		ret = dev_set_name(&window->dev, "pciedma%dw%u", node->card.index, i) ?:
		      pciedma_node_add(&window->cdev, &window->dev, &pciedma_window_fops);
	}
	return ret;
}

/**
 * pciedma_windows_unregister() - remove those that were made; open files and mappings stay
 * @node: the card
 *
 * Context: process.
 */
void pciedma_windows_unregister(struct pciedma_card_node *node)
{
	unsigned int i;

	for (i = 0; i < node->windows->count; i++)
		pciedma_node_remove(&node->windows->list[i]->cdev, &node->windows->list[i]->dev);
}

/**
 * pciedma_windows_unmap() - give the kernel's mappings back
 * @node: the card, whose nodes were never made or which has told that it is gone
 *
 * Context: process.
 */
void pciedma_windows_unmap(struct pciedma_card_node *node)
{
	struct pciedma_window *window;
	unsigned int i;

	for (i = 0; i < node->windows->count; i++) {
		window = node->windows->list[i];
		pci_iounmap(node->card.pdev, window->regs);
		window->regs = NULL;
	}
}

/**
 * pciedma_windows_put() - let go of the windows
 * @node: the card
 *
 * Context: process.
 */
void pciedma_windows_put(struct pciedma_card_node *node)
{
	struct pciedma_windows *all = node->windows;

	while (all->count)
		put_device(&all->list[--all->count]->dev);
}

/**
 * pciedma_windows_enter() - pass the windows' gate, to touch a register
 * @all:    the windows
 * @nowait: do not wait until they are open
 *
 * Inside, nothing may touch user memory; see windows.h.
 *
 * Context: process, neither mmap_lock nor the card's gate held.
 * Return: 0 inside; -EAGAIN; -ENODEV if the card has gone; -EIO while a bus error cuts it off;
 * -EINTR if the process is killed.
 */
int pciedma_windows_enter(struct pciedma_windows *all, bool nowait)
{
	int ret;

	for (;;) {
		if (!nowait)
			down_read(&all->lock);
		else if (!down_read_trylock(&all->lock))
			return -EAGAIN;
		if (all->state == PCIEDMA_WINDOWS_OPEN)
			return 0;
		ret = all->state == PCIEDMA_WINDOWS_GONE ? -ENODEV : all->error;
		up_read(&all->lock);
		if (ret)
			return ret;
		if (nowait)
			return -EAGAIN;
		ret = wait_event_state(all->wait,
				       READ_ONCE(all->state) != PCIEDMA_WINDOWS_CLOSED ||
				       READ_ONCE(all->error), WAIT_STATE);
		if (ret)
			return -EINTR;
	}
}

/**
 * pciedma_windows_leave() - leave it
 * @all: entered before
 *
 * Context: process.
 */
void pciedma_windows_leave(struct pciedma_windows *all)
{
	up_read(&all->lock);
}

/**
 * pciedma_windows_wait() - wait until they are closed no longer, or the process is killed
 * @all: the windows, of a card to which the caller holds a reference
 *
 * Context: process, mmap_lock not held; may be frozen.
 */
void pciedma_windows_wait(struct pciedma_windows *all)
{
	/* Whoever is killed faults no more: how this ended does not matter. */
	(void)wait_event_state(all->wait, READ_ONCE(all->state) != PCIEDMA_WINDOWS_CLOSED,
			       WAIT_STATE);
}

/* Returns whether somebody may have pages. */
static bool windows_set(struct pciedma_card_node *node, enum pciedma_windows_state state, int error)
{
	struct pciedma_windows *all = node->windows;

	if (!all->count)
		return false;
	guard(mutex)(&all->change);
	if (all->state != PCIEDMA_WINDOWS_GONE) {
		WRITE_ONCE(all->error, error);
		WRITE_ONCE(all->state, state);
	}
	/* Not before: where the lock is unfair, new readers come in for ever. */
	down_write(&all->lock);
	up_write(&all->lock);
	wake_up_all(&all->wait);
	return true;
}

/**
 * pciedma_windows_close() - nobody may touch registers from now on
 * @node:  the card
 * @error: what calls fail with meanwhile; 0: they wait
 *
 * Context: process. May be called again.
 */
void pciedma_windows_close(struct pciedma_card_node *node, int error)
{
	if (windows_set(node, PCIEDMA_WINDOWS_CLOSED, error))
		unmap_mapping_range(node->inode->i_mapping, 0, 0, 1);
}

/**
 * pciedma_windows_open() - registers may be touched again, unless the card has gone
 * @node: the card
 *
 * Context: process.
 */
void pciedma_windows_open(struct pciedma_card_node *node)
{
	windows_set(node, PCIEDMA_WINDOWS_OPEN, 0);
}

/**
 * pciedma_windows_gone() - nobody may touch registers ever again
 * @node: the card
 *
 * Context: process.
 */
void pciedma_windows_gone(struct pciedma_card_node *node)
{
	if (windows_set(node, PCIEDMA_WINDOWS_GONE, 0))
		unmap_mapping_range(node->inode->i_mapping, 0, 0, 1);
}
