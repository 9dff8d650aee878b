"""The verdict: what a kernel's log may say, and that silence is not enough."""

from __future__ import annotations

import pytest

from pciedma_lab import verdict

SENTINEL = "the end"
CLEAN = "[    1.000000] pciedma: hello\n"
WARNED = "[    2.000000] WARNING: CPU: 0 PID: 1 at drivers/pci/x.c:1 f+0x1/0x2\n"
TAINT_OUT_OF_TREE, TAINT_WARN, TAINT_DIE = 1 << 12 | 1 << 13, 1 << 9, 1 << 7


@pytest.mark.parametrize(
    "message",
    [
        "WARNING: CPU: 0 PID: 1 at f+0x1/0x2",
        "BUG: kernel NULL pointer dereference, address: 0000000000000000",
        "Oops: 0002 [#1] PREEMPT SMP NOPTI",
        "Call Trace:",
        "INFO: task cat:12 blocked for more than 120 seconds.",
        "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
        "watchdog: BUG: soft lockup - CPU#1 stuck for 26s!",
        "DMAR: [DMA Write NO_PASID] Request device [00:09.0] fault addr 0xfff [fault reason 0x05]",
        "DMA-API: pciedma_capric 0000:01:00.0: device driver frees DMA memory with wrong size",
        "BUG: KASAN: slab-use-after-free in f+0x1/0x2",
        "refcount_t: underflow; use-after-free.",
        'irq 24: nobody cared (try booting with the "irqpoll" option)',
        "general protection fault, probably for non-canonical address 0xdead: 0000 [#1]",
        "Kernel panic - not syncing: Fatal exception",
        "INFO: lockdep is turned off.",
        "WARNING: possible circular locking dependency detected",
        "WARNING: suspicious RCU usage",
        "BUG: sleeping function called from invalid context at kernel/locking/mutex.c:578",
        "UBSAN: array-index-out-of-bounds in src/core/engine.c:1:2",
        "ODEBUG: free active (active state 0) object: ffff888000000000 object type: timer_list hint: f+0x0/0x1",
        "list_del corruption. prev->next should be ffff1, but was ffff2",
        "DMA-API: pciedma_xdma 0000:02:00.0: cacheline tracking EEXIST, overlapping mappings aren't supported",
        "DMA-API: pci 0000:00:09.0: device driver failed to check map error[device address=0x00000000fffff000]",
        "DMA-API: debugging out of memory - disabling",
        "WARNING: possible recursive locking detected",
        "WARNING: inconsistent lock state",
        "WARNING: held lock freed!",
        "WARNING: bad unlock balance detected!",
        "INFO: trying to register non-static key. The code is fine but needs lockdep annotation, or maybe",
        "BUG: MAX_LOCKDEP_CHAINS too low!",
        "BUG: scheduling while atomic: insmod/78/0x00000002",
        "BUG: workqueue lockup - pool cpus=1 node=0 flags=0x0 nice=0 stuck for 31s!",
        "BUG: KASAN: slab-out-of-bounds in probe_init+0xb3/0x1000 [pciedma_probe]",
        "UBSAN: shift-out-of-bounds in src/core/window.c:1:2",
        "ODEBUG: Out of memory. ODEBUG disabled",
        "kmemleak: Cannot allocate a kmemleak_object structure",
        "kmemleak: Kernel memory leak detector disabled",
        "unreferenced object 0xffff888004b2d700 (size 128):",
        "BUG: Bad page state in process python3  pfn:0a1b2",
        "kernel BUG at lib/list_debug.c:56!",
        "Oops: general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1] PREEMPT SMP",
        "traps: PANIC: double fault, error_code: 0x0; BUG",
        "traps: python3[77] general protection fault ip:ffffffff81000000 sp:ffffc90000000000 error:0",
        "BUG: unable to handle page fault for address: ffffc90000abc000; python3[77]: segfault at 0 ip 0 sp 0",
    ],
)
def test_suspicious_line_is_found(message: str) -> None:
    line = f"[   12.345678] {message}"
    assert verdict.suspicious(f"{CLEAN}{line}\n") == [line]


