// SPDX-License-Identifier: GPL-2.0-only
/*
 * A queue's transfers: who has which, their memory, and what hardware may still use of it.
 */
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/slab.h>

#include "queue.h"

/* A small transfer's user memory. */
#define SMALL_SIZE	SZ_64K

#define for_each_transfer(queue, transfer)					\
	for ((transfer) = (queue)->transfers;					\
	     (transfer) < (queue)->transfers + (queue)->num; (transfer)++)

static int transfer_alloc(struct pciedma_queue *queue, struct pciedma_transfer *transfer)
{
	struct pciedma_engine *engine = queue->engine;
	bool big = transfer - queue->transfers < engine->desc->buffers;
	int ret = 0;

	if (big)
		ret = pciedma_stage_alloc(&transfer->stage, queue->limits.dev,
					  engine->desc->buffer_size, engine->dma_direction);
	if (!ret && queue->direct)
		ret = pciedma_user_mem_alloc(&transfer->user, PCIEDMA_PAGES_OF(big ?
					     PCIEDMA_USER_MEM_SIZE : SMALL_SIZE));
	if (ret)
		return ret;
	transfer->queue = queue;
	transfer->size = big ? PCIEDMA_TRANSFER_BIG : PCIEDMA_TRANSFER_SMALL;
	init_completion(&transfer->finished);
	list_add_tail(&transfer->node, &queue->free[transfer->size]);
	queue->num_free++;
	return 0;
}

/* What of the engine and the machine matters for working on user memory. */
static void queue_set_limits(struct pciedma_queue *queue)
{
	const struct pciedma_engine_desc *desc = queue->engine->desc;
	struct pciedma_mem_limits *limits = &queue->limits;
	struct device *dev = pciedma_dma_device(queue->engine);

	queue->direct = queue->engine->kind == PCIEDMA_KIND_MEMORY && desc->address_bits >= 32;
	limits->dev = dev;
	limits->alignment = max3(desc->address_alignment, desc->length_granularity, 1U);
	if (!dev_is_dma_coherent(dev))
		limits->alignment = max_t(u32, limits->alignment, dma_get_cache_alignment());
	limits->max_entry = min_t(size_t, desc->max_segment, dma_max_mapping_size(dev));
	limits->segment_mask = dma_get_seg_boundary(dev);
}

/**
 * pciedma_transfers_alloc() - allocate a queue's transfers
 * @queue: the queue
 *
 * Context: process.
 * Return: 0 or an errno; then pciedma_transfers_free() undoes what was done.
 */
int pciedma_transfers_alloc(struct pciedma_queue *queue)
{
	struct pciedma_transfer *transfer;
	int ret;

	queue_set_limits(queue);
	queue->num = queue->direct ? PCIEDMA_MAX_TRANSFERS : queue->engine->desc->buffers;
	queue->transfers = kvcalloc(queue->num, sizeof(*queue->transfers), GFP_KERNEL);
	if (!queue->transfers)
		return -ENOMEM;
	for_each_transfer(queue, transfer) {
		ret = transfer_alloc(queue, transfer);
		if (ret)
			return ret;
	}
	return 0;
}

/**
 * pciedma_transfers_free() - free a queue's transfers
 * @queue: nobody uses it any more
 *
 * What is kept stays allocated, pinned and mapped for ever.
 *
 * Context: process.
 */
void pciedma_transfers_free(struct pciedma_queue *queue)
{
	struct pciedma_transfer *transfer;

	if (!queue->transfers)
		return;
	for_each_transfer(queue, transfer) {
		if (!transfer->kept)
			pciedma_stage_free(&transfer->stage);
		pciedma_user_mem_free(&transfer->user);
	}
	kvfree(queue->transfers);
	queue->transfers = NULL;
}

/**
 * pciedma_transfer_size() - what a transfer must have room for
 * @queue: its queue
 * @iter:  user memory that is left of the request, all of which the engine can work on
 *
 * Return: the size.
 */
enum pciedma_transfer_size pciedma_transfer_size(const struct pciedma_queue *queue,
						 const struct iov_iter *iter)
{
	size_t pages = iov_iter_count(iter) / PAGE_SIZE + 2 * pciedma_user_mem_pieces(iter);

	return queue->direct && pages <= PCIEDMA_PAGES_OF(SMALL_SIZE) ?
		PCIEDMA_TRANSFER_SMALL : PCIEDMA_TRANSFER_BIG;
}

static struct pciedma_transfer *transfer_take_free(struct pciedma_queue *queue,
						   enum pciedma_transfer_size size)
{
	struct pciedma_transfer *transfer;

	lockdep_assert_held(&queue->engine->lock);
	transfer = list_first_entry_or_null(&queue->free[size], struct pciedma_transfer, node);
	if (!transfer)
		return NULL;
	transfer->state = PCIEDMA_TRANSFER_OWNED;
	list_del(&transfer->node);
	queue->num_free--;
	return transfer;
}

