"""The benchmark's rows as text: tables for a terminal, and how two states of the driver compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from .bench_plan import FIGURES, INSTRUCTIONS, Case

Row = dict[str, Any]

_PARAMETERS = tuple(field.name for field in fields(Case))
#: What is printed of rows that are counted, and of those that are timed.
_COUNTED = (*INSTRUCTIONS, "mmio_reads", "mmio_writes", "interrupts", "descriptors")
_TIMED = ("throughput_mb_s", "share", "p50_us", "p99_us", "mmio_reads", "mmio_writes", "interrupts")


def case_of(row: Row) -> Case:
    """Return the parameters of a row."""
    return Case(**{name: row[name] for name in _PARAMETERS})


def compared(row: Row, other: Row) -> Row:
    """Return a row with the figures of the same row of another state beside it, and the ratios of both."""
    if case_of(row) != case_of(other):
        raise ValueError(f"{case_of(row).name} is not {case_of(other).name}")
    beside = {name: other[name] for name in FIGURES}
    return row | {"beside": beside, "ratio": {name: _ratio(row[name], beside[name]) for name in FIGURES}}


def _ratio(value: float | None, other: float | None) -> float | None:
    """Return how many times as large a figure is, or None where that means nothing."""
    return None if value is None or not other else round(value / other, 4)


def cell(row: Row, figure: str) -> str:
    """Return a figure, and what it is beside another state of the driver if there is one."""
    if "beside" not in row:
        return number(row[figure])
    ratio = row["ratio"][figure]
    both = f"{number(row[figure])} / {number(row['beside'][figure])}"
    return both if ratio is None else f"{both} = {ratio:.3f}"


def number(value: float | None) -> str:
    """Return a figure in few digits; nothing for one that was not measured."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.4g}"


def text(rows: Sequence[Row]) -> str:
    """Return tables of what was counted and of what was timed."""
    tables = []
    for is_counted, figures in ((True, _COUNTED), (False, _TIMED)):
        chosen = [row for row in rows if case_of(row).is_counted is is_counted]
        if chosen:
            lines = [["", *(name.replace("_", " ") for name in figures)]]
            lines += [[case_of(row).name, *(cell(row, name) for name in figures)] for row in chosen]
            tables.append(_aligned(lines))
    return "\n\n".join(tables)


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = [[first.ljust(widths[0]), *(one.rjust(width) for one, width in zip(rest, widths[1:], strict=True))]
            for first, *rest in lines]  # fmt: skip
    return "\n".join("  ".join(row).rstrip() for row in rows)
