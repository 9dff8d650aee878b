/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tables of pages, made by the run: what lies together becomes one entry, as far as the engine
 * may count through. Their entries are an array.
 */
#ifndef PCIEDMA_RUNS_H
#define PCIEDMA_RUNS_H

#include "mem.h"

/* Addresses that the engine may count through: what lies beyond needs an entry of its own. */
static inline bool pciedma_entry_may_reach(const struct pciedma_mem_limits *limits,
					   phys_addr_t start, phys_addr_t last)
{
	return !((start ^ last) & ~(phys_addr_t)limits->segment_mask);
}

/* Add bytes that cross no boundary, to the entry before if they go on there. */
static inline void pciedma_runs_add_entry(struct sg_table *table, phys_addr_t *end,
					  const struct pciedma_mem_limits *limits,
					  struct page *page, size_t offset, phys_addr_t start,
					  size_t length)
{
	struct scatterlist *last = table->sgl + table->orig_nents - 1;

	if (start == *end && last->length + length <= limits->max_entry &&
	    pciedma_entry_may_reach(limits, sg_phys(last), start + length - 1))
		last->length += length;
	else
		sg_set_page(table->sgl + table->orig_nents++, page, length, offset);
	*end = start + length;
}

/* Add bytes of contiguous pages; *@end is the address behind the last entry. */
static inline void pciedma_runs_add(struct sg_table *table, phys_addr_t *end,
				    const struct pciedma_mem_limits *limits, struct page *page,
				    size_t offset, size_t length)
{
	phys_addr_t start = page_to_phys(page) + offset;
	size_t part;

	while (unlikely(!pciedma_entry_may_reach(limits, start, start + length - 1))) {
		part = (limits->segment_mask & ~start) + 1;
		pciedma_runs_add_entry(table, end, limits, page, offset, start, part);
		length -= part;
		start += part;
		page += (offset + part) >> PAGE_SHIFT;
		offset = offset_in_page(offset + part);
	}
	pciedma_runs_add_entry(table, end, limits, page, offset, start, length);
}

/* How many of the pages lie one behind the other. */
static inline unsigned int pciedma_pages_run(struct page **pages, unsigned int count)
{
	unsigned long pfn = page_to_pfn(pages[0]);
	unsigned int run = 1;

	while (run < count && page_to_pfn(pages[run]) == pfn + run)
		run++;
	return run;
}

#endif /* PCIEDMA_RUNS_H */
