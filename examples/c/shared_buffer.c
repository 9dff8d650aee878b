// SPDX-License-Identifier: MIT
/*
 * Makes memory that program and card share, and moves what lies in it without a
 * copy: by plain pwrite() and pread(), then in many parts by one call.
 *
 *	cc shared_buffer.c $(pkg-config --cflags pciedma) -o shared_buffer
 *	./shared_buffer 0 0x1000
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pciedma/pciedma.h>

#define SIZE		((size_t)1 << 20)
#define HALF		(SIZE / 2)	/* what is sent; what comes back */
#define PARTS		128
#define PART		(HALF / PARTS)

static const char usage[] =
	"usage: shared_buffer CARD ADDRESS\n"
	"Writes 512 KiB. CARD is a number, a PCI address, or the path of its node.\n"
	"Exit status: 0 if they were read back as written, 1 if not, 2 for wrong arguments.\n";

static int fail(const char *what)
{
	fprintf(stderr, "shared_buffer: %s: %s\n", what, strerror(errno));
	return -1;
}

static void fill(char *data, unsigned int seed)
{
	size_t i;

	for (i = 0; i < HALF; i++)
		data[i] = (char)((i + seed) * 2654435761U >> 13);
	memset(data + HALF, ~data[0], HALF);
}

static int compare(const char *data, const char *how)
{
	if (memcmp(data, data + HALF, HALF)) {
		fprintf(stderr, "shared_buffer: what was read %s is not what was written\n", how);
		return -1;
	}
	printf("%zu bytes each way %s, read back as written\n", HALF, how);
	return 0;
}

/* The calls that any program makes; the driver finds that the memory is the card's, too. */
static int by_calls(int channel, char *data, uint64_t address)
{
	fill(data, 1);
	if (pciedma_write_full(channel, data, HALF, address) != HALF)
		return fail("write");
	if (pciedma_read_full(channel, data + HALF, HALF, address) != HALF)
		return fail("read");
	return compare(data, "by pwrite and pread");
}

/* The parts are written in their order, and read in another; the first read waits for all writes. */
static void set_entries(struct pciedma_transfer_entry *entries, uint32_t buffer, uint64_t address)
{
	struct pciedma_transfer_entry *out, *back;
	size_t i, place;

	memset(entries, 0, 2 * PARTS * sizeof(*entries));
	for (i = 0; i < PARTS; i++) {
		out = &entries[i];
		back = &entries[PARTS + i];
		place = i * 37 % PARTS * PART;
		out->flags = PCIEDMA_ENTRY_H2C;
		out->offset = i * PART;
		out->address = address + i * PART;
		back->flags = PCIEDMA_ENTRY_C2H;
		back->offset = HALF + place;
		back->address = address + place;
		out->buffer = back->buffer = buffer;
		out->length = back->length = PART;
		out->tag = i;
		back->tag = PARTS + i;
	}
	entries[PARTS].flags |= PCIEDMA_ENTRY_BARRIER;
}

static int by_entries(int channel, const struct pciedma_buffer *buffer, uint64_t address)
{
	struct pciedma_transfer_entry entries[2 * PARTS];
	struct pciedma_transfer_result results[2 * PARTS];
	char *data = (char *)buffer->address;
	uint32_t i, taken;
	int whole;

	fill(data, 2);
	set_entries(entries, buffer->id, address);
	whole = pciedma_channel_transfer(channel, entries, 2 * PARTS, 0, results, &taken);
	if (whole < 0)
		return fail("transfer");
	if (whole == 2 * PARTS)
		return compare(data, "by one call of 256 parts");
	for (i = 0; i < taken && !results[i].error; i++)
		;
	fprintf(stderr, "shared_buffer: part %" PRIu32 ": %s\n", i,
		i < taken ? strerror((int)results[i].error) : "not taken");
	return -1;
}

static int run(int channel, uint64_t address)
{
	struct pciedma_buffer buffer;
	int ret;

	if (pciedma_buffer_new(channel, SIZE, PCIEDMA_BUFFER_C2H | PCIEDMA_BUFFER_H2C, &buffer))
		return fail("buffer");
	ret = by_calls(channel, (char *)buffer.address, address);
	if (!ret)
		ret = by_entries(channel, &buffer, address);
	pciedma_buffer_close(channel, &buffer);
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
		fprintf(stderr, "shared_buffer: channel 0 is not memory\n");
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
