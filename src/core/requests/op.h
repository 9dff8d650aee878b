/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Requests that nobody waits for in a call, while the engine has them: an op has all of its
 * memory pinned, ends when the last of its transfers has, and is then completed by whoever sees
 * that. A call that waits for its transfers itself needs none.
 *
 * Life times: an op is part of its lane, at the place of its first transfer, and is somebody's as
 * long as that is. It is at work from when it is handed in until its last transfer has finished;
 * then it is completed once, and gone.
 *
 * All is under the engine's lock from when it is handed in until it is to be completed.
 */
#ifndef PCIEDMA_OP_H
#define PCIEDMA_OP_H

#include "../queue/queue.h"

struct pciedma_lane;
struct pciedma_op;

/**
 * struct pciedma_op_ops - what to do for whom an op is
 * @left:     nanoseconds that it may still be without progress before it has begun; engine lock
 *            held. NULL: until its deadline
 * @ended:    nobody can end it early any more; engine lock held
 * @complete: tell of its result, bytes or an errno; the op is gone, and no lock held. From any
 *            context
 */
struct pciedma_op_ops {
	s64 (*left)(const struct pciedma_op *op, ktime_t now);
	void (*ended)(struct pciedma_op *op);
	void (*complete)(struct pciedma_lane *lane, void *owner, ssize_t result);
};

/**
 * struct pciedma_op - a request while the engine has it
 * @node:      on lane->stopping while it is to end early; on lane->done or ->deferred once
 *             @pending is 0
 * @lane:      its lane
 * @ops:       for whom it is
 * @owner:     which of them
 * @file:      the open file that it came by, for CANCEL
 * @files:     the process's table of files, for its exit
 * @transfers: its transfers, in order
 * @pending:   how many of them have not finished; 0 if it is not at work
 * @error:     why it is to end early, or 0
 * @timeout:   nanoseconds without progress
 * @deadline:  when they are over
 */
struct pciedma_op {
	struct list_head node;
	struct pciedma_lane *lane;
	const struct pciedma_op_ops *ops;
	void *owner;
	const void *file;
	const void *files;
	struct list_head transfers;
	unsigned int pending;
	int error;
	s64 timeout;
	ktime_t deadline;
};

/* op.c */
struct pciedma_op *pciedma_op_at(struct pciedma_lane *lane, struct pciedma_transfer *first);
void pciedma_op_add(struct pciedma_op *op, struct pciedma_transfer *transfer);
void pciedma_op_queue(struct pciedma_op *op, ktime_t deadline, bool quiet);
void pciedma_op_granted(struct pciedma_op *op);
void pciedma_op_hand_in(struct pciedma_op *op);
void pciedma_op_release(struct pciedma_op *op, bool may_sleep);
void pciedma_op_less(struct pciedma_op *op);
void pciedma_ops_complete(struct pciedma_lane *lane);
void pciedma_ops_complete_deferred(struct pciedma_lane *lane);

/* op_watch.c */
void pciedma_op_stop(struct pciedma_op *op, int error);
void pciedma_ops_cancel(struct pciedma_lane *lane, const void *file, const void *files);
void pciedma_ops_watch(struct work_struct *work);

#endif /* PCIEDMA_OP_H */
