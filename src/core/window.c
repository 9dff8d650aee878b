// SPDX-License-Identifier: GPL-2.0-only
/*
 * An engine's windows: the memory that its DMA works on, who has it, and the
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

static int window_alloc(struct pciedma_engine *engine, struct pciedma_window *window)
{
	struct device *dev = pciedma_dma_device(engine);

	window->buffer = dma_alloc_noncoherent(dev, engine->desc->buffer_size, &window->dma,
					       engine->dma_direction, GFP_KERNEL);
	if (!window->buffer)
		return -ENOMEM;
	sg_init_one(&window->single, window->buffer, engine->desc->buffer_size);
	sg_dma_address(&window->single) = window->dma;
	init_completion(&window->finished);
	if (engine->direct && pciedma_direct_alloc(engine, window))
		return -ENOMEM;
	list_add_tail(&window->node, &engine->free);
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
 * pciedma_windows_alloc() - allocate an engine's buffers, its ring of segments, its thread
 * @engine: the engine
 *
 * Context: process.
 * Return: 0 or an errno; then pciedma_windows_free() and pciedma_taker_destroy()
 * undo what was done.
 */
int pciedma_windows_alloc(struct pciedma_engine *engine)
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
		ret = window_alloc(engine, &engine->windows[i]);
	return ret;
}

/**
 * pciedma_windows_free() - free an engine's buffers
 * @engine: nobody uses it any more
 *
 * What is quarantined stays allocated, pinned and mapped for ever.
 *
 * Context: process.
 */
void pciedma_windows_free(struct pciedma_engine *engine)
{
	struct device *dev = pciedma_dma_device(engine);
	struct pciedma_window *window;

	for (window = engine->windows; window < engine->windows + PCIEDMA_MAX_BUFFERS; window++) {
		if (window->buffer && !window->quarantined)
			dma_free_noncoherent(dev, engine->desc->buffer_size, window->buffer,
					     window->dma, engine->dma_direction);
		window->buffer = NULL;
		pciedma_direct_free(window);
	}
	if (engine->memory && !engine->unproven)
		dma_free_coherent(dev, engine->desc->memory_size, engine->memory,
				  engine->memory_dma);
	engine->memory = NULL;
	kvfree(engine->flights);
	engine->flights = NULL;
}

static struct pciedma_window *window_take_free(struct pciedma_engine *engine)
{
	struct pciedma_window *window;

	lockdep_assert_held(&engine->lock);
	if (!list_empty(&engine->waiters) || list_empty(&engine->free))
		return NULL;
	window = list_first_entry(&engine->free, struct pciedma_window, node);
	window->state = PCIEDMA_WINDOW_OWNED;
	list_del(&window->node);
	engine->free_count--;
	return window;
}

/**
 * pciedma_window_try_acquire() - get a window if nobody waits for one
 * @engine: the engine
 *
 * Context: any.
 * Return: the window or NULL.
 */
struct pciedma_window *pciedma_window_try_acquire(struct pciedma_engine *engine)
{
	guard(spinlock_irqsave)(&engine->lock);
	return window_take_free(engine);
}

/* Returns 1 if a window was granted, 0 if the request waits for one, or an errno. */
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
	request->window = window_take_free(engine);
	if (request->window)
		return 1;
	list_add_tail(&request->node, &engine->waiters);
	return 0;
}

/**
 * pciedma_window_acquire() - get a window, in the order of asking
 * @request: who asks; its window is set
 *
 * Context: process; sleeps until one is free.
 * Return: 0; -EAGAIN (nonblock), -EINTR, -ETIMEDOUT, -ECANCELED, or the
 * engine's errno while it is broken.
 */
int pciedma_window_acquire(struct pciedma_request *request)
{
	struct pciedma_engine *engine = request->engine;
	unsigned long flags;
	long left;
	int ret;

	request->window = NULL;
	request->error = 0;
	init_completion(&request->granted);
	ret = request_ask(request);
	if (ret)
		return min(ret, 0);

	left = wait_for_completion_interruptible_timeout(&request->granted,
							 pciedma_request_jiffies_left(request));
	spin_lock_irqsave(&engine->lock, flags);
	if (!request->window && !request->error) {
		list_del(&request->node);
		request->error = left ? -EINTR : -ETIMEDOUT;
	}
	spin_unlock_irqrestore(&engine->lock, flags);
	return request->error;
}

