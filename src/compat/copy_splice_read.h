/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reading a file into new pages that go to a pipe. Before 6.5 the kernel had
 * only a function that lets the file read into the pipe's own iterator, whose
 * pages cannot be had for DMA.
 */
#ifndef PCIEDMA_COPY_SPLICE_READ_H
#define PCIEDMA_COPY_SPLICE_READ_H

#include <linux/bvec.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/pipe_fs_i.h>
#include <linux/slab.h>
#include <linux/splice.h>
#include <linux/uio.h>

/* Returns the bytes that there is memory for; the pages are the caller's. */
static inline size_t splice_alloc(struct bio_vec *bvec, unsigned int count, size_t length)
{
	size_t done = 0;
	unsigned int i;

	for (i = 0; i < count && done < length; i++) {
		bvec[i].bv_page = alloc_page(GFP_USER);
		if (!bvec[i].bv_page)
			break;
		bvec[i].bv_len = min_t(size_t, length - done, PAGE_SIZE);
		done += bvec[i].bv_len;
	}
	return done;
}

/* Hand the pages with data to the pipe, and give the others back. */
static inline void splice_hand_over(struct pipe_inode_info *pipe, struct bio_vec *bvec,
				    size_t length, size_t done)
{
	struct pipe_buffer buffer = { .ops = &nosteal_pipe_buf_ops };

	for (; length; bvec++) {
		buffer.page = bvec->bv_page;
		buffer.len = min_t(size_t, done, bvec->bv_len);
		if (buffer.len)
			add_to_pipe(pipe, &buffer); /* there is room: the pipe is locked */
		else
			put_page(bvec->bv_page);
		done -= buffer.len;
		length -= bvec->bv_len;
	}
}

static inline ssize_t copy_splice_read(struct file *in, loff_t *ppos, struct pipe_inode_info *pipe,
				       size_t length, unsigned int flags)
{
	unsigned int room = pipe->max_usage - pipe_occupancy(pipe->head, pipe->tail);
	unsigned int count = min_t(size_t, DIV_ROUND_UP(length, PAGE_SIZE), room);
	struct bio_vec *bvec = kcalloc(count, sizeof(*bvec), GFP_KERNEL);
	struct iov_iter to;
	struct kiocb kiocb;
	ssize_t ret;

	if (!bvec)
		return -ENOMEM;
	length = splice_alloc(bvec, count, length);
	iov_iter_bvec(&to, READ, bvec, DIV_ROUND_UP(length, PAGE_SIZE), length);
	init_sync_kiocb(&kiocb, in);
	kiocb.ki_pos = *ppos;
	ret = length ? in->f_op->read_iter(&kiocb, &to) : -ENOMEM;
	if (ret > 0)
		*ppos = kiocb.ki_pos;
	splice_hand_over(pipe, bvec, length, max_t(ssize_t, ret, 0));
	kfree(bvec);
	return ret;
}

#endif /* PCIEDMA_COPY_SPLICE_READ_H */
