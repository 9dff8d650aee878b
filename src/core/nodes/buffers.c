// SPDX-License-Identifier: GPL-2.0-only
/*
 * Buffers of the data nodes' open files.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/seq_file.h>

#include "channel.h"

#define DIRECTIONS	(PCIEDMA_BUFFER_C2H | PCIEDMA_BUFFER_H2C)

/**
 * pciedma_handles_init() - an open file has no buffers yet
 * @handles: its handles
 *
 * Context: process.
 */
void pciedma_handles_init(struct pciedma_handles *handles)
{
	mutex_init(&handles->lock);
	xa_init_flags(&handles->by_id, XA_FLAGS_ALLOC1);
}

/**
 * pciedma_handles_exit() - an open file has no buffers any more
 * @handles: its handles
 *
 * Context: process.
 */
void pciedma_handles_exit(struct pciedma_handles *handles)
{
	struct pciedma_buffer *buffer;
	unsigned long id;

	xa_for_each(&handles->by_id, id, buffer)
		pciedma_mem_put(&buffer->mem, true);
	xa_destroy(&handles->by_id);
}

/* Kernels may map a huge page at once where a page offset says that one begins. */
#define FIRST_ALIGNMENT	(PMD_SIZE >> PAGE_SHIFT)

/*
 * Let a buffer have an id. Page offsets are not used again, so that no old one means another. From
 * then on another thread may destroy it, which may have guessed the id.
 */
static int handles_add(struct pciedma_handles *handles, struct pciedma_buffer *buffer,
		       struct pciedma_buffer_create *create)
{
	int ret;

	guard(mutex)(&handles->lock);
	if (handles->count == PCIEDMA_MAX_HANDLES)
		return -EMFILE;
	buffer->first = handles->next;
	ret = xa_alloc_cyclic(&handles->by_id, &create->id, buffer, XA_LIMIT(1, INT_MAX),
			      &handles->next_id, GFP_KERNEL_ACCOUNT);
	if (ret < 0)
		return ret;
	create->size = buffer->size;
	if (buffer->ops->is_new)
		create->mmap_offset = (u64)buffer->first << PAGE_SHIFT;
	handles->count++;
	handles->next += ALIGN(PFN_UP(buffer->size), FIRST_ALIGNMENT);
	return 0;
}

/**
 * pciedma_handles_get() - hold a buffer
 * @handles: an open file's
 * @id:      the buffer's
 *
 * Context: process.
 * Return: the buffer, held for the caller; or NULL.
 */
struct pciedma_buffer *pciedma_handles_get(struct pciedma_handles *handles, u32 id)
{
	struct pciedma_buffer *buffer;

	guard(mutex)(&handles->lock);
	buffer = xa_load(&handles->by_id, id);
	if (buffer)
		pciedma_mem_get(&buffer->mem);
	return buffer;
}

static struct pciedma_buffer *handles_take(struct pciedma_handles *handles, u32 id)
{
	struct pciedma_buffer *buffer;

	guard(mutex)(&handles->lock);
	buffer = xa_erase(&handles->by_id, id);
	if (buffer)
		handles->count--;
	return buffer;
}

static enum dma_data_direction create_direction(const struct pciedma_buffer_create *create)
{
	switch (create->flags) {
	case PCIEDMA_BUFFER_C2H:
		return DMA_FROM_DEVICE;
	case PCIEDMA_BUFFER_H2C:
		return DMA_TO_DEVICE;
	default:
		return DMA_BIDIRECTIONAL;
	}
}

/* Whether what is asked for can be; and may be by this open file. */
static int create_check(const struct file *file, const struct pciedma_buffer_create *create)
{
	if (!create->flags || (create->flags & ~DIRECTIONS) || create->id || create->mmap_offset ||
	    memchr_inv(create->reserved, 0, sizeof(create->reserved)))
		return -EINVAL;
	switch (create->type) {
	case PCIEDMA_BUFFER_DMABUF:
		if (create->size || create->address)
			return -EINVAL;
		break;
	case PCIEDMA_BUFFER_NEW:
		if (create->address)
			return -EINVAL;
		fallthrough;
	case PCIEDMA_BUFFER_USER:
		if (create->fd || !create->size || create->size > LONG_MAX - PAGE_SIZE)
			return -EINVAL;
		break;
	default:
		return -EINVAL;
	}
	if (((create->flags & PCIEDMA_BUFFER_C2H) && !(file->f_mode & FMODE_READ)) ||
	    ((create->flags & PCIEDMA_BUFFER_H2C) && !(file->f_mode & FMODE_WRITE)))
		return -EBADF;
	return 0;
}

static struct pciedma_buffer *create_buffer(struct pciedma_buffer_home *home,
					    struct pciedma_buffer_create *create)
{
	enum dma_data_direction direction = create_direction(create);

	if (create->type == PCIEDMA_BUFFER_NEW)
		return pciedma_buffer_new(home, direction, PAGE_ALIGN(create->size));
	if (create->type == PCIEDMA_BUFFER_DMABUF)
		return pciedma_buffer_import(home, direction, create->fd);
	if (create->address + create->size - 1 < create->address ||
	    create->address + create->size - 1 > ULONG_MAX)
		return ERR_PTR(-EFAULT);
	return pciedma_buffer_user(home, direction, create->address, create->size);
}

