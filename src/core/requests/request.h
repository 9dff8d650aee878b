/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Requests: who asks for data to be moved, and waits for it, in a call or not.
 *
 * Life times
 *   lane            part of its channel, from probe to the last close
 *   request         on the stack of the call that made it
 *   async request   of the lane, as many as there are transfers, from when it is handed in until
 *                   it ends; before that, if it found no room, an allocation of its own
 *   backlog         part of its open file, which each request holds open until it ends
 */
#ifndef PCIEDMA_REQUEST_H
#define PCIEDMA_REQUEST_H

#include <linux/kthread.h>
#include <linux/timerqueue.h>
#include <linux/uio.h>

#include "../queue/queue.h"

/* Classes of lengths, by powers of two, whose durations adaptive waiting remembers. */
#define PCIEDMA_PACES		32
/* A time-out up to this is short: so long pages may be held and count against no limit. */
#define PCIEDMA_TIMEOUT_SHORT_NS	(60 * NSEC_PER_SEC)

/**
 * struct pciedma_async - an asynchronous request that the engine has
 * @node:      on lane->stopping while it is to end early; on lane->done or ->deferred once
 *             @pending is 0
 * @lane:      its lane
 * @iocb:      the kernel's request
 * @file:      the open file that it came by, for CANCEL
 * @files:     the process's table of files, for its exit
 * @transfers: its transfers, in order
 * @pending:   how many of them have not finished; 0 if it is not at work
 * @error:     why it is to end early, or 0
 * @timeout:   nanoseconds without progress
 * @deadline:  when they are over
 */
struct pciedma_async {
	struct list_head node;
	struct pciedma_lane *lane;
	struct kiocb *iocb;
	const void *file;
	const void *files;
	struct list_head transfers;
	unsigned int pending;
	int error;
	s64 timeout;
	ktime_t deadline;
};

/**
 * struct pciedma_lane - an engine with its queue, and with the requests behind it
 * @engine:         the engine
 * @queue:          its transfers
 * @async:          asynchronous requests, each at the place of its first transfer
 * @at_work:        how many have not ended
 * @stopping:       those of them that are to end early, and have begun
 * @done:           those that have ended, to be completed
 * @deferred:       those of them whose completion sleeps
 * @watch:          looks after them
 * @sweep:          when the first of them may have to be stopped
 * @turns:          backlogs with postponed requests, in the order of their turns to be taken up
 * @end_turns:      those with requests that are to end, in the order of their turns
 * @missing:        postponed requests whose memory is not there
 * @deadlines:      of postponed requests that are not taken up
 * @ender:          ends those that are to end, or whose time is over
 * @taken_up:       the postponed request that @taker has, or NULL
 * @taker:          the thread that takes them up
 * @take_up:        its work
 * @copy_threshold: bytes of a request below which it is copied although it need not be
 * @spin_us:        microseconds beyond which adaptive waiting does not poll
 * @pace:           recent durations of each class of length, nanoseconds
 *
 * All but @copy_threshold, @spin_us and @pace is under the engine's lock.
 */
struct pciedma_lane {
	struct pciedma_engine engine;
	struct pciedma_queue queue;
	struct pciedma_async *async;
	unsigned int at_work;
	struct list_head stopping;
	struct list_head done;
	struct list_head deferred;
	struct delayed_work watch;
	ktime_t sweep;
	struct list_head turns;
	struct list_head end_turns;
	struct list_head missing;
	struct timerqueue_head deadlines;
	struct delayed_work ender;
	struct pciedma_postponed *taken_up;
	struct kthread_worker *taker;
	struct kthread_work take_up;
	u32 copy_threshold;
	u32 spin_us;
	u32 pace[PCIEDMA_DIRECTIONS][PCIEDMA_PACES];
};

/**
 * struct pciedma_backlog - postponed requests of one open file for one engine
 * @waiting:   those that wait to be taken up, in order
 * @turn:      on lane->turns while one of them may be taken up
 * @missing:   the one before them whose memory is not there, or NULL
 * @ending:    those that are to end
 * @end_turn:  on lane->end_turns while there are some
 * @sift_lock: one walk over @waiting at a time
 * @sift_next: where that goes on, or NULL
 *
 * All under the engine's lock but @sift_lock.
 */
struct pciedma_backlog {
	struct list_head waiting;
	struct list_head turn;
	struct pciedma_postponed *missing;
	struct list_head ending;
	struct list_head end_turn;
	struct mutex sift_lock; /* one walk over waiting at a time */
	struct list_head *sift_next;
};

/**
 * struct pciedma_request - one call, while it is under way
 * @lane:         where it goes
 * @engine:       the engine of that
 * @waiter:       as who it waits for a transfer; its file is the one whose transfers and whose
 *                wait it is, for CANCEL: the open file, or the postponed request
 * @direction:    which way the data goes
 * @open_file:    the open file
 * @backlog:      its postponed requests for @lane
 * @files:        the process's table of files, for its exit
 * @cancels:      the number of CANCELs of its file
 * @cancels_seen: what it was when the call began
 * @transfers:    handed in and not yet taken back, in order, from @first
 * @first:        the oldest
 * @count:        how many
 * @end:          why nothing more is handed in: the result if nothing moves
 * @reason:       why what was handed in is not waited for any longer, or 0
 * @broken:       a transfer was not whole
 * @copies:       what comes next can only be copied
 * @missing:      what comes next was not there: it is to be touched outside the gate
 * @untouched:    bytes at the end of its memory that were not touched
 * @touches:      how often in a row that which is next was touched
 * @mode:         enum pciedma_wait_mode
 * @nonblock:     EAGAIN instead of queueing
 * @timeout:      nanoseconds without progress; negative: no bound
 * @deadline:     when they are over
 * @collected:    bytes that have moved since it was last inside the gate
 * @moved:        something has
 * @notified:     work was left with the calling thread, which it does when the call returns
 * @late:         what could not be copied to user memory inside the gate
 * @freezes:      the calling thread is to be frozen: hand in nothing more
 * @stop_since:   when it was seen that the calling thread is to stop, or 0
 */
