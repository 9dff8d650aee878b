// SPDX-License-Identifier: GPL-2.0-only
/*
 * An engine's transfers: the memory that its DMA works on, who has it, and the
 * quarantine.
 */
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "core.h"

/* Below it the copy is cheaper than pinning and mapping (make bench). */
#define COPY_THRESHOLD	4096
/* The number of the first segment: soon the numbers wrap, where tests see it. */
#define FIRST_FLIGHT	((u32)-3000)

#define for_each_transfer(engine, transfer)					\
	for ((transfer) = (engine)->transfers;					\
	     (transfer) < (engine)->transfers + PCIEDMA_MAX_BUFFERS; (transfer)++)

static int transfer_alloc(struct pciedma_engine *engine, struct pciedma_transfer *transfer)
{
	struct device *dev = pciedma_dma_device(engine);

	transfer->buffer = dma_alloc_noncoherent(dev, engine->desc->buffer_size, &transfer->dma,
						 engine->dma_direction, GFP_KERNEL);
	if (!transfer->buffer)
		return -ENOMEM;
	sg_init_one(&transfer->single, transfer->buffer, engine->desc->buffer_size);
	sg_dma_address(&transfer->single) = transfer->dma;
	init_completion(&transfer->finished);
	if (engine->direct && pciedma_direct_alloc(engine, transfer))
		return -ENOMEM;
	list_add_tail(&transfer->node, &engine->free);
	engine->free_count++;
	return 0;
}

/* What of the engine and the machine matters for working on user memory. */
static void engine_set_direct(struct pciedma_engine *engine)
{
	struct device *dev = pciedma_dma_device(engine);
	const struct pciedma_engine_desc *desc = engine->desc;

	engine->direct = engine->channel->kind == PCIEDMA_KIND_MEMORY && desc->address_bits >= 32;
	engine->copy_threshold = COPY_THRESHOLD;
	engine->host_alignment = max3(desc->address_alignment, desc->length_granularity, 1U);
	if (!dev_is_dma_coherent(dev))
		engine->host_alignment = max_t(u32, engine->host_alignment,
					       dma_get_cache_alignment());
	engine->max_entry = min_t(size_t, desc->max_segment, dma_max_mapping_size(dev));
	engine->segment_mask = dma_get_seg_boundary(dev);
}

static int engine_alloc_memory(struct pciedma_engine *engine)
{
	if (!engine->desc->memory_size)
		return 0;
	engine->memory = dma_alloc_coherent(pciedma_dma_device(engine),
					    engine->desc->memory_size, &engine->memory_dma,
					    GFP_KERNEL);
	return engine->memory ? 0 : -ENOMEM;
}

/**
 * pciedma_transfers_alloc() - allocate an engine's buffers, its ring of segments, its thread
 * @engine: the engine
 *
 * Context: process.
 * Return: 0 or an errno; then pciedma_transfers_free() and pciedma_taker_destroy()
 * undo what was done.
 */
int pciedma_transfers_alloc(struct pciedma_engine *engine)
{
	int ret;
	int i;

	engine->flights = kvcalloc(pciedma_engine_flights(engine), sizeof(*engine->flights),
				   GFP_KERNEL);
	if (!engine->flights)
		return -ENOMEM;
	engine->flight_head = FIRST_FLIGHT;
	engine->flight_tail = FIRST_FLIGHT;
	engine_set_direct(engine);
	ret = pciedma_taker_create(engine);
	if (!ret)
		ret = engine_alloc_memory(engine);
	for (i = 0; i < engine->desc->buffers && !ret; i++)
		ret = transfer_alloc(engine, &engine->transfers[i]);
	return ret;
}

/**
 * pciedma_transfers_free() - free an engine's buffers
 * @engine: nobody uses it any more
 *
 * What is quarantined stays allocated, pinned and mapped for ever.
 *
 * Context: process.
 */
