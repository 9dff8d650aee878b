/* SPDX-License-Identifier: MIT */
/*
 * What a C or C++ program needs to use a card beside read(), write() and
 * poll(): finding and opening, the ioctls, transfers that go on after short
 * counts, memory that program and card share, and the registers of the card's
 * own logic.
 *
 * Nothing is kept between calls, and no memory that outlives one is allocated
 * but buffers that are asked for: cards, channels and windows are file
 * descriptors, which the caller closes with close(). Threads may call everything
 * at the same time, on the same file descriptor too, but for what says
 * otherwise. Functions that return int return -1 with errno set if they fail;
 * what the errnos of the driver mean stands in docs/calls.md.
 */
#ifndef PCIEDMA_PCIEDMA_H
#define PCIEDMA_PCIEDMA_H

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#include <pciedma/uapi.h>

#ifndef O_CLOEXEC
#error "POSIX is hidden: compile with -std=gnu11, or define _POSIX_C_SOURCE as 200809L"
#endif

static_assert(sizeof(off_t) == 8, "card addresses have 64 bits: use -D_FILE_OFFSET_BITS=64");

/** PCIEDMA_SYSFS - string literal: where the kernel shows the cards; may be defined before */
#ifndef PCIEDMA_SYSFS
#define PCIEDMA_SYSFS		"/sys/class/pciedma"
#endif

/** PCIEDMA_DEVICES - string literal: where the nodes are; may be defined before */
#ifndef PCIEDMA_DEVICES
#define PCIEDMA_DEVICES		"/dev"
#endif

/** PCIEDMA_CALL_MAX - most bytes that Linux moves by one read() or write() */
#define PCIEDMA_CALL_MAX	((size_t)0x7ffff000)

/**
 * struct pciedma_buffer - memory that a channel's card knows
 * @address: where the program has it; NULL if it is another device's
 * @size:    bytes
 * @mapped:  bytes at @address that pciedma_buffer_close() unmaps: 0 unless the
 *           memory is new
 * @id:      the kernel's number of it, for this open file of the channel alone
 */
struct pciedma_buffer {
	void *address;
	uint64_t size;
	size_t mapped;
	uint32_t id;
};

/* Not for programs: what begins with pciedma_priv_ may change. */

/* Returns 0 if text is a number and nothing else. */
static inline int pciedma_priv_number(const char *text, unsigned int *number)
{
	unsigned int value = 0;

	if (!*text)
		return -1;
	for (; *text; text++) {
		unsigned int digit = (unsigned int)*text - '0';

		if (digit > 9 || value > (UINT_MAX - digit) / 10)
			return -1;
		value = value * 10 + digit;
	}
	*number = value;
	return 0;
}

static inline int pciedma_priv_fits(int length, size_t size)
{
	if (length >= 0 && (size_t)length < size)
		return 0;
	errno = ENAMETOOLONG;
	return -1;
}

/* Domain 0 may be left out of a PCI address. */
static inline const char *pciedma_priv_short_address(const char *address)
{
	return strncmp(address, "0000:", 5) ? address : address + 5;
}

static inline int pciedma_priv_is_at(unsigned int number, const char *address)
{
	char path[sizeof(PCIEDMA_SYSFS) + 32], target[PATH_MAX];
	const char *name;
	ssize_t length;

	if (pciedma_priv_fits(snprintf(path, sizeof(path), PCIEDMA_SYSFS "/pciedma%u/device",
				       number), sizeof(path)))
		return 0;
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0) /* it goes while we look */
		return 0;
	target[length] = '\0';
	name = strrchr(target, '/');
	name = name ? name + 1 : target;
	return !strcasecmp(pciedma_priv_short_address(name), pciedma_priv_short_address(address));
}

/* The lowest number of a card at a PCI address, of any if address is NULL. */
static inline int pciedma_priv_find(const char *address, unsigned int *number)
{
	unsigned int candidate, lowest = 0;
	DIR *folder = opendir(PCIEDMA_SYSFS);
	const struct dirent *entry;
	int found = 0, before = errno, error;

	if (!folder)
		return -1;
	for (errno = 0; (entry = readdir(folder)); errno = 0) {
		if (strncmp(entry->d_name, "pciedma", 7) ||
		    pciedma_priv_number(entry->d_name + 7, &candidate) ||
		    (found && candidate > lowest) ||
		    (address && !pciedma_priv_is_at(candidate, address)))
			continue;
		lowest = candidate;
		found = 1;
	}
	error = errno ? errno : found ? 0 : ENOENT;
	closedir(folder);
	*number = lowest;
	errno = error ? error : before;
	return error ? -1 : 0;
}

/* Closes what is not wanted; returns -1. */
static inline int pciedma_priv_refuse(int fd, int error)
{
	close(fd);
	errno = error;
	return -1;
}

