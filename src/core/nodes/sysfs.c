// SPDX-License-Identifier: GPL-2.0-only
/*
 * What sysfs shows of cards, channels and engines.
 */
#include <linux/sysfs.h>

#include "channel.h"

static struct pciedma_card *to_card(struct device *dev)
{
	return container_of(dev, struct pciedma_card, dev);
}

static struct pciedma_channel *to_channel(struct device *dev)
{
	return container_of(dev, struct pciedma_channel, dev);
}

static ssize_t card_show(struct device *dev, struct device_attribute *attr, char *buffer)
{
	return sysfs_emit(buffer, "%s\n", to_card(dev)->type->name);
}
static DEVICE_ATTR_RO(card);

static ssize_t resets_show(struct device *dev, struct device_attribute *attr, char *buffer)
{
	return sysfs_emit(buffer, "%lld\n", (long long)atomic64_read(&to_card(dev)->resets));
}
static DEVICE_ATTR_RO(resets);

static ssize_t quarantined_bytes_show(struct device *dev, struct device_attribute *attr,
				      char *buffer)
{
	return sysfs_emit(buffer, "%lld\n", (long long)atomic64_read(&to_card(dev)->quarantined));
}
static DEVICE_ATTR_RO(quarantined_bytes);

static const char *card_configuration(struct pciedma_card *card)
{
	const char *word = "unknown";

	if (!mutex_trylock(&card->recovery.lock))
		return word;
	if (!card->recovery.held && pci_device_is_present(card->pdev))
		word = pciedma_card_config_lost(card) ? "lost" : "ok";
	mutex_unlock(&card->recovery.lock);
	return word;
}

/* While somebody resets the card what it holds means nothing. */
static ssize_t configuration_show(struct device *dev, struct device_attribute *attr, char *buffer)
{
	struct pciedma_card *card = to_card(dev);
	const char *word;

	if (!pciedma_card_enter(card))
		return -ENODEV;
	word = card_configuration(card);
	pciedma_card_leave(card);
	return sysfs_emit(buffer, "%s\n", word);
}
static DEVICE_ATTR_RO(configuration);

static struct attribute *card_attrs[] = {
	&dev_attr_card.attr,
	&dev_attr_configuration.attr,
	&dev_attr_quarantined_bytes.attr,
	&dev_attr_resets.attr,
	NULL
};

static const struct attribute_group card_group = {
	.attrs = card_attrs,
};

const struct attribute_group *pciedma_card_groups[] = {
	&card_group,
	NULL
};

static ssize_t kind_show(struct device *dev, struct device_attribute *attr, char *buffer)
{
	static const char * const names[] = {
		[PCIEDMA_KIND_MEMORY]	= "memory",
		[PCIEDMA_KIND_MESSAGE]	= "message",
		[PCIEDMA_KIND_STREAM]	= "stream",
	};

	return sysfs_emit(buffer, "%s\n", names[to_channel(dev)->kind]);
}
static DEVICE_ATTR_RO(kind);

static ssize_t size_show(struct device *dev, struct device_attribute *attr, char *buffer)
{
	return sysfs_emit(buffer, "%llu\n", to_channel(dev)->size);
}
static DEVICE_ATTR_RO(size);

static struct attribute *channel_attrs[] = {
	&dev_attr_kind.attr,
	&dev_attr_size.attr,
	NULL
};

static const struct attribute_group channel_group = {
	.attrs = channel_attrs,
};

/* An engine's attribute: the direction and where in struct pciedma_stats. */
struct stat_attribute {
	struct device_attribute attr;
	enum pciedma_direction direction;
	size_t offset;
};

static ssize_t stat_show(struct device *dev, struct device_attribute *attr, char *buffer)
{
	struct stat_attribute *stat = container_of(attr, struct stat_attribute, attr);
	struct pciedma_engine *engine = &to_channel(dev)->by_direction[stat->direction]->engine;
	u64 value;

	scoped_guard(spinlock_irqsave, &engine->lock)
		value = *(u64 *)((char *)&engine->stats[stat->direction] + stat->offset);
	return sysfs_emit(buffer, "%llu\n", value);
}

static ssize_t health_show(struct device *dev, struct device_attribute *attr, char *buffer)
{
	struct stat_attribute *stat = container_of(attr, struct stat_attribute, attr);
	struct pciedma_engine *engine = &to_channel(dev)->by_direction[stat->direction]->engine;

	return sysfs_emit(buffer, "%s\n", pciedma_engine_health(engine));
}

/* An engine's attribute that root may change: where in struct pciedma_lane, and its range. */
struct knob_attribute {
	struct device_attribute attr;
	enum pciedma_direction direction;
	size_t offset;
	u32 min;
	u32 max;
};

static const struct knob_attribute *to_knob(struct device_attribute *attr)
{
	return container_of(attr, struct knob_attribute, attr);
}

