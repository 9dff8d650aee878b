/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Channels: what user space reads from and writes to.
 */
#ifndef PCIEDMA_CHANNEL_H
#define PCIEDMA_CHANNEL_H

#include "../requests/entry.h"
#include "buffers.h"
#include "card_node.h"

/**
 * struct pciedma_channel - a data node: /dev/pciedma<card>c<index>
 * @dev:          the node's device; holds a reference to the card
 * @cdev:         the node
 * @node:         its card
 * @index:        number on its card
 * @kind:         what it is
 * @size:         bytes of card memory
 * @lanes:        its engines; without description: not there
 * @by_direction: which of them moves data this way, or NULL
 * @buffers:      what its buffers have in common
 * @poll_wait:    those who poll() the node
 * @open_lock:    protects what follows
 * @opens:        open files
 * @exclusive:    one of them was opened with O_EXCL
 * @entries:      their entries, of those that have some
 * @closed:       there is no card any more
 */
struct pciedma_channel {
	struct device dev;
	struct cdev cdev;
	struct pciedma_card_node *node;
	unsigned int index;
	enum pciedma_kind kind;
	u64 size;
	struct pciedma_lane lanes[PCIEDMA_DIRECTIONS];
	struct pciedma_lane *by_direction[PCIEDMA_DIRECTIONS];
	struct pciedma_buffer_home buffers;
	wait_queue_head_t poll_wait;
	struct mutex open_lock; /* what follows */
	unsigned int opens;
	bool exclusive;
	struct list_head entries;
	bool closed;
};

/* The gate of its card. */
static inline bool pciedma_channel_enter(struct pciedma_channel *channel)
{
	return pciedma_card_enter(&channel->node->card);
}

static inline void pciedma_channel_leave(struct pciedma_channel *channel)
{
	pciedma_card_leave(&channel->node->card);
}

/**
 * struct pciedma_channel_file - one open file
 * @channel:    its channel; the file holds a reference to the device
 * @exclusive:  it was opened with O_EXCL
 * @cancels:    how often CANCEL was asked
 * @backlogs:   its postponed requests, by the engine's own direction
 * @handles:    its buffers
 * @entries:    parts of them that are moved by TRANSFER; NULL before the first
 * @lock:       protects @mode and @timeout_ns
 * @mode:       how its calls wait
 * @timeout_ns: how long
 */
struct pciedma_channel_file {
	struct pciedma_channel *channel;
	bool exclusive;
	atomic_t cancels;
	struct pciedma_backlog backlogs[PCIEDMA_DIRECTIONS];
	struct pciedma_handles handles;
	struct pciedma_entries *entries;
	spinlock_t lock; /* mode, timeout_ns */
	u32 mode;
	s64 timeout_ns;
};

static inline struct pciedma_backlog *pciedma_file_backlog(struct pciedma_channel_file *cf,
							   const struct pciedma_lane *lane)
{
	return &cf->backlogs[lane->engine.direction];
}

/* channel.c */
void pciedma_channel_open_buffers(struct pciedma_channel *channel);
void pciedma_channel_close(struct pciedma_channel *channel);
struct pciedma_channel *pciedma_channel_alloc(struct pciedma_card_node *node,
					      const struct pciedma_channel_desc *desc);
int pciedma_channel_register(struct pciedma_channel *channel);

/* channel_node.c */
extern const struct file_operations pciedma_channel_fops;

/* channel_rw.c */
ssize_t pciedma_channel_read_iter(struct kiocb *iocb, struct iov_iter *to);
ssize_t pciedma_channel_write_iter(struct kiocb *iocb, struct iov_iter *from);

/* channel_ioctl.c */
long pciedma_channel_ioctl(struct file *file, unsigned int command, unsigned long value);

/* transfer_ioctl.c */
long pciedma_transfer_ioctl(struct file *file, struct pciedma_ioctl *ioctl);

/* results.c */
struct pciedma_entries *pciedma_file_entries(struct pciedma_channel_file *cf);
void pciedma_file_stop_entries(struct pciedma_channel_file *cf, const void *files);
long pciedma_wait_jiffies(s64 timeout_ns);
long pciedma_jiffies_left(unsigned long begin, long patience);
long pciedma_results_take(struct pciedma_channel_file *cf,
			  const struct pciedma_transfer_wait *wait);
long pciedma_results_tell(struct pciedma_channel_file *cf,
			  const struct pciedma_transfer_eventfd *asked);
bool pciedma_file_has_results(struct pciedma_channel_file *cf);

#endif /* PCIEDMA_CHANNEL_H */
