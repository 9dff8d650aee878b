// SPDX-License-Identifier: GPL-2.0-only
/*
 * An open file's entries: which are free, which are held behind a barrier, which have ended.
 */
#include <linux/eventfd.h>
#include <linux/mm.h>

#include <compat.h>

#include "entry.h"

/**
 * pciedma_entries_alloc() - make an open file's entries
 * @file:      the open file
 * @poll_wait: who polls for it
 *
 * Context: process.
 * Return: the set, to be given back with pciedma_entries_put(); NULL if there is no memory.
 */
struct pciedma_entries *pciedma_entries_alloc(const void *file, wait_queue_head_t *poll_wait)
{
	struct pciedma_entries *set;
	unsigned int i;

	set = kvzalloc(struct_size(set, entry, PCIEDMA_ENTRIES), GFP_KERNEL_ACCOUNT);
	if (!set)
		return NULL;
	refcount_set(&set->refs, 1);
	spin_lock_init(&set->lock);
	set->file = file;
	set->poll_wait = poll_wait;
	INIT_LIST_HEAD(&set->held);
	INIT_LIST_HEAD(&set->results);
	INIT_LIST_HEAD(&set->waiters);
	for (i = PCIEDMA_ENTRIES; i--;) {
		set->entry[i].set = set;
		timerqueue_init(&set->entry[i].deadline);
		set->entry[i].next = set->free;
		set->free = &set->entry[i];
	}
	return set;
}

/**
 * pciedma_entries_put() - let go of a set
 * @set: the set, freed if nobody else holds it; or NULL
 *
 * Context: any.
 */
void pciedma_entries_put(struct pciedma_entries *set)
{
	if (!set || !refcount_dec_and_test(&set->refs))
		return;
	if (set->eventfd)
		eventfd_ctx_put(set->eventfd);
	kvfree(set);
}

/**
 * pciedma_entries_take() - get free entries, for a call
 * @set:   the set
 * @count: how many, at least 1
 *
 * Context: process.
 * Return: the first of as many as there are, or NULL.
 */
struct pciedma_entry *pciedma_entries_take(struct pciedma_entries *set, unsigned int count)
{
	struct pciedma_entry *first, *entry;

	guard(spinlock_irqsave)(&set->lock);
	first = set->free;
	if (!first)
		return NULL;
	for (entry = first; ; entry = entry->next) {
		entry->first = first;
		if (!--count || !entry->next)
			break;
	}
	set->free = entry->next;
	entry->next = NULL;
	return first;
}

/* Lock held. */
static void set_give(struct pciedma_entries *set, struct pciedma_entry *entry)
{
	entry->next = set->free;
	set->free = entry;
}

/**
 * pciedma_entries_give() - let others have entries that were not used
 * @entry: the first of them
 *
 * Context: process.
 */
void pciedma_entries_give(struct pciedma_entry *entry)
{
	struct pciedma_entries *set = entry->set;
	struct pciedma_entry *next;

	guard(spinlock_irqsave)(&set->lock);
	for (; entry; entry = next) {
		next = entry->next;
		set_give(set, entry);
	}
}

/* What starts now has nothing before it that it would have to wait for. */
static bool entry_is_held(const struct pciedma_entry *entry)
{
	const struct pciedma_entries *set = entry->set;

	return !list_empty(&set->held) || (entry->barrier && set->pending);
}

static void entry_starts(struct pciedma_entry *entry)
{
	/* From now on who ends some may meet it, and sees what it is. */
	smp_store_release(&entry->state, PCIEDMA_ENTRY_STARTING);
}

/**
 * pciedma_call_begin() - the entries of a call are its own from now on
 * @first: the first of them; all filled in, and inside the gate
 * @all:   completed when all have ended; NULL: each is a result for whoever asks
 *
 * Context: process.
 * Return: the first of those that are to be started now, or NULL.
 */
struct pciedma_entry *pciedma_call_begin(struct pciedma_entry *first, struct completion *all)
{
	struct pciedma_entries *set = first->set;
	struct pciedma_entry *start = NULL;
	struct pciedma_entry **end = &start;
	struct pciedma_entry *entry;
	unsigned int count = 0;

	guard(spinlock_irqsave)(&set->lock);
	for (entry = first; entry; entry = entry->next) {
		count++;
		if (entry_is_held(entry)) {
			list_add_tail(&entry->node, &set->held);
			continue;
		}
		*end = entry;
		end = &entry->then;
		entry_starts(entry);
		set->pending++;
	}
	*end = NULL;
	first->call = (struct pciedma_call) {
		.left = count, .unread = count, .all = all,
		.progress = ktime_sub_ns(first->deadline.expires, first->timeout),
	};
	refcount_add(count, &set->refs);
	return start;
}

/* Of those that are held: it is to be started. Lock held. Returns where the next is to be noted. */
static struct pciedma_entry **set_let_go(struct pciedma_entries *set, struct pciedma_entry *entry,
					 struct pciedma_entry **end)
{
	list_del_init(&entry->node);
	set->pending++;
	entry_starts(entry);
	entry->then = NULL;
	*end = entry;
	return &entry->then;
}

