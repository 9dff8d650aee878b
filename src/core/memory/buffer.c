// SPDX-License-Identifier: GPL-2.0-only
/*
 * Buffers: their life, and what all kinds have in common: one mapping for the card, and a way to
 * any place in it without a walk.
 */
#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/slab.h>
#include <linux/swiotlb.h>

#include "buffer.h"

/* Places are noted every so many bytes: in between there are few entries. */
#define STRIDE	SZ_64K

/* What is more than the kernel gives at a time is not to be had: that is no warning's worth. */
#define ROOM_GFP	(GFP_KERNEL_ACCOUNT | __GFP_NOWARN)

/**
 * pciedma_buffer_home_init() - make a home, closed
 * @home:   the home
 * @holder: the device that it is part of
 * @wq:     where buffers are given back
 *
 * Context: process.
 */
void pciedma_buffer_home_init(struct pciedma_buffer_home *home, struct device *holder,
			      struct workqueue_struct *wq)
{
	home->holder = holder;
	home->wq = wq;
	mutex_init(&home->lock);
	INIT_LIST_HEAD(&home->buffers);
	home->closed = true;
}

/* The last address of memory that a device reaches; behind an IOMMU that is all. */
static phys_addr_t device_reach(struct device *dev)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(dev);

	if (domain && domain->type != IOMMU_DOMAIN_IDENTITY)
		return PHYS_ADDR_MAX;
	return min_not_zero(dma_get_mask(dev), dev->bus_dma_limit);
}

/**
 * pciedma_buffer_home_open() - there can be buffers from now on
 * @home:   the home
 * @limits: of an engine that it is for; those of several add up
 *
 * Context: process.
 */
void pciedma_buffer_home_open(struct pciedma_buffer_home *home,
			      const struct pciedma_mem_limits *limits)
{
	struct pciedma_mem_limits *all = &home->limits;

	guard(mutex)(&home->lock);
	if (home->closed) {
		*all = *limits;
		home->reach = device_reach(limits->dev);
		home->numa = dev_to_node(limits->dev);
	} else {
		all->granularity = max(all->granularity, limits->granularity);
		all->alignment = max(all->alignment, limits->alignment);
		all->max_entry = min(all->max_entry, limits->max_entry);
		all->segment_mask = min(all->segment_mask, limits->segment_mask);
	}
	home->closed = false;
}

static void buffer_unmap(struct pciedma_buffer *buffer)
{
	list_del(&buffer->node);
	buffer->mapped = false;
	buffer->ops->unmap(buffer);
}

/* Hardware is not proven to have left it: it stays mapped, and its pages are nobody's, for ever. */
static void buffer_leave(struct pciedma_buffer *buffer)
{
	list_del(&buffer->node);
	buffer->mapped = false;
	buffer->left = true;
	if (buffer->ops->leave)
		buffer->ops->leave(buffer);
}

/**
 * pciedma_buffer_home_close() - the device goes: unmap what hardware is proven to have left
 * @home: the home
 *
 * Nothing is moved to or from its buffers any more.
 *
 * Context: process.
 */
void pciedma_buffer_home_close(struct pciedma_buffer_home *home)
{
	struct pciedma_buffer *buffer, *next;

	guard(mutex)(&home->lock);
	home->closed = true;
	list_for_each_entry_safe(buffer, next, &home->buffers, node) {
		if (atomic_read(&buffer->uses))
			buffer_leave(buffer);
		else
			buffer_unmap(buffer);
	}
}

static void buffer_free(struct pciedma_buffer *buffer)
{
	struct pciedma_buffer_home *home = buffer->home;

	scoped_guard(mutex, &home->lock)
		if (buffer->mapped)
			buffer_unmap(buffer);
	if (!buffer->left)
		buffer->ops->free(buffer);
	kvfree(buffer->chunks);
	pciedma_uncharge(&buffer->charge);
	kvfree(buffer->mem.table.sgl);
	kvfree(buffer->places);
	kvfree(buffer->dma_places);
	if (!buffer->left || !buffer->ops->leave)
		kfree(buffer);
	put_device(home->holder);
}

static void buffer_free_work(struct work_struct *work)
{
	buffer_free(container_of(work, struct pciedma_buffer, release));
}

static void buffer_release(struct pciedma_mem *mem, bool may_sleep)
{
	struct pciedma_buffer *buffer = container_of(mem, struct pciedma_buffer, mem);

	if (may_sleep)
		buffer_free(buffer);
	else
		queue_work(buffer->home->wq, &buffer->release);
}

static const struct pciedma_mem_ops buffer_mem_ops = {
	.release = buffer_release,
};

