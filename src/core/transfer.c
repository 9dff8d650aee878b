// SPDX-License-Identifier: GPL-2.0-only
/*
 * One synchronous call: cut into windows, several of which are handed in ahead
 * so that the engine never waits for the next one to be pinned and mapped.
 */
#include <linux/dma-mapping.h>
#include <linux/sched/signal.h>

#include "core.h"

/*
 * Bytes of the next piece to copy whose user memory is there. A piece that is
 * not is found out before the card is asked for data that nobody could take.
 */
static ssize_t copy_length(struct pciedma_request *request, struct iov_iter *iter)
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

static int feed_copy(struct pciedma_request *request, struct pciedma_window *window,
		     struct iov_iter *iter)
{
	ssize_t length = copy_length(request, iter);

	if (length < 0)
		return length;
	window->direct = false;
	window->length = length;
	window->table.sgl = &window->single;
	sg_dma_len(&window->single) = length;
	if (request->direction == PCIEDMA_C2H) {
		window->iter = *iter;
		iov_iter_advance(iter, length);
	} else if (copy_from_iter(window->buffer, length, iter) < length) {
		return -EFAULT;
	}
	dma_sync_single_for_device(pciedma_dma_device(request->engine), window->dma, length,
				   request->direction == PCIEDMA_C2H ? DMA_FROM_DEVICE :
								       DMA_TO_DEVICE);
	return 0;
}

/* User memory that cannot be mapped, for want of bounce buffers, is copied after all. */
static int feed_direct(struct pciedma_request *request, struct pciedma_window *window,
		       struct iov_iter *iter)
{
	size_t wanted = pciedma_direct_cut(iter, iov_iter_count(iter));
	struct iov_iter before = *iter;
	ssize_t ret;

	ret = pciedma_direct_fill(request->engine, window, iter, wanted,
				  request->timeout < 0 ||
				  request->timeout > PCIEDMA_TIMEOUT_SHORT_NS);
	if (ret < 0)
		return ret;
	if (!pciedma_direct_map(request->engine, window))
		return 0;
	pciedma_direct_unaccount(window);
	pciedma_direct_unpin(window, true);
	*iter = before;
	return feed_copy(request, window, iter);
}

static void request_release(struct pciedma_request *request, struct pciedma_window *window)
{
	pciedma_direct_unaccount(window);
	pciedma_window_release(request->engine, window, true);
}

static int feed_window(struct pciedma_request *request, struct pciedma_window *window,
		       struct iov_iter *iter, u64 address)
{
	int ret;

	window->leader = NULL;
	window->owner = request;
	window->file = request->file;
	window->direction = request->direction;
	window->address = address;
	if (pciedma_direct_suits(request->engine, iter))
		ret = feed_direct(request, window, iter);
	else
		ret = feed_copy(request, window, iter);
	if (!ret) {
		window->polled = pciedma_request_polls(request, window->length);
		ret = pciedma_engine_submit(request->engine, window);
	}
	return ret;
}

/* Returns 0, 1 if no further window is free, or why there is nothing more to hand in. */
static int request_feed(struct pciedma_request *request, struct iov_iter *iter, u64 address)
{
	struct pciedma_window *window;
	int ret;

	if (request->count) {
		window = pciedma_window_try_acquire(request->engine);
		if (!window)
			return 1;
	} else {
		pciedma_request_start(request);
		ret = pciedma_window_acquire(request);
		if (ret)
			return ret;
		window = request->window;
	}
	ret = feed_window(request, window, iter, address);
	if (ret) {
		request_release(request, window);
		return ret;
	}
	request->windows[(request->first + request->count++) % PCIEDMA_MAX_BUFFERS] = window;
	return 0;
}

/* Take back, the newest first, what the hardware has not begun. */
static void request_take_back(struct pciedma_request *request)
{
	struct pciedma_window *window;

	while (request->count) {
		window = request->windows[(request->first + request->count - 1) %
					  PCIEDMA_MAX_BUFFERS];
		if (!pciedma_engine_cancel(request->engine, window))
			return;
		request->count--;
		request_release(request, window);
	}
}

