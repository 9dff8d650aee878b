// SPDX-License-Identifier: GPL-2.0-only
/*
 * The class and the minor numbers of all nodes.
 */
#include <linux/fs.h>
#include <linux/idr.h>

#include "card_node.h"

#define MINORS	256

static dev_t first_devt;
static DEFINE_IDA(minor_ida);

static struct class pciedma_class = {
	.name = "pciedma",
};

/**
 * pciedma_nodes_init() - make nodes possible
 *
 * Context: process.
 * Return: 0 or an errno.
 */
int pciedma_nodes_init(void)
{
	int ret;

	ret = alloc_chrdev_region(&first_devt, 0, MINORS, "pciedma");
	if (ret)
		return ret;
	ret = class_register(&pciedma_class);
	if (ret)
		unregister_chrdev_region(first_devt, MINORS);
	return ret;
}

/**
 * pciedma_nodes_exit() - undo that; there are no nodes any more
 *
 * Context: process.
 */
void pciedma_nodes_exit(void)
{
	class_unregister(&pciedma_class);
	unregister_chrdev_region(first_devt, MINORS);
	ida_destroy(&minor_ida);
}

/**
 * pciedma_node_add() - make the node of a card or a channel
 * @cdev: embedded beside @dev
 * @dev:  initialized, named
 * @fops: what the node does
 *
 * Context: process.
 * Return: 0 or an errno.
 */
int pciedma_node_add(struct cdev *cdev, struct device *dev, const struct file_operations *fops)
{
	int minor = ida_alloc_max(&minor_ida, MINORS - 1, GFP_KERNEL);
	int ret;

	if (minor < 0)
		return minor;
	dev->class = &pciedma_class;
	dev->devt = MKDEV(MAJOR(first_devt), minor);
	cdev_init(cdev, fops);
	cdev->owner = THIS_MODULE;
	ret = cdev_device_add(cdev, dev);
	if (ret) {
		dev->devt = 0;
		ida_free(&minor_ida, minor);
	}
	return ret;
}

/**
 * pciedma_node_remove() - remove a node, if it was made; open files stay
 * @cdev: the node
 * @dev:  its device
 *
 * Context: process.
 */
void pciedma_node_remove(struct cdev *cdev, struct device *dev)
{
	int minor = MINOR(dev->devt);

	if (!dev->devt)
		return;
	cdev_device_del(cdev, dev);
	dev->devt = 0;
	ida_free(&minor_ida, minor);
}
