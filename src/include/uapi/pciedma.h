/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * What user space and the pciedma driver agree on: the ioctls of the card
 * node (/dev/pciedma<card>), of the channel nodes (/dev/pciedma<card>c<channel>)
 * and of the window nodes (/dev/pciedma<card>w<window>). One layout for 32- and 64-bit programs.
 *
 * Every structure has flags and reserved fields. They must be zero when the
 * structure is handed in, unless a flag is documented here; anything else is
 * refused with EINVAL, so that they can get a meaning later.
 */
#ifndef _UAPI_PCIEDMA_H
#define _UAPI_PCIEDMA_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * PCIEDMA_ABI_VERSION - rises when something is added; nothing is ever taken away
 */
#define PCIEDMA_ABI_VERSION	3

/**
 * enum pciedma_kind - what a channel is for its user
 * @PCIEDMA_KIND_MEMORY:  the card's memory; the file position is the card's address
 * @PCIEDMA_KIND_MESSAGE: no position; each call is one DMA
 * @PCIEDMA_KIND_STREAM:  no position; packets
 */
enum pciedma_kind {
	PCIEDMA_KIND_MEMORY	= 1,
	PCIEDMA_KIND_MESSAGE	= 2,
	PCIEDMA_KIND_STREAM	= 3,
};

/**
 * enum pciedma_wait_mode - how a call waits for its DMA
 * @PCIEDMA_WAIT_INTERRUPT: sleep until the card's interrupt
 * @PCIEDMA_WAIT_POLL:      keep the processor busy looking at the card
 * @PCIEDMA_WAIT_ADAPTIVE:  poll as long as recent transfers of such a length
 *                          took, if that was short, and sleep otherwise; the
 *                          default
 */
enum pciedma_wait_mode {
	PCIEDMA_WAIT_INTERRUPT	= 0,
	PCIEDMA_WAIT_POLL	= 1,
	PCIEDMA_WAIT_ADAPTIVE	= 2,
};

/**
 * PCIEDMA_TIMEOUT_NONE - value of timeout_ns: wait without bound
 */
#define PCIEDMA_TIMEOUT_NONE	(-1)

/**
 * PCIEDMA_MAX_EVENTS - event lines that a card can have
 */
#define PCIEDMA_MAX_EVENTS	32

/**
 * PCIEDMA_SIZE_UNKNOWN - size of card memory if neither the card nor an option says it
 */
#define PCIEDMA_SIZE_UNKNOWN	0x7fffffffffffffffULL

/**
 * PCIEDMA_ENGINE_PRESENT - flag of struct pciedma_engine_info: this direction exists
 */
#define PCIEDMA_ENGINE_PRESENT	0x00000001

/**
 * struct pciedma_card_info - what a card is
 * @flags:            in: zero
 * @abi_version:      out: PCIEDMA_ABI_VERSION of the loaded driver
 * @index:            out: the number in /dev/pciedma<index>
 * @channels:         out: number of channel nodes
 * @vendor:           out: PCI vendor id
 * @device:           out: PCI device id
 * @subsystem_vendor: out: PCI subsystem vendor id
 * @subsystem_device: out: PCI subsystem id
 * @name:             out: the card's back end, e.g. "capric", NUL-terminated
 * @pci_address:      out: e.g. "0000:01:00.0", NUL-terminated
 * @driver_version:   out: version of the loaded driver, NUL-terminated
 * @event_lines:      out: interrupt lines of the user's own logic
 * @windows:          out: number of window nodes; 0 before version 2
 * @reserved:         in: zero
 */
struct pciedma_card_info {
	__u32 flags;
	__u32 abi_version;
	__u32 index;
	__u32 channels;
	__u16 vendor;
	__u16 device;
	__u16 subsystem_vendor;
	__u16 subsystem_device;
	char name[16];
	char pci_address[16];
	char driver_version[24];
	__u32 event_lines;
	__u32 windows;
	__u32 reserved[6];
};

