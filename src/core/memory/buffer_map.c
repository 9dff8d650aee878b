// SPDX-License-Identifier: GPL-2.0-only
/*
 * Buffers in user space: a mapping shows the pages themselves, as memory like any other, which can
 * be handed to whatever takes memory. It has a file of its own, which holds the buffer, whatever
 * becomes of the file that it was made by and of the card.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>

#include <compat.h>

#include "buffer.h"

static size_t offset_in_buffer(const struct pciedma_buffer *buffer, unsigned long pgoff)
{
	return (size_t)(pgoff - buffer->first) << PAGE_SHIFT;
}

static vm_fault_t map_fault(struct vm_fault *vmf)
{
	struct pciedma_buffer *buffer = vmf->vma->vm_private_data;
	size_t offset = offset_in_buffer(buffer, vmf->pgoff);

	if (offset >= buffer->size)
		return VM_FAULT_SIGBUS;
	vmf->page = pciedma_buffer_page(buffer, offset);
	get_page(vmf->page);
	return 0;
}

/* A part of a mapping was cut off, or a child has it, too. */
static void map_open(struct vm_area_struct *vma)
{
	struct pciedma_buffer *buffer = vma->vm_private_data;

	atomic_inc(&buffer->home->mappings);
}

static void map_close(struct vm_area_struct *vma)
{
	struct pciedma_buffer *buffer = vma->vm_private_data;

	atomic_dec(&buffer->home->mappings);
}

static const struct vm_operations_struct map_ops = {
	.open	= map_open,
	.close	= map_close,
	.fault	= map_fault,
};

static bool map_fits(const struct pciedma_buffer *buffer, struct vm_area_struct *vma)
{
	unsigned long pages = buffer->size >> PAGE_SHIFT;
	unsigned long first = vma->vm_pgoff - buffer->first;

	/* What is written to a copy never gets to the card. (VM_SHARED needs a writable file.) */
	return (vma->vm_flags & VM_MAYSHARE) && first < pages && vma_pages(vma) <= pages - first;
}

/**
 * pciedma_buffer_show() - map a part of a buffer, which the file of the mapping holds
 * @buffer: the buffer
 * @vma:    where to; its page offset is one of the buffer's
 *
 * Context: process, mmap_lock held for writing.
 * Return: 0; -EINVAL for a private mapping, or beyond the buffer's end.
 */
int pciedma_buffer_show(struct pciedma_buffer *buffer, struct vm_area_struct *vma)
{
	if (!map_fits(buffer, vma))
		return -EINVAL;
	vm_flags_set(vma, VM_DONTEXPAND);
	vma->vm_private_data = buffer;
	vma->vm_ops = &map_ops;
	map_open(vma);
	return 0;
}

static int map_file_release(struct inode *inode, struct file *file)
{
	struct pciedma_buffer *buffer = file->private_data;

	pciedma_mem_put(&buffer->mem, true);
	return 0;
}

static const struct file_operations map_file_ops = {
	.owner		= THIS_MODULE,
	.release	= map_file_release,
};

/**
 * pciedma_buffer_mmap() - map a part of a buffer, which the mapping holds
 * @buffer: the buffer, held by the caller
 * @vma:    where to; its page offset is one of the buffer's
 *
 * The open file is not held: its last close ends what is under way.
 *
 * Context: process, mmap_lock held for writing.
 * Return: 0; -EINVAL for a private mapping, or beyond the buffer's end; -ENOMEM, -ENFILE.
 */
int pciedma_buffer_mmap(struct pciedma_buffer *buffer, struct vm_area_struct *vma)
{
	struct file *file;

	if (!map_fits(buffer, vma))
		return -EINVAL;
	file = anon_inode_getfile("[pciedma-buffer]", &map_file_ops, buffer, O_RDWR);
	if (IS_ERR(file))
		return PTR_ERR(file);
	pciedma_mem_get(&buffer->mem);
	file->f_mapping = vma->vm_file->f_mapping;
	vma_set_file(vma, file);
	fput(file);
	return pciedma_buffer_show(buffer, vma);
}

/**
 * pciedma_buffer_at() - the buffer that lies at an address of the calling process
 * @home:      whose buffers are looked for
 * @address:   the address
 * @direction: which way data will go
 * @offset:    out: of the address in the buffer
 * @length:    out: bytes from there on to the mapping's end
 *
 * Who has mmap_lock may wait for memory that never comes: if it is not to be had at once, there is
 * none.
 *
 * Context: process.
 * Return: the buffer, held for the caller; or NULL.
 */
struct pciedma_buffer *pciedma_buffer_at(struct pciedma_buffer_home *home, unsigned long address,
					 enum dma_data_direction direction, size_t *offset,
					 size_t *length)
{
	unsigned long needed = direction == DMA_FROM_DEVICE ? VM_WRITE : VM_READ;
	struct pciedma_buffer *buffer = NULL;
	struct vm_area_struct *vma;

	if (!mmap_read_trylock(current->mm))
		return NULL;
	vma = vma_lookup(current->mm, address);
	if (vma && vma->vm_ops == &map_ops && (vma->vm_flags & needed)) {
		buffer = vma->vm_private_data;
		*length = vma->vm_end - address;
		*offset = offset_in_buffer(buffer, vma->vm_pgoff) + (address - vma->vm_start);
		if (buffer->home == home && pciedma_buffer_moves(buffer, direction))
			pciedma_mem_get(&buffer->mem);
		else
			buffer = NULL;
	}
	mmap_read_unlock(current->mm);
	return buffer;
}
