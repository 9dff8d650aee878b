// SPDX-License-Identifier: MIT
/*
 * Calls the C library as its arguments say, and prints what each call returned
 * and its errno. With FAKE defined the system calls that move data or talk to
 * the driver are made up here.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#ifdef FAKE
#include <pciedma/uapi.h>

static long setting(const char *name, long otherwise)
{
	const char *text = getenv(name);

	return text ? atol(text) : otherwise;
}

/* Moves nothing, MOST bytes a call at most, and fails with ERROR after CALLS calls. */
static ssize_t fake_move(size_t count, off_t offset)
{
	static long calls;
	size_t most = (size_t)setting("MOST", INT64_MAX);

	printf("call %zu at %lld\n", count, (long long)offset);
	if (calls++ == setting("CALLS", -1)) {
		errno = (int)setting("ERROR", 0);
		return errno ? -1 : 0;
	}
	return (ssize_t)(count < most ? count : most);
}

#define pread(fd, buffer, count, offset) ((void)(fd), (void)(buffer), fake_move(count, offset))
#define pwrite(fd, buffer, count, offset) ((void)(fd), (void)(buffer), fake_move(count, offset))

static void fake_create(struct pciedma_buffer_create *create)
{
	create->id = 7;
	if (create->type == PCIEDMA_BUFFER_NEW) {
		create->size = (create->size + 4095) / 4096 * 4096;
		create->mmap_offset = 3 << 12;
	}
}

static void print_hex(const char *name, const void *data, size_t size)
{
	const unsigned char *bytes = (const unsigned char *)data;
	size_t i;

	printf("%s ", name);
	for (i = 0; i < size; i++)
		printf("%02x", bytes[i]);
	printf("\n");
}

/* TAKEN entries are taken, of which 100 bytes each have arrived; WHOLE is what it returns. */
static int fake_transfer(struct pciedma_transfer_batch *batch)
{
	const struct pciedma_transfer_entry *entries;
	struct pciedma_transfer_result *results;
	__u32 i;

	entries = (const struct pciedma_transfer_entry *)(uintptr_t)batch->entries;
	results = (struct pciedma_transfer_result *)(uintptr_t)batch->results;
	for (i = 0; i < batch->count; i++)
		print_hex("entry", &entries[i], sizeof(entries[i]));
	batch->taken = (__u32)setting("TAKEN", 0);
	for (i = 0; results && i < batch->taken; i++)
		results[i].bytes = 100;
	errno = ETIMEDOUT;
	return (int)setting("WHOLE", 0);
}

/* Channels are not mapped if CHANNEL_MAP is an errno, dma-bufs not if DMABUF_MAP is. */
static void *fake_mmap(size_t length, int access, int flags, int fd, off_t offset)
{
	static char pages[8192];

	printf("mmap %zu %d %d at %lld\n", length, access, flags, (long long)offset);
	(void)fd;
	errno = (int)setting(offset ? "CHANNEL_MAP" : "DMABUF_MAP", 0);
	return errno ? MAP_FAILED : pages;
}

/*
 * Prints what is handed in; calls wait by interrupt, and 77 ns. All nodes are
 * channel CHANNEL and window WINDOW of card FOUND, or not if they are -1; cards
 * have WINDOWS windows, all of the name "user"; the driver's ABI is ABI. Call
 * LAST fails with ERROR.
 */
