// SPDX-License-Identifier: GPL-2.0-only
/*
 * TRANSFER and its kin: parts of buffers are moved.
 */
#include <linux/eventfd.h>
#include <linux/fs.h>
#include <linux/uaccess.h>

#include "channel.h"

/* Results that are told at a time. */
#define TOLD_AT_ONCE	16

/* An open file's entries, which it has from its first TRANSFER on. */
static struct pciedma_entries *file_entries(struct pciedma_channel_file *cf)
{
	struct pciedma_channel *channel = cf->channel;
	struct pciedma_entries *set;

	set = smp_load_acquire(&cf->entries); /* all of it */
	if (set)
		return set;
	guard(mutex)(&channel->open_lock);
	if (cf->entries)
		return cf->entries;
	set = pciedma_entries_alloc(cf, &channel->poll_wait);
	if (!set)
		return NULL;
	set->closed = channel->closed;
	list_add(&set->node, &channel->entries);
	smp_store_release(&cf->entries, set); /* all of it is seen, if it is */
	return set;
}

/* What the channel says of an entry: 0 or an errno. */
static int check_place(const struct pciedma_channel *channel, const struct pciedma_lane *lane,
		       const struct pciedma_transfer_entry *asked)
{
	const struct pciedma_engine_desc *desc = lane->engine.desc;
	u32 granularity = max(desc->length_granularity, 1U);
	u32 alignment = max(desc->address_alignment, 1U);

	if (asked->length % granularity)
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

static long wait_jiffies(s64 timeout_ns)
{
	if (timeout_ns < 0)
		return MAX_SCHEDULE_TIMEOUT;
	return timeout_ns ? min_t(u64, nsecs_to_jiffies64(timeout_ns) + 1,
				  MAX_SCHEDULE_TIMEOUT - 1) : 0;
}

/* What others still do with imported memory is waited for as long as the open file waits. */
static int wait_for_others(const struct file *file, const struct pciedma_entry *entry)
{
	struct pciedma_channel_file *cf = file->private_data;
	long patience;
	int ret;

	patience = file->f_flags & O_NONBLOCK ? 0 : wait_jiffies(READ_ONCE(cf->timeout_ns));
	ret = pciedma_buffer_settled(entry->buffer, entry->direction == PCIEDMA_C2H, patience);
	return ret == -ETIMEDOUT && !patience ? -EAGAIN : ret;
}

/* Let an entry be what is asked for. Then it holds its buffer. */
static int fill_entry(struct file *file, struct pciedma_entry *entry,
		      const struct pciedma_transfer_entry *asked)
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
		ret = wait_for_others(file, entry);
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
	struct pciedma_entry *entry;
	int count = 0;
	int ret = 0;

	for (entry = first; entry; entry = entry->next) {
		if (copy_from_user(&asked, user++, sizeof(asked)))
			ret = -EFAULT;
		if (!ret)
			ret = fill_entry(file, entry, &asked);
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
 * What the entries of a call have in common. How long they may be without progress: of what nobody
 * waits for never long.
 */
static void set_terms(struct pciedma_entry *first, s64 timeout, u32 flags)
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

	if (!ret && !first->bytes)
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
	set_terms(first, timeout, batch->flags);
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
	set = file_entries(cf);
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

/* Take results until there are no more, or as many as are wanted. Returns how many, or -EFAULT. */
static long tell_results(struct pciedma_entries *set,
			 struct pciedma_transfer_result __user *user, u32 most)
{
	struct pciedma_entry *some[TOLD_AT_ONCE];
	struct pciedma_transfer_result told[TOLD_AT_ONCE];
	unsigned int count, i;
	u32 done = 0;

	while (done < most) {
		count = pciedma_results_peek(set, some, min_t(u32, most - done, TOLD_AT_ONCE));
		if (!count)
			break;
		for (i = 0; i < count; i++)
			told[i] = (struct pciedma_transfer_result) {
				.tag = some[i]->tag, .bytes = some[i]->bytes,
				.error = -some[i]->error,
			};
		if (copy_to_user(user + done, told, count * sizeof(*told))) {
			pciedma_results_back(set, some, count);
			return done ?: -EFAULT;
		}
		for (i = 0; i < count; i++)
			pciedma_result_taken(some[i]);
		done += count;
	}
	return done;
}

static long jiffies_left(unsigned long begin, long patience)
{
	if (patience == MAX_SCHEDULE_TIMEOUT)
		return patience;
	return max(patience - (long)(jiffies - begin), 0L);
}

static long transfer_wait(struct pciedma_channel_file *cf, const struct pciedma_transfer_wait *wait)
{
	enum pciedma_direction any = cf->channel->by_direction[PCIEDMA_C2H] ? PCIEDMA_C2H :
									     PCIEDMA_H2C;
	struct pciedma_caller caller = { .engine = &cf->channel->by_direction[any]->engine };
	unsigned long begin = jiffies;
	struct pciedma_entries *set;
	long patience, told;
	int ret;

	if (wait->flags || wait->reserved || !wait->max || wait->min > wait->max ||
	    wait->min > PCIEDMA_ENTRIES || wait->timeout_ns < PCIEDMA_TIMEOUT_NONE)
		return -EINVAL;
	set = file_entries(cf);
	if (!set)
		return -ENOMEM;
	patience = wait_jiffies(wait->timeout_ns);
	for (;;) {
		ret = pciedma_results_wait(set, &caller, wait->min, jiffies_left(begin, patience));
		if (ret < 0)
			return -ERESTARTSYS;
		told = tell_results(set, u64_to_user_ptr(wait->results), wait->max);
		if (told || !wait->min)
			return told;
		if (!ret)
			return -ETIMEDOUT;
		if (READ_ONCE(set->closed))
			return -ENODEV;
		/* Others have taken them. */
	}
}

static long transfer_eventfd(struct pciedma_channel_file *cf,
			     const struct pciedma_transfer_eventfd *asked)
{
	struct eventfd_ctx *eventfd = NULL;
	struct pciedma_entries *set;

	if (asked->flags || asked->eventfd < -1 ||
	    memchr_inv(asked->reserved, 0, sizeof(asked->reserved)))
		return -EINVAL;
	set = file_entries(cf);
	if (!set)
		return -ENOMEM;
	if (asked->eventfd >= 0) {
		eventfd = eventfd_ctx_fdget(asked->eventfd);
		if (IS_ERR(eventfd))
			return PTR_ERR(eventfd);
	}
	scoped_guard(spinlock_irqsave, &set->lock)
		swap(set->eventfd, eventfd);
	if (eventfd)
		eventfd_ctx_put(eventfd);
	return 0;
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
		return transfer_wait(file->private_data, &ioctl->argument.transfer_wait);
	case PCIEDMA_IOC_TRANSFER_EVENTFD:
		return transfer_eventfd(file->private_data, &ioctl->argument.transfer_eventfd);
	default:
		return -ENOTTY;
	}
}

/**
 * pciedma_file_has_results() - whether submitted entries have ended
 * @cf: the open file
 *
 * Return: true if so.
 */
bool pciedma_file_has_results(struct pciedma_channel_file *cf)
{
	struct pciedma_entries *set = READ_ONCE(cf->entries);

	return set && READ_ONCE(set->num_results);
}
