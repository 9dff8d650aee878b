"""A table, in Markdown, of registers that the lab declares: nothing that is declared once is written twice."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from pciedma_lab.registers import Field, Register

_HEAD = ("Offset", "Register", "Bits", "Field", "Access", "Reset", "Meaning")


def declared(place: str) -> tuple[Register, ...]:
    """Return the registers at *place*, ``module:NAME``."""
    module, _, name = place.partition(":")
    found: tuple[Register, ...] = getattr(importlib.import_module(module), name)
    return found


def table(registers: Sequence[Register]) -> list[str]:
    """Return the table's lines: a row for each field, or one for a register with the fields of another."""
    lines = [_row(*_HEAD), _row(*("---" for _ in _HEAD))]
    seen: dict[tuple[tuple[int, int, str, str], ...], str] = {}
    for register in registers:
        same = seen.setdefault(_shape(register), register.name)
        if same != register.name and len(register.fields) > 1:
            access = "/".join(dict.fromkeys(field.access.value for field in register.fields))
            lines.append(_row(f"0x{register.offset:02X}", f"`{register.name}`", "", "", access, "", f"as `{same}`"))
        else:
            lines += _rows(register)
    return lines


def _shape(register: Register) -> tuple[tuple[int, int, str, str], ...]:
    return tuple((field.high, field.low, field.name, field.meaning) for field in register.fields)


def _rows(register: Register) -> list[str]:
    head = (f"0x{register.offset:02X}", f"`{register.name}`")
    rows = []
    for field in register.fields:
        bits = f"{field.high}:{field.low}" if field.high != field.low else f"{field.low}"
        rows.append(_row(*head, bits, f"`{field.name}`", field.access.value, _reset(field), _meaning(field)))
        head = ("", "")
    return rows


def _reset(field: Field) -> str:
    return "undefined" if field.reset is None else f"{field.reset:#x}" if field.reset > 9 else f"{field.reset}"


def _meaning(field: Field) -> str:
    return f"{field.meaning} (inferred)" if field.inferred else field.meaning


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