struct pciedma_request {
	struct pciedma_lane *lane;
	struct pciedma_engine *engine;
	struct pciedma_waiter waiter;
	enum pciedma_direction direction;
	const void *open_file;
	struct pciedma_backlog *backlog;
	const void *files;
	const atomic_t *cancels;
	int cancels_seen;
	struct pciedma_transfer *transfers[PCIEDMA_MAX_BUFFERS];
	unsigned int first;
	unsigned int count;
	int end;
	int reason;
	bool broken;
	bool copies;
	bool missing;
	size_t untouched;
	unsigned int touches;
	u32 mode;
	bool nonblock;
	s64 timeout;
	ktime_t deadline;
	size_t collected;
	bool moved;
	bool notified;
	struct list_head late;
	bool freezes;
	ktime_t stop_since;
};

/* In a kiocb's private pointer: it is a struct pciedma_async's, not a postponed request's. */
#define PCIEDMA_PRIVATE_ASYNC	1UL

/* CANCEL was asked since the request began. */
static inline bool pciedma_request_cancelled(const struct pciedma_request *request)
{
	return atomic_read(request->cancels) != request->cancels_seen;
}

/* lane.c */
void pciedma_lane_init(struct pciedma_lane *lane, wait_queue_head_t *poll_wait);
int pciedma_lane_alloc(struct pciedma_lane *lane);
void pciedma_lane_free(struct pciedma_lane *lane);
struct pciedma_lane *pciedma_lane_of(struct pciedma_engine *engine);

/* touch.c */
bool pciedma_request_touched(const struct pciedma_request *request, const struct iov_iter *iter);
size_t pciedma_request_touch_length(const struct iov_iter *iter);
int pciedma_request_touch(struct pciedma_request *request, const struct iov_iter *iter);
int pciedma_late_add(struct pciedma_request *request, const void *data, size_t length,
		     const struct iov_iter *iter, size_t place);
size_t pciedma_late_copy(struct pciedma_request *request, size_t done, bool may_wait);

/* signals.c */
bool pciedma_request_gives_way(struct pciedma_request *request);
bool pciedma_request_freezes(const struct pciedma_request *request, const struct iov_iter *iter);
void pciedma_request_return(struct pciedma_request *request);
int pciedma_request_sleep(struct pciedma_request *request, struct completion *done, long timeout);

/* wait.c */
void pciedma_request_start(struct pciedma_request *request);
long pciedma_request_jiffies_left(const struct pciedma_request *request);
bool pciedma_request_polls(struct pciedma_request *request, u32 length);
int pciedma_request_acquire(struct pciedma_request *request);
int pciedma_transfer_wait(struct pciedma_request *request, struct pciedma_transfer *transfer);
int pciedma_transfer_stop(struct pciedma_request *request, struct pciedma_transfer *transfer,
			  int reason);

/* sync.c */
void pciedma_request_count_timeout(struct pciedma_request *request);
bool pciedma_request_copies(const struct pciedma_request *request, const struct iov_iter *iter);
ssize_t pciedma_sync_run(struct pciedma_request *request, struct iov_iter *iter, u64 address);

/* async.c */
void pciedma_async_begin(struct kiocb *iocb, int (*cancel)(struct kiocb *iocb));
int pciedma_async_submit(struct pciedma_request *request, struct kiocb *iocb,
			 struct iov_iter *iter, bool wait);
bool pciedma_async_cancelled(const struct pciedma_request *request, const struct kiocb *iocb);
s64 pciedma_async_timeout(const struct pciedma_request *request);
void pciedma_async_complete(struct pciedma_lane *lane);
void pciedma_async_complete_deferred(struct pciedma_lane *lane);
void pciedma_async_less(struct pciedma_async *async);

/* async_watch.c */
void pciedma_async_cancel_iocb(struct pciedma_lane *lane, struct kiocb *iocb);
void pciedma_async_cancel(struct pciedma_lane *lane, struct pciedma_backlog *backlog,
			  const void *file, const void *files);
void pciedma_async_watch(struct work_struct *work);

/* postpone.c */
void pciedma_backlog_init(struct pciedma_backlog *backlog);
bool pciedma_backlog_has(const struct pciedma_request *request);
void pciedma_backlog_cancel(struct pciedma_lane *lane, struct pciedma_backlog *backlog,
			    const void *files);
int pciedma_postpone(const struct pciedma_request *request, struct kiocb *iocb,
		     struct iov_iter *iter);
int pciedma_taker_create(struct pciedma_lane *lane);
void pciedma_taker_destroy(struct pciedma_lane *lane);
void pciedma_postponed_kill(struct pciedma_lane *lane);
bool pciedma_lane_postpones(const struct pciedma_lane *lane);
void pciedma_postponed_cancel(struct pciedma_lane *lane, struct pciedma_postponed *postponed);
void pciedma_postponed_end_work(struct work_struct *work);

#endif /* PCIEDMA_REQUEST_H */
