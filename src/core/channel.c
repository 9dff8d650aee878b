// SPDX-License-Identifier: GPL-2.0-only
/*
 * Channels: their life, and the data nodes /dev/pciedma<card>c<channel>.
 */
#include <linux/compat.h>
#include <linux/freezer.h>
#include <linux/fs.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/splice.h>

#include <compat.h>

#include "core.h"

#define DEFAULT_TIMEOUT_NS	(10 * NSEC_PER_SEC)
/* A sleep and its wake-up cost about as much. */
#define DEFAULT_SPIN_US		50

/**
 * struct channel_file - one open file
 * @channel:    its channel; the file holds a reference to the device
 * @exclusive:  it was opened with O_EXCL
 * @cancels:    how often CANCEL was asked
 * @backlogs:   its postponed requests, by the engine's own direction
 * @lock:       protects @mode and @timeout_ns
 * @mode:       how its calls wait
 * @timeout_ns: how long
 */
struct channel_file {
	struct pciedma_channel *channel;
	bool exclusive;
	atomic_t cancels;
	struct pciedma_backlog backlogs[PCIEDMA_DIRECTIONS];
	spinlock_t lock; /* mode, timeout_ns */
	u32 mode;
	s64 timeout_ns;
};

static void channel_dev_release(struct device *dev)
{
	struct pciedma_channel *channel = container_of(dev, struct pciedma_channel, dev);
	enum pciedma_direction i;

	for (i = 0; i < PCIEDMA_DIRECTIONS; i++)
		kfree(channel->engines[i].priv);
	put_device(&channel->card->dev);
	kfree(channel);
}

static int engine_init(struct pciedma_channel *channel, enum pciedma_direction direction,
		       const struct pciedma_engine_desc *desc)
{
	struct pciedma_engine *engine = &channel->engines[direction];

	if (!desc)
		return 0;
	engine->channel = channel;
	engine->desc = desc;
	engine->index = channel->index * PCIEDMA_DIRECTIONS + direction;
	engine->direction = direction;
	engine->dma_direction = direction == PCIEDMA_C2H ? DMA_FROM_DEVICE : DMA_TO_DEVICE;
	spin_lock_init(&engine->lock);
	engine->state = PCIEDMA_ENGINE_PAUSED;
	INIT_LIST_HEAD(&engine->queue);
	INIT_LIST_HEAD(&engine->free);
	INIT_LIST_HEAD(&engine->waiters);
	INIT_LIST_HEAD(&engine->asyncs);
	INIT_LIST_HEAD(&engine->done);
	INIT_LIST_HEAD(&engine->deferred);
	INIT_LIST_HEAD(&engine->unmap);
	INIT_DELAYED_WORK(&engine->watch, pciedma_async_watch);
	INIT_LIST_HEAD(&engine->turns);
	INIT_LIST_HEAD(&engine->end_turns);
	timerqueue_init_head(&engine->deadlines);
	INIT_DELAYED_WORK(&engine->ender, pciedma_postponed_end_work);
	engine->spin_us = DEFAULT_SPIN_US;
	engine->drain_ms = desc->drain_ms;
	pciedma_rate_init(engine);
	channel->by_direction[direction] = engine;
	engine->priv = kzalloc(channel->card->type->engine_priv, GFP_KERNEL);
	return engine->priv ? 0 : -ENOMEM;
}

static int engines_init(struct pciedma_channel *channel, const struct pciedma_channel_desc *desc)
{
	int ret;

	ret = engine_init(channel, PCIEDMA_C2H, desc->c2h);
	if (ret || !desc->shared)
		return ret ?: engine_init(channel, PCIEDMA_H2C, desc->h2c);
	channel->engines[PCIEDMA_C2H].dma_direction = DMA_BIDIRECTIONAL;
	channel->by_direction[PCIEDMA_H2C] = &channel->engines[PCIEDMA_C2H];
	return 0;
}

/**
 * pciedma_channel_alloc() - make a channel
 * @card: its card
 * @desc: what it is
 *
 * Context: process.
 * Return: the channel, to be given back with put_device(), or an ERR_PTR.
 */
