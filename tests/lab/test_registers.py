"""Register declarations."""

from __future__ import annotations

import pytest

from pciedma_lab.cards import capric
from pciedma_lab.registers import Access, Field, Register, bit, names

SAMPLE = Register("SAMPLE", 0x10, (
    bit(0, "go", Access.RW, "starts"),
    Field(7, 4, "kind", Access.RW, 0x5, "what"),
    bit(8, "done", Access.W1C, "has ended"),
    Field(15, 12, "state", Access.RO, None, "where it is", inferred=True),
))


def test_mask_of_named_fields_is_in_place() -> None:
    assert SAMPLE.mask("kind") == 0xF0
    assert SAMPLE.mask("go", "done") == 0x101


def test_mask_of_unknown_field_raises() -> None:
    with pytest.raises(KeyError):
        SAMPLE.mask("gone")


def test_read_only_fields_are_defined_but_not_writable() -> None:
    assert SAMPLE.writable == 0x1F1
    assert SAMPLE.defined == 0xF1F1


def test_reset_value_has_zeros_where_it_is_undefined() -> None:
    assert SAMPLE.reset == 0x50


@pytest.mark.parametrize("fields", [
    (bit(3, "a", Access.RW, ""), Field(5, 3, "b", Access.RW, 0, "")),
    (bit(32, "a", Access.RW, ""),),
    (Field(0, 4, "a", Access.RW, 0, ""),),
])
def test_slips_in_a_declaration_raise(fields: tuple[Field, ...]) -> None:
    with pytest.raises(ValueError, match="SLIP"):
        Register("SLIP", 0, fields)


def test_names_are_by_bar_and_offset() -> None:
    assert names((2, (SAMPLE,))) == {(2, 0x10): "SAMPLE"}


@pytest.mark.parametrize(("name", "offset", "writable", "defined"), [
    ("DCSR1", 0x00, 0x03030301, 0x03030301),
    ("DCSR2", 0x04, 0x00030003, 0x00030003),
    ("WR_DMA_ADR", 0x08, 0xFFFFFFFF, 0xFFFFFFFF),
    ("WR_DMA_SIZE", 0x0C, 0x7FF, 0x7FF),
    ("RD_DMA_ADR", 0x1C, 0xFFFFFFFF, 0xFFFFFFFF),
    ("RD_DMA_SIZE", 0x20, 0x7FF, 0x7FF),
    ("INT_REG", 0x2C, 0x300, 0x80000303),
    ("ERR", 0x30, 0, 0x7),
])
def test_capric_map_is_that_of_the_data_sheet(name: str, offset: int, writable: int, defined: int) -> None:
    register = next(register for register in capric.REGISTERS if register.name == name)
    assert (register.offset, register.writable, register.defined) == (offset, writable, defined)


def test_capric_marks_what_is_inferred() -> None:
    inferred = {field.name for register in capric.REGISTERS for field in register.fields if field.inferred}
    assert inferred == {"int_rd_pending", "int_wr_pending", "int_asserted", "unexpected", "ur", "ca"}
