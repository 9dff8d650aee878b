// SPDX-License-Identifier: GPL-2.0-only
/*
 * Exports dma-bufs of 16 pages that misbehave, each in a way of its own. /dev/pciedma_exporter has two
 * ioctls: EXPORT of a kind returns a descriptor, MOVE of a descriptor tells its importers that it moves.
 */
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

MODULE_INFO(import_ns, "DMA_BUF");

#define PAGES	16
#define EXPORT	0
#define MOVE	1

/* What importers meet. */
enum kind {
	GOOD,
	ATTACH_FAILS,	/* EPERM */
	PIN_FAILS,	/* EBUSY */
	MAP_FAILS,	/* EIO */
	MAP_HAS_NO_MEMORY,
	TOO_SHORT,	/* a page less than it says */
	IN_PIECES,	/* of odd lengths */
	KINDS
};

struct memory {
	enum kind kind;
	struct page *pages[PAGES];
};

static int probe_attach(struct dma_buf *dmabuf, struct dma_buf_attachment *attachment)
{
	struct memory *memory = dmabuf->priv;

	return memory->kind == ATTACH_FAILS ? -EPERM : 0;
}

static int probe_pin(struct dma_buf_attachment *attachment)
{
	struct memory *memory = attachment->dmabuf->priv;

	return memory->kind == PIN_FAILS ? -EBUSY : 0;
}

static void probe_unpin(struct dma_buf_attachment *attachment)
{
}

/* Each page is two entries, of which the first has an odd length that is its number's. */
static void fill(struct sg_table *table, const struct memory *memory, unsigned int count)
{
	struct scatterlist *entry = table->sgl;
	unsigned int i, skip;

	for (i = 0; i < count; i++, entry = sg_next(entry)) {
		if (memory->kind != IN_PIECES) {
			sg_set_page(entry, memory->pages[i], PAGE_SIZE, 0);
			continue;
		}
		skip = 4 * (37 * i + 1);
		sg_set_page(entry, memory->pages[i], skip, 0);
		entry = sg_next(entry);
		sg_set_page(entry, memory->pages[i], PAGE_SIZE - skip, skip);
	}
}

static struct sg_table *make_table(const struct memory *memory)
{
	unsigned int count = memory->kind == TOO_SHORT ? PAGES - 1 : PAGES;
	struct sg_table *table = kzalloc(sizeof(*table), GFP_KERNEL);

	if (!table)
		return NULL;
	if (sg_alloc_table(table, memory->kind == IN_PIECES ? 2 * count : count, GFP_KERNEL)) {
		kfree(table);
		return NULL;
	}
	fill(table, memory, count);
	return table;
}

static struct sg_table *probe_map(struct dma_buf_attachment *attachment,
				  enum dma_data_direction direction)
{
	const struct memory *memory = attachment->dmabuf->priv;
	struct sg_table *table;
	int ret;

	if (memory->kind == MAP_FAILS)
		return ERR_PTR(-EIO);
	table = memory->kind == MAP_HAS_NO_MEMORY ? NULL : make_table(memory);
	if (!table)
		return ERR_PTR(-ENOMEM);
	ret = dma_map_sgtable(attachment->dev, table, direction, DMA_ATTR_SKIP_CPU_SYNC);
	if (!ret)
		return table;
	sg_free_table(table);
	kfree(table);
	return ERR_PTR(ret);
}

static void probe_unmap(struct dma_buf_attachment *attachment, struct sg_table *table,
			enum dma_data_direction direction)
{
	dma_unmap_sgtable(attachment->dev, table, direction, DMA_ATTR_SKIP_CPU_SYNC);
	sg_free_table(table);
	kfree(table);
}

static void free_memory(struct memory *memory)
{
	int i;

	for (i = 0; i < PAGES; i++)
		if (memory->pages[i])
			__free_page(memory->pages[i]);
	kfree(memory);
}

static void probe_release(struct dma_buf *dmabuf)
{
	free_memory(dmabuf->priv);
}

static int probe_mmap(struct dma_buf *dmabuf, struct vm_area_struct *vma)
{
	struct memory *memory = dmabuf->priv;
	unsigned long num = PAGES;

	return vm_insert_pages(vma, vma->vm_start, memory->pages, &num);
}

static const struct dma_buf_ops probe_ops = {
	.attach		= probe_attach,
	.pin		= probe_pin,
	.unpin		= probe_unpin,
	.map_dma_buf	= probe_map,
	.unmap_dma_buf	= probe_unmap,
	.release	= probe_release,
	.mmap		= probe_mmap,
};

static struct memory *alloc_memory(enum kind kind)
{
	struct memory *memory = kzalloc(sizeof(*memory), GFP_KERNEL);
	int i;

	if (!memory)
		return NULL;
	memory->kind = kind;
	for (i = 0; i < PAGES; i++) {
		memory->pages[i] = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!memory->pages[i]) {
			free_memory(memory);
			return NULL;
		}
	}
	return memory;
}

static long export(enum kind kind)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct memory *memory;
	struct dma_buf *dmabuf;

	if (kind >= KINDS)
		return -EINVAL;
	memory = alloc_memory(kind);
	if (!memory)
		return -ENOMEM;
	info.ops = &probe_ops;
	info.size = PAGES * PAGE_SIZE;
	info.flags = O_RDWR | O_CLOEXEC;
	info.priv = memory;
	dmabuf = dma_buf_export(&info);
	if (IS_ERR(dmabuf)) {
		free_memory(memory);
		return PTR_ERR(dmabuf);
	}
	return dma_buf_fd(dmabuf, O_CLOEXEC);
}

static long move(int fd)
{
	struct dma_buf *dmabuf = dma_buf_get(fd);

	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	dma_resv_lock(dmabuf->resv, NULL);
#ifdef INVALIDATES
	dma_buf_invalidate_mappings(dmabuf);
#else
	dma_buf_move_notify(dmabuf);
#endif
	dma_resv_unlock(dmabuf->resv);
	dma_buf_put(dmabuf);
	return 0;
}

static long probe_ioctl(struct file *file, unsigned int command, unsigned long value)
{
	return command == EXPORT ? export(value) : command == MOVE ? move(value) : -ENOTTY;
}

static const struct file_operations probe_fops = {
	.owner		= THIS_MODULE,
	.unlocked_ioctl	= probe_ioctl,
};

static struct miscdevice probe_device = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "pciedma_exporter",
	.fops	= &probe_fops,
};

static int __init probe_init(void)
{
	return misc_register(&probe_device);
}
module_init(probe_init);

static void __exit probe_exit(void)
{
	misc_deregister(&probe_device);
}
module_exit(probe_exit);

MODULE_DESCRIPTION("Exports dma-bufs that misbehave, for tests of who imports them");
MODULE_LICENSE("GPL");