void pciedma_transfers_free(struct pciedma_engine *engine)
{
	struct device *dev = pciedma_dma_device(engine);
	struct pciedma_transfer *transfer;

	for_each_transfer(engine, transfer) {
		if (transfer->buffer && !transfer->quarantined)
			dma_free_noncoherent(dev, engine->desc->buffer_size, transfer->buffer,
					     transfer->dma, engine->dma_direction);
		transfer->buffer = NULL;
		pciedma_direct_free(transfer);
	}
	if (engine->memory && !engine->unproven)
		dma_free_coherent(dev, engine->desc->memory_size, engine->memory,
				  engine->memory_dma);
	engine->memory = NULL;
	kvfree(engine->flights);
	engine->flights = NULL;
}

static struct pciedma_transfer *transfer_take_free(struct pciedma_engine *engine)
{
	struct pciedma_transfer *transfer;

	lockdep_assert_held(&engine->lock);
	if (!list_empty(&engine->waiters) || list_empty(&engine->free))
		return NULL;
	transfer = list_first_entry(&engine->free, struct pciedma_transfer, node);
	transfer->state = PCIEDMA_TRANSFER_OWNED;
	list_del(&transfer->node);
	engine->free_count--;
	return transfer;
}

/**
 * pciedma_transfer_try_acquire() - get a transfer if nobody waits for one
 * @engine: the engine
 *
 * Context: any.
 * Return: the transfer or NULL.
 */
struct pciedma_transfer *pciedma_transfer_try_acquire(struct pciedma_engine *engine)
{
	guard(spinlock_irqsave)(&engine->lock);
	return transfer_take_free(engine);
}

/* Returns 1 if a transfer was granted, 0 if the request waits for one, or an errno. */
static int request_ask(struct pciedma_request *request)
{
	struct pciedma_engine *engine = request->engine;

	guard(spinlock_irqsave)(&engine->lock);
	if (engine->state == PCIEDMA_ENGINE_BROKEN)
		return engine->broken_error;
	if (pciedma_request_cancelled(request))
		return -ECANCELED;
	if (request->nonblock && !pciedma_engine_ready(engine))
		return -EAGAIN;
	request->transfer = transfer_take_free(engine);
	if (request->transfer)
		return 1;
	list_add_tail(&request->node, &engine->waiters);
	return 0;
}

/**
 * pciedma_transfer_acquire() - get a transfer, in the order of asking
 * @request: who asks; its transfer is set
 *
 * Context: process; sleeps until one is free.
 * Return: 0; -EAGAIN (nonblock), -EINTR, -ETIMEDOUT, -ECANCELED, or the
 * engine's errno while it is broken.
 */
int pciedma_transfer_acquire(struct pciedma_request *request)
{
	struct pciedma_engine *engine = request->engine;
	int ret;

	request->transfer = NULL;
	request->error = 0;
	init_completion(&request->granted);
	ret = request_ask(request);
	if (ret)
		return min(ret, 0);

	ret = pciedma_request_sleep(request, &request->granted,
				    pciedma_request_jiffies_left(request));
	guard(spinlock_irqsave)(&engine->lock);
	if (!request->transfer && !request->error) {
		list_del(&request->node);
		request->error = ret ?: -ETIMEDOUT;
	}
	return request->error;
}

static void request_refuse(struct pciedma_request *request, int error)
{
	request->error = error;
	list_del_init(&request->node);
	complete(&request->granted);
}

/**
 * pciedma_waiters_refuse() - end requests that wait for a transfer
 * @engine: the engine
 * @file:   the open file whose requests they are; NULL: all
 * @error:  their errno
 *
 * Context: engine lock held.
 */
void pciedma_waiters_refuse(struct pciedma_engine *engine, const void *file, int error)
{
	struct pciedma_request *request, *next;

	lockdep_assert_held(&engine->lock);
	list_for_each_entry_safe(request, next, &engine->waiters, node)
		if (!file || request->file == file)
			request_refuse(request, error);
}