struct pciedma_channel *pciedma_channel_alloc(struct pciedma_card *card,
					      const struct pciedma_channel_desc *desc)
{
	struct pciedma_channel *channel = kzalloc(sizeof(*channel), GFP_KERNEL);
	int ret;

	if (!channel)
		return ERR_PTR(-ENOMEM);
	device_initialize(&channel->dev);
	channel->dev.groups = pciedma_channel_groups;
	channel->dev.release = channel_dev_release;
	channel->dev.parent = &card->dev;
	get_device(&card->dev);
	channel->card = card;
	channel->index = card->num_channels;
	channel->kind = desc->kind;
	channel->size = desc->size;
	init_waitqueue_head(&channel->poll_wait);
	mutex_init(&channel->open_lock);
	ret = engines_init(channel, desc);
	if (ret) {
		put_device(&channel->dev);
		return ERR_PTR(ret);
	}
	return channel;
}

static int channel_claim(struct pciedma_channel *channel, bool exclusive)
{
	guard(mutex)(&channel->open_lock);
	if (channel->exclusive || (exclusive && channel->opens))
		return -EBUSY;
	channel->exclusive = exclusive;
	channel->opens++;
	return 0;
}

static struct channel_file *channel_file_alloc(struct pciedma_channel *channel, bool exclusive)
{
	struct channel_file *cf = kzalloc(sizeof(*cf), GFP_KERNEL);
	enum pciedma_direction i;

	if (!cf)
		return NULL;
	cf->channel = channel;
	cf->exclusive = exclusive;
	for (i = 0; i < PCIEDMA_DIRECTIONS; i++)
		pciedma_backlog_init(&cf->backlogs[i]);
	spin_lock_init(&cf->lock);
	cf->mode = PCIEDMA_WAIT_ADAPTIVE;
	cf->timeout_ns = DEFAULT_TIMEOUT_NS;
	return cf;
}

static int channel_open(struct inode *inode, struct file *file)
{
	struct pciedma_channel *channel = container_of(inode->i_cdev, struct pciedma_channel, cdev);
	struct channel_file *cf;
	int ret;

	if (channel->kind == PCIEDMA_KIND_STREAM) {
		dev_info_ratelimited(&channel->dev, "stream channels are not supported yet\n");
		return -EOPNOTSUPP;
	}
	if (((file->f_mode & FMODE_READ) && !channel->by_direction[PCIEDMA_C2H]) ||
	    ((file->f_mode & FMODE_WRITE) && !channel->by_direction[PCIEDMA_H2C]))
		return -EOPNOTSUPP;
	if (!pciedma_card_enter(channel->card))
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
	file->f_mode |= FMODE_NOWAIT | FMODE_CAN_ODIRECT;
	if (channel->kind != PCIEDMA_KIND_MEMORY)
		ret = stream_open(inode, file);
out_leave:
	pciedma_card_leave(channel->card);
	return ret;
}

static int channel_release(struct inode *inode, struct file *file)
{
	struct channel_file *cf = file->private_data;
	struct pciedma_channel *channel = cf->channel;

	scoped_guard(mutex, &channel->open_lock) {
		channel->opens--;
		if (cf->exclusive)
			channel->exclusive = false;
	}
	kfree(cf);
	put_device(&channel->dev);
	return 0;
}

/* How much of a call may move. Returns bytes, 0 at the end of the memory, or an errno. */
static ssize_t transfer_limit(const struct pciedma_request *request, u64 position, size_t count)
{
	const struct pciedma_engine_desc *desc = request->engine->desc;
	struct pciedma_channel *channel = request->engine->channel;
	size_t left;
	u32 rest;

	if (count % max(desc->length_granularity, 1U))
		return -EINVAL;
	if (channel->kind == PCIEDMA_KIND_MESSAGE) {
		if (count > desc->max_dma && request->direction == PCIEDMA_H2C)
			return -EMSGSIZE;
		return min_t(size_t, count, desc->max_dma);
	}
	div_u64_rem(position, max(desc->address_alignment, 1U), &rest);
	if (rest)
		return -EINVAL;
	if (position < channel->size && channel->size - position >= count)
		return count;
	left = position < channel->size ? channel->size - position : 0;
	left -= left % max(desc->length_granularity, 1U);
	if (left)
		return left;
	return request->direction == PCIEDMA_C2H ? 0 : -ENOSPC;
}

/* io_uring's first attempt always says IOCB_NOWAIT. */
static bool asks_for_nowait(struct kiocb *iocb)
{
	return (iocb->ki_flags & IOCB_NOWAIT) &&
	       (is_sync_kiocb(iocb) || (iocb->ki_flags & IOCB_AIO_RW));
}

static bool engine_is_ready(struct pciedma_engine *engine)
{
	guard(spinlock_irqsave)(&engine->lock);
	return pciedma_engine_ready(engine);
}

