// SPDX-License-Identifier: GPL-2.0-only
/*
 * The window nodes /dev/pciedma<card>w<window>: each read and write is one access to a register,
 * or one for each element of a vector.
 */
#include <linux/compat.h>
#include <linux/fs.h>
#include <linux/io-64-nonatomic-lo-hi.h> /* 32-bit kernels, which have no such width */
#include <linux/log2.h>
#include <linux/sysfs.h>
#include <linux/uio.h>

#include "windows.h"

/* A register's bytes as they lie in the card, and as the program gets them. */
union value {
	u8 byte;
	__le16 word;
	__le32 dword;
	__le64 qword;
};

static int window_open(struct inode *inode, struct file *file)
{
	struct pciedma_window *window = container_of(inode->i_cdev, struct pciedma_window, cdev);

	/* Registers have no end to append to, and nobody has them for himself. */
	if (file->f_flags & (O_APPEND | O_EXCL))
		return -EINVAL;
	if (!pciedma_card_enter(&window->node->card))
		return -ENODEV;
	get_device(&window->dev);
	pciedma_card_leave(&window->node->card);
	file->private_data = window;
	file->f_mapping = window->node->inode->i_mapping;
	file->f_mode |= FMODE_NOWAIT;
	return 0;
}

static int window_release(struct inode *inode, struct file *file)
{
	struct pciedma_window *window = file->private_data;

	put_device(&window->dev);
	return 0;
}

/* The bytes of the next access: those of a vector's element, empty ones skipped. */
static size_t next_width(struct iov_iter *iter)
{
	if (!iter_is_iovec(iter))
		return iov_iter_count(iter);
	if (!iov_iter_single_seg_count(iter))
		iov_iter_advance(iter, 0);
	return iov_iter_single_seg_count(iter);
}

/* All accesses of a call are looked at before the first is made. Returns bytes or -EINVAL. */
static ssize_t accesses_within(const struct pciedma_window *window, u64 position,
			       struct iov_iter iter)
{
	size_t within = 0;
	size_t width;

	while (iov_iter_count(&iter)) {
		width = next_width(&iter);
		if (!is_power_of_2(width) || !(window->widths & width) || position & (width - 1))
			return -EINVAL;
		if (position < window->size)
			within += width;
		position += width;
		iov_iter_advance(&iter, width);
	}
	return within;
}

static void register_read(const void __iomem *reg, union value *value, size_t width)
{
	switch (width) {
	case 1:
		value->byte = readb(reg);
		break;
	case 2:
		value->word = cpu_to_le16(readw(reg));
		break;
	case 4:
		value->dword = cpu_to_le32(readl(reg));
		break;
	default:
		value->qword = cpu_to_le64(readq(reg));
	}
}

static void register_write(void __iomem *reg, const union value *value, size_t width)
{
	switch (width) {
	case 1:
		writeb(value->byte, reg);
		break;
	case 2:
		writew(le16_to_cpu(value->word), reg);
		break;
	case 4:
		writel(le32_to_cpu(value->dword), reg);
		break;
	default:
		writeq(le64_to_cpu(value->qword), reg);
	}
}

/* Reading may change the register: what could be known before is found out before. */
static int window_load(const struct pciedma_window *window, struct kiocb *iocb,
		       struct iov_iter *to, size_t width, bool nowait)
{
	union value value;
	int ret;

	if (fault_in_iov_iter_writeable(to, width))
		return -EFAULT;
	ret = pciedma_windows_enter(window->node->windows, nowait);
	if (ret)
		return ret;
	register_read(window->regs + iocb->ki_pos, &value, width);
	pciedma_windows_leave(window->node->windows);
	return copy_to_iter(&value, width, to) == width ? 0 : -EFAULT;
}

static int window_store(const struct pciedma_window *window, struct kiocb *iocb,
			struct iov_iter *from, size_t width, bool nowait)
{
	union value value;
	int ret;

	if (copy_from_iter(&value, width, from) != width)
		return -EFAULT;
	ret = pciedma_windows_enter(window->node->windows, nowait);
	if (ret)
		return ret;
	register_write(window->regs + iocb->ki_pos, &value, width);
	if (window->write_combining)
		wmb(); /* else it may wait for a neighbour, and become one with it */
	pciedma_windows_leave(window->node->windows);
	return 0;
}

static ssize_t window_rw(struct kiocb *iocb, struct iov_iter *iter, bool write)
{
	const struct pciedma_window *window = iocb->ki_filp->private_data;
	bool nowait = iocb->ki_flags & IOCB_NOWAIT || iocb->ki_filp->f_flags & O_NONBLOCK;
	ssize_t within = accesses_within(window, iocb->ki_pos, *iter);
	ssize_t done = 0;
	size_t width;
	int ret = 0;

	if (!iov_iter_count(iter) || within < 0)
		return within;
	if (!within)
		return write ? -ENOSPC : 0;
	while (!ret && done < within) {
		width = next_width(iter);
		ret = write ? window_store(window, iocb, iter, width, nowait) :
			      window_load(window, iocb, iter, width, nowait);
		if (ret)
			break;
		iocb->ki_pos += width;
		done += width;
	}
	return done ?: ret;
}

