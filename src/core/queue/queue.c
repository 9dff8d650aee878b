// SPDX-License-Identifier: GPL-2.0-only
/*
 * An engine's queue: the order of its transfers, and what becomes of each.
 */
#include "../trace/trace.h"
#include "queue.h"

static struct pciedma_queue *to_queue(struct pciedma_source *source)
{
	return container_of(source, struct pciedma_queue, source);
}

static void queue_set_next(struct pciedma_queue *queue, struct pciedma_transfer *transfer)
{
	queue->next = transfer;
	queue->source.more = transfer;
}

/* The hardware has, or must not have, all of the transfer: read on behind it. */
static void queue_pass(struct pciedma_queue *queue, struct pciedma_transfer *transfer)
{
	if (queue->next == transfer)
		queue_set_next(queue, list_is_last(&transfer->node, &queue->list) ?
			       NULL : list_next_entry(transfer, node));
}

static struct pciedma_transfer *queue_first(struct pciedma_queue *queue)
{
	return list_first_entry_or_null(&queue->list, struct pciedma_transfer, node);
}

/* The owner of the oldest transfer may poll now, if it sleeps until then. */
static void queue_pass_turn(struct pciedma_queue *queue)
{
	struct pciedma_transfer *oldest = queue_first(queue);

	if (!oldest || !oldest->waits_turn)
		return;
	oldest->waits_turn = false;
	complete(&oldest->finished);
}

/* The hardware has left a transfer's memory, which its owner still holds. */
static void transfer_unhold(struct pciedma_transfer *transfer)
{
	if (!transfer->held)
		return;
	transfer->held = false;
	pciedma_mem_put(transfer->mem, false);
}

/**
 * pciedma_queue_remove() - a transfer is its owner's again
 * @queue:    its queue
 * @transfer: the transfer; the hardware has none of it
 *
 * Context: engine lock held.
 */
void pciedma_queue_remove(struct pciedma_queue *queue, struct pciedma_transfer *transfer)
{
	lockdep_assert_held(&queue->engine->lock);
	queue_pass(queue, transfer);
	list_del(&transfer->node);
	if (!transfer->polled)
		queue->engine->sleepers--;
	transfer->state = PCIEDMA_TRANSFER_OWNED;
	queue_pass_turn(queue);
}

static bool transfer_ended(const struct pciedma_transfer *transfer)
{
	return transfer->error || transfer->ended;
}

/* A request goes no further behind a transfer that was not whole. */
static void queue_drop(struct pciedma_queue *queue, const void *group)
{
	struct pciedma_transfer *transfer, *next;

	list_for_each_entry_safe(transfer, next, &queue->list, node) {
		if (transfer->group != group || transfer->taken || transfer_ended(transfer))
			continue;
		transfer_unhold(transfer);
		transfer->error = -ECANCELED;
		pciedma_queue_remove(queue, transfer);
		transfer->ops->finished(transfer);
	}
}

static void queue_count(struct pciedma_engine *engine, const struct pciedma_transfer *transfer)
{
	struct pciedma_stats *stats = &engine->stats[transfer->direction];

	if (transfer->error)
		stats->errors++;
	else
		stats->transfers++;
	stats->bytes += transfer->done;
	if (!pciedma_transfer_is_direct(transfer))
		stats->copied += transfer->done;
	if (unlikely(engine->health.ailing) && !transfer->error)
		pciedma_engine_recovered(engine);
}

/* A transfer has ended; if not proven, what the hardware holds of it is kept. */
static void queue_finish(struct pciedma_queue *queue, struct pciedma_transfer *transfer,
			 bool proven)
{
	struct pciedma_engine *engine = queue->engine;

	pciedma_queue_remove(queue, transfer);
	queue_count(engine, transfer);
	trace_pciedma_complete(engine->card->index, engine->channel, transfer->direction,
			       transfer->id, transfer->address, transfer->length, transfer->done,
			       transfer->error);
	if (proven)
		transfer_unhold(transfer);
	else if (transfer->held)
		pciedma_transfer_keep(transfer);
	transfer->ops->finished(transfer);
	if (transfer->done < transfer->length && !transfer->alone)
		queue_drop(queue, transfer->group);
}

