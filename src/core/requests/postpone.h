/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Asynchronous requests that wait to be taken up.
 */
#ifndef PCIEDMA_POSTPONE_H
#define PCIEDMA_POSTPONE_H

#include "../memory/fetch.h"
#include "request.h"

/**
 * struct pciedma_postponed - an asynchronous request that waits to be taken up
 * @node:     on one of its backlog's lists; on none once it is taken up
 * @deadline: on lane->deadlines until it is taken up or ends
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
 * @done:     bytes that have moved
 * @fetch:    what makes its memory come, while it is on lane->missing
 * @came:     it has come
 * @came_early: before @fetch was set
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
	ssize_t done;
	struct pciedma_fetch *fetch;
	struct work_struct came;
	bool came_early;
};

/* postponed.c */
int pciedma_postpone_init(void);
void pciedma_postpone_exit(void);
struct pciedma_postponed *pciedma_postponed_alloc(const struct pciedma_request *request,
						  struct kiocb *iocb, struct iov_iter *iter);
void pciedma_postponed_free(struct pciedma_postponed *postponed);

/* postpone.c */
void pciedma_backlog_turn(struct pciedma_lane *lane, struct pciedma_backlog *backlog);
void pciedma_postponed_time(struct pciedma_postponed *postponed);
void pciedma_postponed_end(struct pciedma_postponed *postponed, ssize_t ret);
void pciedma_postponed_unlink(struct pciedma_postponed *postponed);
void pciedma_postponed_untime(struct pciedma_postponed *postponed);
s64 pciedma_taken_up_left(struct pciedma_lane *lane);

/* ender.c */
void pciedma_postponed_to_end(struct pciedma_postponed *postponed, int error);

/* missing.c */
void pciedma_postponed_came(struct work_struct *work);
ssize_t pciedma_postponed_miss(struct pciedma_postponed *postponed);
bool pciedma_postponed_leave(struct pciedma_postponed *postponed);

#endif /* PCIEDMA_POSTPONE_H */
