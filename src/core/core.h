/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Core's own structures: cards, channels, engines, transfers and requests.
 *
 * Life times
 *   card, channel   from probe to the last close: embedded struct device
 *   engine, transfer   part of their channel
 *   DMA buffers     from probe to remove; a quarantined one is never freed
 *   user pages      pinned and mapped from before a transfer is handed to its
 *                   engine until after its end is proven
 *   request         on the stack of the call that made it
 *   card's inode    from probe to the last close or munmap of a window
 *   async request   inside the first of its transfers, which it frees last; before
 *                   that, if it found no room, an allocation of its own, from
 *                   submission until it ends or the engine has its transfers
 *   backlog         part of its open file, which each request holds open until it ends
 *
 * Order of locks, outermost first
 *   device_lock(pdev)         taken by the PCI core around probe, remove, resets
 *   card->reset_lock          one RESET at a time
 *   card->recovery_lock       one ladder at a time
 *   windows->lock             whether windows' registers may be touched; taken by faults with
 *                             mmap_lock held, so nothing under it may touch user memory
 *   channel->open_lock        exclusive opens
 *   backlog->sift_lock        one walk over an open file's postponed requests at a time
 *   AIO's ctx_lock            held where the kernel cancels a request: hence no request
 *                             completes with an engine's lock held
 *   card->events_lock         listeners; never together with an engine's
 *   engine->lock              queue, transfers, state and registers of one engine
 *   a back end's own locks
 * The recovery work only ever tries device_lock. Two engine locks are never
 * held together.
 */
#ifndef PCIEDMA_CORE_H
#define PCIEDMA_CORE_H

#include <linux/cdev.h>
#include <linux/completion.h>
#include <linux/device.h>
#include <linux/dma-direction.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/percpu-refcount.h>
#include <linux/scatterlist.h>
#include <linux/sizes.h>
#include <linux/spinlock.h>
#include <linux/timerqueue.h>
#include <linux/uio.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include <pciedma_card.h>

#define PCIEDMA_MAX_CHANNELS	8
#define PCIEDMA_MAX_ENGINES	(PCIEDMA_MAX_CHANNELS * PCIEDMA_DIRECTIONS)
#define PCIEDMA_MAX_VECTORS	(PCIEDMA_MAX_ENGINES + 1)
#define PCIEDMA_MAX_BUFFERS	8
/* Most user memory of one transfer, and the pages that it can lie in. */
#define PCIEDMA_TRANSFER_SIZE	SZ_2M
#define PCIEDMA_TRANSFER_PAGES	(PCIEDMA_TRANSFER_SIZE / PAGE_SIZE + 1)
/* Classes of lengths, by powers of two, whose durations adaptive waiting remembers. */
#define PCIEDMA_PACES		32

/**
 * enum pciedma_engine_state - what an engine may do
 * @PCIEDMA_ENGINE_RUN:    everything
 * @PCIEDMA_ENGINE_PAUSED: finish, but start nothing; requests queue
 * @PCIEDMA_ENGINE_DEAF:   as PAUSED, and its registers must not be touched
 * @PCIEDMA_ENGINE_BROKEN: requests fail with engine->broken_error until a reset
 *                         proves the engine
 */
enum pciedma_engine_state {
	PCIEDMA_ENGINE_RUN,
	PCIEDMA_ENGINE_PAUSED,
	PCIEDMA_ENGINE_DEAF,
	PCIEDMA_ENGINE_BROKEN,
};

/**
 * enum pciedma_transfer_state - who has a transfer
 * @PCIEDMA_TRANSFER_FREE:   nobody: it is on the engine's free list
 * @PCIEDMA_TRANSFER_OWNED:  a request fills or empties it
 * @PCIEDMA_TRANSFER_QUEUED: on the engine's queue; with the hardware once @taken is not 0
 * @PCIEDMA_TRANSFER_PARKED: quarantined: hardware may still use it, nobody else does
 */
enum pciedma_transfer_state {
	PCIEDMA_TRANSFER_FREE,
	PCIEDMA_TRANSFER_OWNED,
	PCIEDMA_TRANSFER_QUEUED,
	PCIEDMA_TRANSFER_PARKED,
};

