// SPDX-License-Identifier: GPL-2.0-only
/*
 * Asynchronous requests that find no room when they are submitted, or that an
 * engine cannot have all at once: a thread of the engine takes them up, open
 * file by open file in turn and in each file's order, in the address space of
 * whoever submitted them. There it may wait for pages that never come, and
 * whoever ends the request kills that wait. A work item ends those that are to
 * end before they are taken up, in turn as well, so that no lock is held for
 * longer because there are many.
 */
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/timerqueue.h>

#include <compat.h>

#include "core.h"

/* Requests that are looked at before others get the lock. */
#define SIFT_AT_ONCE	64

/**
 * struct pciedma_postponed - an asynchronous request that waits to be taken up
 * @node:     on one of its backlog's lists; on none once it is taken up
 * @deadline: on engine->deadlines until it is taken up or ends
 * @request:  what it is; its file is this structure, so that it can be cancelled
 *            alone
 * @iocb:     the kernel's request, whose private pointer leads here until this ends
 *            or the engine has it
 * @iter:     its memory
 * @vector:   the copy of the vector in @iter, or NULL
 * @mm:       the address space that the memory is in; NULL: the kernel's
 * @file_cancels: the number of CANCELs of its open file
 * @file_cancels_seen: what it was when the request came
 * @cancels:  it shall end, although it is taken up
 * @error:    why it shall end, or 0
 */
struct pciedma_postponed {
	struct list_head node;
	struct timerqueue_node deadline;
	struct pciedma_request request;
	struct kiocb *iocb;
	struct iov_iter iter;
	const void *vector;
	struct mm_struct *mm;
	const atomic_t *file_cancels;
	int file_cancels_seen;
	atomic_t cancels;
	int error;
};

/**
 * pciedma_backlog_init() - a file was opened
 * @backlog: its backlog for one engine
 *
 * Context: process.
 */
void pciedma_backlog_init(struct pciedma_backlog *backlog)
{
	INIT_LIST_HEAD(&backlog->waiting);
	INIT_LIST_HEAD(&backlog->turn);
	INIT_LIST_HEAD(&backlog->ending);
	INIT_LIST_HEAD(&backlog->end_turn);
	mutex_init(&backlog->sift_lock);
}

/**
 * pciedma_backlog_has() - whether earlier requests of the same file wait to be taken up
 * @request: an asynchronous request
 *
 * Context: engine lock held.
 * Return: true if so: it must not overtake them.
 */
bool pciedma_backlog_has(const struct pciedma_request *request)
{
	const struct pciedma_postponed *taken_up = request->engine->taken_up;

	lockdep_assert_held(&request->engine->lock);
	return !list_empty(&request->backlog->waiting) ||
	       (taken_up && taken_up->request.backlog == request->backlog);
}

static void postponed_free(struct pciedma_postponed *postponed)
{
	if (postponed->mm)
		mmdrop(postponed->mm);
	kfree(postponed->vector);
	kfree(postponed);
}

static struct pciedma_postponed *postponed_alloc(const struct pciedma_request *request,
						 struct kiocb *iocb, struct iov_iter *iter)
{
	struct pciedma_postponed *postponed = kzalloc(sizeof(*postponed), GFP_KERNEL_ACCOUNT);

	if (!postponed)
		return NULL;
	postponed->iocb = iocb;
	postponed->iter = *iter;
	if (iter_is_iovec(iter)) {
		postponed->vector = dup_iter(&postponed->iter, iter, GFP_KERNEL_ACCOUNT);
		if (!postponed->vector) {
			kfree(postponed);
			return NULL;
		}
	}
	postponed->mm = current->mm;
	if (postponed->mm)
		mmgrab(postponed->mm);
	postponed->file_cancels = request->cancels;
	postponed->file_cancels_seen = request->cancels_seen;
	postponed->request = *request;
	postponed->request.file = postponed;
	postponed->request.cancels = &postponed->cancels;
	postponed->request.cancels_seen = 0;
	postponed->request.nonblock = false;
	postponed->request.timeout = pciedma_async_timeout(request);
	pciedma_request_start(&postponed->request);
	timerqueue_init(&postponed->deadline);
	postponed->deadline.expires = postponed->request.deadline;
	return postponed;
}

