// SPDX-License-Identifier: GPL-2.0-only
/*
 * A card's life, from probe to remove.
 */
#include <linux/dma-mapping.h>
#include <linux/idr.h>
#include <linux/slab.h>

#include "driver.h"
#include "nodes/channel.h"
#include "nodes/windows.h"
#include "trace/trace.h"

static DEFINE_IDA(card_ida);

static void card_unmap(struct pciedma_card *card)
{
	int bar;

	pciedma_windows_unmap(pciedma_card_node(card));
	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		if (card->mmio[bar])
			pci_iounmap(card->pdev, card->mmio[bar]);
		card->mmio[bar] = NULL;
		if (card->requested & BIT(bar))
			pci_release_region(card->pdev, bar);
	}
	card->requested = 0;
}

/* Of one that card_init() failed for, too. */
static void card_free(struct pciedma_card *card)
{
	struct pciedma_card_node *node = pciedma_card_node(card);

	percpu_ref_exit(&card->gate);
	pciedma_windows_free(node);
	if (!IS_ERR_OR_NULL(node->inode))
		pciedma_inode_free(node->inode);
	kfree(card->config);
	kfree(card->priv);
	kfree(node);
}

static void card_dev_release(struct device *dev)
{
	card_free(container_of(dev, struct pciedma_card, dev));
}

static int card_init(struct pciedma_card *card)
{
	struct pciedma_card_node *node = pciedma_card_node(card);
	int ret;

	card->priv = kzalloc(card->type->card_priv, GFP_KERNEL);
	if (!card->priv)
		return -ENOMEM;
	node->inode = pciedma_inode_alloc();
	if (IS_ERR(node->inode))
		return PTR_ERR(node->inode);
	ret = pciedma_windows_alloc(node);
	return ret ?: pciedma_gate_init(card);
}

static struct pciedma_card *card_alloc(struct pci_dev *pdev, const struct pciedma_card_type *type)
{
	struct pciedma_card_node *node = kzalloc(sizeof(*node), GFP_KERNEL);
	struct pciedma_card *card;
	int ret;

	if (!node)
		return ERR_PTR(-ENOMEM);
	card = &node->card;
	card->pdev = pdev;
	card->type = type;
	card->user_ops = &pciedma_card_node_ops;
	init_waitqueue_head(&node->poll_wait);
	pciedma_events_init(&node->events);
	pciedma_recovery_init(card);
	ret = card_init(card);
	if (ret) {
		card_free(card);
		return ERR_PTR(ret);
	}
	device_initialize(&card->dev);
	card->dev.release = card_dev_release;
	card->dev.parent = &pdev->dev;
	return card;
}

/* An IOMMU and bounce buffers must not make of memory what an engine cannot take. */
static int card_set_dma_limits(struct pciedma_card *card)
{
	struct device *dev = &card->pdev->dev;
	struct pciedma_engine *engine;
	unsigned int bits = 64;
	u32 segment = U32_MAX;
	u32 boundary = 0;
	u32 alignment = 1;

	pciedma_for_each_engine(card, engine) {
		bits = min_t(unsigned int, bits, engine->desc->address_bits);
		segment = min(segment, engine->desc->max_segment);
		boundary = min_not_zero(boundary, engine->desc->segment_boundary);
		alignment = max(alignment, engine->desc->host_alignment);
	}
	dma_set_max_seg_size(dev, max_t(u32, segment, SZ_2M)); /* core cuts what is longer */
	dma_set_seg_boundary(dev, boundary - 1);
	dma_set_min_align_mask(dev, alignment - 1);
	return dma_set_mask_and_coherent(&card->pdev->dev, DMA_BIT_MASK(bits));
}

static int card_alloc_lanes(struct pciedma_card *card)
{
	struct pciedma_engine *engine;
	int ret;

	pciedma_for_each_engine(card, engine) {
		if (engine->kind == PCIEDMA_KIND_STREAM)
			continue;
		ret = pciedma_lane_alloc(pciedma_lane_of(engine));
		if (ret)
			return ret;
	}
	return 0;
}

/* With what the lanes' engines ask of memory. */
static void card_open_buffers(struct pciedma_card *card)
{
	struct pciedma_card_node *node = pciedma_card_node(card);
	unsigned int i;

	for (i = 0; i < node->num_channels; i++)
		if (node->channels[i]->kind != PCIEDMA_KIND_STREAM)
			pciedma_channel_open_buffers(node->channels[i]);
}

static void card_close_channels(struct pciedma_card *card)
{
	struct pciedma_card_node *node = pciedma_card_node(card);
	unsigned int i;

	for (i = 0; i < node->num_channels; i++)
		pciedma_channel_close(node->channels[i]);
}

static void card_free_lanes(struct pciedma_card *card)
{
	struct pciedma_engine *engine;

	pciedma_for_each_engine(card, engine)
		pciedma_lane_free(pciedma_lane_of(engine));
}

static void card_run(struct pciedma_card *card)
{
	struct pciedma_engine *engine;

	pciedma_for_each_engine(card, engine) {
		guard(spinlock_irqsave)(&engine->lock);
		engine->state = PCIEDMA_ENGINE_RUN;
	}
}

static void card_put_nodes(struct pciedma_card *card)
{
	struct pciedma_card_node *node = pciedma_card_node(card);

	pciedma_windows_put(node);
	memset(card->engines, 0, sizeof(card->engines));
	while (node->num_channels)
		put_device(&node->channels[--node->num_channels]->dev);
}

