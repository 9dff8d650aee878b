/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Requests: who asks for data to be moved, and waits for it, in a call or not.
 *
 * Life times
 *   lane       part of its channel, from probe to the last close
 *   request    on the stack of the call that made it; an asynchronous one is an op (op.h) once
 *              the engine has it, and before that, if it found no room, an allocation of its own
 *   backlog    part of its open file, which each request holds open until it ends
 */
#ifndef PCIEDMA_REQUEST_H
#define PCIEDMA_REQUEST_H

#include <linux/uio.h>

#include "lane.h"

/* A time-out up to this is short: so long pages may be held and count against no limit. */
#define PCIEDMA_TIMEOUT_SHORT_NS	(60 * NSEC_PER_SEC)

/**
 * struct pciedma_part - a buffer that lies at an address
 * @buffer:  the buffer, held; or NULL
 * @address: where in user space
 * @offset:  of that in the buffer
 * @length:  bytes of it from there on
 */
struct pciedma_part {
	struct pciedma_buffer *buffer;
	unsigned long address;
	size_t offset;
	size_t length;
};

/**
 * struct pciedma_caller - a thread in a call, and what it is wanted for besides
 * @engine:     what it waits for
 * @in_request: it is part of a request, which may not have begun
 * @only_waits: it has begun nothing, and can be restarted
 * @notified:   work was left with it, which it does when the call returns
 * @stop_since: when it was seen that it is to stop, or 0
 */
struct pciedma_caller {
	struct pciedma_engine *engine;
	bool in_request;
	bool only_waits;
	bool notified;
	ktime_t stop_since;
};

/**
 * struct pciedma_request - one call, while it is under way
 * @lane:         where it goes
 * @engine:       the engine of that
 * @caller:       the thread that makes it
 * @waiter:       as who it waits for a transfer; its file is the one whose transfers and whose
 *                wait it is, for CANCEL: the open file, or the postponed request
 * @open_file:    the open file
 * @backlog:      its postponed requests for @lane
 * @files:        the process's table of files, for its exit
 * @cancels:      the number of CANCELs of its file
 * @cancels_seen: what it was when the call began
 * @direction:    which way the data goes
 * @mode:         enum pciedma_wait_mode
 * @nonblock:     EAGAIN instead of queueing
 * @timeout:      nanoseconds without progress; negative: no bound
 * @deadline:     when they are over
 * @transfers:    handed in and not yet taken back, in order, from @first
 * @first:        the oldest
 * @count:        how many
 * @ready:        the newest of them, if it is not handed in yet, or NULL
 * @told:         how many of the others an interrupt tells of
 * @quiet:        how many in a row were handed in of whose end none does
 * @end:          why nothing more is handed in: the result if nothing moves
 * @reason:       why what was handed in is not waited for any longer, or 0
 * @broken:       a transfer was not whole
 * @moved:        something has
 * @freezes:      the calling thread is to be frozen: hand in nothing more
 * @copies:       what comes next can only be copied, if it does not lie in a buffer
 * @missing:      what comes next was not there: it is to be touched outside the gate
 * @touches:      how often in a row that which is next was touched
 * @untouched:    bytes at the end of its memory that were not touched
 * @part:         the buffer in which what comes next lies
 * @collected:    bytes that have moved since it was last inside the gate
 * @late:         what could not be copied to user memory inside the gate
 */
struct pciedma_request {
	struct pciedma_lane *lane;
	struct pciedma_engine *engine;
	struct pciedma_caller caller;
	struct pciedma_waiter waiter;
	const void *open_file;
	struct pciedma_backlog *backlog;
	const void *files;
	const atomic_t *cancels;
	int cancels_seen;
	enum pciedma_direction direction;
	u32 mode;
	bool nonblock;
	s64 timeout;
	ktime_t deadline;
	struct pciedma_transfer *transfers[PCIEDMA_MAX_BUFFERS];
	unsigned int first;
	unsigned int count;
	struct pciedma_transfer *ready;
	unsigned int told;
	unsigned int quiet;
	int end;
	int reason;
	bool broken;
	bool moved;
	bool freezes;
	bool copies;
	bool missing;
	unsigned int touches;
	size_t untouched;
	struct pciedma_part part;
	size_t collected;
	struct list_head late;
};

/* In a kiocb's private pointer: it is an op, not a postponed request's. */
#define PCIEDMA_PRIVATE_OP	1UL

/* CANCEL was asked since the request began. */
static inline bool pciedma_request_cancelled(const struct pciedma_request *request)
{
	return atomic_read(request->cancels) != request->cancels_seen;
}

/* touch.c */
bool pciedma_request_touched(const struct pciedma_request *request, const struct iov_iter *iter);
size_t pciedma_request_touch_length(const struct iov_iter *iter);
int pciedma_request_touch(struct pciedma_request *request, const struct iov_iter *iter);
int pciedma_late_add(struct pciedma_request *request, const void *data, size_t length,
		     const struct iov_iter *iter, size_t place);
size_t pciedma_late_copy(struct pciedma_request *request, size_t done, bool may_wait);

/* signals.c */
bool pciedma_caller_gives_way(struct pciedma_caller *caller);
bool pciedma_request_freezes(const struct pciedma_request *request, const struct iov_iter *iter);
void pciedma_caller_return(struct pciedma_caller *caller);
int pciedma_caller_sleep(struct pciedma_caller *caller, struct completion *done, long timeout);

/* wait.c */
void pciedma_request_start(struct pciedma_request *request);
long pciedma_request_jiffies_left(const struct pciedma_request *request);
bool pciedma_request_polls(struct pciedma_request *request, u32 length);
int pciedma_request_acquire(struct pciedma_request *request);
int pciedma_transfer_wait(struct pciedma_request *request, struct pciedma_transfer *transfer);
int pciedma_transfer_stop(struct pciedma_request *request, struct pciedma_transfer *transfer,
			  int reason);

/* part.c */
void pciedma_request_forget_part(struct pciedma_request *request);
size_t pciedma_request_part(struct pciedma_request *request, const struct iov_iter *iter);
void pciedma_request_take_part(struct pciedma_request *request, struct pciedma_transfer *transfer,
			       struct iov_iter *iter, size_t length);

/* sync.c */
void pciedma_request_count_timeout(struct pciedma_request *request);
bool pciedma_request_copies(struct pciedma_request *request, const struct iov_iter *iter);
ssize_t pciedma_sync_run(struct pciedma_request *request, struct iov_iter *iter, u64 address);

/* aio.c */
void pciedma_aio_begin(struct kiocb *iocb, int (*cancel)(struct kiocb *iocb));
int pciedma_aio_submit(struct pciedma_request *request, struct kiocb *iocb, struct iov_iter *iter,
		       bool wait);
bool pciedma_aio_cancelled(const struct pciedma_request *request, const struct kiocb *iocb);
s64 pciedma_aio_timeout(const struct pciedma_request *request);
void pciedma_aio_cancel_iocb(struct pciedma_lane *lane, struct kiocb *iocb);
void pciedma_aio_cancel(struct pciedma_lane *lane, struct pciedma_backlog *backlog,
			const void *file, const void *files);

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
