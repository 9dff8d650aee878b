/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An engine's queue: transfers, which are pieces of memory that are to be moved, in the order in
 * which they were handed in. It is the source of the engine's segments.
 *
 * Life times: transfers are part of their queue. One is free, or somebody's, who hands it in and
 * has it back when it is finished. Its memory is held by its owner from when it is filled until
 * it is released, and by the hardware as mem.h says; the transfer is free when both have let go.
 *
 * All is under the engine's lock, but what belongs to a transfer's owner while it is his.
 */
#ifndef PCIEDMA_QUEUE_H
#define PCIEDMA_QUEUE_H

#include <linux/completion.h>
#include <linux/list.h>
#include <linux/wait.h>

#include "../engine/engine.h"
#include "../memory/mem.h"

#define PCIEDMA_MAX_BUFFERS	8
/* Transfers of an engine that works on user memory: how deep its queue is. */
#define PCIEDMA_MAX_TRANSFERS	256

struct pciedma_transfer;

/**
 * enum pciedma_transfer_state - who has a transfer
 * @PCIEDMA_TRANSFER_FREE:   nobody: it is on the queue's free list, or the hardware has its
 *                           memory
 * @PCIEDMA_TRANSFER_OWNED:  a request fills or empties it
 * @PCIEDMA_TRANSFER_QUEUED: on the queue; with the hardware once @taken is not 0
 */
enum pciedma_transfer_state {
	PCIEDMA_TRANSFER_FREE,
	PCIEDMA_TRANSFER_OWNED,
	PCIEDMA_TRANSFER_QUEUED,
};

/**
 * enum pciedma_transfer_size - what a transfer has room for
 * @PCIEDMA_TRANSFER_SMALL: user memory in few pages; only where the engine works on that
 * @PCIEDMA_TRANSFER_BIG:   user memory of 2 MiB, and memory of core's own to copy through
 * @PCIEDMA_TRANSFER_SIZES: how many sizes there are
 */
enum pciedma_transfer_size {
	PCIEDMA_TRANSFER_SMALL,
	PCIEDMA_TRANSFER_BIG,
	PCIEDMA_TRANSFER_SIZES,
};

/**
 * struct pciedma_transfer_ops - whom a transfer works for
 * @finished: it has left the queue: it has ended, or was cancelled; engine lock held
 */
struct pciedma_transfer_ops {
	void (*finished)(struct pciedma_transfer *transfer);
};

/**
 * struct pciedma_transfer - a piece of memory that an engine works on
 * @node:       on the queue's free list, on the queue, or among what is kept
 * @queue:      its queue
 * @size:       what it has room for
 * @state:      who has it
 * @kept:       it has ended, but the hardware is not proven to have left its memory
 * @held:       the hardware holds a reference to its memory
 * @polled:     its owner looks for the end itself
 * @cancelled:  its owner shall give up
 * @waits_turn: its owner sleeps until it is the oldest, to poll then
 * @ended:      a segment was short or failed: nothing more of it is started
 * @direction:  which way its data goes
 * @id:         number for tracing
 * @ops:        whom it works for
 * @owner:      which of them; what is behind it of the same owner is not started when it fails
 * @file:       the open file, or the postponed request, that it works for, for CANCEL
 * @mem:        its memory: one of the two that follow, or NULL while it has none
 * @stage:      memory of core's own
 * @user:       user memory
 * @iter:       user memory that @stage is copied to
 * @sg:         entry from which the hardware takes the next segment
 * @sg_taken:   bytes of it that the hardware has
 * @address:    the card's address
 * @length:     bytes asked for
 * @taken:      bytes handed to the hardware
 * @done:       bytes known to have arrived
 * @inflight:   segments with the hardware
 * @error:      0 or the errno to report if @done is 0
 * @since:      when it was handed in
 * @finished:   completed, under the engine's lock, when it leaves the queue or is cancelled
 * @sibling:    in the order of an asynchronous request
 */