static struct pciedma_backlog *file_backlog(struct channel_file *cf,
					    const struct pciedma_engine *engine)
{
	return &cf->backlogs[engine->direction];
}

static void request_init(struct pciedma_request *request, struct kiocb *iocb,
			 struct channel_file *cf)
{
	request->file = cf;
	request->open_file = cf;
	request->backlog = file_backlog(cf, request->engine);
	request->files = current->files;
	request->cancels = &cf->cancels;
	request->cancels_seen = atomic_read(&cf->cancels);
	scoped_guard(spinlock, &cf->lock) {
		request->mode = iocb->ki_flags & IOCB_HIPRI ? PCIEDMA_WAIT_POLL : cf->mode;
		request->timeout = cf->timeout_ns;
	}
	request->nonblock = !request->timeout || (iocb->ki_filp->f_flags & O_NONBLOCK) ||
			    asks_for_nowait(iocb);
	if (!request->timeout)
		request->timeout = pciedma_engine_drain_bound_ns(request->engine);
}

/* The kernel cancels one request, which is alive as long as this runs. */
static int channel_cancel_iocb(struct kiocb *iocb)
{
	struct channel_file *cf = iocb->ki_filp->private_data;
	enum pciedma_direction direction = iocb->ki_flags & IOCB_WRITE ? PCIEDMA_H2C : PCIEDMA_C2H;

	pciedma_async_cancel_iocb(cf->channel->by_direction[direction], iocb);
	return 0;
}

static ssize_t channel_async_rw(struct pciedma_request *request, struct kiocb *iocb,
				struct iov_iter *iter)
{
	ssize_t ret;

	pciedma_async_begin(iocb, channel_cancel_iocb);
	ret = pciedma_async_submit(request, iocb, iter, false);
	if (ret == -EAGAIN && (!request->nonblock || engine_is_ready(request->engine)))
		ret = pciedma_postpone(request, iocb, iter);
	return ret;
}

/*
 * Pages of the kernel's own, such as splice() reads into, have been anybody's. If
 * the card writes less than it says, user space must not see that.
 */
static void iter_clear(const struct iov_iter *iter)
{
	struct iov_iter rest = *iter;

	iov_iter_zero(iov_iter_count(iter), &rest);
}

/* If the thread is to be frozen before all has moved, @freezes: then what is left has not begun. */
static ssize_t channel_rw(struct kiocb *iocb, struct iov_iter *iter,
			  enum pciedma_direction direction, bool *freezes)
{
	struct channel_file *cf = iocb->ki_filp->private_data;
	bool memory = cf->channel->kind == PCIEDMA_KIND_MEMORY;
	struct pciedma_request request = {
		.engine = cf->channel->by_direction[direction],
		.direction = direction,
	};
	u64 address = memory ? iocb->ki_pos : 0;
	ssize_t ret;

	if (!iov_iter_count(iter))
		return 0;
	/* There is no place behind all that others have written. */
	if (memory && direction == PCIEDMA_H2C && (iocb->ki_flags & IOCB_APPEND))
		return -EOPNOTSUPP;
	request_init(&request, iocb, cf);
	ret = transfer_limit(&request, address, iov_iter_count(iter));
	if (ret <= 0)
		return ret;
	iov_iter_truncate(iter, ret);
	if (is_sync_kiocb(iocb) && direction == PCIEDMA_C2H && iov_iter_is_bvec(iter))
		iter_clear(iter);
	if (is_sync_kiocb(iocb))
		ret = pciedma_sync_run(&request, iter, address);
	else
		ret = channel_async_rw(&request, iocb, iter);
	if (ret > 0 && memory)
		iocb->ki_pos += ret;
	*freezes = request.freezes;
	return ret == -EINTR ? -ERESTARTSYS : ret;
}

static ssize_t channel_gated_rw(struct kiocb *iocb, struct iov_iter *iter,
				enum pciedma_direction direction)
{
	struct channel_file *cf = iocb->ki_filp->private_data;
	struct pciedma_card *card = cf->channel->card;
	ssize_t done = 0;
	bool freezes;
	ssize_t ret;

	for (;;) {
		freezes = false;
		if (!pciedma_card_enter(card)) {
			ret = -ENODEV;
			break;
		}
		ret = channel_rw(iocb, iter, direction, &freezes);
		if (ret == -EIOCBQUEUED)
			return ret;
		pciedma_card_leave(card);
		if (ret > 0)
			done += ret;
		if (!freezes)
			break;
		try_to_freeze();
	}
	return done ?: ret;
}

