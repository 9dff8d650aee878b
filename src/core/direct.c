// SPDX-License-Identifier: GPL-2.0-only
/*
 * User memory for DMA: pinning it, merging it to long runs, mapping it for the
 * engine, and giving it back.
 */
#include <linux/bvec.h>
#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include <compat.h>

#include "core.h"

/**
 * pciedma_direct_alloc() - room for a transfer's user memory
 * @engine: its engine
 * @transfer: the transfer
 *
 * Context: process.
 * Return: 0 or -ENOMEM; then pciedma_direct_free() undoes what was done.
 */
int pciedma_direct_alloc(struct pciedma_engine *engine, struct pciedma_transfer *transfer)
{
	transfer->pages = kvmalloc_array(PCIEDMA_TRANSFER_PAGES, sizeof(*transfer->pages),
					 GFP_KERNEL);
	transfer->entries = kvmalloc_array(PCIEDMA_TRANSFER_PAGES, sizeof(*transfer->entries),
					   GFP_KERNEL);
	if (!transfer->pages || !transfer->entries)
		return -ENOMEM;
	sg_init_table(transfer->entries, PCIEDMA_TRANSFER_PAGES);
	return 0;
}

/**
 * pciedma_direct_free() - free that room
 * @transfer: a transfer without user memory
 *
 * Context: process.
 */
void pciedma_direct_free(struct pciedma_transfer *transfer)
{
	kvfree(transfer->pages);
	kvfree(transfer->entries);
	transfer->pages = NULL;
	transfer->entries = NULL;
}

/**
 * pciedma_direct_possible() - whether the engine can work on user memory itself
 * @engine: the engine
 * @iter:   what is left of the request
 *
 * Return: true if so.
 */
bool pciedma_direct_possible(struct pciedma_engine *engine, const struct iov_iter *iter)
{
	if (!engine->direct || !(user_backed_iter(iter) || iov_iter_is_bvec(iter)))
		return false;
	return engine->host_alignment == 1 ||
	       !(iov_iter_alignment(iter) & (engine->host_alignment - 1));
}

/* Pieces of user memory that a request works on; its iterator may have more behind them. */
static size_t iter_pieces(const struct iov_iter *iter)
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

/**
 * pciedma_direct_suits() - whether the engine had better work on user memory itself
 * @engine: the engine
 * @iter:   what is left of the request
 *
 * Little pieces cost more to pin and map than to copy.
 *
 * Return: true if so; otherwise the data goes through a DMA buffer.
 */
bool pciedma_direct_suits(struct pciedma_engine *engine, const struct iov_iter *iter)
{
	return iov_iter_count(iter) / iter_pieces(iter) >= READ_ONCE(engine->copy_threshold) &&
	       pciedma_direct_possible(engine, iter);
}

/* A contiguous piece of an iov_iter: of user's addresses, or of pages. */
struct piece {
	unsigned long address;
	struct page *page;
	size_t length;
};

static void piece_of_iovec(const struct iov_iter *iter, struct piece *piece)
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

static void piece_of_bvec(const struct iov_iter *iter, struct piece *piece)
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

/* The first piece of an iterator that is not empty. */
static struct piece piece_first(const struct iov_iter *iter)
{
	struct piece piece = { .length = iov_iter_count(iter) };

	if (iov_iter_is_bvec(iter))
		piece_of_bvec(iter, &piece);
	else if (iter_is_ubuf(iter))
		piece.address = (unsigned long)iter->ubuf + iter->iov_offset;
	else
		piece_of_iovec(iter, &piece);
	piece.length = min(piece.length, iov_iter_count(iter));
	return piece;
}

/**
 * pciedma_direct_cut() - how much of a request is for the next transfer
 * @iter:   what is left of it
 * @length: its bytes, not 0
 *
 * The cut after it comes where a huge page can begin.
 *
 * Return: bytes.
 */
size_t pciedma_direct_cut(const struct iov_iter *iter, size_t length)
{
	struct piece piece;

	if (length <= PCIEDMA_TRANSFER_SIZE)
		return length;
	piece = piece_first(iter);
	return PCIEDMA_TRANSFER_SIZE - (piece.address & (PCIEDMA_TRANSFER_SIZE - 1));
}

static phys_addr_t entry_end(struct scatterlist *entry)
{
	return sg_phys(entry) + entry->length;
}

/* Addresses that the engine may count through: what lies beyond needs an entry of its own. */
static bool entry_may_reach(const struct pciedma_engine *engine, struct scatterlist *entry,
			    phys_addr_t last)
{
	return !((sg_phys(entry) ^ last) & ~(phys_addr_t)engine->segment_mask);
}

/* Add bytes of one page, to the entry before if they go on there. */
static void transfer_add(struct pciedma_engine *engine, struct pciedma_transfer *transfer,
			 struct page *page, size_t offset, size_t length)
{
	struct scatterlist *last = transfer->entries + transfer->table.orig_nents - 1;