/* Returns 0, or why it must not begin any more. */
static int postponed_queue(const struct pciedma_request *request,
			   struct pciedma_postponed *postponed)
{
	struct pciedma_engine *engine = request->engine;
	struct pciedma_backlog *backlog = request->backlog;

	guard(spinlock_irqsave)(&engine->lock);
	if (engine->state == PCIEDMA_ENGINE_BROKEN)
		return engine->broken_error;
	if (pciedma_async_cancelled(request, postponed->iocb))
		return -ECANCELED;
	postponed->iocb->private = postponed;
	if (list_empty(&backlog->waiting))
		list_add_tail(&backlog->turn, &engine->turns);
	list_add_tail(&postponed->node, &backlog->waiting);
	if (timerqueue_add(&engine->deadlines, &postponed->deadline))
		pciedma_work_within(&engine->ender, postponed->request.timeout);
	kthread_queue_work(engine->taker, &engine->take_up);
	return 0;
}

/**
 * pciedma_postpone() - let the engine's thread take up an asynchronous request
 * @request: engine, direction, file, files, cancels, mode and timeout set
 * @iocb:    the kernel's request; its position is the card's address
 * @iter:    the memory, already cut to what may be moved
 *
 * It leaves the gate when it ends.
 *
 * Context: process, inside the gate.
 * Return: -EIOCBQUEUED, or an errno.
 */
int pciedma_postpone(const struct pciedma_request *request, struct kiocb *iocb,
		     struct iov_iter *iter)
{
	struct pciedma_postponed *postponed = postponed_alloc(request, iocb, iter);
	int ret;

	if (!postponed)
		return -ENOMEM;
	ret = postponed_queue(request, postponed);
	if (!ret)
		return -EIOCBQUEUED;
	postponed_free(postponed);
	return ret;
}

static void postponed_end(struct pciedma_postponed *postponed, ssize_t ret)
{
	struct pciedma_channel *channel = postponed->request.engine->channel;
	struct kiocb *iocb = postponed->iocb;

	postponed_free(postponed);
	if (ret > 0 && channel->kind == PCIEDMA_KIND_MEMORY)
		iocb->ki_pos += ret;
	pciedma_card_leave(channel->card);
	iocb->ki_complete(iocb, ret);
}

static ssize_t postponed_carry_out(struct pciedma_postponed *postponed)
{
	struct pciedma_request *request = &postponed->request;
	bool memory = request->engine->channel->kind == PCIEDMA_KIND_MEMORY;
	ssize_t ret;

	ret = pciedma_async_submit(request, postponed->iocb, &postponed->iter, true);
	if (ret == -ETIMEDOUT)
		pciedma_request_count_timeout(request);
	if (ret == -EAGAIN)
		ret = pciedma_sync_run(request, &postponed->iter,
				       memory ? postponed->iocb->ki_pos : 0);
	return ret;
}

/* The address space is let go of elsewhere: its end waits for requests that may wait for us. */
static ssize_t postponed_carry_out_for(struct pciedma_postponed *postponed)
{
	struct mm_struct *mm = postponed->mm;
	ssize_t ret;

	if (!mm)
		return postponed_carry_out(postponed);
	if (!mmget_not_zero(mm))
		return -ECANCELED;
	kthread_use_mm(mm);
	ret = postponed_carry_out(postponed);
	kthread_unuse_mm(mm);
	mmput_async(mm);
	return ret;
}

/* It leaves the list that it is on. */
static void postponed_unlink(struct pciedma_postponed *postponed)
{
	struct pciedma_backlog *backlog = postponed->request.backlog;

	lockdep_assert_held(&postponed->request.engine->lock);
	if (backlog->sift_next == &postponed->node)
		backlog->sift_next = postponed->node.next;
	list_del_init(&postponed->node);
	if (list_empty(&backlog->waiting))
		list_del_init(&backlog->turn);
	if (list_empty(&backlog->ending))
		list_del_init(&backlog->end_turn);
}

