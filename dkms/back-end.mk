# SPDX-License-Identifier: GPL-2.0-only
# What the Kbuild of a back end outside this tree includes: where the headers are, and the symbols of the core that DKMS
# has installed for the kernel.

pciedma-headers := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))include
ccflags-y += -I$(pciedma-headers)

pciedma-symbols := /var/lib/dkms/pciedma/kernel-$(KERNELRELEASE)-$(UTS_MACHINE)/module/Module.symvers
KBUILD_EXTRA_SYMBOLS += $(pciedma-symbols)

ifeq ($(wildcard $(pciedma-symbols))$(filter %/Makefile.clean,$(MAKEFILE_LIST)),)
$(error pciedma-dkms has installed no modules for kernel $(KERNELRELEASE): there is no $(pciedma-symbols))
endif