/* Returns fd if it is a card's; else closes it. */
static inline int pciedma_priv_only_card(int fd)
{
	struct pciedma_channel_info channel;
	struct pciedma_window_info window;
	struct pciedma_card_info card;
	int before = errno;

	if (fd < 0)
		return fd;
	memset(&card, 0, sizeof(card));
	memset(&channel, 0, sizeof(channel));
	memset(&window, 0, sizeof(window));
	if (ioctl(fd, PCIEDMA_IOC_CARD_INFO, &card)) /* EINVAL: some drivers' word for ENOTTY */
		return pciedma_priv_refuse(fd, errno == EINVAL ? ENOTTY : errno);
	if (!ioctl(fd, PCIEDMA_IOC_CHANNEL_INFO, &channel))
		return pciedma_priv_refuse(fd, ENOTTY);
	if (errno != ENOTTY)
		return pciedma_priv_refuse(fd, errno);
	if (!ioctl(fd, PCIEDMA_IOC_WINDOW_INFO, &window))
		return pciedma_priv_refuse(fd, ENOTTY);
	if (errno != ENOTTY)
		return pciedma_priv_refuse(fd, errno);
	errno = before;
	return fd;
}

static inline int pciedma_priv_check_range(size_t length, uint64_t address)
{
	if (address <= INT64_MAX && length <= INT64_MAX - address)
		return 0;
	errno = EOVERFLOW;
	return -1;
}

static inline size_t pciedma_priv_piece(size_t length)
{
	return length < PCIEDMA_CALL_MAX ? length : PCIEDMA_CALL_MAX;
}

/**
 * pciedma_card_open_number() - open a card by its number
 * @number: as in /dev/pciedma<number>
 *
 * Return: a file descriptor, open for reading and writing and closed by
 * exec(); -1 with ENOENT (no such card), EACCES (not a member of the group
 * pciedma), ENODEV (it is going), or what else open() says.
 */
static inline int pciedma_card_open_number(unsigned int number)
{
	char path[sizeof(PCIEDMA_DEVICES) + 32];

	if (pciedma_priv_fits(snprintf(path, sizeof(path), PCIEDMA_DEVICES "/pciedma%u", number),
			      sizeof(path)))
		return -1;
	return open(path, O_RDWR | O_CLOEXEC);
}

/**
 * pciedma_card_open() - open a card
 * @which: NULL: the first, that is the one with the lowest number; a number
 *         ("0"); a path, that is anything with a slash ("/dev/pciedma0", a
 *         link to it); or a PCI address ("0000:01:00.0", "01:00.0")
 *
 * Return: as pciedma_card_open_number(); ENOENT also if there is no card at
 * all, or the driver is not loaded; ENOTTY for a path that leads to a channel or
 * a window, or to no node of pciedma.
 */
static inline int pciedma_card_open(const char *which)
{
	unsigned int number;

	if (which && strchr(which, '/'))
		return pciedma_priv_only_card(open(which, O_RDWR | O_CLOEXEC));
	if ((!which || pciedma_priv_number(which, &number)) && pciedma_priv_find(which, &number))
		return -1;
	return pciedma_card_open_number(number);
}

/**
 * pciedma_card_get_info() - ask what a card is
 * @fd:   the card, or one of its channels
 * @info: where to put it; zeros if the call fails
 *
 * Return: 0; -1 with ENODEV (card gone), ENOTTY (no pciedma node), EBADF.
 */
static inline int pciedma_card_get_info(int fd, struct pciedma_card_info *info)
{
	memset(info, 0, sizeof(*info));
	return ioctl(fd, PCIEDMA_IOC_CARD_INFO, info);
}

/**
 * pciedma_card_is_older() - ask whether the loaded driver is older than this header
 * @fd: the card, or one of its channels
 *
 * An older one may stay loaded when the packages are upgraded. ioctls that it
 * does not know fail with ENOTTY; everything else works, and so does all with
 * a newer one. pciedma_card_get_info() has its version.
 *
 * Return: 1: older; 0: not; -1 with ENODEV (card gone), ENOTTY (no pciedma
 * node), EBADF.
 */
static inline int pciedma_card_is_older(int fd)
{
	struct pciedma_card_info info;

	if (pciedma_card_get_info(fd, &info))
		return -1;
	return info.abi_version < PCIEDMA_ABI_VERSION;
}

/**
 * pciedma_card_reset() - stop all engines of a card, reset it, start again
 * @card: the card
 *
 * Requests that have not begun stay queued; a DMA that does not end is cut
 * off, and its call fails with EIO.
 *
 * Return: 0; -1 with EIO (the card could not be proven idle), EBUSY (the
 * kernel is resetting it), EBADF (not open for writing), ENODEV (card gone),
 * ENOTTY.
 */
static inline int pciedma_card_reset(int card)
{
	struct pciedma_reset reset;

	memset(&reset, 0, sizeof(reset));
	return ioctl(card, PCIEDMA_IOC_RESET, &reset);
}

/**
 * pciedma_card_listen() - listen to interrupt lines of the user's own logic
 * @card:    the card; poll() says POLLIN when one of the lines has fired
 * @lines:   a bit for each line, at most PCIEDMA_MAX_EVENTS; 0: listen no more
 * @eventfd: signalled, too, when one has fired; -1: none
 *
 * Concerns this open file only, and replaces what it listened to before.
 *
 * Return: 0; -1 with EINVAL (lines that the card does not have; not an
 * eventfd), EOPNOTSUPP (the card has no lines), EBADF (either fd), ENODEV (card
 * gone), ENOTTY.
 */
