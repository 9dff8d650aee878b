// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reads and writes of the data nodes.
 */
#include <linux/freezer.h>
#include <linux/fs.h>

#include <compat.h>

#include "../memory/fetch.h"
#include "channel.h"

/* How much of a call may move. Returns bytes, 0 at the end of the memory, or an errno. */
static ssize_t transfer_limit(const struct pciedma_channel *channel,
			      const struct pciedma_request *request, u64 position, size_t count)
{
	const struct pciedma_engine_desc *desc = request->engine->desc;
	size_t left;
	u32 rest;

	if (count % max(desc->length_granularity, 1U))
		return -EINVAL;
	if (channel->kind == PCIEDMA_KIND_MESSAGE) {
		if (count > desc->max_dma && request->direction == PCIEDMA_H2C)
			return -EMSGSIZE;
		return min_t(size_t, count, desc->max_dma);
	}
	div_u64_rem(position, max(desc->address_alignment, 1U), &rest);
	if (rest)
		return -EINVAL;
	if (position < channel->size && channel->size - position >= count)
		return count;
	left = position < channel->size ? channel->size - position : 0;
	left -= left % max(desc->length_granularity, 1U);
	if (left)
		return left;
	return request->direction == PCIEDMA_C2H ? 0 : -ENOSPC;
}

/* io_uring's first attempt always says IOCB_NOWAIT. */
static bool asks_for_nowait(struct kiocb *iocb)
{
	return (iocb->ki_flags & IOCB_NOWAIT) &&
	       (is_sync_kiocb(iocb) || (iocb->ki_flags & IOCB_AIO_RW));
}

static bool lane_is_ready(struct pciedma_lane *lane)
{
	guard(spinlock_irqsave)(&lane->engine.lock);
	return pciedma_queue_ready(&lane->queue);
}

static void request_init(struct pciedma_request *request, struct kiocb *iocb,
			 struct pciedma_channel_file *cf)
{
	request->engine = &request->lane->engine;
	request->caller.engine = request->engine;
	request->caller.in_request = true;
	request->waiter.file = cf;
	request->open_file = cf;
	request->backlog = pciedma_file_backlog(cf, request->lane);
	request->files = current->files;
	request->cancels = &cf->cancels;
	request->cancels_seen = atomic_read(&cf->cancels);
	INIT_LIST_HEAD(&request->late);
	scoped_guard(spinlock, &cf->lock) {
		request->mode = iocb->ki_flags & IOCB_HIPRI ? PCIEDMA_WAIT_POLL : cf->mode;
		request->timeout = cf->timeout_ns;
	}
	request->nonblock = !request->timeout || (iocb->ki_filp->f_flags & O_NONBLOCK) ||
			    asks_for_nowait(iocb);
	if (!request->timeout)
		request->timeout = pciedma_engine_drain_bound_ns(request->engine);
}

/* The kernel cancels one request, which is alive as long as this runs. */
static int channel_cancel_iocb(struct kiocb *iocb)
{
	struct pciedma_channel_file *cf = iocb->ki_filp->private_data;
	enum pciedma_direction direction = iocb->ki_flags & IOCB_WRITE ? PCIEDMA_H2C : PCIEDMA_C2H;

	pciedma_aio_cancel_iocb(cf->channel->by_direction[direction], iocb);
	return 0;
}

/* One attempt, inside the gate. Returns -EFAULT also if the memory is not there now. */
static ssize_t async_try(struct pciedma_request *request, struct kiocb *iocb, struct iov_iter *iter,
			 bool postpone)
{
	ssize_t ret;

	if (!pciedma_card_enter(request->engine->card))
		return -ENODEV;
	ret = pciedma_aio_submit(request, iocb, iter, false);
	if (ret == -EFAULT && postpone)
		ret = -EAGAIN;
	if (ret == -EAGAIN && (!request->nonblock || lane_is_ready(request->lane)))
		ret = pciedma_postpone(request, iocb, iter);
	if (ret != -EIOCBQUEUED)
		pciedma_card_leave(request->engine->card);
	return ret;
}

/*
 * Who submits touches memory that comes by itself. For other memory he must not wait: it may
 * never come.
 */
static ssize_t channel_async_rw(struct pciedma_request *request, struct kiocb *iocb,
				struct iov_iter *iter)
{
	bool comes;
	ssize_t ret;