/**
 * pciedma_buffer_alloc() - make a buffer that has no memory yet
 * @home:      where it belongs
 * @ops:       what kind it is
 * @direction: which ways its data may go
 * @size:      bytes
 *
 * Context: process.
 * Return: the buffer, to be given back with pciedma_mem_put(); NULL if there is no memory.
 */
struct pciedma_buffer *pciedma_buffer_alloc(struct pciedma_buffer_home *home,
					    const struct pciedma_buffer_ops *ops,
					    enum dma_data_direction direction, size_t size)
{
	struct pciedma_buffer *buffer = kzalloc(max(ops->bytes, sizeof(*buffer)),
						GFP_KERNEL_ACCOUNT);

	if (!buffer)
		return NULL;
	get_device(home->holder);
	pciedma_mem_init(&buffer->mem, &buffer_mem_ops, home->limits.dev, direction);
	buffer->ops = ops;
	buffer->home = home;
	buffer->size = size;
	INIT_WORK(&buffer->release, buffer_free_work);
	return buffer;
}

/**
 * pciedma_buffer_room() - make room in a buffer's tables
 * @buffer:  the buffer; there is as much memory as its size says
 * @entries: how many there may be
 *
 * Context: process.
 * Return: 0 or -ENOMEM.
 */
int pciedma_buffer_room(struct pciedma_buffer *buffer, size_t entries)
{
	size_t places = DIV_ROUND_UP(buffer->size, STRIDE);
	struct sg_table *table = &buffer->mem.table;

	if (entries > U32_MAX)
		return -ENOMEM;
	buffer->places = kvmalloc_array(places, sizeof(*buffer->places), ROOM_GFP);
	buffer->dma_places = kvmalloc_array(places, sizeof(*buffer->dma_places), ROOM_GFP);
	table->sgl = kvmalloc_array(entries, sizeof(*table->sgl), ROOM_GFP);
	if (!buffer->places || !buffer->dma_places || !table->sgl)
		return -ENOMEM;
	sg_init_table(table->sgl, entries);
	return 0;
}

static unsigned int page_length(const struct scatterlist *entry)
{
	return entry->length;
}

static unsigned int dma_length(const struct scatterlist *entry)
{
	return sg_dma_len(entry);
}

static void buffer_note_places(const struct pciedma_buffer *buffer, struct pciedma_place *places,
			       unsigned int (*length)(const struct scatterlist *entry))
{
	struct scatterlist *entries = buffer->mem.table.sgl;
	size_t begin = 0; /* of the entry */
	u32 entry = 0;
	size_t at;

	for (at = 0; at < buffer->size; at += STRIDE) {
		while (at - begin >= length(entries + entry))
			begin += length(entries + entry++);
		*places++ = (struct pciedma_place) { .entry = entry, .skip = at - begin };
	}
}

static bool buffer_needs_syncs(struct pciedma_buffer *buffer)
{
	struct scatterlist *entry;
	int i;

	for_each_sgtable_dma_sg(&buffer->mem.table, entry, i)
		if (dma_need_sync(buffer->mem.dev, sg_dma_address(entry)))
			return true;
	return false;
}

static bool table_is_within(struct sg_table *table, phys_addr_t last)
{
	struct scatterlist *entry;
	int i;

	for_each_sgtable_sg(table, entry, i)
		if (sg_phys(entry) + entry->length - 1 > last)
			return false;
	return true;
}

/*
 * What lies beyond a device's reach is bounced, but bounce buffers lie anywhere below 4 GiB: one
 * that does not reach all of that has none.
 */
static int buffer_check_reach(struct pciedma_buffer *buffer)
{
	phys_addr_t last = buffer->home->reach;

	if (last >= DMA_BIT_MASK(32))
		return 0;
	if (!is_swiotlb_force_bounce(buffer->mem.dev) &&
	    table_is_within(&buffer->mem.table, last))
		return 0;
	dev_info_ratelimited(buffer->home->holder, "memory of %s, or what it would be bounced through, is out of the card's reach\n",
			     current->comm);
	return -EOPNOTSUPP;
}

/**
 * pciedma_pages_map() - map a buffer's pages for its device
 * @buffer: all of them are in its table
 *
 * Context: process, home locked.
 * Return: 0; -EOPNOTSUPP, after a line, if they are out of reach; another errno.
 */
int pciedma_pages_map(struct pciedma_buffer *buffer)
{
	struct sg_table *table = &buffer->mem.table;
	int ret;

	sg_mark_end(table->sgl + table->orig_nents - 1);
	buffer_note_places(buffer, buffer->places, page_length);
	ret = buffer_check_reach(buffer);
	if (ret)
		return ret;
	ret = dma_map_sgtable(buffer->mem.dev, table, buffer->mem.direction,
			      DMA_ATTR_SKIP_CPU_SYNC | DMA_ATTR_NO_WARN);
	if (!ret)
		buffer->syncs = buffer_needs_syncs(buffer);
	return ret;
}

