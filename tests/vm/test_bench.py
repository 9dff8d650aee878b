"""The benchmark measures, and its figures show what they must."""

from __future__ import annotations

from typing import Any

import pytest

from pciedma_lab import bench_command
from pciedma_lab.bench_plan import Case

from .conftest import KERNEL

pytestmark = pytest.mark.stock_kernel  # it is about the lab

KIB = 1 << 10


def measure(*cases: Case) -> list[dict[str, Any]]:
    return bench_command.measure(KERNEL, cases[0].boot, cases)


def test_direct_costs_fewer_instructions_than_the_copy() -> None:
    counted = Case("icount", 64 * KIB, wait_mode="INTERRUPT")
    direct, copy, deep = measure(
        counted,
        Case("icount", 64 * KIB, wait_mode="INTERRUPT", path="copy"),
        Case("icount", 64 * KIB, wait_mode="INTERRUPT", way="io_uring", depth=8),
    )
    assert 0 < direct["instructions"] < copy["instructions"]
    assert deep["interrupts"] <= 1
    assert direct["throughput_mb_s"] is None
    assert [row["requests"] for row in (direct, copy, deep)] == [50] * 3
    assert direct["mmio_reads"] == 0
    assert direct["mmio_writes"] <= 2


def test_rows_have_all_figures() -> None:
    huge = Case("strict", 64 * KIB, pages="huge")
    sync, four, whole = measure(Case("strict", 64 * KIB), Case("strict", 64 * KIB, channels=4), huge)
    for row in (sync, four, whole):
        assert 0 < row["share"] < 1
        assert 0 < row["p50_us"] <= row["p99_us"]
        assert 0 <= row["idle_share"] < 1
        assert row["mmio_reads"] <= row["interrupts"] <= 1
        assert row["instructions"] is None
        assert row["descriptors"] == 1  # whatever the pages: the IOMMU shows them to the card in one piece
    assert four["link_mb_s"] == 4 * sync["link_mb_s"]
