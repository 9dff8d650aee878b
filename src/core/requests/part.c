// SPDX-License-Identifier: GPL-2.0-only
/*
 * Requests whose memory lies in a mapped buffer of their channel: its part of the buffer is moved,
 * without being pinned, mapped or copied.
 */
#include "request.h"

static bool part_has(const struct pciedma_part *part, unsigned long address)
{
	return part->buffer && address - part->address < part->length;
}

/**
 * pciedma_request_forget_part() - hold no buffer any longer
 * @request: the request
 *
 * Context: process.
 */
void pciedma_request_forget_part(struct pciedma_request *request)
{
	if (request->part.buffer)
		pciedma_mem_put(&request->part.buffer->mem, true);
	request->part.buffer = NULL;
}

/* Find the buffer at an address, if it is not the one that was found before. */
static bool request_find_part(struct pciedma_request *request, unsigned long address)
{
	struct pciedma_part *part = &request->part;

	if (part_has(part, address))
		return true;
	pciedma_request_forget_part(request);
	part->address = address;
	part->buffer = pciedma_buffer_at(request->lane->buffers, address,
					 request->direction == PCIEDMA_C2H ? DMA_FROM_DEVICE :
									     DMA_TO_DEVICE,
					 &part->offset, &part->length);
	return part->buffer;
}

/**
 * pciedma_request_part() - how much of what comes next of a request lies in a buffer
 * @request: the request
 * @iter:    what is left of its memory
 *
 * Context: process; waits for nobody's memory.
 * Return: bytes that the engine can work on at once, of a message all of them; 0 if there are none.
 */
size_t pciedma_request_part(struct pciedma_request *request, const struct iov_iter *iter)
{
	struct pciedma_lane *lane = request->lane;
	struct pciedma_part *part = &request->part;
	struct pciedma_piece piece;
	size_t length, into;

	if (likely(!part->buffer && !atomic_read(&lane->buffers->mappings)))
		return 0;
	if (!user_backed_iter(iter) || !iov_iter_count(iter) || !current->mm)
		return 0;
	piece = pciedma_piece_first(iter);
	if (!request_find_part(request, piece.address))
		return 0;
	into = piece.address - part->address;
	length = min3(piece.length, part->length - into, (size_t)PCIEDMA_USER_MEM_SIZE);
	if (lane->engine.kind == PCIEDMA_KIND_MESSAGE && length < iov_iter_count(iter))
		return 0;
	if (!pciedma_transfer_may_take(&lane->queue, part->buffer, part->offset + into, length))
		return 0;
	return length;
}

/**
 * pciedma_request_take_part() - let a transfer work on it
 * @request:  the request
 * @transfer: owned by the caller, without memory, its direction set
 * @iter:     what is left of the request's memory; is advanced
 * @length:   as pciedma_request_part() said
 *
 * Context: process.
 */
void pciedma_request_take_part(struct pciedma_request *request, struct pciedma_transfer *transfer,
			       struct iov_iter *iter, size_t length)
{
	struct pciedma_part *part = &request->part;
	size_t into = pciedma_piece_first(iter).address - part->address;

	pciedma_mem_get(&part->buffer->mem);
	pciedma_buffer_for_device(part->buffer, part->offset + into, length);
	pciedma_transfer_take(transfer, part->buffer, part->offset + into, length);
	iov_iter_advance(iter, length);
}