/* To the next who waits for one, else to the free list. */
static void transfer_give(struct pciedma_engine *engine, struct pciedma_transfer *transfer)
{
	struct pciedma_request *next;

	lockdep_assert_held(&engine->lock);
	next = list_first_entry_or_null(&engine->waiters, struct pciedma_request, node);
	if (next) {
		list_del_init(&next->node);
		transfer->state = PCIEDMA_TRANSFER_OWNED;
		next->transfer = transfer;
		complete(&next->granted);
		return;
	}
	transfer->state = PCIEDMA_TRANSFER_FREE;
	list_add(&transfer->node, &engine->free);
	engine->free_count++;
}

static bool transfer_parks(struct pciedma_engine *engine, struct pciedma_transfer *transfer)
{
	guard(spinlock_irqsave)(&engine->lock);
	if (!transfer->quarantined)
		return false;
	transfer->state = PCIEDMA_TRANSFER_PARKED;
	pciedma_direct_sync(engine, transfer);
	return true;
}

/**
 * pciedma_transfer_release() - give a transfer's memory back, and it to the next who waits
 * @engine: its engine
 * @transfer: owned by the caller; in quarantine it is only left alone
 * @may_sleep: the caller may; otherwise its pages are still marked as changed
 *
 * Context: any.
 */
void pciedma_transfer_release(struct pciedma_engine *engine, struct pciedma_transfer *transfer,
			      bool may_sleep)
{
	bool ready;

	if (transfer_parks(engine, transfer))
		return;
	if (transfer->direct) {
		pciedma_direct_unmap(engine, transfer);
		pciedma_direct_unpin(transfer, may_sleep);
	}
	scoped_guard(spinlock_irqsave, &engine->lock) {
		transfer->leader = NULL;
		transfer_give(engine, transfer);
		ready = pciedma_engine_ready(engine);
	}
	if (ready && wq_has_sleeper(&engine->channel->poll_wait))
		wake_up_interruptible(&engine->channel->poll_wait);
}

static s64 transfer_bytes(struct pciedma_engine *engine, const struct pciedma_transfer *transfer)
{
	return transfer->direct ? transfer->num_pages * PAGE_SIZE : engine->desc->buffer_size;
}

/**
 * pciedma_transfer_park() - quarantine a transfer that hardware may still use
 * @engine: its engine
 * @transfer: the transfer
 *
 * Context: engine lock held.
 */
void pciedma_transfer_park(struct pciedma_engine *engine, struct pciedma_transfer *transfer)
{
	lockdep_assert_held(&engine->lock);
	transfer->quarantined = true;
	pciedma_direct_keep(transfer);
	engine->parked++;
	atomic64_add(transfer_bytes(engine, transfer), &engine->channel->card->quarantined);
}

/**
 * pciedma_transfers_unpark() - the hardware is proven idle: end the quarantine
 * @engine: the engine
 *
 * Then pciedma_transfers_give_back() must be called.
 *
 * Context: engine lock held.
 */
void pciedma_transfers_unpark(struct pciedma_engine *engine)
{
	struct pciedma_transfer *transfer;

	for_each_transfer(engine, transfer) {
		if (!transfer->quarantined)
			continue;
		transfer->quarantined = false;
		engine->parked--;
		atomic64_sub(transfer_bytes(engine, transfer), &engine->channel->card->quarantined);
		if (transfer->state != PCIEDMA_TRANSFER_PARKED)
			continue;
		transfer->state = PCIEDMA_TRANSFER_OWNED;
		list_add_tail(&transfer->node, &engine->unmap);
	}
}

static struct pciedma_transfer *engine_take_unmap(struct pciedma_engine *engine)
{
	struct pciedma_transfer *transfer;

	guard(spinlock_irqsave)(&engine->lock);
	transfer = list_first_entry_or_null(&engine->unmap, struct pciedma_transfer, node);
	if (transfer)
		list_del(&transfer->node);
	return transfer;
}

/**
 * pciedma_transfers_give_back() - what was in quarantine goes back to its owners
 * @engine: the engine
 *
 * Context: process.
 */
void pciedma_transfers_give_back(struct pciedma_engine *engine)
{
	struct pciedma_transfer *transfer;

	while ((transfer = engine_take_unmap(engine)))
		pciedma_transfer_release(engine, transfer, true);
}