static ssize_t window_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	return window_rw(iocb, to, false);
}

static ssize_t window_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	if (iocb->ki_flags & IOCB_APPEND)
		return -EINVAL;
	return window_rw(iocb, from, true);
}

static loff_t window_llseek(struct file *file, loff_t offset, int whence)
{
	struct pciedma_window *window = file->private_data;

	return fixed_size_llseek(file, offset, whence, window->size);
}

static long window_info(const struct pciedma_window *window, struct pciedma_window_info *info)
{
	if (info->flags || memchr_inv(info->reserved, 0, sizeof(info->reserved)))
		return -EINVAL;
	memset(info, 0, sizeof(*info));
	if (window->mappable)
		info->flags |= PCIEDMA_WINDOW_MAPPABLE;
	if (window->write_combining)
		info->flags |= PCIEDMA_WINDOW_WRITE_COMBINING;
	info->card = window->node->card.index;
	info->window = window->index;
	info->widths = window->widths;
	info->size = window->size;
	info->bar = window->bar;
	strscpy(info->name, window->name, sizeof(info->name));
	return 0;
}

static long window_ioctl(struct file *file, unsigned int command, unsigned long value)
{
	struct pciedma_window *window = file->private_data;
	struct pciedma_ioctl ioctl;
	long ret;

	ret = pciedma_ioctl_begin(&ioctl, command, value);
	if (ret)
		return ret;
	if (!pciedma_card_enter(&window->node->card))
		return -ENODEV;
	switch (command) {
	case PCIEDMA_IOC_CARD_INFO:
		ret = pciedma_card_get_info(window->node, &ioctl.argument.card_info);
		break;
	case PCIEDMA_IOC_WINDOW_INFO:
		ret = window_info(window, &ioctl.argument.window_info);
		break;
	default:
		ret = -ENOTTY;
	}
	pciedma_card_leave(&window->node->card);
	return pciedma_ioctl_end(&ioctl, ret);
}

const struct file_operations pciedma_window_fops = {
	.owner		= THIS_MODULE,
	.open		= window_open,
	.release	= window_release,
	.read_iter	= window_read_iter,
	.write_iter	= window_write_iter,
	.llseek		= window_llseek,
	.mmap		= pciedma_window_mmap,
	.unlocked_ioctl	= window_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

static struct pciedma_window *to_window(struct device *dev)
{
	return container_of(dev, struct pciedma_window, dev);
}

static ssize_t name_show(struct device *dev, struct device_attribute *attr, char *buffer)
{
	return sysfs_emit(buffer, "%s\n", to_window(dev)->name);
}
static DEVICE_ATTR_RO(name);

static ssize_t bar_show(struct device *dev, struct device_attribute *attr, char *buffer)
{
	return sysfs_emit(buffer, "%d\n", to_window(dev)->bar);
}
static DEVICE_ATTR_RO(bar);

static ssize_t size_show(struct device *dev, struct device_attribute *attr, char *buffer)
{
	return sysfs_emit(buffer, "%llu\n", to_window(dev)->size);
}
static DEVICE_ATTR_RO(size);

static ssize_t widths_show(struct device *dev, struct device_attribute *attr, char *buffer)
{
	unsigned int width;
	int length = 0;

	for (width = 1; width <= PCIEDMA_WINDOW_WIDTHS; width <<= 1)
		if (to_window(dev)->widths & width)
			length += sysfs_emit_at(buffer, length, "%s%u", length ? " " : "", width);
	return length + sysfs_emit_at(buffer, length, "\n");
}
static DEVICE_ATTR_RO(widths);

static ssize_t mappable_show(struct device *dev, struct device_attribute *attr, char *buffer)
{
	return sysfs_emit(buffer, "%d\n", to_window(dev)->mappable);
}
static DEVICE_ATTR_RO(mappable);

static ssize_t write_combining_show(struct device *dev, struct device_attribute *attr, char *buffer)
{
	return sysfs_emit(buffer, "%d\n", to_window(dev)->write_combining);
}
static DEVICE_ATTR_RO(write_combining);

static struct attribute *window_attrs[] = {
	&dev_attr_bar.attr,
	&dev_attr_mappable.attr,
	&dev_attr_name.attr,
	&dev_attr_size.attr,
	&dev_attr_widths.attr,
	&dev_attr_write_combining.attr,
	NULL
};

static const struct attribute_group window_group = {
	.attrs = window_attrs,
};

const struct attribute_group *pciedma_window_groups[] = {
	&window_group,
	NULL
};
