// SPDX-License-Identifier: GPL-2.0-only
/*
 * A card's interrupt vectors.
 */
#include <linux/interrupt.h>

#include "core.h"
#include "trace.h"

/*
 * Several engines may share an edge: an end that the card signals between the
 * look at one engine and the acknowledgment for another makes no new edge.
 * So after each progress all the others are looked at again. (A start on
 * another processor that overtakes a posted acknowledgment can still hide its
 * edge; the waiter's own look finds that end.)
 */
static int vector_look(struct pciedma_vector *vector)
{
	struct pciedma_engine *engine;
	struct pciedma_engine *last = NULL;
	bool again = true;
	int found = 0;
	int ret;

	while (again) {
		again = false;
		pciedma_for_each_engine(vector->card, engine) {
			if (engine == last)
				return found;
			if (pciedma_engine_vector(engine) != vector->index)
				continue;
			ret = pciedma_engine_look(engine);
			if (!ret)
				continue;
			found += ret;
			last = engine;
			again = true;
		}
	}
	return found;
}

static irqreturn_t vector_handler(int irq, void *data)
{
	struct pciedma_vector *vector = data;
	struct pciedma_card *card = vector->card;
	struct pciedma_engine *engine;
	bool ours = false;
	int found;

	if (card->type->event_lines && vector->index == card->event_vector)
		ours = pciedma_events_interrupt(card);
	found = vector_look(vector);
	trace_pciedma_interrupt(card, vector->index, found);
	if (found)
		return IRQ_HANDLED;

	pciedma_for_each_engine(card, engine)
		if (pciedma_engine_vector(engine) == vector->index)
			ours |= pciedma_engine_stray(engine);
	return ours ? IRQ_HANDLED : IRQ_NONE;
}

static unsigned int vectors_wanted(struct pciedma_card *card)
{
	struct pciedma_engine *engine;
	unsigned int wanted = 1;

	pciedma_for_each_engine(card, engine)
		wanted = max(wanted, engine->desc->vector + 1U);
	if (card->type->event_lines)
		wanted++;
	return min_t(unsigned int, wanted, card->type->vectors);
}

/**
 * pciedma_irq_alloc() - get the card's vectors: MSI-X, else MSI, else INTx
 * @card: the card
 *
 * Context: process.
 * Return: 0 or an errno.
 */
int pciedma_irq_alloc(struct pciedma_card *card)
{
	unsigned int wanted = vectors_wanted(card);
	int ret;

	ret = pci_alloc_irq_vectors(card->pdev, 1, wanted, PCI_IRQ_ALL_TYPES);
	if (ret < 0)
		return ret;
	card->num_vectors = ret;
	card->event_vector = ret == wanted ? wanted - 1 : 0;
	return 0;
}

/**
 * pciedma_irq_request() - take the interrupts of the card's vectors
 * @card: the card, initialized
 *
 * Context: process.
 * Return: 0 or an errno.
 */
int pciedma_irq_request(struct pciedma_card *card)
{
	struct pci_dev *pdev = card->pdev;
	struct pciedma_vector *vector;
	unsigned int i;
	int ret;

	for (i = 0; i < card->num_vectors; i++) {
		vector = &card->vectors[i];
		vector->card = card;
		vector->index = i;
		ret = request_irq(pci_irq_vector(pdev, i), vector_handler, IRQF_SHARED,
				  dev_name(&card->dev), vector);
		if (ret)
			goto err_free;
	}
	return 0;

err_free:
	while (i--)
		free_irq(pci_irq_vector(pdev, i), &card->vectors[i]);
	return ret;
}

/**
 * pciedma_irq_free() - let go of the interrupts
 * @card: the card
 *
 * The vectors stay until pci_free_irq_vectors().
 *
 * Context: process; waits for handlers.
 */
void pciedma_irq_free(struct pciedma_card *card)
{
	unsigned int i;

	for (i = 0; i < card->num_vectors; i++)
		free_irq(pci_irq_vector(card->pdev, i), &card->vectors[i]);
}
