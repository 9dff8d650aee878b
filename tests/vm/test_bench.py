"""The benchmark measures, and its figures show what they must."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from pciedma_lab import bench_table, modules, project
from pciedma_lab.bench_measure import Bench, measure, measure_row, ready
from pciedma_lab.bench_plan import INSTRUCTIONS, KIB, Case
from pciedma_lab.bench_profile import profile_row
from pciedma_lab.instruction_log import USER, read_symbols

from .conftest import KERNEL

pytestmark = pytest.mark.stock_kernel  # it is about the lab

#: Requests that are counted.
PLAIN = Case("icount", 4 * KIB, wait_mode="INTERRUPT")
LARGE = replace(PLAIN, length=64 * KIB)


@pytest.fixture(scope="module")
def counting() -> Iterator[Bench]:
    """A machine that counts instructions."""
    modules.build(KERNEL)
    with ready(KERNEL, "icount") as bench:
        yield bench


@pytest.fixture(scope="module")
def counted(counting: Bench) -> Callable[[Case], dict[str, Any]]:
    """What measures a row on that machine, once."""
    return functools.cache(functools.partial(measure_row, counting))


def test_direct_costs_fewer_instructions_than_the_copy(counted: Callable[[Case], dict[str, Any]]) -> None:
    direct, copy = (counted(replace(LARGE, path=path)) for path in ("direct", "copy"))
    for figure in INSTRUCTIONS:
        assert 0 < direct[figure] < copy[figure]
    assert direct["instructions_page"] == pytest.approx(direct["instructions_all"] / 16, abs=0.2)
    assert direct["instructions"] < direct["instructions_all"]
    assert direct["throughput_mb_s"] is None
    assert direct["requests"] == copy["requests"] == 1000
    assert direct["mmio_reads"] == 0
    assert direct["mmio_writes"] == 2


@pytest.mark.parametrize("way", ["aio", "io_uring"])
def test_several_at_a_time_cost_fewer_instructions_and_interrupts_each(
    counted: Callable[[Case], dict[str, Any]], way: str
) -> None:
    one, eight = counted(PLAIN), counted(replace(PLAIN, way=way, depth=8))
    assert one["interrupts"] == 1
    assert eight["interrupts"] < 0.5
    for figure in INSTRUCTIONS:
        assert 0 < eight[figure] < one[figure]


def test_profile_tells_where_the_instructions_are_that_are_counted(
    counting: Bench, counted: Callable[[Case], dict[str, Any]]
) -> None:
    row = counted(PLAIN)
    found = profile_row(counting, PLAIN, read_symbols(counting.vm), requests=40)
    assert sum(found.functions.values()) == pytest.approx(row["instructions_all"], rel=0.1)
    assert found.thread == pytest.approx(row["instructions"], rel=0.1)
    ours = sum(count for name, count in found.functions.items() if "[pciedma" in name)
    assert 0.1 < ours / row["instructions_all"] < 0.9
    assert abs(found.functions[USER]) < 0.05 * row["instructions_all"]


def test_state_of_the_driver_costs_what_itself_does(counted: Callable[[Case], dict[str, Any]]) -> None:
    other = modules.modules_in(modules.build_folder(KERNEL, project.FOLDER / "src"))
    row = bench_table.compared(counted(LARGE), *measure(KERNEL, LARGE.boot, [LARGE], other))
    assert row["beside"]["instructions_all"] > row["beside"]["instructions"] > 1000
    for figure in INSTRUCTIONS:
        assert row["ratio"][figure] == pytest.approx(1, abs=0.03)
    for figure, value in (("mmio_reads", 0), ("mmio_writes", 2), ("interrupts", 1), ("descriptors", 1)):
        assert row[figure] == row["beside"][figure] == value, figure


def test_rows_have_all_figures() -> None:
    plain = Case("strict", 64 * KIB)
    sync, four, whole = measure(KERNEL, "strict", [plain, replace(plain, channels=4), replace(plain, pages="huge")])
    for row in (sync, four, whole):
        assert 0 < row["share"] < 1
        assert 0 < row["p50_us"] <= row["p99_us"]
        assert 0 <= row["idle_share"] < 1
        assert row["mmio_reads"] <= row["interrupts"] <= 1
        assert row["instructions"] is row["instructions_all"] is None
        assert row["descriptors"] == 1  # whatever the pages: the IOMMU shows them to the card in one piece
    assert four["link_mb_s"] == 4 * sync["link_mb_s"]
