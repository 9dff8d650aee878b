/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Stopping engines of a card. All in process context, with the recovery lock held; engines are
 * given as a mask of their numbers.
 */
#ifndef PCIEDMA_STOP_H
#define PCIEDMA_STOP_H

#include "engine.h"

/**
 * enum pciedma_proof - what was found out of an engine
 * @PCIEDMA_PROOF_HALTED: idle and ready to go on; what it had begun has been reported
 * @PCIEDMA_PROOF_USABLE: idle and ready to go on
 * @PCIEDMA_PROOF_SAFE:   cannot touch memory, but does not work
 * @PCIEDMA_PROOF_NONE:   nothing
 */
enum pciedma_proof {
	PCIEDMA_PROOF_HALTED,
	PCIEDMA_PROOF_USABLE,
	PCIEDMA_PROOF_SAFE,
	PCIEDMA_PROOF_NONE,
};

u32 pciedma_all_engines(struct pciedma_card *card);
void pciedma_engines_set_state(struct pciedma_card *card, u32 mask,
			       enum pciedma_engine_state state);
void pciedma_engines_pause(struct pciedma_card *card, u32 mask);
u32 pciedma_engines_unproven(struct pciedma_card *card, u32 mask);
u32 pciedma_engines_with_memory(struct pciedma_card *card);
u32 pciedma_engines_drain(struct pciedma_card *card, u32 mask);
u32 pciedma_engines_wait_idle(struct pciedma_card *card, u32 mask, bool patient);
bool pciedma_card_halts_whole(struct pciedma_card *card, u32 mask);
u32 pciedma_engines_halt(struct pciedma_card *card, u32 mask, bool patient);
void pciedma_engines_settle(struct pciedma_card *card, u32 mask, enum pciedma_proof proof,
			    int error);

#endif /* PCIEDMA_STOP_H */