static ssize_t channel_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	return channel_gated_rw(iocb, to, PCIEDMA_C2H);
}

static ssize_t channel_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	return channel_gated_rw(iocb, from, PCIEDMA_H2C);
}

/* What write() has told of is in the card already. */
static int channel_fsync(struct file *file, loff_t start, loff_t end, int datasync)
{
	struct channel_file *cf = file->private_data;
	struct pciedma_card *card = cf->channel->card;
	int ret;

	if (!pciedma_card_enter(card))
		return -ENODEV;
	ret = READ_ONCE(card->lost) ? -ENODEV : 0;
	pciedma_card_leave(card);
	return ret;
}

static loff_t channel_llseek(struct file *file, loff_t offset, int whence)
{
	struct channel_file *cf = file->private_data;

	if (cf->channel->kind != PCIEDMA_KIND_MEMORY)
		return -ESPIPE;
	if (cf->channel->size == PCIEDMA_SIZE_UNKNOWN && whence != SEEK_SET && whence != SEEK_CUR)
		return -EINVAL; /* nobody knows the end that it is counted from */
	return generic_file_llseek_size(file, offset, whence, cf->channel->size,
					cf->channel->size);
}

/* A broken engine does not block: its error is there at once. */
static bool engine_pollable(struct pciedma_engine *engine, bool *broken)
{
	if (!engine)
		return false;
	guard(spinlock_irqsave)(&engine->lock);
	*broken |= engine->state == PCIEDMA_ENGINE_BROKEN;
	return engine->state == PCIEDMA_ENGINE_BROKEN || pciedma_engine_ready(engine);
}

static __poll_t channel_poll(struct file *file, poll_table *wait)
{
	struct channel_file *cf = file->private_data;
	struct pciedma_channel *channel = cf->channel;
	bool broken = false;
	__poll_t mask = 0;

	poll_wait(file, &channel->poll_wait, wait);
	if (!pciedma_card_enter(channel->card))
		return EPOLLHUP | EPOLLERR;
	if ((file->f_mode & FMODE_READ) &&
	    engine_pollable(channel->by_direction[PCIEDMA_C2H], &broken))
		mask |= EPOLLIN | EPOLLRDNORM;
	if ((file->f_mode & FMODE_WRITE) &&
	    engine_pollable(channel->by_direction[PCIEDMA_H2C], &broken))
		mask |= EPOLLOUT | EPOLLWRNORM;
	if (broken)
		mask |= EPOLLERR;
	if (READ_ONCE(channel->card->lost))
		mask |= EPOLLHUP | EPOLLERR;
	pciedma_card_leave(channel->card);
	return mask;
}

static void engine_info(struct pciedma_engine *engine, struct pciedma_engine_info *info)
{
	const struct pciedma_engine_desc *desc;

	if (!engine)
		return;
	desc = engine->desc;
	info->flags = PCIEDMA_ENGINE_PRESENT;
	info->address_bits = desc->address_bits;
	info->max_dma = desc->max_dma;
	info->address_alignment = max(desc->address_alignment, 1U);
	info->length_granularity = max(desc->length_granularity, 1U);
	info->buffers = desc->buffers;
	info->buffer_size = desc->buffer_size;
	info->drain_ms = READ_ONCE(engine->drain_ms);
}

static long channel_info(struct pciedma_channel *channel, void __user *argument)
{
	struct pciedma_channel_info info;

	if (copy_from_user(&info, argument, sizeof(info)))
		return -EFAULT;
	if (info.flags || info.c2h.reserved || info.h2c.reserved ||
	    memchr_inv(info.reserved, 0, sizeof(info.reserved)))
		return -EINVAL;
	memset(&info, 0, sizeof(info));
	info.card = channel->card->index;
	info.channel = channel->index;
	info.kind = channel->kind;
	info.size = channel->size;
	engine_info(channel->by_direction[PCIEDMA_C2H], &info.c2h);
	engine_info(channel->by_direction[PCIEDMA_H2C], &info.h2c);
	return copy_to_user(argument, &info, sizeof(info)) ? -EFAULT : 0;
}

static long channel_get_wait(struct channel_file *cf, void __user *argument)
{
	struct pciedma_wait wait;

	if (copy_from_user(&wait, argument, sizeof(wait)))
		return -EFAULT;
	if (memchr_inv(&wait, 0, sizeof(wait)))
		return -EINVAL;
	scoped_guard(spinlock, &cf->lock) {
		wait.mode = cf->mode;
		wait.timeout_ns = cf->timeout_ns;
	}
	return copy_to_user(argument, &wait, sizeof(wait)) ? -EFAULT : 0;
}