/**
 * struct pciedma_async - an asynchronous request, inside the first of its transfers
 * @node:     on engine->asyncs; on engine->done or ->deferred once @pending is 0
 * @iocb:     the kernel's request
 * @file:     the open file that it came by, for CANCEL
 * @files:    the process's table of files, for its exit
 * @transfers: its transfers, in order
 * @pending:  how many of them have not finished
 * @error:    why it is to end early, or 0
 * @timeout:  nanoseconds without progress
 * @deadline: when they are over
 */
struct pciedma_async {
	struct list_head node;
	struct kiocb *iocb;
	const void *file;
	const void *files;
	struct list_head transfers;
	unsigned int pending;
	int error;
	s64 timeout;
	ktime_t deadline;
};

/**
 * struct pciedma_transfer - a mapped piece of memory that an engine works on
 * @node:        on the engine's free list or queue
 * @state:       who has it
 * @quarantined: hardware may still use it: it is parked instead of freed
 * @polled:      its owner looks for the end itself
 * @direct:      it is user memory, not @buffer
 * @pinned:      @pages were pinned by us
 * @accounted:   they count against the limit of locked memory
 * @referenced:  they were not, but are kept by us in quarantine
 * @synced:      user memory, and its owner has it back although it is mapped
 * @cancelled:   its owner shall give up
 * @waits_turn:  its owner sleeps until it is the oldest, to poll then
 * @direction:   which way its data goes
 * @id:          number for tracing
 * @file:        the open file, or the postponed request, that it works for, for CANCEL
 * @owner:       the synchronous request that it works for
 * @buffer:      the DMA buffer, as the processor sees it
 * @dma:         the same, as the engine sees it
 * @pages:       room for PCIEDMA_TRANSFER_PAGES pages of user memory
 * @num_pages:   how many it has
 * @entries:     room for as many scatterlist entries
 * @table:       its memory as the DMA API sees it
 * @single:      the entry of the DMA buffer
 * @sg:          entry from which the hardware takes the next segment
 * @sg_taken:    bytes of it that the hardware has
 * @iter:        user memory that @buffer is copied to
 * @address:     the card's address
 * @length:      bytes asked for
 * @taken:       bytes handed to the hardware
 * @done:        bytes known to have arrived
 * @inflight:    segments with the hardware
 * @ended:       a segment was short or failed: nothing more of it is started
 * @error:       0 or the errno to report if @done is 0
 * @since:       when it was handed in
 * @finished:    completed, under the engine's lock, when it leaves the queue or
 *               is cancelled
 * @leader:      the transfer with the asynchronous request, or NULL
 * @sibling:     in the order of that request
 * @async:       the request, in its leader
 *
 * All but @buffer, @dma and the contents is under the engine's lock while
 * QUEUED; otherwise it belongs to the owner.
 */
struct pciedma_transfer {
	struct list_head node;
	enum pciedma_transfer_state state;
	bool quarantined;
	bool polled;
	bool direct;
	bool pinned;
	bool accounted;
	bool referenced;
	bool synced;
	bool cancelled;
	bool waits_turn;
	enum pciedma_direction direction;
	u32 id;
	const void *file;
	const void *owner;
	void *buffer;
	dma_addr_t dma;
	struct page **pages;
	unsigned int num_pages;
	struct scatterlist *entries;
	struct sg_table table;
	struct scatterlist single;
	struct scatterlist *sg;
	u32 sg_taken;
	struct iov_iter iter;
	u64 address;
	u32 length;
	u32 taken;
	u32 done;
	unsigned int inflight;
	bool ended;
	int error;
	ktime_t since;
	struct completion finished;
	struct pciedma_transfer *leader;
	struct list_head sibling;
	struct pciedma_async async;
};

/**
 * struct pciedma_flight - a segment that the hardware has
 * @transfer: where it belongs
 * @length: its bytes
 */
struct pciedma_flight {
	struct pciedma_transfer *transfer;
	u32 length;
};

/**
 * struct pciedma_stats - counters of one direction of an engine, under its lock
 * @bytes:     bytes that arrived
 * @transfers: transfers that ended without an error
 * @errors:    transfers that ended with one
 * @timeouts:  requests that ended with ETIMEDOUT
 * @halts:     times that the engine was halted
 * @looks:     ends that were found by looking because no interrupt told of them
 * @copied:    those of @bytes that went through a DMA buffer
 */
struct pciedma_stats {
	u64 bytes;
	u64 transfers;
	u64 errors;
	u64 timeouts;
	u64 halts;
	u64 looks;
	u64 copied;
};

