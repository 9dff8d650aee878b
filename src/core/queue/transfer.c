// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the owner of a transfer does with it: hand it in, wait for it, take it back.
 */
#include "queue.h"

/**
 * pciedma_transfer_submit() - hand a transfer to the engine
 * @queue:    its queue
 * @transfer: owned by the caller; its memory, address and length set
 *
 * Context: process.
 * Return: 0, or the engine's errno while it is broken; then the caller keeps
 * the transfer.
 */
int pciedma_transfer_submit(struct pciedma_queue *queue, struct pciedma_transfer *transfer)
{
	struct pciedma_engine *engine = queue->engine;

	guard(spinlock_irqsave)(&engine->lock);
	if (engine->state == PCIEDMA_ENGINE_BROKEN)
		return engine->broken_error;
	pciedma_queue_add(queue, transfer);
	pciedma_engine_kick(engine);
	return 0;
}

/**
 * pciedma_transfer_cancel() - take a transfer back that the hardware has not begun
 * @queue:    its queue
 * @transfer: submitted by the caller
 *
 * Context: process.
 * Return: false if it has begun or ended.
 */
bool pciedma_transfer_cancel(struct pciedma_queue *queue, struct pciedma_transfer *transfer)
{
	guard(spinlock_irqsave)(&queue->engine->lock);
	if (transfer->state != PCIEDMA_TRANSFER_QUEUED || transfer->taken)
		return false;
	pciedma_queue_remove(queue, transfer);
	return true;
}

/**
 * pciedma_queue_arm() - who polls for a transfer is going to sleep
 * @queue:    its queue; the engine's interrupt can be switched at any time
 * @transfer: submitted
 *
 * He looks once more before he sleeps: what ended before this made no interrupt.
 *
 * Context: engine lock held.
 */
void pciedma_queue_arm(struct pciedma_queue *queue, struct pciedma_transfer *transfer)
{
	struct pciedma_engine *engine = queue->engine;

	lockdep_assert_held(&engine->lock);
	if (transfer->state != PCIEDMA_TRANSFER_QUEUED || !transfer->polled)
		return;
	transfer->polled = false;
	engine->sleepers++;
	if (engine->irq_on || engine->state != PCIEDMA_ENGINE_RUN)
		return;
	pciedma_engine_switch_irq(engine, true);
}

/**
 * pciedma_transfer_is_oldest() - whether no transfer is before one
 * @queue:    its queue
 * @transfer: submitted by the caller
 *
 * Context: process.
 * Return: true if so, or if it has finished.
 */
bool pciedma_transfer_is_oldest(struct pciedma_queue *queue, struct pciedma_transfer *transfer)
{
	guard(spinlock_irqsave)(&queue->engine->lock);
	return transfer->state != PCIEDMA_TRANSFER_QUEUED ||
	       list_is_first(&transfer->node, &queue->list);
}

/**
 * pciedma_transfer_turn() - whether it is a transfer's turn to be polled for
 * @queue:    its queue
 * @transfer: submitted by the caller
 *
 * If not, its completion is signalled when it is, as well as when it finishes.
 *
 * Context: process.
 * Return: 1 if it is, or if the transfer has finished; -ECANCELED; else 0.
 */
int pciedma_transfer_turn(struct pciedma_queue *queue, struct pciedma_transfer *transfer)
{
	guard(spinlock_irqsave)(&queue->engine->lock);
	if (transfer->cancelled)
		return -ECANCELED;
	if (transfer->state != PCIEDMA_TRANSFER_QUEUED ||
	    list_is_first(&transfer->node, &queue->list))
		return 1;
	transfer->waits_turn = true;
	return 0;
}

/**
 * pciedma_transfers_cancel() - let those who wait for transfers give up
 * @queue:     the queue
 * @direction: of those that move data this way
 * @file:      and work for this open file, or postponed request
 *
 * Context: engine lock held.
 */
void pciedma_transfers_cancel(struct pciedma_queue *queue, enum pciedma_direction direction,
			      const void *file)
{
	struct pciedma_transfer *transfer;

	lockdep_assert_held(&queue->engine->lock);
	list_for_each_entry(transfer, &queue->list, node) {
		if (transfer->file != file || transfer->direction != direction)
			continue;
		transfer->cancelled = true;
		complete(&transfer->finished);
	}
	pciedma_waiters_refuse(queue, file, -ECANCELED);
}

/**
 * pciedma_transfer_abort() - ask recovery to end a transfer that the hardware has
 * @queue:    its queue
 * @transfer: submitted by the caller
 * @error:    errno for its request
 *
 * The caller then waits until it is not queued: the ladder always ends.
 *
 * Context: process.
 */
void pciedma_transfer_abort(struct pciedma_queue *queue, struct pciedma_transfer *transfer,
			    int error)
{
	guard(spinlock_irqsave)(&queue->engine->lock);
	if (transfer->state != PCIEDMA_TRANSFER_QUEUED)
		return;
	transfer->error = error;
	if (transfer->taken)
		pciedma_engine_recover(queue->engine, error);
	else
		pciedma_queue_remove(queue, transfer); /* the ladder has taken it back meanwhile */
}
