// SPDX-License-Identifier: GPL-2.0-only
/*
 * A call that waits for its entries, and who waits for results.
 */
#include <linux/sched/signal.h>

#include "entry.h"

/* Of a call's entries in a direction one of so many is told of: the others would fill the pool. */
#define TOLD_EACH	64

/* How often a call that is to end early looks after entries that were just being started. */
#define STOPPING_JIFFIES	(HZ / 20 + 1)

/* Those whose end is not told of are followed by one that is, and none waits for them. */
static void call_quieten(struct pciedma_entry *first, bool polls)
{
	struct pciedma_entry *last[PCIEDMA_DIRECTIONS] = { };
	unsigned int count[PCIEDMA_DIRECTIONS] = { };
	enum pciedma_direction i;
	struct pciedma_entry *entry;

	for (entry = first; entry; entry = entry->next) {
		for (i = 0; entry->barrier && i < PCIEDMA_DIRECTIONS; i++)
			if (last[i])
				last[i]->quiet = false;
		i = entry->direction;
		entry->quiet = ++count[i] % TOLD_EACH;
		entry->polled = polls;
		last[i] = entry;
	}
	for (i = 0; i < PCIEDMA_DIRECTIONS; i++)
		if (last[i])
			last[i]->quiet = false;
}

static void call_stop(struct pciedma_entry *first, int error)
{
	struct pciedma_entry *entry;

	WRITE_ONCE(first->call.failed, true);
	for (entry = first; entry; entry = entry->next)
		pciedma_entry_stop(entry, NULL, error);
	pciedma_held_stop(first->set, first, NULL, error);
}

static void call_look(struct pciedma_entry *first)
{
	struct pciedma_entry *entry;

	pciedma_engine_look(&first->lane->engine);
	for (entry = first->next; entry; entry = entry->next)
		if (entry->lane != first->lane) {
			pciedma_engine_look(&entry->lane->engine);
			return;
		}
}

/* Returns whether all have ended; else the caller is wanted for something. */
static bool call_poll(struct pciedma_caller *caller, struct pciedma_entry *first,
		      struct completion *all)
{
	while (!try_wait_for_completion(all)) {
		if (signal_pending(current) && pciedma_caller_gives_way(caller))
			return false;
		call_look(first);
		cond_resched();
	}
	return true;
}

/**
 * pciedma_call_run() - have entries moved, and wait for them
 * @caller: the calling thread; engine of the first of them
 * @first:  the first of them, all filled in; inside the gate
 * @all:    initialized; is used until the first of their results is taken
 * @polls:  look for their ends, in place of being interrupted
 *
 * Context: process, inside the gate.
 */
void pciedma_call_run(struct pciedma_caller *caller, struct pciedma_entry *first,
		      struct completion *all, bool polls)
{
	struct pciedma_entry *start;
	bool ended;

	call_quieten(first, polls);
	start = pciedma_call_begin(first, all);
	pciedma_entries_start(start);
	if (polls)
		ended = call_poll(caller, first, all);
	else
		ended = pciedma_caller_sleep(caller, all, MAX_SCHEDULE_TIMEOUT) > 0;
	while (!ended) {
		call_stop(first, -EINTR);
		ended = wait_for_completion_timeout(all, STOPPING_JIFFIES);
	}
	pciedma_caller_return(caller);
}

/**
 * pciedma_results_wait() - wait for results
 * @set:     an open file's entries
 * @caller:  the calling thread
 * @min:     how many
 * @timeout: how long, jiffies
 *
 * Context: process.
 * Return: 1 when there are as many, or the card has gone; 0 when the time is over; -EINTR.
 */
int pciedma_results_wait(struct pciedma_entries *set, struct pciedma_caller *caller,
			 unsigned int min, long timeout)
{
	struct pciedma_result_waiter waiter = { .min = min };
	int ret;

	init_completion(&waiter.enough);
	scoped_guard(spinlock_irqsave, &set->lock) {
		if (set->closed || set->num_results >= min)
			return 1;
		list_add_tail(&waiter.node, &set->waiters);
	}
	ret = pciedma_caller_sleep(caller, &waiter.enough, timeout);
	scoped_guard(spinlock_irqsave, &set->lock)
		list_del(&waiter.node);
	pciedma_caller_return(caller);
	return ret;
}
