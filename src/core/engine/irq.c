// SPDX-License-Identifier: GPL-2.0-only
/*
 * A card's interrupt vectors.
 */
#include <linux/interrupt.h>

#include "../trace/trace.h"
#include "engine.h"

/* Rounds of looks at a vector's engines in a hard interrupt; a thread does the others. */
#define HARD_ROUNDS	2

/*
 * Several engines may share an edge: an end that the card signals between the
 * look at one engine and the acknowledgment for another makes no new edge.
 * So after each progress all the others are looked at again. (A start on
 * another processor that overtakes a posted acknowledgment can still hide its
 * edge; the waiter's own look finds that end.)
 *
 * Returns whether a further round may find something.
 */
static bool vector_look_once(struct pciedma_vector *vector, struct pciedma_engine **last,
			     int *found)
{
	struct pciedma_engine *engine;
	bool again = false;
	unsigned int i;
	int ret;

	for (i = 0; i < vector->num_engines; i++) {
		engine = vector->engines[i];
		if (engine == *last)
			return again;
		ret = pciedma_engine_look(engine);
		if (!ret)
			continue;
		*found += ret;
		*last = engine;
		again = true;
	}
	return again;
}

/*
 * A message without news is no fault: its edge can come after a waiter has seen
 * the end by looking. So it always counts as handled.
 */
static irqreturn_t vector_handler(int irq, void *data)
{
	struct pciedma_vector *vector = data;
	struct pciedma_card *card = vector->card;
	bool ours = pciedma_card_uses_messages(card);
	struct pciedma_engine *last = NULL;
	int rounds = HARD_ROUNDS;
	bool again = true;
	int found = 0;
	unsigned int i;

	if (card->type->event_lines && vector->index == card->event_vector)
		ours |= card->user_ops->interrupt(card);
	while (again && rounds--)
		again = vector_look_once(vector, &last, &found);
	trace_pciedma_interrupt(card->index, vector->index, found);
	if (again)
		return IRQ_WAKE_THREAD;
	if (found)
		return IRQ_HANDLED;

	for (i = 0; i < vector->num_engines; i++)
		ours |= pciedma_engine_stray(vector->engines[i]);
	return ours ? IRQ_HANDLED : IRQ_NONE;
}

/* What is left: an edge that was taken does not come again. */
static irqreturn_t vector_thread(int irq, void *data)
{
	struct pciedma_engine *last = NULL;
	int found = 0;

	while (vector_look_once(data, &last, &found))
		cond_resched();
	return IRQ_HANDLED;
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

static const char *engine_suffix(const struct pciedma_engine *engine)
{
	if (engine->dma_direction == DMA_BIDIRECTIONAL)
		return "";
	return engine->direction == PCIEDMA_C2H ? "-c2h" : "-h2c";
}

static void vector_init(struct pciedma_vector *vector, struct pciedma_card *card,
			unsigned int index)
{
	struct pciedma_engine *engine;

	vector->card = card;
	vector->index = index;
	vector->num_engines = 0;
	pciedma_for_each_engine(card, engine)
		if (pciedma_engine_vector(engine) == index)
			vector->engines[vector->num_engines++] = engine;
}

/* What /proc/interrupts shows: pciedma0-c0-c2h, pciedma0-events; pciedma0 if several share it. */
static void vector_name(struct pciedma_vector *vector)
{
	struct pciedma_card *card = vector->card;
	bool events = card->type->event_lines && vector->index == card->event_vector;
	const char *node = dev_name(&card->dev);
	struct pciedma_engine *engine = vector->engines[0];

	if (events && !vector->num_engines)
		snprintf(vector->name, sizeof(vector->name), "%s-events", node);
	else if (!events && vector->num_engines == 1)
		snprintf(vector->name, sizeof(vector->name), "%s-c%u%s", node,
			 engine->channel, engine_suffix(engine));
	else
		snprintf(vector->name, sizeof(vector->name), "%s", node);
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
		vector_init(vector, card, i);
		vector_name(vector);
		ret = request_threaded_irq(pci_irq_vector(pdev, i), vector_handler, vector_thread,
					   IRQF_SHARED, vector->name, vector);
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