/**
 * struct pciedma_cursor - where an engine reads on in its queue
 * @transfer: first transfer with bytes that the hardware does not have, or NULL
 */
struct pciedma_cursor {
	struct pciedma_transfer *transfer;
};

/**
 * struct pciedma_rate - how fast an engine is seen to be
 * @chunk:    most bytes of a segment, so that a slow card shows progress often enough: what it
 *            moves in a quarter of the drain bound; U32_MAX: no limit
 * @inflight: bytes that the hardware has
 * @moved:    bytes that arrived since the engine's last progress
 * @untold:   bytes handed over since the last segment whose end is told of
 */
struct pciedma_rate {
	u32 chunk;
	u64 inflight;
	u64 moved;
	u32 untold;
};

/**
 * struct pciedma_engine - what moves the data of a channel, one way or both
 * @channel:         where it belongs
 * @desc:            what it is; NULL if the channel does not have it
 * @index:           number on its card
 * @direction:       which way it moves data, unless it is shared
 * @dma_direction:   the same as the DMA API spells it
 * @lock:            protects all that follows but @priv
 * @state:           what it may do
 * @broken_error:    errno of requests while BROKEN
 * @trouble:         0 or the errno for which recovery was asked
 * @failed:          the card reported the trouble: waiting would not help, and nothing
 *                   may be started before recovery
 * @unknown:         during recovery the card could not say how far it came
 * @queue:           transfers handed in and not finished, in order
 * @cursor:          the next transfer for the hardware
 * @flights:         ring of segments that the hardware has
 * @flight_head:     number of segments ever started
 * @flight_tail:     number of segments ever finished
 * @busy_since:      last start of an idle engine, or last progress
 * @rate:            how fast it is seen to be
 * @sleepers:        transfers on the queue whose owner waits for an interrupt
 * @irq_on:          the completion interrupt is switched on
 * @free:            free transfers
 * @free_count:      how many
 * @parked:          transfers in quarantine
 * @waiters:         requests that wait for a transfer, in order
 * @transfers:       all transfers
 * @next_id:         for the transfers' ids
 * @asyncs:          asynchronous requests that have not ended
 * @done:            those that have, to be completed
 * @deferred:        those of them whose completion sleeps
 * @unmap:           transfers out of quarantine whose user memory goes back
 * @watch:           looks after asynchronous requests
 * @turns:           backlogs with postponed requests, in the order of their turns to be
 *                   taken up
 * @end_turns:       those with requests that are to end, in the order of their turns
 * @deadlines:       of postponed requests that are not taken up
 * @ender:           ends those that are to end, or whose time is over
 * @taken_up:        the postponed request that @taker has, or NULL
 * @taker:           the thread that takes them up
 * @take_up:         its work
 * @memory:          coherent memory for the back end
 * @memory_dma:      the same, as the engine sees it
 * @unproven:        hardware may still use it
 * @direct:          it works on user memory
 * @copy_threshold:  bytes of a request below which it is copied all the same
 * @host_alignment:  bytes to which user memory must be aligned for that
 * @max_entry:       most bytes of user memory in a scatterlist entry
 * @segment_mask:    what of an address may differ within one
 * @drain_ms:        milliseconds after which a DMA that brought no progress counts as hung
 * @spin_us:         microseconds beyond which adaptive waiting does not poll
 * @pace:            recent durations of each class of length, nanoseconds
 * @stats:           counters of each direction
 * @ailing:          it was stopped since a transfer last ended well
 * @told:            the log says that it fails
 * @failures:        how often it was stopped since, or since a reset
 * @failing_since:   when it was stopped for the first time of these
 * @priv:            the back end's
 */
struct pciedma_engine {
	struct pciedma_channel *channel;
	const struct pciedma_engine_desc *desc;
	unsigned int index;
	enum pciedma_direction direction;
	enum dma_data_direction dma_direction;

