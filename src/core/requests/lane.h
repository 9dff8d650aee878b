/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Lanes: an engine with its queue, and what stands behind that.
 */
#ifndef PCIEDMA_LANE_H
#define PCIEDMA_LANE_H

#include <linux/kthread.h>
#include <linux/timerqueue.h>

#include "../queue/queue.h"

/* How often an engine is looked at while what it has may end without being told of. */
#define PCIEDMA_LOOK_NS		(10 * (s64)NSEC_PER_MSEC)

/* Classes of lengths, by powers of two, whose durations adaptive waiting remembers. */
#define PCIEDMA_PACES		32

/**
 * struct pciedma_pace - how long transfers of a class of lengths take
 * @ns:      recent durations, nanoseconds; 0 while none is known
 * @misses:  how many are not polled for after the next that is polled for in vain
 * @skips:   how many of them are left
 */
struct pciedma_pace {
	u32 ns;
	u16 misses;
	u16 skips;
};

/**
 * struct pciedma_lane - an engine with its queue, and with the requests behind it
 * @engine:         the engine
 * @buffers:        those of its channel
 * @queue:          its transfers
 * @op:             requests that the engine has, each at the place of its first transfer
 * @at_work:        how many of them have not ended
 * @stopping:       those of them that are to end early, and have begun
 * @done:           those that have ended, to be completed
 * @deferred:       those of them whose completion sleeps
 * @completer:      who completes some and tells the engine then of entries that get a transfer by
 *                  that, or NULL; where an interrupt does, the thread that it has interrupted
 * @unkicked:       the engine was not told of one yet
 * @unsure:         what was to be told of was taken back: what is at work may end without a word
 * @unsure_before:  of those before the transfer with this id
 * @waiting:        deadlines of entries that wait for a transfer
 * @ended:          entries that have ended without having been at work
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
 * @pace:           how long each class of lengths takes
 *
 * All but @copy_threshold, @spin_us and @pace is under the engine's lock.
 */
struct pciedma_lane {
	struct pciedma_engine engine;
	struct pciedma_buffer_home *buffers;
	struct pciedma_queue queue;
	struct pciedma_op *op;
	unsigned int at_work;
	struct list_head stopping;
	struct list_head done;
	struct list_head deferred;
	const struct task_struct *completer;
	bool unkicked;
	bool unsure;
	u32 unsure_before;
	struct timerqueue_head waiting;
	struct list_head ended;
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
	struct pciedma_pace pace[PCIEDMA_DIRECTIONS][PCIEDMA_PACES];
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

/* lane.c */
void pciedma_lane_init(struct pciedma_lane *lane, struct pciedma_buffer_home *buffers,
		       wait_queue_head_t *poll_wait);
int pciedma_lane_alloc(struct pciedma_lane *lane);
void pciedma_lane_free(struct pciedma_lane *lane);
struct pciedma_lane *pciedma_lane_of(struct pciedma_engine *engine);

void pciedma_lane_unsure(struct pciedma_lane *lane);

/* pace.c */
bool pciedma_pace_polls(struct pciedma_lane *lane, enum pciedma_direction direction, u32 length);
ktime_t pciedma_pace_until(struct pciedma_lane *lane, enum pciedma_direction direction, u32 length);
void pciedma_pace_polled(struct pciedma_lane *lane, enum pciedma_direction direction, u32 length,
			 int ret);
void pciedma_pace_learn(struct pciedma_lane *lane, enum pciedma_direction direction, u32 length,
			ktime_t since);

#endif /* PCIEDMA_LANE_H */
