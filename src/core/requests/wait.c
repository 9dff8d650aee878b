// SPDX-License-Identifier: GPL-2.0-only
/*
 * Waiting for a transfer: asleep, polling, or as long as it pays; and giving up.
 */
#include <linux/delay.h>
#include <linux/sched/signal.h>

#include "../trace/trace.h"
#include "request.h"

/* Who polls, and whose turn it is not, looks all the same after such a time without progress. */
#define TURN_MS		100

/* Longest sleep between two looks at a card whose interrupt may be lost. */
#define LOOK_MAX_JIFFIES	(2 * HZ)

/**
 * pciedma_request_start() - count the time without progress from now on
 * @request: the request
 */
void pciedma_request_start(struct pciedma_request *request)
{
	request->deadline = request->timeout < 0 ?
		KTIME_MAX : ktime_add_safe(ktime_get(), ns_to_ktime(request->timeout));
}

static bool request_due(const struct pciedma_request *request)
{
	return request->deadline != KTIME_MAX && ktime_after(ktime_get(), request->deadline);
}

/* Whether a request has no time left; asked after a look. Progress of what has begun is more. */
static bool request_expired(struct pciedma_request *request,
			    const struct pciedma_transfer *transfer)
{
	struct pciedma_engine *engine = request->engine;
	s64 left;

	if (!request_due(request))
		return false;
	guard(spinlock_irqsave)(&engine->lock);
	if (!transfer->taken)
		return true;
	left = pciedma_engine_patience_ns(engine, request->timeout);
	if (left <= 0)
		return true;
	request->deadline = ktime_add_ns(ktime_get(), left);
	return false;
}

/**
 * pciedma_request_jiffies_left() - how long a request may still sleep
 * @request: the request
 *
 * Return: jiffies, rounded up; at least 1.
 */
long pciedma_request_jiffies_left(const struct pciedma_request *request)
{
	s64 left;

	if (request->deadline == KTIME_MAX)
		return MAX_SCHEDULE_TIMEOUT;
	left = ktime_to_ns(ktime_sub(request->deadline, ktime_get()));
	if (left <= 0)
		return 1;
	return min_t(u64, nsecs_to_jiffies64(left) + 1, MAX_SCHEDULE_TIMEOUT - 1);
}

/* Returns 1 if a transfer was granted, 0 if the request waits for one, or an errno. */
static int request_ask(struct pciedma_request *request)
{
	struct pciedma_engine *engine = request->engine;

	guard(spinlock_irqsave)(&engine->lock);
	if (engine->state == PCIEDMA_ENGINE_BROKEN)
		return engine->broken_error;
	if (pciedma_request_cancelled(request))
		return -ECANCELED;
	if (request->nonblock && !pciedma_queue_ready(&request->lane->queue))
		return -EAGAIN;
	return pciedma_transfer_ask(&request->lane->queue, &request->waiter);
}

/**
 * pciedma_request_acquire() - get a transfer, in the order of asking
 * @request: who asks; its waiter's transfer is set
 *
 * Context: process; sleeps until one is free.
 * Return: 0; -EAGAIN (nonblock), -EINTR, -ETIMEDOUT, -ECANCELED, or the
 * engine's errno while it is broken.
 */
int pciedma_request_acquire(struct pciedma_request *request)
{
	int ret = request_ask(request);

	if (ret)
		return min(ret, 0);
	ret = pciedma_caller_sleep(&request->caller, &request->waiter.granted,
				   pciedma_request_jiffies_left(request));
	return pciedma_transfer_unask(&request->lane->queue, &request->waiter,
				      ret < 0 ? ret : -ETIMEDOUT);
}

/**
 * pciedma_request_polls() - whether to look for the end instead of being interrupted
 * @request: the request
 * @length:  bytes of the transfer
 *
 * Return: true if so.
 */
bool pciedma_request_polls(struct pciedma_request *request, u32 length)
{
	if (request->mode != PCIEDMA_WAIT_ADAPTIVE)
		return request->mode == PCIEDMA_WAIT_POLL;
	return pciedma_pace_polls(request->lane, request->direction, length);
}

