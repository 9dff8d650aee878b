// SPDX-License-Identifier: GPL-2.0-only
/*
 * Event lines: interrupts of the user's own logic on a card, for those who
 * listen on the card node. A line that has fired stays off until its listener
 * has taken notice, so that no level can storm.
 */
#include <linux/eventfd.h>
#include <linux/slab.h>

#include <compat.h>

#include "card_node.h"

/* Events lock held; the card is there. */
static void events_arm(struct pciedma_card_node *node, u32 lines)
{
	struct pciedma_card_events *events = &node->events;

	lines &= ~events->armed;
	if (!lines)
		return;
	events->armed |= lines;
	if (!events->silent)
		pciedma_ops(&node->card)->arm_events(&node->card, lines);
}

/**
 * pciedma_events_init() - nobody listens
 * @events: a card's event lines
 *
 * Context: process.
 */
void pciedma_events_init(struct pciedma_card_events *events)
{
	spin_lock_init(&events->lock);
	INIT_LIST_HEAD(&events->listeners);
}

/**
 * pciedma_listener_init() - a file may listen from now on
 * @listener: embedded in it
 * @node:     its card
 *
 * Context: process.
 */
void pciedma_listener_init(struct pciedma_listener *listener, struct pciedma_card_node *node)
{
	listener->card = node;
	guard(spinlock_irqsave)(&node->events.lock);
	list_add_tail(&listener->node, &node->events.listeners);
}

/**
 * pciedma_listener_exit() - the file is closed
 * @listener: embedded in it
 *
 * Context: process.
 */
void pciedma_listener_exit(struct pciedma_listener *listener)
{
	scoped_guard(spinlock_irqsave, &listener->card->events.lock)
		list_del(&listener->node);
	if (listener->eventfd)
		eventfd_ctx_put(listener->eventfd);
}

/**
 * pciedma_listener_set() - PCIEDMA_IOC_SET_EVENTS
 * @listener: who listens
 * @events:   its argument
 *
 * Context: process, inside the gate.
 * Return: 0, -EINVAL, -EOPNOTSUPP, or the eventfd's errno.
 */
long pciedma_listener_set(struct pciedma_listener *listener, const struct pciedma_events *events)
{
	struct pciedma_card_node *node = listener->card;
	struct eventfd_ctx *eventfd = NULL;

	if (events->flags || memchr_inv(events->reserved, 0, sizeof(events->reserved)))
		return -EINVAL;
	if (!node->card.type->event_lines)
		return -EOPNOTSUPP;
	if (events->lines & ~GENMASK(node->card.type->event_lines - 1, 0))
		return -EINVAL;
	if (events->eventfd >= 0) {
		eventfd = eventfd_ctx_fdget(events->eventfd);
		if (IS_ERR(eventfd))
			return PTR_ERR(eventfd);
	}
	scoped_guard(spinlock_irqsave, &node->events.lock) {
		swap(listener->eventfd, eventfd);
		listener->lines = events->lines;
		listener->fired = 0;
		events_arm(node, events->lines);
	}
	if (eventfd)
		eventfd_ctx_put(eventfd);
	return 0;
}

/* Take notice of the lines that have fired, and let them fire again. */
static u32 listener_take(struct pciedma_listener *listener)
{
	struct pciedma_card_node *node = listener->card;
	u32 lines;

	guard(spinlock_irqsave)(&node->events.lock);
	lines = listener->fired;
	listener->fired = 0;
	events_arm(node, listener->lines);
	return lines;
}

/**
 * pciedma_listener_put_back() - user space did not get to know of lines after all
 * @listener: who listens
 * @lines:    which have fired
 *
 * Context: process.
 */
void pciedma_listener_put_back(struct pciedma_listener *listener, u32 lines)
{
	scoped_guard(spinlock_irqsave, &listener->card->events.lock)
		listener->fired |= lines & listener->lines;
	wake_up_interruptible(&listener->card->poll_wait);
}

