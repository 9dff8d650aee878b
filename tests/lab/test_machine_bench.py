"""The benchmark's rows and its report."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pciedma_lab import bench_command, bench_measure, bench_report, bench_table, modules
from pciedma_lab.bench_plan import BOOTS, DEPTHS, FIGURES, KIB, MIB, Case, cases, size
from pciedma_lab.bench_profile import Profile
from pciedma_lab.cache import LabError
from pciedma_lab.guest import counting
from pciedma_lab.instruction_log import USER, Stretches, Symbols

PLAN = [case for boot in BOOTS for case in cases(boot)]


def row(case: Case, value: float = 0.5) -> dict[str, Any]:
    return {"kernel": "6.12 <x>", **asdict(case), **dict.fromkeys(FIGURES, value)}


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


def test_there_are_about_200_rows_and_none_twice() -> None:
    assert 180 <= len(PLAN) <= 200
    assert len({*PLAN}) == len({case.name for case in PLAN}) == len(PLAN)


@pytest.mark.parametrize(
    ("name", "values"),
    [("path", {"copy", "direct"}), ("channels", {1, 4}), ("wait_mode", {"INTERRUPT", "POLL", "ADAPTIVE"}),
     ("pages", {"small", "huge", "shared"}), ("boot", {*BOOTS}), ("direction", {"read", "write"})],
)  # fmt: skip
def test_rows_cover_every_choice(name: str, values: set[Any]) -> None:
    assert {getattr(case, name) for case in PLAN} == values


def test_rows_reach_from_64_bytes_to_256_mib_and_have_all_ways() -> None:
    assert (min(case.length for case in PLAN), max(case.length for case in PLAN)) == (64, 256 << 20)
    queues = {(way, depth) for way in ("aio", "io_uring") for depth in DEPTHS}
    queues |= {("transfer", depth) for depth in (1, 8, 32, 256)}
    queues |= {("readinto", 1), ("asyncio", 1000)}
    assert {(case.way, case.depth) for case in PLAN} == {("sync", 1), ("io_uring_fixed", 8)} | queues


@pytest.mark.parametrize("boot", ["icount-off", "icount"])
def test_instructions_are_counted_of_every_usual_length_and_depth(boot: str) -> None:
    found = {(case.length, case.pages, case.way, case.depth) for case in cases(boot) if case.path == "direct"}
    lengths = {(length, pages, "sync", 1) for length in (64, 4 * KIB, 64 * KIB, MIB) for pages in ("small", "huge")}
    lengths.add((256 * MIB, "small", "sync", 1))
    depths = {(4 * KIB, "small", way, depth) for way in ("aio", "io_uring") for depth in (1, 8, 9, 32, 128)}
    assert found >= lengths | depths
    assert {case.wait_mode for case in cases(boot)} == {"INTERRUPT"}


@pytest.mark.parametrize(("length", "requests"), [(64, 1000), (64 * KIB, 1000), (MIB, 100), (256 * MIB, 4)])
def test_many_requests_are_counted_fewer_if_they_are_large(length: int, requests: int) -> None:
    assert Case("icount", length).requests == requests


def test_rows_have_names_by_which_they_are_chosen() -> None:
    one = Case("icount-off", 4 * KIB, wait_mode="INTERRUPT", way="aio", depth=8)
    assert one.name == "icount-off/read/4KiB/direct/small/interrupt/aio-8"
    assert cases("icount-off", [one.name]) == [one]
    assert [case.depth for case in cases("icount-off", ["*/small/*/aio-*"])] == [*DEPTHS]
    assert Case("off", MIB, channels=4).name == "off/read/1MiB/direct/small/adaptive/sync/4ch"
    assert cases("icount-off", ["*/aio-1", "*/small/*/aio-8"]) == [Case(**asdict(one) | {"depth": 1}), one]
    assert cases("off", [one.name]) == []


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
    assert size(length) == text


def test_two_states_are_compared_figure_by_figure() -> None:
    case = cases("icount-off")[0]
    both = bench_table.compared(row(case, 3) | {"share": None}, row(case, 4) | {"interrupts": 0})
    assert both["instructions_all"] == 3
    assert both["beside"]["instructions_all"] == 4
    assert both["ratio"]["instructions_all"] == 0.75
    assert both["ratio"]["share"] is None
    assert both["ratio"]["interrupts"] is None
    assert {*both["ratio"]} == {*FIGURES}


def test_rows_of_different_cases_are_not_compared() -> None:
    one, other = cases("icount-off")[:2]
    with pytest.raises(ValueError, match="is not"):
        bench_table.compared(row(one), row(other))


def test_table_shows_both_figures_and_the_ratio_of_counted_and_of_timed_rows() -> None:
    counted, timed = cases("icount")[0], cases("off")[0]
    rows = [bench_table.compared(row(case, 15000), row(case, 20000)) for case in (counted, timed)]
    tables = bench_table.text(rows).split("\n\n")
    for table, case, figure in zip(tables, (counted, timed), ("instructions all", "p50 us"), strict=True):
        title, line = table.splitlines()
        assert figure in title
        assert line.startswith(case.name)
        assert "15,000 / 20,000 = 0.750" in line


def test_table_of_one_state_shows_its_figures_alone() -> None:
    table = bench_table.text([row(cases("icount")[0], 7700)])
    assert "7,700" in table
    assert "/ 7" not in table


@pytest.mark.parametrize(("value", "text"), [(None, ""), (7, "7"), (0.123456, "0.1235"), (12345.6, "12,346")])
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert bench_table.number(value) == text


def test_report_shows_two_states_where_there_are_two() -> None:
    plain = [row(case) for case in PLAN]
    both = [bench_table.compared(one, one | {"instructions": 2}) for one in plain]
    page = Page(bench_report.html(both))
    assert page.open == []
    assert page.elements.count("tr") == 2 * (len(PLAN) + 1)
    assert "0.5 / 2 = 0.250" in bench_report.html(both)
    assert "Beside" not in bench_report.html(plain)


class Measured:
    """Stands in for machines: notes what is measured, with which modules."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[tuple[str, str, int]] = []
        self.built: list[Path] = []
        monkeypatch.setattr(bench_command, "prepare", lambda kernel: None)
        monkeypatch.setattr(bench_command, "measure", self.measure)
        monkeypatch.setattr(modules, "build_folder", self.build)
        monkeypatch.setattr(modules, "modules_in", lambda folder: [folder / "pciedma.ko"])

    def build(self, kernel: str, source: Path) -> Path:
        if not source.is_dir():
            raise LabError(f"{source} has neither Kbuild nor Makefile")
        self.built.append(source)
        return source

    def measure(
        self, kernel: str, boot: str, todo: Sequence[Case], driver: Sequence[Path] = ()
    ) -> list[dict[str, Any]]:
        self.done.append((boot, "other" if driver else "this", len(todo)))
        return [row(case, 2 if driver else 1) for case in todo]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    return Measured(monkeypatch)


