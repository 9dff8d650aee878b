/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Windows: ranges of a card's BARs with registers of the user's logic.
 *
 * Life times
 *   window            from identify to the last close: embedded struct device
 *   its registers     mapped for the kernel from identify until after @gone
 *   user's mappings   as their programs like; what they show changes with the state
 *
 * The windows of a card have a gate of their own, @lock with @state. The card's gate would not
 * do: calls and faults wait here while others reset the card or have it asleep, frozen with
 * their process perhaps, and a removal must wait for none of them. Whoever holds @lock for
 * reading and finds PCIEDMA_WINDOWS_OPEN may touch registers, or let user space touch them by
 * inserting a page; whoever wants them left alone sets another state, takes @lock for writing
 * once, so that all who have seen the old one are out, and then takes the pages away, which
 * nobody inserts any more.
 *
 * Faults come with mmap_lock held. So under @lock nothing touches user memory, nor waits for
 * whoever might: a call copies before it enters or after it has left.
 */
#ifndef PCIEDMA_WINDOWS_H
#define PCIEDMA_WINDOWS_H

#include <linux/rwsem.h>

#include "card_node.h"

#define PCIEDMA_MAX_WINDOWS	8
#define PCIEDMA_WINDOW_WIDTHS	(1 | 2 | 4 | 8)

/**
 * enum pciedma_windows_state - whether registers may be touched
 * @PCIEDMA_WINDOWS_OPEN:   they may
 * @PCIEDMA_WINDOWS_CLOSED: not now: the card is being reset, asleep, or cut off by a bus error
 * @PCIEDMA_WINDOWS_GONE:   never again
 */
enum pciedma_windows_state {
	PCIEDMA_WINDOWS_OPEN,
	PCIEDMA_WINDOWS_CLOSED,
	PCIEDMA_WINDOWS_GONE,
};

/**
 * struct pciedma_window - a window: /dev/pciedma<card>w<index>
 * @dev:      the node's device; holds a reference to the card
 * @cdev:     the node
 * @node:     its card
 * @index:    number on its card
 * @name:     what its back end calls it
 * @bar:      where it lies
 * @offset:   bytes into the BAR
 * @size:     bytes
 * @widths:   widths of an access in bytes, as a mask of themselves
 * @mappable: user space may map it
 * @write_combining: it is mapped so, by the kernel as well: x86 allows one type only
 * @regs:     its registers; only inside the windows' gate
 * @phys:     where the processor finds them
 */
struct pciedma_window {
	struct device dev;
	struct cdev cdev;
	struct pciedma_card_node *node;
	unsigned int index;
	char name[16];
	int bar;
	resource_size_t offset;
	u64 size;
	u8 widths;
	bool mappable;
	bool write_combining;
	void __iomem *regs;
	phys_addr_t phys;
};

/**
 * struct pciedma_windows - the windows of a card, and their gate
 * @lock:  held for reading around each access and each insertion of a page
 * @change: held by whoever sets @state and @error
 * @state: whether registers may be touched
 * @error: what calls fail with while closed, or 0 if they wait
 * @wait:  those who wait until they are not closed any more
 * @list:  the windows
 * @count: how many
 */
struct pciedma_windows {
	struct rw_semaphore lock;
	struct mutex change; /* state, error */
	enum pciedma_windows_state state;
	int error;
	wait_queue_head_t wait;
	struct pciedma_window *list[PCIEDMA_MAX_WINDOWS];
	unsigned int count;
};

/* windows.c */
int pciedma_windows_alloc(struct pciedma_card_node *node);
void pciedma_windows_free(struct pciedma_card_node *node);
int pciedma_windows_enter(struct pciedma_windows *windows, bool nowait);
void pciedma_windows_leave(struct pciedma_windows *windows);
void pciedma_windows_wait(struct pciedma_windows *windows);
int pciedma_windows_register(struct pciedma_card_node *node);
void pciedma_windows_unregister(struct pciedma_card_node *node);
void pciedma_windows_unmap(struct pciedma_card_node *node);
void pciedma_windows_put(struct pciedma_card_node *node);
void pciedma_windows_close(struct pciedma_card_node *node, int error);
void pciedma_windows_open(struct pciedma_card_node *node);
void pciedma_windows_gone(struct pciedma_card_node *node);

/* window_node.c */
extern const struct file_operations pciedma_window_fops;
extern const struct attribute_group *pciedma_window_groups[];

/* mapping.c */
int pciedma_window_mmap(struct file *file, struct vm_area_struct *vma);

#endif /* PCIEDMA_WINDOWS_H */
