// SPDX-License-Identifier: GPL-2.0-only
/*
 * New buffers: pages of their own, as large ones as there are, near the card, and where it
 * reaches them, so that no bounce buffer ever lies in between.
 */
#include <linux/device.h>
#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "buffer.h"
#include "runs.h"

/* What is gained beyond 2 MiB is little, and is not always to be had. */
#define LARGEST_ORDER	get_order(SZ_2M)

/**
 * struct supply - where pages come from
 * @home:   whose buffer they are for
 * @zone:   of all pages that are asked for
 * @order:  of the next; what failed once is not tried again
 * @chunks: those that were got, by their lru
 * @count:  how many
 */
struct supply {
	const struct pciedma_buffer_home *home;
	gfp_t zone;
	unsigned int order;
	struct list_head chunks;
	unsigned int count;
};

static void supply_init(struct supply *supply, const struct pciedma_buffer_home *home, size_t size)
{
	supply->home = home;
	supply->zone = 0;
	if (IS_ENABLED(CONFIG_ZONE_DMA32) && home->reach <= DMA_BIT_MASK(32))
		supply->zone = GFP_DMA32;
	supply->order = min_t(unsigned int, LARGEST_ORDER, get_order(size));
	INIT_LIST_HEAD(&supply->chunks);
	supply->count = 0;
}

/* A zone below, if there is one. */
static bool supply_goes_lower(struct supply *supply)
{
	if (IS_ENABLED(CONFIG_ZONE_DMA32) && !supply->zone)
		supply->zone = GFP_DMA32;
	else if (IS_ENABLED(CONFIG_ZONE_DMA) && supply->zone != GFP_DMA)
		supply->zone = GFP_DMA;
	else
		return false;
	return true;
}

static bool supply_reaches(const struct supply *supply, struct page *page, unsigned int order)
{
	return page_to_phys(page) + (PAGE_SIZE << order) - 1 <= supply->home->reach;
}

/* Nobody else is to suffer for it: what is large is not worth a search, and nothing is killed. */
static struct page *supply_ask(struct supply *supply, unsigned int order)
{
	gfp_t gfp = GFP_USER | __GFP_ACCOUNT | __GFP_ZERO | __GFP_NOWARN | supply->zone;

	gfp |= order ? __GFP_COMP | __GFP_NORETRY : __GFP_RETRY_MAYFAIL;
	return alloc_pages_node(supply->home->numa, gfp, order);
}

/* Get pages, @left at most. Returns how many, or an errno. */
static long supply_get(struct supply *supply, unsigned long left)
{
	struct page *page;

	while (left >> supply->order == 0)
		supply->order--;
	for (;;) {
		if (fatal_signal_pending(current))
			return -EINTR;
		page = supply_ask(supply, supply->order);
		if (page && supply_reaches(supply, page, supply->order))
			break;
		if (page) {
			__free_pages(page, supply->order);
			if (!supply_goes_lower(supply))
				return -ENOMEM;
		} else if (!supply->order--) {
			return -ENOMEM;
		}
	}
	list_add_tail(&page->lru, &supply->chunks);
	supply->count++;
	return 1L << supply->order;
}

static void supply_give_back(struct supply *supply)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &supply->chunks, lru) {
		list_del(&page->lru);
		__free_pages(page, compound_order(page));
	}
}

static int supply_get_all(struct supply *supply, struct device *for_log, unsigned long pages)
{
	unsigned long left = pages;
	long ret;

	while (left) {
		ret = supply_get(supply, left);
		if (ret == -ENOMEM)
			dev_info_ratelimited(for_log, "a buffer of %lu KiB was asked for; of memory that the card reaches there were %lu KiB\n",
					     pages << (PAGE_SHIFT - 10),
					     (pages - left) << (PAGE_SHIFT - 10));
		if (ret < 0)
			return ret;
		left -= ret;
		cond_resched();
	}
	return 0;
}

static void new_free(struct pciedma_buffer *buffer)
{
	unsigned int i;

	for (i = 0; i < buffer->num_chunks; i++)
		__free_pages(buffer->chunks[i], compound_order(buffer->chunks[i]));
}

static const struct pciedma_buffer_ops new_ops = {
	.map	= pciedma_pages_map,
	.unmap	= pciedma_pages_unmap,
	.free	= new_free,
	.is_new	= true,
};

/* Entries that a chunk may need, however it is cut. */
static unsigned int entries_of(const struct pciedma_mem_limits *limits, size_t bytes)
{
	return DIV_ROUND_UP(bytes, limits->max_entry & PAGE_MASK) +
	       bytes / limits->segment_mask + 1;
}

static void new_add_chunk(struct pciedma_buffer *buffer, struct page *page, phys_addr_t *end)
{
	const struct pciedma_mem_limits *limits = &buffer->home->limits;
	size_t most = limits->max_entry & PAGE_MASK;
	size_t length = page_size(page);
	size_t done, part;

	buffer->chunks[buffer->num_chunks++] = page;
	for (done = 0; done < length; done += part) {
		part = min(most, length - done);
		pciedma_runs_add(&buffer->mem.table, end, limits, page + (done >> PAGE_SHIFT), 0,
				 part);
	}
}

/* From here on the pages are the buffer's. */
static int new_take(struct pciedma_buffer *buffer, struct supply *supply)
{
	phys_addr_t end = PHYS_ADDR_MAX;
	struct page *page, *next;
	size_t entries = 0;
	int ret;

	list_for_each_entry(page, &supply->chunks, lru)
		entries += entries_of(&buffer->home->limits, page_size(page));
	buffer->chunks = kvmalloc_array(supply->count, sizeof(*buffer->chunks),
					GFP_KERNEL_ACCOUNT);
	ret = buffer->chunks ? pciedma_buffer_room(buffer, entries) : -ENOMEM;
	if (ret)
		return ret;
	list_for_each_entry_safe(page, next, &supply->chunks, lru) {
		list_del(&page->lru);
		new_add_chunk(buffer, page, &end);
	}
	return 0;
}

static int new_fill(struct pciedma_buffer *buffer)
{
	struct pciedma_buffer_home *home = buffer->home;
	unsigned long pages = buffer->size >> PAGE_SHIFT;
	struct supply supply;
	int ret;

	ret = pciedma_charge(&buffer->charge, home->holder, pages);
	if (ret)
		return ret;
	supply_init(&supply, home, buffer->size);
	ret = supply_get_all(&supply, home->holder, pages);
	if (!ret)
		ret = new_take(buffer, &supply);
	supply_give_back(&supply);
	return ret ?: pciedma_buffer_map(buffer);
}

/**
 * pciedma_buffer_new() - make a buffer of new pages
 * @home:      where it belongs
 * @direction: which ways its data may go
 * @size:      bytes, whole pages, not 0
 *
 * They are zeroed.
 *
 * Context: process, outside the gate: it may take long.
 * Return: the buffer or an ERR_PTR: -ENOMEM, after a line that says of what there is not enough;
 * -EINTR if the caller is to die; -ENODEV if the card has gone.
 */
struct pciedma_buffer *pciedma_buffer_new(struct pciedma_buffer_home *home,
					  enum dma_data_direction direction, size_t size)
{
	struct pciedma_buffer *buffer = pciedma_buffer_alloc(home, &new_ops, direction, size);
	int ret;

	if (!buffer)
		return ERR_PTR(-ENOMEM);
	ret = new_fill(buffer);
	if (!ret)
		return buffer;
	pciedma_mem_put(&buffer->mem, true);
	return ERR_PTR(ret);
}
