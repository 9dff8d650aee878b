// SPDX-License-Identifier: GPL-2.0-only
/*
 * The core module, and registration of back ends.
 */
#include <linux/ctype.h>
#include <linux/slab.h>

#include "driver.h"
#include "nodes/card_node.h"
#include "requests/postpone.h"

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

/* One to four hexadecimal digits. Returns what is behind them, or NULL if there are others. */
static const char *id_word(const char *text, u32 *word)
{
	size_t length;

	*word = 0;
	for (length = 0; isxdigit(text[length]); length++)
		*word = *word << 4 | (isdigit(text[length]) ? text[length] - '0' :
							      tolower(text[length]) - 'a' + 10);
	return length && length <= 4 ? text + length : NULL;
}

/* One "vendor:device[:subvendor:subdevice]"; returns whether it is one, and nothing else. */
static bool id_parse(const char *text, u32 words[4])
{
	unsigned int count = 0;

	words[2] = PCI_ANY_ID;
	words[3] = PCI_ANY_ID;
	for (;;) {
		text = id_word(text, &words[count++]);
		if (!text || *text != ':' || count == 4)
			break;
		text++;
	}
	return text && !*text && (count == 2 || count == 4);
}

/* Without a driver it only looks whether all can be read. */
static int driver_add_ids(struct pciedma_driver *driver, const char *ids)
{
	char *copy __free(kfree) = kstrdup(ids, GFP_KERNEL);
	char *rest = copy;
	char *text;
	u32 id[4];
	int ret;

	if (!copy)
		return -ENOMEM;
	while ((text = strsep(&rest, ","))) {
		if (!id_parse(text, id)) {
			pr_err("pciedma: ids=: \"%s\" is not vendor:device[:subvendor:subdevice]\n",
			       text);
			return -EINVAL;
		}
		ret = driver ? pci_add_dynid(&driver->pci, id[0], id[1], id[2], id[3], 0, 0, 0) : 0;
		if (ret)
			return ret;
	}
	return 0;
}

static_assert(!offsetof(struct pciedma_driver, contract)); /* for ever: see there */

/**
 * __pciedma_driver_register() - register a back end; see module_pciedma_driver()
 * @driver: the back end
 * @owner:  its module
 * @ids:    more ids, or NULL
 *
 * Context: process.
 * Return: 0; after a log line -ENOEXEC if the back end was built for another contract, -EINVAL
 * if it or @ids is wrong; another errno.
 */
int __pciedma_driver_register(struct pciedma_driver *driver, struct module *owner, const char *ids)
{
	int ret;

	if (driver->contract != PCIEDMA_CONTRACT) { /* nothing else in it may be looked at */
		pr_err("pciedma: %s was built for contract %u, the driver has %u: build it anew\n",
		       module_name(owner), driver->contract, PCIEDMA_CONTRACT);
		return -ENOEXEC;
	}
	ret = pciedma_type_check(driver);
	if (!ret && ids)
		ret = driver_add_ids(NULL, ids);
	if (ret)
		return ret;
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
	ret = pciedma_postpone_init();
	if (ret)
		goto out_workqueue;
	ret = pciedma_nodes_init();
	if (!ret)
		return 0;
	pciedma_postpone_exit();
out_workqueue:
	destroy_workqueue(pciedma_workqueue);
	return ret;
}
module_init(pciedma_init);

static void __exit pciedma_exit(void)
{
	pciedma_nodes_exit();
	destroy_workqueue(pciedma_workqueue);
	pciedma_postpone_exit();
}
module_exit(pciedma_exit);

MODULE_DESCRIPTION("Zero-copy DMA between PCI Express cards and user space");
MODULE_VERSION(PCIEDMA_VERSION);
MODULE_LICENSE("GPL");
