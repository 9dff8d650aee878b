"""The benchmark's report: one HTML page with everything in it."""

from __future__ import annotations

import html as markup
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .bench_plan import size
from .bench_table import Row, case_of, cell

_WIDTH, _HEIGHT = 620, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 15, 45
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_STYLE = """
body { font: 15px/1.5 sans-serif; max-width: 1320px; margin: 2em auto; padding: 0 1em; color: #222; background: #fff }
figure { display: inline-block; margin: 1em 0; width: 640px; max-width: 100%; vertical-align: top }
figcaption { font-weight: bold } svg { width: 100% } text { font: 12px sans-serif; fill: #444 }
table { border-collapse: collapse; font-size: 13px } th { position: sticky; top: 0; background: #eee }
th, td { padding: .2em .6em; text-align: right; border-bottom: 1px solid #ddd }
"""
_INTRODUCTION = """
Measured under software emulation: the guest's processor is some 20 times slower than a real one, while DMA runs at the
full speed of the emulated link. Compare rows with each other; no figure says how fast a real machine is. Latency
contains the measuring program, which is Python in the guest.
"""

_TWO_STATES = "This state's figure, the other's, and how many times as large as that this one is."
#: Figures of the measurement itself.
_NOT_COMPARED = ("link_mb_s", "requests")


@dataclass(frozen=True)
class Plot:
    """A figure over the length of requests, with a line for each of some choices of rows."""

    title: str
    figure: str
    unit: str
    #: The name of each line, and the parameters that its rows have.
    lines: dict[str, dict[str, Any]]
    common: dict[str, Any] = field(default_factory=dict)
    logarithmic: bool = False

    def points(self, rows: Sequence[Row]) -> dict[str, list[tuple[int, float]]]:
        """Return the points of each line that has any."""
        found = {}
        for name, wanted in self.lines.items():
            chosen = [row for row in rows if all(row[key] == value for key, value in {**self.common, **wanted}.items())]
            points = sorted((row["length"], row[self.figure]) for row in chosen if row[self.figure] is not None)
            if points:
                found[name] = points
        return found


_PLAIN = {"direction": "read", "path": "direct", "channels": 1, "wait_mode": "ADAPTIVE", "pages": "small",
          "way": "sync"}  # fmt: skip
_PATHS: dict[str, dict[str, Any]] = {
    f"{path}, IOMMU {boot}": {"path": path, "boot": boot} for path in ("copy", "direct") for boot in ("off", "strict")
}
_PAGES: dict[str, dict[str, Any]] = {
    f"{pages} pages, IOMMU {iommu}": {"pages": pages, "boot": boot}
    for pages in ("small", "huge") for iommu, boot in (("off", "icount-off"), ("strict", "icount"))
}  # fmt: skip
_DEEP = {"way": "io_uring", "depth": 8}


def _without(*names: str) -> dict[str, Any]:
    return {key: value for key, value in _PLAIN.items() if key not in names}


PLOTS = [
    Plot("Copied or direct: share of the link", "share", "share", _PATHS, _without("path")),
    Plot("Copied or direct: instructions of a request's thread, IOMMU strict", "instructions", "instructions",
         {path: {"path": path} for path in ("copy", "direct")},
         _without("path") | {"boot": "icount", "wait_mode": "INTERRUPT"}, logarithmic=True),
    Plot("Instructions of all for a request", "instructions_all", "instructions", _PAGES,
         _without("pages") | {"wait_mode": "INTERRUPT"}, logarithmic=True),
    Plot("Waiting: median latency, IOMMU off", "p50_us", "us",
         {mode.lower(): {"wait_mode": mode} for mode in ("INTERRUPT", "POLL", "ADAPTIVE")},
         _without("wait_mode") | {"boot": "off"}, logarithmic=True),
    Plot("Several at a time: share of the link, IOMMU strict", "share", "share",
         {"sync": {}, "huge pages": {"pages": "huge"}, "4 channels": {"channels": 4}, "io_uring, depth 8": _DEEP,
          "io_uring, huge pages": {**_DEEP, "pages": "huge"}},
         _PLAIN | {"boot": "strict"}),
    Plot("Time in which the engine had nothing to do", "idle_share", "share", _PATHS, _without("path")),
    Plot("Descriptors of a request, IOMMU off", "descriptors", "descriptors",
         {pages: {"pages": pages} for pages in ("small", "huge")}, _without("pages") | {"boot": "off"},
         logarithmic=True),
]  # fmt: skip


def html(rows: Sequence[Row]) -> str:
    """Return the page for rows of bench.json."""
    parts = [_figure(plot, rows) for plot in PLOTS]
    kernels = ", ".join(sorted({row["kernel"] for row in rows}))
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'><title>pciedma: benchmark</title>"
        f"<style>{_STYLE}</style></head><body><h1>pciedma: benchmark</h1>"
        f"<p>{_INTRODUCTION}</p><p>Kernel {markup.escape(kernels)}; {len(rows)} rows.</p>"
        f"{_beside(rows)}{''.join(parts)}<h2>All rows</h2>{_table(rows)}</body></html>\n"
    )