static long channel_set_wait(struct channel_file *cf, void __user *argument)
{
	struct pciedma_wait wait;

	if (copy_from_user(&wait, argument, sizeof(wait)))
		return -EFAULT;
	if (wait.flags || memchr_inv(wait.reserved, 0, sizeof(wait.reserved)) ||
	    wait.mode > PCIEDMA_WAIT_ADAPTIVE || wait.timeout_ns < PCIEDMA_TIMEOUT_NONE)
		return -EINVAL;
	scoped_guard(spinlock, &cf->lock) {
		cf->mode = wait.mode;
		cf->timeout_ns = wait.timeout_ns;
	}
	return 0;
}

static void channel_cancel_direction(struct channel_file *cf, enum pciedma_direction direction)
{
	struct pciedma_engine *engine = cf->channel->by_direction[direction];

	if (!engine)
		return;
	scoped_guard(spinlock_irqsave, &engine->lock)
		pciedma_engine_cancel_file(engine, direction, cf);
	pciedma_async_cancel(engine, file_backlog(cf, engine), cf, NULL);
}

static long channel_cancel(struct channel_file *cf, void __user *argument)
{
	struct pciedma_cancel cancel;

	if (copy_from_user(&cancel, argument, sizeof(cancel)))
		return -EFAULT;
	if (memchr_inv(&cancel, 0, sizeof(cancel)))
		return -EINVAL;
	atomic_inc(&cf->cancels);
	channel_cancel_direction(cf, PCIEDMA_C2H);
	channel_cancel_direction(cf, PCIEDMA_H2C);
	return 0;
}

static long channel_ioctl(struct file *file, unsigned int command, unsigned long value)
{
	struct channel_file *cf = file->private_data;
	struct pciedma_card *card = cf->channel->card;
	void __user *argument = (void __user *)value;
	long ret;

	if (!pciedma_card_enter(card))
		return -ENODEV;
	switch (command) {
	case PCIEDMA_IOC_CARD_INFO:
		ret = pciedma_card_get_info(card, argument);
		break;
	case PCIEDMA_IOC_CHANNEL_INFO:
		ret = channel_info(cf->channel, argument);
		break;
	case PCIEDMA_IOC_GET_WAIT:
		ret = channel_get_wait(cf, argument);
		break;
	case PCIEDMA_IOC_SET_WAIT:
		ret = channel_set_wait(cf, argument);
		break;
	case PCIEDMA_IOC_CANCEL:
		ret = channel_cancel(cf, argument);
		break;
	default:
		ret = -ENOTTY;
	}
	pciedma_card_leave(card);
	return ret;
}

/* io_uring cannot take back what it has handed in: the exit of its process does. */
static int channel_flush(struct file *file, fl_owner_t id)
{
	struct channel_file *cf = file->private_data;
	struct pciedma_engine *engine;
	enum pciedma_direction i;

	if (!(current->flags & PF_EXITING) || !pciedma_card_enter(cf->channel->card))
		return 0;
	for (i = 0; i < PCIEDMA_DIRECTIONS; i++) {
		engine = cf->channel->by_direction[i];
		if (engine)
			pciedma_async_cancel(engine, file_backlog(cf, engine), cf, id);
	}
	pciedma_card_leave(cf->channel->card);
	return 0;
}

static const struct file_operations channel_fops = {
	.owner		= THIS_MODULE,
	.open		= channel_open,
	.flush		= channel_flush,
	.release	= channel_release,
	.read_iter	= channel_read_iter,
	.write_iter	= channel_write_iter,
	.splice_read	= copy_splice_read,
	.splice_write	= iter_file_splice_write,
	.fsync		= channel_fsync,
	.llseek		= channel_llseek,
	.poll		= channel_poll,
	.unlocked_ioctl	= channel_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

/**
 * pciedma_channel_register() - make its node
 * @channel: the channel
 *
 * Context: process.
 * Return: 0 or an errno.
 */
int pciedma_channel_register(struct pciedma_channel *channel)
{
	int ret;

	ret = dev_set_name(&channel->dev, "pciedma%dc%u", channel->card->index, channel->index);
	if (ret)
		return ret;
	return pciedma_node_add(&channel->cdev, &channel->dev, &channel_fops);
}