def test_command_measures_only_the_rows_that_are_asked_for(measured: Measured, tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    names = ["--case", "icount*/read/4KiB/*/aio-*", "--case", "off/write/*"]
    assert bench_command.main([*names, "--output", str(output)]) == 0
    assert measured.done == [("off", "this", 4), ("icount-off", "this", 6), ("icount", "this", 6)]
    assert len(json.loads(output.read_text())) == 16


def test_command_measures_two_states_machine_by_machine(
    measured: Measured, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "older/src").mkdir(parents=True)
    output = tmp_path / "bench.json"
    words = ["--case", "icount*/sync", "--beside", str(tmp_path / "older"), "--output", str(output)]
    assert bench_command.main(words) == 0
    assert measured.built == [tmp_path / "older/src"]
    assert [(boot, state) for boot, state, _ in measured.done] == [
        ("icount-off", "this"), ("icount-off", "other"), ("icount", "this"), ("icount", "other")
    ]  # fmt: skip
    assert {one["ratio"]["instructions_all"] for one in json.loads(output.read_text())} == {0.5}
    assert "1 / 2 = 0.500" in capsys.readouterr().out
    assert "Beside" in output.with_suffix(".html").read_text()


def test_command_with_a_pattern_that_fits_nothing_names_all_rows(
    measured: Measured, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        bench_command.main(["--boot", "icount-off", "--case", "icount/*"])
    assert error.value.code == 2
    said = capsys.readouterr().err
    assert all(case.name in said for case in cases("icount-off"))
    assert measured.done == []


def test_command_beside_what_is_no_clone_fails_before_it_measures(
    measured: Measured, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench_command.main(["--beside", str(tmp_path)]) == 1
    assert "Kbuild" in capsys.readouterr().err
    assert measured.done == []


KALLSYMS = """\
ffffffff81000000 T _stext
ffffffff81000100 t work
ffffffff81000100 t alias_of_work
ffffffff81000180 D data
ffffffffc0000000 t serve\t[pciedma]
ffffffffc0000040 t own_data_follows\t[pciedma]
"""


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (0xFFFFFFFF81000000, "_stext"), (0xFFFFFFFF810000FF, "_stext"), (0xFFFFFFFF81000100, "work"),
        (0xFFFFFFFF81000190, "work"), (0xFFFFFFFFC000003F, "serve [pciedma]"), (0x7FFF12345678, USER), (0, USER),
        (0xFFFF800000000000, "unknown"),
    ],
)  # fmt: skip
def test_addresses_belong_to_functions(address: int, name: str) -> None:
    assert Symbols(KALLSYMS).name(address) == name


def executed(*addresses: int) -> bytes:
    return b"".join(b"Trace 0: 0x7f00c0de [00000000/%016x/00c0c0b0/ff000201] \n" % address for address in addresses)


def stopped(address: int) -> bytes:
    return b"Stopped execution of TB chain before 0x7f00c0de [%016x] \n" % address


BEGIN, END, ONE, TWO = 0x7F0000001000, 0x7F0000001040, 0xFFFFFFFF81000000, 0xFFFFFFFFC0000000


def test_instructions_are_counted_between_the_marks_alone() -> None:
    log = Stretches(BEGIN, END, wanted=2)
    log.feed(executed(ONE, BEGIN, ONE, TWO, TWO, END, TWO))
    assert not log.complete.is_set()
    log.feed(executed(BEGIN, ONE) + executed(ONE) + executed(END, ONE))
    assert log.complete.is_set()
    log.feed(executed(BEGIN, ONE, END))
    assert log.counts == [{ONE: 1, TWO: 2}, {ONE: 2}]


def test_what_is_stopped_before_it_executes_is_not_counted() -> None:
    log = Stretches(BEGIN, END, wanted=1)
    log.feed(executed(BEGIN) + stopped(BEGIN) + executed(BEGIN, ONE))
    log.feed(stopped(ONE))
    log.feed(executed(ONE, TWO, END) + stopped(END) + executed(END))
    assert log.counts == [{ONE: 1, TWO: 1}]


def test_what_a_spinner_executes_is_not_counted() -> None:
    log = Stretches(BEGIN, END, wanted=1, spinner=0x7F0000002000)
    log.feed(executed(BEGIN, ONE, 0x7F0000002000, 0x7F0000002003, TWO, 0x7F0000002000, END))
    assert log.counts == [{ONE: 1, TWO: 1}]


@pytest.mark.parametrize("size", [1, 7, 61, 100])
def test_log_comes_in_pieces_of_any_size(size: int) -> None:
    data = executed(ONE, BEGIN, ONE, TWO) + stopped(TWO) + executed(TWO, ONE, END, TWO)
    log = Stretches(BEGIN, END, wanted=1)
    for start in range(0, len(data), size):
        log.feed(data[start : start + size])
    assert log.counts == [{ONE: 2, TWO: 1}]


def test_profile_sorts_functions_and_shows_shares_of_all() -> None:
    functions = {"small": 0.4, "serve [pciedma]": 600.0, "work": 300.0, USER: 99.6}
    lines = Profile(PLAN[0], "6.12", 700.0, functions).text().splitlines()
    assert PLAN[0].name in lines[0]
    assert [line.split(maxsplit=2) for line in lines[1:]] == [
        ["600.0", "60.0%", "serve [pciedma]"], ["300.0", "30.0%", "work"], ["99.6", "10.0%", USER],
        ["0.4", "0.0%", "1 others"], ["1,000.0", "100.0%", "all"], ["700.0", "70.0%", "of these, for the thread"],
    ]  # fmt: skip


def test_profiles_of_two_states_stand_side_by_side() -> None:
    one, other = (Profile(PLAN[0], "6.12", 10.0, functions) for functions in ({"a": 60.0, "b": 40.0}, {"b": 80.0}))
    lines = [line.split() for line in one.text(other).splitlines()[1:]]
    assert lines[:2] == [["40.0", "40.0%", "80.0", "100.0%", "b"], ["60.0", "60.0%", "0.0", "0.0%", "a"]]


def test_command_profiles_counted_rows_alone(
    measured: Measured, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def profile(kernel: str, todo: Sequence[Case]) -> list[Profile]:
        return [Profile(case, "6.12", 1.0, {"work": 2.0}) for case in todo]

    monkeypatch.setattr(bench_command, "profile", profile)
    assert bench_command.main(["--profile", "*/read/64KiB/direct/small/*/sync"]) == 0
    said = capsys.readouterr().out
    assert [line.partition(",")[0] for line in said.splitlines() if "kernel" in line] == [
        f"{boot}/read/64KiB/direct/small/interrupt/sync" for boot in ("icount-off", "icount")
    ]
    assert measured.done == []


@pytest.mark.parametrize(("values", "usual"), [([7], 7), ([9, 1, 2], 1), ([5, 90, 3, 4], 4), ([*range(8)], 2)])
def test_lower_quartile_has_a_quarter_below(values: list[int], usual: float) -> None:
    assert bench_measure.lower_quartile(values) == usual


@pytest.mark.parametrize(("values", "median"), [([7], 7), ([9, 1, 2], 2), ([5, 90, 3, 4], 4.5)])
def test_median_is_that_of_the_middle(values: list[int], median: float) -> None:
    assert counting._median(values) == median


def test_guest_makes_whole_batches() -> None:
    assert [counting._whole(1000, depth) for depth in (1, 8, 9, 128)] == [1000, 1000, 1008, 1024]