static bool transfer_finished(struct pciedma_engine *engine, struct pciedma_transfer *transfer)
{
	guard(spinlock_irqsave)(&engine->lock);
	return transfer->state != PCIEDMA_TRANSFER_QUEUED;
}

static s64 drain_ns_left(struct pciedma_engine *engine)
{
	guard(spinlock_irqsave)(&engine->lock);
	return pciedma_engine_drain_ns(engine);
}

/* Look in place of an interrupt that should have come. */
static bool wait_look(struct pciedma_engine *engine, struct pciedma_transfer *transfer)
{
	pciedma_engine_look_late(engine, transfer->direction);
	return transfer_finished(engine, transfer);
}

/* Returns 0 when the transfer has finished, else why its owner waits no longer. */
static int wait_sleeping(struct pciedma_request *request, struct pciedma_transfer *transfer)
{
	struct pciedma_engine *engine = request->engine;
	long look = nsecs_to_jiffies(pciedma_engine_drain_bound_ns(engine)) + 1;
	long left;
	int ret;

	for (;;) {
		left = min(look, pciedma_request_jiffies_left(request));
		ret = pciedma_caller_sleep(&request->caller, &transfer->finished, left);
		if (ret > 0)
			return transfer_finished(engine, transfer) ? 0 : -ECANCELED;
		if (ret < 0)
			return ret;
		if (drain_ns_left(engine) <= 0) {
			if (wait_look(engine, transfer))
				return 0;
			look = min(2 * look, LOOK_MAX_JIFFIES);
		}
		if (request_expired(request, transfer))
			return -ETIMEDOUT;
	}
}

static void poll_look(struct pciedma_lane *lane, struct pciedma_transfer *transfer)
{
	struct pciedma_engine *engine = &lane->engine;

	if (trace_pciedma_poll_enabled())
		trace_pciedma_poll(engine->card->index, engine->channel, transfer->id,
				   pciedma_transfer_is_oldest(&lane->queue, transfer));
	pciedma_engine_look(engine);
}

static bool nobody_looks(struct pciedma_engine *engine)
{
	return pciedma_engine_drain_bound_ns(engine) - drain_ns_left(engine) >
	       TURN_MS * NSEC_PER_MSEC;
}

/*
 * Only the owner of the oldest transfer polls: the others would keep the
 * processors from those that they wait for. But he may be elsewhere, in a page
 * fault or off his processor. Returns 1 when it is this one's turn, 0 when it
 * has finished, or why its owner waits no longer.
 */
static int wait_for_turn(struct pciedma_request *request, struct pciedma_transfer *transfer)
{
	struct pciedma_engine *engine = request->engine;
	int ret;

	for (;;) {
		ret = pciedma_transfer_turn(&request->lane->queue, transfer);
		if (ret)
			return min(ret, 1);
		ret = pciedma_caller_sleep(&request->caller, &transfer->finished,
					   min_t(long, msecs_to_jiffies(TURN_MS),
						 pciedma_request_jiffies_left(request)));
		if (ret < 0)
			return ret;
		if (!ret && nobody_looks(engine))
			poll_look(request->lane, transfer);
		if (transfer_finished(engine, transfer))
			return 0;
		if (READ_ONCE(transfer->cancelled))
			return -ECANCELED;
		if (!ret && request_expired(request, transfer))
			return -ETIMEDOUT;
	}
}

/* Returns 0 when it has finished; -EAGAIN when @until has come; or why its owner gives up. */
static int wait_polling(struct pciedma_request *request, struct pciedma_transfer *transfer,
			ktime_t until)
{
	struct pciedma_engine *engine = request->engine;

	for (;;) {
		poll_look(request->lane, transfer);
		if (transfer_finished(engine, transfer))
			return 0;
		if (READ_ONCE(transfer->cancelled))
			return -ECANCELED;
		if (signal_pending(current) && pciedma_caller_gives_way(&request->caller))
			return -EINTR;
		if (request_due(request)) {
			pciedma_engine_stray(engine);
			if (request_expired(request, transfer))
				return transfer_finished(engine, transfer) ? 0 : -ETIMEDOUT;
		}
		if (until != KTIME_MAX && ktime_after(ktime_get(), until))
			return -EAGAIN;
		cond_resched();
		cpu_relax();
	}
}