	spinlock_t lock; /* queue, transfers, state, registers of this engine */
	enum pciedma_engine_state state;
	int broken_error;
	int trouble;
	bool failed;
	bool unknown;
	struct list_head queue;
	struct pciedma_cursor cursor;
	struct pciedma_flight *flights;
	u32 flight_head;
	u32 flight_tail;
	ktime_t busy_since;
	struct pciedma_rate rate;
	unsigned int sleepers;
	bool irq_on;
	struct list_head free;
	unsigned int free_count;
	unsigned int parked;
	struct list_head waiters;
	struct pciedma_transfer transfers[PCIEDMA_MAX_BUFFERS];
	u32 next_id;
	struct list_head asyncs;
	struct list_head done;
	struct list_head deferred;
	struct list_head unmap;
	struct delayed_work watch;
	struct list_head turns;
	struct list_head end_turns;
	struct timerqueue_head deadlines;
	struct delayed_work ender;
	struct pciedma_postponed *taken_up;
	struct kthread_worker *taker;
	struct kthread_work take_up;
	void *memory;
	dma_addr_t memory_dma;
	bool unproven;
	bool direct;
	u32 copy_threshold;
	u32 host_alignment;
	u32 max_entry;
	unsigned long segment_mask;
	u32 drain_ms;
	u32 spin_us;
	u32 pace[PCIEDMA_DIRECTIONS][PCIEDMA_PACES];
	struct pciedma_stats stats[PCIEDMA_DIRECTIONS];
	bool ailing;
	bool told;
	unsigned int failures;
	ktime_t failing_since;
	void *priv;
};

/**
 * struct pciedma_channel - a data node: /dev/pciedma<card>c<index>
 * @dev:       the node's device; holds a reference to the card
 * @cdev:      the node
 * @card:      its card
 * @index:     number on its card
 * @kind:      what it is for its user
 * @size:      bytes of card memory
 * @engines:   its engines
 * @by_direction: which of them serves a direction, or NULL
 * @poll_wait: those who poll()
 * @open_lock: protects @opens and @exclusive
 * @opens:     open files
 * @exclusive: one of them has it for itself
 */
struct pciedma_channel {
	struct device dev;
	struct cdev cdev;
	struct pciedma_card *card;
	unsigned int index;
	enum pciedma_kind kind;
	u64 size;
	struct pciedma_engine engines[PCIEDMA_DIRECTIONS];
	struct pciedma_engine *by_direction[PCIEDMA_DIRECTIONS];
	wait_queue_head_t poll_wait;
	struct mutex open_lock; /* opens, exclusive */
	unsigned int opens;
	bool exclusive;
};

/**
 * struct pciedma_vector - an interrupt vector of a card
 * @card:  the card
 * @index: its number
 * @name:  what /proc/interrupts shows
 */
struct pciedma_vector {
	struct pciedma_card *card;
	unsigned int index;
	char name[32];
};

/**
 * struct pciedma_listener - an open card node that may listen to event lines
 * @node:    on card->listeners
 * @card:    its card
 * @lines:   those that it listens to
 * @fired:   those that have fired since it last took notice
 * @eventfd: signalled for each time, or NULL
 *
 * All under the card's events_lock but @card.
 */
struct pciedma_listener {
	struct list_head node;
	struct pciedma_card *card;
	u32 lines;
	u32 fired;
	struct eventfd_ctx *eventfd;
};

/**
 * struct pciedma_node_ops - what resets, power and removal tell to those who give user space
 *                           a card's registers
 *
 * All in process context, possibly with device_lock and recovery_lock held.
 */
struct pciedma_node_ops {
	/**
	 * @closing: From its return until @open nobody may touch registers. Calls fail with
	 * @error meanwhile, or wait if that is 0. May be called again.
	 */
	void (*closing)(struct pciedma_card *card, int error);
	/** @open: They may be touched, unless the card has gone. */
	void (*open)(struct pciedma_card *card);
	/** @gone: From its return on nobody touches registers. */
	void (*gone)(struct pciedma_card *card);
};

/**
 * struct pciedma_card - a card: /dev/pciedma<index>
 * @dev:            the node's device
 * @cdev:           the node
 * @pdev:           the PCI function; valid inside the gate and until remove ends
 * @type:           its back end
 * @index:          its number
 * @gate:           a reference for each operation that is under way
 * @gate_closed:    the last of them has left
 * @mmio:           mapped BARs
 * @requested:      BARs that core has for itself, as a mask
 * @inode:          what files of its nodes are mapped by
 * @windows:        its windows
 * @node_ops:       who is told when registers must not be touched
 * @channels:       its channels
 * @num_channels:   how many
 * @vectors:        its interrupt vectors
 * @num_vectors:    how many
 * @config:         configuration space as it was at probe, bus mastering off
 * @bars:           its base addresses
 * @stopped:        core has bus mastering off on purpose
 * @recovery:       work item that runs the ladder
 * @reset_lock:     one RESET at a time
 * @recovery_lock:  one ladder at a time; protects @held, @frozen, @reset_wanted and
 *                  @reset_result
 * @held:           somebody else resets the card or has powered it down
 * @frozen:         after an error of the bus, not recovered yet
 * @reset_wanted:   RESET was asked
 * @reset_result:   what the last RESET led to
 * @reset_owner:    the task that resets the function from inside the ladder
 * @events_lock:    protects the listeners, @events_armed and @events_silent
 * @listeners:      open card nodes
 * @events_armed:   event lines that may interrupt
 * @events_silent:  their registers must not be touched
 * @event_vector:   vector of the event lines
 * @poll_wait:      those who poll() the card node
 * @link_reported:  the port above reported an active link at probe
 * @lost:           the PCI function does not answer
 * @removed:        remove has begun
 * @resets:         function resets
 * @quarantined:    bytes in quarantine
 * @priv:           the back end's
 */
