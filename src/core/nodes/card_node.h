/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What user space sees of a card: its node, its channels, its windows, its event lines.
 *
 * Life times
 *   card node, channel   from probe to the last close: embedded struct device
 *   inode                from probe to the last close or munmap of a window
 */
#ifndef PCIEDMA_CARD_NODE_H
#define PCIEDMA_CARD_NODE_H

#include <linux/cdev.h>
#include <linux/wait.h>

#include "../engine/engine.h"

struct pciedma_channel;
struct pciedma_windows;

/**
 * struct pciedma_listener - an open card node that may listen to event lines
 * @node:    on events->listeners
 * @card:    its card
 * @lines:   those that it listens to
 * @fired:   those that have fired since it last took notice
 * @eventfd: signalled for each time, or NULL
 *
 * All under the lock of the card's events but @card.
 */
struct pciedma_listener {
	struct list_head node;
	struct pciedma_card_node *card;
	u32 lines;
	u32 fired;
	struct eventfd_ctx *eventfd;
};

/**
 * struct pciedma_card_events - a card's event lines
 * @lock:      protects all of it, and its listeners
 * @listeners: open card nodes
 * @armed:     lines that may interrupt
 * @silent:    their registers must not be touched
 */
struct pciedma_card_events {
	spinlock_t lock; /* listeners, armed, silent */
	struct list_head listeners;
	u32 armed;
	bool silent;
};

/**
 * struct pciedma_card_node - a card as user space sees it: /dev/pciedma<index>
 * @card:         the card
 * @cdev:         its node
 * @inode:        what files of its nodes are mapped by
 * @windows:      its windows
 * @channels:     its channels
 * @num_channels: how many
 * @events:       its event lines
 * @poll_wait:    those who poll() the node
 */
struct pciedma_card_node {
	struct pciedma_card card;
	struct cdev cdev;
	struct inode *inode;
	struct pciedma_windows *windows;
	struct pciedma_channel *channels[PCIEDMA_MAX_CHANNELS];
	unsigned int num_channels;
	struct pciedma_card_events events;
	wait_queue_head_t poll_wait;
};

/**
 * struct pciedma_ioctl - an ioctl under way
 * @command:  which
 * @user:     user space's argument
 * @argument: core's copy of it
 */
struct pciedma_ioctl {
	unsigned int command;
	void __user *user;
	union {
		struct pciedma_card_info card_info;
		struct pciedma_channel_info channel_info;
		struct pciedma_window_info window_info;
		struct pciedma_wait wait;
		struct pciedma_cancel cancel;
		struct pciedma_reset reset;
		struct pciedma_events events;
		struct pciedma_buffer_create buffer_create;
		struct pciedma_buffer_destroy buffer_destroy;
		struct pciedma_buffer_export buffer_export;
		struct pciedma_transfer_batch batch;
		struct pciedma_transfer_wait transfer_wait;
		struct pciedma_transfer_eventfd transfer_eventfd;
	} argument;
};

static inline struct pciedma_card_node *pciedma_card_node(struct pciedma_card *card)
{
	return container_of(card, struct pciedma_card_node, card);
}

/* node.c */
int pciedma_nodes_init(void);
void pciedma_nodes_exit(void);
int pciedma_node_add(struct cdev *cdev, struct device *dev, const struct file_operations *fops);
void pciedma_node_remove(struct cdev *cdev, struct device *dev);

/* ioctl.c */
int pciedma_ioctl_begin(struct pciedma_ioctl *ioctl, unsigned int command, unsigned long value);
long pciedma_ioctl_end(struct pciedma_ioctl *ioctl, long ret);

/* card_inode.c */
struct inode *pciedma_inode_alloc(void);
void pciedma_inode_free(struct inode *inode);

/* card_node.c */
extern const struct pciedma_card_user_ops pciedma_card_node_ops;
int pciedma_card_register(struct pciedma_card_node *node);
long pciedma_card_get_info(struct pciedma_card_node *node, struct pciedma_card_info *info);

/* events.c */
void pciedma_events_init(struct pciedma_card_events *events);
void pciedma_listener_init(struct pciedma_listener *listener, struct pciedma_card_node *node);
void pciedma_listener_exit(struct pciedma_listener *listener);
long pciedma_listener_set(struct pciedma_listener *listener, const struct pciedma_events *events);
long pciedma_listener_get(struct pciedma_listener *listener, struct pciedma_events *events);
void pciedma_listener_put_back(struct pciedma_listener *listener, u32 lines);
ssize_t pciedma_listener_read(struct pciedma_listener *listener, u32 __user *lines, bool nonblock);
bool pciedma_listener_fired(struct pciedma_listener *listener);
bool pciedma_events_interrupt(struct pciedma_card *card);
void pciedma_events_silence(struct pciedma_card_node *node);
void pciedma_events_restore(struct pciedma_card *card);

/* sysfs.c */
extern const struct attribute_group *pciedma_card_groups[];
extern const struct attribute_group *pciedma_channel_groups[];

#endif /* PCIEDMA_CARD_NODE_H */
