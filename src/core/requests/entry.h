/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Entries: parts of buffers that a program has moved by TRANSFER. Each is an op while the engine
 * has it; it needs no memory of its own, no thread and no page.
 *
 * Life times: an open file has so many entries from its first TRANSFER on. One is free, or of a
 * call: taken by it, held behind a barrier or waiting for a transfer, at work, ended, and free
 * again when its result was taken. The set lives as long as its file, and as what is under way.
 *
 * Of a set all is under its lock; of an entry its state and what follows that, from when it is
 * started until it has ended, under its engine's. Nobody holds both.
 */
#ifndef PCIEDMA_ENTRY_H
#define PCIEDMA_ENTRY_H

#include <linux/refcount.h>

#include "op.h"
#include "request.h"

struct eventfd_ctx;
struct pciedma_entries;

/**
 * enum pciedma_entry_state - where an entry is
 * @PCIEDMA_ENTRY_IDLE:    free, being filled in, held behind a barrier, or ended
 * @PCIEDMA_ENTRY_STARTING: it is about to be started
 * @PCIEDMA_ENTRY_WAITING: it waits for a transfer
 * @PCIEDMA_ENTRY_AT_WORK: the engine has its op
 */
enum pciedma_entry_state {
	PCIEDMA_ENTRY_IDLE,
	PCIEDMA_ENTRY_STARTING,
	PCIEDMA_ENTRY_WAITING,
	PCIEDMA_ENTRY_AT_WORK,
};

/**
 * struct pciedma_call - what the entries of a call have in common; the first of them has it
 * @left:   how many have not ended
 * @whole:  how many were moved whole
 * @unread: how many results nobody has taken
 * @moved:  something of them was moved
 * @failed: one was not whole: those that had not begun do not begin
 * @dropped: they have been looked for
 * @progress: when the last of them ended, or when it began
 * @all:    who waits for all of them, or NULL if it was SUBMIT
 */
struct pciedma_call {
	unsigned int left;
	unsigned int whole;
	unsigned int unread;
	bool moved;
	bool failed;
	bool dropped;
	ktime_t progress;
	struct completion *all;
};

/**
 * struct pciedma_entry - a part of a buffer to be moved
 * @node:      held, on lane->ended, or among the file's results
 * @set:       its open file's
 * @next:      the next of its call, or of those that are free, or NULL
 * @then:      the next of those that are started together, or NULL
 * @first:     the first of its call
 * @call:      what they have in common, if it is that
 * @lane:      where it goes
 * @direction: which way
 * @buffer:    the buffer, held until a transfer has it
 * @offset:    where in the buffer
 * @length:    bytes
 * @address:   the card's address
 * @tag:       what its program calls it
 * @barrier:   all before it end before it starts
 * @quiet:     its end need not be told of
 * @polled:    its caller looks for its end
 * @alone:     what becomes of it is nothing to the others of its call
 * @files:     the process's table of files, for its exit
 * @timeout:   nanoseconds without progress
 * @deadline:  when they are over, queueing included
 * @state:     where it is
 * @waiter:    waits for a transfer
 * @op:        while it is at work
 * @bytes:     what has arrived
 * @error:     why it is not all
 */
struct pciedma_entry {
	struct list_head node;
	struct pciedma_entries *set;
	struct pciedma_entry *next;
	struct pciedma_entry *then;
	struct pciedma_entry *first;
	struct pciedma_call call;
	struct pciedma_lane *lane;
	enum pciedma_direction direction;
	struct pciedma_buffer *buffer;
	size_t offset;
	u32 length;
	u64 address;
	u64 tag;
	bool barrier;
	bool quiet;
	bool polled;
	bool alone;
	const void *files;
	s64 timeout;
	struct timerqueue_node deadline;
	enum pciedma_entry_state state;
	struct pciedma_waiter waiter;
	struct pciedma_op *op;
	u32 bytes;
	int error;
};

/**
 * struct pciedma_result_waiter - who waits for results of an open file
 * @node:   among the set's
 * @min:    for how many
 * @enough: there are
 */
struct pciedma_result_waiter {
	struct list_head node;
	unsigned int min;
	struct completion enough;
};

/**
 * struct pciedma_entries - an open file's entries
 * @refs:      the file, and each entry that is under way
 * @node:      among its channel's, whose lock protects that
 * @lock:      protects all that follows
 * @file:      the open file; compared only
 * @closed:    there is no card any more, and nothing is under way
 * @free:      the first entry that nobody uses, or NULL
 * @held:      those behind a barrier, in order
 * @pending:   how many are started and have not ended
 * @results:   those that have ended and were submitted, in the order of their ends
 * @num_results: how many
 * @waiters:   who waits for those
 * @poll_wait: who polls for them; the channel's
 * @eventfd:   is signalled for each, or NULL
 * @entry:     all entries
 */
struct pciedma_entries {
	refcount_t refs;
	struct list_head node;
	spinlock_t lock; /* all that follows */
	const void *file;
	bool closed;
	struct pciedma_entry *free;
	struct list_head held;
	unsigned int pending;
	struct list_head results;
	unsigned int num_results;
	struct list_head waiters;
	wait_queue_head_t *poll_wait;
	struct eventfd_ctx *eventfd;
	struct pciedma_entry entry[];
};

/* The only one of its op. It is at work. */
static inline struct pciedma_transfer *pciedma_entry_transfer(const struct pciedma_entry *entry)
{
	return list_first_entry(&entry->op->transfers, struct pciedma_transfer, sibling);
}

/* entries.c */
struct pciedma_entries *pciedma_entries_alloc(const void *file, wait_queue_head_t *poll_wait);
void pciedma_entries_put(struct pciedma_entries *set);
void pciedma_entries_close(struct pciedma_entries *set);
struct pciedma_entry *pciedma_entries_take(struct pciedma_entries *set, unsigned int count);
void pciedma_entries_give(struct pciedma_entry *entry);
struct pciedma_entry *pciedma_call_begin(struct pciedma_entry *first, struct completion *all);
void pciedma_held_stop(struct pciedma_entries *set, const struct pciedma_entry *first,
		       const void *files, int error);
void pciedma_entry_end(struct pciedma_entry *entry);
unsigned int pciedma_results_get(struct pciedma_entries *set, struct list_head *got,
				 unsigned int min, unsigned int most);
void pciedma_results_back(struct pciedma_entries *set, struct list_head *got, unsigned int count);
void pciedma_result_taken(struct pciedma_entry *entry);

/* entry_call.c */
void pciedma_call_run(struct pciedma_caller *caller, struct pciedma_entry *first,
		      struct completion *all, enum pciedma_wait_mode mode);
int pciedma_results_wait(struct pciedma_entries *set, struct pciedma_caller *caller,
			 unsigned int min, long timeout);

/* entry_run.c */
void pciedma_entries_start(struct pciedma_entry *entry);
void pciedma_entry_stop(struct pciedma_entry *entry, const void *files, int error);
void pciedma_entries_stop(struct pciedma_entries *set, const void *files, int error);
void pciedma_entries_expire(struct pciedma_lane *lane);
void pciedma_entries_ended(struct pciedma_lane *lane);

#endif /* PCIEDMA_ENTRY_H */