static int fake_ioctl(unsigned long request, void *argument)
{
	char name[32];
	static long ioctls;

	snprintf(name, sizeof(name), "ioctl %lu", request);
	print_hex(name, argument, _IOC_SIZE(request));
	if (ioctls++ == setting("LAST", -1)) {
		errno = (int)setting("ERROR", 0);
		return -1;
	}
	if (request == PCIEDMA_IOC_CARD_INFO) {
		((struct pciedma_card_info *)argument)->abi_version = (__u32)setting("ABI", 1);
		((struct pciedma_card_info *)argument)->windows = (__u32)setting("WINDOWS", 0);
	}
	if ((request == PCIEDMA_IOC_CHANNEL_INFO && setting("CHANNEL", 0) < 0) ||
	    (request == PCIEDMA_IOC_WINDOW_INFO && setting("WINDOW", -1) < 0)) {
		errno = ENOTTY;
		return -1;
	}
	if (request == PCIEDMA_IOC_WINDOW_INFO) {
		((struct pciedma_window_info *)argument)->window = (__u32)setting("WINDOW", -1);
		((struct pciedma_window_info *)argument)->card = (__u32)setting("FOUND", 0);
		strcpy(((struct pciedma_window_info *)argument)->name, "user");
	}
	if (request == PCIEDMA_IOC_CHANNEL_INFO) {
		((struct pciedma_channel_info *)argument)->channel = (__u32)setting("CHANNEL", 0);
		((struct pciedma_channel_info *)argument)->card = (__u32)setting("FOUND", 0);
	}
	if (request == PCIEDMA_IOC_BUFFER_CREATE)
		fake_create((struct pciedma_buffer_create *)argument);
	if (request == PCIEDMA_IOC_BUFFER_EXPORT)
		((struct pciedma_buffer_export *)argument)->fd = open("/dev/null", O_RDWR);
	if (request == PCIEDMA_IOC_TRANSFER)
		return fake_transfer((struct pciedma_transfer_batch *)argument);
	if (request == PCIEDMA_IOC_GET_WAIT) {
		((struct pciedma_wait *)argument)->mode = PCIEDMA_WAIT_INTERRUPT;
		((struct pciedma_wait *)argument)->timeout_ns = 77;
	}
	errno = EALREADY; /* what a call that succeeds may leave there */
	return 0;
}

#define ioctl(fd, request, argument) ((void)(fd), fake_ioctl(request, argument))
#define mmap(address, length, access, flags, fd, offset) \
	fake_mmap(length, access, flags, fd, offset)
#define munmap(address, length) ((void)(address), printf("munmap %zu\n", length))
#endif

#include <pciedma/pciedma.h>

#ifdef FAKE /* what the tests map themselves */
#undef mmap
#undef munmap
#endif

static void print(const char *name, int ret)
{
	printf("%s %d %d\n", name, ret, ret == -1 ? errno : 0);
}

static int print_open(int fd)
{
	char link[64], path[4096];
	ssize_t length;

	print("open", fd < 0 ? -1 : 0);
	if (fd < 0)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	printf("%.*s\n", (int)length, path);
	print("cloexec", !!(fcntl(fd, F_GETFD) & FD_CLOEXEC));
	print("access", fcntl(fd, F_GETFL) & O_ACCMODE);
	return 0;
}

static void call_card(int fd)
{
	struct pciedma_card_info info;
	uint32_t lines = 7;

	print("card_get_info", pciedma_card_get_info(fd, &info));
	printf("name %s\n", info.name);
	print("card_is_older", pciedma_card_is_older(fd));
	print("card_reset", pciedma_card_reset(fd));
	print("card_listen", pciedma_card_listen(fd, 8, -1));
	print("card_get_events", pciedma_card_get_events(fd, &lines));
	print("lines", (int)lines);
}

static void call_channel(int fd)
{
	struct pciedma_channel_info info;
	struct pciedma_wait wait;

	print("channel_get_info", pciedma_channel_get_info(fd, &info));
	print("kind", (int)info.kind);
	print("channel_set_timeout", pciedma_channel_set_timeout(fd, 5));
	print("channel_set_wait_mode", pciedma_channel_set_wait_mode(fd, PCIEDMA_WAIT_POLL));
	print("channel_get_wait", pciedma_channel_get_wait(fd, &wait));
	print("timeout_ns", (int)wait.timeout_ns);
	print("mode", (int)wait.mode);
	print("channel_cancel", pciedma_channel_cancel(fd));
}

static void call_window(int fd)
{
	struct pciedma_window_info info;
	size_t size = 0;

	print("window_get_info", pciedma_window_get_info(fd, &info));
	print("size", (int)info.size);
	print("window_map", pciedma_window_map(fd, &size) == MAP_FAILED ? -1 : 0);
}