struct pciedma_transfer {
	struct list_head node;
	struct pciedma_queue *queue;
	enum pciedma_transfer_size size;
	enum pciedma_transfer_state state;
	bool kept;
	bool held;
	bool polled;
	bool cancelled;
	bool waits_turn;
	bool ended;
	enum pciedma_direction direction;
	u32 id;
	const struct pciedma_transfer_ops *ops;
	void *owner;
	const void *file;
	struct pciedma_mem *mem;
	struct pciedma_stage stage;
	struct pciedma_user_mem user;
	struct iov_iter iter;
	struct scatterlist *sg;
	u32 sg_taken;
	u64 address;
	u32 length;
	u32 taken;
	u32 done;
	unsigned int inflight;
	int error;
	ktime_t since;
	struct completion finished;
	struct list_head sibling;
};

/**
 * struct pciedma_waiter - who waits for a transfer
 * @node:     on the queue's list
 * @file:     the open file, or the postponed request, for which it is
 * @size:     what it must have room for
 * @transfer: granted
 * @error:    why none will be, or 0
 * @granted:  @transfer or @error was set
 */
struct pciedma_waiter {
	struct list_head node;
	const void *file;
	enum pciedma_transfer_size size;
	struct pciedma_transfer *transfer;
	int error;
	struct completion granted;
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
	bool direct;
	struct pciedma_mem_limits limits;
};

/* Whether a transfer works on user memory. */
static inline bool pciedma_transfer_is_direct(const struct pciedma_transfer *transfer)
{
	return transfer->mem == &transfer->user.mem;
}

/* queue.c */
void pciedma_queue_init(struct pciedma_queue *queue, struct pciedma_engine *engine,
			const struct pciedma_queue_ops *ops, wait_queue_head_t *poll_wait);
bool pciedma_queue_ready(struct pciedma_queue *queue);
void pciedma_queue_add(struct pciedma_queue *queue, struct pciedma_transfer *transfer);
void pciedma_queue_remove(struct pciedma_queue *queue, struct pciedma_transfer *transfer);

/* transfer.c */
int pciedma_transfer_submit(struct pciedma_queue *queue, struct pciedma_transfer *transfer);
bool pciedma_transfer_cancel(struct pciedma_queue *queue, struct pciedma_transfer *transfer);
void pciedma_transfers_cancel(struct pciedma_queue *queue, enum pciedma_direction direction,
			      const void *file);
void pciedma_transfer_arm(struct pciedma_queue *queue, struct pciedma_transfer *transfer);
bool pciedma_transfer_is_oldest(struct pciedma_queue *queue, struct pciedma_transfer *transfer);
int pciedma_transfer_turn(struct pciedma_queue *queue, struct pciedma_transfer *transfer);
void pciedma_transfer_abort(struct pciedma_queue *queue, struct pciedma_transfer *transfer,
			    int error);

/* pool.c */
int pciedma_transfers_alloc(struct pciedma_queue *queue);
void pciedma_transfers_free(struct pciedma_queue *queue);
enum pciedma_transfer_size pciedma_transfer_size(const struct pciedma_queue *queue,
						 const struct iov_iter *iter);
struct pciedma_transfer *pciedma_transfer_try_acquire(struct pciedma_queue *queue,
						      enum pciedma_transfer_size size);
bool pciedma_transfer_ask(struct pciedma_queue *queue, struct pciedma_waiter *waiter);
int pciedma_transfer_unask(struct pciedma_queue *queue, struct pciedma_waiter *waiter, int error);
void pciedma_waiters_refuse(struct pciedma_queue *queue, const void *file, int error);
int pciedma_transfer_fill(struct pciedma_transfer *transfer, struct iov_iter *iter, size_t length,
			  bool unbounded);
void pciedma_transfer_stage(struct pciedma_transfer *transfer, u32 length);
void pciedma_transfer_release(struct pciedma_transfer *transfer, bool may_sleep);
void pciedma_transfer_keep(struct pciedma_transfer *transfer);
void pciedma_transfers_proven(struct pciedma_queue *queue);
void pciedma_transfers_let_go(struct pciedma_queue *queue);

#endif /* PCIEDMA_QUEUE_H */