/**
 * struct pciedma_engine_info - one direction of a channel
 * @flags:              out: PCIEDMA_ENGINE_PRESENT, or zero and all else zero
 * @address_bits:       out: bits of host address that the engine can reach
 * @max_dma:            out: most bytes that one DMA moves; the longest message
 * @address_alignment:  out: bytes to which the card's address must be aligned
 * @length_granularity: out: bytes of which a length must be a multiple
 * @buffers:            out: number of preallocated DMA buffers
 * @buffer_size:        out: bytes of each DMA buffer
 * @drain_ms:           out: milliseconds after which a DMA counts as hung
 * @reserved:           in: zero
 */
struct pciedma_engine_info {
	__u32 flags;
	__u32 address_bits;
	__aligned_u64 max_dma;
	__u32 address_alignment;
	__u32 length_granularity;
	__u32 buffers;
	__u32 buffer_size;
	__u32 drain_ms;
	__u32 reserved;
};

/**
 * struct pciedma_channel_info - what a channel is
 * @flags:    in: zero
 * @card:     out: index of the card
 * @channel:  out: index of the channel on its card
 * @kind:     out: enum pciedma_kind
 * @size:     out: bytes of card memory behind the channel, or PCIEDMA_SIZE_UNKNOWN;
 *            0 unless the kind is memory
 * @c2h:      out: card to host: read
 * @h2c:      out: host to card: write
 * @reserved: in: zero
 */
struct pciedma_channel_info {
	__u32 flags;
	__u32 card;
	__u32 channel;
	__u32 kind;
	__aligned_u64 size;
	struct pciedma_engine_info c2h;
	struct pciedma_engine_info h2c;
	__u32 reserved[8];
};

/**
 * PCIEDMA_WINDOW_MAPPABLE - flag of struct pciedma_window_info: mmap() is possible
 */
#define PCIEDMA_WINDOW_MAPPABLE	0x00000001

/**
 * PCIEDMA_WINDOW_WRITE_COMBINING - flag of struct pciedma_window_info: memory rather than registers
 *
 * In a mapping the processor may put writes together, and make reads early.
 */
#define PCIEDMA_WINDOW_WRITE_COMBINING	0x00000002

/**
 * struct pciedma_window_info - what a window is
 * @flags:       in: zero; out: PCIEDMA_WINDOW_*
 * @card:        out: index of the card
 * @window:      out: index of the window on its card
 * @widths:      out: widths of an access in bytes, as a mask of 1, 2, 4 and 8
 * @size:        out: bytes
 * @mmap_offset: out: the offset for mmap(): zero
 * @name:        out: what the card calls it, e.g. "user", NUL-terminated
 * @bar:         out: the PCI BAR that it lies in
 * @reserved:    in: zero
 */
struct pciedma_window_info {
	__u32 flags;
	__u32 card;
	__u32 window;
	__u32 widths;
	__aligned_u64 size;
	__aligned_u64 mmap_offset;
	char name[16];
	__u32 bar;
	__u32 reserved[7];
};

/**
 * struct pciedma_wait - how the calls of one open file wait
 * @flags:      zero
 * @mode:       enum pciedma_wait_mode
 * @timeout_ns: nanoseconds without progress, queueing included, after which a
 *              call ends with ETIMEDOUT; 0: EAGAIN instead of queueing;
 *              PCIEDMA_TIMEOUT_NONE: no bound. Asynchronous requests end after
 *              60 seconds at the latest
 * @reserved:   zero
 */
struct pciedma_wait {
	__u32 flags;
	__u32 mode;
	__s64 timeout_ns;
	__u32 reserved[4];
};

/**
 * struct pciedma_reset - reset of the card
 * @flags:    zero
 * @reserved: zero
 */
struct pciedma_reset {
	__u32 flags;
	__u32 reserved[3];
};

/**
 * struct pciedma_cancel - cancellation of requests
 * @flags:    zero
 * @reserved: zero
 */
struct pciedma_cancel {
	__u32 flags;
	__u32 reserved[3];
};

/**
 * struct pciedma_events - interrupt lines of the user's own logic
 * @flags:    zero
 * @lines:    a bit for each line
 * @eventfd:  SET: an eventfd that is signalled when one of them fires, or -1;
 *            GET: in: zero
 * @reserved: zero
 */
struct pciedma_events {
	__u32 flags;
	__u32 lines;
	__s32 eventfd;
	__u32 reserved[5];
};

