/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory that hardware may be told of. It knows no request, no queue and no engine: only who
 * holds it, the device that it is mapped for, and how to give it back.
 *
 * Life times: whoever made it holds a reference, and the hardware holds one from the start of
 * the first segment in it until the engine is proven to have left it. Quarantine is a reference
 * of the hardware's that is not dropped. The last put unmaps and gives back.
 */
#ifndef PCIEDMA_MEM_H
#define PCIEDMA_MEM_H

#include <linux/dma-direction.h>
#include <linux/refcount.h>
#include <linux/scatterlist.h>
#include <linux/sizes.h>
#include <linux/uio.h>

struct device;
struct pciedma_mem;

/* Most user memory of one piece. */
#define PCIEDMA_USER_MEM_SIZE	SZ_2M
/* Pages that so many bytes can lie in. */
#define PCIEDMA_PAGES_OF(length)	((length) / PAGE_SIZE + 1)

/**
 * struct pciedma_mem_ops - what a kind of memory does
 * @release: the last reference was dropped; if not @may_sleep, from any context
 */
struct pciedma_mem_ops {
	void (*release)(struct pciedma_mem *mem, bool may_sleep);
};

/**
 * struct pciedma_mem - memory that is mapped for a device
 * @ops:       what it does
 * @refs:      who holds it
 * @dev:       the device
 * @direction: which way data goes
 * @table:     where it lies, for the processor and for the device
 */
struct pciedma_mem {
	const struct pciedma_mem_ops *ops;
	refcount_t refs;
	struct device *dev;
	enum dma_data_direction direction;
	struct sg_table table;
};

/**
 * struct pciedma_mem_limits - what an engine, its bus and the machine ask of memory
 * @dev:          the device that memory is mapped for
 * @granularity:  bytes of which the length of each piece of a user's must be a multiple
 * @alignment:    bytes to which its address must be aligned, not less
 * @max_entry:    most bytes of an entry in its table
 * @segment_mask: what of an address may differ within one
 */
struct pciedma_mem_limits {
	struct device *dev;
	u32 granularity;
	u32 alignment;
	u32 max_entry;
	unsigned long segment_mask;
};

/**
 * struct pciedma_piece - contiguous memory of a request, of user's addresses or of pages
 * @address: where it begins: for the user, or in @page
 * @page:    the first of its pages, or NULL
 * @length:  bytes
 */
struct pciedma_piece {
	unsigned long address;
	struct page *page;
	size_t length;
};

/**
 * struct pciedma_stage - memory of core's own, that user's data is copied to or from
 * @mem:    itself
 * @buffer: as the processor sees it
 * @dma:    as the device sees it
 * @size:   bytes
 * @piece:  bytes of each entry of its table but the last
 */
struct pciedma_stage {
	struct pciedma_mem mem;
	void *buffer;
	dma_addr_t dma;
	size_t size;
	size_t piece;
};

/**
 * struct pciedma_user_mem - user's pages
 * @mem:        itself
 * @pages:      room for @max_pages
 * @entries:    room for the entries of its table
 * @max_pages:  most that it can have
 * @num_pages:  how many it has
 * @end:        the address behind the last entry, while it is filled
 * @pinned:     they were pinned by us
 * @accounted:  they count against the limit of locked memory
 * @referenced: they were not pinned, but are kept by us in quarantine
 * @synced:     their owner has them back although they are mapped
 */
struct pciedma_user_mem {
	struct pciedma_mem mem;
	struct page **pages;
	struct scatterlist *entries;
	unsigned int max_pages;
	unsigned int num_pages;
	phys_addr_t end;
	bool pinned;
	bool accounted;
	bool referenced;
	bool synced;
};

/* mem.c */
void pciedma_mem_init(struct pciedma_mem *mem, const struct pciedma_mem_ops *ops,
		      struct device *dev, enum dma_data_direction direction);
void pciedma_mem_get(struct pciedma_mem *mem);
void pciedma_mem_put(struct pciedma_mem *mem, bool may_sleep);
int pciedma_stage_alloc(struct pciedma_stage *stage, const struct pciedma_mem_limits *limits,
			size_t size, enum dma_data_direction direction);
void pciedma_stage_free(struct pciedma_stage *stage);
void pciedma_stage_leave(struct pciedma_stage *stage);
void pciedma_stage_use(struct pciedma_stage *stage, const struct pciedma_mem_ops *ops,
		       size_t length);
void pciedma_stage_for_device(struct pciedma_stage *stage, size_t length,
			      enum dma_data_direction direction);
void pciedma_stage_for_cpu(struct pciedma_stage *stage, size_t length);

/* piece.c */
struct pciedma_piece pciedma_piece_first(const struct iov_iter *iter);
bool pciedma_user_mem_pinnable(const struct iov_iter *iter);
bool pciedma_user_mem_possible(const struct pciedma_mem_limits *limits,
			       const struct iov_iter *iter);
size_t pciedma_user_mem_pieces(const struct iov_iter *iter);
size_t pciedma_user_mem_cut(const struct iov_iter *iter, size_t length);

/* user_mem.c */
int pciedma_user_mem_alloc(struct pciedma_user_mem *user, const struct pciedma_mem_limits *limits,
			   unsigned int max_pages);
void pciedma_user_mem_free(struct pciedma_user_mem *user);
ssize_t pciedma_user_mem_fill(struct pciedma_user_mem *user,
			      const struct pciedma_mem_limits *limits, struct iov_iter *iter,
			      size_t length, bool unbounded);
int pciedma_user_mem_map(struct pciedma_user_mem *user);
void pciedma_user_mem_unmap(struct pciedma_user_mem *user);
void pciedma_user_mem_sync(struct pciedma_user_mem *user);
void pciedma_user_mem_unpin(struct pciedma_user_mem *user, bool dirty);
void pciedma_user_mem_unaccount(struct pciedma_user_mem *user);
void pciedma_user_mem_keep(struct pciedma_user_mem *user);
void pciedma_user_mem_dirty(struct pciedma_user_mem *user);
bool pciedma_user_mem_still_dirty(struct pciedma_user_mem *user);

/* present.c */
bool pciedma_memory_is_there(const struct iov_iter *iter, size_t length,
			     enum dma_data_direction direction);
size_t pciedma_memory_touch(const struct iov_iter *iter, size_t length,
			    enum dma_data_direction direction);

#endif /* PCIEDMA_MEM_H */
