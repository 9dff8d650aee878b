// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registered buffers: memory that a program has already, pinned for as long as there is the
 * buffer.
 */
#include <linux/device.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include <compat.h>

#include "buffer.h"
#include "runs.h"

/* Pages that are pinned at a time. */
#define PIN_AT_ONCE	512U

static void user_free(struct pciedma_buffer *buffer)
{
	if (buffer->num_chunks)
		unpin_user_pages_dirty_lock(buffer->chunks, buffer->num_chunks,
					    buffer->mem.direction != DMA_TO_DEVICE);
}

static const struct pciedma_buffer_ops user_ops = {
	.map	= pciedma_pages_map,
	.unmap	= pciedma_pages_unmap,
	.free	= user_free,
};

static bool is_of_device(unsigned long address)
{
	struct vm_area_struct *vma;
	bool ret;

	if (mmap_read_lock_killable(current->mm))
		return false;
	vma = vma_lookup(current->mm, address);
	ret = vma && (vma->vm_flags & (VM_IO | VM_PFNMAP));
	mmap_read_unlock(current->mm);
	return ret;
}

/* The kernel says alike of what is not there, and of what is not to be held for long. */
static bool is_there(unsigned long address, unsigned int flags)
{
	char __user *user = (char __user *)address;

	if (is_of_device(address)) /* where a touch may have effects */
		return true;
	return !(flags & FOLL_WRITE ? fault_in_safe_writeable(user, 1) :
				      fault_in_readable(user, 1));
}

static int pin_error(const struct pciedma_buffer *buffer, unsigned long address,
		     unsigned int flags, int error)
{
	if (error == -ENOMEM || error == -EINTR || error == -ERESTARTSYS || error == -EAGAIN)
		return error;
	if (!is_there(address, flags))
		return -EFAULT;
	dev_info_ratelimited(buffer->home->holder, "memory of %s cannot be registered: it cannot be held for long, as that of files on disk and of devices cannot (%d); read() and write() work with it\n",
			     current->comm, error);
	return -EOPNOTSUPP;
}

static int user_pin_some(unsigned long address, unsigned int count, unsigned int flags,
			 struct page **pages)
{
	unsigned int more = flags & FOLL_WRITE ? 0 : FOLL_TO_READ;
	int ret = pin_user_pages_fast(address, count, flags | more, pages);

	if (ret == -EFAULT && more) /* who shares it and may not write keeps its pages */
		ret = pin_user_pages_fast(address, count, flags, pages);
	return ret;
}

static int user_pin(struct pciedma_buffer *buffer, unsigned long address, unsigned int pages)
{
	unsigned int flags = FOLL_LONGTERM;
	int ret;

	if (buffer->mem.direction != DMA_TO_DEVICE)
		flags |= FOLL_WRITE;
	while (buffer->num_chunks < pages) {
		if (fatal_signal_pending(current))
			return -EINTR;
		ret = user_pin_some(address, min(pages - buffer->num_chunks, PIN_AT_ONCE), flags,
				    buffer->chunks + buffer->num_chunks);
		if (ret <= 0)
			return pin_error(buffer, address, flags, ret);
		buffer->num_chunks += ret;
		address += (unsigned long)ret << PAGE_SHIFT;
		cond_resched();
	}
	return 0;
}

/* Boundaries may lie inside a page. */
static size_t entries_of(const struct pciedma_mem_limits *limits, unsigned int pages)
{
	return limits->segment_mask < PAGE_SIZE ?
		pages * (PAGE_SIZE / (limits->segment_mask + 1)) : pages;
}

static void user_make_table(struct pciedma_buffer *buffer, size_t offset)
{
	const struct pciedma_mem_limits *limits = &buffer->home->limits;
	unsigned int most = limits->max_entry >> PAGE_SHIFT;
	struct page **pages = buffer->chunks;
	phys_addr_t end = PHYS_ADDR_MAX;
	unsigned int left = buffer->num_chunks;
	size_t done = 0;
	unsigned int run;
	size_t part;

	for (; left; left -= run, pages += run) {
		run = pciedma_pages_run(pages, min(left, most));
		part = min(run * PAGE_SIZE - offset, buffer->size - done);
		pciedma_runs_add(&buffer->mem.table, &end, limits, pages[0], offset, part);
		done += part;
		offset = 0;
	}
}

static int user_fill(struct pciedma_buffer *buffer, unsigned long address)
{
	struct pciedma_buffer_home *home = buffer->home;
	unsigned long pages = PFN_UP(offset_in_page(address) + buffer->size);
	int ret;

	ret = pciedma_charge(&buffer->charge, home->holder, pages);
	if (ret)
		return ret;
	if (pages > INT_MAX)
		return -ENOMEM;
	buffer->chunks = kvmalloc_array(pages, sizeof(*buffer->chunks),
					GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	ret = buffer->chunks ? user_pin(buffer, address & PAGE_MASK, pages) : -ENOMEM;
	if (!ret)
		ret = pciedma_buffer_room(buffer, entries_of(&home->limits, pages));
	if (ret)
		return ret;
	user_make_table(buffer, offset_in_page(address));
	return pciedma_buffer_map(buffer);
}

/**
 * pciedma_buffer_user() - make a buffer of memory of the calling process
 * @home:      where it belongs
 * @direction: which ways its data may go
 * @address:   where it begins
 * @size:      bytes, not 0
 *
 * Context: process, outside the gate: the memory may never come.
 * Return: the buffer or an ERR_PTR: -EFAULT if there is no such memory; -EOPNOTSUPP, after a line,
 * if it may not be held for long; -ENOMEM, after a line if it is the limit's; -EINTR; -ENODEV if
 * the card has gone; -EIO, -EAGAIN if it cannot be mapped.
 */
struct pciedma_buffer *pciedma_buffer_user(struct pciedma_buffer_home *home,
					   enum dma_data_direction direction,
					   unsigned long address, size_t size)
{
	struct pciedma_buffer *buffer = pciedma_buffer_alloc(home, &user_ops, direction, size);
	int ret;

	if (!buffer)
		return ERR_PTR(-ENOMEM);
	ret = user_fill(buffer, address);
	if (!ret)
		return buffer;
	pciedma_mem_put(&buffer->mem, true);
	return ERR_PTR(ret);
}