static inline int pciedma_card_listen(int card, uint32_t lines, int eventfd)
{
	struct pciedma_events events;

	memset(&events, 0, sizeof(events));
	events.lines = lines;
	events.eventfd = eventfd;
	return ioctl(card, PCIEDMA_IOC_SET_EVENTS, &events);
}

/**
 * pciedma_card_get_events() - take notice of the lines that have fired
 * @card:  the card; does not wait: that is what poll() is for
 * @lines: where to put a bit for each line that has fired since the last call;
 *         0 if the call fails
 *
 * The lines may fire again from now on: serve the card's logic first, or they
 * do so at once. Of threads that share the open file, one sees a given event.
 *
 * Return: 0; -1 with ENODEV (card gone), ENOTTY, EBADF.
 */
static inline int pciedma_card_get_events(int card, uint32_t *lines)
{
	struct pciedma_events events;
	int ret;

	memset(&events, 0, sizeof(events));
	ret = ioctl(card, PCIEDMA_IOC_GET_EVENTS, &events);
	*lines = events.lines;
	return ret;
}

/**
 * pciedma_channel_open() - open a channel of an open card
 * @card:    the card
 * @channel: the channel's number on it, from 0
 * @flags:   O_RDWR, or O_RDONLY or O_WRONLY where a direction is missing; with
 *           O_EXCL nobody else may have it open; with O_NONBLOCK calls fail
 *           with EAGAIN instead of queueing
 *
 * Return: a file descriptor, closed by exec(); -1 with EINVAL (other flags),
 * ENOENT (no such channel), EACCES, EBUSY (exclusive), EOPNOTSUPP (a direction
 * that it does not have; a stream), ENODEV (card gone, or the node is another
 * card's), ENOTTY (not a card).
 */
static inline int pciedma_channel_open(int card, unsigned int channel, int flags)
{
	char path[sizeof(PCIEDMA_DEVICES) + 32];
	struct pciedma_channel_info found;
	struct pciedma_card_info info;
	int fd;

	if (flags & ~(O_ACCMODE | O_EXCL | O_NONBLOCK | O_CLOEXEC)) {
		errno = EINVAL;
		return -1;
	}
	if (pciedma_card_get_info(card, &info))
		return -1;
	if (pciedma_priv_fits(snprintf(path, sizeof(path), PCIEDMA_DEVICES "/pciedma%uc%u",
				       info.index, channel), sizeof(path)))
		return -1;
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		return -1;
	memset(&found, 0, sizeof(found));
	if (ioctl(fd, PCIEDMA_IOC_CHANNEL_INFO, &found))
		return pciedma_priv_refuse(fd, errno);
	if (found.card != info.index || found.channel != channel)
		return pciedma_priv_refuse(fd, ENODEV);
	/* A card that is gone may have left its number, and so its nodes, to another. */
	if (pciedma_card_get_info(card, &info))
		return pciedma_priv_refuse(fd, errno);
	return fd;
}

/**
 * pciedma_channel_get_info() - ask what a channel is
 * @channel: the channel
 * @info:    where to put it, all sizes in bytes; zeros if the call fails
 *
 * Return: 0; -1 with ENODEV (card gone), ENOTTY (not a channel), EBADF.
 */
static inline int pciedma_channel_get_info(int channel, struct pciedma_channel_info *info)
{
	memset(info, 0, sizeof(*info));
	return ioctl(channel, PCIEDMA_IOC_CHANNEL_INFO, info);
}

/**
 * pciedma_channel_get_wait() - ask how the calls of an open file wait
 * @channel: the channel
 * @wait:    where to put mode and time-out (nanoseconds); zeros if the call fails
 *
 * Return: 0; -1 with ENODEV (card gone), ENOTTY (not a channel), EBADF.
 */
static inline int pciedma_channel_get_wait(int channel, struct pciedma_wait *wait)
{
	memset(wait, 0, sizeof(*wait));
	return ioctl(channel, PCIEDMA_IOC_GET_WAIT, wait);
}

/**
 * pciedma_channel_set_timeout() - set after what time calls give up
 * @channel:    the channel; only this open file is concerned
 * @timeout_ns: nanoseconds without progress, queueing included, after which a
 *              call fails with ETIMEDOUT; 0: EAGAIN instead of queueing;
 *              PCIEDMA_TIMEOUT_NONE: no bound; 10 s if never set. Asynchronous
 *              requests end after 60 s at the latest
 *
 * Concerns calls that begin later. Not to be called while another thread sets
 * time-out or mode of the same open file: one of the two may be lost.
 *
 * Return: 0; -1 with EINVAL (below -1), ENODEV (card gone), ENOTTY, EBADF.
 */
static inline int pciedma_channel_set_timeout(int channel, int64_t timeout_ns)
{
	struct pciedma_wait wait;

	if (pciedma_channel_get_wait(channel, &wait))
		return -1;
	wait.timeout_ns = timeout_ns;
	return ioctl(channel, PCIEDMA_IOC_SET_WAIT, &wait);
}

