// SPDX-License-Identifier: GPL-2.0-only
/*
 * Postponed requests that are to end, or whose time is over, before they are taken up: a work
 * item ends them, open file by open file in turn, so that no lock is held for longer because
 * there are many.
 */
#include "postpone.h"

/* Requests that are looked at before others get the lock. */
#define SIFT_AT_ONCE	64

/* A backlog has requests that are to end. */
static void backlog_ends(struct pciedma_lane *lane, struct pciedma_backlog *backlog)
{
	if (!list_empty(&backlog->end_turn))
		return;
	list_add_tail(&backlog->end_turn, &lane->end_turns);
	mod_delayed_work(pciedma_workqueue, &lane->ender, 0);
}

/**
 * pciedma_postponed_to_end() - a request that is not taken up shall end
 * @postponed: the request
 * @error:     why; the first reason stays
 *
 * Context: engine lock held.
 */
void pciedma_postponed_to_end(struct pciedma_postponed *postponed, int error)
{
	struct pciedma_backlog *backlog = postponed->request.backlog;

	if (postponed->error)
		return;
	postponed->error = error;
	if (postponed->fetch && !pciedma_postponed_leave(postponed))
		return; /* its memory has just come: that ends it */
	pciedma_postponed_unlink(postponed);
	list_add_tail(&postponed->node, &backlog->ending);
	backlog_ends(postponed->request.lane, backlog);
}

/* The one that is taken up shall end. */
static void taken_up_end(struct pciedma_lane *lane, int error)
{
	if (!lane->taken_up->error)
		lane->taken_up->error = error;
	atomic_inc(&lane->taken_up->cancels);
}

static void taken_up_cancel(struct pciedma_lane *lane)
{
	struct pciedma_postponed *postponed = lane->taken_up;

	taken_up_end(lane, -ECANCELED);
	pciedma_transfers_cancel(&lane->queue, postponed->request.direction, postponed);
}

/**
 * pciedma_postponed_cancel() - end one postponed request early
 * @lane: the lane
 * @postponed: the request: its kiocb leads to it
 *
 * Context: engine lock held; takes constant time.
 */
void pciedma_postponed_cancel(struct pciedma_lane *lane, struct pciedma_postponed *postponed)
{
	lockdep_assert_held(&lane->engine.lock);
	if (postponed == lane->taken_up)
		taken_up_cancel(lane);
	else
		pciedma_postponed_to_end(postponed, -ECANCELED);
}

/* All that wait shall end; each is told why when its turn comes. */
static void backlog_end_all(struct pciedma_lane *lane, struct pciedma_backlog *backlog)
{
	guard(spinlock_irqsave)(&lane->engine.lock);
	if (backlog->missing)
		pciedma_postponed_to_end(backlog->missing, -ECANCELED);
	if (list_empty(&backlog->waiting))
		return;
	list_splice_tail_init(&backlog->waiting, &backlog->ending);
	list_del_init(&backlog->turn);
	if (backlog->sift_next)
		backlog->sift_next = &backlog->waiting;
	backlog_ends(lane, backlog);
}

/* Look at some of those that wait: a process's shall end. Returns whether there are more. */
static bool backlog_sift(struct pciedma_lane *lane, struct pciedma_backlog *backlog,
			 const void *files)
{
	struct pciedma_postponed *postponed;
	int i;

	guard(spinlock_irqsave)(&lane->engine.lock);
	for (i = 0; i < SIFT_AT_ONCE && backlog->sift_next != &backlog->waiting; i++) {
		postponed = list_entry(backlog->sift_next, struct pciedma_postponed, node);
		backlog->sift_next = postponed->node.next;
		if (postponed->request.files == files)
			pciedma_postponed_to_end(postponed, -ECANCELED);
	}
	if (backlog->sift_next != &backlog->waiting)
		return true;
	backlog->sift_next = NULL;
	return false;
}

