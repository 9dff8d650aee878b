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

/**
 * pciedma_stage_alloc() - allocate memory of core's own
 * @stage:     where to put it
 * @dev:       the device that it is mapped for
 * @size:      bytes
 * @direction: which ways data may go
 *
 * Context: process.
 * Return: 0 or -ENOMEM.
 */
int pciedma_stage_alloc(struct pciedma_stage *stage, struct device *dev, size_t size,
			enum dma_data_direction direction)
{
	stage->buffer = dma_alloc_noncoherent(dev, size, &stage->dma, direction, GFP_KERNEL);
	if (!stage->buffer)
		return -ENOMEM;
	stage->size = size;
	stage->mem.dev = dev;
	stage->mem.direction = direction;
	stage->mem.table.sgl = &stage->entry;
	sg_init_one(&stage->entry, stage->buffer, size);
	sg_dma_address(&stage->entry) = stage->dma;
	return 0;
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
	stage->mem.ops = ops;
	refcount_set(&stage->mem.refs, 1);
	sg_dma_len(&stage->entry) = length;
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