/**
 * pciedma_channel_set_wait_mode() - set how calls wait
 * @channel: the channel; only this open file is concerned
 * @mode:    by interrupt, by polling, or adaptively, which it is if never set
 *
 * Threads: as pciedma_channel_set_timeout().
 *
 * Return: 0; -1 with EINVAL (no such mode), ENODEV (card gone), ENOTTY, EBADF.
 */
static inline int pciedma_channel_set_wait_mode(int channel, enum pciedma_wait_mode mode)
{
	struct pciedma_wait wait;

	if (pciedma_channel_get_wait(channel, &wait))
		return -1;
	wait.mode = (__u32)mode;
	return ioctl(channel, PCIEDMA_IOC_SET_WAIT, &wait);
}

/**
 * pciedma_channel_cancel() - end all requests of an open file
 * @channel: the channel
 *
 * Of all threads and processes that share the open file, synchronous or not.
 * Each returns what has arrived, or fails with ECANCELED if that is nothing.
 *
 * Return: 0; -1 with ENODEV (card gone), ENOTTY (not a channel), EBADF.
 */
static inline int pciedma_channel_cancel(int channel)
{
	struct pciedma_cancel cancel;

	memset(&cancel, 0, sizeof(cancel));
	return ioctl(channel, PCIEDMA_IOC_CANCEL, &cancel);
}

/**
 * pciedma_read_full() - read card memory, going on after short counts
 * @channel: a memory channel
 * @buffer:  @length bytes, of any kind and alignment
 * @length:  bytes, any number
 * @address: the card's address of the first
 *
 * A short count says that a signal, a cancellation or an error came after part
 * had moved; another call goes on from there, or fails and says why. So a signal
 * or pciedma_channel_cancel() that finds data moving does not end the whole:
 * where it must, use pread() and look at its count.
 *
 * Return: @length; or fewer, the bytes that are in @buffer for certain, and why
 * in errno: 0 (the card's memory ends there), EOVERFLOW (@address + @length is
 * above 2^63 - 1; nothing has moved), EINTR, ECANCELED, EAGAIN, ETIMEDOUT, EIO,
 * ENODEV, EFAULT, EINVAL (alignment), ESPIPE (not a memory channel), EBADF.
 */
static inline size_t pciedma_read_full(int channel, void *buffer, size_t length, uint64_t address)
{
	size_t done = 0;

	if (pciedma_priv_check_range(length, address))
		return 0;
	while (done < length) {
		ssize_t moved = pread(channel, (char *)buffer + done,
				      pciedma_priv_piece(length - done), (off_t)(address + done));

		if (moved < 0)
			break;
		if (!moved) {
			errno = 0;
			break;
		}
		done += (size_t)moved;
	}
	return done;
}

/**
 * pciedma_write_full() - write card memory, going on after short counts
 * @channel: a memory channel
 * @buffer:  @length bytes, of any kind and alignment; may be read-only memory
 * @length:  bytes, any number
 * @address: the card's address of the first
 *
 * Return: @length; or fewer, the bytes that the card has for certain, and why
 * in errno: as pciedma_read_full(), but ENOSPC where the card's memory ends.
 */
static inline size_t pciedma_write_full(int channel, const void *buffer, size_t length,
					uint64_t address)
{
	size_t done = 0;

	if (pciedma_priv_check_range(length, address))
		return 0;
	while (done < length) {
		ssize_t moved = pwrite(channel, (const char *)buffer + done,
				       pciedma_priv_piece(length - done), (off_t)(address + done));

		if (moved < 0)
			break;
		if (!moved) {
			errno = ENOSPC;
			break;
		}
		done += (size_t)moved;
	}
	return done;
}

/**
 * pciedma_buffer_close() - let the card forget a buffer, and unmap it if it was new
 * @channel: the channel of which it is, not closed yet
 * @buffer:  the buffer; zeros afterwards
 *
 * Entries that have begun go on, and have their results: the kernel keeps the
 * memory as long. What was registered, and is being read into, is not to be
 * used for something else before. To be called by one thread, when no other
 * uses the mapping. The last close of the channel forgets all buffers, but
 * unmaps none.
 *
 * Return: 0; -1 with ENOENT (no such buffer of this open file), EBADF, ENOTTY;
 * it is unmapped, and the struct zeros, in any case.
 */
static inline int pciedma_buffer_close(int channel, struct pciedma_buffer *buffer)
{
	struct pciedma_buffer_destroy destroy;

	memset(&destroy, 0, sizeof(destroy));
	destroy.id = buffer->id;
	if (buffer->mapped)
		munmap(buffer->address, buffer->mapped);
	memset(buffer, 0, sizeof(*buffer));
	return ioctl(channel, PCIEDMA_IOC_BUFFER_DESTROY, &destroy);
}

