// SPDX-License-Identifier: GPL-2.0-only
/*
 * User's pages as memory that hardware may be told of: pinning them, merging them to long runs,
 * mapping them, and giving them back.
 */
#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "mem.h"
#include "runs.h"

/* Boundaries may lie inside a page. */
static unsigned int entries_of_a_page(const struct pciedma_mem_limits *limits)
{
	return limits->segment_mask < PAGE_SIZE ? PAGE_SIZE / (limits->segment_mask + 1) : 1;
}

/**
 * pciedma_user_mem_alloc() - make room for user's pages
 * @user:      where to put it
 * @limits:    what the engine will ask of them
 * @max_pages: for how many
 *
 * Context: process.
 * Return: 0 or -ENOMEM; then pciedma_user_mem_free() undoes what was done.
 */
int pciedma_user_mem_alloc(struct pciedma_user_mem *user, const struct pciedma_mem_limits *limits,
			   unsigned int max_pages)
{
	unsigned int entries = max_pages * entries_of_a_page(limits);

	user->pages = kvmalloc_array(max_pages, sizeof(*user->pages), GFP_KERNEL);
	user->entries = kvmalloc_array(entries, sizeof(*user->entries), GFP_KERNEL);
	if (!user->pages || !user->entries)
		return -ENOMEM;
	user->max_pages = max_pages;
	sg_init_table(user->entries, entries);
	return 0;
}

/**
 * pciedma_user_mem_free() - free that room
 * @user: it has no pages, or keeps them for ever
 *
 * Context: process.
 */
void pciedma_user_mem_free(struct pciedma_user_mem *user)
{
	kvfree(user->pages);
	kvfree(user->entries);
	user->pages = NULL;
	user->entries = NULL;
}

static int user_mem_account(struct pciedma_user_mem *user, unsigned long pages)
{
	u64 limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;

	if (atomic64_add_return(pages, &current->mm->pinned_vm) > limit && !capable(CAP_IPC_LOCK)) {
		atomic64_sub(pages, &current->mm->pinned_vm);
		return -ENOMEM;
	}
	user->accounted = true;
	return 0;
}

/* Kernels differ in how they say that pages are there, and are not to be pinned. */
static int pin_error(int error)
{
	return error == -EEXIST || error == -EOPNOTSUPP || !error ? -EFAULT : error;
}

/*
 * Pin pages of a piece that are there; returns how many there are behind those it had. Who asks
 * may hold what others wait for, and whoever has mmap_lock may wait for memory that never comes:
 * so nothing is waited for here.
 */
static int user_mem_pin(struct pciedma_user_mem *user, const struct pciedma_piece *piece,
			size_t length, bool unbounded)
{
	unsigned int flags = user->mem.direction == DMA_FROM_DEVICE ? FOLL_WRITE : 0;
	unsigned int room = user->max_pages - user->num_pages;
	unsigned int count;
	int ret;

	if (mmap_lock_is_contended(current->mm))
		return -EFAULT;
	flags |= FOLL_NOFAULT;
	count = min_t(size_t, DIV_ROUND_UP(offset_in_page(piece->address) + length, PAGE_SIZE),
		      room);
	if (unbounded) {
		flags |= FOLL_LONGTERM;
		ret = user_mem_account(user, count);
		if (ret)
			return ret;
	}
	ret = pin_user_pages_fast(piece->address & PAGE_MASK, count, flags,
				  user->pages + user->num_pages);
	if (unbounded && ret < (int)count)
		atomic64_sub(count - max(ret, 0), &current->mm->pinned_vm);
	return ret > 0 ? ret : pin_error(ret);
}

/* The pages of a kernel's own vector: somebody else keeps them for the request. */
static int user_mem_take_pages(struct pciedma_user_mem *user, const struct pciedma_piece *piece,
			       size_t length)
{
	unsigned int room = user->max_pages - user->num_pages;
	int count, i;

	count = min_t(size_t, DIV_ROUND_UP(piece->address + length, PAGE_SIZE), room);
	for (i = 0; i < count; i++)
		user->pages[user->num_pages + i] = piece->page + i;
	return count;
}

/* Returns the bytes of a piece that it has now, or an errno. */
static ssize_t user_mem_add_piece(struct pciedma_user_mem *user,
				  const struct pciedma_mem_limits *limits,
				  const struct pciedma_piece *piece, size_t length, bool unbounded)
{
	size_t offset = offset_in_page(piece->address);
	unsigned int most = max_t(u32, limits->max_entry >> PAGE_SHIFT, 1); /* of an entry */
	struct page **pages = user->pages + user->num_pages;
	size_t done = 0;
	unsigned int run;
	size_t part;
	int count;

	count = piece->page ? user_mem_take_pages(user, piece, length) :
			      user_mem_pin(user, piece, length, unbounded);
	if (count < 0)
		return count;
	user->num_pages += count;
	for (; count; count -= run, pages += run) {
		run = pciedma_pages_run(pages, min_t(unsigned int, count, most));
		part = min_t(size_t, run * PAGE_SIZE - offset, length - done);
		pciedma_runs_add(&user->mem.table, &user->end, limits, pages[0], offset, part);
		done += part;
		offset = 0;
	}
	return done;
}

/**
 * pciedma_user_mem_fill() - have user's pages
 * @user:      where to put them; its memory initialized
 * @limits:    what the engine asks of them
 * @iter:      the memory; is advanced
 * @length:    bytes wanted, at most what @iter has
 * @unbounded: it may be held for ever: count its pages against the limit of locked memory
 *
 * Context: process; waits for nobody's memory.
 * Return: bytes that it has, fewer if it is full or the memory behind them cannot be pinned;
 * -EFAULT if none can: it is not there now, or can only be copied; -ENOMEM beyond the limit.
 */