struct pciedma_card {
	struct device dev;
	struct cdev cdev;
	struct pci_dev *pdev;
	const struct pciedma_card_type *type;
	int index;
	struct percpu_ref gate;
	struct completion gate_closed;
	void __iomem *mmio[PCI_STD_NUM_BARS];
	unsigned long requested;
	struct inode *inode;
	struct pciedma_windows *windows;
	const struct pciedma_node_ops *node_ops;
	struct pciedma_channel *channels[PCIEDMA_MAX_CHANNELS];
	unsigned int num_channels;
	struct pciedma_vector vectors[PCIEDMA_MAX_VECTORS];
	unsigned int num_vectors;
	struct pci_saved_state *config;
	u32 bars[PCI_STD_NUM_BARS];
	bool stopped;
	struct work_struct recovery;
	struct mutex reset_lock; /* one RESET at a time */
	struct mutex recovery_lock; /* one ladder at a time */
	bool held;
	bool frozen;
	bool reset_wanted;
	int reset_result;
	struct task_struct *reset_owner;
	spinlock_t events_lock; /* listeners, events_armed, events_silent */
	struct list_head listeners;
	u32 events_armed;
	bool events_silent;
	unsigned int event_vector;
	wait_queue_head_t poll_wait;
	bool link_reported;
	bool lost;
	bool removed;
	atomic64_t resets;
	atomic64_t quarantined;
	void *priv;
};

/**
 * struct pciedma_backlog - postponed requests of one open file for one engine
 * @waiting:   those that wait to be taken up, in order
 * @turn:      on engine->turns while there are some
 * @ending:    those that are to end
 * @end_turn:  on engine->end_turns while there are some
 * @sift_lock: one walk over @waiting at a time
 * @sift_next: where that goes on, or NULL
 *
 * All under the engine's lock but @sift_lock.
 */
struct pciedma_backlog {
	struct list_head waiting;
	struct list_head turn;
	struct list_head ending;
	struct list_head end_turn;
	struct mutex sift_lock; /* one walk over waiting at a time */
	struct list_head *sift_next;
};

/* A time-out up to this is short: so long pages may be held and count against no limit. */
#define PCIEDMA_TIMEOUT_SHORT_NS	(60 * NSEC_PER_SEC)

/**
 * struct pciedma_request - one call, while it is under way
 * @node:     on engine->waiters while it waits for a transfer
 * @engine:   which engine
 * @direction: which way the data goes
 * @file:     whose transfers and whose wait it is, for CANCEL: the open file, or the
 *            postponed request
 * @open_file: the open file
 * @backlog:  its postponed requests for @engine
 * @files:    the process's table of files, for its exit
 * @cancels:  the number of CANCELs of @file
 * @cancels_seen: what it was when the call began
 * @transfer: granted to it
 * @granted:  @transfer or @error was set
 * @error:    why no transfer will be granted
 * @transfers: handed in and not yet taken back, in order, from @first
 * @first:    the oldest
 * @count:    how many
 * @end:      why nothing more is handed in: the result if nothing moves
 * @reason:   why what was handed in is not waited for any longer, or 0
 * @broken:   a transfer was not whole
 * @mode:     enum pciedma_wait_mode
 * @nonblock: EAGAIN instead of queueing
 * @timeout:  nanoseconds without progress; negative: no bound
 * @deadline: when they are over
 * @moved:    something has
 * @notified: work was left with the calling thread, which it does when the call returns
 * @freezes:  the calling thread is to be frozen: hand in nothing more
 * @stop_since: when it was seen that the calling thread is to stop, or 0
 */
