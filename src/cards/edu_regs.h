/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Registers of QEMU's edu device (BAR0, 1 MiB, little-endian), after QEMU's
 * specification of the device and its behaviour. Below 0x80 only 32-bit
 * accesses exist; above, a 32-bit write clears the register's high half.
 */
#ifndef EDU_REGS_H
#define EDU_REGS_H

#include <linux/bits.h>

#define EDU_VENDOR_ID		0x1234
#define EDU_DEVICE_ID		0x11e8
#define EDU_BAR			0
#define EDU_BAR_LENGTH		0x100000

#define EDU_IDENT		0x00
#define EDU_IDENT_MAGIC		GENMASK(15, 0)
#define EDU_IDENT_MAGIC_VALUE	0x00ed

#define EDU_IRQ_STATUS		0x24
#define EDU_IRQ_ACK		0x64
#define EDU_IRQ_DMA		BIT(8)

#define EDU_DMA_SOURCE		0x80
#define EDU_DMA_DESTINATION	0x88
#define EDU_DMA_COUNT		0x90
#define EDU_DMA_COMMAND		0x98
#define EDU_DMA_RUN		BIT(0)
#define EDU_DMA_TO_RAM		BIT(1)
#define EDU_DMA_IRQ		BIT(2)

#define EDU_MEMORY		0x40000	/* the device's own address of its memory */
#define EDU_MEMORY_LENGTH	4096
#define EDU_ADDRESS_BITS	28
#define EDU_DMA_MS		100	/* each DMA takes this long, and cannot be aborted */

#endif /* EDU_REGS_H */