/**
 * pciedma_pages_unmap() - undo that
 * @buffer: hardware has left it
 *
 * Context: process, home locked.
 */
void pciedma_pages_unmap(struct pciedma_buffer *buffer)
{
	dma_unmap_sgtable(buffer->mem.dev, &buffer->mem.table, buffer->mem.direction,
			  DMA_ATTR_SKIP_CPU_SYNC);
}

/**
 * pciedma_buffer_map() - map a buffer for its card
 * @buffer: all that it is made of is there
 *
 * Context: process.
 * Return: 0; -ENODEV if the card has gone; -ENOMEM, -EIO and what else exporters say if it cannot
 * be mapped.
 */
int pciedma_buffer_map(struct pciedma_buffer *buffer)
{
	struct pciedma_buffer_home *home = buffer->home;
	int ret;

	guard(mutex)(&home->lock);
	if (home->closed)
		return -ENODEV;
	ret = buffer->ops->map(buffer);
	if (ret)
		return ret;
	buffer->mapped = true;
	list_add_tail(&buffer->node, &home->buffers);
	buffer_note_places(buffer, buffer->dma_places, dma_length);
	return 0;
}

static struct scatterlist *buffer_entry(const struct pciedma_buffer *buffer,
					const struct pciedma_place *places,
					unsigned int (*length)(const struct scatterlist *entry),
					size_t offset, u32 *skip)
{
	const struct pciedma_place *place = places + offset / STRIDE;
	struct scatterlist *entry = buffer->mem.table.sgl + place->entry;

	*skip = place->skip + offset % STRIDE;
	for (; *skip >= length(entry); entry++)
		*skip -= length(entry);
	return entry;
}

/**
 * pciedma_buffer_page() - the page in which a byte lies
 * @buffer: the buffer
 * @offset: of the byte, less than its size
 *
 * Return: the page.
 */
struct page *pciedma_buffer_page(const struct pciedma_buffer *buffer, size_t offset)
{
	struct scatterlist *entry;
	u32 skip;

	entry = buffer_entry(buffer, buffer->places, page_length, offset, &skip);
	return pfn_to_page(PHYS_PFN(sg_phys(entry) + skip));
}

/**
 * pciedma_buffer_find() - where the card finds a byte
 * @buffer: the buffer, mapped
 * @offset: of the byte, less than its size
 * @skip:   out: how far into the entry it lies
 *
 * Return: the entry of its table.
 */
struct scatterlist *pciedma_buffer_find(const struct pciedma_buffer *buffer, size_t offset,
					u32 *skip)
{
	return buffer_entry(buffer, buffer->dma_places, dma_length, offset, skip);
}

static void buffer_sync(struct pciedma_buffer *buffer, size_t offset, size_t length,
			void (*sync)(struct device *dev, dma_addr_t address, size_t length,
				     enum dma_data_direction direction))
{
	struct scatterlist *entry;
	size_t part;
	u32 skip;

	if (!buffer->syncs)
		return;
	for (entry = pciedma_buffer_find(buffer, offset, &skip); length; entry++, skip = 0) {
		part = min_t(size_t, length, sg_dma_len(entry) - skip);
		sync(buffer->mem.dev, sg_dma_address(entry) + skip, part, buffer->mem.direction);
		length -= part;
	}
}

static void sync_for_device(struct device *dev, dma_addr_t address, size_t length,
			    enum dma_data_direction direction)
{
	dma_sync_single_for_device(dev, address, length, direction);
}

static void sync_for_cpu(struct device *dev, dma_addr_t address, size_t length,
			 enum dma_data_direction direction)
{
	dma_sync_single_for_cpu(dev, address, length, direction);
}

/**
 * pciedma_buffer_for_device() - the device may use a part of a buffer
 * @buffer: the buffer, mapped
 * @offset: where the part begins
 * @length: its bytes, at least 1
 *
 * Context: any.
 */
void pciedma_buffer_for_device(struct pciedma_buffer *buffer, size_t offset, size_t length)
{
	buffer_sync(buffer, offset, length, sync_for_device);
}

/**
 * pciedma_buffer_for_cpu() - the processor may see what has arrived in a part of a buffer
 * @buffer: the buffer, mapped
 * @offset: where the part begins
 * @length: its bytes
 *
 * Context: any.
 */
void pciedma_buffer_for_cpu(struct pciedma_buffer *buffer, size_t offset, size_t length)
{
	buffer_sync(buffer, offset, length, sync_for_cpu);
}
