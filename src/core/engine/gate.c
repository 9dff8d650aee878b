// SPDX-License-Identifier: GPL-2.0-only
/*
 * A card's gate: inside it the PCI function stays, and with it @pdev, the registers and the
 * memory that engines use.
 */
#include "engine.h"

static void gate_release(struct percpu_ref *gate)
{
	complete(&container_of(gate, struct pciedma_card, gate)->gate_closed);
}

/**
 * pciedma_gate_init() - make a card's gate; it is open
 * @card: the card
 *
 * Context: process.
 * Return: 0 or -ENOMEM; in either case percpu_ref_exit() undoes it.
 */
int pciedma_gate_init(struct pciedma_card *card)
{
	init_completion(&card->gate_closed);
	return percpu_ref_init(&card->gate, gate_release, 0, GFP_KERNEL);
}

/**
 * pciedma_gate_close() - let nobody in any more
 * @card: the card; its @gate_closed is completed when all have left
 *
 * Context: process.
 */
void pciedma_gate_close(struct pciedma_card *card)
{
	percpu_ref_kill(&card->gate);
}

/**
 * pciedma_card_enter() - pass the gate
 * @card: the card
 *
 * Context: any.
 * Return: false if the card is being removed.
 */
bool pciedma_card_enter(struct pciedma_card *card)
{
	return percpu_ref_tryget_live(&card->gate);
}

/**
 * pciedma_card_stay() - stay inside the gate for more that goes on behind the caller
 * @card:  entered by the caller
 * @count: how often it will be left besides
 *
 * Context: any.
 */
void pciedma_card_stay(struct pciedma_card *card, unsigned int count)
{
	percpu_ref_get_many(&card->gate, count);
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

/**
 * pciedma_card_next_engine() - iterate over a card's engines
 * @card:  the card
 * @index: where to begin
 *
 * Return: the first engine that has this number or a higher one, or NULL.
 */
struct pciedma_engine *pciedma_card_next_engine(struct pciedma_card *card, unsigned int index)
{
	for (; index < PCIEDMA_MAX_ENGINES; index++)
		if (card->engines[index])
			return card->engines[index];
	return NULL;
}
