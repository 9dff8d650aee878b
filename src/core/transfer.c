// SPDX-License-Identifier: GPL-2.0-only
/*
 * One call: cut into pieces, each piece through a window, and waiting for it.
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/sched/signal.h>

#include "core.h"

/* Longest sleep between two looks at a card whose interrupt may be lost. */
#define LOOK_MAX_JIFFIES	(2 * HZ)

static bool window_finished(struct pciedma_engine *engine, struct pciedma_window *window)
{
	guard(spinlock_irqsave)(&engine->lock);
	return window->state != PCIEDMA_WINDOW_QUEUED;
}

/* Look in place of an interrupt that should have come. */
static bool wait_look(struct pciedma_engine *engine, struct pciedma_window *window)
{
	int found = pciedma_engine_look(engine);

	if (found) {
		guard(spinlock_irqsave)(&engine->lock);
		engine->stats[window->direction].looks += found;
	} else {
		pciedma_engine_stray(engine);
	}
	return window_finished(engine, window);
}

/* Returns 0 when the window has finished, else why its owner waits no longer. */
static int wait_sleeping(struct pciedma_request *request, struct pciedma_window *window)
{
	struct pciedma_engine *engine = request->engine;
	long look = msecs_to_jiffies(engine->desc->drain_ms);
	long ret;

	for (;;) {
		ret = min(look, pciedma_request_jiffies_left(request));
		ret = wait_for_completion_interruptible_timeout(&window->finished, ret);
		if (ret > 0)
			return 0;
		if (ret < 0)
			return -EINTR;
		if (wait_look(engine, window))
			return 0;
		if (pciedma_request_expired(request))
			return -ETIMEDOUT;
		look = min(2 * look, LOOK_MAX_JIFFIES);
	}
}

static int wait_polling(struct pciedma_request *request, struct pciedma_window *window)
{
	for (;;) {
		pciedma_engine_look(request->engine);
		if (window_finished(request->engine, window))
			return 0;
		if (signal_pending(current))
			return -EINTR;
		if (pciedma_request_expired(request))
			return -ETIMEDOUT;
		cond_resched();
		cpu_relax();
	}
}

static s64 drain_ns_left(struct pciedma_engine *engine)
{
	guard(spinlock_irqsave)(&engine->lock);
	return engine->desc->drain_ms * NSEC_PER_MSEC -
	       ktime_to_ns(ktime_sub(ktime_get(), engine->busy_since));
}

/* What has begun may end by itself, as long as the engine gets on. */
static bool wait_drain(struct pciedma_request *request, struct pciedma_window *window)
{
	struct pciedma_engine *engine = request->engine;
	s64 left;

	while (!window_finished(engine, window)) {
		left = drain_ns_left(engine);
		if (left <= 0)
			return wait_look(engine, window);
		if (!request->polled) {
			wait_for_completion_timeout(&window->finished,
						    nsecs_to_jiffies(left) + 1);
			continue;
		}
		pciedma_engine_look(engine);
		usleep_range(20, 50);
	}
	return true;
}

/*
 * The owner's patience is over: take the window back if the hardware has not
 * begun it, else make sure that it ends.
 */
static int window_stop(struct pciedma_request *request, struct pciedma_window *window,
		       int reason)
{
	struct pciedma_engine *engine = request->engine;

	if (pciedma_engine_cancel(engine, window))
		return reason;
	if (!wait_drain(request, window)) {
		pciedma_engine_abort(engine, window, reason == -EINTR ? -EIO : reason);
		while (!window_finished(engine, window))
			wait_for_completion(&window->finished);
	}
	return 0;
}

/* Returns the bytes that arrived, or an errno if it is none. */
static ssize_t window_run(struct pciedma_request *request, struct pciedma_window *window)
{
	int ret;

	ret = pciedma_engine_submit(request->engine, window);
	if (ret)
		return ret;
	ret = request->polled ? wait_polling(request, window) : wait_sleeping(request, window);
	if (ret)
		ret = window_stop(request, window, ret);
	if (!ret && window->done)
		return window->done;
	if (!ret)
		ret = window->error;
	if (ret == -ETIMEDOUT) {
		guard(spinlock_irqsave)(&request->engine->lock);
		request->engine->stats[request->direction].timeouts++;
	}
	return ret;
}

