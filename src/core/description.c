// SPDX-License-Identifier: GPL-2.0-only
/*
 * What of a back end's descriptions cannot be: each mistake with its field and the value there.
 */
#include <linux/log2.h>
#include <linux/pci.h>
#include <linux/sizes.h>

#include "driver.h"
#include "nodes/channel.h"

#define MISTAKE_LENGTH	128

/* Memory is cut at pages: nothing coarser can be had of it. */
#define ALIGNMENT_MAX	SZ_4K
/* What the smallest of the buses behind engines ask for. */
#define BOUNDARY_MIN	SZ_512

static __printf(2, 3) bool mistake(char text[MISTAKE_LENGTH], const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, MISTAKE_LENGTH, format, arguments);
	va_end(arguments);
	return true;
}

static bool ops_are_wrong(const struct pciedma_card_type *type, char *text)
{
	const struct pciedma_card_ops *ops = &type->ops;

	if (!ops->identify)
		return mistake(text, "identify is missing");
	if (!ops->init)
		return mistake(text, "init is missing");
	if (!ops->start)
		return mistake(text, "start is missing");
	if (!ops->reap)
		return mistake(text, "reap is missing");
	if (!ops->idle)
		return mistake(text, "idle is missing");
	if (!ops->irq)
		return mistake(text, "irq is missing");
	if (!type->event_lines != !ops->events)
		return mistake(text, "events is %s, but event_lines is %u",
			       ops->events ? "there" : "missing", type->event_lines);
	if (!type->event_lines != !ops->arm_events)
		return mistake(text, "arm_events is %s, but event_lines is %u",
			       ops->arm_events ? "there" : "missing", type->event_lines);
	return false;
}

static bool type_is_wrong(const struct pciedma_card_type *type, char *text)
{
	if (!type)
		return mistake(text, "type is missing");
	if (!type->name || !*type->name || strlen(type->name) > 15)
		return mistake(text, "name is \"%s\", not 1 to 15 characters", type->name ?: "");
	if (!type->card_priv)
		return mistake(text, "card_priv is 0");
	if (!type->vectors || type->vectors > PCIEDMA_MAX_VECTORS)
		return mistake(text, "vectors is %u, not 1 to %u", type->vectors,
			       PCIEDMA_MAX_VECTORS);
	if (type->event_lines > PCIEDMA_MAX_EVENTS)
		return mistake(text, "event_lines is %u, more than %u", type->event_lines,
			       PCIEDMA_MAX_EVENTS);
	return ops_are_wrong(type, text);
}

/**
 * pciedma_type_check() - whether a back end can be
 * @driver: it
 *
 * Context: process.
 * Return: 0, or -EINVAL after a log line.
 */
int pciedma_type_check(const struct pciedma_driver *driver)
{
	char text[MISTAKE_LENGTH];

	if (!type_is_wrong(driver->type, text))
		return 0;
	pr_err("pciedma: bad description of %s: %s\n", driver->pci.name, text);
	return -EINVAL;
}

/* Of core's own memory a message lies at the beginning, and is never cut. */
static bool message_is_wrong(const struct pciedma_engine_desc *desc, char *text)
{
	if (!desc->max_dma || desc->max_dma > desc->buffer_size)
		return mistake(text, "max_dma is %u, not 1 to buffer_size, which is %u",
			       desc->max_dma, desc->buffer_size);
	if (desc->segment_boundary && desc->segment_boundary < desc->max_dma)
		return mistake(text, "segment_boundary is %u, less than max_dma, which is %u",
			       desc->segment_boundary, desc->max_dma);
	return false;
}

/* Where memory is cut, the next piece has to begin as aligned as the first. */
static bool memory_is_wrong(const struct pciedma_engine_desc *desc, char *text)
{
	u32 unit = max3(desc->address_alignment, desc->length_granularity, desc->host_alignment);

	if (!unit)
		return false;
	if (desc->max_segment % unit)
		return mistake(text, "max_segment is %u, no multiple of the alignment %u",
			       desc->max_segment, unit);
	if (desc->buffer_size % unit)
		return mistake(text, "buffer_size is %u, no multiple of the alignment %u",
			       desc->buffer_size, unit);
	if (desc->segment_boundary % unit)
		return mistake(text, "segment_boundary is %u, no multiple of the alignment %u",
			       desc->segment_boundary, unit);
	return false;
}

static bool is_alignment(u32 value)
{
	return !value || (is_power_of_2(value) && value <= ALIGNMENT_MAX);
}