struct pciedma_request {
	struct list_head node;
	struct pciedma_engine *engine;
	enum pciedma_direction direction;
	const void *file;
	const void *open_file;
	struct pciedma_backlog *backlog;
	const void *files;
	const atomic_t *cancels;
	int cancels_seen;
	struct pciedma_transfer *transfer;
	struct completion granted;
	int error;
	struct pciedma_transfer *transfers[PCIEDMA_MAX_BUFFERS];
	unsigned int first;
	unsigned int count;
	int end;
	int reason;
	bool broken;
	u32 mode;
	bool nonblock;
	s64 timeout;
	ktime_t deadline;
	bool moved;
	bool notified;
	bool freezes;
	ktime_t stop_since;
};

/**
 * enum pciedma_disturbance - what a thread is wanted for
 * @PCIEDMA_UNDISTURBED:        nothing
 * @PCIEDMA_DISTURBED_BY_STOP:  a stop, a debugger, a freezer: nothing that its program knows of
 * @PCIEDMA_DISTURBED_BY_SIGNAL: a signal to its program, or its end
 */
enum pciedma_disturbance {
	PCIEDMA_UNDISTURBED,
	PCIEDMA_DISTURBED_BY_STOP,
	PCIEDMA_DISTURBED_BY_SIGNAL,
};

/* Iterate over the engines that exist. */
#define pciedma_for_each_engine(card, engine)					\
	for ((engine) = pciedma_card_next_engine(card, 0); (engine);		\
	     (engine) = pciedma_card_next_engine(card, (engine)->index + 1))

static inline const struct pciedma_card_ops *pciedma_ops(const struct pciedma_card *card)
{
	return &card->type->ops;
}

/* The device that DMA memory is allocated and mapped for. */
static inline struct device *pciedma_dma_device(const struct pciedma_engine *engine)
{
	return &engine->channel->card->pdev->dev;
}

/* Whether interrupts come as messages: MSI or MSI-X. Otherwise the card has a pin. */
static inline bool pciedma_card_uses_messages(const struct pciedma_card *card)
{
	return card->pdev->msi_enabled || card->pdev->msix_enabled;
}

/* CANCEL was asked since the request began. */
static inline bool pciedma_request_cancelled(const struct pciedma_request *request)
{
	return atomic_read(request->cancels) != request->cancels_seen;
}

/* main.c */
extern struct workqueue_struct *pciedma_workqueue;
int pciedma_node_add(struct cdev *cdev, struct device *dev, const struct file_operations *fops);
void pciedma_node_remove(struct cdev *cdev, struct device *dev);

/* card.c */
int pciedma_card_probe(struct pci_dev *pdev, const struct pci_device_id *id,
		       const struct pciedma_card_type *type);
void pciedma_card_remove(struct pciedma_card *card);
bool pciedma_card_enter(struct pciedma_card *card);
void pciedma_card_leave(struct pciedma_card *card);
struct pciedma_engine *pciedma_card_next_engine(struct pciedma_card *card, unsigned int index);
void pciedma_card_wake(struct pciedma_card *card);

/* card_inode.c */
struct inode *pciedma_inode_alloc(void);
void pciedma_inode_free(struct inode *inode);

/* contract.c */
int pciedma_card_request(struct pciedma_card *card, int bar);

/* card_node.c */
int pciedma_card_register(struct pciedma_card *card);
long pciedma_card_get_info(struct pciedma_card *card, void __user *argument);

/* channel.c */
struct pciedma_channel *pciedma_channel_alloc(struct pciedma_card *card,
					      const struct pciedma_channel_desc *desc);
int pciedma_channel_register(struct pciedma_channel *channel);

/* engine.c */
unsigned int pciedma_engine_inflight(const struct pciedma_engine *engine);
u32 pciedma_engine_oldest_length(struct pciedma_engine *engine);
unsigned int pciedma_engine_flights(const struct pciedma_engine *engine);
bool pciedma_engine_ready(struct pciedma_engine *engine);
int pciedma_engine_submit(struct pciedma_engine *engine, struct pciedma_transfer *transfer);
bool pciedma_engine_is_oldest(struct pciedma_engine *engine, struct pciedma_transfer *transfer);
int pciedma_engine_turn(struct pciedma_engine *engine, struct pciedma_transfer *transfer);
int pciedma_engine_submit_async(const struct pciedma_request *request,
				struct pciedma_async *async);