/* It has no deadline here any more. */
static void postponed_untime(struct pciedma_postponed *postponed)
{
	struct pciedma_engine *engine = postponed->request.engine;

	if (timerqueue_node_queued(&postponed->deadline))
		timerqueue_del(&engine->deadlines, &postponed->deadline);
}

/* Nanoseconds after which the request that is taken up must have minded its time. */
static s64 taken_up_left(struct pciedma_engine *engine)
{
	return ktime_to_ns(ktime_sub(READ_ONCE(engine->taken_up->request.deadline), ktime_get())) +
	       2 * pciedma_engine_drain_bound_ns(engine);
}

/* The next to be taken up. A kill was meant for the one before. */
static struct pciedma_postponed *postponed_next(struct pciedma_engine *engine)
{
	struct pciedma_postponed *postponed;
	struct pciedma_backlog *backlog;

	guard(spinlock_irqsave)(&engine->lock);
	flush_signals(current);
	backlog = list_first_entry_or_null(&engine->turns, struct pciedma_backlog, turn);
	if (!backlog)
		return NULL;
	postponed = list_first_entry(&backlog->waiting, struct pciedma_postponed, node);
	list_move_tail(&backlog->turn, &engine->turns);
	postponed_unlink(postponed);
	postponed_untime(postponed);
	engine->taken_up = postponed;
	pciedma_work_within(&engine->ender, taken_up_left(engine));
	return postponed;
}

/* Killed waits end with one errno or another: returns the reason for the kill. */
static ssize_t postponed_result(struct pciedma_engine *engine,
				const struct pciedma_postponed *postponed, ssize_t ret)
{
	lockdep_assert_held(&engine->lock);
	if (ret >= 0 || ret == -EIOCBQUEUED || ret == -ETIMEDOUT)
		return ret;
	if (postponed->error == -ETIMEDOUT)
		engine->stats[postponed->request.direction].timeouts++;
	if (postponed->error)
		return postponed->error;
	return engine->state == PCIEDMA_ENGINE_BROKEN ? engine->broken_error : ret;
}

/* It is taken up no longer; if the engine has it, all but this structure may be gone. */
static ssize_t postponed_put_down(struct pciedma_engine *engine,
				  struct pciedma_postponed *postponed, ssize_t ret)
{
	guard(spinlock_irqsave)(&engine->lock);
	engine->taken_up = NULL;
	if (ret != -EIOCBQUEUED)
		postponed->iocb->private = NULL;
	return postponed_result(engine, postponed, ret);
}

static void postponed_work(struct kthread_work *work)
{
	struct pciedma_engine *engine = container_of(work, struct pciedma_engine, take_up);
	struct pciedma_postponed *postponed;
	ssize_t ret;

	allow_kernel_signal(SIGKILL);
	while ((postponed = postponed_next(engine))) {
		ret = postponed_put_down(engine, postponed, postponed_carry_out_for(postponed));
		if (ret == -EIOCBQUEUED)
			postponed_free(postponed);
		else
			postponed_end(postponed, ret);
		cond_resched();
	}
	wake_up_interruptible(&engine->channel->poll_wait);
}

/**
 * pciedma_taker_create() - make the thread that takes up postponed requests
 * @engine: the engine
 *
 * Context: process.
 * Return: 0 or an errno.
 */
int pciedma_taker_create(struct pciedma_engine *engine)
{
	struct kthread_worker *taker;

	kthread_init_work(&engine->take_up, postponed_work);
	taker = kthread_run_worker(0, "pciedma%d-%u", engine->channel->card->index, engine->index);
	if (IS_ERR(taker))
		return PTR_ERR(taker);
	engine->taker = taker;
	return 0;
}

/**
 * pciedma_taker_destroy() - end that thread, and the work item that ends requests
 * @engine: nothing is postponed any more
 *
 * Context: process.
 */