	if (transfer->table.orig_nents && entry_end(last) == page_to_phys(page) + offset &&
	    last->length + length <= engine->max_entry &&
	    entry_may_reach(engine, last, entry_end(last) + length - 1)) {
		last->length += length;
		return;
	}
	sg_set_page(transfer->entries + transfer->table.orig_nents++, page, length, offset);
}

static int direct_account(struct pciedma_transfer *transfer, unsigned long pages)
{
	int ret = account_locked_vm(current->mm, pages, true);

	if (!ret)
		transfer->accounted = true;
	return ret;
}

/* Kernels differ in how they say that pages are there, and are not to be pinned. */
static int pin_error(int error)
{
	return error == -EEXIST || error == -EOPNOTSUPP || !error ? -EFAULT : error;
}

/* Pin pages of a piece; returns how many there are in transfer->pages behind those it had. */
static int transfer_pin(struct pciedma_transfer *transfer, const struct piece *piece, size_t length,
			bool unbounded)
{
	unsigned int flags = transfer->direction == PCIEDMA_C2H ? FOLL_WRITE : 0;
	unsigned int room = PCIEDMA_TRANSFER_PAGES - transfer->num_pages;
	unsigned int count;
	int ret;

	count = min_t(size_t, DIV_ROUND_UP(offset_in_page(piece->address) + length, PAGE_SIZE),
		      room);
	if (unbounded) {
		flags |= FOLL_LONGTERM;
		ret = direct_account(transfer, count);
		if (ret)
			return ret;
	}
	ret = pin_user_pages_fast(piece->address & PAGE_MASK, count, flags,
				  transfer->pages + transfer->num_pages);
	if (unbounded && ret < (int)count)
		account_locked_vm(current->mm, count - max(ret, 0), false);
	return ret > 0 ? ret : pin_error(ret);
}

/* The pages of a kernel's own vector: somebody else keeps them for the request. */
static int transfer_take_pages(struct pciedma_transfer *transfer, const struct piece *piece,
			       size_t length)
{
	unsigned int room = PCIEDMA_TRANSFER_PAGES - transfer->num_pages;
	int count, i;

	count = min_t(size_t, DIV_ROUND_UP(piece->address + length, PAGE_SIZE), room);
	for (i = 0; i < count; i++)
		transfer->pages[transfer->num_pages + i] = piece->page + i;
	return count;
}

/* Returns the bytes of a piece that the transfer has now, or an errno. */
static ssize_t transfer_add_piece(struct pciedma_engine *engine, struct pciedma_transfer *transfer,
				  const struct piece *piece, size_t length, bool unbounded)
{
	size_t offset = offset_in_page(piece->address);
	size_t done = 0;
	size_t part;
	int count;

	count = piece->page ? transfer_take_pages(transfer, piece, length) :
			      transfer_pin(transfer, piece, length, unbounded);
	if (count < 0)
		return count;
	while (count--) {
		part = min_t(size_t, PAGE_SIZE - offset, length - done);
		transfer_add(engine, transfer, transfer->pages[transfer->num_pages++], offset,
			     part);
		done += part;
		offset = 0;
	}
	return done;
}

/**
 * pciedma_direct_fill() - let a transfer have user memory
 * @engine:    its engine
 * @transfer:    owned by the caller, its direction set
 * @iter:      the memory; is advanced
 * @length:    bytes wanted, at most what @iter has
 * @unbounded: the transfer may be held for ever: count its pages against the
 *             limit of locked memory
 *
 * Context: process; faults pages in.
 * Return: bytes that the transfer has, fewer if it is full or the memory behind
 * them cannot be pinned; -EFAULT if none can: it is not there, or can only be
 * copied; -ENOMEM beyond the limit.
 */
ssize_t pciedma_direct_fill(struct pciedma_engine *engine, struct pciedma_transfer *transfer,
			    struct iov_iter *iter, size_t length, bool unbounded)
{
	struct piece piece;
	size_t done = 0;
	ssize_t ret = 0;
	size_t wanted;

	transfer->direct = true;
	transfer->synced = false;
	transfer->pinned = user_backed_iter(iter);
	transfer->num_pages = 0;
	transfer->table.sgl = transfer->entries;
	transfer->table.orig_nents = 0;
	while (done < length && transfer->num_pages < PCIEDMA_TRANSFER_PAGES) {
		piece = piece_first(iter);
		wanted = min(piece.length, length - done);
		ret = transfer_add_piece(engine, transfer, &piece, wanted, unbounded);
		if (ret < 0)
			break;
		done += ret;
		iov_iter_advance(iter, ret);
		if (ret < wanted)
			break;
	}
	if (!done) {
		transfer->direct = false;
		return ret;
	}
	sg_mark_end(transfer->entries + transfer->table.orig_nents - 1);
	transfer->length = done;
	return done;
}

