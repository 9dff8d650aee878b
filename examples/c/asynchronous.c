// SPDX-License-Identifier: MIT
/*
 * Keeps several requests under way at a time by Linux AIO: writes blocks to a
 * card's memory, reads them back, and compares. Linux AIO needs no library: it
 * is four system calls.
 *
 *	cc asynchronous.c $(pkg-config --cflags pciedma) -o asynchronous
 *	./asynchronous 0 0x1000
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* syscall() */
#endif
#include <errno.h>
#include <inttypes.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <pciedma/pciedma.h>

#define REQUESTS	8
#define BLOCK		((size_t)64 << 10)

static const char usage[] =
	"usage: asynchronous CARD ADDRESS\n"
	"Writes 512 KiB. CARD is a number, a PCI address, or the path of its node.\n"
	"Exit status: 0 if they were read back as written, 1 if not, 2 for wrong arguments.\n";

static int fail(const char *what)
{
	fprintf(stderr, "asynchronous: %s: %s\n", what, strerror(errno));
	return -1;
}

/* Submit all blocks; returns how many are under way, which may be fewer if it fails. */
static long submit(aio_context_t context, int channel, uint16_t opcode, char *data,
		   uint64_t address)
{
	struct iocb requests[REQUESTS], *pointers[REQUESTS];
	long i, done, submitted;

	memset(requests, 0, sizeof(requests));
	for (i = 0; i < REQUESTS; i++) {
		size_t offset = (size_t)i * BLOCK;

		requests[i].aio_data = (uint64_t)i;
		requests[i].aio_lio_opcode = opcode;
		requests[i].aio_fildes = (uint32_t)channel;
		requests[i].aio_buf = (uint64_t)(uintptr_t)(data + offset);
		requests[i].aio_nbytes = BLOCK;
		requests[i].aio_offset = (int64_t)(address + offset);
		pointers[i] = &requests[i];
	}
	for (done = 0; done < REQUESTS; done += submitted) {
		submitted = syscall(SYS_io_submit, context, REQUESTS - done, pointers + done);
		if (submitted <= 0)
			break;
	}
	return done;
}

/* The driver writes to the memory until the last has ended: wait for all, whatever happens. */
static int complete(aio_context_t context, long count)
{
	struct io_event events[REQUESTS];
	long i, got;
	int ret = 0;

	for (; count; count -= got) {
		got = syscall(SYS_io_getevents, context, 1L, count, events, NULL);
		if (got < 0 && errno == EINTR)
			got = 0;
		if (got < 0)
			return fail("io_getevents");
		for (i = 0; i < got; i++) {
			if (events[i].res == (int64_t)BLOCK)
				continue;
			errno = events[i].res < 0 ? (int)-events[i].res : 0;
			fprintf(stderr, "asynchronous: block %" PRIu64 ": %s\n",
				(uint64_t)events[i].data,
				errno ? strerror(errno) : "moved in part");
			ret = -1;
		}
	}
	return ret;
}

static int transfer(aio_context_t context, int channel, uint16_t opcode, char *data,
		    uint64_t address)
{
	long submitted = submit(context, channel, opcode, data, address);
	int error = submitted < REQUESTS ? errno : 0;
	int ret = complete(context, submitted);

	if (!error)
		return ret;
	errno = error;
	return fail("io_submit");
}

static int there_and_back(aio_context_t context, int channel, char *data, uint64_t address)
{
	const size_t size = REQUESTS * BLOCK;
	char *again = data + size;
	size_t i;

	for (i = 0; i < size; i++)
		data[i] = (char)(i * 2654435761U >> 13);
	memset(again, ~data[0], size);
	if (transfer(context, channel, IOCB_CMD_PWRITE, data, address) ||
	    transfer(context, channel, IOCB_CMD_PREAD, again, address))
		return -1;
	if (memcmp(data, again, size)) {
		fprintf(stderr, "asynchronous: what was read is not what was written\n");
		return -1;
	}
	printf("%d requests of %zu bytes each way, read back as written\n", REQUESTS, BLOCK);
	return 0;
}

static int run(int channel, uint64_t address)
{
	aio_context_t context = 0;
	char *data;
	int ret;

	data = (char *)malloc(2 * REQUESTS * BLOCK);
	if (!data)
		return fail("memory");
	if (syscall(SYS_io_setup, REQUESTS, &context)) {
		ret = fail("io_setup");
	} else {
		ret = there_and_back(context, channel, data, address);
		syscall(SYS_io_destroy, context); /* waits for what is under way */
	}
	free(data);
	return ret;
}

static int open_and_run(const char *which, uint64_t address)
{
	struct pciedma_channel_info info;
	int card, channel, ret = -1;

	card = pciedma_card_open(which);
	if (card < 0)
		return fail(which);
	channel = pciedma_channel_open(card, 0, O_RDWR);
	if (channel < 0 || pciedma_channel_get_info(channel, &info))
		fail("channel 0");
	else if (info.kind != PCIEDMA_KIND_MEMORY)
		fprintf(stderr, "asynchronous: channel 0 is not memory\n");
	else
		ret = run(channel, address);
	if (channel >= 0)
		close(channel);
	close(card);
	return ret;
}

int main(int argc, char **argv)
{
	uint64_t address;
	char *end;

	if (argc == 2 && !strcmp(argv[1], "--help")) {
		fputs(usage, stdout);
		return EXIT_SUCCESS;
	}
	if (argc != 3) {
		fputs(usage, stderr);
		return 2;
	}
	errno = 0;
	address = strtoull(argv[2], &end, 0);
	if (errno || end == argv[2] || *end || *argv[2] == '-' || address > INT64_MAX) {
		fputs(usage, stderr);
		return 2;
	}
	return open_and_run(argv[1], address) ? EXIT_FAILURE : EXIT_SUCCESS;
}
