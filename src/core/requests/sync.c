// SPDX-License-Identifier: GPL-2.0-only
/*
 * One synchronous call: cut into transfers, several of which are handed in ahead
 * so that the engine never waits for the next one to be pinned and mapped.
 */
#include <linux/sched/signal.h>

#include "request.h"

/* Of a long call, one transfer of so many is told of: the others keep the engine at work. */
#define TOLD_EACH	4

static size_t copy_wanted(const struct pciedma_request *request, const struct iov_iter *iter)
{
	const struct pciedma_engine_desc *desc = request->engine->desc;
	size_t wanted = min_t(size_t, iov_iter_count(iter), desc->buffer_size);

	if (request->engine->kind == PCIEDMA_KIND_MESSAGE)
		wanted = min_t(size_t, wanted, desc->max_dma);
	return wanted;
}

static bool copy_may_be_cut(const struct pciedma_engine *engine)
{
	return engine->kind != PCIEDMA_KIND_MESSAGE && engine->desc->length_granularity <= 1 &&
	       engine->desc->address_alignment <= 1;
}

/* What is next is not there now: leave the gate to touch it, unless that was in vain. */
static int feed_miss(struct pciedma_request *request)
{
	request->missing = true;
	return 1;
}

/* How much of what is wanted next was touched. */
static size_t copy_touched(const struct pciedma_request *request, const struct iov_iter *iter,
			   size_t wanted)
{
	if (!user_backed_iter(iter))
		return wanted;
	return min(wanted, iov_iter_count(iter) - min(request->untouched, iov_iter_count(iter)));
}

/* What is copied from is read once, if it is there, since it may be a device's. */
static size_t copy_in(struct pciedma_transfer *transfer, size_t wanted, struct iov_iter *iter)
{
	size_t length;

	pagefault_disable();
	length = copy_from_iter(transfer->stage.buffer, wanted, iter);
	pagefault_enable();
	return length;
}

/*
 * Memory that is not there is found out before the card is asked: for data that
 * nobody could take, too. Returns 0, 1 if it is to be touched first, or an errno.
 */
static int feed_copy(struct pciedma_request *request, struct pciedma_transfer *transfer,
		     struct iov_iter *iter)
{
	bool c2h = request->direction == PCIEDMA_C2H;
	size_t wanted = copy_wanted(request, iter);
	size_t length;

	length = c2h ? copy_touched(request, iter, wanted) : copy_in(transfer, wanted, iter);
	if (length < wanted && (!length || !copy_may_be_cut(request->engine))) {
		if (!c2h)
			iov_iter_revert(iter, length);
		return feed_miss(request);
	}
	pciedma_transfer_stage(transfer, length);
	if (c2h) {
		/* If the card writes less than it says, that must not be an earlier caller's. */
		memset(transfer->stage.buffer, 0, length);
		transfer->iter = *iter;
		iov_iter_advance(iter, length);
	}
	pciedma_stage_for_device(&transfer->stage, length, c2h ? DMA_FROM_DEVICE : DMA_TO_DEVICE);
	return 0;
}

/*
 * User memory that cannot be pinned may be there all the same: a device's, a
 * secret, a file's that must not be held for long. So may some that cannot be
 * mapped, for want of bounce buffers. Both are copied after all, by a big
 * transfer: returns 1 if this one is not, or if the memory is to be touched first.
 */
static int feed_direct(struct pciedma_request *request, struct pciedma_transfer *transfer,
		       struct iov_iter *iter)
{
	size_t wanted = pciedma_user_mem_cut(iter, iov_iter_count(iter));
	int ret;

	ret = pciedma_transfer_fill(transfer, iter, wanted,
				    request->timeout < 0 ||
				    request->timeout > PCIEDMA_TIMEOUT_SHORT_NS);
	if (ret != -EFAULT && ret != -EAGAIN)
		return ret;
	if (ret == -EFAULT && !pciedma_request_touched(request, iter))
		return feed_miss(request);
	request->copies = true;
	return transfer->size == PCIEDMA_TRANSFER_BIG ? feed_copy(request, transfer, iter) : 1;
}

/* Little pieces cost more to pin and map than to copy. */
static bool direct_suits(struct pciedma_lane *lane, const struct iov_iter *iter)
{
	return lane->queue.direct && iov_iter_count(iter) / pciedma_user_mem_pieces(iter) >=
	       READ_ONCE(lane->copy_threshold) &&
	       pciedma_user_mem_possible(&lane->queue.limits, iter);
}

/**
 * pciedma_request_copies() - whether what comes next of a request will be copied
 * @request: the request
 * @iter:    what is left of its memory
 *
 * Return: true if so.
 */
bool pciedma_request_copies(struct pciedma_request *request, const struct iov_iter *iter)
{
	return !pciedma_request_part(request, iter) &&
	       (request->copies || !direct_suits(request->lane, iter));
}

