// SPDX-License-Identifier: GPL-2.0-only
/*
 * Buffers and other devices: a new one as a dma-buf for them, and buffers of what they export.
 */
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/module.h>
#include <linux/slab.h>

#include <compat.h>

#include "buffer.h"
#include "runs.h"

MODULE_INFO(import_ns, "DMA_BUF");

/**
 * struct export - a buffer for other devices
 * @buffer:  the buffer
 * @lock:    protects @viewers, and whether they have it mapped; behind the dma-buf's own lock
 * @viewers: devices that are attached
 */
struct export {
	struct pciedma_buffer *buffer;
	struct mutex lock; /* viewers, what they have mapped */
	struct list_head viewers;
};

/**
 * struct viewer - another device that is attached to a buffer
 * @node:      among its viewers
 * @dev:       the device
 * @table:     while it has it mapped, or NULL
 * @direction: then: which ways
 */
struct viewer {
	struct list_head node;
	struct device *dev;
	struct sg_table *table;
	enum dma_data_direction direction;
};

static int export_attach(struct dma_buf *dmabuf, struct dma_buf_attachment *attachment)
{
	struct export *export = dmabuf->priv;
	struct viewer *viewer = kzalloc(sizeof(*viewer), GFP_KERNEL);

	if (!viewer)
		return -ENOMEM;
	viewer->dev = attachment->dev;
	attachment->priv = viewer;
	guard(mutex)(&export->lock);
	list_add_tail(&viewer->node, &export->viewers);
	return 0;
}

static void export_detach(struct dma_buf *dmabuf, struct dma_buf_attachment *attachment)
{
	struct export *export = dmabuf->priv;
	struct viewer *viewer = attachment->priv;

	scoped_guard(mutex, &export->lock)
		list_del(&viewer->node);
	kfree(viewer);
}

static void viewer_shows(struct dma_buf_attachment *attachment, struct sg_table *table,
			 enum dma_data_direction direction)
{
	struct export *export = attachment->dmabuf->priv;
	struct viewer *viewer = attachment->priv;

	guard(mutex)(&export->lock);
	viewer->table = table;
	viewer->direction = direction;
}

/* Its pages in a table of the importer's own. */
static struct sg_table *export_table(const struct pciedma_buffer *buffer)
{
	const struct scatterlist *entries = buffer->mem.table.sgl;
	struct sg_table *table = kzalloc(sizeof(*table), GFP_KERNEL);
	struct scatterlist *entry;
	int i;

	if (!table)
		return ERR_PTR(-ENOMEM);
	if (sg_alloc_table(table, buffer->mem.table.orig_nents, GFP_KERNEL)) {
		kfree(table);
		return ERR_PTR(-ENOMEM);
	}
	for_each_sgtable_sg(table, entry, i)
		sg_set_page(entry, sg_page((struct scatterlist *)entries + i), entries[i].length,
			    entries[i].offset);
	return table;
}

/*
 * The pages are mapped for the card, too, which the kernel's DMA debugger only accepts where
 * processor and device are synchronized by words of their own.
 */
static struct sg_table *export_map(struct dma_buf_attachment *attachment,
				   enum dma_data_direction direction)
{
	struct export *export = attachment->dmabuf->priv;
	struct sg_table *table = export_table(export->buffer);
	int ret;

	if (IS_ERR(table))
		return table;
	ret = dma_map_sgtable(attachment->dev, table, direction, DMA_ATTR_SKIP_CPU_SYNC);
	if (!ret) {
		dma_sync_sgtable_for_device(attachment->dev, table, direction);
		viewer_shows(attachment, table, direction);
		return table;
	}
	sg_free_table(table);
	kfree(table);
	return ERR_PTR(ret);
}

static void export_unmap(struct dma_buf_attachment *attachment, struct sg_table *table,
			 enum dma_data_direction direction)
{
	viewer_shows(attachment, NULL, direction);
	dma_sync_sgtable_for_cpu(attachment->dev, table, direction);
	dma_unmap_sgtable(attachment->dev, table, direction, DMA_ATTR_SKIP_CPU_SYNC);
	sg_free_table(table);
	kfree(table);
}

static void export_release(struct dma_buf *dmabuf)
{
	struct export *export = dmabuf->priv;

	pciedma_mem_put(&export->buffer->mem, true);
	kfree(export);
}

static int export_mmap(struct dma_buf *dmabuf, struct vm_area_struct *vma)
{
	struct export *export = dmabuf->priv;

	vma->vm_pgoff += export->buffer->first;
	return pciedma_buffer_show(export->buffer, vma);
}

static void export_sync(struct export *export,
			void (*sync)(struct device *dev, struct sg_table *table,
				     enum dma_data_direction direction))
{
	struct viewer *viewer;