/**
 * PCIEDMA_BUFFER_C2H - flag of struct pciedma_buffer_create: data may go from the card to it
 */
#define PCIEDMA_BUFFER_C2H	0x00000001

/**
 * PCIEDMA_BUFFER_H2C - flag of struct pciedma_buffer_create: data may go from it to the card
 */
#define PCIEDMA_BUFFER_H2C	0x00000002

/**
 * enum pciedma_buffer_type - where a buffer's memory comes from
 * @PCIEDMA_BUFFER_NEW:    it is new, and zeroed; user space maps it
 * @PCIEDMA_BUFFER_USER:   the program has it already
 * @PCIEDMA_BUFFER_DMABUF: another device's, which it exports
 */
enum pciedma_buffer_type {
	PCIEDMA_BUFFER_NEW	= 1,
	PCIEDMA_BUFFER_USER	= 2,
	PCIEDMA_BUFFER_DMABUF	= 3,
};

/**
 * struct pciedma_buffer_create - memory that the card knows
 * @flags:       PCIEDMA_BUFFER_C2H, PCIEDMA_BUFFER_H2C or both
 * @type:        enum pciedma_buffer_type
 * @address:     USER: where it begins; else zero
 * @size:        bytes; DMABUF: zero; out: its size, which of new memory is whole pages
 * @fd:          DMABUF: its descriptor; else zero
 * @id:          in: zero; out: the buffer's id, more than 0, for this open file
 * @mmap_offset: in: zero; out: where mmap() finds the first byte of new memory
 * @reserved:    zero
 */
struct pciedma_buffer_create {
	__u32 flags;
	__u32 type;
	__aligned_u64 address;
	__aligned_u64 size;
	__s32 fd;
	__u32 id;
	__aligned_u64 mmap_offset;
	__u32 reserved[4];
};

/**
 * struct pciedma_buffer_destroy - a buffer that is not needed any more
 * @flags:    zero
 * @id:       its id
 * @reserved: zero
 */
struct pciedma_buffer_destroy {
	__u32 flags;
	__u32 id;
	__u32 reserved[2];
};

/**
 * struct pciedma_buffer_export - a buffer for other devices
 * @flags:    zero
 * @id:       its id
 * @fd:       in: zero; out: descriptor of a dma-buf
 * @reserved: zero
 */
struct pciedma_buffer_export {
	__u32 flags;
	__u32 id;
	__s32 fd;
	__u32 reserved;
};

/**
 * PCIEDMA_ENTRY_C2H - flag of struct pciedma_transfer_entry: from the card to the buffer
 */
#define PCIEDMA_ENTRY_C2H	0x00000001

/**
 * PCIEDMA_ENTRY_H2C - flag of struct pciedma_transfer_entry: from the buffer to the card
 */
#define PCIEDMA_ENTRY_H2C	0x00000002

/**
 * PCIEDMA_ENTRY_BARRIER - flag of struct pciedma_transfer_entry: all before it have ended first
 *
 * All entries of this open file, in both directions. Without it those of one direction are moved in
 * their order, and the two directions at the same time.
 */
#define PCIEDMA_ENTRY_BARRIER	0x00000004

/**
 * PCIEDMA_ENTRY_MAX - most bytes of an entry
 */
#define PCIEDMA_ENTRY_MAX	0x7ffff000

/**
 * PCIEDMA_ENTRIES - entries that an open file can have, those with untaken results included
 */
#define PCIEDMA_ENTRIES		4096

/**
 * PCIEDMA_TRANSFER_SUBMIT - flag of struct pciedma_transfer_batch: do not wait for the entries
 */
#define PCIEDMA_TRANSFER_SUBMIT	0x00000001

/**
 * PCIEDMA_TRANSFER_EACH - flag of struct pciedma_transfer_batch: each entry is for itself
 *
 * One that is not moved whole ends no other.
 */
#define PCIEDMA_TRANSFER_EACH	0x00000002

/**
 * struct pciedma_transfer_entry - a part of a buffer to be moved
 * @flags:    PCIEDMA_ENTRY_C2H or PCIEDMA_ENTRY_H2C, and PCIEDMA_ENTRY_BARRIER or not
 * @buffer:   id of the buffer
 * @offset:   byte of the buffer at which it begins
 * @length:   bytes, 1 to PCIEDMA_ENTRY_MAX
 * @address:  the card's address; zero if the channel's kind is message
 * @tag:      what the program calls it
 * @reserved: zero
 */
