// SPDX-License-Identifier: GPL-2.0-only
/*
 * The memory of transfers: what they work on, who lets go of it when, and what hardware may still
 * use of it.
 */
#include "queue.h"

static void transfer_stage_release(struct pciedma_mem *mem, bool may_sleep)
{
	pciedma_transfer_free(container_of(mem, struct pciedma_transfer, stage.mem));
}

static const struct pciedma_mem_ops transfer_stage_ops = {
	.release = transfer_stage_release,
};

/* If it may not sleep, its pages are still marked as changed. */
static void transfer_user_release(struct pciedma_mem *mem, bool may_sleep)
{
	struct pciedma_transfer *transfer = container_of(mem, struct pciedma_transfer, user.mem);

	pciedma_user_mem_unmap(&transfer->user);
	pciedma_user_mem_unpin(&transfer->user, may_sleep);
	pciedma_transfer_free(transfer);
}

static const struct pciedma_mem_ops transfer_user_ops = {
	.release = transfer_user_release,
};

/* The hardware and its owner have let go. */
static void transfer_part_release(struct pciedma_mem *mem, bool may_sleep)
{
	struct pciedma_transfer *transfer = container_of(mem, struct pciedma_transfer, part);
	struct pciedma_buffer *buffer = transfer->buffer;

	transfer->buffer = NULL;
	transfer->skip = 0;
	atomic_dec(&buffer->uses);
	pciedma_mem_put(&buffer->mem, may_sleep);
	pciedma_transfer_free(transfer);
}

static const struct pciedma_mem_ops transfer_part_ops = {
	.release = transfer_part_release,
};

/**
 * pciedma_transfer_may_take() - whether an engine can work on a part of a buffer
 * @queue:  the engine's
 * @buffer: the buffer, mapped
 * @offset: where the part begins
 * @length: its bytes, not 0
 *
 * A message is one DMA, so that it has to lie together.
 *
 * Return: true if so.
 */
bool pciedma_transfer_may_take(const struct pciedma_queue *queue,
			       const struct pciedma_buffer *buffer, size_t offset, size_t length)
{
	const struct pciedma_mem_limits *limits = &queue->limits;
	struct scatterlist *entry;
	u32 skip;

	entry = pciedma_buffer_find(buffer, offset, &skip);
	if (!IS_ALIGNED(sg_dma_address(entry) + skip, limits->alignment) ||
	    !IS_ALIGNED(length, limits->granularity))
		return false;
	return queue->engine->kind != PCIEDMA_KIND_MESSAGE || length <= sg_dma_len(entry) - skip;
}

/**
 * pciedma_transfer_take() - let a transfer work on a part of a buffer
 * @transfer: owned by the caller, without memory, its direction set
 * @buffer:   the buffer, mapped; the caller's reference becomes the transfer's; the part is the
 *            device's: pciedma_buffer_for_device()
 * @offset:   where the part begins
 * @length:   its bytes: the engine can work on them
 *
 * Context: any.
 */
void pciedma_transfer_take(struct pciedma_transfer *transfer, struct pciedma_buffer *buffer,
			   size_t offset, u32 length)
{
	struct pciedma_mem *part = &transfer->part;

	pciedma_mem_init(part, &transfer_part_ops, buffer->mem.dev, buffer->mem.direction);
	part->table.sgl = pciedma_buffer_find(buffer, offset, &transfer->skip);
	transfer->buffer = buffer;
	transfer->offset = offset;
	transfer->mem = part;
	transfer->length = length;
	transfer->user.num_pages = 0;
	transfer->user.pinned = false;
	atomic_inc(&buffer->uses);
}

/**
 * pciedma_transfer_for_cpu() - the processor may see what has arrived in a buffer
 * @transfer: ended, and owned by the caller
 *
 * Context: any.
 */
void pciedma_transfer_for_cpu(struct pciedma_transfer *transfer)
{
	if (transfer->buffer && transfer->direction == PCIEDMA_C2H && transfer->done)
		pciedma_buffer_for_cpu(transfer->buffer, transfer->offset, transfer->done);
}

/**
 * pciedma_transfer_stage() - let a transfer work on memory of core's own
 * @transfer: owned by the caller, without memory
 * @length:   bytes that it moves
 *
 * Context: any.
 */
void pciedma_transfer_stage(struct pciedma_transfer *transfer, u32 length)
{
	pciedma_stage_use(&transfer->stage, &transfer_stage_ops, length);
	transfer->mem = &transfer->stage.mem;
	transfer->length = length;
}

/**
 * pciedma_transfer_fill() - let a transfer work on user memory
 * @transfer:  owned by the caller, without memory, its direction set
 * @iter:      the memory; is advanced if it goes well
 * @length:    bytes wanted, at most what @iter has
 * @unbounded: the transfer may be held for ever: count its pages against the limit of locked
 *             memory
 *
 * Context: process; waits for nobody's memory.
 * Return: 0; -EFAULT if the memory is not there now, or can only be copied; -ENOMEM beyond the
 * limit; -EAGAIN if it could not be mapped, for want of bounce buffers.
 */
