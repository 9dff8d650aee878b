// SPDX-License-Identifier: GPL-2.0-only
/*
 * The data nodes /dev/pciedma<card>c<channel>.
 */
#include <linux/compat.h>
#include <linux/fs.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/splice.h>

#include <compat.h>

#include "channel.h"

#define DEFAULT_TIMEOUT_NS	(10 * NSEC_PER_SEC)

static int channel_claim(struct pciedma_channel *channel, bool exclusive)
{
	guard(mutex)(&channel->open_lock);
	if (channel->exclusive || (exclusive && channel->opens))
		return -EBUSY;
	channel->exclusive = exclusive;
	channel->opens++;
	return 0;
}

static struct pciedma_channel_file *channel_file_alloc(struct pciedma_channel *channel,
						       bool exclusive)
{
	struct pciedma_channel_file *cf = kzalloc(sizeof(*cf), GFP_KERNEL);
	enum pciedma_direction i;

	if (!cf)
		return NULL;
	cf->channel = channel;
	cf->exclusive = exclusive;
	for (i = 0; i < PCIEDMA_DIRECTIONS; i++)
		pciedma_backlog_init(&cf->backlogs[i]);
	pciedma_handles_init(&cf->handles);
	spin_lock_init(&cf->lock);
	cf->mode = PCIEDMA_WAIT_ADAPTIVE;
	cf->timeout_ns = DEFAULT_TIMEOUT_NS;
	return cf;
}

static int channel_open(struct inode *inode, struct file *file)
{
	struct pciedma_channel *channel = container_of(inode->i_cdev, struct pciedma_channel, cdev);
	struct pciedma_channel_file *cf;
	int ret;

	if (channel->kind == PCIEDMA_KIND_STREAM) {
		dev_info_ratelimited(&channel->dev, "stream channels are not supported yet\n");
		return -EOPNOTSUPP;
	}
	if (((file->f_mode & FMODE_READ) && !channel->by_direction[PCIEDMA_C2H]) ||
	    ((file->f_mode & FMODE_WRITE) && !channel->by_direction[PCIEDMA_H2C]))
		return -EOPNOTSUPP;
	if (!pciedma_channel_enter(channel))
		return -ENODEV;
	ret = -ENOMEM;
	cf = channel_file_alloc(channel, file->f_flags & O_EXCL);
	if (!cf)
		goto out_leave;
	ret = channel_claim(channel, cf->exclusive);
	if (ret) {
		kfree(cf);
		goto out_leave;
	}
	get_device(&channel->dev);
	file->private_data = cf;
	file->f_mapping = channel->node->inode->i_mapping;
	file->f_mode |= FMODE_NOWAIT | FMODE_CAN_ODIRECT;
	if (channel->kind != PCIEDMA_KIND_MEMORY)
		ret = stream_open(inode, file);
out_leave:
	pciedma_channel_leave(channel);
	return ret;
}

static int channel_release(struct inode *inode, struct file *file)
{
	struct pciedma_channel_file *cf = file->private_data;
	struct pciedma_channel *channel = cf->channel;

	scoped_guard(mutex, &channel->open_lock) {
		channel->opens--;
		if (cf->exclusive)
			channel->exclusive = false;
		if (cf->entries)
			list_del(&cf->entries->node);
	}
	pciedma_file_stop_entries(cf, NULL);
	pciedma_entries_put(cf->entries);
	pciedma_handles_exit(&cf->handles);
	kfree(cf);
	put_device(&channel->dev);
	return 0;
}

/* What write() has told of is in the card already. */
static int channel_fsync(struct file *file, loff_t start, loff_t end, int datasync)
{
	struct pciedma_channel_file *cf = file->private_data;
	struct pciedma_channel *channel = cf->channel;
	int ret;

	if (!pciedma_channel_enter(channel))
		return -ENODEV;
	ret = READ_ONCE(channel->node->card.lost) ? -ENODEV : 0;
	pciedma_channel_leave(channel);
	return ret;
}

static loff_t channel_llseek(struct file *file, loff_t offset, int whence)
{
	struct pciedma_channel_file *cf = file->private_data;

	if (cf->channel->kind != PCIEDMA_KIND_MEMORY)
		return -ESPIPE;
	if (cf->channel->size == PCIEDMA_SIZE_UNKNOWN && whence != SEEK_SET && whence != SEEK_CUR)
		return -EINVAL; /* nobody knows the end that it is counted from */
	return generic_file_llseek_size(file, offset, whence, cf->channel->size,
					cf->channel->size);
}

/* A broken engine does not block: its error is there at once. */
static bool lane_pollable(struct pciedma_lane *lane, bool *broken)
{
	struct pciedma_engine *engine;

	if (!lane)
		return false;
	engine = &lane->engine;
	guard(spinlock_irqsave)(&engine->lock);
	*broken |= engine->state == PCIEDMA_ENGINE_BROKEN;
	return engine->state == PCIEDMA_ENGINE_BROKEN || pciedma_queue_ready(&lane->queue);
}

static __poll_t channel_poll(struct file *file, poll_table *wait)
{
	struct pciedma_channel_file *cf = file->private_data;
	struct pciedma_channel *channel = cf->channel;
	bool broken = false;
	__poll_t mask = 0;

	poll_wait(file, &channel->poll_wait, wait);
	if (!pciedma_channel_enter(channel))
		return EPOLLHUP | EPOLLERR | (pciedma_file_has_results(cf) ? EPOLLPRI : 0);
	if ((file->f_mode & FMODE_READ) &&
	    lane_pollable(channel->by_direction[PCIEDMA_C2H], &broken))
		mask |= EPOLLIN | EPOLLRDNORM;
	if ((file->f_mode & FMODE_WRITE) &&
	    lane_pollable(channel->by_direction[PCIEDMA_H2C], &broken))
		mask |= EPOLLOUT | EPOLLWRNORM;
	if (pciedma_file_has_results(cf))
		mask |= EPOLLPRI;
	if (broken)
		mask |= EPOLLERR;
	if (READ_ONCE(channel->node->card.lost))
		mask |= EPOLLHUP | EPOLLERR;
	pciedma_channel_leave(channel);
	return mask;
}

/* io_uring cannot take back what it has handed in: the exit of its process does. */
static int channel_flush(struct file *file, fl_owner_t id)
{
	struct pciedma_channel_file *cf = file->private_data;
	struct pciedma_lane *lane;
	enum pciedma_direction i;

	if (!(current->flags & PF_EXITING) || !pciedma_channel_enter(cf->channel))
		return 0;
	for (i = 0; i < PCIEDMA_DIRECTIONS; i++) {
		lane = cf->channel->by_direction[i];
		if (lane)
			pciedma_aio_cancel(lane, pciedma_file_backlog(cf, lane), cf, id);
	}
	pciedma_file_stop_entries(cf, id);
	pciedma_channel_leave(cf->channel);
	return 0;
}

const struct file_operations pciedma_channel_fops = {
	.owner		= THIS_MODULE,
	.open		= channel_open,
	.flush		= channel_flush,
	.release	= channel_release,
	.read_iter	= pciedma_channel_read_iter,
	.write_iter	= pciedma_channel_write_iter,
	.splice_read	= copy_splice_read,
	.splice_write	= iter_file_splice_write,
	.fsync		= channel_fsync,
	.llseek		= channel_llseek,
	.poll		= channel_poll,
	.mmap		= pciedma_channel_mmap,
	.show_fdinfo	= pciedma_channel_show_fdinfo,
	.unlocked_ioctl	= pciedma_channel_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};