struct pciedma_transfer_entry {
	__u32 flags;
	__u32 buffer;
	__aligned_u64 offset;
	__aligned_u64 length;
	__aligned_u64 address;
	__aligned_u64 tag;
	__u32 reserved[2];
};

/**
 * struct pciedma_transfer_result - what became of an entry
 * @tag:      what the program calls it
 * @bytes:    what has arrived
 * @error:    0 if that is all of it; else an errno, positive
 * @reserved: zero
 */
struct pciedma_transfer_result {
	__aligned_u64 tag;
	__aligned_u64 bytes;
	__u32 error;
	__u32 reserved;
};

/**
 * struct pciedma_transfer_batch - entries
 * @flags:    PCIEDMA_TRANSFER_SUBMIT, PCIEDMA_TRANSFER_EACH, both or zero
 * @count:    how many, at least 1
 * @entries:  address of so many struct pciedma_transfer_entry
 * @results:  address of so many struct pciedma_transfer_result, of which the first @taken are set;
 *            or zero, as it must be with PCIEDMA_TRANSFER_SUBMIT
 * @taken:    out, without PCIEDMA_TRANSFER_SUBMIT: how many entries were taken, also if the call
 *            fails; those behind them have not been looked at
 * @reserved: zero
 */
struct pciedma_transfer_batch {
	__u32 flags;
	__u32 count;
	__aligned_u64 entries;
	__aligned_u64 results;
	__u32 taken;
	__u32 reserved;
};

/**
 * struct pciedma_transfer_wait - wait for entries that were submitted
 * @flags:      zero
 * @min:        how many to wait for, PCIEDMA_ENTRIES at most; 0: take what there is
 * @max:        how many to take at most, at least 1
 * @reserved:   zero
 * @timeout_ns: how long to wait, nanoseconds; PCIEDMA_TIMEOUT_NONE: no bound
 * @results:    address of @max struct pciedma_transfer_result
 */
struct pciedma_transfer_wait {
	__u32 flags;
	__u32 min;
	__u32 max;
	__u32 reserved;
	__s64 timeout_ns;
	__aligned_u64 results;
};

/**
 * struct pciedma_transfer_eventfd - who is to be told of entries that have ended
 * @flags:    zero
 * @eventfd:  an eventfd, whose count rises by one for each; or -1
 * @reserved: zero
 */
struct pciedma_transfer_eventfd {
	__u32 flags;
	__s32 eventfd;
	__u32 reserved[2];
};

#define PCIEDMA_IOC_MAGIC	0xDA

/**
 * PCIEDMA_IOC_CARD_INFO - card, channel and window nodes
 *
 * Errors: EINVAL (flags or reserved not zero), EFAULT, ENODEV (card gone).
 */
#define PCIEDMA_IOC_CARD_INFO	 _IOWR(PCIEDMA_IOC_MAGIC, 0x00, struct pciedma_card_info)

/**
 * PCIEDMA_IOC_CHANNEL_INFO - channel nodes
 *
 * Errors: EINVAL (flags or reserved not zero), EFAULT, ENODEV (card gone).
 */
#define PCIEDMA_IOC_CHANNEL_INFO _IOWR(PCIEDMA_IOC_MAGIC, 0x01, struct pciedma_channel_info)

/**
 * PCIEDMA_IOC_GET_WAIT - channel nodes: how this open file waits
 *
 * Errors: EINVAL (any field handed in not zero), EFAULT, ENODEV (card gone).
 */
#define PCIEDMA_IOC_GET_WAIT	 _IOWR(PCIEDMA_IOC_MAGIC, 0x02, struct pciedma_wait)

/**
 * PCIEDMA_IOC_SET_WAIT - channel nodes: how this open file waits from its next call on
 *
 * Errors: EINVAL (flags, mode, reserved; a time-out below -1), EFAULT, ENODEV (card gone).
 */
