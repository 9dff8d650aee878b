/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * User memory that is not there yet: having it come, without waiting for it where others would
 * have to wait, too.
 *
 * Life times: a fetch is held by whoever started it and by its thread, which may be in a fault
 * that never ends. So it has all that it needs for itself: its address space, its copy of the
 * vector, and a reference to the module.
 */
#ifndef PCIEDMA_FETCH_H
#define PCIEDMA_FETCH_H

#include <linux/dma-direction.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>
#include <linux/uio.h>

struct mm_struct;
struct task_struct;

/**
 * struct pciedma_fetch - user memory that a thread makes come
 * @refs:      who holds it
 * @lock:      protects @done
 * @done:      called with @lock held when all that will come has, if nobody gave it up
 * @owner:     for @done
 * @task:      the thread
 * @mm:        the address space
 * @iter:      the memory
 * @vector:    the copy of the vector in @iter, or NULL
 * @length:    bytes wanted
 * @found:     bytes from the beginning that are there
 * @direction: what the memory is for
 */
struct pciedma_fetch {
	refcount_t refs;
	spinlock_t lock; /* done */
	void (*done)(void *owner);
	void *owner;
	struct task_struct *task;
	struct mm_struct *mm;
	struct iov_iter iter;
	const void *vector;
	size_t length;
	size_t found;
	enum dma_data_direction direction;
};

bool pciedma_memory_comes(const struct iov_iter *iter, size_t length);
struct pciedma_fetch *pciedma_fetch_start(struct mm_struct *mm, const struct iov_iter *iter,
					  size_t length, enum dma_data_direction direction,
					  void (*done)(void *owner), void *owner);
bool pciedma_fetch_give_up(struct pciedma_fetch *fetch);
void pciedma_fetch_put(struct pciedma_fetch *fetch);

#endif /* PCIEDMA_FETCH_H */