static u32 *knob(struct device *dev, const struct knob_attribute *knob)
{
	struct pciedma_lane *lane = to_channel(dev)->by_direction[knob->direction];

	return (u32 *)((char *)lane + knob->offset);
}

static ssize_t knob_show(struct device *dev, struct device_attribute *attr, char *buffer)
{
	return sysfs_emit(buffer, "%u\n", READ_ONCE(*knob(dev, to_knob(attr))));
}

static ssize_t knob_store(struct device *dev, struct device_attribute *attr, const char *buffer,
			  size_t length)
{
	const struct knob_attribute *range = to_knob(attr);
	u32 value;
	int ret;

	ret = kstrtou32(buffer, 0, &value);
	if (ret)
		return ret;
	if (value < range->min || value > range->max)
		return -ERANGE;
	WRITE_ONCE(*knob(dev, range), value);
	return length;
}

#define DRAIN_MS_MAX	(60 * 60 * MSEC_PER_SEC)
/* Durations are kept as 32 bits of nanoseconds. */
#define SPIN_US_MAX	(U32_MAX / NSEC_PER_USEC)

#define KNOB_INIT(_direction, _name, _member, _min, _max) {			\
	.attr = __ATTR(_name, 0644, knob_show, knob_store),			\
	.direction = _direction,						\
	.offset = offsetof(struct pciedma_lane, _member),			\
	.min = _min,								\
	.max = _max,								\
}

#define KNOB(_direction, _name, _member, _min, _max)				\
	(&((struct knob_attribute)KNOB_INIT(_direction, _name, _member, _min, _max)).attr.attr)

#define STAT_INIT(_direction, _name) {						\
	.attr = __ATTR(_name, 0444, stat_show, NULL),				\
	.direction = _direction,						\
	.offset = offsetof(struct pciedma_stats, _name),			\
}

#define STAT(_direction, _name)							\
	(&((struct stat_attribute)STAT_INIT(_direction, _name)).attr.attr)

#define HEALTH_INIT(_direction) {						\
	.attr = __ATTR(health, 0444, health_show, NULL),			\
	.direction = _direction,						\
}

#define HEALTH(_direction)							\
	(&((struct stat_attribute)HEALTH_INIT(_direction)).attr.attr)

static struct attribute *c2h_attrs[] = {
	STAT(PCIEDMA_C2H, bytes),
	STAT(PCIEDMA_C2H, transfers),
	STAT(PCIEDMA_C2H, errors),
	STAT(PCIEDMA_C2H, timeouts),
	STAT(PCIEDMA_C2H, halts),
	STAT(PCIEDMA_C2H, looks),
	STAT(PCIEDMA_C2H, poll_misses),
	STAT(PCIEDMA_C2H, copied),
	HEALTH(PCIEDMA_C2H),
	KNOB(PCIEDMA_C2H, copy_threshold, copy_threshold, 0, U32_MAX),
	KNOB(PCIEDMA_C2H, drain_ms, engine.drain_ms, 1, DRAIN_MS_MAX),
	KNOB(PCIEDMA_C2H, spin_us, spin_us, 0, SPIN_US_MAX),
	NULL
};

static struct attribute *h2c_attrs[] = {
	STAT(PCIEDMA_H2C, bytes),
	STAT(PCIEDMA_H2C, transfers),
	STAT(PCIEDMA_H2C, errors),
	STAT(PCIEDMA_H2C, timeouts),
	STAT(PCIEDMA_H2C, halts),
	STAT(PCIEDMA_H2C, looks),
	STAT(PCIEDMA_H2C, poll_misses),
	STAT(PCIEDMA_H2C, copied),
	HEALTH(PCIEDMA_H2C),
	KNOB(PCIEDMA_H2C, copy_threshold, copy_threshold, 0, U32_MAX),
	KNOB(PCIEDMA_H2C, drain_ms, engine.drain_ms, 1, DRAIN_MS_MAX),
	KNOB(PCIEDMA_H2C, spin_us, spin_us, 0, SPIN_US_MAX),
	NULL
};

static umode_t c2h_visible(struct kobject *kobj, struct attribute *attr, int n)
{
	return to_channel(kobj_to_dev(kobj))->by_direction[PCIEDMA_C2H] ? attr->mode : 0;
}

static umode_t h2c_visible(struct kobject *kobj, struct attribute *attr, int n)
{
	return to_channel(kobj_to_dev(kobj))->by_direction[PCIEDMA_H2C] ? attr->mode : 0;
}

static const struct attribute_group c2h_group = {
	.name		= "c2h",
	.attrs		= c2h_attrs,
	.is_visible	= c2h_visible,
};

static const struct attribute_group h2c_group = {
	.name		= "h2c",
	.attrs		= h2c_attrs,
	.is_visible	= h2c_visible,
};

const struct attribute_group *pciedma_channel_groups[] = {
	&channel_group,
	&c2h_group,
	&h2c_group,
	NULL
};