#define PCIEDMA_IOC_SET_WAIT	 _IOW(PCIEDMA_IOC_MAGIC, 0x03, struct pciedma_wait)

/**
 * PCIEDMA_IOC_RESET - card node, open for writing: stop all engines, reset, start again
 *
 * A DMA that has begun may end first; one that does not is cut off, and its
 * call fails with EIO. Requests that no engine has begun stay queued.
 *
 * Errors: EBADF (not open for writing), EINVAL (flags or reserved not zero),
 * EFAULT, EIO (the card could not be proven idle), EBUSY (it is being reset by
 * the kernel), ENODEV (card gone).
 */
#define PCIEDMA_IOC_RESET	 _IOW(PCIEDMA_IOC_MAGIC, 0x04, struct pciedma_reset)

/**
 * PCIEDMA_IOC_CANCEL - channel nodes: end all requests of this open file
 *
 * Synchronous and asynchronous ones, of all threads and processes that share
 * the open file. A request of which something has arrived returns that count;
 * one that moved nothing fails with ECANCELED. A DMA that has begun may end
 * first. Requests that begin after the call are not concerned.
 *
 * Errors: EINVAL (flags or reserved not zero), EFAULT, ENODEV (card gone).
 */
#define PCIEDMA_IOC_CANCEL	 _IOW(PCIEDMA_IOC_MAGIC, 0x05, struct pciedma_cancel)

/**
 * PCIEDMA_IOC_SET_EVENTS - card node: listen to event lines with this open file
 *
 * poll() says POLLIN when one has fired. A line that has fired stays off until
 * somebody who listens to it has taken notice by PCIEDMA_IOC_GET_EVENTS,
 * or by a read of the card node, which waits for one: 4 bytes, a bit for each
 * line that has fired. Zero lines: listen no more.
 *
 * Errors: EBADF (no such eventfd), EINVAL (flags or reserved not zero, lines
 * that the card does not have, no eventfd), EOPNOTSUPP (the card has none),
 * EFAULT, ENODEV (card gone).
 */
#define PCIEDMA_IOC_SET_EVENTS	 _IOW(PCIEDMA_IOC_MAGIC, 0x06, struct pciedma_events)

/**
 * PCIEDMA_IOC_GET_EVENTS - card node: which lines have fired since the last call
 *
 * All lines of this open file are switched on again: serve the card's logic
 * first, or they fire at once. So does read(); its errors: EAGAIN (O_NONBLOCK,
 * none has fired), EINVAL (less than 4 bytes), EFAULT, EINTR, ENODEV (card gone,
 * or it does not answer before it is reset).
 *
 * Errors: EINVAL (any field handed in not zero), EFAULT, ENODEV (card gone).
 */
#define PCIEDMA_IOC_GET_EVENTS	 _IOWR(PCIEDMA_IOC_MAGIC, 0x07, struct pciedma_events)

/**
 * PCIEDMA_IOC_WINDOW_INFO - window nodes
 *
 * Errors: EINVAL (flags or reserved not zero), EFAULT, ENODEV (card gone).
 */
#define PCIEDMA_IOC_WINDOW_INFO	 _IOWR(PCIEDMA_IOC_MAGIC, 0x08, struct pciedma_window_info)

/**
 * PCIEDMA_IOC_BUFFER_CREATE - channel nodes: memory that user space and the card share
 *
 * It is mapped for the card once, and counts against RLIMIT_MEMLOCK of the user and against the
 * memory of his cgroup until the last who holds it lets go: the id, its mappings, transfers that
 * have begun. read() and write(), their other forms, AIO and io_uring on this channel, by whichever
 * open file, whose memory lies in a mapping of it, move its data without pinning, mapping or
 * copying.
 *
 * Errors: EBADF (not open for a direction, no such descriptor), EINVAL (flags, type, reserved, no
 * size, no dma-buf), EFAULT,
 * EINTR (the process is to die), EMFILE (4,096 buffers), ENODEV (card gone), ENOMEM (a limit, or
 * no memory that the card reaches: the kernel's log says what was needed, and what there is),
 * EOPNOTSUPP (memory of the program's that may not be held for long, as that of files on disk; or
 * memory or a dma-buf that the card cannot reach; the log says more).
 */
