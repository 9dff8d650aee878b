"""Configuration space."""

from __future__ import annotations

import struct

import pytest

from pciedma_lab.config_space import ConfigSpace, Identity, InterruptMode

PLAIN = Identity(0x10EE, 0x0007, 0x10EE, 0x0007, 0x050000, bars=(256, 0, 0x1000, 0, 0, 0))
POWER, MSI, EXPRESS, MSIX = 1, 5, 0x10, 0x11


class Space(ConfigSpace):
    """A space that counts its function resets."""

    def __init__(self, identity: Identity = PLAIN) -> None:
        self.resets = 0
        super().__init__(identity, self._count)

    def _count(self) -> None:
        self.resets += 1

    def number(self, offset: int, size: int = 4) -> int:
        return int.from_bytes(self.read(offset, size), "little")

    def capability(self, wanted: int) -> int:
        """Walk the list as software does."""
        at, seen = self.number(0x34, 1), set()
        while at:
            assert at not in seen
            seen.add(at)
            if self.number(at, 1) == wanted:
                return at
            at = self.number(at + 1, 1)
        return 0


@pytest.fixture
def space() -> Space:
    return Space()


def test_header_says_who_the_card_is(space: Space) -> None:
    assert space.number(0x00) == 0x000710EE
    assert space.number(0x08) == 0x05000000
    assert space.number(0x2C) == 0x000710EE
    assert space.number(0x0E, 1) == 0
    assert space.number(0x06, 2) & 0x10
    assert space.number(0x3D, 1) == 1


def test_identity_cannot_be_written(space: Space) -> None:
    before = space.read(0, 4), space.read(8, 4), space.read(0x2C, 4)
    for offset in (0, 8, 0x2C):
        space.write(offset, b"\xff" * 4)
    assert (space.read(0, 4), space.read(8, 4), space.read(0x2C, 4)) == before


@pytest.mark.parametrize(("bar", "sized"), [(0, 0xFFFFFF00), (1, 0), (2, 0xFFFFF000)])
def test_bar_sizing_tells_its_length(space: Space, bar: int, sized: int) -> None:
    space.write(0x10 + 4 * bar, b"\xff" * 4)
    assert space.number(0x10 + 4 * bar) == sized


def test_bar_keeps_its_address(space: Space) -> None:
    space.write(0x10, struct.pack("<I", 0xFE001234))
    assert space.number(0x10) == 0xFE001200


def test_bus_master_follows_the_command_register(space: Space) -> None:
    assert not space.bus_master
    space.write(4, b"\x04\x00")
    assert space.bus_master
    space.write(4, b"\x02\x00")
    assert not space.bus_master


def test_interrupt_disable_follows_the_command_register(space: Space) -> None:
    assert space.intx_allowed
    space.write(4, b"\x00\x04")
    assert not space.intx_allowed


def test_express_capability_describes_an_endpoint_with_function_reset(space: Space) -> None:
    at = space.capability(EXPRESS)
    assert space.number(at + 2, 2) & 0xFF == 0x02
    capabilities = space.number(at + 4)
    assert capabilities & 7 == 2
    assert capabilities & 1 << 5
    assert capabilities & 1 << 28
    assert space.number(at + 8, 2) >> 12 & 7 == 2
    assert space.number(at + 12) & 0x3F1 == 0x081
    assert space.number(at + 18, 2) & 0x3FF == 0x081


def test_payload_and_read_request_sizes_can_be_set(space: Space) -> None:
    at = space.capability(EXPRESS) + 8
    space.write(at, struct.pack("<H", 0x5020))
    assert space.number(at, 2) == 0x5020


@pytest.mark.parametrize("size", [1, 2, 4])
def test_function_reset_bit_resets_and_reads_zero(space: Space, size: int) -> None:
    control = space.capability(EXPRESS) + 8
    space.write(4, b"\x06\x00")
    space.write(control + (size == 1), {1: b"\xa8", 2: b"\x10\xa8", 4: b"\x10\xa8\0\0"}[size])
    assert space.resets == 1
    assert not space.bus_master
    assert space.number(control, 2) & 0x8000 == 0


def test_other_control_writes_reset_nothing(space: Space) -> None:
    control = space.capability(EXPRESS) + 8
    space.write(control, b"\xff\x7f")
    space.write(control, b"\xff")
    space.write(control - 4, b"\xff" * 4)
    assert space.resets == 0


