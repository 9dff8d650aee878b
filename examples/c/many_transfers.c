// SPDX-License-Identifier: MIT
/*
 * Keeps 32 reads of a card's memory under way at a time, into memory of its own
 * that the card was told of once: what has ended is looked at, and its place
 * read into again. An eventfd says when there is something to take; a program
 * would poll for whatever else it does, too.
 *
 *	cc many_transfers.c $(pkg-config --cflags pciedma) -o many_transfers
 *	./many_transfers 0 0x1000 1000
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <pciedma/pciedma.h>

#define PLACES		32
#define BLOCK		((size_t)16 << 10)

static const char usage[] =
	"usage: many_transfers CARD ADDRESS COUNT\n"
	"Writes 512 KiB, and reads COUNT blocks of 16 KiB of them, 1 to 4294967295.\n"
	"CARD is a number, a PCI address, or the path of its node.\n"
	"Exit status: 0 if they were read as written, 1 if not, 2 for wrong arguments.\n";

struct reader {
	int channel;
	int eventfd;
	uint64_t address;
	char *data;		/* PLACES blocks */
	struct pciedma_buffer buffer;
	uint64_t wanted;	/* reads: how many in all */
	uint64_t submitted;	/* so far */
	uint32_t under_way;	/* now */
};

static int fail(const char *what)
{
	fprintf(stderr, "many_transfers: %s: %s\n", what, strerror(errno));
	return -1;
}

/* What the card has of a block: its number, again and again. */
static void fill(char *block, uint32_t number)
{
	size_t i;

	for (i = 0; i < BLOCK; i += sizeof(number))
		memcpy(block + i, &number, sizeof(number));
}

static int write_blocks(const struct reader *reader)
{
	uint32_t i;

	for (i = 0; i < PLACES; i++)
		fill(reader->data + i * BLOCK, i);
	if (pciedma_write_full(reader->channel, reader->data, PLACES * BLOCK, reader->address) !=
	    PLACES * BLOCK)
		return fail("write");
	memset(reader->data, 0xff, PLACES * BLOCK);
	return 0;
}

/* Which block a read is of: each time another one in the same place. */
static uint32_t block_of(uint64_t number)
{
	return (uint32_t)(number * 5 % PLACES);
}

/* Submit the next reads, into places that are free. */
static int submit(struct reader *reader, const uint32_t *places, uint32_t count)
{
	struct pciedma_transfer_entry entries[PLACES];
	uint32_t i;
	int taken;

	if (count > reader->wanted - reader->submitted)
		count = (uint32_t)(reader->wanted - reader->submitted);
	if (!count)
		return 0;
	memset(entries, 0, sizeof(entries));
	for (i = 0; i < count; i++) {
		uint64_t number = reader->submitted + i;

		entries[i].flags = PCIEDMA_ENTRY_C2H;
		entries[i].buffer = reader->buffer.id;
		entries[i].offset = places[i] * BLOCK;
		entries[i].length = BLOCK;
		entries[i].address = reader->address + block_of(number) * BLOCK;
		entries[i].tag = number << 8 | places[i];
	}
	taken = pciedma_channel_submit(reader->channel, entries, count, 0);
	if (taken < 0)
		return fail("submit");
	reader->submitted += (uint32_t)taken;
	reader->under_way += (uint32_t)taken;
	if ((uint32_t)taken == count)
		return 0;
	fprintf(stderr, "many_transfers: read %" PRIu64 " was not taken\n", reader->submitted);
	return -1;
}

static int check(const struct reader *reader, const struct pciedma_transfer_result *result)
{
	const char *block = reader->data + (result->tag & 0xff) * BLOCK;
	uint64_t number = result->tag >> 8;
	uint32_t expected = block_of(number);

	if (result->error) {
		fprintf(stderr, "many_transfers: read %" PRIu64 ": %s\n", number,
			strerror((int)result->error));
		return -1;
	}
	if (memcmp(block, &expected, sizeof(expected)) ||
	    memcmp(block, block + sizeof(expected), BLOCK - sizeof(expected))) {
		fprintf(stderr, "many_transfers: read %" PRIu64 " is not what was written\n",
			number);
		return -1;
	}
	return 0;
}

