/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Registers and memory formats of AMD/Xilinx's DMA/Bridge Subsystem for PCI
 * Express. Source: AMD product guide PG195.
 */
#ifndef PCIEDMA_XDMA_REGS_H
#define PCIEDMA_XDMA_REGS_H

#include <linux/bits.h>
#include <linux/types.h>

#define XDMA_VENDOR_ID			0x10ee

#define XDMA_CHANNELS			4	/* at most, each way */
#define XDMA_USER_IRQS			16
#define XDMA_BAR_MIN			0x8000
#define XDMA_BAR_MAX			0x10000

/* Blocks; those of channels are XDMA_CHANNEL_STRIDE apart */
#define XDMA_H2C			0x0000
#define XDMA_C2H			0x1000
#define XDMA_IRQ			0x2000
#define XDMA_CONFIG			0x3000
#define XDMA_SGDMA			0x4000	/* from a channel's registers to its others */
#define XDMA_COMMON			0x6000
#define XDMA_CHANNEL_STRIDE		0x100

#define IDENTIFIER			0x00
#define   IDENTIFIER_TARGET			GENMASK(31, 16)
#define     TARGET_H2C				0x1fc0
#define     TARGET_C2H				0x1fc1
#define     TARGET_IRQ				0x1fc2
#define     TARGET_CONFIG			0x1fc3
#define   IDENTIFIER_STREAM			BIT(15)
#define   IDENTIFIER_CHANNEL			GENMASK(11, 8)
#define   IDENTIFIER_VERSION			GENMASK(7, 0)
#define     VERSION_2016_1			2

/* Channels */
#define CONTROL				0x04
#define CONTROL_W1C			0x0c
#define   CONTROL_RUN				BIT(0)
#define   CONTROL_IE_ALIGN_MISMATCH		BIT(3)
#define   CONTROL_NON_INC			BIT(25)
#define   CONTROL_POLLMODE_WB			BIT(26)
#define STATUS				0x40
#define STATUS_CLEARED			0x44	/* the same; reading clears it */
#define COMPLETED_COUNT			0x48
#define ALIGNMENTS			0x4c
#define   ALIGNMENTS_ADDRESS			GENMASK(23, 16)
#define   ALIGNMENTS_LENGTH			GENMASK(15, 8)
#define   ALIGNMENTS_ADDRESS_BITS		GENMASK(7, 0)
#define POLL_ADDRESS_LO			0x88
#define POLL_ADDRESS_HI			0x8c
#define IRQ_MASK			0x90
#define IRQ_MASK_W1S			0x94
#define IRQ_MASK_W1C			0x98

/* The same bits in CONTROL (logged), STATUS (happened) and IRQ_MASK (interrupts) */
#define STATUS_BUSY				BIT(0)	/* STATUS only */
#define STATUS_DESCRIPTOR_STOPPED		BIT(1)
#define STATUS_DESCRIPTOR_COMPLETED		BIT(2)
#define STATUS_ALIGN_MISMATCH			BIT(3)
#define STATUS_MAGIC_STOPPED			BIT(4)
#define STATUS_INVALID_LENGTH			BIT(5)
#define STATUS_IDLE_STOPPED			BIT(6)
#define STATUS_READ_ERROR			GENMASK(13, 9)
#define STATUS_WRITE_ERROR			GENMASK(18, 14)	/* H2C only */
#define STATUS_DESCRIPTOR_ERROR			GENMASK(23, 19)

/* SGDMA */
#define FIRST_DESCRIPTOR_LO		0x80
#define FIRST_DESCRIPTOR_HI		0x84
#define FIRST_ADJACENT			0x88
#define CREDITS				0x8c
#define   CREDITS_MAX				1023

/* SGDMA common; H2C channels from bit 0, C2H channels from bit 16 */
#define CREDIT_ENABLE			0x20
#define CREDIT_ENABLE_W1S		0x24
#define CREDIT_ENABLE_W1C		0x28
#define   CREDIT_C2H_SHIFT			16

/* IRQ block; channels packed: H2C from bit 0, C2H behind the last H2C that there is */
#define USER_ENABLE			0x04
#define USER_ENABLE_W1S			0x08
#define USER_ENABLE_W1C			0x0c
#define CHANNEL_ENABLE			0x10
#define CHANNEL_ENABLE_W1S		0x14
#define USER_REQUEST			0x40
#define USER_VECTORS			0x80
#define CHANNEL_VECTORS			0xa0
#define   VECTORS_PER_REGISTER			4
#define   VECTOR_BITS				8

/**
 * struct xdma_descriptor - what the engine fetches; must be 32-byte aligned
 * @control:     magic, extra descriptors adjacent to the next one, flags
 * @length:      bytes
 * @source:      H2C: host's address; C2H: card's
 * @destination: H2C: card's address; C2H: host's
 * @next:        address of the next descriptor
 */
struct xdma_descriptor {
	__le32 control;
	__le32 length;
	__le64 source;
	__le64 destination;
	__le64 next;
};

#define DESCRIPTOR_MAGIC		0xad4b0000
#define DESCRIPTOR_ADJACENT			GENMASK(13, 8)
#define   ADJACENT_MAX				63
#define DESCRIPTOR_COMPLETED			BIT(1)
#define DESCRIPTOR_STOP				BIT(0)
#define DESCRIPTOR_BLOCK		4096	/* adjacent descriptors cross no such boundary */
#define DESCRIPTOR_LENGTH_MAX		0x0ffff000	/* 28 bits, whole pages */

/* What the engine writes in poll mode */
#define RECORD_ERROR				BIT(31)
#define RECORD_COUNT				GENMASK(23, 0)

#endif /* PCIEDMA_XDMA_REGS_H */
