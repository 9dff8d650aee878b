/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Buffers: memory that user space and a card share. It is mapped for the card once, for as long
 * as there is somebody who holds it and a card that it is mapped for.
 *
 * Life times
 *   home     part of its channel, from probe to the last close; open from probe to remove
 *   buffer   as long as somebody has a reference: a handle of an open file, a mapping in user
 *            space, what moves its data. The last one that is dropped unmaps it for the card, if
 *            that has not gone, and gives its pages back, in process context
 *   pages    of a new buffer: as long as the buffer, and as whoever has them mapped or pinned
 *
 * When the card goes, closing its home unmaps all that the hardware is proven to have left. A
 * buffer that is in quarantine then stays as it is for ever, as all that is.
 */
#ifndef PCIEDMA_BUFFER_H
#define PCIEDMA_BUFFER_H

#include <linux/mutex.h>
#include <linux/workqueue.h>

#include "mem.h"

struct cred;
struct pciedma_buffer;
struct vm_area_struct;

/**
 * struct pciedma_buffer_home - what a channel's buffers have in common
 * @limits:   what its engines ask of memory; its device is what they are mapped for, and is there
 *            until the home is closed
 * @reach:    the last address of memory that the device reaches
 * @numa:     the node that it is near
 * @holder:   holds the home
 * @wq:       where buffers are given back if the last who held one could not sleep
 * @lock:     protects @buffers, @closed, and whether they are mapped
 * @buffers:  those that are mapped
 * @closed:   nothing is mapped any more
 * @mappings: how many mappings in user space there are of them
 */
struct pciedma_buffer_home {
	struct pciedma_mem_limits limits;
	phys_addr_t reach;
	int numa;
	struct device *holder;
	struct workqueue_struct *wq;
	struct mutex lock; /* buffers, closed, what is mapped */
	struct list_head buffers;
	bool closed;
	atomic_t mappings;
};

/**
 * struct pciedma_buffer_ops - what kinds of buffers differ in
 * @bytes: of the structure that has the buffer at its beginning, or 0
 * @map:   map it for its device; then its table has addresses; 0 or an errno
 * @unmap: undo that
 * @free:  give its pages back; it is mapped for nobody
 * @leave: it stays mapped for ever, and so does its structure, of which somebody knows; or NULL
 * @is_new: user space may map it, and other devices may have it
 */
struct pciedma_buffer_ops {
	size_t bytes;
	int (*map)(struct pciedma_buffer *buffer);
	void (*unmap)(struct pciedma_buffer *buffer);
	void (*free)(struct pciedma_buffer *buffer);
	void (*leave)(struct pciedma_buffer *buffer);
	bool is_new;
};

/**
 * struct pciedma_place - where a byte of a buffer is found
 * @entry: in which entry of its table
 * @skip:  how far in
 */
struct pciedma_place {
	u32 entry;
	u32 skip;
};

/**
 * struct pciedma_charge - what counts against a user's limit of locked memory
 * @cred:  whose, or NULL
 * @pages: how many
 */
struct pciedma_charge {
	const struct cred *cred;
	unsigned long pages;
};

/**
 * struct pciedma_buffer - memory that user space and a card share
 * @mem:      itself; the entries of its table are an array
 * @ops:      what kind it is
 * @home:     its home
 * @node:     among the home's
 * @mapped:   for the card
 * @left:     it was left to the hardware for ever
 * @revoked:  its exporter has taken it away
 * @syncs:    the processor and the card do not see the same without being told
 * @uses:     how many transfers have it, those in quarantine included
 * @size:     bytes
 * @first:    the page offset in its file at which it is mapped
 * @places:   where in the table each 64 KiB begin, by its pages
 * @dma_places: the same as the card sees it
 * @chunks:   what its pages were allocated as, or all of them, pinned
 * @num_chunks: how many
 * @charge:   on whose account
 * @release:  gives it back
 */
struct pciedma_buffer {
	struct pciedma_mem mem;
	const struct pciedma_buffer_ops *ops;
	struct pciedma_buffer_home *home;
	struct list_head node;
	bool mapped;
	bool left;
	bool revoked;
	bool syncs;
	atomic_t uses;
	size_t size;
	unsigned long first;
	struct pciedma_place *places;
	struct pciedma_place *dma_places;
	struct page **chunks;
	unsigned int num_chunks;
	struct pciedma_charge charge;
	struct work_struct release;
};

/* Whether a buffer's data may go a way. */
static inline bool pciedma_buffer_moves(const struct pciedma_buffer *buffer,
					enum dma_data_direction direction)
{
	return buffer->mem.direction == direction || buffer->mem.direction == DMA_BIDIRECTIONAL;
}

/* buffer.c */
void pciedma_buffer_home_init(struct pciedma_buffer_home *home, struct device *holder,
			      struct workqueue_struct *wq);
void pciedma_buffer_home_open(struct pciedma_buffer_home *home,
			      const struct pciedma_mem_limits *limits);
void pciedma_buffer_home_close(struct pciedma_buffer_home *home);
struct pciedma_buffer *pciedma_buffer_alloc(struct pciedma_buffer_home *home,
					    const struct pciedma_buffer_ops *ops,
					    enum dma_data_direction direction, size_t size);
int pciedma_buffer_room(struct pciedma_buffer *buffer, size_t entries);
int pciedma_buffer_map(struct pciedma_buffer *buffer);
int pciedma_pages_map(struct pciedma_buffer *buffer);
void pciedma_pages_unmap(struct pciedma_buffer *buffer);
struct page *pciedma_buffer_page(const struct pciedma_buffer *buffer, size_t offset);
struct scatterlist *pciedma_buffer_find(const struct pciedma_buffer *buffer, size_t offset,
					u32 *skip);
void pciedma_buffer_for_device(struct pciedma_buffer *buffer, size_t offset, size_t length);
void pciedma_buffer_for_cpu(struct pciedma_buffer *buffer, size_t offset, size_t length);

/* buffer_new.c */
struct pciedma_buffer *pciedma_buffer_new(struct pciedma_buffer_home *home,
					  enum dma_data_direction direction, size_t size);

/* buffer_user.c */
struct pciedma_buffer *pciedma_buffer_user(struct pciedma_buffer_home *home,
					   enum dma_data_direction direction,
					   unsigned long address, size_t size);

/* buffer_map.c */
int pciedma_buffer_show(struct pciedma_buffer *buffer, struct vm_area_struct *vma);
int pciedma_buffer_mmap(struct pciedma_buffer *buffer, struct vm_area_struct *vma);
struct pciedma_buffer *pciedma_buffer_at(struct pciedma_buffer_home *home, unsigned long address,
					 enum dma_data_direction direction, size_t *offset,
					 size_t *length);

/* buffer_dmabuf.c */
struct file *pciedma_buffer_export(struct pciedma_buffer *buffer);
struct pciedma_buffer *pciedma_buffer_import(struct pciedma_buffer_home *home,
					     enum dma_data_direction direction, int fd);
int pciedma_buffer_settled(struct pciedma_buffer *buffer, bool writes, long timeout);

/* charge.c */
int pciedma_charge(struct pciedma_charge *charge, struct device *dev, unsigned long pages);
void pciedma_uncharge(struct pciedma_charge *charge);

#endif /* PCIEDMA_BUFFER_H */