/* Returns the bytes of a window that has ended, and that user space has now. */
static ssize_t window_collect(struct pciedma_request *request, struct pciedma_window *window)
{
	size_t copied;

	if (window->direct || request->direction == PCIEDMA_H2C || !window->done)
		return window->done;
	dma_sync_single_for_cpu(pciedma_dma_device(request->engine), window->dma, window->done,
				DMA_FROM_DEVICE);
	copied = copy_to_iter(window->buffer, window->done, &window->iter);
	return copied ?: -EFAULT;
}

/* Give up: what has not begun goes back, the rest is waited for by request_collect(). */
static void request_give_up(struct pciedma_request *request, int reason)
{
	request->reason = reason;
	request->end = reason;
	request_take_back(request);
}

/* The first window that is not whole ends the call: nothing behind it counts. */
static void request_break(struct pciedma_request *request, int error)
{
	if (request->broken)
		return;
	request->broken = true;
	error = error ?: request->reason ?: -EIO;
	if (!request->reason)
		request_give_up(request, error);
	request->end = error;
}

/* End the oldest window; returns its bytes, as far as they count. */
static size_t request_collect(struct pciedma_request *request)
{
	struct pciedma_window *window = request->windows[request->first];
	bool counts = !request->broken;
	ssize_t ret;

	ret = request->reason ?: pciedma_window_wait(request, window);
	if (ret && !request->reason)
		request_give_up(request, ret);
	if (!request->count)
		return 0;
	if (ret)
		pciedma_window_stop(request, window, ret);
	request->first = (request->first + 1) % PCIEDMA_MAX_BUFFERS;
	request->count--;
	ret = window_collect(request, window);
	if (ret != window->length)
		request_break(request, ret < 0 ? ret : window->error);
	request_release(request, window);
	return counts && ret > 0 ? ret : 0;
}

/* Hand in as much as there are windows for. */
static void request_feed_all(struct pciedma_request *request, struct iov_iter *iter,
			     u64 end_address)
{
	bool message = request->engine->channel->kind == PCIEDMA_KIND_MESSAGE;
	int ret = 0;

	while (!ret && !request->end && iov_iter_count(iter) &&
	       request->count < request->engine->desc->buffers) {
		ret = request_feed(request, iter, end_address - iov_iter_count(iter));
		if (message)
			iov_iter_truncate(iter, 0);
	}
	if (ret < 0)
		request->end = ret;
}

/**
 * pciedma_request_count_timeout() - a request ends with ETIMEDOUT
 * @request: the request
 *
 * Context: any; no lock held.
 */
void pciedma_request_count_timeout(struct pciedma_request *request)
{
	guard(spinlock_irqsave)(&request->engine->lock);
	request->engine->stats[request->direction].timeouts++;
}

/**
 * pciedma_transfer() - run a request
 * @request: engine, direction, file, cancels, mode, nonblock and timeout set
 * @iter:    user memory, already cut to what may be moved
 * @address: the card's address of the first byte
 *
 * Context: process, inside the gate.
 * Return: bytes that arrived; an errno if it is none.
 */
ssize_t pciedma_transfer(struct pciedma_request *request, struct iov_iter *iter, u64 address)
{
	u64 end_address = address + iov_iter_count(iter);
	ssize_t done = 0;

	do {
		request_feed_all(request, iter, end_address);
		if (!request->reason && pciedma_request_cancelled(request))
			request_give_up(request, -ECANCELED);
		if (!request->count)
			break;
		done += request_collect(request);
		if (signal_pending(current) && !request->reason)
			request_give_up(request, -EINTR);
		pciedma_request_start(request);
	} while (request->count || (!request->end && iov_iter_count(iter)));

	if (done)
		return done;
	if (request->end == -ETIMEDOUT)
		pciedma_request_count_timeout(request);
	return request->end;
}