/* Those who wait get theirs in order: one that needs a big transfer is overtaken by nobody. */
static void queue_grant(struct pciedma_queue *queue)
{
	struct pciedma_waiter *waiter, *next;

	list_for_each_entry_safe(waiter, next, &queue->waiters, node) {
		waiter->transfer = transfer_take_free(queue, waiter->size);
		if (!waiter->transfer)
			return;
		list_del_init(&waiter->node);
		complete(&waiter->granted);
	}
}

/**
 * pciedma_transfer_try_acquire() - get a transfer if nobody waits for one
 * @queue: its queue
 * @size:  what it must have room for
 *
 * Context: any.
 * Return: the transfer or NULL.
 */
struct pciedma_transfer *pciedma_transfer_try_acquire(struct pciedma_queue *queue,
						      enum pciedma_transfer_size size)
{
	guard(spinlock_irqsave)(&queue->engine->lock);
	return list_empty(&queue->waiters) ? transfer_take_free(queue, size) : NULL;
}

/**
 * pciedma_transfer_ask() - get a transfer, in the order of asking
 * @queue:  its queue
 * @waiter: who asks
 *
 * Context: engine lock held.
 * Return: whether one was granted at once; else @waiter waits until it is told, or asks no more.
 */
bool pciedma_transfer_ask(struct pciedma_queue *queue, struct pciedma_waiter *waiter)
{
	waiter->error = 0;
	init_completion(&waiter->granted);
	waiter->transfer = NULL;
	if (list_empty(&queue->waiters))
		waiter->transfer = transfer_take_free(queue, waiter->size);
	if (waiter->transfer)
		return true;
	list_add_tail(&waiter->node, &queue->waiters);
	return false;
}

/**
 * pciedma_transfer_unask() - wait for a transfer no longer
 * @queue:  its queue
 * @waiter: who has asked
 * @error:  why, if none was granted meanwhile
 *
 * Context: process.
 * Return: 0 if one was granted; an errno.
 */
int pciedma_transfer_unask(struct pciedma_queue *queue, struct pciedma_waiter *waiter, int error)
{
	guard(spinlock_irqsave)(&queue->engine->lock);
	if (!waiter->transfer && !waiter->error) {
		list_del(&waiter->node);
		waiter->error = error;
		queue_grant(queue); /* those behind may need less */
	}
	return waiter->error;
}

/**
 * pciedma_waiters_refuse() - end the wait for transfers
 * @queue: their queue
 * @file:  the open file for which it is; NULL: all
 * @error: the errno
 *
 * Context: engine lock held.
 */
void pciedma_waiters_refuse(struct pciedma_queue *queue, const void *file, int error)
{
	struct pciedma_waiter *waiter, *next;

	lockdep_assert_held(&queue->engine->lock);
	list_for_each_entry_safe(waiter, next, &queue->waiters, node) {
		if (file && waiter->file != file)
			continue;
		waiter->error = error;
		list_del_init(&waiter->node);
		complete(&waiter->granted);
	}
	queue_grant(queue);
}

static void transfer_give(struct pciedma_queue *queue, struct pciedma_transfer *transfer)
{
	lockdep_assert_held(&queue->engine->lock);
	transfer->state = PCIEDMA_TRANSFER_FREE;
	list_add(&transfer->node, &queue->free[transfer->size]);
	queue->num_free++;
	queue_grant(queue);
}

/* Nobody holds its memory any more. */
static void transfer_free(struct pciedma_transfer *transfer)
{
	struct pciedma_queue *queue = transfer->queue;
	bool ready;

	transfer->mem = NULL;
	scoped_guard(spinlock_irqsave, &queue->engine->lock) {
		transfer_give(queue, transfer);
		ready = pciedma_queue_ready(queue);
	}
	if (ready && wq_has_sleeper(queue->poll_wait))
		wake_up_interruptible(queue->poll_wait);
}

static void transfer_stage_release(struct pciedma_mem *mem, bool may_sleep)
{
	transfer_free(container_of(mem, struct pciedma_transfer, stage.mem));
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
	transfer_free(transfer);
}

static const struct pciedma_mem_ops transfer_user_ops = {
	.release = transfer_user_release,
};

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
 * Return: 0; -EFAULT if the memory is not there now, or can only be copied; -ENOMEM beyond the limit;
 * -EAGAIN if it could not be mapped, for want of bounce buffers.
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

/* What its owner gets back although hardware may still write to it must not change any more. */
static void transfer_sync_kept(struct pciedma_transfer *transfer)
{
	guard(spinlock_irqsave)(&transfer->queue->engine->lock);
	if (transfer->kept && pciedma_transfer_is_direct(transfer))
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
	if (!transfer->mem) {
		transfer_free(transfer);
		return;
	}
	if (READ_ONCE(transfer->kept)) /* what is not when it has ended will not be */
		transfer_sync_kept(transfer);
	pciedma_mem_put(transfer->mem, may_sleep);
}

static s64 transfer_bytes(const struct pciedma_transfer *transfer)
{
	return pciedma_transfer_is_direct(transfer) ?
		transfer->user.num_pages * PAGE_SIZE : transfer->stage.size;
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
	if (pciedma_transfer_is_direct(transfer))
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
