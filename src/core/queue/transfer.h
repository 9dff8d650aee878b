/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Transfers: pieces of memory that an engine is to move.
 *
 * Life times: transfers are part of their queue. One is free, or somebody's, who hands it in and
 * has it back when it is finished. Its memory is held by its owner from when it is filled until
 * it is released, and by the hardware as mem.h says; the transfer is free when both have let go.
 */
#ifndef PCIEDMA_TRANSFER_H
#define PCIEDMA_TRANSFER_H

#include <linux/completion.h>
#include <linux/list.h>

#include "../engine/engine.h"
#include "../memory/buffer.h"

struct pciedma_door;
struct pciedma_queue;
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
 * @PCIEDMA_TRANSFER_SMALL: user memory in few pages
 * @PCIEDMA_TRANSFER_BIG:   memory of core's own to copy through; and user memory of 2 MiB, if the
 *                          engine works on that
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
 * @quiet:      its end need not be told of: another follows, whose end is
 * @alone:      what becomes of it is nothing to the others of its group
 * @waits_turn: its owner sleeps until it is the oldest, to poll then
 * @ended:      a segment was short or failed: nothing more of it is started
 * @direction:  which way its data goes
 * @id:         number for tracing
 * @ops:        whom it works for
 * @owner:      which of them
 * @group:      what is behind it of the same is not started when it fails; compared only
 * @file:       the open file, or the postponed request, that it works for, for CANCEL
 * @mem:        its memory: one of the three that follow, or its door's, or NULL while it has none
 * @stage:      memory of core's own
 * @user:       user memory
 * @part:       a part of @buffer
 * @buffer:     a buffer, while it has a part of it
 * @offset:     where in the buffer that begins
 * @skip:       bytes of the first entry of its memory's table that are not its own
 * @copies:     @user is only pinned: it gets a door when it starts
 * @door:       that door, until both its owner and the hardware have let go
 * @iter:       user memory that @stage is copied to
 * @sg:         entry from which the hardware takes the next segment
 * @sg_taken:   bytes of it that the hardware has
 * @address:    the card's address
 * @length:     bytes asked for
 * @taken:      bytes handed to the hardware
 * @done:       bytes known to have arrived
 * @inflight:   segments with the hardware
 * @error:      0 or the errno to report if @done is 0
 * @since:      when it was handed in, for who wants to know
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
	bool quiet;
	bool alone;
	bool cancelled;
	bool waits_turn;
	bool ended;
	enum pciedma_direction direction;
	u32 id;
	const struct pciedma_transfer_ops *ops;
	void *owner;
	const void *group;
	const void *file;
	struct pciedma_mem *mem;
	struct pciedma_stage stage;
	struct pciedma_user_mem user;
	struct pciedma_mem part;
	struct pciedma_buffer *buffer;
	size_t offset;
	u32 skip;
	bool copies;
	struct pciedma_door *door;
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

/* Whether a transfer works on user memory that was pinned for it. */
static inline bool pciedma_transfer_is_pinned(const struct pciedma_transfer *transfer)
{
	return transfer->mem == &transfer->user.mem;
}

/* Whether what has arrived in a buffer takes its time to be seen by the processor. */
static inline bool pciedma_transfer_syncs(const struct pciedma_transfer *transfer)
{
	return transfer->buffer && transfer->buffer->syncs && transfer->direction == PCIEDMA_C2H &&
	       transfer->done > PAGE_SIZE;
}

/* Whether a transfer works on memory that its user sees. */
static inline bool pciedma_transfer_is_direct(const struct pciedma_transfer *transfer)
{
	return pciedma_transfer_is_pinned(transfer) || transfer->mem == &transfer->part;
}

/* transfer.c */
int pciedma_transfer_submit(struct pciedma_queue *queue, struct pciedma_transfer *transfer);
bool pciedma_transfer_cancel(struct pciedma_queue *queue, struct pciedma_transfer *transfer);
void pciedma_transfers_cancel(struct pciedma_queue *queue, enum pciedma_direction direction,
			      const void *file);
void pciedma_queue_arm(struct pciedma_queue *queue, struct pciedma_transfer *transfer);
bool pciedma_transfer_is_oldest(struct pciedma_queue *queue, struct pciedma_transfer *transfer);
int pciedma_transfer_turn(struct pciedma_queue *queue, struct pciedma_transfer *transfer);
void pciedma_transfer_abort(struct pciedma_queue *queue, struct pciedma_transfer *transfer,
			    int error);

/* transfer_mem.c */
int pciedma_transfer_fill(struct pciedma_transfer *transfer, struct iov_iter *iter, size_t length,
			  bool unbounded);
int pciedma_transfer_pin(struct pciedma_transfer *transfer, struct iov_iter *iter, size_t length);
void pciedma_transfer_stage(struct pciedma_transfer *transfer, u32 length);
bool pciedma_transfer_may_take(const struct pciedma_queue *queue,
			       const struct pciedma_buffer *buffer, size_t offset, size_t length);
void pciedma_transfer_take(struct pciedma_transfer *transfer, struct pciedma_buffer *buffer,
			   size_t offset, u32 length);
void pciedma_transfer_for_cpu(struct pciedma_transfer *transfer);
void pciedma_transfer_release(struct pciedma_transfer *transfer, bool may_sleep);
void pciedma_transfer_keep(struct pciedma_transfer *transfer);
void pciedma_transfers_proven(struct pciedma_queue *queue);
void pciedma_transfers_let_go(struct pciedma_queue *queue);

#endif /* PCIEDMA_TRANSFER_H */
