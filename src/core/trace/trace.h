/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints: what a transfer's time splits into. They take plain values, so that every layer
 * can have some.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM pciedma

#if !defined(PCIEDMA_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define PCIEDMA_TRACE_H

#include <linux/tracepoint.h>

DECLARE_EVENT_CLASS(pciedma_transfer,
	TP_PROTO(u32 card, u32 channel, u32 direction, u32 id, u64 address, u32 length, u32 done,
		 int error),
	TP_ARGS(card, channel, direction, id, address, length, done, error),
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
		__entry->card = card;
		__entry->channel = channel;
		__entry->direction = direction;
		__entry->id = id;
		__entry->address = address;
		__entry->length = length;
		__entry->done = done;
		__entry->error = error;
	),
	TP_printk("card=%u channel=%u %s id=%u address=0x%llx length=%u done=%u error=%d",
		  __entry->card, __entry->channel,
		  __entry->direction ? "h2c" : "c2h", __entry->id,
		  __entry->address, __entry->length, __entry->done, __entry->error)
);

DEFINE_EVENT(pciedma_transfer, pciedma_submit,
	TP_PROTO(u32 card, u32 channel, u32 direction, u32 id, u64 address, u32 length, u32 done,
		 int error),
	TP_ARGS(card, channel, direction, id, address, length, done, error));

DEFINE_EVENT(pciedma_transfer, pciedma_start,
	TP_PROTO(u32 card, u32 channel, u32 direction, u32 id, u64 address, u32 length, u32 done,
		 int error),
	TP_ARGS(card, channel, direction, id, address, length, done, error));

DEFINE_EVENT(pciedma_transfer, pciedma_complete,
	TP_PROTO(u32 card, u32 channel, u32 direction, u32 id, u64 address, u32 length, u32 done,
		 int error),
	TP_ARGS(card, channel, direction, id, address, length, done, error));

TRACE_EVENT(pciedma_poll,
	TP_PROTO(u32 card, u32 channel, u32 id, bool oldest),
	TP_ARGS(card, channel, id, oldest),
	TP_STRUCT__entry(
		__field(u32, card)
		__field(u32, channel)
		__field(u32, id)
		__field(bool, oldest)
	),
	TP_fast_assign(
		__entry->card = card;
		__entry->channel = channel;
		__entry->id = id;
		__entry->oldest = oldest;
	),
	TP_printk("card=%u channel=%u id=%u oldest=%d", __entry->card, __entry->channel,
		  __entry->id, __entry->oldest)
);

TRACE_EVENT(pciedma_interrupt,
	TP_PROTO(u32 card, unsigned int vector, int found),
	TP_ARGS(card, vector, found),
	TP_STRUCT__entry(
		__field(u32, card)
		__field(u32, vector)
		__field(int, found)
	),
	TP_fast_assign(
		__entry->card = card;
		__entry->vector = vector;
		__entry->found = found;
	),
	TP_printk("card=%u vector=%u found=%d", __entry->card, __entry->vector, __entry->found)
);

TRACE_EVENT(pciedma_halt,
	TP_PROTO(u32 card, u32 channel, u32 direction),
	TP_ARGS(card, channel, direction),
	TP_STRUCT__entry(
		__field(u32, card)
		__field(u32, channel)
		__field(u32, direction)
	),
	TP_fast_assign(
		__entry->card = card;
		__entry->channel = channel;
		__entry->direction = direction;
	),
	TP_printk("card=%u channel=%u %s", __entry->card, __entry->channel,
		  __entry->direction ? "h2c" : "c2h")
);

TRACE_EVENT(pciedma_gone,
	TP_PROTO(u32 card),
	TP_ARGS(card),
	TP_STRUCT__entry(
		__field(u32, card)
	),
	TP_fast_assign(
		__entry->card = card;
	),
	TP_printk("card=%u", __entry->card)
);

#endif /* PCIEDMA_TRACE_H */

#undef TRACE_INCLUDE_PATH
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_PATH .
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
