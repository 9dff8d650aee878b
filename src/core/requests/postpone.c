// SPDX-License-Identifier: GPL-2.0-only
/*
 * Asynchronous requests that find no room when they are submitted, or that an
 * engine cannot have all at once: a thread of the engine takes them up, open
 * file by open file in turn and in each file's order, in the address space of
 * whoever submitted them. It waits for nobody's memory: see missing.c.
 */
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/timerqueue.h>

#include <compat.h>

#include "postpone.h"

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
	const struct pciedma_postponed *taken_up = request->lane->taken_up;

	lockdep_assert_held(&request->engine->lock);
	return !list_empty(&request->backlog->waiting) || request->backlog->missing ||
	       (taken_up && taken_up->request.backlog == request->backlog);
}

/**
 * pciedma_backlog_turn() - a backlog has its turn while one of its requests may be taken up
 * @lane:    its lane
 * @backlog: the backlog
 *
 * Context: engine lock held.
 */
void pciedma_backlog_turn(struct pciedma_lane *lane, struct pciedma_backlog *backlog)
{
	bool wants = !list_empty(&backlog->waiting) && !backlog->missing;

	if (!wants)
		list_del_init(&backlog->turn);
	else if (list_empty(&backlog->turn))
		list_add_tail(&backlog->turn, &lane->turns);
}

/**
 * pciedma_postponed_time() - a request has its deadline in the lane
 * @postponed: the request
 *
 * Context: engine lock held.
 */
void pciedma_postponed_time(struct pciedma_postponed *postponed)
{
	struct pciedma_lane *lane = postponed->request.lane;
	s64 left = ktime_to_ns(ktime_sub(postponed->request.deadline, ktime_get()));

	postponed->deadline.expires = postponed->request.deadline;
	if (timerqueue_add(&lane->deadlines, &postponed->deadline))
		pciedma_work_within(&lane->ender, left);
}

/* Returns 0, or why it must not begin any more. */
static int postponed_queue(const struct pciedma_request *request,
			   struct pciedma_postponed *postponed)
{
	struct pciedma_engine *engine = request->engine;
	struct pciedma_backlog *backlog = request->backlog;
	struct pciedma_lane *lane = request->lane;

	guard(spinlock_irqsave)(&engine->lock);
	if (engine->state == PCIEDMA_ENGINE_BROKEN)
		return engine->broken_error;
	if (pciedma_aio_cancelled(request, postponed->iocb))
		return -ECANCELED;
	postponed->iocb->private = postponed;
	list_add_tail(&postponed->node, &backlog->waiting);
	pciedma_backlog_turn(lane, backlog);
	pciedma_postponed_time(postponed);
	kthread_queue_work(lane->taker, &lane->take_up);
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
	struct pciedma_postponed *postponed = pciedma_postponed_alloc(request, iocb, iter);
	int ret;

	if (!postponed)
		return -ENOMEM;
	ret = postponed_queue(request, postponed);
	if (!ret)
		return -EIOCBQUEUED;
	pciedma_postponed_free(postponed);
	return ret;
}

/**
 * pciedma_postponed_end() - complete a request that is postponed no more
 * @postponed: the request; freed
 * @ret:       its result
 *
 * Context: process; no lock held.
 */
void pciedma_postponed_end(struct pciedma_postponed *postponed, ssize_t ret)
{
	struct pciedma_engine *engine = postponed->request.engine;
	struct kiocb *iocb = postponed->iocb;

	pciedma_postponed_free(postponed);
	if (ret > 0 && engine->kind == PCIEDMA_KIND_MEMORY)
		iocb->ki_pos += ret;
	pciedma_card_leave(engine->card);
	iocb->ki_complete(iocb, ret);
}