/* Wait until something has ended, and take it; returns how many. */
static int take(const struct reader *reader, struct pciedma_transfer_result *results)
{
	struct pollfd waiting = { reader->eventfd, POLLIN, 0 };
	uint64_t ended;
	int count;

	if (poll(&waiting, 1, -1) < 0)
		return errno == EINTR ? 0 : fail("poll");
	if (read(reader->eventfd, &ended, sizeof(ended)) != sizeof(ended))
		return fail("eventfd");
	count = pciedma_channel_wait(reader->channel, results, 0, PLACES, 0);
	return count < 0 ? fail("wait") : count;
}

static int read_blocks(struct reader *reader)
{
	struct pciedma_transfer_result results[PLACES];
	uint32_t places[PLACES];
	int i, count, ret;

	for (i = 0; i < PLACES; i++)
		places[i] = (uint32_t)i;
	ret = submit(reader, places, PLACES);
	while (!ret && reader->under_way) {
		count = take(reader, results);
		if (count < 0)
			return -1;
		reader->under_way -= (uint32_t)count;
		for (i = 0; i < count; i++) {
			places[i] = (uint32_t)(results[i].tag & 0xff);
			if (!ret)
				ret = check(reader, &results[i]);
		}
		if (!ret)
			ret = submit(reader, places, (uint32_t)count);
	}
	return ret;
}

/* The card may write to the memory until the last has ended: wait for all, whatever happens. */
static void settle(struct reader *reader)
{
	struct pciedma_transfer_result results[PLACES];
	int count;

	if (reader->under_way)
		pciedma_channel_cancel(reader->channel);
	while (reader->under_way) {
		count = pciedma_channel_wait(reader->channel, results, reader->under_way, PLACES,
					     PCIEDMA_TIMEOUT_NONE);
		if (count >= 0)
			reader->under_way -= (uint32_t)count;
		else if (errno != EINTR)
			return;
	}
}

static int read_registered(struct reader *reader)
{
	int ret = -1;

	if (pciedma_buffer_register(reader->channel, reader->data, PLACES * BLOCK,
				    PCIEDMA_BUFFER_C2H, &reader->buffer))
		return fail("register");
	if (pciedma_channel_set_eventfd(reader->channel, reader->eventfd))
		fail("eventfd");
	else
		ret = read_blocks(reader);
	settle(reader);
	pciedma_buffer_close(reader->channel, &reader->buffer);
	if (!ret)
		printf("%" PRIu64 " reads of %zu bytes, %d at a time, read as written\n",
		       reader->submitted, BLOCK, PLACES);
	return ret;
}

static int run(struct reader *reader)
{
	struct pciedma_channel_info info;
	int ret = -1;

	if (pciedma_channel_get_info(reader->channel, &info))
		return fail("channel 0");
	if (info.kind != PCIEDMA_KIND_MEMORY) {
		fprintf(stderr, "many_transfers: channel 0 is not memory\n");
		return -1;
	}
	reader->data = (char *)malloc(PLACES * BLOCK);
	reader->eventfd = eventfd(0, EFD_CLOEXEC);
	if (!reader->data || reader->eventfd < 0)
		fail("memory");
	else if (!write_blocks(reader))
		ret = read_registered(reader);
	if (reader->eventfd >= 0)
		close(reader->eventfd);
	free(reader->data);
	return ret;
}

static int open_and_run(const char *which, struct reader *reader)
{
	int card, ret;

	card = pciedma_card_open(which);
	if (card < 0)
		return fail(which);
	reader->channel = pciedma_channel_open(card, 0, O_RDWR);
	ret = reader->channel < 0 ? fail("channel 0") : run(reader);
	if (reader->channel >= 0)
		close(reader->channel);
	close(card);
	return ret;
}

static int parse(const char *text, uint64_t most, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 0);
	return errno || end == text || *end || *text == '-' || *value > most;
}

int main(int argc, char **argv)
{
	struct reader reader;

	if (argc == 2 && !strcmp(argv[1], "--help")) {
		fputs(usage, stdout);
		return EXIT_SUCCESS;
	}
	memset(&reader, 0, sizeof(reader));
	if (argc != 4 || parse(argv[2], INT64_MAX, &reader.address) ||
	    parse(argv[3], UINT32_MAX, &reader.wanted) || !reader.wanted) {
		fputs(usage, stderr);
		return 2;
	}
	return open_and_run(argv[1], &reader) ? EXIT_FAILURE : EXIT_SUCCESS;
}