static void backlog_end_of_process(struct pciedma_lane *lane, struct pciedma_backlog *backlog,
				   const void *files)
{
	guard(mutex)(&backlog->sift_lock);
	scoped_guard(spinlock_irqsave, &lane->engine.lock) {
		if (backlog->missing && backlog->missing->request.files == files)
			pciedma_postponed_to_end(backlog->missing, -ECANCELED);
		backlog->sift_next = backlog->waiting.next;
	}
	while (backlog_sift(lane, backlog, files))
		cond_resched();
}

/**
 * pciedma_backlog_cancel() - end a file's postponed requests early
 * @lane: the lane
 * @backlog: the file's
 * @files:   the process whose they are; NULL: of all processes
 *
 * Context: process.
 */
void pciedma_backlog_cancel(struct pciedma_lane *lane, struct pciedma_backlog *backlog,
			    const void *files)
{
	struct pciedma_postponed *postponed;

	if (files)
		backlog_end_of_process(lane, backlog, files);
	else
		backlog_end_all(lane, backlog);
	/* One that did not wait any more has been taken up meanwhile. */
	guard(spinlock_irqsave)(&lane->engine.lock);
	postponed = lane->taken_up;
	if (postponed && postponed->request.backlog == backlog &&
	    (!files || postponed->request.files == files))
		taken_up_cancel(lane);
}

/* The request that is taken up minds its time by itself, unless it waits for its pages. */
static s64 taken_up_watch(struct pciedma_lane *lane)
{
	s64 left;

	if (!lane->taken_up)
		return S64_MAX;
	left = pciedma_taken_up_left(lane);
	if (left > 0)
		return left;
	taken_up_end(lane, -ETIMEDOUT);
	return pciedma_engine_drain_bound_ns(&lane->engine);
}

/* Let one more whose time is over end. Returns nanoseconds until the next one's is. */
static s64 deadlines_watch(struct pciedma_lane *lane)
{
	struct timerqueue_node *node = timerqueue_getnext(&lane->deadlines);
	struct pciedma_postponed *postponed;
	s64 left;

	if (!node)
		return S64_MAX;
	left = ktime_to_ns(ktime_sub(node->expires, ktime_get()));
	if (left > 0)
		return left;
	postponed = container_of(node, struct pciedma_postponed, deadline);
	pciedma_postponed_untime(postponed);
	pciedma_postponed_to_end(postponed, atomic_read(postponed->file_cancels) ==
			 postponed->file_cancels_seen ? -ETIMEDOUT : -ECANCELED);
	return 0;
}

/* The next that is to end, of the backlog whose turn it is. */
static struct pciedma_postponed *postponed_next_end(struct pciedma_lane *lane)
{
	struct pciedma_postponed *postponed;
	struct pciedma_backlog *backlog;
	s64 left;

	guard(spinlock_irqsave)(&lane->engine.lock);
	left = min(taken_up_watch(lane), deadlines_watch(lane));
	backlog = list_first_entry_or_null(&lane->end_turns, struct pciedma_backlog, end_turn);
	if (!backlog) {
		if (left != S64_MAX)
			pciedma_work_within(&lane->ender, left);
		return NULL;
	}
	postponed = list_first_entry(&backlog->ending, struct pciedma_postponed, node);
	list_move_tail(&backlog->end_turn, &lane->end_turns);
	pciedma_postponed_unlink(postponed);
	pciedma_postponed_untime(postponed);
	postponed->iocb->private = NULL;
	if (postponed->error == -ETIMEDOUT)
		lane->engine.stats[postponed->request.direction].timeouts++;
	return postponed;
}

/**
 * pciedma_postponed_end_work() - end postponed requests that are to end, or whose time is over
 * @work: the lane's
 *
 * Context: work item.
 */
void pciedma_postponed_end_work(struct work_struct *work)
{
	struct pciedma_lane *lane = container_of(to_delayed_work(work), struct pciedma_lane, ender);
	struct pciedma_postponed *postponed;

	while ((postponed = postponed_next_end(lane))) {
		pciedma_postponed_end(postponed,
				      postponed->done ?: postponed->error ?: -ECANCELED);
		cond_resched();
	}
}
