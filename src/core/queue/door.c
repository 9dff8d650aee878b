// SPDX-License-Identifier: GPL-2.0-only
/*
 * Doors: memory of core's own through which pinned user memory gets to engines that cannot work
 * on it, and from them. A transfer gets one only when it is the next to start, so that a queue's
 * depth has nothing to do with how many there are.
 */
#include <linux/scatterlist.h>

#include "queue.h"

/* Back to the others; whoever could not start for want of one starts now. */
static void door_close(struct pciedma_queue *queue, struct pciedma_door *door)
{
	guard(spinlock_irqsave)(&queue->engine->lock);
	door->transfer->door = NULL;
	door->transfer = NULL;
	list_add(&door->node, &queue->doors);
	if (!queue->starved)
		return;
	queue->starved = false;
	pciedma_engine_kick(queue->engine);
}

/* Its transfer has let go of it, and the hardware. */
static void door_release(struct pciedma_mem *mem, bool may_sleep)
{
	struct pciedma_door *door = container_of(mem, struct pciedma_door, stage.mem);
	struct pciedma_transfer *transfer = door->transfer;

	door_close(transfer->queue, door);
	pciedma_transfer_free(transfer);
}

static const struct pciedma_mem_ops door_ops = {
	.release = door_release,
};

/**
 * pciedma_doors_alloc() - make a queue's doors, if it needs some
 * @queue: the queue
 *
 * Context: process.
 * Return: 0 or -ENOMEM; then pciedma_doors_free() undoes what was done.
 */
int pciedma_doors_alloc(struct pciedma_queue *queue)
{
	const struct pciedma_engine *engine = queue->engine;
	struct pciedma_door *door;
	int ret;

	if (queue->direct && queue->limits.alignment == 1)
		return 0;
	for (door = queue->door; door < queue->door + PCIEDMA_DOORS; door++) {
		ret = pciedma_stage_alloc(&door->stage, &queue->limits,
					  engine->desc->buffer_size, engine->dma_direction);
		if (ret)
			return ret;
		list_add_tail(&door->node, &queue->doors);
	}
	return 0;
}

/**
 * pciedma_doors_free() - free them
 * @queue: nobody uses it any more
 *
 * What is kept stays allocated for ever.
 *
 * Context: process.
 */
void pciedma_doors_free(struct pciedma_queue *queue)
{
	struct pciedma_door *door;

	for (door = queue->door; door < queue->door + PCIEDMA_DOORS; door++)
		if (door->transfer)
			pciedma_stage_leave(&door->stage);
		else
			pciedma_stage_free(&door->stage);
	INIT_LIST_HEAD(&queue->doors);
}

/**
 * pciedma_door_room() - how much goes through a door at once
 * @queue: the queue
 *
 * Return: bytes; 0 if it has no doors.
 */
size_t pciedma_door_room(const struct pciedma_queue *queue)
{
	return queue->door[0].stage.size;
}

/**
 * pciedma_door_open() - let a transfer that is about to start have a door
 * @queue:    its queue
 * @transfer: the next to start
 *
 * If the card writes less than it says, an earlier caller's data must not show.
 *
 * Context: engine lock held.
 * Return: false if there is none now: as soon as there is, the engine is given what it can hold.
 */
bool pciedma_door_open(struct pciedma_queue *queue, struct pciedma_transfer *transfer)
{
	struct pciedma_door *door;
	struct sg_table *table = &transfer->user.mem.table;

	lockdep_assert_held(&queue->engine->lock);
	door = list_first_entry_or_null(&queue->doors, struct pciedma_door, node);
	queue->starved = !door;
	if (!door)
		return false;
	list_del(&door->node);
	door->transfer = transfer;
	transfer->door = door;
	pciedma_stage_use(&door->stage, &door_ops, transfer->length);
	if (transfer->direction == PCIEDMA_H2C)
		sg_copy_to_buffer(table->sgl, table->orig_nents, door->stage.buffer,
				  transfer->length);
	else
		memset(door->stage.buffer, 0, transfer->length);
	pciedma_stage_for_device(&door->stage, transfer->length, transfer->user.mem.direction);
	transfer->mem = &door->stage.mem;
	transfer->sg = transfer->mem->table.sgl;
	return true;
}

/**
 * pciedma_door_out() - let user space have what has come through a door
 * @transfer: ended, and owned by the caller
 *
 * Context: any.
 */
void pciedma_door_out(struct pciedma_transfer *transfer)
{
	struct sg_table *table = &transfer->user.mem.table;

	if (!transfer->door || transfer->direction == PCIEDMA_H2C || !transfer->done)
		return;
	pciedma_stage_for_cpu(&transfer->door->stage, transfer->done);
	sg_copy_from_buffer(table->sgl, table->orig_nents, transfer->door->stage.buffer,
			    transfer->done);
}