def _beside(rows: Sequence[Row]) -> str:
    """Show the rows that were measured with two states of the driver: figures of both, and ratios."""
    chosen = [row for row in rows if "beside" in row]
    if not chosen:
        return ""
    figures = [name for name in chosen[0]["ratio"] if name not in _NOT_COMPARED]
    body = [[case_of(row).name, *(cell(row, name) for name in figures)] for row in chosen]
    return f"<h2>Beside another state of the driver</h2><p>{_TWO_STATES}</p>{_cells(['', *figures], body)}"


def _table(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    names = [name for name in rows[0] if name not in ("kernel", "beside", "ratio")]
    return _cells(names, [["" if row[name] is None else str(row[name]) for name in names] for row in rows])


def _cells(names: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in names)
    lines = ["<tr>" + "".join(f"<td>{markup.escape(cell)}</td>" for cell in row) + "</tr>\n" for row in body]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _figure(plot: Plot, rows: Sequence[Row]) -> str:
    lines = plot.points(rows)
    if not lines:
        return ""
    return f"<figure><figcaption>{markup.escape(plot.title)}</figcaption>{_svg(plot, lines)}</figure>"


def _svg(plot: Plot, lines: dict[str, list[tuple[int, float]]]) -> str:
    """Draw lines over a logarithmic axis of lengths."""
    across, lengths = _axis([x for points in lines.values() for x, _ in points], _LEFT, _WIDTH - _RIGHT, 4)
    values = [y for points in lines.values() for _, y in points]
    if plot.logarithmic:
        up, ticks = _axis(values, _HEIGHT - _BOTTOM, _TOP, 10)
    else:
        up, ticks = _linear_axis(max(values), _HEIGHT - _BOTTOM, _TOP)
    parts = [_tick(f"M{_LEFT} {up(y):.1f}H{_WIDTH - _RIGHT}", _LEFT - 6, up(y) + 4, "end", _number(y)) for y in ticks]
    parts += [
        _tick(f"M{across(x):.1f} {_TOP}V{_HEIGHT - _BOTTOM}", across(x), _HEIGHT - 28, "middle", size(int(x)))
        for x in lengths
    ]
    for (name, points), colour in zip(lines.items(), _COLOURS, strict=False):
        path = "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in points)
        parts.append(f"<path d='M{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
        for x, y in points:
            label = markup.escape(f"{name}: {size(x)}, {_number(y)} {plot.unit}")
            parts.append(
                f"<circle cx='{across(x):.1f}' cy='{up(y):.1f}' r='4' fill='{colour}'><title>{label}</title></circle>"
            )
    parts += [_legend(number, name) for number, name in enumerate(lines)]
    height = _HEIGHT + 18 * math.ceil(len(lines) / 3)
    return f"<svg viewBox='0 0 {_WIDTH} {height}' role='img'>{''.join(parts)}</svg>"


def _axis(values: Sequence[float], low: float, high: float, base: int) -> tuple[Callable[[float], float], list[float]]:
    """Return a logarithmic scale from whole powers of *base*, and where its ticks are."""
    logs = [math.log(max(value, 1e-9), base) for value in values]
    first, last = math.floor(min(logs) + 1e-9), math.ceil(max(logs) - 1e-9)
    last = max(last, first + 1)

    def place(value: float) -> float:
        return low + (high - low) * (math.log(max(value, 1e-9), base) - first) / (last - first)

    return place, [float(base) ** power for power in range(first, last + 1)]


def _linear_axis(most: float, low: float, high: float) -> tuple[Callable[[float], float], list[float]]:
    """Return a scale from 0, and where its ticks are."""
    step = 10 ** math.floor(math.log10(max(most, 1e-9)))
    while most / step < 4:
        step /= 2
    count = math.ceil(most / step - 1e-9)
    return lambda value: low + (high - low) * value / (count * step), [step * tick for tick in range(count + 1)]


def _tick(line: str, x: float, y: float, anchor: str, text: str) -> str:
    return (
        f"<path d='{line}' stroke='#ddd'/><text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'>{text}</text>"
    )  # fmt: skip


def _legend(number: int, name: str) -> str:
    x, y = _LEFT + 180 * (number % 3), _HEIGHT + 18 * (number // 3)
    return (
        f"<circle cx='{x}' cy='{y - 4}' r='5' fill='{_COLOURS[number]}'/>"
        f"<text x='{x + 10}' y='{y}'>{markup.escape(name)}</text>"
    )


def _number(value: float) -> str:
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