static void request_release(struct pciedma_transfer *transfer)
{
	pciedma_user_mem_unaccount(&transfer->user);
	pciedma_transfer_release(transfer, true);
}

/* Under the engine's lock: its owner waits for it. */
static void sync_finished(struct pciedma_transfer *transfer)
{
	complete(&transfer->finished);
}

static const struct pciedma_transfer_ops sync_transfer_ops = {
	.finished = sync_finished,
};

static int feed_transfer(struct pciedma_request *request, struct pciedma_transfer *transfer,
			 struct iov_iter *iter, u64 address)
{
	size_t part = pciedma_request_part(request, iter);
	int ret = 0;

	transfer->ops = &sync_transfer_ops;
	transfer->owner = request;
	transfer->group = request;
	transfer->alone = false;
	transfer->file = request->waiter.file;
	transfer->direction = request->direction;
	transfer->address = address;
	if (part)
		pciedma_request_take_part(request, transfer, iter, part);
	else if (request->copies || !direct_suits(request->lane, iter))
		ret = feed_copy(request, transfer, iter);
	else
		ret = feed_direct(request, transfer, iter);
	if (!ret)
		request->copies = false;
	return ret;
}

/* Let the engine have the transfer that is ready. Returns 0 or an errno; then it is released. */
static int request_hand_in(struct pciedma_request *request, bool quiet)
{
	struct pciedma_transfer *transfer = request->ready;
	int ret;

	request->ready = NULL;
	request->quiet = quiet ? request->quiet + 1 : 0;
	transfer->quiet = quiet;
	transfer->polled = pciedma_request_polls(request, transfer->length);
	if (request->mode == PCIEDMA_WAIT_ADAPTIVE)
		transfer->since = ktime_get();
	ret = pciedma_transfer_submit(&request->lane->queue, transfer);
	if (!ret) {
		request->told += !quiet;
		return 0;
	}
	request->count--;
	request_release(transfer);
	return ret;
}

/* Whether transfers are kept ready: where there are few the engine would have nothing to do. */
static bool request_keeps_ready(const struct pciedma_request *request)
{
	return request->count > 1 && request->engine->desc->buffers > TOLD_EACH;
}

/*
 * A transfer more is ready, so that the one before it may be quiet: this one will follow. Who has
 * nothing under way is not kept waiting.
 */
static int request_add(struct pciedma_request *request, struct pciedma_transfer *transfer)
{
	int ret = 0;

	if (request->ready)
		ret = request_hand_in(request, request->quiet + 1 < TOLD_EACH);
	request->ready = transfer;
	request->transfers[(request->first + request->count++) % PCIEDMA_MAX_BUFFERS] = transfer;
	if (ret || request_keeps_ready(request))
		return ret;
	return request_hand_in(request, false);
}

/* Get a transfer for what comes next. Returns 0, 1 if none is free, or an errno. */
static int request_get(struct pciedma_request *request, const struct iov_iter *iter)
{
	struct pciedma_waiter *waiter = &request->waiter;

	waiter->size = PCIEDMA_TRANSFER_BIG;
	if (pciedma_request_part(request, iter))
		waiter->size = PCIEDMA_TRANSFER_SMALL;
	else if (!pciedma_request_copies(request, iter))
		waiter->size = pciedma_transfer_size(&request->lane->queue, iter);
	if (!request->count) {
		pciedma_request_start(request);
		return pciedma_request_acquire(request);
	}
	waiter->transfer = pciedma_transfer_try_acquire(&request->lane->queue, waiter->size);
	return !waiter->transfer;
}

/*
 * Returns 0; 1 if no further transfer is free, or the memory is to be touched; or why there is
 * nothing more to hand in.
 */
static int request_feed(struct pciedma_request *request, struct iov_iter *iter, u64 address)
{
	struct pciedma_transfer *transfer;
	int ret;

	do {
		ret = request_get(request, iter);
		if (ret)
			return ret;
		transfer = request->waiter.transfer;
		ret = feed_transfer(request, transfer, iter, address);
		if (ret)
			request_release(transfer);
	} while (ret > 0 && !request->missing);
	return ret ?: request_add(request, transfer);
}

/* Take back, the newest first, what the hardware has not begun. */
static void request_take_back(struct pciedma_request *request)
{
	struct pciedma_transfer *transfer;

	if (request->ready) {
		request->count--;
		request_release(request->ready);
		request->ready = NULL;
	}
	while (request->count) {
		transfer = request->transfers[(request->first + request->count - 1) %
					  PCIEDMA_MAX_BUFFERS];
		if (!pciedma_transfer_cancel(&request->lane->queue, transfer))
			return;
		request->count--;
		request->told -= !transfer->quiet;
		request_release(transfer);
	}
}

