// SPDX-License-Identifier: GPL-2.0-only
/*
 * Writes and reads a channel from within the kernel, by each iterator that the
 * kernel's own users of files have. It loads only if all was right.
 */
#include <linux/bvec.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>
#include <linux/xarray.h>

#define PAGES		40
#define POSITION	12345
#define SKIP		777

static char *path = "";
module_param(path, charp, 0444);

static struct page *pages[PAGES];
static struct bio_vec bvec[PAGES];
static struct kvec kvec[PAGES];
static DEFINE_XARRAY(xarray);
static u8 *linear; /* the same pages, side by side */

enum kind { KVEC, KVEC_VMALLOC, BVEC, XARRAY, KINDS };

static void iterator_make(struct iov_iter *iter, enum kind kind, unsigned int direction,
			  size_t length)
{
	switch (kind) {
	case KVEC:
		iov_iter_kvec(iter, direction, kvec, PAGES, SKIP + length);
		iov_iter_advance(iter, SKIP);
		break;
	case KVEC_VMALLOC:
		kvec[0] = (struct kvec){ .iov_base = linear + SKIP, .iov_len = length };
		iov_iter_kvec(iter, direction, kvec, 1, length);
		break;
	case BVEC:
		iov_iter_bvec(iter, direction, bvec, PAGES, SKIP + length);
		iov_iter_advance(iter, SKIP);
		break;
	default:
		iov_iter_xarray(iter, direction, &xarray, SKIP, length);
		break;
	}
}

static void lists_make(void)
{
	int i;

	for (i = 0; i < PAGES; i++) {
		kvec[i] = (struct kvec){ .iov_base = page_address(pages[i]), .iov_len = PAGE_SIZE };
		bvec[i] = (struct bio_vec){ .bv_page = pages[i], .bv_len = PAGE_SIZE };
	}
}

static u8 pattern(enum kind kind, size_t at)
{
	return at * 7 + (at >> 8) + kind + 1;
}

static int check(enum kind kind, size_t length)
{
	size_t at;

	for (at = 0; at < PAGES * PAGE_SIZE; at++)
		if (linear[at] != (at < SKIP || at >= SKIP + length ? 0xa5 : pattern(kind, at)))
			return -EBADMSG;
	return 0;
}

static int move(struct file *file, enum kind kind, size_t length)
{
	loff_t position = POSITION;
	struct iov_iter iter;
	ssize_t ret;
	size_t at;

	memset(linear, 0xa5, PAGES * PAGE_SIZE);
	for (at = SKIP; at < SKIP + length; at++)
		linear[at] = pattern(kind, at);
	lists_make();
	iterator_make(&iter, kind, WRITE, length);
	ret = vfs_iter_write(file, &iter, &position, 0);
	if (ret != length)
		return ret < 0 ? ret : -EIO;
	memset(linear + SKIP, 0, length);
	lists_make();
	iterator_make(&iter, kind, READ, length);
	position = POSITION;
	ret = vfs_iter_read(file, &iter, &position, 0);
	if (ret != length)
		return ret < 0 ? ret : -EIO;
	return check(kind, length);
}

static int move_all(struct file *file)
{
	static const size_t lengths[] = { 1, 100, 4095, 4096, 5000, 70001 };
	enum kind kind;
	int ret = 0;
	int i;

	for (kind = 0; kind < KINDS && !ret; kind++) {
		for (i = 0; i < ARRAY_SIZE(lengths) && !ret; i++) {
			ret = move(file, kind, lengths[i]);
			if (ret)
				pr_info("iterator %d, %zu bytes: %d\n", kind, lengths[i], ret);
		}
	}
	return ret;
}

static void free_all(void)
{
	int i;

	vunmap(linear);
	xa_destroy(&xarray);
	for (i = 0; i < PAGES; i++)
		if (pages[i])
			__free_page(pages[i]);
}

static int alloc_all(void)
{
	int i;

	for (i = 0; i < PAGES; i++) {
		pages[i] = alloc_page(GFP_KERNEL);
		if (!pages[i] || xa_is_err(xa_store(&xarray, i, pages[i], GFP_KERNEL)))
			return -ENOMEM;
	}
	linear = vmap(pages, PAGES, VM_MAP, PAGE_KERNEL);
	return linear ? 0 : -ENOMEM;
}

static int __init probe_init(void)
{
	struct file *file;
	int ret;

	ret = alloc_all();
	if (!ret) {
		file = filp_open(path, O_RDWR, 0);
		ret = PTR_ERR_OR_ZERO(file);
	}
	if (!ret) {
		ret = move_all(file);
		filp_close(file, NULL);
	}
	free_all();
	return ret;
}
module_init(probe_init);

static void __exit probe_exit(void)
{
}
module_exit(probe_exit);

MODULE_DESCRIPTION("Reads and writes a channel as the kernel's own users of files do");
MODULE_LICENSE("GPL");