static int card_register_nodes(struct pciedma_card *card)
{
	struct pciedma_card_node *node = pciedma_card_node(card);
	unsigned int i;
	int ret;

	ret = pciedma_card_register(node);
	for (i = 0; !ret && i < node->num_channels; i++)
		ret = pciedma_channel_register(node->channels[i]);
	return ret ?: pciedma_windows_register(node);
}

static void card_unregister_nodes(struct pciedma_card *card)
{
	struct pciedma_card_node *node = pciedma_card_node(card);
	unsigned int i;

	pciedma_windows_unregister(node);
	for (i = 0; i < node->num_channels; i++)
		pciedma_node_remove(&node->channels[i]->cdev, &node->channels[i]->dev);
	pciedma_node_remove(&node->cdev, &card->dev);
}

/* Event lines stay armed, and without messages the card may use its pin, which nobody serves. */
static void card_free_vectors(struct pciedma_card *card)
{
	pci_free_irq_vectors(card->pdev);
	pci_intx(card->pdev, 0);
}

/* As a reset leaves it, so that another driver works next; not if it may be busy, or is gone. */
static void card_exit(struct pciedma_card *card)
{
	struct pciedma_engine *engine;

	if (!card->type->ops.exit || card->lost || card->recovery.frozen)
		return;
	pciedma_for_each_engine(card, engine)
		if (engine->unproven)
			return;
	card->type->ops.exit(card);
}

/* Undo card_bring_up() of a card whose nodes may be in use. */
static void card_take_down(struct pciedma_card *card)
{
	WRITE_ONCE(card->removed, true);
	pciedma_gate_close(card);
	card->user_ops->gone(card);
	pciedma_card_shut_down(card);
	card->user_ops->wake(card);
	card_unregister_nodes(card);
	wait_for_completion(&card->gate_closed);
	pciedma_irq_free(card);
	card_free_vectors(card);
	cancel_work_sync(&card->recovery.work);
	card_exit(card);
	card_close_channels(card);
	card_free_lanes(card);
}

/* Files may be open when the back end, and with it what it has said, has gone. */
static void card_keep_descriptions(struct pciedma_card *card)
{
	struct pciedma_engine *engine;

	pciedma_for_each_engine(card, engine) {
		engine->own_desc = *engine->desc;
		engine->desc = &engine->own_desc;
	}
}

/* Everything between an identified card and one that works. */
static int card_bring_up(struct pciedma_card *card)
{
	int ret;

	card_keep_descriptions(card);
	ret = card_set_dma_limits(card);
	if (!ret)
		ret = card_alloc_lanes(card);
	if (!ret)
		ret = pciedma_irq_alloc(card);
	if (ret)
		goto err_transfers;
	card_open_buffers(card);
	ret = card->type->ops.init(card);
	if (ret == -ENODEV) /* of which the kernel says nothing */
		pci_info(card->pdev, "not a working %s card: its registers read all ones\n",
			 card->type->name);
	if (ret)
		goto err_vectors;
	card->link_reported = pciedma_card_link_active(card);
	pci_set_master(card->pdev);
	ret = pciedma_irq_request(card);
	if (ret)
		goto err_master;
	card_run(card);
	ret = card_register_nodes(card);
	if (ret)
		goto err_nodes;
	return 0;

err_nodes:
	card_take_down(card);
	pci_clear_master(card->pdev);
	return ret;
err_master:
	card_exit(card);
	pci_clear_master(card->pdev);
err_vectors:
	card_free_vectors(card);
err_transfers:
	card_free_lanes(card);
	return ret;
}

/**
 * pciedma_card_probe() - a PCI function that may be a card appeared
 * @pdev: the function
 * @id:   the id that matched
 * @type: the back end
 *
 * Context: process, device_lock held.
 * Return: 0, -ENODEV if it is not such a card, or another errno.
 */
int pciedma_card_probe(struct pci_dev *pdev, const struct pci_device_id *id,
		       const struct pciedma_card_type *type)
{
	struct pciedma_card *card = card_alloc(pdev, type);
	int ret;

	if (IS_ERR(card))
		return PTR_ERR(card);
	ret = ida_alloc(&card_ida, GFP_KERNEL);
	if (ret < 0)
		goto err_put;
	card->index = ret;
	ret = dev_set_name(&card->dev, "pciedma%d", card->index);
	if (ret)
		goto err_index;
	ret = pci_enable_device(pdev);
	if (ret)
		goto err_index;
	pci_set_drvdata(pdev, card);
	ret = pciedma_card_save_config(card);
	if (!ret)
		ret = type->ops.identify(card, id);
	if (!ret)
		ret = card_bring_up(card);
	if (ret)
		goto err_disable;
	pci_info(pdev, "%s card is %s\n", type->name, dev_name(&card->dev));
	return 0;

err_disable:
	card_unmap(card);
	card_put_nodes(card);
	pci_set_drvdata(pdev, NULL);
	pci_disable_device(pdev);
err_index:
	ida_free(&card_ida, card->index);
err_put:
	if (!card->removed) {
		pciedma_gate_close(card);
		wait_for_completion(&card->gate_closed);
	}
	put_device(&card->dev);
	return ret;
}

/**
 * pciedma_card_remove() - the PCI function goes
 * @card: its card
 *
 * Open files stay open; their calls fail with ENODEV.
 *
 * Context: process, device_lock held.
 */
void pciedma_card_remove(struct pciedma_card *card)
{
	struct pci_dev *pdev = card->pdev;

	trace_pciedma_gone(card->index);
	card_take_down(card);
	card_unmap(card);
	pci_set_drvdata(pdev, NULL);
	pci_clear_master(pdev);
	pci_disable_device(pdev);
	ida_free(&card_ida, card->index);
	card_put_nodes(card);
	put_device(&card->dev);
}
