// SPDX-License-Identifier: GPL-2.0-only
/*
 * The core module: the class, the minor numbers, and registration of back ends.
 */
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/slab.h>

#include "core.h"

#define MINORS	256

static dev_t first_devt;
static DEFINE_IDA(minor_ida);

static struct class pciedma_class = {
	.name = "pciedma",
};

struct workqueue_struct *pciedma_workqueue;

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

static struct pciedma_driver *to_pciedma_driver(struct pci_dev *pdev)
{
	return container_of(to_pci_driver(pdev->dev.driver), struct pciedma_driver, pci);
}

static int driver_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	return pciedma_card_probe(pdev, id, to_pciedma_driver(pdev)->type);
}

static void driver_remove(struct pci_dev *pdev)
{
	struct pciedma_card *card = pci_get_drvdata(pdev);

	if (card) /* none after a shutdown */
		pciedma_card_remove(card);
}

/* One "vendor:device[:subvendor:subdevice]". */
static int driver_add_id(struct pciedma_driver *driver, const char *text)
{
	unsigned int vendor, device, subvendor, subdevice;
	char rest;
	int fields;

	fields = sscanf(text, "%4x:%4x:%4x:%4x%c", &vendor, &device, &subvendor, &subdevice, &rest);
	if (fields == 2) {
		subvendor = PCI_ANY_ID;
		subdevice = PCI_ANY_ID;
	} else if (fields != 4) {
		pr_err("pciedma: ids=: \"%s\" is not vendor:device[:subvendor:subdevice]\n", text);
		return -EINVAL;
	}
	return pci_add_dynid(&driver->pci, vendor, device, subvendor, subdevice, 0, 0, 0);
}

static int driver_add_ids(struct pciedma_driver *driver, const char *ids)
{
	char *copy __free(kfree) = kstrdup(ids, GFP_KERNEL);
	char *rest = copy;
	char *text;
	int ret;

	if (!copy)
		return -ENOMEM;
	while ((text = strsep(&rest, ","))) {
		ret = driver_add_id(driver, text);
		if (ret)
			return ret;
	}
	return 0;
}

static bool card_type_valid(const struct pciedma_card_type *type)
{
	const struct pciedma_card_ops *ops = &type->ops;

	return type->name && strlen(type->name) < 16 && type->vectors && type->card_priv &&
	       type->vectors <= PCIEDMA_MAX_VECTORS && ops->identify && ops->init &&
	       ops->start && ops->reap && ops->idle && ops->irq &&
	       type->event_lines <= PCIEDMA_MAX_EVENTS &&
	       !type->event_lines == !ops->events && !type->event_lines == !ops->arm_events;
}

/**
 * __pciedma_driver_register() - register a back end; see module_pciedma_driver()
 * @driver: the back end
 * @owner:  its module
 * @ids:    more ids, or NULL
 *
 * Context: process.
 * Return: 0 or an errno.
 */
int __pciedma_driver_register(struct pciedma_driver *driver, struct module *owner, const char *ids)
{
	int ret;

	if (!card_type_valid(driver->type))
		return -EINVAL;
	driver->pci.probe = driver_probe;
	driver->pci.remove = driver_remove;
	driver->pci.shutdown = driver_remove;
	driver->pci.err_handler = &pciedma_error_handlers;
	driver->pci.driver.pm = &pciedma_pm_ops;
	ret = __pci_register_driver(&driver->pci, owner, driver->pci.name);
	if (ret || !ids)
		return ret;
	ret = driver_add_ids(driver, ids);
	if (ret)
		pci_unregister_driver(&driver->pci);
	return ret;
}
EXPORT_SYMBOL_GPL(__pciedma_driver_register);

/**
 * pciedma_driver_unregister() - unregister a back end; removes its cards
 * @driver: the back end
 *
 * Context: process.
 */
void pciedma_driver_unregister(struct pciedma_driver *driver)
{
	pci_unregister_driver(&driver->pci);
}
EXPORT_SYMBOL_GPL(pciedma_driver_unregister);

static int __init pciedma_init(void)
{
	int ret;

	pciedma_workqueue = alloc_workqueue("pciedma", WQ_UNBOUND, 0);
	if (!pciedma_workqueue)
		return -ENOMEM;
	ret = alloc_chrdev_region(&first_devt, 0, MINORS, "pciedma");
	if (ret)
		goto err_workqueue;
	ret = class_register(&pciedma_class);
	if (ret)
		goto err_region;
	return 0;

err_region:
	unregister_chrdev_region(first_devt, MINORS);
err_workqueue:
	destroy_workqueue(pciedma_workqueue);
	return ret;
}
module_init(pciedma_init);

static void __exit pciedma_exit(void)
{
	class_unregister(&pciedma_class);
	unregister_chrdev_region(first_devt, MINORS);
	destroy_workqueue(pciedma_workqueue);
	ida_destroy(&minor_ida);
}
module_exit(pciedma_exit);

MODULE_DESCRIPTION("Zero-copy DMA between PCI Express cards and user space");
MODULE_VERSION(PCIEDMA_VERSION);
MODULE_LICENSE("GPL");
