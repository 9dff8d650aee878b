// SPDX-License-Identifier: GPL-2.0-only
/*
 * What wakes a thread and is no signal to its program: work that the kernel
 * leaves with a thread (io_uring's completions), stops, debuggers, freezers. A
 * call goes on over them, but lets go of the engine and of the gate before its
 * thread is frozen or stopped.
 */
#include <linux/freezer.h>
#include <linux/sched/signal.h>
#include <linux/signal.h>
#include <linux/swait.h>

#include "request.h"

/* How often a thread that is to stop looks whether a signal came, too. */
#define STOP_SLICE	(HZ / 50 + 1)

/* What a thread is wanted for. */
enum disturbance {
	UNDISTURBED,
	DISTURBED_BY_STOP,	/* a stop, a debugger, a freezer: nothing its program knows of */
	DISTURBED_BY_SIGNAL,	/* a signal to its program, or its end */
};

/* Signals that are pending for this thread and not blocked. Lock of the signals held. */
static sigset_t signals_pending(void)
{
	sigset_t pending;

	sigorsets(&pending, &current->pending.signal, &current->signal->shared_pending.signal);
	sigandnsets(&pending, &pending, &current->blocked);
	return pending;
}

/* Whether the program gets to know of a signal: by its handler, or by its end. */
static bool signal_counts(const struct sighand_struct *sighand, int number)
{
	__sighandler_t handler = sighand->action[number - 1].sa.sa_handler;

	if (handler == SIG_IGN)
		return false;
	return handler != SIG_DFL || !(sig_kernel_ignore(number) || sig_kernel_stop(number));
}

static enum disturbance disturbance_pending(void)
{
	/* A thread's own does not go while it runs. */
	struct sighand_struct *sighand = rcu_dereference_protected(current->sighand, true);
	sigset_t pending;
	int number;

	guard(spinlock_irq)(&sighand->siglock);
	pending = signals_pending();
	for (number = 1; number <= _NSIG; number++)
		if (sigismember(&pending, number) && signal_counts(sighand, number))
			return DISTURBED_BY_SIGNAL;
	recalc_sigpending();
	return signal_pending(current) ? DISTURBED_BY_STOP : UNDISTURBED;
}

/*
 * What the calling thread is wanted for. Work that is left with it waits until
 * the call returns: see pciedma_caller_return().
 */
static enum disturbance caller_disturbed(struct pciedma_caller *caller)
{
	if (!signal_pending(current))
		return UNDISTURBED;
	if (fatal_signal_pending(current))
		return DISTURBED_BY_SIGNAL;
	if (test_thread_flag(TIF_NOTIFY_SIGNAL)) {
		clear_notify_signal();
		caller->notified = true;
	}
	return disturbance_pending();
}

/* Whether a restart of the call would do something again. */
static bool caller_has_begun(const struct pciedma_caller *caller)
{
	const struct pciedma_request *request;

	if (!caller->in_request)
		return !caller->only_waits;
	request = container_of(caller, struct pciedma_request, caller);
	return request->moved ||
	       (request->count && READ_ONCE(request->transfers[request->first]->taken));
}

/* Before it is frozen, a thread ends all that it has handed in: a quarter of the bound each. */
static s64 stop_bound_ns(const struct pciedma_caller *caller)
{
	s64 bound = pciedma_engine_drain_bound_ns(caller->engine);

	return freezing(current) ? 2 * bound : bound;
}

static bool stop_is_due(struct pciedma_caller *caller)
{
	ktime_t now = ktime_get();

	if (!caller->stop_since)
		caller->stop_since = now;
	return ktime_to_ns(ktime_sub(now, caller->stop_since)) > stop_bound_ns(caller);
}

/**
 * pciedma_caller_gives_way() - whether a call ends early for what its thread is wanted for
 * @caller: the calling thread
 *
 * For a signal it does; for a stop at once if nothing of it has begun, for then
 * it is restarted, else after the drain bound. Work waits until the call returns.
 *
 * Context: process.
 * Return: true if so.
 */
bool pciedma_caller_gives_way(struct pciedma_caller *caller)
{
	enum disturbance disturbance = caller_disturbed(caller);

	if (disturbance == DISTURBED_BY_SIGNAL)
		return true;
	if (disturbance == UNDISTURBED) {
		caller->stop_since = 0;
		return false;
	}
	return !caller_has_begun(caller) || stop_is_due(caller);
}

/**
 * pciedma_request_freezes() - whether the calling thread is to be frozen between transfers
 * @request: its request
 * @iter:    its memory
 *
 * Whoever moves between kernel memory and the card can hold locks of a pipe's.
 *
 * Context: process.
 * Return: true if so.
 */
bool pciedma_request_freezes(const struct pciedma_request *request, const struct iov_iter *iter)
{
	return freezing(current) && user_backed_iter(iter) && !request->end;
}

/**
 * pciedma_caller_return() - a call returns to its program
 * @caller: the calling thread
 *
 * Context: process.
 */
void pciedma_caller_return(struct pciedma_caller *caller)
{
	if (caller->notified)
		set_thread_flag(TIF_NOTIFY_SIGNAL);
}

/* Returns 1 when it is done, 0 when the time is over, -EINTR if the state heeds what is pending. */
static int completion_sleep(struct completion *done, unsigned int state, long timeout)
{
	DECLARE_SWAITQUEUE(wait);
	int ret = 0;

	for (;;) {
		prepare_to_swait_exclusive(&done->wait, &wait, state);
		if (try_wait_for_completion(done)) {
			ret = 1;
			break;
		}
		if (signal_pending_state(state, current)) {
			ret = -EINTR;
			break;
		}
		if (!timeout)
			break;
		timeout = schedule_timeout(timeout);
	}
	finish_swait(&done->wait, &wait);
	return ret;
}

/**
 * pciedma_caller_sleep() - sleep over what is no signal to the program
 * @caller:  the calling thread
 * @done:    what it waits for
 * @timeout: jiffies; MAX_SCHEDULE_TIMEOUT: no bound
 *
 * Context: process, inside the gate, no lock held.
 * Return: 1 when it is done; 0 when the time is over; -EINTR if the call is
 * to end early.
 */
int pciedma_caller_sleep(struct pciedma_caller *caller, struct completion *done, long timeout)
{
	unsigned long end = jiffies + timeout;
	long left = timeout;
	int ret;

	for (;;) {
		if (caller->stop_since)
			ret = completion_sleep(done, TASK_KILLABLE, min_t(long, left, STOP_SLICE));
		else
			ret = completion_sleep(done, TASK_INTERRUPTIBLE, left);
		if (ret > 0)
			return ret;
		if ((ret || caller->stop_since) && pciedma_caller_gives_way(caller))
			return -EINTR;
		if (timeout == MAX_SCHEDULE_TIMEOUT)
			continue;
		left = (long)(end - jiffies);
		if (left <= 0)
			return 0;
	}
}