static ssize_t window_write(struct pciedma_request *request, struct pciedma_window *window,
			    struct iov_iter *iter)
{
	struct pciedma_engine *engine = request->engine;
	size_t copied = copy_from_iter(window->buffer, window->length, iter);
	ssize_t ret;

	if (!copied)
		return -EFAULT;
	if (copied < window->length) {
		iov_iter_revert(iter, copied);
		return -EFAULT;
	}
	dma_sync_single_for_device(&engine->channel->card->pdev->dev, window->dma,
				   window->length, DMA_TO_DEVICE);
	ret = window_run(request, window);
	iov_iter_revert(iter, copied - max_t(ssize_t, ret, 0));
	return ret;
}

static ssize_t window_read(struct pciedma_request *request, struct pciedma_window *window,
			   struct iov_iter *iter)
{
	struct device *dev = &request->engine->channel->card->pdev->dev;
	size_t copied;
	ssize_t ret;

	dma_sync_single_for_device(dev, window->dma, window->length, DMA_FROM_DEVICE);
	ret = window_run(request, window);
	if (ret <= 0)
		return ret;
	dma_sync_single_for_cpu(dev, window->dma, ret, DMA_FROM_DEVICE);
	copied = copy_to_iter(window->buffer, ret, iter);
	if (!copied)
		return -EFAULT;
	return copied;
}

/*
 * Bytes of the next piece whose user memory is there. A piece that is not is
 * found out before the card is asked for data that nobody could take.
 */
static ssize_t piece_length(struct pciedma_request *request, struct iov_iter *iter)
{
	struct pciedma_engine *engine = request->engine;
	size_t wanted = min_t(size_t, iov_iter_count(iter), engine->desc->buffer_size);
	size_t missing;

	if (engine->channel->kind == PCIEDMA_KIND_MESSAGE)
		wanted = min_t(size_t, wanted, engine->desc->max_dma);
	missing = request->direction == PCIEDMA_C2H ? fault_in_iov_iter_writeable(iter, wanted) :
						     fault_in_iov_iter_readable(iter, wanted);
	if (!missing)
		return wanted;
	if (engine->channel->kind == PCIEDMA_KIND_MESSAGE || engine->desc->length_granularity > 1)
		return -EFAULT;
	if (missing == wanted)
		return -EFAULT;
	return wanted - missing;
}

static ssize_t transfer_piece(struct pciedma_request *request, struct iov_iter *iter, u64 address)
{
	struct pciedma_engine *engine = request->engine;
	struct pciedma_window *window;
	ssize_t length, ret;

	length = piece_length(request, iter);
	if (length < 0)
		return length;
	pciedma_request_start(request);
	ret = pciedma_window_acquire(request);
	if (ret)
		return ret;
	window = request->window;
	window->address = address;
	window->length = length;
	window->polled = request->polled;
	window->direction = request->direction;
	if (request->direction == PCIEDMA_C2H)
		ret = window_read(request, window, iter);
	else
		ret = window_write(request, window, iter);
	pciedma_window_release(engine, window);
	return ret;
}

/**
 * pciedma_transfer() - run a request
 * @request: engine, polled, nonblock and timeout set
 * @iter:    user memory, already cut to what may be moved
 * @address: the card's address of the first byte
 *
 * Context: process, inside the gate.
 * Return: bytes that arrived; an errno if it is none.
 */
ssize_t pciedma_transfer(struct pciedma_request *request, struct iov_iter *iter, u64 address)
{
	bool message = request->engine->channel->kind == PCIEDMA_KIND_MESSAGE;
	ssize_t done = 0;
	size_t wanted;
	ssize_t ret;

	while (iov_iter_count(iter)) {
		wanted = min_t(size_t, iov_iter_count(iter), request->engine->desc->buffer_size);
		ret = transfer_piece(request, iter, address + done);
		if (ret < 0)
			return done ?: ret;
		done += ret;
		if (message || ret < wanted || signal_pending(current))
			break;
	}
	return done;
}