/* As a call does it, which copies what cannot be pinned. Returns bytes or an errno. */
static ssize_t postponed_run(struct pciedma_postponed *postponed)
{
	struct pciedma_request *request = &postponed->request;
	bool memory = request->engine->kind == PCIEDMA_KIND_MEMORY;
	ssize_t ret, has;

	ret = pciedma_sync_run(request, &postponed->iter,
			       memory ? postponed->iocb->ki_pos + postponed->done : 0);
	if (ret > 0 && !list_empty(&request->late)) {
		has = pciedma_late_copy(request, ret, false);
		request->missing &= has == ret;
		ret = has ?: -EFAULT;
	}
	if (ret > 0)
		postponed->done += ret;
	return postponed->done ?: ret;
}

/* Returns its result, if its memory is not missing. */
static ssize_t postponed_try(struct pciedma_postponed *postponed)
{
	struct pciedma_request *request = &postponed->request;
	ssize_t ret;

	request->missing = false;
	if (postponed->done)
		return postponed_run(postponed);
	ret = pciedma_aio_submit(request, postponed->iocb, &postponed->iter, true);
	if (ret == -EAGAIN)
		return postponed_run(postponed);
	if (ret == -ETIMEDOUT)
		pciedma_request_count_timeout(request);
	request->missing = ret == -EFAULT;
	return ret;
}

/* Returns its result; -EINPROGRESS if its memory is missing, and may not come by itself. */
static ssize_t postponed_carry_out(struct pciedma_postponed *postponed)
{
	struct pciedma_request *request = &postponed->request;
	struct iov_iter *iter = &postponed->iter;
	ssize_t ret;

	for (;;) {
		ret = postponed_try(postponed);
		if (!request->missing)
			return ret;
		if (!pciedma_memory_comes(iter, pciedma_request_touch_length(iter)))
			return -EINPROGRESS;
		ret = pciedma_request_touch(request, iter);
		if (ret)
			return postponed->done ?: ret;
	}
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
	pciedma_request_forget_part(&postponed->request);
	kthread_unuse_mm(mm);
	mmput_async(mm);
	return ret;
}

/**
 * pciedma_postponed_unlink() - a request leaves the list that it is on
 * @postponed: the request
 *
 * Context: engine lock held.
 */
void pciedma_postponed_unlink(struct pciedma_postponed *postponed)
{
	struct pciedma_backlog *backlog = postponed->request.backlog;

	lockdep_assert_held(&postponed->request.engine->lock);
	if (backlog->sift_next == &postponed->node)
		backlog->sift_next = postponed->node.next;
	list_del_init(&postponed->node);
	pciedma_backlog_turn(postponed->request.lane, backlog);
	if (list_empty(&backlog->ending))
		list_del_init(&backlog->end_turn);
}

/**
 * pciedma_postponed_untime() - a request has no deadline in the lane any more
 * @postponed: the request
 *
 * Context: engine lock held.
 */
void pciedma_postponed_untime(struct pciedma_postponed *postponed)
{
	if (timerqueue_node_queued(&postponed->deadline))
		timerqueue_del(&postponed->request.lane->deadlines, &postponed->deadline);
}

/**
 * pciedma_taken_up_left() - when the request that is taken up must have minded its time
 * @lane: its lane, which has one
 *
 * Context: engine lock held.
 * Return: nanoseconds from now.
 */
s64 pciedma_taken_up_left(struct pciedma_lane *lane)
{
	return ktime_to_ns(ktime_sub(READ_ONCE(lane->taken_up->request.deadline), ktime_get())) +
	       2 * pciedma_engine_drain_bound_ns(&lane->engine);
}

/* The next to be taken up. */
static struct pciedma_postponed *postponed_next(struct pciedma_lane *lane)
{
	struct pciedma_postponed *postponed;
	struct pciedma_backlog *backlog;

	guard(spinlock_irqsave)(&lane->engine.lock);
	backlog = list_first_entry_or_null(&lane->turns, struct pciedma_backlog, turn);
	if (!backlog)
		return NULL;
	postponed = list_first_entry(&backlog->waiting, struct pciedma_postponed, node);
	list_move_tail(&backlog->turn, &lane->turns);
	pciedma_postponed_unlink(postponed);
	pciedma_postponed_untime(postponed);
	lane->taken_up = postponed;
	pciedma_work_within(&lane->ender, pciedma_taken_up_left(lane));
	return postponed;
}

