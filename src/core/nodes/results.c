// SPDX-License-Identifier: GPL-2.0-only
/*
 * What became of entries that were submitted: an open file's results, and who is told of them.
 */
#include <linux/eventfd.h>
#include <linux/fs.h>
#include <linux/uaccess.h>

#include "channel.h"

/* Results that are told at a time. */
#define TOLD_AT_ONCE	16

/**
 * pciedma_file_entries() - an open file's entries, which it has from its first TRANSFER on
 * @cf: the open file
 *
 * Context: process.
 * Return: its set; NULL if there is no memory.
 */
struct pciedma_entries *pciedma_file_entries(struct pciedma_channel_file *cf)
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

/**
 * pciedma_file_stop_entries() - cancel an open file's entries, if it has any
 * @cf:    the open file
 * @files: the process whose they are; NULL: of all processes
 *
 * Context: process.
 */
void pciedma_file_stop_entries(struct pciedma_channel_file *cf, const void *files)
{
	struct pciedma_entries *set = smp_load_acquire(&cf->entries); /* all of it */

	if (set)
		pciedma_entries_stop(set, files, -ECANCELED);
}

/**
 * pciedma_wait_jiffies() - how long to sleep for a time
 * @timeout_ns: nanoseconds; negative: no bound
 *
 * Return: jiffies, rounded up.
 */
long pciedma_wait_jiffies(s64 timeout_ns)
{
	if (timeout_ns < 0)
		return MAX_SCHEDULE_TIMEOUT;
	return timeout_ns ? min_t(u64, nsecs_to_jiffies64(timeout_ns) + 1,
				  MAX_SCHEDULE_TIMEOUT - 1) : 0;
}

/* Tell of the first of some results, which then are free. Returns how many; 0 if it cannot. */
static unsigned int tell_some(struct list_head *got, struct pciedma_transfer_result __user *user)
{
	struct pciedma_transfer_result told[TOLD_AT_ONCE];
	struct pciedma_entry *entry, *next;
	unsigned int count = 0;
	unsigned int taken = 0;

	list_for_each_entry(entry, got, node) {
		told[count] = (struct pciedma_transfer_result) {
			.tag = entry->tag, .bytes = entry->bytes, .error = -entry->error,
		};
		if (++count == TOLD_AT_ONCE)
			break;
	}
	if (copy_to_user(user, told, count * sizeof(*told)))
		return 0;
	list_for_each_entry_safe(entry, next, got, node) {
		list_del_init(&entry->node);
		pciedma_result_taken(entry);
		if (++taken == count)
			break;
	}
	return count;
}

/* Take results, if there are so many. Returns how many, or -EFAULT; what is not told stays. */
static long tell_results(struct pciedma_entries *set,
			 struct pciedma_transfer_result __user *user, u32 min, u32 most)
{
	LIST_HEAD(got);
	unsigned int left = pciedma_results_get(set, &got, min, most);
	unsigned int count;
	long done = 0;

	for (; left; left -= count, done += count) {
		count = tell_some(&got, user + done);
		if (!count) {
			pciedma_results_back(set, &got, left);
			return done ? done : -EFAULT;
		}
	}
	return done;
}

/**
 * pciedma_jiffies_left() - how long to go on waiting
 * @begin:    when it began
 * @patience: how long in all, jiffies; MAX_SCHEDULE_TIMEOUT: no bound
 *
 * Return: jiffies.
 */
long pciedma_jiffies_left(unsigned long begin, long patience)
{
	if (patience == MAX_SCHEDULE_TIMEOUT)
		return patience;
	return max(patience - (long)(jiffies - begin), 0L);
}

/**
 * pciedma_results_take() - TRANSFER_WAIT
 * @cf:   the open file
 * @wait: what is asked for
 *
 * Context: process, outside the gate.
 * Return: what it returns.
 */
long pciedma_results_take(struct pciedma_channel_file *cf, const struct pciedma_transfer_wait *wait)
{
	enum pciedma_direction any = cf->channel->by_direction[PCIEDMA_C2H] ? PCIEDMA_C2H :
									     PCIEDMA_H2C;
	struct pciedma_caller caller = {
		.engine = &cf->channel->by_direction[any]->engine, .only_waits = true,
	};
	unsigned long begin = jiffies;
	struct pciedma_entries *set;
	long patience, told;
	int ret;

	if (wait->flags || wait->reserved || !wait->max || wait->min > wait->max ||
	    wait->min > PCIEDMA_ENTRIES || wait->timeout_ns < PCIEDMA_TIMEOUT_NONE)
		return -EINVAL;
	set = pciedma_file_entries(cf);
	if (!set)
		return -ENOMEM;
	patience = pciedma_wait_jiffies(wait->timeout_ns);
	for (;;) {
		ret = pciedma_results_wait(set, &caller, wait->min,
					   pciedma_jiffies_left(begin, patience));
		if (ret < 0)
			return -ERESTARTNOHAND; /* its time is not to begin anew by a handler */
		told = tell_results(set, u64_to_user_ptr(wait->results),
				    ret && !READ_ONCE(set->closed) ? wait->min : 0, wait->max);
		if (told || !wait->min)
			return told;
		if (!ret)
			return -ETIMEDOUT;
		if (READ_ONCE(set->closed))
			return -ENODEV;
		/* Others have taken them. */
	}
}

/**
 * pciedma_results_tell() - TRANSFER_EVENTFD
 * @cf:    the open file
 * @asked: what is asked for
 *
 * Context: process.
 * Return: what it returns.
 */
long pciedma_results_tell(struct pciedma_channel_file *cf,
			  const struct pciedma_transfer_eventfd *asked)
{
	struct eventfd_ctx *eventfd = NULL;
	struct pciedma_entries *set;

	if (asked->flags || asked->eventfd < -1 ||
	    memchr_inv(asked->reserved, 0, sizeof(asked->reserved)))
		return -EINVAL;
	set = pciedma_file_entries(cf);
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
