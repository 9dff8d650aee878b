"""Card memory under load: all ways, directions, lengths and alignments mixed, every byte checked."""

from __future__ import annotations

import pytest

from .conftest import Lab

MIB = 1 << 20
WAYS = {"pread", "readv", "aio", "io_uring", "io_uring_fixed"}


@pytest.mark.parametrize("wait_mode", ["INTERRUPT", "POLL", "ADAPTIVE"])
def test_mixed_load_of_one_process_is_right(lab: Lab, wait_mode: str) -> None:
    found = lab.verified_load("mixed", base=12345, span=4 * MIB + 1, total=100 * MIB, wait_mode=wait_mode)
    assert set(found["calls"]) == WAYS


def test_mixed_load_of_four_processes_beyond_4_gib_is_right(lab: Lab) -> None:
    base = (4 << 30) - 5 * MIB
    found = lab.verified_load("together", workers=4, base=base, span=2 * MIB + 3, total=50 * MIB, longest=MIB // 2)
    assert set(found["calls"]) == WAYS


def test_mixed_load_of_small_requests_is_right(lab: Lab) -> None:
    lab.verified_load("together", workers=2, base=1, span=MIB // 2, seconds=4, longest=5000, depth=32)


@pytest.mark.parametrize("kind", ["straddling", "file_shared"])
def test_mixed_load_in_odd_memory_is_right(lab: Lab, kind: str) -> None:
    ways = sorted(WAYS - {"io_uring_fixed"})
    lab.verified_load("mixed", base=0, span=4 * MIB, total=60 * MIB, kinds=[kind], ways=ways)


def test_mixed_load_with_odd_timing_is_right(lab: Lab) -> None:
    for fault in ("jitter=0-400", "early_completion", "duplicate_interrupt"):
        lab.xdma.control.set_fault(fault)
    lab.verified_load("together", workers=2, base=777, span=2 * MIB, total=40 * MIB)


def test_copy_of_256_mib_each_way_is_right(lab: Lab) -> None:
    found = lab.call("verified_load:checked_copy", 300, path=lab.memory, length=256 * MIB, address=(8 << 30) + 1)
    assert found["wrong"] == 0, found["first_error"]
    assert found["bytes"] == {"write": 256 * MIB, "read": 256 * MIB}
