/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints: what a transfer's time splits into.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM pciedma

#if !defined(PCIEDMA_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define PCIEDMA_TRACE_H

#include <linux/tracepoint.h>

#include "core.h"

DECLARE_EVENT_CLASS(pciedma_transfer,
	TP_PROTO(const struct pciedma_engine *engine, const struct pciedma_transfer *transfer),
	TP_ARGS(engine, transfer),
	TP_STRUCT__entry(
		__field(u32, card)
		__field(u32, channel)
		__field(u32, direction)
		__field(u32, id)
		__field(u64, address)
		__field(u32, length)
		__field(u32, done)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->card = engine->channel->card->index;
		__entry->channel = engine->channel->index;
		__entry->direction = transfer->direction;
		__entry->id = transfer->id;
		__entry->address = transfer->address;
		__entry->length = transfer->length;
		__entry->done = transfer->done;
		__entry->error = transfer->error;
	),
	TP_printk("card=%u channel=%u %s id=%u address=0x%llx length=%u done=%u error=%d",
		  __entry->card, __entry->channel,
		  __entry->direction == PCIEDMA_C2H ? "c2h" : "h2c", __entry->id,
		  __entry->address, __entry->length, __entry->done, __entry->error)
);

DEFINE_EVENT(pciedma_transfer, pciedma_submit,
	TP_PROTO(const struct pciedma_engine *engine, const struct pciedma_transfer *transfer),
	TP_ARGS(engine, transfer));

DEFINE_EVENT(pciedma_transfer, pciedma_start,
	TP_PROTO(const struct pciedma_engine *engine, const struct pciedma_transfer *transfer),
	TP_ARGS(engine, transfer));

DEFINE_EVENT(pciedma_transfer, pciedma_complete,
	TP_PROTO(const struct pciedma_engine *engine, const struct pciedma_transfer *transfer),
	TP_ARGS(engine, transfer));

TRACE_EVENT(pciedma_poll,
	TP_PROTO(const struct pciedma_engine *engine, u32 id, bool oldest),
	TP_ARGS(engine, id, oldest),
	TP_STRUCT__entry(
		__field(u32, card)
		__field(u32, channel)
		__field(u32, id)
		__field(bool, oldest)
	),
	TP_fast_assign(
		__entry->card = engine->channel->card->index;
		__entry->channel = engine->channel->index;
		__entry->id = id;
		__entry->oldest = oldest;
	),
	TP_printk("card=%u channel=%u id=%u oldest=%d", __entry->card, __entry->channel,
		  __entry->id, __entry->oldest)
);

TRACE_EVENT(pciedma_interrupt,
	TP_PROTO(const struct pciedma_card *card, unsigned int vector, int found),
	TP_ARGS(card, vector, found),
	TP_STRUCT__entry(
		__field(u32, card)
		__field(u32, vector)
		__field(int, found)
	),
	TP_fast_assign(
		__entry->card = card->index;
		__entry->vector = vector;
		__entry->found = found;
	),
	TP_printk("card=%u vector=%u found=%d", __entry->card, __entry->vector, __entry->found)
);

TRACE_EVENT(pciedma_halt,
	TP_PROTO(const struct pciedma_engine *engine),
	TP_ARGS(engine),
	TP_STRUCT__entry(
		__field(u32, card)
		__field(u32, channel)
		__field(u32, direction)
	),
	TP_fast_assign(
		__entry->card = engine->channel->card->index;
		__entry->channel = engine->channel->index;
		__entry->direction = engine->direction;
	),
	TP_printk("card=%u channel=%u %s", __entry->card, __entry->channel,
		  __entry->direction == PCIEDMA_C2H ? "c2h" : "h2c")
);

TRACE_EVENT(pciedma_gone,
	TP_PROTO(const struct pciedma_card *card),
	TP_ARGS(card),
	TP_STRUCT__entry(
		__field(u32, card)
	),
	TP_fast_assign(
		__entry->card = card->index;
	),
	TP_printk("card=%u", __entry->card)
);

#endif /* PCIEDMA_TRACE_H */

#undef TRACE_INCLUDE_PATH
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_PATH .
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
