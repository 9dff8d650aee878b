/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pieces of memory.
 */
#ifndef PCIEDMA_PIECE_H
#define PCIEDMA_PIECE_H

#include "mem.h"

/**
 * struct pciedma_piece - a contiguous piece of an iov_iter
 * @address: of user's; or the offset into @page
 * @page:    its first page, if it is of the kernel's own; else NULL
 * @length:  bytes
 */
struct pciedma_piece {
	unsigned long address;
	struct page *page;
	size_t length;
};

struct pciedma_piece pciedma_piece_first(const struct iov_iter *iter);

#endif /* PCIEDMA_PIECE_H */
