/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Capric's registers (BAR0, 256 bytes, little-endian, 32-bit accesses).
 *
 * Put together from chapter 12 of Wang Qi's book on the PCI Express
 * architecture. "(inferred)": our decision where the book is silent or
 * contradicts itself; check it on a real card.
 */
#ifndef CAPRIC_REGS_H
#define CAPRIC_REGS_H

#include <linux/bits.h>

#define CAPRIC_VENDOR_ID	0x10ee
#define CAPRIC_DEVICE_ID	0x0007
#define CAPRIC_SUBVENDOR_ID	0x10ee	/* (inferred) */
#define CAPRIC_SUBDEVICE_ID	0x0007	/* (inferred) */
#define CAPRIC_BAR		0
#define CAPRIC_BAR_LENGTH	256

#define DCSR1			0x00
#define DCSR1_INIT_RST_O	BIT(0)	/* holds the card in reset */
#define DCSR1_INT_RD_ENB	BIT(8)	/* interrupt when a DMA read (H2C) is done */
#define DCSR1_INT_WR_ENB	BIT(9)	/* interrupt when a DMA write (C2H) is done */

#define DCSR2			0x04	/* start bits beside W1C bits: never read-modify-write */
#define DCSR2_MWR_START		BIT(0)
#define DCSR2_MRD_START		BIT(16)

#define WR_DMA_ADR		0x08	/* host bus address that a DMA write fills */
#define WR_DMA_SIZE		0x0c	/* 1 to 0x7ff bytes */
#define RD_DMA_ADR		0x1c	/* host bus address that a DMA read fetches */
#define RD_DMA_SIZE		0x20

#define INT_REG			0x2c
#define INT_REG_RD_DONE_CLR	BIT(8)	/* W1C */
#define INT_REG_WR_DONE_CLR	BIT(9)	/* W1C */
#define INT_REG_INT_ASSERTED	BIT(31)	/* int_src_rd OR int_src_wr (inferred) */

#define ERR			0x30	/* read-only (inferred) */
#define ERR_UNEXPECTED		BIT(0)	/* unexpected completion (inferred) */
#define ERR_UR			BIT(1)	/* completion with status UR (inferred) */
#define ERR_CA			BIT(2)	/* completion with status CA (inferred) */

#define CAPRIC_DMA_MAX		0x7ff	/* the size field has 11 bits */
#define CAPRIC_RESET_US		5	/* least time in reset */

#endif /* CAPRIC_REGS_H */