	guard(mutex)(&export->lock);
	list_for_each_entry(viewer, &export->viewers, node)
		if (viewer->table)
			sync(viewer->dev, viewer->table, viewer->direction);
}

/* The card itself sees to what it moves with each transfer. */
static int export_begin_cpu_access(struct dma_buf *dmabuf, enum dma_data_direction direction)
{
	export_sync(dmabuf->priv, dma_sync_sgtable_for_cpu);
	return 0;
}

static int export_end_cpu_access(struct dma_buf *dmabuf, enum dma_data_direction direction)
{
	export_sync(dmabuf->priv, dma_sync_sgtable_for_device);
	return 0;
}

static const struct dma_buf_ops export_ops = {
	.attach			= export_attach,
	.detach			= export_detach,
	.map_dma_buf		= export_map,
	.unmap_dma_buf		= export_unmap,
	.release		= export_release,
	.mmap			= export_mmap,
	.begin_cpu_access	= export_begin_cpu_access,
	.end_cpu_access		= export_end_cpu_access,
};

/**
 * pciedma_buffer_export() - make a dma-buf of a buffer
 * @buffer: a new one; the dma-buf holds it, too
 *
 * Context: process.
 * Return: its file, which is the caller's; or an ERR_PTR.
 */
struct file *pciedma_buffer_export(struct pciedma_buffer *buffer)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct export *export = kzalloc(sizeof(*export), GFP_KERNEL_ACCOUNT);
	struct dma_buf *dmabuf;

	if (!export)
		return ERR_PTR(-ENOMEM);
	export->buffer = buffer;
	mutex_init(&export->lock);
	INIT_LIST_HEAD(&export->viewers);
	info.ops = &export_ops;
	info.size = buffer->size;
	info.flags = O_RDWR | O_CLOEXEC;
	info.priv = export;
	pciedma_mem_get(&buffer->mem);
	dmabuf = dma_buf_export(&info);
	if (!IS_ERR(dmabuf))
		return dmabuf->file;
	pciedma_mem_put(&buffer->mem, true);
	kfree(export);
	return ERR_CAST(dmabuf);
}

/**
 * struct import - a buffer of what another device exports
 * @buffer:     itself
 * @dmabuf:     what it is of
 * @attachment: of our device
 * @table:      how that sees it
 */
struct import {
	struct pciedma_buffer buffer;
	struct dma_buf *dmabuf;
	struct dma_buf_attachment *attachment;
	struct sg_table *table;
};

static struct import *to_import(struct pciedma_buffer *buffer)
{
	return container_of(buffer, struct import, buffer);
}

/* It is pinned, so that it moves nowhere. */
static void import_moves(struct dma_buf_attachment *attachment)
{
	WRITE_ONCE(((struct import *)attachment->importer_priv)->buffer.revoked, true);
}

static const struct dma_buf_attach_ops import_attach_ops = {
	.allow_peer2peer = true,
	.DMA_BUF_MOVES	 = import_moves,
};

/* What an entry has of memory that begins at an address: it crosses no boundary. */
static u32 entry_length(const struct pciedma_mem_limits *limits, dma_addr_t dma, u32 left)
{
	return min3((unsigned long)left - 1, (unsigned long)limits->max_entry - 1,
		    limits->segment_mask - ((unsigned long)dma & limits->segment_mask)) + 1;
}

static size_t entries_of(const struct pciedma_mem_limits *limits, struct sg_table *table)
{
	struct scatterlist *entry;
	size_t count = 0;
	dma_addr_t dma;
	u32 left, part;
	int i;

	for_each_sgtable_dma_sg(table, entry, i) {
		dma = sg_dma_address(entry);
		for (left = sg_dma_len(entry); left; left -= part, dma += part) {
			part = entry_length(limits, dma, left);
			count++;
		}
	}
	return count;
}

/* What the device is to be told, in such entries. */
static int import_make_table(struct import *import)
{
	const struct pciedma_mem_limits *limits = &import->buffer.home->limits;
	struct sg_table *to = &import->buffer.mem.table;
	struct scatterlist *entry, *mine;
	size_t size = 0;
	dma_addr_t dma;
	u32 left, part;
	int ret, i;

	for_each_sgtable_dma_sg(import->table, entry, i)
		size += sg_dma_len(entry);
	if (size < import->buffer.size)
		return -EIO;
	ret = pciedma_buffer_room(&import->buffer, entries_of(limits, import->table));
	if (ret)
		return ret;
	mine = to->sgl;
	for_each_sgtable_dma_sg(import->table, entry, i) {
		dma = sg_dma_address(entry);
		for (left = sg_dma_len(entry); left; left -= part, dma += part) {
			part = entry_length(limits, dma, left);
			sg_dma_address(mine) = dma;
			sg_dma_len(mine) = part;
			mine->length = part;
			mine++;
		}
	}
	to->nents = mine - to->sgl;
	return 0;
}