def test_transactions_pending_is_shown_and_taken_back(space: Space) -> None:
    status = space.capability(EXPRESS) + 10
    space.set_transactions_pending(True)
    assert space.number(status, 2) & 0x20
    space.set_transactions_pending(False)
    assert not space.number(status, 2) & 0x20


def test_power_state_can_be_set(space: Space) -> None:
    at = space.capability(POWER)
    assert space.number(at + 2, 2) & 7 == 3
    space.write(at + 4, b"\x03\x00")
    assert space.number(at + 4, 2) & 3 == 3


def test_msi_capability_takes_address_data_and_enable(space: Space) -> None:
    at = space.capability(MSI)
    assert space.number(at + 2, 2) == 0x80
    space.write(at + 4, struct.pack("<IIH", 0xFEE00003, 1, 0x4021))
    space.write(at + 2, b"\x01\x00")
    assert (space.number(at + 4), space.number(at + 8), space.number(at + 12, 2)) == (0xFEE00000, 1, 0x4021)
    assert space.number(at + 2, 2) == 0x81


def test_interrupt_mode_is_what_software_has_enabled() -> None:
    both = Space(Identity(0x10EE, 0x9038, 0x10EE, 7, 0, bars=(0x10000, 0, 0, 0, 0, 0), msix_vectors=32))
    for msi, msix, mode in (
        (0, 0, InterruptMode.INTX), (1, 0, InterruptMode.MSI), (1, 0x8000, InterruptMode.MSIX),
        (0, 0x8000, InterruptMode.MSIX), (0, 0, InterruptMode.INTX),
    ):
        both.write(both.capability(MSI) + 2, msi.to_bytes(2, "little"))
        both.write(both.capability(MSIX) + 2, msix.to_bytes(2, "little"))
        assert both.interrupt_mode is mode
    both.write(both.capability(MSI) + 2, b"\1")
    both.reset()
    assert both.interrupt_mode is InterruptMode.INTX


def test_card_without_messages_has_no_msi_capability() -> None:
    space = Space(Identity(1, 2, 3, 4, 0, bars=(256,), msi_vectors=0))
    assert space.capability(MSI) == 0
    assert space.capability(POWER) != 0


def test_msix_capability_says_where_the_table_is() -> None:
    space = Space(Identity(
        1, 2, 3, 4, 0, bars=(0x10000, 0x1000), msi_vectors=0,
        msix_vectors=32, msix_table=(0, 0x8000), msix_pending=(1, 0xFE0),
    ))
    at = space.capability(MSIX)
    assert space.number(at + 2, 2) == 31
    assert space.number(at + 4) == 0x8000
    assert space.number(at + 8) == 0xFE1
    space.write(at + 2, b"\xff\xff")
    assert space.number(at + 2, 2) == 0xC01F


def test_reset_goes_back_to_the_first_values(space: Space) -> None:
    first = bytes(space.data)
    for offset in range(0, 0x100, 4):
        if offset != space.capability(EXPRESS) + 8:
            space.write(offset, b"\xff" * 4)
    assert bytes(space.data) != first
    space.reset()
    assert bytes(space.data) == first


def test_64bit_bar_takes_two_registers_and_says_so() -> None:
    space = Space(Identity(0x10EE, 0x9038, 0x10EE, 7, 0, bars=(0x10000, 0, 0x100000, 0, 0, 0), bars_64bit=(0, 2)))
    assert [space.number(0x10 + 4 * n) for n in range(6)] == [4, 0, 4, 0, 0, 0]
    for offset in (0x10, 0x18):
        space.write(offset, b"\xff" * 8)
    assert space.number(0x10, 8) == 0xFFFFFFFFFFFF0004
    assert space.number(0x18, 8) == 0xFFFFFFFFFFF00004
    assert space.number(0x20) == 0


def test_bar_of_memory_says_that_it_is_prefetchable() -> None:
    bars = (0x10000, 0x10000, 0, 0, 0, 0)
    space = Space(Identity(0x10EE, 0x9038, 0x10EE, 7, 0, bars, bars_64bit=(1,), bars_prefetchable=(0, 1)))
    space.write(0x10, b"\xff" * 12)
    assert space.number(0x10) == 0xFFFF0008
    assert space.number(0x14, 8) == 0xFFFFFFFFFFFF000C
