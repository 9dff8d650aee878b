// SPDX-License-Identifier: GPL-2.0-only
/*
 * ioctls: their arguments come and go outside the gate, since user memory may never come.
 */
#include <linux/uaccess.h>

#include "card_node.h"

/**
 * pciedma_ioctl_begin() - fetch an ioctl's argument
 * @ioctl:   where to put it
 * @command: which ioctl
 * @value:   user space's
 *
 * Context: process, outside the gate.
 * Return: 0; -ENOTTY if it is none of ours; -EFAULT.
 */
int pciedma_ioctl_begin(struct pciedma_ioctl *ioctl, unsigned int command, unsigned long value)
{
	size_t size = _IOC_SIZE(command);

	if (_IOC_TYPE(command) != PCIEDMA_IOC_MAGIC || size > sizeof(ioctl->argument))
		return -ENOTTY;
	ioctl->command = command;
	ioctl->user = (void __user *)value;
	return copy_from_user(&ioctl->argument, ioctl->user, size) ? -EFAULT : 0;
}

/**
 * pciedma_ioctl_end() - give an ioctl's argument back
 * @ioctl: the ioctl
 * @ret:   its result
 *
 * Context: process, outside the gate.
 * Return: @ret, or -EFAULT.
 */
long pciedma_ioctl_end(struct pciedma_ioctl *ioctl, long ret)
{
	if (ret || !(_IOC_DIR(ioctl->command) & _IOC_READ))
		return ret;
	return copy_to_user(ioctl->user, &ioctl->argument, _IOC_SIZE(ioctl->command)) ?
		-EFAULT : 0;
}