bool pciedma_engine_cancel(struct pciedma_engine *engine, struct pciedma_transfer *transfer);
void pciedma_engine_cancel_file(struct pciedma_engine *engine, enum pciedma_direction direction,
				const void *file);
void pciedma_engine_arm(struct pciedma_engine *engine, struct pciedma_transfer *transfer);
int pciedma_engine_look(struct pciedma_engine *engine);
void pciedma_engine_look_late(struct pciedma_engine *engine, enum pciedma_direction direction);
bool pciedma_engine_stray(struct pciedma_engine *engine);
void pciedma_engine_kick(struct pciedma_engine *engine);
void pciedma_engine_abort(struct pciedma_engine *engine, struct pciedma_transfer *transfer,
			  int error);
void pciedma_engine_stop_async(struct pciedma_engine *engine, struct pciedma_async *async,
			       int error);
s64 pciedma_engine_drain_bound_ns(const struct pciedma_engine *engine);
s64 pciedma_engine_drain_ns(struct pciedma_engine *engine);
s64 pciedma_engine_patience_ns(struct pciedma_engine *engine, s64 timeout);
void pciedma_engine_finish_inflight(struct pciedma_engine *engine, int error, bool proven);
void pciedma_engine_rewind(struct pciedma_engine *engine);
void pciedma_engine_fail_queued(struct pciedma_engine *engine, int error);

/* rate.c */
void pciedma_rate_init(struct pciedma_engine *engine);
bool pciedma_rate_full(const struct pciedma_rate *rate);
bool pciedma_rate_start(struct pciedma_rate *rate, u32 length, bool notify);
void pciedma_rate_learn(struct pciedma_engine *engine, ktime_t now);

/* pool.c */
int pciedma_transfers_alloc(struct pciedma_engine *engine);
void pciedma_transfers_free(struct pciedma_engine *engine);
struct pciedma_transfer *pciedma_transfer_try_acquire(struct pciedma_engine *engine);
int pciedma_transfer_acquire(struct pciedma_request *request);
void pciedma_transfer_release(struct pciedma_engine *engine, struct pciedma_transfer *transfer,
			      bool may_sleep);
void pciedma_transfer_park(struct pciedma_engine *engine, struct pciedma_transfer *transfer);
void pciedma_transfers_unpark(struct pciedma_engine *engine);
void pciedma_transfers_give_back(struct pciedma_engine *engine);
void pciedma_waiters_refuse(struct pciedma_engine *engine, const void *file, int error);

/* direct.c */
int pciedma_direct_alloc(struct pciedma_engine *engine, struct pciedma_transfer *transfer);
void pciedma_direct_free(struct pciedma_transfer *transfer);
bool pciedma_direct_possible(struct pciedma_engine *engine, const struct iov_iter *iter);
bool pciedma_direct_suits(struct pciedma_engine *engine, const struct iov_iter *iter);
size_t pciedma_direct_cut(const struct iov_iter *iter, size_t length);
ssize_t pciedma_direct_fill(struct pciedma_engine *engine, struct pciedma_transfer *transfer,
			    struct iov_iter *iter, size_t length, bool unbounded);
int pciedma_direct_map(struct pciedma_engine *engine, struct pciedma_transfer *transfer);
void pciedma_direct_unmap(struct pciedma_engine *engine, struct pciedma_transfer *transfer);
void pciedma_direct_sync(struct pciedma_engine *engine, struct pciedma_transfer *transfer);
void pciedma_direct_unpin(struct pciedma_transfer *transfer, bool dirty);
void pciedma_direct_unaccount(struct pciedma_transfer *transfer);
void pciedma_direct_keep(struct pciedma_transfer *transfer);
void pciedma_direct_dirty(struct pciedma_transfer *transfer);
bool pciedma_direct_still_dirty(struct pciedma_transfer *transfer);

/* signals.c */
bool pciedma_request_gives_way(struct pciedma_request *request);
bool pciedma_request_freezes(const struct pciedma_request *request, const struct iov_iter *iter);
void pciedma_request_return(struct pciedma_request *request);
int pciedma_request_sleep(struct pciedma_request *request, struct completion *done, long timeout);