static void print_buffer(const struct pciedma_buffer *buffer)
{
	printf("buffer %d %llu %zu %u\n", !!buffer->address, (unsigned long long)buffer->size,
	       buffer->mapped, buffer->id);
}

static int open_files(void)
{
	int fd, count = 0;

	for (fd = 0; fd < 100; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* What a channel, open for some directions, makes of memory; of new memory what it moves. */
static void call_buffers(int fd, uint32_t directions)
{
	static char memory[4096] __attribute__((aligned(4096)));
	struct pciedma_buffer made, own, other;
	int dmabuf, files = open_files();
	char *data;

	errno = 0;
	print("buffer_new", pciedma_buffer_new(fd, 5000, directions, &made));
	print_buffer(&made);
	print("buffer_register", pciedma_buffer_register(fd, memory, sizeof(memory), directions,
							 &own));
	print_buffer(&own);
	dmabuf = pciedma_buffer_export_dmabuf(fd, &made);
	print("buffer_export_dmabuf", dmabuf < 0 ? -1 : 0);
	print("buffer_import_dmabuf", pciedma_buffer_import_dmabuf(fd, dmabuf, directions, &other));
	print_buffer(&other);
	close(dmabuf);
	print("buffer_write", (int)pciedma_buffer_write(fd, &own, 96, 304, 64));
	print("buffer_read", (int)pciedma_buffer_read(fd, &own, 1024, 304, 64));
	data = (char *)made.address;
	if (data) {
		printf("zeroed %d\n", !data[0] && !memcmp(data, data + 1, made.mapped - 1));
		memset(data, 'w', 1000);
		print("pwrite", (int)pwrite(fd, data, 1000, 0));
		print("pread", (int)pread(fd, data + 4096, 1000, 0));
		printf("same %d\n", !memcmp(data, data + 4096, 1000));
	}
	print("buffer_close", pciedma_buffer_close(fd, &other));
	print("buffer_close", pciedma_buffer_close(fd, &own));
	print("buffer_close", pciedma_buffer_close(fd, &made));
	print_buffer(&made);
	printf("files left %d\n", open_files() - files);
}

/* Two entries of registered memory, waited for and submitted. */
static void call_transfers(int fd)
{
	static char memory[4096] __attribute__((aligned(4096)));
	struct pciedma_transfer_entry entries[2];
	struct pciedma_transfer_result results[2];
	struct pciedma_buffer own;
	uint32_t taken = 99;

	memset(memory, 'w', 200);
	pciedma_buffer_register(fd, memory, sizeof(memory), PCIEDMA_BUFFER_C2H | PCIEDMA_BUFFER_H2C,
				&own);
	memset(entries, 0, sizeof(entries));
	memset(results, 0, sizeof(results));
	entries[0].flags = PCIEDMA_ENTRY_H2C;
	entries[1].flags = PCIEDMA_ENTRY_C2H | PCIEDMA_ENTRY_BARRIER;
	entries[0].buffer = entries[1].buffer = own.id;
	entries[0].length = entries[1].length = 200;
	entries[1].offset = 400;
	entries[0].tag = 5;
	entries[1].tag = 6;
	print("channel_transfer", pciedma_channel_transfer(fd, entries, 2, 0, results, &taken));
	printf("taken %u\n", taken);
	printf("results %u %u\n", (unsigned int)results[0].bytes, (unsigned int)results[1].bytes);
	print("channel_transfer", pciedma_channel_transfer(fd, entries, 1, PCIEDMA_TRANSFER_EACH,
							   NULL, NULL));
	print("channel_set_eventfd", pciedma_channel_set_eventfd(fd, -1));
	print("channel_submit", pciedma_channel_submit(fd, entries, 2, PCIEDMA_TRANSFER_EACH));
	memset(results, 0, sizeof(results));
	print("channel_wait", pciedma_channel_wait(fd, results, 2, 2, 5000000000));
	printf("tags %u %u\n", (unsigned int)results[0].tag, (unsigned int)results[1].tag);
	print("channel_wait", pciedma_channel_wait(fd, results, 0, 2, 0));
	printf("same %d\n", !memcmp(memory, memory + 400, 200));
	pciedma_buffer_close(fd, &own);
}

/* A register's value there and back: by a mapping, in each width, and by calls. */
static int registers(const char *card, const char *name, size_t offset)
{
	int fd = pciedma_window_open(pciedma_card_open(card), name, O_RDWR);
	uint32_t value = 0x89abcdef;
	volatile void *map;
	ssize_t moved;
	size_t size;

	if (fd < 0) {
		print("open", fd);
		return 1;
	}
	map = pciedma_window_map(fd, &size);
	if (map == MAP_FAILED) {
		print("map", -1);
		return 1;
	}
	pciedma_write32(map, offset, 0x01234567);
	printf("read32 %x\n", (unsigned int)pciedma_read32(map, offset));
	pciedma_write16(map, offset + 2, 0x4321);
	printf("read16 %x\n", (unsigned int)pciedma_read16(map, offset + 2));
	pciedma_write8(map, offset + 1, 0x99);
	printf("read8 %x\n", (unsigned int)pciedma_read8(map, offset + 1));
	printf("pwrite %zd\n", pwrite(fd, &value, sizeof(value), (off_t)offset));
	value = 0;
	moved = pread(fd, &value, sizeof(value), (off_t)offset);
	printf("pread %zd %x\n", moved, value);
	munmap((void *)map, size);
	return 0;
}

static int transfer(const char *verb, int fd, size_t length, uint64_t address)
{
	void *buffer = mmap(NULL, length, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t done;

	if (buffer == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	errno = EALREADY; /* what somebody left there */
	if (!strcmp(verb, "read"))
		done = pciedma_read_full(fd, buffer, length, address);
	else
		done = pciedma_write_full(fd, memset(buffer, 'x', length < 4096 ? length : 0),
					  length, address);
	printf("moved %zu %d\n", done, done < length ? errno : 0);
	if (length < 4096)
		printf("data %.*s\n", (int)done, (char *)buffer);
	return 0;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";

	if (!strcmp(verb, "open") && argc <= 3)
		return print_open(pciedma_card_open(argc == 3 ? argv[2] : NULL));
	if (!strcmp(verb, "number") && argc == 3)
		return print_open(pciedma_card_open_number((unsigned int)atoi(argv[2])));
	if (!strcmp(verb, "channel") && argc == 5)
		return print_open(pciedma_channel_open(pciedma_card_open(argv[2]),
						       (unsigned int)atoi(argv[3]),
						       atoi(argv[4])));
	if (!strcmp(verb, "calls") && argc == 4) {
		call_card(open(argv[2], O_RDWR));
		call_channel(open(argv[3], O_RDWR));
		call_window(open(argv[3], O_RDWR));
		return 0;
	}
	if (!strcmp(verb, "buffers") && argc == 5) {
		call_buffers(open(argv[2], atoi(argv[3])), (uint32_t)atoi(argv[4]));
		return 0;
	}
	if (!strcmp(verb, "transfers") && argc == 3) {
		call_transfers(open(argv[2], O_RDWR));
		return 0;
	}
	if (!strcmp(verb, "window") && argc == 5)
		return print_open(pciedma_window_open_number(pciedma_card_open(argv[2]),
							     (unsigned int)atoi(argv[3]),
							     atoi(argv[4])));
	if (!strcmp(verb, "named-window") && argc == 4)
		return print_open(pciedma_window_open(pciedma_card_open(argv[2]), argv[3], O_RDWR));
	if (!strcmp(verb, "registers") && argc == 5)
		return registers(argv[2], argv[3], (size_t)strtoull(argv[4], NULL, 0));
	if ((!strcmp(verb, "read") || !strcmp(verb, "write")) && argc == 5)
		return transfer(verb, open(argv[2], O_RDWR), strtoull(argv[3], NULL, 0),
				strtoull(argv[4], NULL, 0));
	fprintf(stderr, "wrong arguments\n");
	return 2;
}