static void transfer_rewind(struct pciedma_transfer *transfer, u32 taken)
{
	transfer->taken = taken;
	transfer->sg_taken = 0;
	transfer->inflight = 0;
	if (!transfer->mem) /* it has none until it gets a door */
		return;
	transfer->sg = transfer->mem->table.sgl;
	taken += transfer->skip;
	while (taken && taken >= sg_dma_len(transfer->sg)) {
		taken -= sg_dma_len(transfer->sg);
		transfer->sg = sg_next(transfer->sg);
	}
	transfer->sg_taken = taken;
}

/* The next piece of a transfer that is contiguous for the engine. */
static void transfer_take(struct pciedma_transfer *transfer, u32 limit,
			  struct pciedma_segment *segment)
{
	u32 left = sg_dma_len(transfer->sg) - transfer->sg_taken;
	u32 length = min3(left, limit, transfer->length - transfer->taken);

	segment->dma = sg_dma_address(transfer->sg) + transfer->sg_taken;
	segment->address = transfer->address + transfer->taken;
	segment->length = length;
	segment->direction = transfer->direction;
	transfer->taken += length;
	transfer->sg_taken += length;
	segment->notify = transfer->taken == transfer->length && !transfer->quiet;
	if (length == left && transfer->taken < transfer->length) {
		transfer->sg = sg_next(transfer->sg);
		transfer->sg_taken = 0;
	}
}

/**
 * pciedma_queue_cut() - let no more of a transfer begin
 * @queue:    its queue
 * @transfer: on it; the hardware has some of it, or has had
 *
 * What has begun ends by itself.
 *
 * Context: engine lock held.
 */
void pciedma_queue_cut(struct pciedma_queue *queue, struct pciedma_transfer *transfer)
{
	lockdep_assert_held(&queue->engine->lock);
	if (transfer->taken == transfer->length)
		return;
	transfer->ended = true;
	queue_pass(queue, transfer);
	if (!transfer->inflight)
		queue_finish(queue, transfer, true);
}

static bool queue_next(struct pciedma_source *source, u32 limit, struct pciedma_segment *segment,
		       void **item)
{
	struct pciedma_queue *queue = to_queue(source);
	struct pciedma_engine *engine = queue->engine;
	struct pciedma_transfer *transfer = queue->next;

	if (!transfer->mem && !pciedma_door_open(queue, transfer))
		return false;
	if (!transfer->held) {
		transfer->held = true;
		pciedma_mem_get(transfer->mem);
	}
	transfer_take(transfer, limit, segment);
	if (transfer->taken == segment->length)
		trace_pciedma_start(engine->card->index, engine->channel, transfer->direction,
				    transfer->id, transfer->address, transfer->length,
				    transfer->done, transfer->error);
	transfer->inflight++;
	if (transfer->taken == transfer->length)
		queue_pass(queue, transfer);
	*item = transfer;
	return true;
}

static void queue_done(struct pciedma_source *source, void *item, u32 segments, u32 length,
		       u32 bytes, int error)
{
	struct pciedma_queue *queue = to_queue(source);
	struct pciedma_transfer *transfer = item;

	transfer->inflight -= segments;
	transfer->done += bytes;
	if (error && !transfer->error) /* else it was to end: that is its caller's reason */
		transfer->error = error;
	if (error || bytes < length) {
		transfer->ended = true;
		queue_pass(queue, transfer);
	}
	if (transfer->inflight || (!transfer->ended && transfer->taken < transfer->length))
		return;
	if (transfer->done == transfer->length)
		transfer->error = 0;
	queue_finish(queue, transfer, true);
}

/* Finishing one transfer can remove others: always begin anew. */
static struct pciedma_transfer *queue_first_ended(struct pciedma_queue *queue)
{
	struct pciedma_transfer *transfer;

	list_for_each_entry(transfer, &queue->list, node)
		if (transfer_ended(transfer))
			return transfer;
	return NULL;
}

static void queue_rewind(struct pciedma_source *source)
{
	struct pciedma_queue *queue = to_queue(source);
	struct pciedma_transfer *transfer;

	list_for_each_entry(transfer, &queue->list, node) {
		transfer_unhold(transfer);
		if (!transfer_ended(transfer))
			transfer_rewind(transfer, transfer->done);
	}
	while ((transfer = queue_first_ended(queue)))
		queue_finish(queue, transfer, true);
	queue_set_next(queue, queue_first(queue));
}

