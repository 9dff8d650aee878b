// SPDX-License-Identifier: MIT
/*
 * Sends a message to a card that loops it back (capric), receives it, and
 * compares.
 *
 *	cc message_echo.c $(pkg-config --cflags pciedma) -o message_echo
 *	./message_echo 0 hello
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pciedma/pciedma.h>

static const char usage[] =
	"usage: message_echo CARD [TEXT]\n"
	"CARD is a number, a PCI address, or the path of its node.\n"
	"Exit status: 0 if TEXT came back, 1 if not, 2 for wrong arguments.\n";

static int fail(const char *what)
{
	fprintf(stderr, "message_echo: %s: %s\n", what, strerror(errno));
	return EXIT_FAILURE;
}

/* One write() is one message; a message is never sent or received in part. */
static int echo(int channel, const char *text, char *answer, size_t length)
{
	ssize_t moved = write(channel, text, length);

	if (moved < 0)
		return fail("write");
	moved = read(channel, answer, length);
	if (moved < 0)
		return fail("read");
	if ((size_t)moved != length || memcmp(text, answer, length)) {
		fprintf(stderr, "message_echo: %zd bytes came back, and not those sent\n", moved);
		return EXIT_FAILURE;
	}
	printf("%zu bytes there and back: %.*s\n", length, (int)length, answer);
	return EXIT_SUCCESS;
}

static int run(int channel, const char *text)
{
	size_t length = strlen(text);
	struct pciedma_channel_info info;
	char *answer;
	int status;

	if (pciedma_channel_get_info(channel, &info))
		return fail("channel 0");
	if (info.kind != PCIEDMA_KIND_MESSAGE) {
		fprintf(stderr, "message_echo: channel 0 is not for messages\n");
		return EXIT_FAILURE;
	}
	printf("messages of up to %llu bytes\n", (unsigned long long)info.h2c.max_dma);
	answer = (char *)malloc(length + 1);
	if (!answer)
		return fail("memory");
	status = echo(channel, text, answer, length);
	free(answer);
	return status;
}

int main(int argc, char **argv)
{
	int card, channel, status;

	if (argc == 2 && !strcmp(argv[1], "--help")) {
		fputs(usage, stdout);
		return EXIT_SUCCESS;
	}
	if (argc < 2 || argc > 3) {
		fputs(usage, stderr);
		return 2;
	}
	card = pciedma_card_open(argv[1]);
	if (card < 0)
		return fail(argv[1]);
	channel = pciedma_channel_open(card, 0, O_RDWR);
	status = channel < 0 ? fail("channel 0") : run(channel, argc > 2 ? argv[2] : "hello");
	if (channel >= 0)
		close(channel);
	close(card);
	return status;
}