static bool alignment_is_wrong(const struct pciedma_engine_desc *desc, char *text)
{
	if (!is_alignment(desc->address_alignment))
		return mistake(text, "address_alignment is %u, no power of two up to %u",
			       desc->address_alignment, ALIGNMENT_MAX);
	if (!is_alignment(desc->length_granularity))
		return mistake(text, "length_granularity is %u, no power of two up to %u",
			       desc->length_granularity, ALIGNMENT_MAX);
	if (!is_alignment(desc->host_alignment))
		return mistake(text, "host_alignment is %u, no power of two up to %u",
			       desc->host_alignment, ALIGNMENT_MAX);
	if (desc->segment_boundary && (!is_power_of_2(desc->segment_boundary) ||
				       desc->segment_boundary < BOUNDARY_MIN))
		return mistake(text, "segment_boundary is %u, no power of two from %u on",
			       desc->segment_boundary, BOUNDARY_MIN);
	return false;
}

static bool halt_is_wrong(const struct pciedma_card *card, const struct pciedma_engine_desc *desc,
			  char *text)
{
	bool scope = desc->halt_scope != PCIEDMA_HALT_NONE;
	bool there = pciedma_ops(card)->halt;

	if ((unsigned int)desc->halt_scope > PCIEDMA_HALT_CARD)
		return mistake(text, "halt_scope is %d, none of enum pciedma_halt_scope",
			       desc->halt_scope);
	if (there != scope)
		return mistake(text, "halt_scope is %d, but halt is %s", desc->halt_scope,
			       there ? "there" : "missing");
	return false;
}

static bool engine_is_wrong(const struct pciedma_card *card,
			    const struct pciedma_channel_desc *channel,
			    const struct pciedma_engine_desc *desc, char *text)
{
	if (!desc || channel->kind == PCIEDMA_KIND_STREAM)
		return false;
	if (!desc->address_bits || desc->address_bits > 64)
		return mistake(text, "address_bits is %u, not 1 to 64", desc->address_bits);
	if (!desc->segments)
		return mistake(text, "segments is 0");
	if (!desc->max_segment)
		return mistake(text, "max_segment is 0");
	if (!desc->drain_ms)
		return mistake(text, "drain_ms is 0");
	if (!desc->buffer_size)
		return mistake(text, "buffer_size is 0");
	if (!desc->buffers || desc->buffers > PCIEDMA_MAX_BUFFERS)
		return mistake(text, "buffers is %u, not 1 to %u", desc->buffers,
			       PCIEDMA_MAX_BUFFERS);
	if (alignment_is_wrong(desc, text))
		return true;
	if (channel->kind == PCIEDMA_KIND_MESSAGE ? message_is_wrong(desc, text) :
						    memory_is_wrong(desc, text))
		return true;
	return halt_is_wrong(card, desc, text);
}

/* But for its engines. */
static bool channel_is_wrong(const struct pciedma_card_node *node,
			     const struct pciedma_channel_desc *desc, char *text)
{
	if (node->num_channels == PCIEDMA_MAX_CHANNELS)
		return mistake(text, "a card has at most %u channels", PCIEDMA_MAX_CHANNELS);
	if (desc->kind < PCIEDMA_KIND_MEMORY || desc->kind > PCIEDMA_KIND_STREAM)
		return mistake(text, "kind is %d, none of enum pciedma_kind", desc->kind);
	if (!desc->c2h && !desc->h2c)
		return mistake(text, "c2h and h2c are both missing");
	if (desc->shared && desc->c2h != desc->h2c)
		return mistake(text, "shared, but c2h and h2c are not the same description");
	if (desc->kind == PCIEDMA_KIND_MEMORY && (!desc->size || desc->size > LLONG_MAX))
		return mistake(text, "size is %llu, not 1 to PCIEDMA_SIZE_UNKNOWN", desc->size);
	return false;
}

/**
 * pciedma_channel_check() - whether a channel can be
 * @node: its card
 * @desc: what the back end says of it
 *
 * Context: process.
 * Return: 0, or -EINVAL after a log line.
 */
int pciedma_channel_check(const struct pciedma_card_node *node,
			  const struct pciedma_channel_desc *desc)
{
	const struct pciedma_card *card = &node->card;
	char text[MISTAKE_LENGTH];
	const char *where;

	if (channel_is_wrong(node, desc, text))
		where = "";
	else if (engine_is_wrong(card, desc, desc->c2h, text))
		where = "c2h: ";
	else if (engine_is_wrong(card, desc, desc->h2c, text))
		where = "h2c: ";
	else
		return 0;
	pci_err(card->pdev, "bad description of %s, channel %u: %s%s\n", card->type->name,
		node->num_channels, where, text);
	return -EINVAL;
}
