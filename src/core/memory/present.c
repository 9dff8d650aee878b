// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whether user memory is there, and touching it, so that it is.
 */
#include <linux/mm.h>

#include "mem.h"

/* Pages that are touched at a time. */
#define TOUCH_PAGES	32

/* As pinning will need it: where a page is shared, that is more than reading it. */
static size_t piece_touch(const struct pciedma_piece *piece, unsigned int flags)
{
	size_t offset = offset_in_page(piece->address);
	struct page *pages[TOUCH_PAGES];
	int count;

	count = min_t(size_t, DIV_ROUND_UP(offset + piece->length, PAGE_SIZE), TOUCH_PAGES);
	count = pin_user_pages_fast(piece->address & PAGE_MASK, count, flags, pages);
	if (count <= 0)
		return 0;
	unpin_user_pages(pages, count);
	return min(piece->length, count * PAGE_SIZE - offset);
}

/**
 * pciedma_memory_is_there() - whether a little memory is there
 * @iter:      memory of the calling process
 * @length:    bytes, at most what it has
 * @direction: what it is for
 *
 * Context: process; waits for nobody's memory.
 * Return: true if so; false also of much, and of what can only be copied.
 */
bool pciedma_memory_is_there(const struct iov_iter *iter, size_t length,
			     enum dma_data_direction direction)
{
	unsigned int flags = FOLL_NOFAULT | (direction == DMA_FROM_DEVICE ? FOLL_WRITE : 0);
	struct iov_iter rest = *iter;
	struct pciedma_piece piece;
	size_t done = 0;
	size_t part;

	if (length > TOUCH_PAGES * PAGE_SIZE || mmap_lock_is_contended(current->mm))
		return false;
	for (; done < length; done += part) {
		piece = pciedma_piece_first(&rest);
		piece.length = min(piece.length, length - done);
		part = piece_touch(&piece, flags);
		if (!part)
			return false;
		iov_iter_advance(&rest, part);
	}
	return true;
}

/**
 * pciedma_memory_touch() - touch memory, so that it comes
 * @iter:      memory of the calling process
 * @length:    bytes, at most what it has
 * @direction: what it is for
 *
 * Context: process; nothing that others wait for may be held.
 * Return: bytes from the beginning that are there now.
 */
size_t pciedma_memory_touch(const struct iov_iter *iter, size_t length,
			    enum dma_data_direction direction)
{
	bool writes = direction == DMA_FROM_DEVICE;
	struct iov_iter rest = *iter;
	struct pciedma_piece piece;
	size_t done = 0;
	size_t part;

	if (!user_backed_iter(iter))
		return length;
	while (done < length) {
		piece = pciedma_piece_first(&rest);
		piece.length = min(piece.length, length - done);
		part = piece_touch(&piece, writes ? FOLL_WRITE : 0);
		if (!part) /* it is not there, or can only be copied */
			part = piece.length - (writes ?
					       fault_in_iov_iter_writeable(&rest, piece.length) :
					       fault_in_iov_iter_readable(&rest, piece.length));
		if (!part)
			break;
		done += part;
		iov_iter_advance(&rest, part);
	}
	return done;
}
