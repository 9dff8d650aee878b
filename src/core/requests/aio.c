// SPDX-License-Identifier: GPL-2.0-only
/*
 * Asynchronous requests of the kernel's (Linux AIO, io_uring) as ops: everything is pinned when
 * they are submitted.
 */
#include <linux/aio.h>
#include <linux/fs.h>
#include <linux/sched.h>

#include <compat.h>

#include "op.h"
#include "request.h"

/* Nobody can cancel it any more. Engine lock held. */
static void aio_ended(struct pciedma_op *op)
{
	struct kiocb *iocb = op->owner;

	iocb->private = NULL;
}

static void aio_complete(struct pciedma_lane *lane, void *owner, ssize_t result)
{
	struct kiocb *iocb = owner;

	if (result > 0 && lane->engine.kind == PCIEDMA_KIND_MEMORY)
		iocb->ki_pos += result;
	pciedma_card_leave(lane->engine.card);
	iocb->ki_complete(iocb, result);
}

static const struct pciedma_op_ops aio_op_ops = {
	.ended		= aio_ended,
	.complete	= aio_complete,
};

/**
 * pciedma_aio_begin() - an asynchronous request has arrived
 * @iocb:   the kernel's request
 * @cancel: how AIO cancels it
 *
 * Once, before it is submitted or postponed. From now on, and under its engine's
 * lock, its private pointer leads to what it is while it is postponed, and, marked,
 * while the engine has it; is an ERR_PTR if it was cancelled while nobody had it, and
 * NULL otherwise.
 *
 * Context: process.
 */
void pciedma_aio_begin(struct kiocb *iocb, int (*cancel)(struct kiocb *iocb))
{
	iocb->private = NULL;
	if (iocb->ki_flags & IOCB_AIO_RW)
		kiocb_set_cancel_fn(iocb, cancel);
}

/**
 * pciedma_aio_cancelled() - whether a request was cancelled before it was handed in
 * @request: the request
 * @iocb:    the same, as the kernel sees it
 *
 * Context: engine lock held.
 * Return: true if so.
 */
bool pciedma_aio_cancelled(const struct pciedma_request *request, const struct kiocb *iocb)
{
	return IS_ERR(iocb->private) || pciedma_request_cancelled(request);
}

/**
 * pciedma_aio_timeout() - how long an asynchronous request may be without progress
 * @request: the request
 *
 * Nobody can be asked whether he still waits, so it is never long.
 *
 * Return: nanoseconds.
 */
s64 pciedma_aio_timeout(const struct pciedma_request *request)
{
	return request->timeout < 0 ? PCIEDMA_TIMEOUT_SHORT_NS :
		min_t(s64, request->timeout, PCIEDMA_TIMEOUT_SHORT_NS);
}

/* Transfers of a request: one that copies keeps its doors until it ends, and must not want more. */
static unsigned int aio_most(const struct pciedma_request *request)
{
	return request->copies ? PCIEDMA_DOORS : PCIEDMA_MAX_BUFFERS;
}

/* A transfer more, for a request that has some; an ERR_PTR if there is none. */
static struct pciedma_transfer *aio_acquire(struct pciedma_request *request,
					    const struct iov_iter *iter, unsigned int has,
					    bool wait)
{
	struct pciedma_transfer *transfer;
	int ret;

	if (has == aio_most(request))
		return ERR_PTR(-EAGAIN);
	request->waiter.size = PCIEDMA_TRANSFER_SMALL;
	if (!request->copies && !pciedma_request_part(request, iter))
		request->waiter.size = pciedma_transfer_size(&request->lane->queue, iter);
	if (!wait) {
		transfer = pciedma_transfer_try_acquire(&request->lane->queue,
							request->waiter.size);
		return transfer ?: ERR_PTR(-EAGAIN);
	}
	ret = pciedma_request_acquire(request);
	if (ret)
		return ERR_PTR(ret);
	pciedma_request_start(request);
	return request->waiter.transfer;
}

/* Let a transfer have memory of the request. */
static int aio_fill(struct pciedma_request *request, struct pciedma_transfer *transfer,
		    struct iov_iter *iter)
{
	size_t part = pciedma_request_part(request, iter);
	size_t length = iov_iter_count(iter);

	if (part) {
		pciedma_request_take_part(request, transfer, iter, part);
		return 0;
	}
	if (request->copies) {
		length = min(length, pciedma_door_room(transfer->queue));
		return pciedma_transfer_pin(transfer, iter, length);
	}
	length = pciedma_user_mem_cut(iter, length);
	return pciedma_transfer_fill(transfer, iter, length, false);
}

/* Let the request have a transfer. Returns 0 or an errno; then the transfer is released. */
static int aio_add(struct pciedma_request *request, struct pciedma_op **op,
		   struct pciedma_transfer *transfer, struct iov_iter *iter, u64 address)
{
	int ret;

	transfer->direction = request->direction;
	transfer->address = address;
	ret = aio_fill(request, transfer, iter);
	if (ret) { /* if it cannot be mapped, a synchronous call copies */
		pciedma_transfer_release(transfer, true);
		return ret;
	}
	pciedma_user_mem_dirty(&transfer->user);
	if (!*op)
		*op = pciedma_op_at(request->lane, transfer);
	pciedma_op_add(*op, transfer);
	return 0;
}