/**
 * pciedma_buffer_export_dmabuf() - let other devices have a new buffer, as a dma-buf
 * @channel: the channel of which it is
 * @buffer:  the buffer, from pciedma_buffer_new()
 *
 * pciedma_buffer_import_dmabuf() is for another card of this driver. The memory stays
 * as long as the descriptor, a mapping of it, or another device has it.
 *
 * Return: a file descriptor, closed by exec(); -1 with EOPNOTSUPP (the memory is
 * not new), ENOENT (no such buffer of this open file), EMFILE (descriptors),
 * ENOMEM, EBADF, ENOTTY.
 */
static inline int pciedma_buffer_export_dmabuf(int channel, const struct pciedma_buffer *buffer)
{
	struct pciedma_buffer_export exported;

	memset(&exported, 0, sizeof(exported));
	exported.id = buffer->id;
	if (ioctl(channel, PCIEDMA_IOC_BUFFER_EXPORT, &exported))
		return -1;
	return exported.fd;
}

/* Have a buffer with what create says; *buffer is zeros if there is none. */
static inline int pciedma_priv_create(int channel, struct pciedma_buffer_create *create,
				      struct pciedma_buffer *buffer)
{
	memset(buffer, 0, sizeof(*buffer));
	if (ioctl(channel, PCIEDMA_IOC_BUFFER_CREATE, create))
		return -1;
	buffer->address = (void *)(uintptr_t)create->address;
	buffer->size = create->size;
	buffer->id = create->id;
	return 0;
}

/* The kernel maps no file that is open for one way alone; of a dma-buf it maps the same memory. */
static inline void *pciedma_priv_map(int channel, const struct pciedma_buffer *buffer,
				     uint64_t offset)
{
	const int access = PROT_READ | PROT_WRITE;
	void *address;
	int dmabuf, error, before = errno;

	address = mmap(NULL, (size_t)buffer->size, access, MAP_SHARED, channel, (off_t)offset);
	if (address != MAP_FAILED || errno != EACCES)
		return address;
	dmabuf = pciedma_buffer_export_dmabuf(channel, buffer);
	if (dmabuf < 0)
		return MAP_FAILED;
	address = mmap(NULL, (size_t)buffer->size, access, MAP_SHARED, dmabuf, 0);
	error = address == MAP_FAILED ? errno : before;
	close(dmabuf);
	errno = error;
	return address;
}

/**
 * pciedma_buffer_new() - make a buffer of new memory, and map it
 * @channel:    the channel; one that is open for one direction will do
 * @size:       bytes, at least 1; it becomes whole pages
 * @directions: PCIEDMA_BUFFER_C2H (data may go from the card to it),
 *              PCIEDMA_BUFFER_H2C, or both
 * @buffer:     where to put what was made; zeros if the call fails
 *
 * The memory is zeroed. read() and write() of it, and their other forms, on any
 * open file of this channel move its data without pinning, mapping or copying;
 * it is memory like any other. It is there until pciedma_buffer_close(), the
 * channel's and the card's end or not; a child after fork() has it, too.
 *
 * Return: 0; -1 with ENOMEM (RLIMIT_MEMLOCK, or no memory that the card reaches:
 * the kernel's log says more), EOPNOTSUPP (the card cannot reach the memory that
 * there is; the log says more), EBADF (a direction for which the file is not
 * open), EINVAL (no size, no direction), EMFILE (4,096 buffers, or the process's
 * descriptors), ENFILE (the system's), EINTR (the process is to die), ENODEV
 * (card gone), ENOTTY (not a channel, or an older driver).
 */
static inline int pciedma_buffer_new(int channel, size_t size, uint32_t directions,
				     struct pciedma_buffer *buffer)
{
	struct pciedma_buffer_create create;
	void *address;
	int error;

	memset(&create, 0, sizeof(create));
	create.flags = directions;
	create.type = PCIEDMA_BUFFER_NEW;
	create.size = size;
	if (pciedma_priv_create(channel, &create, buffer))
		return -1;
	address = pciedma_priv_map(channel, buffer, create.mmap_offset);
	if (address == MAP_FAILED) {
		error = errno;
		pciedma_buffer_close(channel, buffer);
		errno = error;
		return -1;
	}
	buffer->address = address;
	buffer->mapped = (size_t)buffer->size;
	return 0;
}

/**
 * pciedma_buffer_register() - let the card know memory that the program has
 * @channel:    the channel
 * @address:    where it begins; any alignment
 * @size:       bytes, at least 1
 * @directions: as for pciedma_buffer_new(); memory that is read-only can be
 *              registered for PCIEDMA_BUFFER_H2C
 * @buffer:     where to put what was made; zeros if the call fails
 *
 * It is for pciedma_channel_transfer() and its kin; read() and write() treat it
 * as before. It is pinned, and means the memory that lies there now, whatever is
 * mapped or freed there later.
 *
 * Return: as pciedma_buffer_new(); -1 with EOPNOTSUPP also for memory that may
 * not be held for long, as that of files on disk (the log says which), with
 * EFAULT (it is not there, or is read-only).
 */
static inline int pciedma_buffer_register(int channel, void *address, size_t size,
					  uint32_t directions, struct pciedma_buffer *buffer)
{
	struct pciedma_buffer_create create;

	memset(&create, 0, sizeof(create));
	create.flags = directions;
	create.type = PCIEDMA_BUFFER_USER;
	create.address = (uintptr_t)address;
	create.size = size;
	return pciedma_priv_create(channel, &create, buffer);
}

