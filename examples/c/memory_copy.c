// SPDX-License-Identifier: MIT
/*
 * Writes a file to a card's memory, reads it back, and compares.
 *
 *	cc memory_copy.c $(pkg-config --cflags pciedma) -o memory_copy
 *	./memory_copy 0 0x1000 image.bin
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pciedma/pciedma.h>

/* A few transfers of the driver's, so that the engine does not wait between them. */
#define PIECE		((size_t)16 << 20)

static const char usage[] =
	"usage: memory_copy CARD ADDRESS FILE\n"
	"CARD is a number, a PCI address, or the path of its node.\n"
	"Exit status: 0 if the card's memory has the file now, 1 if not, 2 for wrong arguments.\n";

struct copy {
	int channel;
	uint64_t address;
	FILE *file;
	char *data;
	char *again;
};

static int fail(const char *what)
{
	fprintf(stderr, "memory_copy: %s: %s\n", what, strerror(errno));
	return -1;
}

static int fail_at(const char *what, uint64_t address)
{
	fprintf(stderr, "memory_copy: %s at 0x%" PRIx64 ": %s\n", what, address,
		errno ? strerror(errno) : "the card's memory ends there");
	return -1;
}

static int write_piece(const struct copy *copy, size_t length, uint64_t address)
{
	size_t done = pciedma_write_full(copy->channel, copy->data, length, address);

	return done == length ? 0 : fail_at("write", address + done);
}

static int verify_piece(const struct copy *copy, size_t length, uint64_t address)
{
	size_t done = pciedma_read_full(copy->channel, copy->again, length, address);

	if (done != length)
		return fail_at("read", address + done);
	for (done = 0; done < length; done++) {
		if (copy->data[done] != copy->again[done]) {
			fprintf(stderr, "memory_copy: differs at 0x%" PRIx64 "\n", address + done);
			return -1;
		}
	}
	return 0;
}

/* Go through the file once; returns 0 or -1. */
static int pass(const struct copy *copy, const char *verb, uint64_t *total,
		int (*handle)(const struct copy *copy, size_t length, uint64_t address))
{
	size_t length;

	rewind(copy->file);
	for (*total = 0; (length = fread(copy->data, 1, PIECE, copy->file)); *total += length) {
		if (handle(copy, length, copy->address + *total))
			return -1;
		fprintf(stderr, "%s %" PRIu64 " bytes\n", verb, *total + length);
	}
	return ferror(copy->file) ? fail("file") : 0;
}

static int run(struct copy *copy)
{
	struct pciedma_channel_info info;
	uint64_t total;

	if (pciedma_channel_get_info(copy->channel, &info))
		return fail("channel 0");
	if (info.kind != PCIEDMA_KIND_MEMORY) {
		fprintf(stderr, "memory_copy: channel 0 is not memory\n");
		return -1;
	}
	copy->data = (char *)malloc(2 * PIECE);
	if (!copy->data)
		return fail("memory");
	copy->again = copy->data + PIECE;
	if (pass(copy, "written", &total, write_piece) ||
	    pass(copy, "compared", &total, verify_piece))
		return -1;
	printf("%" PRIu64 " bytes at 0x%" PRIx64 " read back as written\n", total, copy->address);
	return 0;
}

static int open_and_run(const char *which, struct copy *copy)
{
	int card, ret;

	card = pciedma_card_open(which);
	if (card < 0)
		return fail(which);
	copy->channel = pciedma_channel_open(card, 0, O_RDWR);
	ret = copy->channel < 0 ? fail("channel 0") : run(copy);
	free(copy->data);
	if (copy->channel >= 0)
		close(copy->channel);
	close(card);
	return ret;
}

static int parse_address(const char *text, uint64_t *address)
{
	char *end;

	errno = 0;
	*address = strtoull(text, &end, 0);
	return errno || end == text || *end || *text == '-';
}

int main(int argc, char **argv)
{
	struct copy copy;
	int ret;

	if (argc == 2 && !strcmp(argv[1], "--help")) {
		fputs(usage, stdout);
		return EXIT_SUCCESS;
	}
	memset(&copy, 0, sizeof(copy));
	if (argc != 4 || parse_address(argv[2], &copy.address)) {
		fputs(usage, stderr);
		return 2;
	}
	copy.file = fopen(argv[3], "rb");
	if (!copy.file) {
		fail(argv[3]);
		return EXIT_FAILURE;
	}
	ret = open_and_run(argv[1], &copy);
	fclose(copy.file);
	return ret ? EXIT_FAILURE : EXIT_SUCCESS;
}