/* It may be over before this returns. */
static int aio_hand_in(const struct pciedma_request *request, struct pciedma_op *op,
		       struct kiocb *iocb)
{
	struct pciedma_engine *engine = request->engine;

	op->ops = &aio_op_ops;
	op->owner = iocb;
	op->file = request->open_file;
	op->files = request->files;
	op->timeout = pciedma_aio_timeout(request);
	guard(spinlock_irqsave)(&engine->lock);
	if (engine->state == PCIEDMA_ENGINE_BROKEN)
		return engine->broken_error;
	if (pciedma_aio_cancelled(request, iocb))
		return -ECANCELED;
	iocb->private = (void *)((unsigned long)op | PCIEDMA_PRIVATE_OP);
	pciedma_op_hand_in(op);
	return 0;
}

/* Whether a request may be handed in before it waits: 0, -EAGAIN or another errno. */
static int aio_may_begin(struct pciedma_request *request)
{
	struct pciedma_engine *engine = request->engine;

	guard(spinlock_irqsave)(&engine->lock);
	if (engine->state == PCIEDMA_ENGINE_BROKEN)
		return engine->broken_error;
	return pciedma_backlog_has(request) ? -EAGAIN : 0;
}

/* Whether all of a request may be handed in at once: on its memory itself, or through doors. */
static bool aio_suits(struct pciedma_request *request, const struct iov_iter *iter)
{
	struct pciedma_queue *queue = &request->lane->queue;
	size_t room = PCIEDMA_USER_MEM_SIZE;

	if (pciedma_request_part(request, iter) == iov_iter_count(iter))
		return true;
	request->copies = !queue->direct || !pciedma_user_mem_possible(&queue->limits, iter);
	if (request->copies)
		room = pciedma_user_mem_pinnable(iter) ? pciedma_door_room(queue) : 0;
	return iov_iter_count(iter) <= room * aio_most(request);
}

/**
 * pciedma_aio_submit() - begin a request that nobody waits for
 * @request: engine, direction, files, cancels, nonblock and timeout set
 * @iocb:    the kernel's request; its position is the card's address
 * @iter:    user memory, already cut to what may be moved
 * @wait:    it was postponed, and may wait for room now
 *
 * Once it has begun, it leaves the gate when it ends.
 *
 * Context: process, inside the gate.
 * Return: -EIOCBQUEUED; -EAGAIN if there is no room for all of it, ever if
 * @wait, or if it suits a synchronous call better; -EFAULT if its memory was not
 * touched, and is not there; another errno.
 */
int pciedma_aio_submit(struct pciedma_request *request, struct kiocb *iocb, struct iov_iter *iter,
		       bool wait)
{
	bool memory = request->engine->kind == PCIEDMA_KIND_MEMORY;
	u64 end_address = (memory ? iocb->ki_pos : 0) + iov_iter_count(iter);
	struct pciedma_op *op = NULL;
	struct iov_iter before = *iter;
	struct pciedma_transfer *transfer;
	unsigned int has;
	int ret;

	ret = wait ? 0 : aio_may_begin(request);
	if (ret)
		return ret;
	if (!aio_suits(request, iter))
		return -EAGAIN;
	for (has = 0; !ret && iov_iter_count(iter); has++) {
		transfer = aio_acquire(request, iter, has, wait);
		ret = IS_ERR(transfer) ? PTR_ERR(transfer) :
				       aio_add(request, &op, transfer, iter,
					       end_address - iov_iter_count(iter));
	}
	if (!ret)
		ret = aio_hand_in(request, op, iocb);
	if (!ret)
		return -EIOCBQUEUED;
	if (ret == -EFAULT && pciedma_request_touched(request, iter))
		ret = -EAGAIN; /* what can only be copied needs a synchronous call */
	*iter = before;
	if (op)
		pciedma_op_release(op, true);
	return ret;
}

/**
 * pciedma_aio_cancel_iocb() - end one asynchronous request early
 * @lane: its lane
 * @iocb: the kernel's request, which cannot go before this returns
 *
 * Others may be cancelled with the same locks held, so this takes a time that
 * does not depend on how many requests there are, and completes nothing.
 *
 * Context: any.
 */
void pciedma_aio_cancel_iocb(struct pciedma_lane *lane, struct kiocb *iocb)
{
	guard(spinlock_irqsave)(&lane->engine.lock);
	if (IS_ERR(iocb->private))
		return;
	if ((unsigned long)iocb->private & PCIEDMA_PRIVATE_OP)
		pciedma_op_stop(iocb->private - PCIEDMA_PRIVATE_OP, -ECANCELED);
	else if (iocb->private)
		pciedma_postponed_cancel(lane, iocb->private);
	else
		iocb->private = ERR_PTR(-ECANCELED);
}

/**
 * pciedma_aio_cancel() - end asynchronous requests early
 * @lane:    their lane
 * @backlog: where postponed ones are
 * @file:    the open file whose requests they are
 * @files:   the process whose they are; NULL: of all processes
 *
 * Context: process.
 */
void pciedma_aio_cancel(struct pciedma_lane *lane, struct pciedma_backlog *backlog,
			const void *file, const void *files)
{
	pciedma_backlog_cancel(lane, backlog, files);
	pciedma_ops_cancel(lane, file, files);
}
