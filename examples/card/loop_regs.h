/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Loop's registers (BAR0, 4096 bytes, little-endian, 32-bit accesses), and where those of its
 * user's logic are.
 */
#ifndef LOOP_REGS_H
#define LOOP_REGS_H

#include <linux/bits.h>

#define LOOP_VENDOR_ID		0x1234
#define LOOP_DEVICE_ID		0x100b
#define LOOP_BAR		0
#define LOOP_BAR_LENGTH		4096
#define LOOP_USER_BAR		1

#define ID			0x00
#define ID_LOOP			0x4c4f4f50

#define COMMAND			0x04	/* one bit at a time; reads 0 */
#define COMMAND_START_H2C	BIT(0)
#define COMMAND_START_C2H	BIT(1)
#define COMMAND_ABORT		BIT(2)

#define STATUS			0x08
#define STATUS_BUSY		BIT(0)	/* may touch host memory */
#define STATUS_DONE		BIT(1)	/* W1C */
#define STATUS_COUNT		GENMASK(28, 16)

#define INTERRUPT		0x0c
#define INTERRUPT_ENABLE	BIT(0)

#define HOST_LOW		0x10
#define HOST_HIGH		0x14
#define CARD			0x18
#define LENGTH			0x1c

#define LOOP_MEMORY_LENGTH	65536
#define LOOP_DMA_MAX		4096
#define LOOP_ABORT_US		50000	/* most time from an abort until it is not busy */

#endif /* LOOP_REGS_H */