void pciedma_taker_destroy(struct pciedma_engine *engine)
{
	if (engine->taker)
		kthread_destroy_worker(engine->taker);
	engine->taker = NULL;
	cancel_delayed_work_sync(&engine->ender);
}

/**
 * pciedma_postponed_kill() - end the wait for pages of the request that is taken up
 * @engine: the engine
 *
 * Context: engine lock held.
 */
void pciedma_postponed_kill(struct pciedma_engine *engine)
{
	lockdep_assert_held(&engine->lock);
	if (engine->taken_up)
		send_sig(SIGKILL, engine->taker->task, 1);
}

/**
 * pciedma_engine_postpones() - whether requests of any file wait to be taken up
 * @engine: the engine
 *
 * Context: engine lock held.
 * Return: true if so.
 */
bool pciedma_engine_postpones(const struct pciedma_engine *engine)
{
	return engine->taken_up || !list_empty(&engine->turns);
}

/* A backlog has requests that are to end. */
static void backlog_ends(struct pciedma_engine *engine, struct pciedma_backlog *backlog)
{
	if (!list_empty(&backlog->end_turn))
		return;
	list_add_tail(&backlog->end_turn, &engine->end_turns);
	mod_delayed_work(pciedma_workqueue, &engine->ender, 0);
}

/* One that is not taken up shall end; what was the first reason stays. */
static void postponed_to_end(struct pciedma_postponed *postponed, int error)
{
	struct pciedma_backlog *backlog = postponed->request.backlog;

	if (postponed->error)
		return;
	postponed->error = error;
	postponed_unlink(postponed);
	list_add_tail(&postponed->node, &backlog->ending);
	backlog_ends(postponed->request.engine, backlog);
}

/* The one that is taken up shall end: its wait for pages does at once. */
static void taken_up_end(struct pciedma_engine *engine, int error)
{
	if (!engine->taken_up->error)
		engine->taken_up->error = error;
	atomic_inc(&engine->taken_up->cancels);
	pciedma_postponed_kill(engine);
}

static void taken_up_cancel(struct pciedma_engine *engine)
{
	struct pciedma_postponed *postponed = engine->taken_up;

	taken_up_end(engine, -ECANCELED);
	pciedma_engine_cancel_file(engine, postponed->request.direction, postponed);
}

/**
 * pciedma_postponed_cancel() - end one postponed request early
 * @engine:    the engine
 * @postponed: the request: its kiocb leads to it
 *
 * Context: engine lock held; takes constant time.
 */
void pciedma_postponed_cancel(struct pciedma_engine *engine, struct pciedma_postponed *postponed)
{
	lockdep_assert_held(&engine->lock);
	if (postponed == engine->taken_up)
		taken_up_cancel(engine);
	else
		postponed_to_end(postponed, -ECANCELED);
}

/* All that wait shall end; each is told why when its turn comes. */
static void backlog_end_all(struct pciedma_engine *engine, struct pciedma_backlog *backlog)
{
	guard(spinlock_irqsave)(&engine->lock);
	if (list_empty(&backlog->waiting))
		return;
	list_splice_tail_init(&backlog->waiting, &backlog->ending);
	list_del_init(&backlog->turn);
	if (backlog->sift_next)
		backlog->sift_next = &backlog->waiting;
	backlog_ends(engine, backlog);
}

/* Look at some of those that wait: a process's shall end. Returns whether there are more. */
static bool backlog_sift(struct pciedma_engine *engine, struct pciedma_backlog *backlog,
			 const void *files)
{
	struct pciedma_postponed *postponed;
	int i;

	guard(spinlock_irqsave)(&engine->lock);
	for (i = 0; i < SIFT_AT_ONCE && backlog->sift_next != &backlog->waiting; i++) {
		postponed = list_entry(backlog->sift_next, struct pciedma_postponed, node);
		backlog->sift_next = postponed->node.next;
		if (postponed->request.files == files)
			postponed_to_end(postponed, -ECANCELED);
	}
	if (backlog->sift_next != &backlog->waiting)
		return true;
	backlog->sift_next = NULL;
	return false;
}