ssize_t pciedma_user_mem_fill(struct pciedma_user_mem *user,
			      const struct pciedma_mem_limits *limits, struct iov_iter *iter,
			      size_t length, bool unbounded)
{
	struct pciedma_piece piece;
	size_t done = 0;
	ssize_t ret = 0;
	size_t wanted;

	user->synced = false;
	user->pinned = user_backed_iter(iter);
	user->num_pages = 0;
	user->mem.table.sgl = user->entries;
	user->mem.table.orig_nents = 0;
	user->end = PHYS_ADDR_MAX;
	while (done < length && user->num_pages < user->max_pages) {
		piece = pciedma_piece_first(iter);
		wanted = min(piece.length, length - done);
		ret = user_mem_add_piece(user, limits, &piece, wanted, unbounded);
		if (ret < 0)
			break;
		done += ret;
		iov_iter_advance(iter, ret);
		if (ret < wanted)
			break;
	}
	if (!done)
		return ret;
	sg_mark_end(user->entries + user->mem.table.orig_nents - 1);
	return done;
}

/**
 * pciedma_user_mem_map() - map it for its device
 * @user: filled
 *
 * That bounce buffers run out is usual, and no news for the log. Two requests may have the same
 * page, which the kernel's DMA debugger only accepts where processor and device are synchronized
 * by words of their own.
 *
 * Context: process.
 * Return: 0 or an errno; then it goes back with pciedma_user_mem_unpin().
 */
int pciedma_user_mem_map(struct pciedma_user_mem *user)
{
	struct sg_table *table = &user->mem.table;
	int ret;

	ret = dma_map_sgtable(user->mem.dev, table, user->mem.direction,
			      DMA_ATTR_NO_WARN | DMA_ATTR_SKIP_CPU_SYNC);
	if (!ret)
		dma_sync_sgtable_for_device(user->mem.dev, table, user->mem.direction);
	return ret;
}

/**
 * pciedma_user_mem_unmap() - the device is done with it
 * @user: mapped, held by nobody
 *
 * What its owner has got back with an error must not change any more.
 *
 * Context: any.
 */
void pciedma_user_mem_unmap(struct pciedma_user_mem *user)
{
	if (!user->synced)
		pciedma_user_mem_sync(user);
	dma_unmap_sgtable(user->mem.dev, &user->mem.table, user->mem.direction,
			  DMA_ATTR_SKIP_CPU_SYNC);
}

/**
 * pciedma_user_mem_sync() - let the processor see what has arrived, although it stays mapped
 * @user: its owner leaves it to the hardware
 *
 * Context: any.
 */
void pciedma_user_mem_sync(struct pciedma_user_mem *user)
{
	if (user->mem.direction == DMA_FROM_DEVICE)
		dma_sync_sgtable_for_cpu(user->mem.dev, &user->mem.table, DMA_FROM_DEVICE);
	user->synced = true;
}

/**
 * pciedma_user_mem_unpin() - the pages go back
 * @user:  not mapped
 * @dirty: they are to be marked as changed: only if the caller may sleep
 *
 * Context: any, but see @dirty.
 */
void pciedma_user_mem_unpin(struct pciedma_user_mem *user, bool dirty)
{
	unsigned int i;

	sg_unmark_end(user->entries + user->mem.table.orig_nents - 1);
	if (user->pinned && dirty)
		unpin_user_pages_dirty_lock(user->pages, user->num_pages,
					    user->mem.direction == DMA_FROM_DEVICE);
	else if (user->pinned)
		unpin_user_pages(user->pages, user->num_pages);
	for (i = 0; user->referenced && i < user->num_pages; i++)
		put_page(user->pages[i]);
	user->referenced = false;
}

/**
 * pciedma_user_mem_unaccount() - the pages do not count as locked any more
 * @user: filled by this process
 *
 * Context: process.
 */
void pciedma_user_mem_unaccount(struct pciedma_user_mem *user)
{
	if (user->accounted)
		atomic64_sub(user->num_pages, &current->mm->pinned_vm);
	user->accounted = false;
}

/**
 * pciedma_user_mem_keep() - hold pages that only their request held
 * @user: the hardware may use it for ever
 *
 * Context: any.
 */
void pciedma_user_mem_keep(struct pciedma_user_mem *user)
{
	unsigned int i;

	if (user->pinned)
		return;
	for (i = 0; i < user->num_pages; i++)
		get_page(user->pages[i]);
	user->referenced = true;
}

static bool user_mem_gets_dirty(const struct pciedma_user_mem *user)
{
	return user->pinned && user->mem.direction == DMA_FROM_DEVICE;
}

/**
 * pciedma_user_mem_dirty() - mark pages as changed before the device changes them
 * @user: filled
 *
 * So that the end of the request need not sleep, as long as they stay so.
 *
 * Context: process.
 */
void pciedma_user_mem_dirty(struct pciedma_user_mem *user)
{
	unsigned int i;

	if (!user_mem_gets_dirty(user))
		return;
	for (i = 0; i < user->num_pages; i++)
		if (!PageDirty(user->pages[i]))
			set_page_dirty_lock(user->pages[i]);
}

/**
 * pciedma_user_mem_still_dirty() - whether the pages' mark has stayed
 * @user: marked before
 *
 * Context: any.
 * Return: false if they must be marked again, which sleeps.
 */
bool pciedma_user_mem_still_dirty(struct pciedma_user_mem *user)
{
	unsigned int i;

	if (!user_mem_gets_dirty(user))
		return true;
	for (i = 0; i < user->num_pages; i++)
		if (!PageDirty(user->pages[i]))
			return false;
	return true;
}
