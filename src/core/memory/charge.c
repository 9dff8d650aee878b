// SPDX-License-Identifier: GPL-2.0-only
/*
 * What counts against the limit of locked memory, RLIMIT_MEMLOCK: by the user, since what is
 * charged is given back by whichever process or thread is the last to let go.
 */
#include <linux/cred.h>
#include <linux/device.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/user.h>

#include "buffer.h"

/* The kernel counts in pages; people, and ulimit, in KiB. */
static unsigned long kib(unsigned long pages)
{
	return pages << (PAGE_SHIFT - 10);
}

/**
 * pciedma_charge() - count pages against the limit of the calling process
 * @charge: where to note whose they are
 * @dev:    for whom they are to be locked, for the log
 * @pages:  how many
 *
 * Context: process.
 * Return: 0; -ENOMEM, after a line that says what would do, if the limit is too low; or if there
 * is not so much memory, for which nobody else is to suffer.
 */
int pciedma_charge(struct pciedma_charge *charge, struct device *dev, unsigned long pages)
{
	struct user_struct *user = current_user();
	unsigned long limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;
	unsigned long locked;

	if (pages > totalram_pages()) {
		dev_info_ratelimited(dev, "%s asked for a buffer of %lu KiB; of memory there are %lu KiB\n",
				     current->comm, kib(pages), kib(totalram_pages()));
		return -ENOMEM;
	}
	locked = atomic_long_add_return(pages, &user->locked_vm);
	if (locked > limit && !capable(CAP_IPC_LOCK)) {
		atomic_long_sub(pages, &user->locked_vm);
		dev_info_ratelimited(dev, "%s needs a limit of locked memory (ulimit -l) of %lu KiB for %lu KiB more, and has %lu KiB\n",
				     current->comm, kib(locked), kib(pages), kib(limit));
		return -ENOMEM;
	}
	charge->cred = get_current_cred(); /* which holds the user */
	charge->pages = pages;
	return 0;
}

/**
 * pciedma_uncharge() - count them no more
 * @charge: as pciedma_charge() left it, or zero
 *
 * Context: process.
 */
void pciedma_uncharge(struct pciedma_charge *charge)
{
	if (!charge->cred)
		return;
	atomic_long_sub(charge->pages, &charge->cred->user->locked_vm);
	put_cred(charge->cred);
	charge->cred = NULL;
}
