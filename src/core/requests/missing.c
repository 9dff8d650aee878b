// SPDX-License-Identifier: GPL-2.0-only
/*
 * Postponed requests whose memory is not there: each has a thread of its own make it come, and
 * stands aside meanwhile, and behind it those of its file. Whatever ends it leaves the thread
 * alone.
 */
#include "postpone.h"

/* Under the fetch's lock. */
static void postponed_comes(void *owner)
{
	struct pciedma_postponed *postponed = owner;

	queue_work(pciedma_workqueue, &postponed->came);
}

/* Its memory is not waited for any more: it is on no list. */
static struct pciedma_fetch *postponed_back(struct pciedma_postponed *postponed)
{
	struct pciedma_fetch *fetch = postponed->fetch;

	postponed->fetch = NULL;
	postponed->request.backlog->missing = NULL;
	list_del_init(&postponed->node);
	pciedma_backlog_turn(postponed->request.lane, postponed->request.backlog);
	return fetch;
}

/* Its memory has come, or what of it there is. */
static void postponed_go_on(struct pciedma_postponed *postponed)
{
	struct pciedma_request *request = &postponed->request;
	struct pciedma_fetch *fetch = postponed_back(postponed);
	int error = postponed->error;
	size_t found = fetch->found;

	pciedma_fetch_put(fetch);
	request->untouched = iov_iter_count(&postponed->iter) - found;
	if (error || !found) {
		postponed->error = 0;
		pciedma_postponed_to_end(postponed, error ?: -EFAULT);
		return;
	}
	list_add(&postponed->node, &request->backlog->waiting);
	pciedma_backlog_turn(request->lane, request->backlog);
	kthread_queue_work(request->lane->taker, &request->lane->take_up);
}

/**
 * pciedma_postponed_came() - memory has come
 * @work: its request's
 *
 * Context: work item.
 */
void pciedma_postponed_came(struct work_struct *work)
{
	struct pciedma_postponed *postponed = container_of(work, struct pciedma_postponed, came);

	guard(spinlock_irqsave)(&postponed->request.engine->lock);
	if (postponed->fetch)
		postponed_go_on(postponed);
	else
		postponed->came_early = true;
}

/**
 * pciedma_postponed_leave() - leave the thread that makes a request's memory come alone
 * @postponed: the request, which is to end; it is on no list then
 *
 * Context: engine lock held.
 * Return: false if the memory has just come: then the request is found to end there.
 */
bool pciedma_postponed_leave(struct pciedma_postponed *postponed)
{
	if (!pciedma_fetch_give_up(postponed->fetch))
		return false;
	pciedma_fetch_put(postponed_back(postponed));
	return true;
}

/**
 * pciedma_postponed_miss() - stand aside until memory has come
 * @postponed: the request that is taken up
 *
 * Context: process, the lane's thread.
 * Return: -EINPROGRESS: it is not taken up any more, and may have gone; or its result.
 */
ssize_t pciedma_postponed_miss(struct pciedma_postponed *postponed)
{
	struct pciedma_request *request = &postponed->request;
	struct pciedma_lane *lane = request->lane;
	struct pciedma_fetch *fetch;
	int error;

	fetch = pciedma_fetch_start(postponed->mm, &postponed->iter,
				    pciedma_request_touch_length(&postponed->iter),
				    request->direction == PCIEDMA_C2H ? DMA_FROM_DEVICE :
									DMA_TO_DEVICE,
				    postponed_comes, postponed);
	if (IS_ERR(fetch))
		return postponed->done ?: PTR_ERR(fetch);
	guard(spinlock_irqsave)(&lane->engine.lock);
	lane->taken_up = NULL;
	postponed->fetch = fetch;
	request->backlog->missing = postponed;
	list_add_tail(&postponed->node, &lane->missing);
	pciedma_backlog_turn(lane, request->backlog);
	pciedma_postponed_time(postponed);
	error = postponed->error;
	if (!error && lane->engine.state == PCIEDMA_ENGINE_BROKEN)
		error = lane->engine.broken_error;
	if (postponed->came_early) {
		postponed->came_early = false;
		postponed_go_on(postponed);
	} else if (error) {
		postponed->error = 0;
		pciedma_postponed_to_end(postponed, error);
	}
	return -EINPROGRESS;
}
