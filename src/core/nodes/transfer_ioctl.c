// SPDX-License-Identifier: GPL-2.0-only
/*
 * TRANSFER and its kin: parts of buffers are moved.
 */
#include <linux/fs.h>
#include <linux/uaccess.h>

#include "channel.h"

/* What the channel says of an entry: 0 or an errno. */
static int check_place(const struct pciedma_channel *channel, const struct pciedma_lane *lane,
		       const struct pciedma_transfer_entry *asked)
{
	const struct pciedma_engine_desc *desc = lane->engine.desc;
	u32 granularity = max(desc->length_granularity, 1U);
	u32 alignment = max(desc->address_alignment, 1U);

	if ((u32)asked->length % granularity)
		return -EINVAL;
	if (channel->kind == PCIEDMA_KIND_MESSAGE) {
		if (asked->address)
			return -EINVAL;
		return asked->length > desc->max_dma ? -EMSGSIZE : 0;
	}
	if (!IS_ALIGNED(asked->address, alignment))
		return -EINVAL;
	if (asked->address > channel->size || asked->length > channel->size - asked->address)
		return -ENOSPC;
	return 0;
}

/* What of an entry needs nothing but itself and the open file. */
static int check_entry(const struct file *file, const struct pciedma_transfer_entry *asked)
{
	u32 direction = asked->flags & (PCIEDMA_ENTRY_C2H | PCIEDMA_ENTRY_H2C);

	if ((asked->flags & ~(PCIEDMA_ENTRY_C2H | PCIEDMA_ENTRY_H2C | PCIEDMA_ENTRY_BARRIER)) ||
	    asked->reserved[0] || asked->reserved[1])
		return -EINVAL;
	if (!asked->length || asked->length > PCIEDMA_ENTRY_MAX)
		return -EINVAL;
	if (direction == PCIEDMA_ENTRY_C2H)
		return file->f_mode & FMODE_READ ? 0 : -EBADF;
	if (direction == PCIEDMA_ENTRY_H2C)
		return file->f_mode & FMODE_WRITE ? 0 : -EBADF;
	return -EINVAL;
}

static int check_part(const struct pciedma_lane *lane, const struct pciedma_buffer *buffer,
		      const struct pciedma_transfer_entry *asked)
{
	if (asked->offset >= buffer->size || asked->length > buffer->size - asked->offset)
		return -EINVAL;
	if (!pciedma_buffer_moves(buffer, asked->flags & PCIEDMA_ENTRY_C2H ?
				  DMA_FROM_DEVICE : DMA_TO_DEVICE))
		return -EACCES;
	return pciedma_transfer_may_take(&lane->queue, buffer, asked->offset, asked->length) ?
		0 : -EINVAL;
}

/* What others still do with imported memory is waited for as long as the open file waits. */
static int wait_for_others(const struct file *file, const struct pciedma_entry *entry,
			   unsigned long since)
{
	struct pciedma_channel_file *cf = file->private_data;
	long patience = 0;
	int ret;

	if (!(file->f_flags & O_NONBLOCK))
		patience = pciedma_wait_jiffies(READ_ONCE(cf->timeout_ns));
	patience = pciedma_jiffies_left(since, patience);
	ret = pciedma_buffer_settled(entry->buffer, entry->direction == PCIEDMA_C2H, patience);
	return ret == -ETIMEDOUT && !patience ? -EAGAIN : ret;
}

/* Let an entry of a call that began @since be what is asked for. Then it holds its buffer. */
static int fill_entry(struct file *file, struct pciedma_entry *entry,
		      const struct pciedma_transfer_entry *asked, unsigned long since)
{
	struct pciedma_channel_file *cf = file->private_data;
	int ret;

	ret = check_entry(file, asked);
	if (ret)
		return ret;
	entry->direction = asked->flags & PCIEDMA_ENTRY_C2H ? PCIEDMA_C2H : PCIEDMA_H2C;
	entry->lane = cf->channel->by_direction[entry->direction];
	ret = check_place(cf->channel, entry->lane, asked);
	if (ret)
		return ret;
	entry->buffer = pciedma_handles_get(&cf->handles, asked->buffer);
	if (!entry->buffer)
		return -ENOENT;
	ret = check_part(entry->lane, entry->buffer, asked);
	if (!ret)
		ret = wait_for_others(file, entry, since);
	if (ret) {
		pciedma_mem_put(&entry->buffer->mem, true);
		entry->buffer = NULL;
		return ret;
	}
	entry->offset = asked->offset;
	entry->length = asked->length;
	entry->address = asked->address;
	entry->tag = asked->tag;
	entry->barrier = asked->flags & PCIEDMA_ENTRY_BARRIER;
	entry->quiet = false;
	entry->polled = false;
	entry->files = current->files;
	entry->bytes = 0;
	entry->error = 0;
	return 0;
}