static void request_refuse(struct pciedma_request *request, int error)
{
	request->error = error;
	list_del_init(&request->node);
	complete(&request->granted);
}

/**
 * pciedma_waiters_refuse() - end requests that wait for a window
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
static void window_give(struct pciedma_engine *engine, struct pciedma_window *window)
{
	struct pciedma_request *next;

	lockdep_assert_held(&engine->lock);
	next = list_first_entry_or_null(&engine->waiters, struct pciedma_request, node);
	if (next) {
		list_del_init(&next->node);
		window->state = PCIEDMA_WINDOW_OWNED;
		next->window = window;
		complete(&next->granted);
		return;
	}
	window->state = PCIEDMA_WINDOW_FREE;
	list_add(&window->node, &engine->free);
	engine->free_count++;
}

static bool window_parks(struct pciedma_engine *engine, struct pciedma_window *window)
{
	guard(spinlock_irqsave)(&engine->lock);
	if (!window->quarantined)
		return false;
	window->state = PCIEDMA_WINDOW_PARKED;
	pciedma_direct_sync(engine, window);
	return true;
}

/**
 * pciedma_window_release() - give a window's memory back, and it to the next who waits
 * @engine: its engine
 * @window: owned by the caller; in quarantine it is only left alone
 * @may_sleep: the caller may; otherwise its pages are still marked as changed
 *
 * Context: any.
 */
void pciedma_window_release(struct pciedma_engine *engine, struct pciedma_window *window,
			    bool may_sleep)
{
	bool ready;

	if (window_parks(engine, window))
		return;
	if (window->direct) {
		pciedma_direct_unmap(engine, window);
		pciedma_direct_unpin(window, may_sleep);
	}
	scoped_guard(spinlock_irqsave, &engine->lock) {
		window->leader = NULL;
		window_give(engine, window);
		ready = pciedma_engine_ready(engine);
	}
	if (ready && wq_has_sleeper(&engine->channel->poll_wait))
		wake_up_interruptible(&engine->channel->poll_wait);
}

static s64 window_bytes(struct pciedma_engine *engine, const struct pciedma_window *window)
{
	return window->direct ? window->num_pages * PAGE_SIZE : engine->desc->buffer_size;
}

/**
 * pciedma_window_park() - quarantine a window that hardware may still use
 * @engine: its engine
 * @window: the window
 *
 * Context: engine lock held.
 */
void pciedma_window_park(struct pciedma_engine *engine, struct pciedma_window *window)
{
	lockdep_assert_held(&engine->lock);
	window->quarantined = true;
	pciedma_direct_keep(window);
	engine->parked++;
	atomic64_add(window_bytes(engine, window), &engine->channel->card->quarantined);
}

/**
 * pciedma_windows_unpark() - the hardware is proven idle: end the quarantine
 * @engine: the engine
 *
 * Then pciedma_windows_give_back() must be called.
 *
 * Context: engine lock held.
 */
void pciedma_windows_unpark(struct pciedma_engine *engine)
{
	struct pciedma_window *window;

	for (window = engine->windows; window < engine->windows + PCIEDMA_MAX_BUFFERS; window++) {
		if (!window->quarantined)
			continue;
		window->quarantined = false;
		engine->parked--;
		atomic64_sub(window_bytes(engine, window), &engine->channel->card->quarantined);
		if (window->state != PCIEDMA_WINDOW_PARKED)
			continue;
		window->state = PCIEDMA_WINDOW_OWNED;
		list_add_tail(&window->node, &engine->unmap);
	}
}

static struct pciedma_window *engine_take_unmap(struct pciedma_engine *engine)
{
	struct pciedma_window *window;

	guard(spinlock_irqsave)(&engine->lock);
	window = list_first_entry_or_null(&engine->unmap, struct pciedma_window, node);
	if (window)
		list_del(&window->node);
	return window;
}

/**
 * pciedma_windows_give_back() - what was in quarantine goes back to its owners
 * @engine: the engine
 *
 * Context: process.
 */
void pciedma_windows_give_back(struct pciedma_engine *engine)
{
	struct pciedma_window *window;

	while ((window = engine_take_unmap(engine)))
		pciedma_window_release(engine, window, true);
}