/**
 * pciedma_buffer_import_dmabuf() - let the card know another device's memory
 * @channel:    the channel
 * @dmabuf:     descriptor of a dma-buf; may be closed afterwards
 * @directions: as for pciedma_buffer_new()
 * @buffer:     where to put what was made; zeros if the call fails
 *
 * For pciedma_channel_transfer() and its kin. It is pinned, and counts against
 * no limit.
 *
 * Return: 0; -1 with EBADF (no such descriptor, or a direction for which the
 * file is not open), EINVAL (it is no dma-buf, no direction), EOPNOTSUPP (the
 * card cannot reach it), EMFILE, ENOMEM, ENODEV (card gone), ENOTTY.
 */
static inline int pciedma_buffer_import_dmabuf(int channel, int dmabuf, uint32_t directions,
					       struct pciedma_buffer *buffer)
{
	struct pciedma_buffer_create create;

	memset(&create, 0, sizeof(create));
	create.flags = directions;
	create.type = PCIEDMA_BUFFER_DMABUF;
	create.fd = dmabuf;
	return pciedma_priv_create(channel, &create, buffer);
}

/**
 * pciedma_channel_transfer() - move parts of buffers, and wait for them
 * @channel: the channel
 * @entries: @count of them; zero what is not used
 * @count:   at least 1
 * @flags:   0, or PCIEDMA_TRANSFER_EACH: one that is not moved whole ends no other
 * @results: where to put as many results, in the order of the entries, of which
 *           the first *@taken are set; or NULL
 * @taken:   where to put how many entries were taken, also if the call fails;
 *           or NULL. Those behind them have not been looked at
 *
 * One system call, and one register write for each direction to start up to
 * 256. The entries of one direction are moved in their order, the two
 * directions at the same time but for PCIEDMA_ENTRY_BARRIER. When one is not
 * moved whole, those that have not begun end with ECANCELED, but for
 * PCIEDMA_TRANSFER_EACH. Time-out, wait mode, signals and
 * pciedma_channel_cancel() are as for read().
 *
 * Return: how many were moved whole; if they are fewer than @count, the results
 * say why of those that were taken. -1 if nothing was moved, with EINVAL (a
 * part that is not the buffer's, no length or one above PCIEDMA_ENTRY_MAX,
 * alignment, @flags), ENOENT (no such buffer of this open file), EACCES (the
 * buffer is not for the direction), EBADF (nor is the file), ENOSPC (behind the
 * end of the card's memory), EMSGSIZE, EAGAIN (4,096 entries of this open file; it may not
 * queue), ECANCELED, EINTR, EIO, ETIMEDOUT, ENODEV, EFAULT, ENOMEM, ENOTTY.
 */
static inline int pciedma_channel_transfer(int channel,
					   const struct pciedma_transfer_entry *entries,
					   uint32_t count, uint32_t flags,
					   struct pciedma_transfer_result *results, uint32_t *taken)
{
	struct pciedma_transfer_batch batch;
	int ret;

	memset(&batch, 0, sizeof(batch));
	batch.flags = flags;
	batch.count = count;
	batch.entries = (uintptr_t)entries;
	batch.results = (uintptr_t)results;
	ret = ioctl(channel, PCIEDMA_IOC_TRANSFER, &batch);
	if (taken)
		*taken = batch.taken;
	return ret;
}

/**
 * pciedma_channel_submit() - move parts of buffers without waiting for them
 * @channel: the channel
 * @entries: @count of them; may be used anew when the call returns
 * @count:   at least 1
 * @flags:   0 or PCIEDMA_TRANSFER_EACH, as for pciedma_channel_transfer()
 *
 * pciedma_channel_wait() takes the results; poll() says POLLPRI while there are
 * some, pciedma_channel_set_eventfd() has an eventfd count them. An open file has
 * 4,096 entries, those included whose result nobody has taken. Entries end 60 s
 * after the last progress at the latest, whatever the time-out.
 *
 * Return: how many were taken, those behind them have not been looked at; -1 if
 * none was, with the errnos of pciedma_channel_transfer().
 */
static inline int pciedma_channel_submit(int channel, const struct pciedma_transfer_entry *entries,
					 uint32_t count, uint32_t flags)
{
	struct pciedma_transfer_batch batch;

	memset(&batch, 0, sizeof(batch));
	batch.flags = PCIEDMA_TRANSFER_SUBMIT | flags;
	batch.count = count;
	batch.entries = (uintptr_t)entries;
	return ioctl(channel, PCIEDMA_IOC_TRANSFER, &batch);
}

/**
 * pciedma_channel_wait() - take results of entries that were submitted
 * @channel:    the channel
 * @results:    where to put @max of them at most, in the order of their ends
 * @min:        how many to wait for, 4,096 at most; 0: take what there is
 * @max:        at least 1, and @min
 * @timeout_ns: nanoseconds to wait; PCIEDMA_TIMEOUT_NONE: no bound
 *
 * Of threads that share the open file each gets others.
 *
 * Return: how many; fewer than @min if the time is over or the card has gone.
 * -1 if there is none, with ETIMEDOUT, ENODEV (card gone), EINTR, EINVAL
 * (@min, @max, a time-out below -1), EFAULT, EBADF, ENOTTY; with @min 0 it
 * is 0 then.
 */
