// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that hardware may be told of: references, and core's own.
 */
#include <linux/dma-mapping.h>

#include "mem.h"

/**
 * pciedma_mem_init() - memory is used from now on
 * @mem:       the memory; the caller has the only reference
 * @ops:       what it does
 * @dev:       the device that it is mapped for
 * @direction: which way data goes
 *
 * Context: any.
 */
void pciedma_mem_init(struct pciedma_mem *mem, const struct pciedma_mem_ops *ops,
		      struct device *dev, enum dma_data_direction direction)
{
	mem->ops = ops;
	mem->dev = dev;
	mem->direction = direction;
	refcount_set(&mem->refs, 1);
}

/**
 * pciedma_mem_get() - hold memory
 * @mem: held by somebody
 *
 * Context: any.
 */
void pciedma_mem_get(struct pciedma_mem *mem)
{
	refcount_inc(&mem->refs);
}

/**
 * pciedma_mem_put() - let go of memory
 * @mem:       the memory; given back if nobody else holds it
 * @may_sleep: the caller may
 *
 * Context: any, but see @may_sleep.
 */
void pciedma_mem_put(struct pciedma_mem *mem, bool may_sleep)
{
	if (refcount_dec_and_test(&mem->refs))
		mem->ops->release(mem, may_sleep);
}

/* The DMA API aligns it as its size: an entry that is as long as a boundary crosses none. */
static int stage_make_table(struct pciedma_stage *stage, const struct pciedma_mem_limits *limits)
{
	struct scatterlist *entry;
	size_t done = 0;

	stage->piece = stage->size;
	if (limits->segment_mask < stage->size)
		stage->piece = limits->segment_mask + 1;
	if (sg_alloc_table(&stage->mem.table, DIV_ROUND_UP(stage->size, stage->piece), GFP_KERNEL))
		return -ENOMEM;
	for (entry = stage->mem.table.sgl; entry; entry = sg_next(entry)) {
		sg_set_buf(entry, stage->buffer + done, min(stage->piece, stage->size - done));
		sg_dma_address(entry) = stage->dma + done;
		done += stage->piece;
	}
	return 0;
}

/**
 * pciedma_stage_alloc() - allocate memory of core's own
 * @stage:     where to put it
 * @limits:    the device that it is mapped for, and where it must be cut
 * @size:      bytes
 * @direction: which ways data may go
 *
 * Context: process.
 * Return: 0 or -ENOMEM; then pciedma_stage_free() undoes what was done.
 */
int pciedma_stage_alloc(struct pciedma_stage *stage, const struct pciedma_mem_limits *limits,
			size_t size, enum dma_data_direction direction)
{
	stage->buffer = dma_alloc_noncoherent(limits->dev, size, &stage->dma, direction,
					      GFP_KERNEL);
	if (!stage->buffer)
		return -ENOMEM;
	stage->size = size;
	stage->mem.dev = limits->dev;
	stage->mem.direction = direction;
	return stage_make_table(stage, limits);
}

/**
 * pciedma_stage_free() - free it
 * @stage: nobody holds it, or it was never allocated
 *
 * Context: process.
 */
void pciedma_stage_free(struct pciedma_stage *stage)
{
	if (stage->buffer)
		dma_free_noncoherent(stage->mem.dev, stage->size, stage->buffer, stage->dma,
				     stage->mem.direction);
	stage->buffer = NULL;
	sg_free_table(&stage->mem.table);
}

/**
 * pciedma_stage_leave() - leave it to the hardware for ever
 * @stage: the hardware may still use it; nothing of ours does
 *
 * Context: process.
 */
void pciedma_stage_leave(struct pciedma_stage *stage)
{
	sg_free_table(&stage->mem.table);
}

/**
 * pciedma_stage_use() - a request has memory of core's own from now on
 * @stage:  the memory; the caller has the only reference
 * @ops:    what it does
 * @length: bytes that are used
 *
 * Context: any.
 */
void pciedma_stage_use(struct pciedma_stage *stage, const struct pciedma_mem_ops *ops,
		       size_t length)
{
	struct scatterlist *entry = stage->mem.table.sgl;

	stage->mem.ops = ops;
	refcount_set(&stage->mem.refs, 1);
	for (; length > stage->piece; length -= stage->piece, entry = sg_next(entry))
		sg_dma_len(entry) = stage->piece;
	sg_dma_len(entry) = length;
}

/**
 * pciedma_stage_for_device() - the device may use it
 * @stage:     the memory
 * @length:    bytes
 * @direction: which way data will go
 *
 * Context: any.
 */
void pciedma_stage_for_device(struct pciedma_stage *stage, size_t length,
			      enum dma_data_direction direction)
{
	dma_sync_single_for_device(stage->mem.dev, stage->dma, length, direction);
}

/**
 * pciedma_stage_for_cpu() - the processor may see what has arrived
 * @stage:  the memory
 * @length: bytes
 *
 * Context: any.
 */
void pciedma_stage_for_cpu(struct pciedma_stage *stage, size_t length)
{
	dma_sync_single_for_cpu(stage->mem.dev, stage->dma, length, DMA_FROM_DEVICE);
}
