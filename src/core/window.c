// SPDX-License-Identifier: GPL-2.0-only
/*
 * An engine's windows: the memory that its DMA works on, who has it, and the
 * quarantine.
 */
#include <linux/dma-mapping.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "core.h"

static int window_alloc(struct pciedma_engine *engine, struct pciedma_window *window)
{
	struct device *dev = &engine->channel->card->pdev->dev;

	window->buffer = dma_alloc_noncoherent(dev, engine->desc->buffer_size, &window->dma,
					       engine->dma_direction, GFP_KERNEL);
	if (!window->buffer)
		return -ENOMEM;
	init_completion(&window->finished);
	list_add_tail(&window->node, &engine->free);
	engine->free_count++;
	return 0;
}

/**
 * pciedma_windows_alloc() - allocate an engine's buffers and its ring of segments
 * @engine: the engine
 *
 * Context: process.
 * Return: 0 or -ENOMEM; then pciedma_windows_free() undoes what was done.
 */
int pciedma_windows_alloc(struct pciedma_engine *engine)
{
	int ret = 0;
	int i;

	engine->flights = kcalloc(engine->desc->segments, sizeof(*engine->flights), GFP_KERNEL);
	if (!engine->flights)
		return -ENOMEM;
	for (i = 0; i < engine->desc->buffers && !ret; i++)
		ret = window_alloc(engine, &engine->windows[i]);
	return ret;
}

/**
 * pciedma_windows_free() - free an engine's buffers
 * @engine: nobody uses it any more
 *
 * A quarantined buffer stays allocated and mapped for ever.
 *
 * Context: process.
 */
void pciedma_windows_free(struct pciedma_engine *engine)
{
	struct device *dev = &engine->channel->card->pdev->dev;
	struct pciedma_window *window;

	for (window = engine->windows; window < engine->windows + PCIEDMA_MAX_BUFFERS; window++) {
		if (window->buffer && !window->quarantined)
			dma_free_noncoherent(dev, engine->desc->buffer_size, window->buffer,
					     window->dma, engine->dma_direction);
		window->buffer = NULL;
	}
	kfree(engine->flights);
	engine->flights = NULL;
}

/**
 * pciedma_request_start() - count the time without progress from now on
 * @request: the request
 */
void pciedma_request_start(struct pciedma_request *request)
{
	request->deadline = request->timeout < 0 ?
		KTIME_MAX : ktime_add_safe(ktime_get(), ns_to_ktime(request->timeout));
}

/**
 * pciedma_request_expired() - whether a request's patience is over
 * @request: the request
 *
 * Return: true if so.
 */
bool pciedma_request_expired(const struct pciedma_request *request)
{
	return request->deadline != KTIME_MAX && ktime_after(ktime_get(), request->deadline);
}

/**
 * pciedma_request_jiffies_left() - how long a request may still sleep
 * @request: the request
 *
 * Return: jiffies, rounded up; at least 1.
 */
long pciedma_request_jiffies_left(const struct pciedma_request *request)
{
	s64 left;

	if (request->deadline == KTIME_MAX)
		return MAX_SCHEDULE_TIMEOUT;
	left = ktime_to_ns(ktime_sub(request->deadline, ktime_get()));
	if (left <= 0)
		return 1;
	return min_t(u64, nsecs_to_jiffies64(left) + 1, MAX_SCHEDULE_TIMEOUT - 1);
}

/* Returns 1 if a window was granted, 0 if the request waits for one, or an errno. */
static int window_try_acquire(struct pciedma_request *request)
{
	struct pciedma_engine *engine = request->engine;

	guard(spinlock_irqsave)(&engine->lock);
	if (engine->state == PCIEDMA_ENGINE_BROKEN)
		return engine->broken_error;
	if (request->nonblock && !pciedma_engine_ready(engine))
		return -EAGAIN;
	if (!list_empty(&engine->waiters) || list_empty(&engine->free)) {
		list_add_tail(&request->node, &engine->waiters);
		return 0;
	}
	request->window = list_first_entry(&engine->free, struct pciedma_window, node);
	request->window->state = PCIEDMA_WINDOW_OWNED;
	list_del(&request->window->node);
	engine->free_count--;
	return 1;
}

/**
 * pciedma_window_acquire() - get a window, in the order of asking
 * @request: who asks; its window is set
 *
 * Context: process; sleeps until one is free.
 * Return: 0; -EAGAIN (nonblock), -EINTR, -ETIMEDOUT, or the engine's errno
 * while it is broken.
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
	ret = window_try_acquire(request);
	if (ret)
		return min(ret, 0);

	left = wait_for_completion_interruptible_timeout(&request->granted,
							 pciedma_request_jiffies_left(request));
	spin_lock_irqsave(&engine->lock, flags);
	if (!request->window && !request->error) {
		list_del(&request->node);
		request->error = left ? -EINTR : -ETIMEDOUT;
	}
	if (request->error == -ETIMEDOUT)
		engine->stats[request->direction].timeouts++;
	spin_unlock_irqrestore(&engine->lock, flags);
	return request->error;
}

/* To the next who waits for one, else to the free list. Engine lock held. */
static void window_give(struct pciedma_engine *engine, struct pciedma_window *window)
{
	struct pciedma_request *next;

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

/**
 * pciedma_window_release() - give a window to the next who waits for one
 * @engine: its engine
 * @window: owned by the caller
 *
 * Context: process.
 */
void pciedma_window_release(struct pciedma_engine *engine, struct pciedma_window *window)
{
	bool ready;

	scoped_guard(spinlock_irqsave, &engine->lock) {
		if (window->quarantined)
			window->state = PCIEDMA_WINDOW_PARKED;
		else
			window_give(engine, window);
		ready = pciedma_engine_ready(engine);
	}
	if (ready && wq_has_sleeper(&engine->channel->poll_wait))
		wake_up_interruptible(&engine->channel->poll_wait);
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
	window->quarantined = true;
	engine->parked++;
	atomic64_add(engine->desc->buffer_size, &engine->channel->card->quarantined);
}

/**
 * pciedma_windows_unpark() - the hardware is proven idle: end the quarantine
 * @engine: the engine
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
		atomic64_sub(engine->desc->buffer_size, &engine->channel->card->quarantined);
		if (window->state == PCIEDMA_WINDOW_PARKED)
			window_give(engine, window);
	}
}