static void backlog_end_of_process(struct pciedma_engine *engine, struct pciedma_backlog *backlog,
				   const void *files)
{
	guard(mutex)(&backlog->sift_lock);
	scoped_guard(spinlock_irqsave, &engine->lock)
		backlog->sift_next = backlog->waiting.next;
	while (backlog_sift(engine, backlog, files))
		cond_resched();
}

/**
 * pciedma_backlog_cancel() - end a file's postponed requests early
 * @engine:  the engine
 * @backlog: the file's
 * @files:   the process whose they are; NULL: of all processes
 *
 * Context: process.
 */
void pciedma_backlog_cancel(struct pciedma_engine *engine, struct pciedma_backlog *backlog,
			    const void *files)
{
	struct pciedma_postponed *postponed;

	if (files)
		backlog_end_of_process(engine, backlog, files);
	else
		backlog_end_all(engine, backlog);
	/* One that did not wait any more has been taken up meanwhile. */
	guard(spinlock_irqsave)(&engine->lock);
	postponed = engine->taken_up;
	if (postponed && postponed->request.backlog == backlog &&
	    (!files || postponed->request.files == files))
		taken_up_cancel(engine);
}

/* The request that is taken up minds its time by itself, unless it waits for its pages. */
static s64 taken_up_watch(struct pciedma_engine *engine)
{
	s64 left;

	if (!engine->taken_up)
		return S64_MAX;
	left = taken_up_left(engine);
	if (left > 0)
		return left;
	taken_up_end(engine, -ETIMEDOUT);
	return pciedma_engine_drain_bound_ns(engine);
}

/* Let one more whose time is over end. Returns nanoseconds until the next one's is. */
static s64 deadlines_watch(struct pciedma_engine *engine)
{
	struct timerqueue_node *node = timerqueue_getnext(&engine->deadlines);
	struct pciedma_postponed *postponed;
	s64 left;

	if (!node)
		return S64_MAX;
	left = ktime_to_ns(ktime_sub(node->expires, ktime_get()));
	if (left > 0)
		return left;
	postponed = container_of(node, struct pciedma_postponed, deadline);
	postponed_untime(postponed);
	postponed_to_end(postponed, atomic_read(postponed->file_cancels) ==
			 postponed->file_cancels_seen ? -ETIMEDOUT : -ECANCELED);
	return 0;
}

/* The next that is to end, of the backlog whose turn it is. */
static struct pciedma_postponed *postponed_next_end(struct pciedma_engine *engine)
{
	struct pciedma_postponed *postponed;
	struct pciedma_backlog *backlog;
	s64 left;

	guard(spinlock_irqsave)(&engine->lock);
	left = min(taken_up_watch(engine), deadlines_watch(engine));
	backlog = list_first_entry_or_null(&engine->end_turns, struct pciedma_backlog, end_turn);
	if (!backlog) {
		if (left != S64_MAX)
			pciedma_work_within(&engine->ender, left);
		return NULL;
	}
	postponed = list_first_entry(&backlog->ending, struct pciedma_postponed, node);
	list_move_tail(&backlog->end_turn, &engine->end_turns);
	postponed_unlink(postponed);
	postponed_untime(postponed);
	postponed->iocb->private = NULL;
	if (postponed->error == -ETIMEDOUT)
		engine->stats[postponed->request.direction].timeouts++;
	return postponed;
}

/**
 * pciedma_postponed_end_work() - end postponed requests that are to end, or whose time is over
 * @work: the engine's
 *
 * Context: work item.
 */
void pciedma_postponed_end_work(struct work_struct *work)
{
	struct pciedma_engine *engine = container_of(to_delayed_work(work), struct pciedma_engine,
						     ender);
	struct pciedma_postponed *postponed;

	while ((postponed = postponed_next_end(engine))) {
		postponed_end(postponed, postponed->error ?: -ECANCELED);
		cond_resched();
	}
}