/* One that was to end may do so with one errno or another: returns why it was to. */
static ssize_t postponed_result(struct pciedma_lane *lane,
				const struct pciedma_postponed *postponed, ssize_t ret)
{
	lockdep_assert_held(&lane->engine.lock);
	if (ret >= 0 || ret == -EIOCBQUEUED || ret == -ETIMEDOUT)
		return ret;
	if (postponed->error == -ETIMEDOUT)
		lane->engine.stats[postponed->request.direction].timeouts++;
	if (postponed->error)
		return postponed->error;
	return lane->engine.state == PCIEDMA_ENGINE_BROKEN ? lane->engine.broken_error : ret;
}

/* It is taken up no longer; if the engine has it, all but this structure may be gone. */
static ssize_t postponed_put_down(struct pciedma_lane *lane,
				  struct pciedma_postponed *postponed, ssize_t ret)
{
	guard(spinlock_irqsave)(&lane->engine.lock);
	lane->taken_up = NULL;
	if (ret != -EIOCBQUEUED)
		postponed->iocb->private = NULL;
	return postponed_result(lane, postponed, ret);
}

static void postponed_work(struct kthread_work *work)
{
	struct pciedma_lane *lane = container_of(work, struct pciedma_lane, take_up);
	struct pciedma_postponed *postponed;
	ssize_t ret;

	while ((postponed = postponed_next(lane))) {
		ret = postponed_carry_out_for(postponed);
		if (ret == -EINPROGRESS)
			ret = pciedma_postponed_miss(postponed);
		if (ret == -EINPROGRESS)
			continue;
		ret = postponed_put_down(lane, postponed, ret);
		if (ret == -EIOCBQUEUED)
			pciedma_postponed_free(postponed);
		else
			pciedma_postponed_end(postponed, ret);
		cond_resched();
	}
	wake_up_interruptible(lane->queue.poll_wait);
}

/**
 * pciedma_taker_create() - make the thread that takes up postponed requests
 * @lane: the lane
 *
 * Context: process.
 * Return: 0 or an errno.
 */
int pciedma_taker_create(struct pciedma_lane *lane)
{
	struct kthread_worker *taker;

	kthread_init_work(&lane->take_up, postponed_work);
	taker = kthread_run_worker(0, "pciedma%d-%u", lane->engine.card->index, lane->engine.index);
	if (IS_ERR(taker))
		return PTR_ERR(taker);
	lane->taker = taker;
	return 0;
}

/**
 * pciedma_taker_destroy() - end that thread, and the work item that ends requests
 * @lane: nothing is postponed any more
 *
 * Context: process.
 */
void pciedma_taker_destroy(struct pciedma_lane *lane)
{
	if (lane->taker)
		kthread_destroy_worker(lane->taker);
	lane->taker = NULL;
	cancel_delayed_work_sync(&lane->ender);
}

/**
 * pciedma_postponed_kill() - the engine is broken: nobody waits for memory any longer
 * @lane: the lane
 *
 * Context: engine lock held.
 */
void pciedma_postponed_kill(struct pciedma_lane *lane)
{
	struct pciedma_postponed *postponed, *next;

	lockdep_assert_held(&lane->engine.lock);
	list_for_each_entry_safe(postponed, next, &lane->missing, node)
		pciedma_postponed_to_end(postponed, lane->engine.broken_error);
}

/**
 * pciedma_lane_postpones() - whether requests of any file wait to be taken up
 * @lane: the lane
 *
 * Context: engine lock held.
 * Return: true if so.
 */
bool pciedma_lane_postpones(const struct pciedma_lane *lane)
{
	return lane->taken_up || !list_empty(&lane->turns);
}