static long buffer_create(struct file *file, struct pciedma_ioctl *ioctl)
{
	struct pciedma_buffer_create *create = &ioctl->argument.buffer_create;
	struct pciedma_channel_file *cf = file->private_data;
	struct pciedma_buffer *buffer;
	long ret;

	ret = create_check(file, create);
	if (ret)
		return ret;
	buffer = create_buffer(&cf->channel->buffers, create);
	if (IS_ERR(buffer))
		return PTR_ERR(buffer);
	ret = handles_add(&cf->handles, buffer, create);
	if (ret) {
		pciedma_mem_put(&buffer->mem, true);
		return ret;
	}
	ret = pciedma_ioctl_end(ioctl, 0);
	if (!ret)
		return 0;
	buffer = handles_take(&cf->handles, create->id);
	if (buffer)
		pciedma_mem_put(&buffer->mem, true);
	return ret;
}

static long buffer_destroy(struct pciedma_channel_file *cf,
			   const struct pciedma_buffer_destroy *destroy)
{
	struct pciedma_buffer *buffer;

	if (destroy->flags || memchr_inv(destroy->reserved, 0, sizeof(destroy->reserved)))
		return -EINVAL;
	buffer = handles_take(&cf->handles, destroy->id);
	if (!buffer)
		return -ENOENT;
	pciedma_mem_put(&buffer->mem, true);
	return 0;
}

/* The descriptor is there for others, which may guess it, only when its number is told. */
static long buffer_export(struct pciedma_channel_file *cf, struct pciedma_ioctl *ioctl)
{
	struct pciedma_buffer_export *export = &ioctl->argument.buffer_export;
	struct pciedma_buffer *buffer;
	struct file *dmabuf;
	long ret;

	if (export->flags || export->fd || export->reserved)
		return -EINVAL;
	buffer = pciedma_handles_get(&cf->handles, export->id);
	if (!buffer)
		return -ENOENT;
	dmabuf = buffer->ops->is_new ? pciedma_buffer_export(buffer) : ERR_PTR(-EOPNOTSUPP);
	pciedma_mem_put(&buffer->mem, true);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	export->fd = get_unused_fd_flags(O_CLOEXEC);
	ret = export->fd < 0 ? export->fd : pciedma_ioctl_end(ioctl, 0);
	if (!ret) {
		fd_install(export->fd, dmabuf);
		return 0;
	}
	if (export->fd >= 0)
		put_unused_fd(export->fd);
	fput(dmabuf);
	return ret;
}

/**
 * pciedma_buffers_ioctl() - the ioctls of buffers
 * @file:  the open file
 * @ioctl: the ioctl; its argument goes back from here
 *
 * Context: process, outside the gate: they may take long, and touch user memory.
 * Return: 0 or an errno; -ENOTTY if it is none of them.
 */
long pciedma_buffers_ioctl(struct file *file, struct pciedma_ioctl *ioctl)
{
	switch (ioctl->command) {
	case PCIEDMA_IOC_BUFFER_CREATE:
		return buffer_create(file, ioctl);
	case PCIEDMA_IOC_BUFFER_DESTROY:
		return buffer_destroy(file->private_data, &ioctl->argument.buffer_destroy);
	case PCIEDMA_IOC_BUFFER_EXPORT:
		return buffer_export(file->private_data, ioctl);
	default:
		return -ENOTTY;
	}
}

/* The buffer that a page offset lies in, held for the caller. */
static struct pciedma_buffer *handles_at(struct pciedma_handles *handles, unsigned long pgoff)
{
	struct pciedma_buffer *buffer;
	unsigned long id;

	guard(mutex)(&handles->lock);
	xa_for_each(&handles->by_id, id, buffer) {
		if (pgoff - buffer->first >= PFN_UP(buffer->size))
			continue;
		if (!buffer->ops->is_new)
			return NULL;
		pciedma_mem_get(&buffer->mem);
		return buffer;
	}
	return NULL;
}

/**
 * pciedma_channel_mmap() - map a buffer
 * @file: the open file
 * @vma:  where to
 *
 * Context: process, mmap_lock held for writing.
 * Return: 0; -EINVAL if there is no such buffer, or for a private mapping; -ENODEV if the open file
 * has none at all.
 */
int pciedma_channel_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct pciedma_channel_file *cf = file->private_data;
	struct pciedma_buffer *buffer = handles_at(&cf->handles, vma->vm_pgoff);
	int ret;

	if (!buffer)
		return READ_ONCE(cf->handles.count) ? -EINVAL : -ENODEV;
	ret = pciedma_buffer_mmap(buffer, vma);
	pciedma_mem_put(&buffer->mem, true);
	return ret;
}

/**
 * pciedma_channel_show_fdinfo() - what /proc/PID/fdinfo says of an open file
 * @m:    where to write it
 * @file: the open file
 *
 * Context: process.
 */
void pciedma_channel_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct pciedma_channel_file *cf = file->private_data;
	struct pciedma_buffer *buffer;
	unsigned long id;
	u64 bytes = 0;

	guard(mutex)(&cf->handles.lock);
	xa_for_each(&cf->handles.by_id, id, buffer)
		bytes += buffer->size;
	seq_printf(m, "buffers:\t%u\nbuffer-bytes:\t%llu\n", cf->handles.count, bytes);
}