/* All before a barrier have ended: those up to the next may start. Lock held. */
static struct pciedma_entry *set_pass_barrier(struct pciedma_entries *set)
{
	struct pciedma_entry *start = NULL;
	struct pciedma_entry **end = &start;
	struct pciedma_entry *entry, *next;

	list_for_each_entry_safe(entry, next, &set->held, node) {
		if (entry->barrier && start)
			break;
		end = set_let_go(set, entry, end);
	}
	return start;
}

/**
 * pciedma_held_stop() - entries that are held behind a barrier are not to begin
 * @set:   the set
 * @first: of the call that they are of; NULL: of any
 * @files: the process whose they are; NULL: of all processes
 * @error: why
 *
 * They end at once, whatever they would have waited for.
 *
 * Context: process.
 */
void pciedma_held_stop(struct pciedma_entries *set, const struct pciedma_entry *first,
		       const void *files, int error)
{
	struct pciedma_entry *start = NULL;
	struct pciedma_entry **end = &start;
	struct pciedma_entry *entry, *next;

	scoped_guard(spinlock_irqsave, &set->lock) {
		list_for_each_entry_safe(entry, next, &set->held, node) {
			if ((first && entry->first != first) || (files && entry->files != files))
				continue;
			entry->error = error;
			end = set_let_go(set, entry, end);
		}
	}
	pciedma_entries_start(start);
}

/* Lock held. */
static void set_wake(struct pciedma_entries *set)
{
	struct pciedma_result_waiter *waiter;

	list_for_each_entry(waiter, &set->waiters, node)
		if (set->closed || set->num_results >= waiter->min)
			complete(&waiter->enough);
}

/**
 * pciedma_entries_close() - there is no card any more, and nothing is under way
 * @set: the set; nobody waits for results that will not come
 *
 * Context: process.
 */
void pciedma_entries_close(struct pciedma_entries *set)
{
	guard(spinlock_irqsave)(&set->lock);
	set->closed = true;
	set_wake(set);
}

/* Lock held. */
static void set_add_result(struct pciedma_entries *set, struct pciedma_entry *entry)
{
	list_add_tail(&entry->node, &set->results);
	set->num_results++;
	set_wake(set);
	if (set->eventfd)
		eventfd_signal(set->eventfd);
}

/**
 * pciedma_entry_end() - an entry has ended
 * @entry: the entry, with its result
 *
 * It leaves the gate; those behind a barrier may start.
 *
 * Context: any; no lock held.
 */
void pciedma_entry_end(struct pciedma_entry *entry)
{
	struct pciedma_entries *set = entry->set;
	struct pciedma_card *card = entry->lane->engine.card;
	struct pciedma_call *call = &entry->first->call;
	struct pciedma_entry *start = NULL;

	scoped_guard(spinlock_irqsave, &set->lock) {
		call->left--;
		call->whole += !entry->error;
		call->moved |= entry->bytes;
		if (!call->all)
			set_add_result(set, entry);
		else if (!call->left)
			complete(call->all);
		if (!--set->pending && !list_empty(&set->held))
			start = set_pass_barrier(set);
	}
	if (wq_has_sleeper(set->poll_wait))
		wake_up_interruptible(set->poll_wait);
	if (start)
		pciedma_entries_start(start);
	pciedma_card_leave(card);
	pciedma_entries_put(set);
}

/**
 * pciedma_results_get() - get results that nobody has taken yet
 * @set:  the set
 * @got:  out: their entries, in order
 * @min:  how many at least, else none
 * @most: how many at most
 *
 * Each is to be given to pciedma_result_taken(), or back.
 *
 * Context: process.
 * Return: how many it has got.
 */
unsigned int pciedma_results_get(struct pciedma_entries *set, struct list_head *got,
				 unsigned int min, unsigned int most)
{
	unsigned int count, i;

	guard(spinlock_irqsave)(&set->lock);
	if (set->num_results < min)
		return 0;
	count = min(set->num_results, most);
	for (i = 0; i < count; i++)
		list_move_tail(set->results.next, got);
	set->num_results -= count;
	return count;
}

/**
 * pciedma_results_back() - give results back that could not be told, to whoever waits for them
 * @set:   the set
 * @got:   their entries
 * @count: how many
 *
 * Context: process.
 */
void pciedma_results_back(struct pciedma_entries *set, struct list_head *got, unsigned int count)
{
	scoped_guard(spinlock_irqsave, &set->lock) {
		set->num_results += count;
		list_splice(got, &set->results);
		set_wake(set);
	}
	wake_up_interruptible(set->poll_wait);
}

/**
 * pciedma_result_taken() - a program knows an entry's result: it is free
 * @entry: ended
 *
 * The first of a call has what they have in common, and is free when all are.
 *
 * Context: process.
 */
void pciedma_result_taken(struct pciedma_entry *entry)
{
	struct pciedma_entries *set = entry->set;
	struct pciedma_entry *first = entry->first;

	guard(spinlock_irqsave)(&set->lock);
	if (entry != first)
		set_give(set, entry);
	if (!--first->call.unread)
		set_give(set, first);
}
