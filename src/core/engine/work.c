// SPDX-License-Identifier: GPL-2.0-only
/*
 * Core's work queue.
 */
#include "card.h"

struct workqueue_struct *pciedma_workqueue;

/**
 * pciedma_work_within() - let a work item run soon enough
 * @work: on core's work queue; if it runs sooner anyway, it still does
 * @ns:   nanoseconds from now
 *
 * Context: lock of its engine held, lest another make it later.
 */
void pciedma_work_within(struct delayed_work *work, s64 ns)
{
	unsigned long delay = nsecs_to_jiffies(max(ns, 0LL)) + 1;

	/* One that is queued has no timer any more. */
	if (timer_pending(&work->timer) ?
	    time_before(jiffies + delay, READ_ONCE(work->timer.expires)) :
	    !work_pending(&work->work))
		mod_delayed_work(pciedma_workqueue, work, delay);
}
