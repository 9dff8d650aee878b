// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes one mistake of each kind when it is loaded, so that a test can see
 * that the debug kernel and the lab's verdict find it.
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/slab.h>

static char *mistake = "";
module_param(mistake, charp, 0444);

static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);

static void out_of_bounds(void)
{
	volatile char *bytes = kmalloc(8, GFP_KERNEL);

	if (bytes)
		pr_info("byte behind the end: %d\n", bytes[8]);
	kfree((char *)bytes);
}

static void lock_inversion(void)
{
	mutex_lock(&first);
	mutex_lock(&second);
	mutex_unlock(&second);
	mutex_unlock(&first);
	mutex_lock(&second);
	mutex_lock(&first);
	mutex_unlock(&first);
	mutex_unlock(&second);
}

static void atomic_sleep(void)
{
	preempt_disable();
	msleep(1);
	preempt_enable();
}

static void wrong_unmap(void)
{
	struct pci_dev *pdev = pci_get_device(0x1234, 0x11e8, NULL); /* QEMU's edu */
	void *bytes = kmalloc(256, GFP_KERNEL);
	dma_addr_t dma;

	if (!pdev || !bytes)
		return;
	dma = dma_map_single(&pdev->dev, bytes, 256, DMA_TO_DEVICE);
	dma_unmap_single(&pdev->dev, dma, 128, DMA_TO_DEVICE);
	kfree(bytes);
	pci_dev_put(pdev);
}

static noinline void leak(void)
{
	int i;

	for (i = 0; i < 8; i++)
		if (!kmalloc(100, GFP_KERNEL))
			return;
}

static int __init probe_init(void)
{
	if (!strcmp(mistake, "out_of_bounds"))
		out_of_bounds();
	else if (!strcmp(mistake, "lock_inversion"))
		lock_inversion();
	else if (!strcmp(mistake, "atomic_sleep"))
		atomic_sleep();
	else if (!strcmp(mistake, "wrong_unmap"))
		wrong_unmap();
	else if (!strcmp(mistake, "leak"))
		leak();
	else
		return -EINVAL;
	return 0;
}
module_init(probe_init);

static void __exit probe_exit(void)
{
}
module_exit(probe_exit);

MODULE_DESCRIPTION("Mistakes for the debug kernel to find");
MODULE_LICENSE("GPL");