@pytest.mark.parametrize(
    "line",
    [
        "[    0.050000] RETBleed: WARNING: Spectre v2 mitigation leaves CPU vulnerable to RETBleed attacks",
        "[    4.250519] pciedma: loading out-of-tree module taints kernel.",
        "[    0.100000] rcu: Hierarchical RCU implementation.",
        "[    0.060000] DMAR: IOMMU enabled",
        "[    0.500971] kasan: KernelAddressSanitizer initialized",
        "[    1.727138] rcu: \tRCU lockdep checking is enabled.",
        "[    2.122842] ... MAX_LOCKDEP_ENTRIES:     32768",
        "[    3.468779] DMA-API: preallocated 65536 debug entries",
        "[    3.470012] DMA-API: debugging enabled by kernel config",
        "[    9.000000] DMA-API: dma_debug_entry pool grown to 131072 (200%)",
        "[   64.640206] kmemleak: Kernel memory leak detector initialized (mem pool available: 15082)",
        "[  664.000000] kmemleak: 1 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
        "WARNING: a program says this on the console",
        "[   58.736538]  ? lockdep_hardirqs_on_prepare+0x37b/0x3a0",
        "[    9.000000] traps: python3[77] general protection fault ip:7f1eb0a6e000 sp:7ffc96 error:0 in _x.so[2000]",
        "[    9.000000] traps: BUG: Oops[77] general protection fault ip:5581 sp:7ffc96 error:0",
        "[    9.000000] traps: WARNING: x[78] trap invalid opcode ip:401000 sp:7ffc96 error:0 in x[401000+1000]",
        "[    9.000000] kernel BUG at[78]: segfault at 0 ip 000055d0b1c2d139 sp 00007ffd04 error 6 in a[139,55d0+10]",
        "[   58.740911]  kasan_report.part.0+0xb0/0x110",
    ],
)
def test_harmless_line_is_passed(line: str) -> None:
    assert verdict.suspicious(line) == []


def test_mitigation_names_do_not_excuse_other_lines() -> None:
    assert verdict.suspicious("[    9.000000] WARNING: CPU: 0 PID: 1 at MDS: x")


def test_judge_clean_run_has_no_problem() -> None:
    assert verdict.judge(CLEAN, CLEAN + SENTINEL, TAINT_OUT_OF_TREE, SENTINEL) == []


def test_judge_without_sentinel_fails() -> None:
    assert verdict.judge(CLEAN, CLEAN, TAINT_OUT_OF_TREE, SENTINEL) == ["the guest did not say that it ends in order"]


def test_judge_warning_only_on_the_console_fails() -> None:
    assert verdict.judge(CLEAN, CLEAN + WARNED + SENTINEL, 0, SENTINEL) == [WARNED.rstrip()]


@pytest.mark.parametrize("bit", [TAINT_WARN, TAINT_DIE])
def test_judge_taint_without_a_line_fails(bit: int) -> None:
    assert verdict.judge(CLEAN, SENTINEL, TAINT_OUT_OF_TREE | bit, SENTINEL) == [f"the kernel is tainted: {bit:#x}"]


def test_judge_expected_warning_passes_with_its_taint() -> None:
    assert verdict.judge(WARNED, WARNED + SENTINEL, TAINT_WARN, SENTINEL, ["drivers/pci/x.c:1"]) == []


def test_judge_expected_warning_does_not_excuse_an_oops_taint() -> None:
    assert verdict.judge(WARNED, SENTINEL, TAINT_DIE, SENTINEL, ["x.c:1"]) == [f"the kernel is tainted: {TAINT_DIE:#x}"]


def test_judge_end_passes_a_power_off_only() -> None:
    assert verdict.judge_end("guest-shutdown") == []
    for reason in ("guest-reset", "guest-panic", "host-signal", "QmpError('QEMU has ended')"):
        assert verdict.judge_end(reason) == [f"the guest did not power off: {reason}"]


def test_judge_expected_report_of_kasan_excuses_its_flags_alone() -> None:
    log = CLEAN + "[    9.000000] BUG: KASAN: slab-use-after-free in acpi_ns_get_attached_object+0x71/0xc0\n"
    tainted, expected = TAINT_OUT_OF_TREE | 1 << 5 | 1 << 9, ["KASAN: .* in acpi_"]
    assert verdict.judge(log, log + SENTINEL, tainted, SENTINEL, expected) == []
    assert verdict.judge(CLEAN, log + SENTINEL, tainted, SENTINEL, expected) == []  # dmesg has forgotten it
    assert len(verdict.judge(log, log + SENTINEL, tainted, SENTINEL)) == 2
    assert len(verdict.judge(log, log + SENTINEL, tainted | 1 << 7, SENTINEL, expected)) == 1
