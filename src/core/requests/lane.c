// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lanes: an engine, its queue, and what stands behind that.
 */
#include <linux/slab.h>

#include "op.h"
#include "request.h"

/* Below it the copy is cheaper than pinning and mapping (make bench). */
#define COPY_THRESHOLD	4096
/* A sleep and its wake-up cost about as much. */
#define DEFAULT_SPIN_US	50

static struct pciedma_lane *to_lane(const struct pciedma_queue *queue)
{
	return container_of(queue, struct pciedma_lane, queue);
}

/**
 * pciedma_lane_unsure() - what was to be told of does not begin: what is before it may be quiet
 * @lane: its lane
 *
 * Context: engine lock held.
 */
void pciedma_lane_unsure(struct pciedma_lane *lane)
{
	lockdep_assert_held(&lane->engine.lock);
	if (list_empty(&lane->queue.list))
		return;
	lane->unsure = true;
	lane->unsure_before = lane->queue.next_id;
	pciedma_work_within(&lane->watch, PCIEDMA_LOOK_NS);
}

/**
 * pciedma_lane_of() - the lane of an engine
 * @engine: the engine
 *
 * Return: it.
 */
struct pciedma_lane *pciedma_lane_of(struct pciedma_engine *engine)
{
	return container_of(engine, struct pciedma_lane, engine);
}

static void lane_settled(struct pciedma_queue *queue)
{
	pciedma_ops_complete(to_lane(queue));
}

static void lane_fail(struct pciedma_queue *queue)
{
	pciedma_postponed_kill(to_lane(queue));
}

static bool lane_postpones(const struct pciedma_queue *queue)
{
	return pciedma_lane_postpones(to_lane(queue));
}

static const struct pciedma_queue_ops lane_queue_ops = {
	.settled	= lane_settled,
	.fail		= lane_fail,
	.postpones	= lane_postpones,
};

/**
 * pciedma_lane_init() - make a lane, without memory yet
 * @lane:      the lane, its engine's card, device, description, numbers and directions set
 * @buffers:   those of its channel
 * @poll_wait: who polls for it
 *
 * Context: process.
 */
void pciedma_lane_init(struct pciedma_lane *lane, struct pciedma_buffer_home *buffers,
		       wait_queue_head_t *poll_wait)
{
	struct pciedma_engine *engine = &lane->engine;

	lane->buffers = buffers;
	spin_lock_init(&engine->lock);
	engine->state = PCIEDMA_ENGINE_PAUSED;
	engine->drain_ms = engine->desc->drain_ms;
	pciedma_rate_init(engine);
	pciedma_queue_init(&lane->queue, engine, &lane_queue_ops, poll_wait);
	INIT_LIST_HEAD(&lane->stopping);
	INIT_LIST_HEAD(&lane->done);
	INIT_LIST_HEAD(&lane->deferred);
	timerqueue_init_head(&lane->waiting);
	INIT_LIST_HEAD(&lane->ended);
	INIT_DELAYED_WORK(&lane->watch, pciedma_ops_watch);
	INIT_LIST_HEAD(&lane->turns);
	INIT_LIST_HEAD(&lane->end_turns);
	INIT_LIST_HEAD(&lane->missing);
	timerqueue_init_head(&lane->deadlines);
	INIT_DELAYED_WORK(&lane->ender, pciedma_postponed_end_work);
	lane->copy_threshold = COPY_THRESHOLD;
	lane->spin_us = DEFAULT_SPIN_US;
}

/**
 * pciedma_lane_alloc() - allocate a lane's memory, and make its thread
 * @lane: the lane
 *
 * Context: process.
 * Return: 0 or an errno; then pciedma_lane_free() undoes what was done.
 */
int pciedma_lane_alloc(struct pciedma_lane *lane)
{
	int ret;

	ret = pciedma_engine_alloc(&lane->engine);
	if (!ret)
		ret = pciedma_taker_create(lane);
	if (!ret)
		ret = pciedma_transfers_alloc(&lane->queue);
	if (ret)
		return ret;
	lane->op = kvcalloc(lane->queue.num, sizeof(*lane->op), GFP_KERNEL);
	return lane->op ? 0 : -ENOMEM;
}

/**
 * pciedma_lane_free() - undo that
 * @lane: nobody uses it any more
 *
 * Context: process.
 */
void pciedma_lane_free(struct pciedma_lane *lane)
{
	pciedma_taker_destroy(lane);
	cancel_delayed_work_sync(&lane->watch);
	kvfree(lane->op);
	lane->op = NULL;
	pciedma_transfers_free(&lane->queue);
	pciedma_engine_free(&lane->engine);
}
