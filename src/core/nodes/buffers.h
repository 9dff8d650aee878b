/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Handles: what user space calls the buffers of an open file by, from BUFFER_CREATE to
 * BUFFER_DESTROY or the last close. Each holds its buffer.
 */
#ifndef PCIEDMA_BUFFERS_H
#define PCIEDMA_BUFFERS_H

#include <linux/mutex.h>
#include <linux/xarray.h>

#include "../memory/buffer.h"

struct pciedma_channel_file;
struct pciedma_ioctl;
struct seq_file;

/* Handles of an open file. */
#define PCIEDMA_MAX_HANDLES	4096

/**
 * struct pciedma_handles - the buffers of an open file
 * @lock:    protects the others
 * @by_id:   the buffers
 * @count:   how many
 * @next_id: where the search for a free id begins: one that has gone is not used again soon
 * @next:    the page offset at which the next that can be mapped begins; none is used again
 */
struct pciedma_handles {
	struct mutex lock; /* by_id, count, next_id, next */
	struct xarray by_id;
	unsigned int count;
	u32 next_id;
	unsigned long next;
};

/* buffers.c */
void pciedma_handles_init(struct pciedma_handles *handles);
void pciedma_handles_exit(struct pciedma_handles *handles);
struct pciedma_buffer *pciedma_handles_get(struct pciedma_handles *handles, u32 id);
long pciedma_buffers_ioctl(struct file *file, struct pciedma_ioctl *ioctl);
int pciedma_channel_mmap(struct file *file, struct vm_area_struct *vma);
void pciedma_channel_show_fdinfo(struct seq_file *m, struct file *file);

#endif /* PCIEDMA_BUFFERS_H */