static void give_up_entry(struct pciedma_entry *entry)
{
	struct pciedma_entry *each;

	for (each = entry; each; each = each->next) {
		if (each->buffer)
			pciedma_mem_put(&each->buffer->mem, true);
		each->buffer = NULL;
	}
	pciedma_entries_give(entry);
}

/*
 * Fill in as many of a call's entries as can be taken; the others go back. Returns how many, or the
 * errno of the first.
 */
static int fill_entries(struct file *file, struct pciedma_entry *first,
			const struct pciedma_transfer_entry __user *user)
{
	struct pciedma_transfer_entry asked;
	struct pciedma_entry *last = NULL;
	unsigned long since = jiffies;
	struct pciedma_entry *entry;
	int count = 0;
	int ret = 0;

	for (entry = first; entry; entry = entry->next) {
		if (copy_from_user(&asked, user++, sizeof(asked)))
			ret = -EFAULT;
		if (!ret)
			ret = fill_entry(file, entry, &asked, since);
		if (ret)
			break;
		last = entry;
		count++;
	}
	if (entry) {
		if (last)
			last->next = NULL;
		give_up_entry(entry);
	}
	return count ?: ret;
}

/*
 * Prepare the entries of a call, inside the gate. How long they may be without progress: of what
 * nobody waits for never long.
 */
static void prepare_entries(struct pciedma_entry *first, s64 timeout, u32 flags)
{
	bool submitted = flags & PCIEDMA_TRANSFER_SUBMIT;
	struct pciedma_entry *entry;
	ktime_t deadline;

	if (!timeout)
		timeout = pciedma_engine_drain_bound_ns(&first->lane->engine);
	if (submitted && (timeout < 0 || timeout > PCIEDMA_TIMEOUT_SHORT_NS))
		timeout = PCIEDMA_TIMEOUT_SHORT_NS;
	else if (timeout < 0)
		timeout = S64_MAX / 4;
	deadline = ktime_add_ns(ktime_get(), timeout);
	for (entry = first; entry; entry = entry->next) {
		entry->timeout = timeout;
		entry->deadline.expires = deadline;
		entry->alone = flags & PCIEDMA_TRANSFER_EACH;
		pciedma_buffer_for_device(entry->buffer, entry->offset, entry->length);
	}
}

/* Whether a call need not queue, as one that must not wants it. */
static bool call_is_ready(const struct pciedma_entry *first)
{
	const struct pciedma_entry *entry;

	for (entry = first; entry; entry = entry->next) {
		guard(spinlock_irqsave)(&entry->lane->engine.lock);
		if (!pciedma_queue_ready(&entry->lane->queue))
			return false;
	}
	return true;
}

/* Tell of a call's entries, which then are free. Returns how many were whole, or an errno. */
static long tell_call(struct pciedma_entry *first, struct pciedma_transfer_result __user *user)
{
	long ret = first->call.whole;
	struct pciedma_entry *entry, *next;
	struct pciedma_transfer_result result;
	bool fault = false;

	if (!ret && !first->call.moved)
		ret = first->error == -EINTR ? -ERESTARTSYS : first->error;
	for (entry = first; entry; entry = next) {
		next = entry->next;
		result = (struct pciedma_transfer_result) {
			.tag = entry->tag, .bytes = entry->bytes, .error = -entry->error,
		};
		fault |= user && copy_to_user(user++, &result, sizeof(result));
	}
	for (entry = first; entry; entry = next) {
		next = entry->next;
		pciedma_result_taken(entry);
	}
	return fault ? -EFAULT : ret;
}