int pciedma_transfer_fill(struct pciedma_transfer *transfer, struct iov_iter *iter, size_t length,
			  bool unbounded)
{
	const struct pciedma_mem_limits *limits = &transfer->queue->limits;
	struct pciedma_user_mem *user = &transfer->user;
	struct iov_iter before = *iter;
	ssize_t ret;

	pciedma_mem_init(&user->mem, &transfer_user_ops, limits->dev,
			 transfer->direction == PCIEDMA_C2H ? DMA_FROM_DEVICE : DMA_TO_DEVICE);
	ret = pciedma_user_mem_fill(user, limits, iter, length, unbounded);
	if (ret < 0)
		return ret;
	if (!pciedma_user_mem_map(user)) {
		transfer->mem = &user->mem;
		transfer->length = ret;
		return 0;
	}
	pciedma_user_mem_unaccount(user);
	pciedma_user_mem_unpin(user, true);
	*iter = before;
	return -EAGAIN;
}

/**
 * pciedma_transfer_pin() - let a transfer copy from or to user memory when it starts
 * @transfer:  owned by the caller, without memory, its direction set
 * @iter:      the memory; is advanced if it goes well
 * @length:    bytes wanted, at most what @iter has and what goes through a door
 *
 * Context: process; waits for nobody's memory.
 * Return: 0; -EFAULT if not all of the memory is there now, or if it cannot be pinned; -EAGAIN if
 * it lies in too many pages.
 */
int pciedma_transfer_pin(struct pciedma_transfer *transfer, struct iov_iter *iter, size_t length)
{
	const struct pciedma_mem_limits *limits = &transfer->queue->limits;
	struct pciedma_user_mem *user = &transfer->user;
	struct iov_iter before = *iter;
	ssize_t ret;

	user->mem.direction = transfer->direction == PCIEDMA_C2H ? DMA_FROM_DEVICE : DMA_TO_DEVICE;
	ret = pciedma_user_mem_fill(user, limits, iter, length, false);
	if (ret < 0)
		return ret;
	transfer->copies = true;
	if (ret == length) {
		transfer->length = length;
		return 0;
	}
	*iter = before;
	return user->num_pages == user->max_pages ? -EAGAIN : -EFAULT;
}

/* What its owner gets back although hardware may still write to it must not change any more. */
static void transfer_sync_kept(struct pciedma_transfer *transfer)
{
	guard(spinlock_irqsave)(&transfer->queue->engine->lock);
	if (transfer->kept && pciedma_transfer_is_pinned(transfer))
		pciedma_user_mem_sync(&transfer->user);
	transfer->state = PCIEDMA_TRANSFER_FREE;
}

/**
 * pciedma_transfer_release() - let go of a transfer and its memory
 * @transfer:  owned by the caller
 * @may_sleep: the caller may; otherwise its pages are still marked as changed
 *
 * It goes to the next who waits for one, as soon as the hardware has let go, too.
 *
 * Context: any.
 */
void pciedma_transfer_release(struct pciedma_transfer *transfer, bool may_sleep)
{
	if (transfer->copies)
		pciedma_user_mem_unpin(&transfer->user, may_sleep);
	transfer->copies = false;
	if (!transfer->mem) {
		pciedma_transfer_free(transfer);
		return;
	}
	if (READ_ONCE(transfer->kept)) /* what is not when it has ended will not be */
		transfer_sync_kept(transfer);
	pciedma_mem_put(transfer->mem, may_sleep);
}

static s64 transfer_bytes(const struct pciedma_transfer *transfer)
{
	if (pciedma_transfer_is_pinned(transfer))
		return transfer->user.num_pages * PAGE_SIZE;
	if (transfer->buffer)
		return transfer->length;
	return transfer->door ? transfer->door->stage.size : transfer->stage.size;
}

/**
 * pciedma_transfer_keep() - a transfer has ended, but hardware may still use its memory
 * @transfer: the transfer
 *
 * Context: engine lock held.
 */
void pciedma_transfer_keep(struct pciedma_transfer *transfer)
{
	struct pciedma_queue *queue = transfer->queue;

	lockdep_assert_held(&queue->engine->lock);
	transfer->kept = true;
	if (pciedma_transfer_is_pinned(transfer))
		pciedma_user_mem_keep(&transfer->user);
	list_add_tail(&transfer->node, &queue->kept);
	queue->engine->kept++;
	atomic64_add(transfer_bytes(transfer), &queue->engine->card->quarantined);
}

/**
 * pciedma_transfers_proven() - the hardware has left all memory
 * @queue: the queue
 *
 * Then pciedma_transfers_let_go() must be called.
 *
 * Context: engine lock held.
 */
void pciedma_transfers_proven(struct pciedma_queue *queue)
{
	struct pciedma_transfer *transfer;

	list_for_each_entry(transfer, &queue->kept, node) {
		WRITE_ONCE(transfer->kept, false);
		queue->engine->kept--;
		atomic64_sub(transfer_bytes(transfer), &queue->engine->card->quarantined);
	}
	list_splice_tail_init(&queue->kept, &queue->proven);
}

static struct pciedma_transfer *queue_take_proven(struct pciedma_queue *queue)
{
	struct pciedma_transfer *transfer;

	guard(spinlock_irqsave)(&queue->engine->lock);
	transfer = list_first_entry_or_null(&queue->proven, struct pciedma_transfer, node);
	if (transfer) {
		list_del(&transfer->node);
		transfer->held = false;
	}
	return transfer;
}

/**
 * pciedma_transfers_let_go() - the hardware lets go of what it was proven to have left
 * @queue: the queue
 *
 * Context: process.
 */
void pciedma_transfers_let_go(struct pciedma_queue *queue)
{
	struct pciedma_transfer *transfer;

	while ((transfer = queue_take_proven(queue)))
		pciedma_mem_put(transfer->mem, true);
}