static void queue_finish_begun(struct pciedma_source *source, int error, bool proven)
{
	struct pciedma_queue *queue = to_queue(source);
	struct pciedma_transfer *transfer;

	while ((transfer = queue_first(queue)) && transfer->taken) {
		if (!transfer->error)
			transfer->error = error;
		queue_finish(queue, transfer, proven);
	}
}

static void queue_fail(struct pciedma_source *source, int error)
{
	struct pciedma_queue *queue = to_queue(source);
	struct pciedma_transfer *transfer;

	while ((transfer = queue_first(queue))) {
		transfer->error = error;
		queue_finish(queue, transfer, true);
	}
	pciedma_waiters_refuse(queue, NULL, error);
	queue->ops->fail(queue);
}

static void queue_proven(struct pciedma_source *source)
{
	pciedma_transfers_proven(to_queue(source));
}

static void queue_settled(struct pciedma_source *source, bool may_sleep)
{
	struct pciedma_queue *queue = to_queue(source);

	if (may_sleep)
		pciedma_transfers_let_go(queue);
	queue->ops->settled(queue);
}

static const struct pciedma_source_ops queue_source_ops = {
	.next		= queue_next,
	.done		= queue_done,
	.rewind		= queue_rewind,
	.finish		= queue_finish_begun,
	.fail		= queue_fail,
	.proven		= queue_proven,
	.settled	= queue_settled,
};

/**
 * pciedma_queue_init() - make an engine's queue, without transfers yet
 * @queue:     the queue
 * @engine:    the engine
 * @ops:       whom to tell
 * @poll_wait: who polls for it to be ready
 *
 * Context: process.
 */
void pciedma_queue_init(struct pciedma_queue *queue, struct pciedma_engine *engine,
			const struct pciedma_queue_ops *ops, wait_queue_head_t *poll_wait)
{
	enum pciedma_transfer_size size;

	queue->source.ops = &queue_source_ops;
	queue->engine = engine;
	queue->ops = ops;
	queue->poll_wait = poll_wait;
	INIT_LIST_HEAD(&queue->list);
	for (size = 0; size < PCIEDMA_TRANSFER_SIZES; size++)
		INIT_LIST_HEAD(&queue->free[size]);
	INIT_LIST_HEAD(&queue->doors);
	INIT_LIST_HEAD(&queue->waiters);
	INIT_LIST_HEAD(&queue->kept);
	INIT_LIST_HEAD(&queue->proven);
	engine->source = &queue->source;
}

/**
 * pciedma_queue_ready() - whether a request would start at once, behind no other
 * @queue: the queue
 *
 * Context: engine lock held.
 * Return: true if so.
 */
bool pciedma_queue_ready(struct pciedma_queue *queue)
{
	struct pciedma_engine *engine = queue->engine;

	return engine->state == PCIEDMA_ENGINE_RUN && !engine->failed &&
	       !queue->ops->postpones(queue) && list_empty(&queue->waiters) &&
	       queue->num_free == queue->num;
}

/**
 * pciedma_queue_add() - put a transfer at the end of the queue
 * @queue:    its queue
 * @transfer: owned by the caller; its memory, address and length set
 *
 * Then pciedma_engine_kick() must be called.
 *
 * Context: engine lock held; the engine is not broken.
 */
void pciedma_queue_add(struct pciedma_queue *queue, struct pciedma_transfer *transfer)
{
	struct pciedma_engine *engine = queue->engine;

	lockdep_assert_held(&engine->lock);
	transfer->id = queue->next_id++;
	transfer_rewind(transfer, 0);
	transfer->done = 0;
	transfer->error = 0;
	transfer->ended = false;
	transfer->cancelled = false;
	transfer->waits_turn = false;
	transfer->state = PCIEDMA_TRANSFER_QUEUED;
	reinit_completion(&transfer->finished);
	list_add_tail(&transfer->node, &queue->list);
	if (!transfer->polled)
		engine->sleepers++;
	if (!queue->next)
		queue_set_next(queue, transfer);
	trace_pciedma_submit(engine->card->index, engine->channel, transfer->direction,
			     transfer->id, transfer->address, transfer->length, transfer->done,
			     transfer->error);
}