/* User memory may have gone since it was touched: then its data are kept for later. */
static ssize_t copy_out(struct pciedma_request *request, struct pciedma_transfer *transfer)
{
	size_t copied;
	int ret;

	pciedma_stage_for_cpu(&transfer->stage, transfer->done);
	pagefault_disable();
	copied = copy_to_iter(transfer->stage.buffer, transfer->done, &transfer->iter);
	pagefault_enable();
	if (copied == transfer->done)
		return copied;
	ret = pciedma_late_add(request, transfer->stage.buffer + copied, transfer->done - copied,
			       &transfer->iter, request->collected + copied);
	request->missing = true;
	return ret ?: transfer->done;
}

/* Returns the bytes of a transfer that has ended. */
static ssize_t transfer_collect(struct pciedma_request *request, struct pciedma_transfer *transfer)
{
	pciedma_transfer_for_cpu(transfer);
	if (pciedma_transfer_is_direct(transfer) || request->direction == PCIEDMA_H2C ||
	    !transfer->done)
		return transfer->done;
	return copy_out(request, transfer);
}

/* Give up: what has not begun goes back, the rest is waited for by request_collect(). */
static void request_give_up(struct pciedma_request *request, int reason)
{
	request->reason = reason;
	request->end = reason;
	request_take_back(request);
}

/* The first transfer that is not whole ends the call: nothing behind it counts. */
static void request_break(struct pciedma_request *request, int error)
{
	if (request->broken)
		return;
	request->broken = true;
	if (request->reason && request->reason != -EINTR)
		error = request->reason;
	error = error ?: request->reason ?: -EIO;
	if (!request->reason)
		request_give_up(request, error);
	request->end = error;
}

/* End the oldest transfer; returns its bytes, as far as they count. */
static size_t request_collect(struct pciedma_request *request)
{
	struct pciedma_transfer *transfer = request->transfers[request->first];
	bool counts = !request->broken;
	ssize_t ret;

	ret = request->reason ?: pciedma_transfer_wait(request, transfer);
	if (ret && !request->reason)
		request_give_up(request, ret);
	if (!request->count)
		return 0;
	if (ret)
		pciedma_transfer_stop(request, transfer, ret);
	request->first = (request->first + 1) % PCIEDMA_MAX_BUFFERS;
	request->count--;
	request->told -= !transfer->quiet;
	ret = transfer_collect(request, transfer);
	if (ret != transfer->length)
		request_break(request, ret < 0 ? ret : transfer->error);
	request_release(transfer);
	return counts && ret > 0 ? ret : 0;
}

/* Whether what is ready may wait for the next: what is under way will be told of. */
static bool request_waits(const struct pciedma_request *request, const struct iov_iter *iter)
{
	return request->told && !request->end && !request->freezes && !request->missing &&
	       iov_iter_count(iter);
}

/* Hand in as much as there are transfers for. */
static void request_feed_all(struct pciedma_request *request, struct iov_iter *iter,
			     u64 end_address)
{
	bool message = request->engine->kind == PCIEDMA_KIND_MESSAGE;
	int ret = 0;

	request->freezes = pciedma_request_freezes(request, iter);
	while (!ret && !request->end && !request->freezes && !request->missing &&
	       iov_iter_count(iter) &&
	       request->count < request->engine->desc->buffers) {
		ret = request_feed(request, iter, end_address - iov_iter_count(iter));
		if (message && !ret)
			iov_iter_truncate(iter, 0);
	}
	if (ret < 0)
		request->end = ret;
	if (!request->ready || (!ret && request_waits(request, iter)))
		return;
	ret = request_hand_in(request, false);
	if (ret < 0 && !request->end)
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
 * pciedma_sync_run() - run a request
 * @request: engine, direction, file, cancels, mode, nonblock and timeout set
 * @iter:    user memory, already cut to what may be moved
 * @address: the card's address of the first byte
 *
 * If the thread is to be frozen, it ends with what is under way, @request->freezes; if memory is
 * not there, too, @request->missing. What it could not copy is in @request->late then.
 *
 * Context: process, inside the gate.
 * Return: bytes that arrived; an errno if it is none.
 */
ssize_t pciedma_sync_run(struct pciedma_request *request, struct iov_iter *iter, u64 address)
{
	u64 end_address = address + iov_iter_count(iter);

	request->collected = 0;
	for (;;) {
		request_feed_all(request, iter, end_address);
		if (!request->reason && pciedma_request_cancelled(request))
			request_give_up(request, -ECANCELED);
		if (!request->count)
			break;
		request->collected += request_collect(request);
		request->moved |= request->collected;
		if (!request->reason && signal_pending(current) &&
		    pciedma_caller_gives_way(&request->caller))
			request_give_up(request, -EINTR);
		if (!request->count && (request->end || !iov_iter_count(iter)))
			break;
		pciedma_request_start(request);
	}
	pciedma_caller_return(&request->caller);
	request->freezes &= !request->end && iov_iter_count(iter);
	request->missing &= !request->end && iov_iter_count(iter);
	if (request->collected)
		return request->collected;
	if (request->end == -ETIMEDOUT)
		pciedma_request_count_timeout(request);
	return request->end;
}
