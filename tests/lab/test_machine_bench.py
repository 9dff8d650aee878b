"""The benchmark's rows and its report."""

from __future__ import annotations

import re
from dataclasses import asdict
from html.parser import HTMLParser
from typing import Any

import pytest

from pciedma_lab import bench_report
from pciedma_lab.bench_command import BOOTS
from pciedma_lab.bench_plan import Case, cases

PLAN = [case for boot in BOOTS for case in cases(boot)]


def row(case: Case, value: float = 0.5) -> dict[str, Any]:
    figures = ("share", "p50_us", "idle_share", "instructions", "descriptors")
    return {"kernel": "6.12 <x>", **asdict(case), **dict.fromkeys(figures, value)}


class Page(HTMLParser):
    """Counts the elements, and finds what would be loaded from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.loads: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.loads += [name for name, _ in attrs if name in ("src", "href", "xlink:href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_there_are_about_120_rows_and_none_twice() -> None:
    assert 110 <= len(PLAN) <= 130
    assert len({*PLAN}) == len(PLAN)


@pytest.mark.parametrize(
    ("name", "values"),
    [("path", {"copy", "direct"}), ("channels", {1, 4}), ("wait_mode", {"INTERRUPT", "POLL", "ADAPTIVE"}),
     ("pages", {"small", "huge"}), ("boot", {*BOOTS}), ("direction", {"read", "write"})],
)  # fmt: skip
def test_rows_cover_every_choice(name: str, values: set[Any]) -> None:
    assert {getattr(case, name) for case in PLAN} == values


def test_rows_reach_from_64_bytes_to_256_mib_and_a_queue_of_8() -> None:
    assert (min(case.length for case in PLAN), max(case.length for case in PLAN)) == (64, 256 << 20)
    assert {(case.way, case.depth) for case in PLAN} == {("sync", 1), ("io_uring", 8), ("io_uring_fixed", 8)}


def test_report_has_all_plots_and_rows_and_loads_nothing() -> None:
    page = Page(bench_report.html([row(case) for case in PLAN]))
    assert page.open == []
    assert page.elements.count("svg") == len(bench_report.PLOTS)
    assert page.elements.count("tr") == len(PLAN) + 1
    assert page.loads == []


def test_report_draws_a_point_for_each_row_of_a_line() -> None:
    for plot in bench_report.PLOTS:
        points = plot.points([row(case) for case in PLAN])
        assert {*points} == {*plot.lines}
        for line in points.values():
            lengths = [length for length, _ in line]
            assert len(lengths) >= 2
            assert sorted({*lengths}) == lengths


def test_report_leaves_out_what_was_not_measured() -> None:
    rows = [row(case) | {"instructions": None} for case in cases("off")]
    page = Page(bench_report.html(rows))
    assert 0 < page.elements.count("svg") < len(bench_report.PLOTS)


def test_report_escapes_what_it_quotes() -> None:
    text = bench_report.html([row(PLAN[0])])
    assert "6.12 &lt;x&gt;" in text
    assert "<x>" not in text


def test_report_puts_points_inside_the_plot() -> None:
    rows = [row(case, value) for case, value in zip(PLAN, [0, 0.001, 1, 3000, 1e7] * 30, strict=False)]
    centres = re.findall(r"<circle cx='([\d.-]+)' cy='([\d.-]+)' r='4'", bench_report.html(rows))
    assert centres
    assert all(0 <= float(x) <= 620 and 0 <= float(y) <= 330 for x, y in centres)


@pytest.mark.parametrize(("length", "text"), [(64, "64 B"), (4096, "4 KiB"), (1 << 20, "1 MiB"), (1536, "1.5 KiB")])
def test_sizes_are_short(length: int, text: str) -> None:
    assert bench_report.size(length) == text
