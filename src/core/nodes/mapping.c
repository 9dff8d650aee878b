// SPDX-License-Identifier: GPL-2.0-only
/*
 * Windows in user space: pages are inserted by faults and taken away when the registers must
 * not be touched. mmap() itself never waits, and holds nothing that others wait for.
 *
 * When the card has gone, a mapping gets a page of its own, at each of its addresses the same:
 * all ones, as from a bus on which nobody answers, until the program writes. It is the
 * process's own, and a process's alone: hence VM_WIPEONFORK, by which a child's mapping begins
 * without pages. (It also keeps fork() short, however large the window.)
 */
#include <linux/mm.h>
#include <linux/refcount.h>
#include <linux/slab.h>

#include <compat.h>

#include "windows.h"

/**
 * struct ghost - what a mapping shows when its card has gone
 * @users: parts of the mapping that have it: munmap() and mprotect() cut one
 * @mm:    whose it is; compared only
 * @page:  the page
 */
struct ghost {
	refcount_t users;
	const struct mm_struct *mm;
	struct page *page;
};

static void ghost_put(struct ghost *ghost)
{
	if (!ghost || !refcount_dec_and_test(&ghost->users))
		return;
	__free_page(ghost->page);
	kfree(ghost);
}

static struct ghost *ghost_alloc(const struct mm_struct *mm)
{
	struct ghost *ghost = kmalloc(sizeof(*ghost), GFP_KERNEL_ACCOUNT);

	if (!ghost)
		return NULL;
	ghost->page = alloc_page(GFP_KERNEL_ACCOUNT);
	if (!ghost->page) {
		kfree(ghost);
		return NULL;
	}
	memset(page_address(ghost->page), 0xff, PAGE_SIZE);
	refcount_set(&ghost->users, 1);
	ghost->mm = mm;
	return ghost;
}

/* Threads of a process may fault at the same time, with mmap_lock held for reading: one wins. */
static struct ghost *ghost_of(struct vm_area_struct *vma)
{
	struct ghost *ghost = READ_ONCE(vma->vm_private_data);
	struct ghost *other;

	if (ghost)
		return ghost;
	ghost = ghost_alloc(vma->vm_mm);
	if (!ghost)
		return NULL;
	other = cmpxchg((struct ghost **)&vma->vm_private_data, NULL, ghost);
	if (!other)
		return ghost;
	ghost_put(ghost);
	return other;
}

/* The page is memory: cached, whatever the registers are. */
static vm_fault_t ghost_insert(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct ghost *ghost = ghost_of(vma);

	if (!ghost)
		return VM_FAULT_OOM;
	return vmf_insert_pfn_prot(vma, vmf->address, page_to_pfn(ghost->page),
				   vm_get_page_prot(vma->vm_flags));
}

/*
 * A part of a mapping that was cut or moved has the same page. A child gets its own, unless its
 * parent has asked by MADV_KEEPONFORK to share: then it was given the parent's pages.
 */
static void mapping_open(struct vm_area_struct *vma)
{
	struct ghost *ghost = vma->vm_private_data;

	if (!ghost)
		return;
	if (ghost->mm != vma->vm_mm && (vma->vm_flags & VM_WIPEONFORK))
		vma->vm_private_data = NULL;
	else
		refcount_inc(&ghost->users);
}

static void mapping_close(struct vm_area_struct *vma)
{
	ghost_put(vma->vm_private_data);
}

/*
 * Wait without mmap_lock: others fault, fork, unmap, and look at /proc/PID/maps meanwhile. When
 * the fault comes again, everything may have changed. Who cannot let go of the lock (the few
 * callers in the kernel without FAULT_FLAG_ALLOW_RETRY) must not wait with it, and is refused.
 */
static vm_fault_t fault_wait(struct vm_fault *vmf, struct pciedma_card_node *node)
{
	if (!(vmf->flags & FAULT_FLAG_ALLOW_RETRY))
		return VM_FAULT_SIGBUS;
	if (vmf->flags & FAULT_FLAG_RETRY_NOWAIT)
		return VM_FAULT_RETRY;
	get_device(&node->card.dev); /* the mapping, and with it the file, may go while we wait */
	release_fault_lock(vmf);
	pciedma_windows_wait(node->windows);
	put_device(&node->card.dev);
	return VM_FAULT_RETRY;
}

static vm_fault_t mapping_fault(struct vm_fault *vmf)
{
	const struct pciedma_window *window = vmf->vma->vm_file->private_data;
	struct pciedma_windows *windows = window->node->windows;
	enum pciedma_windows_state state;
	vm_fault_t ret = 0;

	if (vmf->pgoff >= window->size >> PAGE_SHIFT)
		return VM_FAULT_SIGBUS;
	down_read(&windows->lock);
	state = windows->state;
	if (state == PCIEDMA_WINDOWS_OPEN)
		ret = vmf_insert_pfn(vmf->vma, vmf->address, PHYS_PFN(window->phys) + vmf->pgoff);
	up_read(&windows->lock);
	switch (state) {
	case PCIEDMA_WINDOWS_OPEN:
		return ret;
	case PCIEDMA_WINDOWS_CLOSED:
		return fault_wait(vmf, window->node);
	default:
		return ghost_insert(vmf);
	}
}

static const struct vm_operations_struct mapping_ops = {
	.open	= mapping_open,
	.close	= mapping_close,
	.fault	= mapping_fault,
};

/**
 * pciedma_window_mmap() - map a window
 * @file: its open file
 * @vma:  where to
 *
 * Context: process, mmap_lock held for writing.
 * Return: 0; -EOPNOTSUPP if it may not be mapped; -EINVAL for a private mapping, or a range that
 * is not the window's; -ENODEV if the card has gone.
 */
int pciedma_window_mmap(struct file *file, struct vm_area_struct *vma)
{
	const struct pciedma_window *window = file->private_data;
	unsigned long pages = window->size >> PAGE_SHIFT;

	if (!window->mappable)
		return -EOPNOTSUPP;
	/* A copy of a register is none. (VM_SHARED is not set where the file is read-only.) */
	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	if (vma->vm_pgoff >= pages || vma_pages(vma) > pages - vma->vm_pgoff)
		return -EINVAL;
	if (READ_ONCE(window->node->windows->state) == PCIEDMA_WINDOWS_GONE)
		return -ENODEV;
	vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP | VM_WIPEONFORK);
	vma->vm_page_prot = window->write_combining ? pgprot_writecombine(vma->vm_page_prot) :
						      pgprot_device(vma->vm_page_prot);
	vma->vm_page_prot = pgprot_decrypted(vma->vm_page_prot);
	vma->vm_private_data = NULL;
	vma->vm_ops = &mapping_ops;
	return 0;
}