static inline int pciedma_channel_wait(int channel, struct pciedma_transfer_result *results,
				       uint32_t min, uint32_t max, int64_t timeout_ns)
{
	struct pciedma_transfer_wait wait;

	memset(&wait, 0, sizeof(wait));
	wait.min = min;
	wait.max = max;
	wait.timeout_ns = timeout_ns;
	wait.results = (uintptr_t)results;
	return ioctl(channel, PCIEDMA_IOC_TRANSFER_WAIT, &wait);
}

/**
 * pciedma_channel_set_eventfd() - have an eventfd count submitted entries that have ended
 * @channel: the channel; only this open file is concerned
 * @eventfd: it rises by one for each; -1: none any more
 *
 * Return: 0; -1 with EBADF (either fd), EINVAL (not an eventfd), ENOMEM, ENOTTY.
 */
static inline int pciedma_channel_set_eventfd(int channel, int eventfd)
{
	struct pciedma_transfer_eventfd asked;

	memset(&asked, 0, sizeof(asked));
	asked.eventfd = eventfd;
	return ioctl(channel, PCIEDMA_IOC_TRANSFER_EVENTFD, &asked);
}

static inline ssize_t pciedma_priv_move(int channel, uint32_t direction,
					const struct pciedma_buffer *buffer, uint64_t offset,
					size_t length, uint64_t address)
{
	struct pciedma_transfer_entry entry;
	struct pciedma_transfer_result result;

	memset(&entry, 0, sizeof(entry));
	memset(&result, 0, sizeof(result));
	entry.flags = direction;
	entry.buffer = buffer->id;
	entry.offset = offset;
	entry.length = length;
	entry.address = address;
	if (pciedma_channel_transfer(channel, &entry, 1, 0, &result, NULL) < 0)
		return -1;
	return (ssize_t)result.bytes;
}

/**
 * pciedma_buffer_read() - move data from the card to a part of a buffer
 * @channel: the channel of which it is
 * @buffer:  the buffer, of any kind
 * @offset:  byte of the buffer at which the part begins
 * @length:  bytes, 1 to PCIEDMA_ENTRY_MAX
 * @address: the card's address; 0 if the channel is for messages
 *
 * pciedma_channel_transfer() of one entry.
 *
 * Return: the bytes that have arrived, fewer than @length as of read() after a
 * signal, a time-out, an error, or of a shorter message; -1 if there are none,
 * with the errnos of pciedma_channel_transfer(): ENOSPC where a part of it would
 * lie behind the end of the card's memory.
 */
static inline ssize_t pciedma_buffer_read(int channel, const struct pciedma_buffer *buffer,
					  uint64_t offset, size_t length, uint64_t address)
{
	return pciedma_priv_move(channel, PCIEDMA_ENTRY_C2H, buffer, offset, length, address);
}

/**
 * pciedma_buffer_write() - move data from a part of a buffer to the card
 * @channel: the channel of which it is
 * @buffer:  the buffer, of any kind
 * @offset:  byte of the buffer at which the part begins
 * @length:  bytes, 1 to PCIEDMA_ENTRY_MAX
 * @address: the card's address; 0 if the channel is for messages
 *
 * Return: as pciedma_buffer_read().
 */
static inline ssize_t pciedma_buffer_write(int channel, const struct pciedma_buffer *buffer,
					   uint64_t offset, size_t length, uint64_t address)
{
	return pciedma_priv_move(channel, PCIEDMA_ENTRY_H2C, buffer, offset, length, address);
}

/**
 * pciedma_window_get_info() - ask what a window is
 * @window: the window
 * @info:   where to put it, all sizes in bytes; zeros if the call fails
 *
 * Return: 0; -1 with ENODEV (card gone), ENOTTY (not a window, or a driver
 * that has none), EBADF.
 */
static inline int pciedma_window_get_info(int window, struct pciedma_window_info *info)
{
	memset(info, 0, sizeof(*info));
	return ioctl(window, PCIEDMA_IOC_WINDOW_INFO, info);
}

/**
 * pciedma_window_open_number() - open a window onto the registers of a card's own logic
 * @card:   the card
 * @number: the window's number on it, from 0
 * @flags:  O_RDWR, O_RDONLY or O_WRONLY, and O_NONBLOCK: calls that would wait
 *          while the card is reset fail with EAGAIN
 *
 * pread() and pwrite() of 1, 2, 4 or 8 bytes at a register's offset are one
 * access to it; see pciedma_window_map() for the faster way.
 *
 * Return: a file descriptor, closed by exec(); -1 with EINVAL (other flags),
 * ENOENT (no such window), EACCES (not a member of the group pciedma-regs),
 * ENODEV (card gone, or the node is another card's), ENOTTY (not a card).
 */