/* Inside the gate for each of the entries. */
static long submit_call(struct pciedma_entry *first, long count)
{
	pciedma_entries_start(pciedma_call_begin(first, NULL));
	return count;
}

static long run_call(struct pciedma_entry *first, u64 results, enum pciedma_wait_mode mode)
{
	struct pciedma_caller caller = { .engine = &first->lane->engine };
	DECLARE_COMPLETION_ONSTACK(all);

	pciedma_call_run(&caller, first, &all, mode);
	return tell_call(first, u64_to_user_ptr(results));
}

/* Let a call begin. It is outside the gate but for what its entries stay inside for. */
static long begin_call(const struct file *file, struct pciedma_entry *first, long count,
		       struct pciedma_transfer_batch *batch)
{
	struct pciedma_channel_file *cf = file->private_data;
	bool submitted = batch->flags & PCIEDMA_TRANSFER_SUBMIT;
	struct pciedma_card *card = &cf->channel->node->card;
	enum pciedma_wait_mode mode;
	s64 timeout;

	scoped_guard(spinlock, &cf->lock) {
		timeout = cf->timeout_ns;
		mode = cf->mode;
	}
	if (!pciedma_card_enter(card)) {
		give_up_entry(first);
		return -ENODEV;
	}
	if (!submitted && (!timeout || (file->f_flags & O_NONBLOCK)) && !call_is_ready(first)) {
		pciedma_card_leave(card);
		give_up_entry(first);
		return -EAGAIN;
	}
	batch->taken = count;
	if (count > 1)
		pciedma_card_stay(card, count - 1);
	prepare_entries(first, timeout, batch->flags);
	return submitted ? submit_call(first, count) :
			   run_call(first, batch->results, mode);
}

static long transfer(struct file *file, struct pciedma_transfer_batch *batch)
{
	struct pciedma_channel_file *cf = file->private_data;
	struct pciedma_entries *set;
	struct pciedma_entry *first;
	long ret;

	if ((batch->flags & ~(PCIEDMA_TRANSFER_SUBMIT | PCIEDMA_TRANSFER_EACH)) || !batch->count ||
	    batch->reserved || (batch->results && (batch->flags & PCIEDMA_TRANSFER_SUBMIT)))
		return -EINVAL;
	set = pciedma_file_entries(cf);
	if (!set)
		return -ENOMEM;
	first = pciedma_entries_take(set, batch->count);
	if (!first)
		return -EAGAIN;
	ret = fill_entries(file, first, u64_to_user_ptr(batch->entries));
	return ret > 0 ? begin_call(file, first, ret, batch) : ret;
}

static long transfer_and_tell(struct file *file, struct pciedma_ioctl *ioctl)
{
	struct pciedma_transfer_batch *batch = &ioctl->argument.batch;
	struct pciedma_transfer_batch __user *user = ioctl->user;
	long ret;

	batch->taken = 0;
	ret = transfer(file, batch);
	if (batch->flags & PCIEDMA_TRANSFER_SUBMIT)
		return ret;
	return put_user(batch->taken, &user->taken) ? -EFAULT : ret;
}

/**
 * pciedma_transfer_ioctl() - the ioctls of transfers
 * @file:  the open file
 * @ioctl: the ioctl; what its argument tells goes back from here
 *
 * Context: process, outside the gate: they touch user memory.
 * Return: what it returns; -ENOTTY if it is none of them.
 */
long pciedma_transfer_ioctl(struct file *file, struct pciedma_ioctl *ioctl)
{
	switch (ioctl->command) {
	case PCIEDMA_IOC_TRANSFER:
		return transfer_and_tell(file, ioctl);
	case PCIEDMA_IOC_TRANSFER_WAIT:
		return pciedma_results_take(file->private_data, &ioctl->argument.transfer_wait);
	case PCIEDMA_IOC_TRANSFER_EVENTFD:
		return pciedma_results_tell(file->private_data, &ioctl->argument.transfer_eventfd);
	default:
		return -ENOTTY;
	}
}