#define PCIEDMA_IOC_BUFFER_CREATE _IOWR(PCIEDMA_IOC_MAGIC, 0x09, struct pciedma_buffer_create)

/**
 * PCIEDMA_IOC_BUFFER_DESTROY - channel nodes: the id of a buffer is not needed any more
 *
 * At once; the memory goes when nobody holds it. Mappings stay what they are. The last close
 * destroys all buffers of an open file.
 *
 * Errors: EINVAL (flags, reserved), EFAULT, ENOENT (no such buffer of this open file).
 */
#define PCIEDMA_IOC_BUFFER_DESTROY _IOW(PCIEDMA_IOC_MAGIC, 0x0a, struct pciedma_buffer_destroy)

/**
 * PCIEDMA_IOC_BUFFER_EXPORT - channel nodes: let other devices have a new buffer, as a dma-buf
 *
 * Whoever has that holds the memory.
 *
 * Errors: EINVAL (flags, fd, reserved), EFAULT, EMFILE (descriptors), ENOENT (no such buffer),
 * ENOMEM, EOPNOTSUPP (it is not new).
 */
#define PCIEDMA_IOC_BUFFER_EXPORT _IOWR(PCIEDMA_IOC_MAGIC, 0x0e, struct pciedma_buffer_export)

/**
 * PCIEDMA_IOC_TRANSFER - channel nodes: move parts of this open file's buffers
 *
 * Without PCIEDMA_TRANSFER_SUBMIT it returns when they have ended, with the number of those that
 * were moved whole; with it at once, with the number of those that were taken. The entries of one
 * direction are moved in their order. When one is not moved whole, those of the call that have not
 * begun end with ECANCELED, but for PCIEDMA_TRANSFER_EACH. If an entry cannot be taken, those
 * before it are, and the call says how many (taken, or what it returns); only for the first there
 * is an errno. So there is if nothing was moved.
 *
 * An entry ends early by a time-out (PCIEDMA_IOC_SET_WAIT), PCIEDMA_IOC_CANCEL, the last close, the
 * exit of the process, and without PCIEDMA_TRANSFER_SUBMIT by a signal, as a read or write does.
 *
 * Errors: EACCES (the buffer is not for this direction), EAGAIN (4,096 entries; or the call is not
 * to queue, and would), EBADF (not open for the direction, or the channel has none), EFAULT, EINVAL
 * (flags, reserved, count, length, alignment, beyond the buffer's end, a message that does not lie
 * together), EMSGSIZE (longer than a message), ENODEV (card gone), ENOENT (no such buffer), ENOMEM,
 * ENOSPC (beyond the end of the card's memory); and what becomes of entries: ECANCELED, EINTR, EIO,
 * ENODEV, ETIMEDOUT.
 */
#define PCIEDMA_IOC_TRANSFER	_IOWR(PCIEDMA_IOC_MAGIC, 0x0b, struct pciedma_transfer_batch)

/**
 * PCIEDMA_IOC_TRANSFER_WAIT - channel nodes: take results of submitted entries
 *
 * In the order of their ends; it returns how many. If they are less than min, the time is over, or
 * the card has gone. poll() says POLLPRI while there are results.
 *
 * Errors: EFAULT (what could not be told stays to be taken), EINTR (a signal, even if its handler
 * has SA_RESTART), EINVAL (flags, max, reserved, a time-out below -1, min above max or
 * PCIEDMA_ENTRIES), ENODEV (there is none, and the card has gone), ENOMEM, ETIMEDOUT (there is
 * none).
 */
#define PCIEDMA_IOC_TRANSFER_WAIT _IOW(PCIEDMA_IOC_MAGIC, 0x0c, struct pciedma_transfer_wait)

/**
 * PCIEDMA_IOC_TRANSFER_EVENTFD - channel nodes: tell of entries that have ended
 *
 * Errors: EBADF (no such eventfd), EINVAL (flags, reserved, no eventfd), EFAULT, ENOMEM.
 */
#define PCIEDMA_IOC_TRANSFER_EVENTFD \
	_IOW(PCIEDMA_IOC_MAGIC, 0x0d, struct pciedma_transfer_eventfd)

#endif /* _UAPI_PCIEDMA_H */
