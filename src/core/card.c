// SPDX-License-Identifier: GPL-2.0-only
/*
 * A card's life, from probe to remove.
 */
#include <linux/dma-mapping.h>
#include <linux/idr.h>
#include <linux/slab.h>

#include "core.h"
#include "trace.h"
#include "windows.h"

static DEFINE_IDA(card_ida);

/**
 * pciedma_card_enter() - pass the gate
 * @card: the card
 *
 * Inside it the PCI function stays, and with it @card->pdev, the registers and
 * the DMA buffers.
 *
 * Context: any.
 * Return: false if the card is being removed.
 */
bool pciedma_card_enter(struct pciedma_card *card)
{
	return percpu_ref_tryget_live(&card->gate);
}

/**
 * pciedma_card_leave() - leave the gate
 * @card: entered before
 *
 * Context: any.
 */
void pciedma_card_leave(struct pciedma_card *card)
{
	percpu_ref_put(&card->gate);
}

static void gate_release(struct percpu_ref *gate)
{
	complete(&container_of(gate, struct pciedma_card, gate)->gate_closed);
}

/**
 * pciedma_card_wake() - let everybody who polls a node of the card look again
 * @card: the card
 *
 * Context: process.
 */
void pciedma_card_wake(struct pciedma_card *card)
{
	unsigned int i;

	wake_up_interruptible(&card->poll_wait);
	for (i = 0; i < card->num_channels; i++)
		wake_up_interruptible(&card->channels[i]->poll_wait);
}

/**
 * pciedma_card_next_engine() - iterate over a card's engines
 * @card:  the card
 * @index: where to begin
 *
 * Return: the first engine that has this number or a higher one, or NULL.
 */
struct pciedma_engine *pciedma_card_next_engine(struct pciedma_card *card, unsigned int index)
{
	struct pciedma_channel *channel;

	for (; index < card->num_channels * PCIEDMA_DIRECTIONS; index++) {
		channel = card->channels[index / PCIEDMA_DIRECTIONS];
		if (channel->engines[index % PCIEDMA_DIRECTIONS].desc)
			return &channel->engines[index % PCIEDMA_DIRECTIONS];
	}
	return NULL;
}

static void card_unmap(struct pciedma_card *card)
{
	int bar;

	pciedma_windows_unmap(card);
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
	percpu_ref_exit(&card->gate);
	pciedma_windows_free(card);
	if (!IS_ERR_OR_NULL(card->inode))
		pciedma_inode_free(card->inode);
	kfree(card->config);
	kfree(card->priv);
	kfree(card);
}

static void card_dev_release(struct device *dev)
{
	card_free(container_of(dev, struct pciedma_card, dev));
}

static int card_init(struct pciedma_card *card)
{
	int ret;

	card->priv = kzalloc(card->type->card_priv, GFP_KERNEL);
	if (!card->priv)
		return -ENOMEM;
	card->inode = pciedma_inode_alloc();
	if (IS_ERR(card->inode))
		return PTR_ERR(card->inode);
	ret = pciedma_windows_alloc(card);
	return ret ?: percpu_ref_init(&card->gate, gate_release, 0, GFP_KERNEL);
}

static struct pciedma_card *card_alloc(struct pci_dev *pdev, const struct pciedma_card_type *type)
{
	struct pciedma_card *card = kzalloc(sizeof(*card), GFP_KERNEL);
	int ret;

	if (!card)
		return ERR_PTR(-ENOMEM);
	card->pdev = pdev;
	card->type = type;
	card->node_ops = &pciedma_windows_ops;
	init_completion(&card->gate_closed);
	init_waitqueue_head(&card->poll_wait);
	spin_lock_init(&card->events_lock);
	INIT_LIST_HEAD(&card->listeners);
	mutex_init(&card->reset_lock);
	mutex_init(&card->recovery_lock);
	INIT_WORK(&card->recovery, pciedma_recovery_work);
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

static int card_set_dma_mask(struct pciedma_card *card)
{
	struct pciedma_engine *engine;
	unsigned int bits = 64;
	u32 segment = U32_MAX;

	pciedma_for_each_engine(card, engine) {
		bits = min_t(unsigned int, bits, engine->desc->address_bits);
		segment = min(segment, engine->desc->max_segment);
	}
	dma_set_max_seg_size(&card->pdev->dev, segment);
	return dma_set_mask_and_coherent(&card->pdev->dev, DMA_BIT_MASK(bits));
}

static int card_alloc_transfers(struct pciedma_card *card)
{
	struct pciedma_engine *engine;
	int ret;

	pciedma_for_each_engine(card, engine) {
		if (engine->channel->kind == PCIEDMA_KIND_STREAM)
			continue;
		ret = pciedma_transfers_alloc(engine);
		if (ret)
			return ret;
	}
	return 0;
}

static void card_free_transfers(struct pciedma_card *card)
{
	struct pciedma_engine *engine;

	pciedma_for_each_engine(card, engine) {
		pciedma_taker_destroy(engine);
		cancel_delayed_work_sync(&engine->watch);
		pciedma_transfers_free(engine);
	}
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
	pciedma_windows_put(card);
	while (card->num_channels)
		put_device(&card->channels[--card->num_channels]->dev);
}

static int card_register_nodes(struct pciedma_card *card)
{
	unsigned int i;
	int ret;

	ret = pciedma_card_register(card);
	for (i = 0; !ret && i < card->num_channels; i++)
		ret = pciedma_channel_register(card->channels[i]);
	return ret ?: pciedma_windows_register(card);
}

static void card_unregister_nodes(struct pciedma_card *card)
{
	unsigned int i;

	pciedma_windows_unregister(card);
	for (i = 0; i < card->num_channels; i++)
		pciedma_node_remove(&card->channels[i]->cdev, &card->channels[i]->dev);
	pciedma_node_remove(&card->cdev, &card->dev);
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

	if (!card->type->ops.exit || card->lost || card->frozen)
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
	percpu_ref_kill(&card->gate);
	card->node_ops->gone(card);
	pciedma_card_shut_down(card);
	pciedma_card_wake(card);
	card_unregister_nodes(card);
	wait_for_completion(&card->gate_closed);
	pciedma_irq_free(card);
	card_free_vectors(card);
	cancel_work_sync(&card->recovery);
	card_exit(card);
	card_free_transfers(card);
}

/* Everything between an identified card and one that works. */
static int card_bring_up(struct pciedma_card *card)
{
	int ret;

	ret = card_set_dma_mask(card);
	if (!ret)
		ret = card_alloc_transfers(card);
	if (!ret)
		ret = pciedma_irq_alloc(card);
	if (ret)
		goto err_transfers;
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
	card_free_transfers(card);
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
		percpu_ref_kill(&card->gate);
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

	trace_pciedma_gone(card);
	card_take_down(card);
	card_unmap(card);
	pci_set_drvdata(pdev, NULL);
	pci_clear_master(pdev);
	pci_disable_device(pdev);
	ida_free(&card_ida, card->index);
	card_put_nodes(card);
	put_device(&card->dev);
}
