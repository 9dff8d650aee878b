// SPDX-License-Identifier: GPL-2.0-only
/*
 * A queue's transfers: who has which, and who waits for one.
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
	unsigned int pages = PCIEDMA_PAGES_OF(big ? PCIEDMA_USER_MEM_SIZE : SMALL_SIZE);
	int ret = 0;

	if (big)
		ret = pciedma_stage_alloc(&transfer->stage, &queue->limits,
					  engine->desc->buffer_size, engine->dma_direction);
	if (!ret && (queue->direct || !big))
		ret = pciedma_user_mem_alloc(&transfer->user, &queue->limits, pages);
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
	limits->granularity = max3(desc->address_alignment, desc->length_granularity, 1U);
	if (!dev_is_dma_coherent(dev))
		limits->granularity = max_t(u32, limits->granularity, dma_get_cache_alignment());
	limits->alignment = max(limits->granularity, desc->host_alignment);
	limits->max_entry = min_t(size_t, dma_get_max_seg_size(dev), dma_max_mapping_size(dev));
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
	queue->num = queue->engine->desc->buffers + PCIEDMA_QUEUE_DEPTH;
	queue->transfers = kvcalloc(queue->num, sizeof(*queue->transfers), GFP_KERNEL);
	if (!queue->transfers)
		return -ENOMEM;
	for_each_transfer(queue, transfer) {
		ret = transfer_alloc(queue, transfer);
		if (ret)
			return ret;
	}
	return pciedma_doors_alloc(queue);
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
	pciedma_doors_free(queue);
	for_each_transfer(queue, transfer) {
		if (transfer->kept && transfer->buffer) /* left as it is when its home closed */
			pciedma_mem_put(&transfer->buffer->mem, true);
		if (transfer->kept && transfer->mem == &transfer->stage.mem)
			pciedma_stage_leave(&transfer->stage);
		else
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

static void waiter_tell(struct pciedma_waiter *waiter)
{
	list_del_init(&waiter->node);
	if (waiter->grant)
		waiter->grant(waiter);
	else
		complete(&waiter->granted);
}

/* Those who wait get theirs in order: one that needs a big transfer is overtaken by nobody. */
static void queue_grant(struct pciedma_queue *queue)
{
	struct pciedma_waiter *waiter, *next;

	list_for_each_entry_safe(waiter, next, &queue->waiters, node) {
		waiter->transfer = transfer_take_free(queue, waiter->size);
		if (!waiter->transfer)
			return;
		waiter_tell(waiter);
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
 * pciedma_waiter_refuse() - end somebody's wait for a transfer
 * @queue:  its queue
 * @waiter: who waits
 * @error:  the errno
 *
 * Context: engine lock held.
 */
void pciedma_waiter_refuse(struct pciedma_queue *queue, struct pciedma_waiter *waiter, int error)
{
	lockdep_assert_held(&queue->engine->lock);
	waiter->error = error;
	waiter_tell(waiter);
	queue_grant(queue); /* those behind may need less */
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
		waiter_tell(waiter);
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

/**
 * pciedma_transfer_free() - nobody holds a transfer's memory any more
 * @transfer: the transfer
 *
 * Context: any.
 */
void pciedma_transfer_free(struct pciedma_transfer *transfer)
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
