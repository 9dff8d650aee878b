/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Asynchronous requests that wait to be taken up.
 */
#ifndef PCIEDMA_POSTPONE_H
#define PCIEDMA_POSTPONE_H

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

void pciedma_postponed_end(struct pciedma_postponed *postponed, ssize_t ret);
void pciedma_postponed_unlink(struct pciedma_postponed *postponed);
void pciedma_postponed_untime(struct pciedma_postponed *postponed);
s64 pciedma_taken_up_left(struct pciedma_lane *lane);

#endif /* PCIEDMA_POSTPONE_H */
