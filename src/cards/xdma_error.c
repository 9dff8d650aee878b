// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an XDMA engine's status says of an error, in words.
 */
#include <linux/bitfield.h>

#include "xdma.h"

/* What went wrong, by an engine's status. */
const char *xdma_error_name(u32 status, bool h2c)
{
	static const char * const pcie[] = {
		"unsupported request", "completer abort", "parity", "poisoned",
		"unexpected completion",
	};
	static const char * const axi[] = { "decode error", "slave error" };
	u32 on_pcie = FIELD_GET(STATUS_DESCRIPTOR_ERROR, status);
	u32 on_axi = FIELD_GET(STATUS_WRITE_ERROR, status);

	if (h2c)
		on_pcie |= FIELD_GET(STATUS_READ_ERROR, status);
	else
		on_axi |= FIELD_GET(STATUS_READ_ERROR, status);
	if (status & STATUS_MAGIC_STOPPED)
		return "bad magic in a descriptor";
	if (status & (STATUS_ALIGN_MISMATCH | STATUS_INVALID_LENGTH))
		return "alignment or length";
	if (on_pcie)
		return pcie[__ffs(on_pcie)];
	return on_axi && __ffs(on_axi) < ARRAY_SIZE(axi) ? axi[__ffs(on_axi)] : "unknown";
}

/* What the engine was doing then. */
const char *xdma_error_place(u32 status, bool h2c)
{
	if (status & STATUS_DESCRIPTOR_ERROR)
		return "fetching a descriptor";
	if (status & STATUS_READ_ERROR)
		return h2c ? "reading host memory" : "reading card memory";
	if (status & STATUS_WRITE_ERROR)
		return "writing card memory";
	return "checking a descriptor";
}
