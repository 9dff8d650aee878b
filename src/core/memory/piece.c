// SPDX-License-Identifier: GPL-2.0-only
/*
 * The pieces of which a request's memory consists: where they lie, and what that permits.
 */
#include <linux/bvec.h>
#include <linux/uio.h>

#include <compat.h>

#include "mem.h"

/**
 * pciedma_user_mem_pieces() - in how many pieces the memory of a request lies
 * @iter: the memory; its iterator may have more behind what the request works on
 *
 * Return: their number.
 */
size_t pciedma_user_mem_pieces(const struct iov_iter *iter)
{
	size_t left = iov_iter_count(iter) + iter->iov_offset;
	const struct iovec *iov;
	size_t count = 1;

	if (!iter_is_iovec(iter))
		return 1;
	for (iov = iter_iov(iter); iov->iov_len < left; iov++) {
		left -= iov->iov_len;
		count++;
	}
	return count;
}

static void piece_of_iovec(const struct iov_iter *iter, struct pciedma_piece *piece)
{
	const struct iovec *iov = iter_iov(iter);
	size_t skip = iter->iov_offset;

	while (iov->iov_len == skip) {
		iov++;
		skip = 0;
	}
	piece->address = (unsigned long)iov->iov_base + skip;
	piece->length = iov->iov_len - skip;
}

static void piece_of_bvec(const struct iov_iter *iter, struct pciedma_piece *piece)
{
	const struct bio_vec *bvec = iter->bvec;
	size_t skip = iter->iov_offset;

	while (bvec->bv_len == skip) {
		bvec++;
		skip = 0;
	}
	skip += bvec->bv_offset;
	piece->page = bvec->bv_page + (skip >> PAGE_SHIFT);
	piece->address = offset_in_page(skip);
	piece->length = bvec->bv_len + bvec->bv_offset - skip;
}

/**
 * pciedma_piece_first() - where the memory of a request begins
 * @iter: the memory, not empty
 *
 * Return: its first piece that is not empty.
 */
struct pciedma_piece pciedma_piece_first(const struct iov_iter *iter)
{
	struct pciedma_piece piece = { .length = iov_iter_count(iter) };

	if (iov_iter_is_bvec(iter))
		piece_of_bvec(iter, &piece);
	else if (iter_is_ubuf(iter))
		piece.address = (unsigned long)iter->ubuf + iter->iov_offset;
	else
		piece_of_iovec(iter, &piece);
	piece.length = min(piece.length, iov_iter_count(iter));
	return piece;
}

static bool pieces_are_aligned(const struct iov_iter *iter, u32 alignment)
{
	struct iov_iter rest = *iter;
	struct pciedma_piece piece;

	while (iov_iter_count(&rest)) {
		piece = pciedma_piece_first(&rest);
		if (!IS_ALIGNED(piece.address, alignment))
			return false;
		iov_iter_advance(&rest, piece.length);
	}
	return true;
}

/**
 * pciedma_user_mem_pinnable() - whether memory has pages that can be held
 * @iter: the memory
 *
 * Return: true if so.
 */
bool pciedma_user_mem_pinnable(const struct iov_iter *iter)
{
	return user_backed_iter(iter) || iov_iter_is_bvec(iter);
}

/**
 * pciedma_user_mem_possible() - whether memory can be used as it is
 * @limits: what the engine asks of it
 * @iter:   the memory
 *
 * Return: true if so.
 */
bool pciedma_user_mem_possible(const struct pciedma_mem_limits *limits,
			       const struct iov_iter *iter)
{
	if (!pciedma_user_mem_pinnable(iter))
		return false;
	if (limits->granularity > 1 && (iov_iter_alignment(iter) & (limits->granularity - 1)))
		return false;
	return limits->alignment == limits->granularity ||
	       pieces_are_aligned(iter, limits->alignment);
}

/**
 * pciedma_user_mem_cut() - how much of a request's memory is for one piece
 * @iter:   what is left of it
 * @length: its bytes, not 0
 *
 * The cut after it comes where a huge page can begin.
 *
 * Return: bytes.
 */
size_t pciedma_user_mem_cut(const struct iov_iter *iter, size_t length)
{
	struct pciedma_piece piece;

	if (length <= PCIEDMA_USER_MEM_SIZE)
		return length;
	piece = pciedma_piece_first(iter);
	return PCIEDMA_USER_MEM_SIZE - (piece.address & (PCIEDMA_USER_MEM_SIZE - 1));
}