static int import_pin(struct import *import)
{
	struct dma_resv *resv = import->attachment->dmabuf->resv;
	int ret;

	dma_resv_lock(resv, NULL);
	ret = dma_buf_pin(import->attachment);
	if (!ret) {
		import->table = dma_buf_map_attachment(import->attachment,
						       import->buffer.mem.direction);
		ret = PTR_ERR_OR_ZERO(import->table);
		if (ret)
			dma_buf_unpin(import->attachment);
	}
	dma_resv_unlock(resv);
	return ret;
}

static void import_unmap(struct pciedma_buffer *buffer)
{
	struct import *import = to_import(buffer);
	struct dma_resv *resv = import->attachment->dmabuf->resv;

	dma_resv_lock(resv, NULL);
	dma_buf_unmap_attachment(import->attachment, import->table, buffer->mem.direction);
	dma_buf_unpin(import->attachment);
	dma_resv_unlock(resv);
	dma_buf_detach(import->dmabuf, import->attachment);
}

static int import_map(struct pciedma_buffer *buffer)
{
	struct import *import = to_import(buffer);
	int ret;

	if (buffer->home->reach < DMA_BIT_MASK(32))
		return -ERANGE; /* its exporter might bounce it, through what is out of reach */
	import->attachment = dma_buf_dynamic_attach(import->dmabuf, buffer->mem.dev,
						    &import_attach_ops, import);
	if (IS_ERR(import->attachment))
		return PTR_ERR(import->attachment);
	ret = import_pin(import);
	if (ret) {
		dma_buf_detach(import->dmabuf, import->attachment);
		return ret;
	}
	ret = import_make_table(import);
	if (ret)
		import_unmap(buffer);
	return ret;
}

static void import_free(struct pciedma_buffer *buffer)
{
	dma_buf_put(to_import(buffer)->dmabuf);
}

/* It stays attached: its exporter may call back. */
static void import_leave(struct pciedma_buffer *buffer)
{
	__module_get(THIS_MODULE);
}

static const struct pciedma_buffer_ops import_ops = {
	.bytes	= sizeof(struct import),
	.map	= import_map,
	.unmap	= import_unmap,
	.free	= import_free,
	.leave	= import_leave,
};

/**
 * pciedma_buffer_import() - make a buffer of what another device exports
 * @home:      where it belongs
 * @direction: which ways its data may go
 * @fd:        a dma-buf
 *
 * It is pinned as long as there is the buffer, and counts against no limit: it is the exporter's.
 *
 * Context: process, outside the gate.
 * Return: the buffer or an ERR_PTR: -EBADF if there is no such file, -EINVAL if it is no dma-buf;
 * -EOPNOTSUPP, after a line, if the exporter does not let the device have it; -ENOMEM; -ENODEV if
 * the card has gone.
 */
struct pciedma_buffer *pciedma_buffer_import(struct pciedma_buffer_home *home,
					     enum dma_data_direction direction, int fd)
{
	struct dma_buf *dmabuf = dma_buf_get(fd);
	struct pciedma_buffer *buffer;
	int ret;

	if (IS_ERR(dmabuf))
		return ERR_CAST(dmabuf);
	buffer = pciedma_buffer_alloc(home, &import_ops, direction, dmabuf->size);
	if (!buffer) {
		dma_buf_put(dmabuf);
		return ERR_PTR(-ENOMEM);
	}
	to_import(buffer)->dmabuf = dmabuf;
	ret = pciedma_buffer_map(buffer);
	if (!ret)
		return buffer;
	if (ret != -ENODEV && ret != -ENOMEM && ret != -EINTR) {
		dev_info_ratelimited(home->holder, "the dma-buf of %s cannot be reached: %s says %d\n",
				     current->comm, dmabuf->exp_name, ret);
		ret = -EOPNOTSUPP;
	}
	pciedma_mem_put(&buffer->mem, true);
	return ERR_PTR(ret);
}

/**
 * pciedma_buffer_settled() - wait for what others still do with a buffer
 * @buffer:  the buffer
 * @writes:  it is going to be written
 * @timeout: jiffies; 0: only look
 *
 * Only what was imported has others.
 *
 * Context: process, outside the gate.
 * Return: 0; -ETIMEDOUT; -ERESTARTSYS; -EIO if its exporter has taken it away.
 */
int pciedma_buffer_settled(struct pciedma_buffer *buffer, bool writes, long timeout)
{
	long ret;

	if (buffer->ops != &import_ops)
		return 0;
	if (READ_ONCE(buffer->revoked))
		return -EIO;
	ret = dma_resv_wait_timeout(to_import(buffer)->dmabuf->resv, dma_resv_usage_rw(writes),
				    true, timeout);
	return ret > 0 ? 0 : ret ?: -ETIMEDOUT;
}