/**
 * pciedma_listener_get() - PCIEDMA_IOC_GET_EVENTS
 * @listener: who listens
 * @events:   its argument
 *
 * Context: process, inside the gate.
 * Return: 0 or -EINVAL.
 */
long pciedma_listener_get(struct pciedma_listener *listener, struct pciedma_events *events)
{
	if (memchr_inv(events, 0, sizeof(*events)))
		return -EINVAL;
	events->eventfd = -1;
	events->lines = listener_take(listener);
	return 0;
}

/**
 * pciedma_listener_read() - a read of the card node: wait for lines, and take notice of them
 * @listener: who listens
 * @lines:    user space's
 * @nonblock: do not wait
 *
 * Context: process, outside the gate.
 * Return: bytes; -EAGAIN, -EFAULT, -ENODEV, -ERESTARTSYS.
 */
ssize_t pciedma_listener_read(struct pciedma_listener *listener, u32 __user *lines, bool nonblock)
{
	struct pciedma_card_node *node = listener->card;
	u32 fired;
	int ret;

	for (;;) {
		if (!pciedma_card_enter(&node->card))
			return -ENODEV;
		fired = pciedma_listener_fired(listener) ? listener_take(listener) : 0;
		pciedma_card_leave(&node->card);
		if (fired)
			break;
		if (READ_ONCE(node->card.lost))
			return -ENODEV;
		if (nonblock)
			return -EAGAIN;
		ret = wait_event_interruptible(node->poll_wait, pciedma_listener_fired(listener) ||
					       READ_ONCE(node->card.removed) ||
					       READ_ONCE(node->card.lost));
		if (ret)
			return ret;
	}
	if (!put_user(fired, lines))
		return sizeof(*lines);
	pciedma_listener_put_back(listener, fired);
	return -EFAULT;
}

/**
 * pciedma_listener_fired() - whether there is something to take notice of
 * @listener: who listens
 *
 * Return: true if so.
 */
bool pciedma_listener_fired(struct pciedma_listener *listener)
{
	guard(spinlock_irqsave)(&listener->card->events.lock);
	return listener->fired;
}

/**
 * pciedma_events_interrupt() - an interrupt came on a vector that serves event lines
 * @card: the card
 *
 * Context: any.
 * Return: whether a line has fired.
 */
bool pciedma_events_interrupt(struct pciedma_card *card)
{
	struct pciedma_card_node *node = pciedma_card_node(card);
	struct pciedma_card_events *events = &node->events;
	struct pciedma_listener *listener;
	u32 lines;

	if (!READ_ONCE(events->armed))
		return false;
	scoped_guard(spinlock_irqsave, &events->lock) {
		if (events->silent)
			return false;
		lines = pciedma_ops(card)->events(card) & events->armed;
		events->armed &= ~lines;
		list_for_each_entry(listener, &events->listeners, node) {
			if (!(listener->lines & lines))
				continue;
			listener->fired |= listener->lines & lines;
			if (listener->eventfd)
				eventfd_signal(listener->eventfd);
		}
	}
	if (lines)
		wake_up_interruptible(&node->poll_wait);
	return lines;
}

/**
 * pciedma_events_silence() - the registers must not be touched until the card is initialized
 * @node: the card
 *
 * Context: process.
 */
void pciedma_events_silence(struct pciedma_card_node *node)
{
	guard(spinlock_irqsave)(&node->events.lock);
	node->events.silent = true;
}

/**
 * pciedma_events_restore() - the card was initialized: arm again what was armed
 * @card: the card
 *
 * Context: process.
 */
void pciedma_events_restore(struct pciedma_card *card)
{
	struct pciedma_card_node *node = pciedma_card_node(card);
	u32 lines;

	guard(spinlock_irqsave)(&node->events.lock);
	node->events.silent = false;
	lines = node->events.armed;
	node->events.armed = 0;
	events_arm(node, lines);
}
