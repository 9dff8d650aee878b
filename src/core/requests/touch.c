// SPDX-License-Identifier: GPL-2.0-only
/*
 * User memory that is not there: a request touches it, and waits for it, outside the gate and
 * with nothing held that others wait for.
 */
#include <linux/completion.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "../memory/fetch.h"
#include "request.h"

/* Bytes that are touched at a time. */
#define TOUCH_SIZE	SZ_16M
/* What goes away again as often as this is not waited for any longer. */
#define MAX_TOUCHES	1024
/* How often one who waits for memory looks whether CANCEL was asked, jiffies. */
#define CANCEL_SLICE	(HZ / 20 + 1)

/**
 * struct late - data that have arrived, and could not be copied to user memory yet
 * @node:   on its request's list, in order
 * @iter:   where to
 * @place:  bytes of the request before it
 * @length: bytes
 * @data:   the data
 */
struct late {
	struct list_head node;
	struct iov_iter iter;
	size_t place;
	size_t length;
	u8 data[];
};

static enum dma_data_direction dma_direction(const struct pciedma_request *request)
{
	return request->direction == PCIEDMA_C2H ? DMA_FROM_DEVICE : DMA_TO_DEVICE;
}

/**
 * pciedma_request_touched() - whether what comes next was touched before
 * @request: the request
 * @iter:    what is left of its memory
 *
 * Return: true if so: if it is not there now, it cannot be pinned, or goes away again.
 */
bool pciedma_request_touched(const struct pciedma_request *request, const struct iov_iter *iter)
{
	return iov_iter_count(iter) > request->untouched || !user_backed_iter(iter);
}

/**
 * pciedma_request_touch_length() - how much is touched at a time
 * @iter: what is left of a request's memory
 *
 * Return: bytes.
 */
size_t pciedma_request_touch_length(const struct iov_iter *iter)
{
	return min_t(size_t, iov_iter_count(iter), TOUCH_SIZE);
}

static void touch_done(void *owner)
{
	complete(owner);
}

/* Returns 0 when it is done, or why the request waits no longer. */
static int fetch_wait(struct pciedma_request *request, struct completion *done)
{
	long left;
	int ret;

	pciedma_request_start(request);
	for (;;) {
		left = pciedma_request_jiffies_left(request);
		ret = pciedma_caller_sleep(&request->caller, done, min_t(long, left, CANCEL_SLICE));
		if (ret)
			return min(ret, 0);
		if (pciedma_request_cancelled(request))
			return -ECANCELED;
		if (left <= CANCEL_SLICE)
			return -ETIMEDOUT;
	}
}

/* By a thread of its own, which may be in a fault for ever. Returns bytes, or an errno. */
static ssize_t fetch(struct pciedma_request *request, const struct iov_iter *iter, size_t length)
{
	DECLARE_COMPLETION_ONSTACK(done);
	struct pciedma_fetch *fetch;
	ssize_t ret;

	fetch = pciedma_fetch_start(current->mm, iter, length, dma_direction(request), touch_done,
				    &done);
	if (IS_ERR(fetch))
		return PTR_ERR(fetch);
	ret = fetch_wait(request, &done);
	if (ret)
		pciedma_fetch_give_up(fetch);
	else
		ret = fetch->found;
	pciedma_fetch_put(fetch);
	return ret;
}

/**
 * pciedma_request_touch() - touch what comes next of a request's memory, so that it is there
 * @request: the request, of the calling process
 * @iter:    what is left of its memory
 *
 * Context: process, outside the gate, nothing held.
 * Return: 0; -EFAULT if nothing is there; -EINTR, -ETIMEDOUT, -ECANCELED, -ENOMEM; -EBUSY if
 * too many wait already.
 */
int pciedma_request_touch(struct pciedma_request *request, const struct iov_iter *iter)
{
	size_t length = pciedma_request_touch_length(iter);
	ssize_t ret;

	request->touches = pciedma_request_touched(request, iter) ? request->touches + 1 : 0;
	if (request->touches > MAX_TOUCHES)
		return -EFAULT;
	if (pciedma_memory_is_there(iter, length, dma_direction(request)))
		ret = length;
	else if (pciedma_memory_comes(iter, length))
		ret = pciedma_memory_touch(iter, length, dma_direction(request));
	else
		ret = fetch(request, iter, length);
	if (ret <= 0)
		return ret ?: -EFAULT;
	request->untouched = iov_iter_count(iter) - ret;
	request->missing = false;
	return 0;
}

/**
 * pciedma_late_add() - data cannot be copied to user memory here
 * @request: the request
 * @data:    the data
 * @length:  bytes
 * @iter:    where to
 * @place:   bytes of the request before it
 *
 * Context: process.
 * Return: 0 or -ENOMEM.
 */
int pciedma_late_add(struct pciedma_request *request, const void *data, size_t length,
		     const struct iov_iter *iter, size_t place)
{
	struct late *late = kvmalloc(struct_size(late, data, length), GFP_KERNEL_ACCOUNT);

	if (!late)
		return -ENOMEM;
	late->iter = *iter;
	iov_iter_truncate(&late->iter, length);
	late->place = place;
	late->length = length;
	memcpy(late->data, data, length);
	list_add_tail(&late->node, &request->late);
	return 0;
}

/* Returns the bytes that user space has. */
static size_t late_copy(struct pciedma_request *request, struct late *late, bool may_wait)
{
	size_t done = 0;

	do {
		request->untouched = iov_iter_count(&late->iter);
		if (!may_wait && !pciedma_memory_comes(&late->iter, request->untouched))
			break;
		if (pciedma_request_touch(request, &late->iter))
			break;
		pagefault_disable();
		done += copy_to_iter(late->data + done, late->length - done, &late->iter);
		pagefault_enable();
	} while (done < late->length);
	return done;
}

/**
 * pciedma_late_copy() - copy to user memory what could not be inside the gate
 * @request:  the request
 * @done:     bytes that have moved, these included
 * @may_wait: as long as the request may; else what does not come by itself is lost
 *
 * Context: process, outside the gate, nothing held.
 * Return: bytes from the beginning that user space has.
 */
size_t pciedma_late_copy(struct pciedma_request *request, size_t done, bool may_wait)
{
	struct late *late, *next;
	size_t has;

	list_for_each_entry_safe(late, next, &request->late, node) {
		if (late->place < done) {
			has = late_copy(request, late, may_wait);
			if (has < late->length)
				done = late->place + has;
		}
		list_del(&late->node);
		kvfree(late);
	}
	return done;
}