	pciedma_aio_begin(iocb, channel_cancel_iocb);
	ret = async_try(request, iocb, iter, false);
	if (ret != -EFAULT)
		return ret;
	comes = pciedma_memory_comes(iter, pciedma_request_touch_length(iter));
	if (comes) {
		ret = pciedma_request_touch(request, iter);
		if (ret)
			return ret;
	}
	return async_try(request, iocb, iter, true);
}

/*
 * Pages of the kernel's own, such as splice() reads into, have been anybody's. If
 * the card writes less than it says, user space must not see that.
 */
static void iter_clear(const struct iov_iter *iter)
{
	struct iov_iter rest = *iter;

	iov_iter_zero(iov_iter_count(iter), &rest);
}

/* One stay inside the gate. Returns bytes that user space has, or an errno. */
static ssize_t sync_stay(struct pciedma_request *request, struct iov_iter *iter, u64 address)
{
	ssize_t ret, has;

	if (!pciedma_card_enter(request->engine->card))
		return -ENODEV;
	ret = pciedma_sync_run(request, iter, address);
	pciedma_card_leave(request->engine->card);
	if (ret <= 0 || list_empty(&request->late))
		return ret;
	has = pciedma_late_copy(request, ret, true);
	request->missing &= has == ret;
	request->untouched = iov_iter_count(iter);
	return has ?: -EFAULT;
}

/* User memory is touched outside the gate: it may never come, which is its owner's affair. */
static ssize_t channel_sync_rw(struct pciedma_request *request, struct iov_iter *iter, u64 address)
{
	ssize_t done = 0;
	ssize_t ret;

	request->missing = request->direction == PCIEDMA_C2H && user_backed_iter(iter) &&
			   pciedma_request_copies(request, iter);
	request->untouched = iov_iter_count(iter);
	do {
		ret = request->missing ? pciedma_request_touch(request, iter) : 0;
		if (!ret)
			ret = sync_stay(request, iter, address + done);
		if (ret < 0)
			break;
		done += ret;
		if (request->freezes)
			try_to_freeze();
	} while (request->freezes || request->missing);
	if (!done && ret == -ETIMEDOUT && request->missing)
		pciedma_request_count_timeout(request);
	return done ?: ret;
}

static ssize_t channel_rw(struct kiocb *iocb, struct iov_iter *iter,
			  enum pciedma_direction direction)
{
	struct pciedma_channel_file *cf = iocb->ki_filp->private_data;
	bool memory = cf->channel->kind == PCIEDMA_KIND_MEMORY;
	struct pciedma_request request = {
		.lane = cf->channel->by_direction[direction],
		.direction = direction,
	};
	u64 address = memory ? iocb->ki_pos : 0;
	ssize_t ret;

	if (percpu_ref_is_dying(&cf->channel->node->card.gate))
		return -ENODEV;
	if (!iov_iter_count(iter))
		return 0;
	/* There is no place behind all that others have written. */
	if (memory && direction == PCIEDMA_H2C && (iocb->ki_flags & IOCB_APPEND))
		return -EOPNOTSUPP;
	request_init(&request, iocb, cf);
	ret = transfer_limit(cf->channel, &request, address, iov_iter_count(iter));
	if (ret <= 0)
		return ret;
	iov_iter_truncate(iter, ret);
	if (!is_sync_kiocb(iocb)) {
		request.untouched = ret;
		ret = channel_async_rw(&request, iocb, iter);
		pciedma_request_forget_part(&request);
		return ret;
	}
	if (direction == PCIEDMA_C2H && iov_iter_is_bvec(iter))
		iter_clear(iter);
	ret = channel_sync_rw(&request, iter, address);
	pciedma_request_forget_part(&request);
	if (ret > 0 && memory)
		iocb->ki_pos += ret;
	return ret == -EINTR ? -ERESTARTSYS : ret;
}

/**
 * pciedma_channel_read_iter() - move data from the card
 * @iocb: the kernel's request
 * @to:   where to
 *
 * Context: process.
 * Return: bytes, -EIOCBQUEUED or an errno.
 */
ssize_t pciedma_channel_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	return channel_rw(iocb, to, PCIEDMA_C2H);
}

/**
 * pciedma_channel_write_iter() - move data to the card
 * @iocb: the kernel's request
 * @from: where from
 *
 * Context: process.
 * Return: bytes, -EIOCBQUEUED or an errno.
 */
ssize_t pciedma_channel_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	return channel_rw(iocb, from, PCIEDMA_H2C);
}
