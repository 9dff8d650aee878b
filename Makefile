# SPDX-License-Identifier: MIT
# Everything that one does with this project; `make help` lists it.

LAB := PYTHONPATH=python python3 -m pciedma_lab
PYTEST := $(LAB) tools -- python3 -m pytest -p no:cacheprovider
# Each of so many processes runs its share of the tests, with machines of its own, which have two processors each.
JOBS := 2
IN_PARALLEL := -n $(JOBS) --dist worksteal
KERNELS := bookworm trixie backports

.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

.PHONY: demo
demo: mmdebstrap ## build, boot a real kernel with emulated cards, move checked data, print figures
	$(LAB) demo

.PHONY: bench
bench: mmdebstrap ## measure about 150 kinds of requests; build/bench.json and build/bench.html
	$(LAB) bench

# The debug kernel is built, where there is none yet, before the machine that most tests share runs: its time is limited.
.PHONY: check
check: KERNELS += debug
check: lint docs modules ## what CI runs: lint, documentation, modules for all kernels, all tests
	$(PYTEST) $(IN_PARALLEL) tests/lab tests/python tests/vm

.PHONY: check-debug
check-debug: mmdebstrap ## the virtual machine tests on a debug kernel: any report fails; the driver's line coverage
	rm -rf build/vm/debug-*
	PCIEDMA_KERNEL=debug PCIEDMA_SOAK_MESSAGES=2000 PCIEDMA_SOAK_ABORTS=400 PCIEDMA_SOAK_EDU_ABORTS=10 \
	PCIEDMA_SOAK_LOAD_MIB=64 PCIEDMA_SOAK_UNBINDS=18 PCIEDMA_SOAK_DEVICE_DELS=6 PCIEDMA_SOAK_DEATHS=4 PCIEDMA_SOAK_CYCLES=10000 \
	$(PYTEST) $(IN_PARALLEL) tests/vm -m "not stock_kernel" --junit-xml=build/debug/tests.xml
	$(LAB) coverage --tests build/debug/tests.xml

.PHONY: check-kernels
check-kernels: mmdebstrap ## modules for every kernel, arm64 too, the tests on each; KERNELS_CHECKED="trixie ..."
	$(LAB) kernels $(KERNELS_CHECKED:%=--kernel %)

.PHONY: unit
unit: mmdebstrap ## the tests that need no virtual machine
	$(PYTEST) $(IN_PARALLEL) tests/lab tests/python

.PHONY: soak
soak: mmdebstrap ## 1,000,000 messages, 100,000 aborts, 10 GiB of mixed load; 900 unbinds, 50 unplugs, 50 deaths under load
	PCIEDMA_SOAK_MESSAGES=1000000 PCIEDMA_SOAK_ABORTS=100000 PCIEDMA_SOAK_EDU_ABORTS=300 \
	PCIEDMA_SOAK_LOAD_MIB=10240 PCIEDMA_SOAK_UNBINDS=900 PCIEDMA_SOAK_DEVICE_DELS=50 PCIEDMA_SOAK_DEATHS=50 \
	PCIEDMA_SOAK_CYCLES=10000 PCIEDMA_SOAK_UNPLUGS=20 \
	PCIEDMA_TIME_LIMIT_S=14400 $(PYTEST) tests/vm/test_soak.py

.PHONY: lint
lint: mmdebstrap ## checkpatch, sparse, W=1, ruff, mypy, the layers of core
	$(LAB) lint

.PHONY: docs
docs: mmdebstrap ## the documentation: build/docs/html and build/docs/man
	$(LAB) docs

.PHONY: format
format: mmdebstrap ## sort imports and mend what ruff can mend
	$(LAB) tools -- ruff check --fix python tests docs examples

.PHONY: modules
modules: mmdebstrap ## build the modules for the lab's kernels; with KDIR=... for that kernel tree, without the lab
	$(if $(KDIR),$(MAKE) -C $(KDIR) M=$(CURDIR)/src clean modules,$(LAB) modules $(KERNELS:%=--kernel %))

.PHONY: deb
deb: mmdebstrap ## the Debian packages, for Debian 12 and 13, built twice and compared; dist/
	$(LAB) deb

.PHONY: check-install
check-install: deb ## install, upgrade and remove the packages on Debian 12 and 13, and run their own tests
	$(PYTEST) tests/install

.PHONY: clean
clean: ## remove what was built here; downloads stay in the cache
	rm -rf build dist python/*.egg-info .mypy_cache .pytest_cache .ruff_cache
	find src -name '*.o' -o -name '*.ko' -o -name '*.mod*' -o -name '.*.cmd' -o -name '.*.d' -o -name modules.order \
	     -o -name Module.symvers | xargs rm -f
	find python tests -name __pycache__ -prune -exec rm -rf {} +

.PHONY: mmdebstrap
mmdebstrap:
ifndef KDIR
	@command -v mmdebstrap >/dev/null || { \
		if [ "$$(id -u)" = 0 ]; then \
			apt-get update -qq && apt-get install -y -qq --no-install-recommends mmdebstrap uidmap; \
		else \
			echo 'mmdebstrap is missing; install it with:'; \
			echo '  sudo apt-get install mmdebstrap uidmap'; \
			exit 1; \
		fi; }
endif