static enum dma_data_direction transfer_dma_direction(const struct pciedma_transfer *transfer)
{
	return transfer->direction == PCIEDMA_C2H ? DMA_FROM_DEVICE : DMA_TO_DEVICE;
}

/**
 * pciedma_direct_map() - map a transfer's user memory for the engine
 * @engine: its engine
 * @transfer: filled
 *
 * That bounce buffers run out is usual, and no news for the log.
 *
 * Context: process.
 * Return: 0 or an errno; then the memory goes back with pciedma_direct_unpin().
 */
int pciedma_direct_map(struct pciedma_engine *engine, struct pciedma_transfer *transfer)
{
	return dma_map_sgtable(pciedma_dma_device(engine), &transfer->table,
			       transfer_dma_direction(transfer), DMA_ATTR_NO_WARN);
}

/**
 * pciedma_direct_unmap() - the engine is done with a transfer's user memory
 * @engine: its engine
 * @transfer: mapped, not quarantined
 *
 * What its owner has got back with an error must not change any more.
 *
 * Context: any.
 */
void pciedma_direct_unmap(struct pciedma_engine *engine, struct pciedma_transfer *transfer)
{
	dma_unmap_sgtable(pciedma_dma_device(engine), &transfer->table,
			  transfer_dma_direction(transfer),
			  transfer->synced ? DMA_ATTR_SKIP_CPU_SYNC : 0);
}

/**
 * pciedma_direct_sync() - let the processor see what has arrived in a quarantined transfer
 * @engine: its engine
 * @transfer: its owner leaves it in quarantine
 *
 * Context: engine lock held.
 */
void pciedma_direct_sync(struct pciedma_engine *engine, struct pciedma_transfer *transfer)
{
	if (!transfer->direct)
		return;
	if (transfer->direction == PCIEDMA_C2H)
		dma_sync_sgtable_for_cpu(pciedma_dma_device(engine), &transfer->table,
					 DMA_FROM_DEVICE);
	transfer->synced = true;
}

/**
 * pciedma_direct_unpin() - a transfer's user memory goes back
 * @transfer: not mapped
 * @dirty:  the pages are to be marked as changed: only if the caller may sleep
 *
 * Context: any, but see @dirty.
 */
void pciedma_direct_unpin(struct pciedma_transfer *transfer, bool dirty)
{
	unsigned int i;

	sg_unmark_end(transfer->entries + transfer->table.orig_nents - 1);
	if (transfer->pinned && dirty)
		unpin_user_pages_dirty_lock(transfer->pages, transfer->num_pages,
					    transfer->direction == PCIEDMA_C2H);
	else if (transfer->pinned)
		unpin_user_pages(transfer->pages, transfer->num_pages);
	for (i = 0; transfer->referenced && i < transfer->num_pages; i++)
		put_page(transfer->pages[i]);
	transfer->referenced = false;
	transfer->direct = false;
}

/**
 * pciedma_direct_unaccount() - a transfer's pages do not count as locked any more
 * @transfer: filled by this process
 *
 * Context: process.
 */
void pciedma_direct_unaccount(struct pciedma_transfer *transfer)
{
	if (transfer->accounted)
		account_locked_vm(current->mm, transfer->num_pages, false);
	transfer->accounted = false;
}

/**
 * pciedma_direct_keep() - hold pages that only their request held
 * @transfer: about to be quarantined
 *
 * Context: any.
 */
void pciedma_direct_keep(struct pciedma_transfer *transfer)
{
	unsigned int i;

	if (!transfer->direct || transfer->pinned)
		return;
	for (i = 0; i < transfer->num_pages; i++)
		get_page(transfer->pages[i]);
	transfer->referenced = true;
}

/**
 * pciedma_direct_dirty() - mark pages as changed before the engine changes them
 * @transfer: filled
 *
 * So that the end of the request need not sleep, as long as they stay so.
 *
 * Context: process.
 */
void pciedma_direct_dirty(struct pciedma_transfer *transfer)
{
	unsigned int i;

	if (!transfer->pinned || transfer->direction != PCIEDMA_C2H)
		return;
	for (i = 0; i < transfer->num_pages; i++)
		if (!PageDirty(transfer->pages[i]))
			set_page_dirty_lock(transfer->pages[i]);
}

/**
 * pciedma_direct_still_dirty() - whether the pages' mark has stayed
 * @transfer: marked before
 *
 * Context: any.
 * Return: false if they must be marked again, which sleeps.
 */
bool pciedma_direct_still_dirty(struct pciedma_transfer *transfer)
{
	unsigned int i;

	if (!transfer->pinned || transfer->direction != PCIEDMA_C2H)
		return true;
	for (i = 0; i < transfer->num_pages; i++)
		if (!PageDirty(transfer->pages[i]))
			return false;
	return true;
}