static int wait_in_turn(struct pciedma_request *request, struct pciedma_transfer *transfer)
{
	int ret = wait_for_turn(request, transfer);

	return ret > 0 ? wait_polling(request, transfer, KTIME_MAX) : ret;
}

/* Poll as long as it pays, then sleep after all. */
static int wait_adaptively(struct pciedma_request *request, struct pciedma_transfer *transfer)
{
	struct pciedma_lane *lane = request->lane;
	ktime_t until;
	int ret = -EAGAIN;

	if (pciedma_transfer_is_oldest(&lane->queue, transfer)) {
		until = pciedma_pace_until(lane, request->direction, transfer->length);
		ret = wait_polling(request, transfer, until);
		pciedma_pace_polled(lane, request->direction, transfer->length, ret);
	}
	if (ret != -EAGAIN)
		return ret;
	scoped_guard(spinlock_irqsave, &lane->engine.lock)
		pciedma_queue_arm(&lane->queue, transfer);
	pciedma_engine_look(request->engine);
	return wait_sleeping(request, transfer);
}

/**
 * pciedma_transfer_wait() - wait for the end of a transfer
 * @request: its request
 * @transfer:  submitted
 *
 * Context: process.
 * Return: 0; or why its owner waits no longer: -EINTR, -ETIMEDOUT, -ECANCELED.
 */
int pciedma_transfer_wait(struct pciedma_request *request, struct pciedma_transfer *transfer)
{
	int ret;

	if (!transfer->polled)
		ret = wait_sleeping(request, transfer);
	else if (request->mode == PCIEDMA_WAIT_POLL)
		ret = wait_in_turn(request, transfer);
	else
		ret = wait_adaptively(request, transfer);
	if (!ret && request->mode == PCIEDMA_WAIT_ADAPTIVE)
		pciedma_pace_learn(request->lane, request->direction, transfer->length,
				   transfer->since);
	return ret;
}

/* What has begun may end by itself, as long as the engine gets on. */
static bool wait_drain(struct pciedma_request *request, struct pciedma_transfer *transfer)
{
	struct pciedma_engine *engine = request->engine;
	s64 left;

	while (!transfer_finished(engine, transfer)) {
		left = drain_ns_left(engine);
		if (left <= 0) {
			if (wait_look(engine, transfer))
				return true;
			left = drain_ns_left(engine);
		}
		if (left <= 0)
			return false;
		if (!transfer->polled && !transfer->quiet) {
			wait_for_completion_timeout(&transfer->finished,
						    nsecs_to_jiffies(left) + 1);
			continue;
		}
		/* Those whose end would be told of may have been taken back. */
		pciedma_engine_look_closely(engine);
		usleep_range(100, 200);
	}
	return true;
}

static int stop_error(int reason)
{
	return reason == -EINTR ? -EIO : reason;
}

/**
 * pciedma_transfer_stop() - the owner's patience is over
 * @request: its request
 * @transfer:  submitted
 * @reason:  why
 *
 * Takes the transfer back if the hardware has not begun it, else makes sure that
 * it ends.
 *
 * Context: process.
 * Return: @reason if it has not begun; 0 if it has ended.
 */
int pciedma_transfer_stop(struct pciedma_request *request, struct pciedma_transfer *transfer,
			  int reason)
{
	struct pciedma_queue *queue = &request->lane->queue;

	if (pciedma_transfer_cancel(queue, transfer))
		return reason;
	if (!wait_drain(request, transfer)) {
		pciedma_transfer_abort(queue, transfer, stop_error(reason));
		while (!transfer_finished(request->engine, transfer))
			wait_for_completion(&transfer->finished);
	}
	return 0;
}
