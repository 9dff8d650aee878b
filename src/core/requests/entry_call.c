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

/* Returns 0 when all have ended, -EINTR if the caller is wanted, -EAGAIN when @until has come. */
static int call_poll(struct pciedma_caller *caller, struct pciedma_entry *first,
		     struct completion *all, ktime_t until)
{
	while (!try_wait_for_completion(all)) {
		if (signal_pending(current) && pciedma_caller_gives_way(caller))
			return -EINTR;
		call_look(first);
		if (until != KTIME_MAX && ktime_after(ktime_get(), until))
			return -EAGAIN;
		cond_resched();
	}
	return 0;
}

/* The bytes of a call, by which it is known how long it takes; 0 if nothing can be said. */
static u32 call_class(const struct pciedma_entry *first)
{
	const struct pciedma_entry *entry;
	u64 length = 0;

	for (entry = first; entry; entry = entry->next) {
		if (entry->lane != first->lane)
			return 0;
		length += entry->length;
	}
	return min_t(u64, length, U32_MAX);
}

static void entry_arm(struct pciedma_entry *entry)
{
	struct pciedma_queue *queue = &entry->lane->queue;

	guard(spinlock_irqsave)(&entry->lane->engine.lock);
	entry->polled = false;
	if (entry->state == PCIEDMA_ENTRY_AT_WORK && !entry->quiet)
		pciedma_queue_arm(queue, pciedma_entry_transfer(entry));
}

/* Whoever has polled is to be interrupted from now on. */
static void call_arm(struct pciedma_entry *first)
{
	struct pciedma_entry *entry;

	for (entry = first; entry; entry = entry->next)
		entry_arm(entry);
	call_look(first);
}

/* Nobody is before it, or it has ended. */
static bool call_is_next(struct pciedma_entry *first)
{
	guard(spinlock_irqsave)(&first->lane->engine.lock);
	return first->state == PCIEDMA_ENTRY_IDLE ||
	       (first->state == PCIEDMA_ENTRY_AT_WORK &&
		list_is_first(&pciedma_entry_transfer(first)->node, &first->lane->queue.list));
}

static bool call_sleep(struct pciedma_caller *caller, struct completion *all)
{
	return pciedma_caller_sleep(caller, all, MAX_SCHEDULE_TIMEOUT) > 0;
}

/* Poll as long as it pays, then sleep after all. Returns whether all have ended. */
static bool call_wait_adaptively(struct pciedma_caller *caller, struct pciedma_entry *first,
				 struct completion *all, u32 class)
{
	struct pciedma_lane *lane = first->lane;
	int ret = -EAGAIN;

	if (call_is_next(first)) {
		ret = call_poll(caller, first, all,
				pciedma_pace_until(lane, first->direction, class));
		pciedma_pace_polled(lane, first->direction, class, ret);
	}
	if (ret != -EAGAIN)
		return !ret;
	call_arm(first);
	return call_sleep(caller, all);
}

/**
 * pciedma_call_run() - have entries moved, and wait for them
 * @caller: the calling thread; engine of the first of them
 * @first:  the first of them, all filled in; each is inside the gate until it has ended
 * @all:    initialized; is used until the first of their results is taken
 * @mode:   how it waits
 *
 * Context: process.
 */
void pciedma_call_run(struct pciedma_caller *caller, struct pciedma_entry *first,
		      struct completion *all, enum pciedma_wait_mode mode)
{
	u32 class = mode == PCIEDMA_WAIT_ADAPTIVE ? call_class(first) : 0;
	struct pciedma_lane *lane = first->lane;
	ktime_t since = class ? ktime_get() : 0;
	bool polls, ended;

	polls = mode == PCIEDMA_WAIT_POLL ||
		(class && pciedma_pace_polls(lane, first->direction, class));
	call_quieten(first, polls);
	pciedma_entries_start(pciedma_call_begin(first, all));
	if (mode == PCIEDMA_WAIT_POLL)
		ended = !call_poll(caller, first, all, KTIME_MAX);
	else if (polls)
		ended = call_wait_adaptively(caller, first, all, class);
	else
		ended = call_sleep(caller, all);
	if (ended && class)
		pciedma_pace_learn(lane, first->direction, class, since);
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