/* wait.c */
void pciedma_request_start(struct pciedma_request *request);
long pciedma_request_jiffies_left(const struct pciedma_request *request);
bool pciedma_request_polls(struct pciedma_request *request, u32 length);
int pciedma_transfer_wait(struct pciedma_request *request, struct pciedma_transfer *transfer);
int pciedma_transfer_stop(struct pciedma_request *request, struct pciedma_transfer *transfer,
			  int reason);

/* sync.c */
void pciedma_request_count_timeout(struct pciedma_request *request);
ssize_t pciedma_sync_run(struct pciedma_request *request, struct iov_iter *iter, u64 address);

/* async.c */
void pciedma_async_begin(struct kiocb *iocb, int (*cancel)(struct kiocb *iocb));
int pciedma_async_submit(struct pciedma_request *request, struct kiocb *iocb,
			 struct iov_iter *iter, bool wait);
bool pciedma_async_cancelled(const struct pciedma_request *request, const struct kiocb *iocb);
s64 pciedma_async_timeout(const struct pciedma_request *request);
void pciedma_work_within(struct delayed_work *work, s64 ns);
void pciedma_async_watch_by(struct pciedma_engine *engine, s64 timeout);
void pciedma_async_complete(struct pciedma_engine *engine);
void pciedma_async_cancel_iocb(struct pciedma_engine *engine, struct kiocb *iocb);
void pciedma_async_cancel(struct pciedma_engine *engine, struct pciedma_backlog *backlog,
			  const void *file, const void *files);
void pciedma_async_watch(struct work_struct *work);

/* postpone.c */
void pciedma_backlog_init(struct pciedma_backlog *backlog);
bool pciedma_backlog_has(const struct pciedma_request *request);
void pciedma_backlog_cancel(struct pciedma_engine *engine, struct pciedma_backlog *backlog,
			    const void *files);
int pciedma_postpone(const struct pciedma_request *request, struct kiocb *iocb,
		     struct iov_iter *iter);
int pciedma_taker_create(struct pciedma_engine *engine);
void pciedma_taker_destroy(struct pciedma_engine *engine);
void pciedma_postponed_kill(struct pciedma_engine *engine);
bool pciedma_engine_postpones(const struct pciedma_engine *engine);
void pciedma_postponed_cancel(struct pciedma_engine *engine, struct pciedma_postponed *postponed);
void pciedma_postponed_end_work(struct work_struct *work);

/* events.c */
void pciedma_listener_init(struct pciedma_listener *listener, struct pciedma_card *card);
void pciedma_listener_exit(struct pciedma_listener *listener);
long pciedma_listener_set(struct pciedma_listener *listener, void __user *argument);
long pciedma_listener_get(struct pciedma_listener *listener, void __user *argument);
ssize_t pciedma_listener_read(struct pciedma_listener *listener, u32 __user *lines, bool nonblock);
bool pciedma_listener_fired(struct pciedma_listener *listener);
bool pciedma_events_interrupt(struct pciedma_card *card);
void pciedma_events_silence(struct pciedma_card *card);
void pciedma_events_restore(struct pciedma_card *card);

/* recovery.c */
void pciedma_recovery_work(struct work_struct *work);
int pciedma_card_reset(struct pciedma_card *card);
void pciedma_card_shut_down(struct pciedma_card *card);
bool pciedma_card_link_active(struct pciedma_card *card);
void pciedma_card_hold(struct pciedma_card *card);
void pciedma_card_freeze(struct pciedma_card *card);
int pciedma_card_go_on(struct pciedma_card *card);

/* health.c */
void pciedma_engine_failed(struct pciedma_engine *engine);
void pciedma_engine_recovered(struct pciedma_engine *engine);
void pciedma_engine_forgive(struct pciedma_engine *engine);
const char *pciedma_engine_health(struct pciedma_engine *engine);

/* power.c */
int pciedma_card_save_config(struct pciedma_card *card);
bool pciedma_card_config_lost(struct pciedma_card *card);
void pciedma_card_restore_config(struct pciedma_card *card);
extern const struct pci_error_handlers pciedma_error_handlers;
extern const struct dev_pm_ops pciedma_pm_ops;

/* irq.c */
int pciedma_irq_alloc(struct pciedma_card *card);
int pciedma_irq_request(struct pciedma_card *card);
void pciedma_irq_free(struct pciedma_card *card);

/* sysfs.c */
extern const struct attribute_group *pciedma_card_groups[];
extern const struct attribute_group *pciedma_channel_groups[];

#endif /* PCIEDMA_CORE_H */
