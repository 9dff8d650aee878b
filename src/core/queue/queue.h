/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An engine's queue: transfers in the order in which they were handed in. It is the source of the
 * engine's segments.
 *
 * All is under the engine's lock, but what belongs to a transfer's owner while it is his.
 */
#ifndef PCIEDMA_QUEUE_H
#define PCIEDMA_QUEUE_H

#include <linux/wait.h>

#include "../engine/engine.h"
#include "transfer.h"

/* Big transfers of an engine. */
#define PCIEDMA_MAX_BUFFERS	8
/* Small transfers of an engine: how deep its queue is. */
#define PCIEDMA_QUEUE_DEPTH	256
/* Doors of an engine that needs them. */
#define PCIEDMA_DOORS		4

/**
 * struct pciedma_door - memory of core's own for whichever transfer is about to start
 * @node:     on the queue's list while nobody has it
 * @stage:    the memory
 * @transfer: who has it, or NULL
 */
struct pciedma_door {
	struct list_head node;
	struct pciedma_stage stage;
	struct pciedma_transfer *transfer;
};

/**
 * struct pciedma_waiter - who waits for a transfer
 * @node:     on the queue's list
 * @file:     the open file, or the postponed request, for which it is
 * @size:     what it must have room for
 * @transfer: granted
 * @error:    why none will be, or 0
 * @granted:  @transfer or @error was set
 * @grant:    is called then, instead of @granted, under the engine's lock; or NULL
 */
struct pciedma_waiter {
	struct list_head node;
	const void *file;
	enum pciedma_transfer_size size;
	struct pciedma_transfer *transfer;
	int error;
	struct completion granted;
	void (*grant)(struct pciedma_waiter *waiter);
};

/**
 * struct pciedma_queue_ops - whom a queue's owner has to tell
 * @settled: something may have ended: no lock held; from any context
 * @fail:    the engine is broken: whatever waits behind the queue ends, too; engine lock held
 * @postpones: whether somebody waits behind the queue; engine lock held
 */
struct pciedma_queue_ops {
	void (*settled)(struct pciedma_queue *queue);
	void (*fail)(struct pciedma_queue *queue);
	bool (*postpones)(const struct pciedma_queue *queue);
};

/**
 * struct pciedma_queue - an engine's transfers
 * @source:     what the engine knows of it
 * @engine:     the engine
 * @ops:        whom to tell
 * @poll_wait:  who polls for it to be ready
 * @list:       transfers handed in and not finished, in order
 * @next:       first of them with bytes that the hardware does not have, or NULL
 * @free:       free transfers of each size
 * @num_free:   how many
 * @waiters:    who waits for one, in order
 * @kept:       those that have ended, and whose memory hardware may still use
 * @proven:     those of them that it has left meanwhile, to be let go of
 * @transfers:  all transfers
 * @num:        how many
 * @next_id:    for their ids
 * @doors:      doors that nobody has
 * @door:       all doors
 * @starved:    a transfer could not start for want of one
 * @direct:     they can work on user memory
 * @limits:     what the engine asks of that
 */
struct pciedma_queue {
	struct pciedma_source source;
	struct pciedma_engine *engine;
	const struct pciedma_queue_ops *ops;
	wait_queue_head_t *poll_wait;
	struct list_head list;
	struct pciedma_transfer *next;
	struct list_head free[PCIEDMA_TRANSFER_SIZES];
	unsigned int num_free;
	struct list_head waiters;
	struct list_head kept;
	struct list_head proven;
	struct pciedma_transfer *transfers;
	unsigned int num;
	u32 next_id;
	struct list_head doors;
	struct pciedma_door door[PCIEDMA_DOORS];
	bool starved;
	bool direct;
	struct pciedma_mem_limits limits;
};

/* queue.c */
void pciedma_queue_init(struct pciedma_queue *queue, struct pciedma_engine *engine,
			const struct pciedma_queue_ops *ops, wait_queue_head_t *poll_wait);
bool pciedma_queue_ready(struct pciedma_queue *queue);
void pciedma_queue_add(struct pciedma_queue *queue, struct pciedma_transfer *transfer);
void pciedma_queue_cut(struct pciedma_queue *queue, struct pciedma_transfer *transfer);
void pciedma_queue_remove(struct pciedma_queue *queue, struct pciedma_transfer *transfer);

/* pool.c */
int pciedma_transfers_alloc(struct pciedma_queue *queue);
void pciedma_transfers_free(struct pciedma_queue *queue);
enum pciedma_transfer_size pciedma_transfer_size(const struct pciedma_queue *queue,
						 const struct iov_iter *iter);
struct pciedma_transfer *pciedma_transfer_try_acquire(struct pciedma_queue *queue,
						      enum pciedma_transfer_size size);
bool pciedma_transfer_ask(struct pciedma_queue *queue, struct pciedma_waiter *waiter);
int pciedma_transfer_unask(struct pciedma_queue *queue, struct pciedma_waiter *waiter, int error);
void pciedma_waiter_refuse(struct pciedma_queue *queue, struct pciedma_waiter *waiter, int error);
void pciedma_waiters_refuse(struct pciedma_queue *queue, const void *file, int error);
void pciedma_transfer_free(struct pciedma_transfer *transfer);

/* door.c */
int pciedma_doors_alloc(struct pciedma_queue *queue);
void pciedma_doors_free(struct pciedma_queue *queue);
size_t pciedma_door_room(const struct pciedma_queue *queue);
bool pciedma_door_open(struct pciedma_queue *queue, struct pciedma_transfer *transfer);
void pciedma_door_out(struct pciedma_transfer *transfer);

#endif /* PCIEDMA_QUEUE_H */