static inline int pciedma_window_open_number(int card, unsigned int number, int flags)
{
	char path[sizeof(PCIEDMA_DEVICES) + 32];
	struct pciedma_window_info found;
	struct pciedma_card_info info;
	int fd;

	if (flags & ~(O_ACCMODE | O_NONBLOCK | O_CLOEXEC)) {
		errno = EINVAL;
		return -1;
	}
	if (pciedma_card_get_info(card, &info))
		return -1;
	if (pciedma_priv_fits(snprintf(path, sizeof(path), PCIEDMA_DEVICES "/pciedma%uw%u",
				       info.index, number), sizeof(path)))
		return -1;
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (pciedma_window_get_info(fd, &found))
		return pciedma_priv_refuse(fd, errno);
	if (found.card != info.index || found.window != number)
		return pciedma_priv_refuse(fd, ENODEV);
	/* A card that is gone may have left its number, and so its nodes, to another. */
	if (pciedma_card_get_info(card, &info))
		return pciedma_priv_refuse(fd, errno);
	return fd;
}

/**
 * pciedma_window_open() - open a window by its name
 * @card:  the card
 * @name:  what the card calls it, e.g. "user"
 * @flags: as for pciedma_window_open_number()
 *
 * Return: as pciedma_window_open_number(); ENOENT if none has the name.
 */
static inline int pciedma_window_open(int card, const char *name, int flags)
{
	struct pciedma_card_info card_info;
	struct pciedma_window_info info;
	unsigned int i;
	int fd;

	if (pciedma_card_get_info(card, &card_info))
		return -1;
	for (i = 0; i < card_info.windows; i++) {
		fd = pciedma_window_open_number(card, i, flags);
		if (fd < 0)
			return -1;
		if (pciedma_window_get_info(fd, &info))
			return pciedma_priv_refuse(fd, errno);
		if (!strcmp(info.name, name))
			return fd;
		close(fd);
	}
	errno = ENOENT;
	return -1;
}

/**
 * pciedma_window_map() - map a window
 * @window: the window, open for reading and writing
 * @size:   where to put its bytes
 *
 * Access it by pciedma_read32() and the like, or volatile pointers of the
 * widths that the window has. The mapping outlives close(), and the card: then
 * it reads all ones. While the card is reset an access waits. A child after
 * fork() has it, too.
 *
 * Return: the mapping, to be given to munmap() with *@size; MAP_FAILED with
 * EOPNOTSUPP (it may not be mapped), EACCES (not open for both), ENODEV, ENOTTY.
 */
static inline volatile void *pciedma_window_map(int window, size_t *size)
{
	struct pciedma_window_info info;

	if (pciedma_window_get_info(window, &info))
		return MAP_FAILED;
	*size = (size_t)info.size;
	return mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, window,
		    (off_t)info.mmap_offset);
}

/**
 * pciedma_read8() - read a register of a mapped window: one access
 * @map:    the mapping
 * @offset: bytes; a multiple of the width
 *
 * Return: its value; all ones if the card has gone.
 */
static inline uint8_t pciedma_read8(const volatile void *map, size_t offset)
{
	return *(const volatile uint8_t *)((const volatile char *)map + offset);
}

/** pciedma_read16() - as pciedma_read8(), of 16 bits */
static inline uint16_t pciedma_read16(const volatile void *map, size_t offset)
{
	return *(const volatile uint16_t *)(const volatile void *)((const volatile char *)map + offset);
}

/** pciedma_read32() - as pciedma_read8(), of 32 bits */
static inline uint32_t pciedma_read32(const volatile void *map, size_t offset)
{
	return *(const volatile uint32_t *)(const volatile void *)((const volatile char *)map + offset);
}

/** pciedma_read64() - as pciedma_read8(), of 64 bits; one access on 64-bit processors */
static inline uint64_t pciedma_read64(const volatile void *map, size_t offset)
{
	return *(const volatile uint64_t *)(const volatile void *)((const volatile char *)map + offset);
}

/**
 * pciedma_write8() - write a register of a mapped window: one access
 * @map:    the mapping
 * @offset: bytes; a multiple of the width
 * @value:  what to write; the card has it some time later, a read waits for that
 */
static inline void pciedma_write8(volatile void *map, size_t offset, uint8_t value)
{
	*(volatile uint8_t *)((volatile char *)map + offset) = value;
}

/** pciedma_write16() - as pciedma_write8(), of 16 bits */
static inline void pciedma_write16(volatile void *map, size_t offset, uint16_t value)
{
	*(volatile uint16_t *)(volatile void *)((volatile char *)map + offset) = value;
}

/** pciedma_write32() - as pciedma_write8(), of 32 bits */
static inline void pciedma_write32(volatile void *map, size_t offset, uint32_t value)
{
	*(volatile uint32_t *)(volatile void *)((volatile char *)map + offset) = value;
}

/** pciedma_write64() - as pciedma_write8(), of 64 bits; one access on 64-bit processors */
static inline void pciedma_write64(volatile void *map, size_t offset, uint64_t value)
{
	*(volatile uint64_t *)(volatile void *)((volatile char *)map + offset) = value;
}

#endif /* PCIEDMA_PCIEDMA_H */
