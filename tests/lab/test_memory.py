"""Guest memory and its checks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pciedma_lab.memory import DmaOutsideMemory, GuestMemory

from .bench import Ram

PAGE = 0x1000


@pytest.fixture
def memory(ram: Ram) -> GuestMemory:
    """Pages at 0x10000 (file offset 0) and 0x11000 (file offset 0x8000)."""
    memory = GuestMemory()
    memory.map(0x10000, PAGE, ram.fd, 0)
    memory.map(0x11000, PAGE, ram.fd, 0x8000)
    return memory


def refused(action: Callable[[], object]) -> DmaOutsideMemory:
    with pytest.raises(DmaOutsideMemory) as caught:
        action()
    return caught.value


def test_write_reaches_the_file_at_its_offset(memory: GuestMemory, ram: Ram) -> None:
    memory.write(0x11010, b"hello")
    assert ram.bytes[0x8010:0x8015] == b"hello"
    assert ram.bytes[:0x8010].count(0) == 0x8010


def test_dma_across_two_mappings_follows_both(memory: GuestMemory, ram: Ram) -> None:
    memory.write(0x10FFD, b"abcdef")
    assert ram.bytes[0xFFD:0x1000] == b"abc"
    assert ram.bytes[0x8000:0x8003] == b"def"
    assert memory.read(0x10FFD, 6) == b"abcdef"


def test_read_into_fills_the_target_across_mappings(memory: GuestMemory, ram: Ram) -> None:
    ram.bytes[PAGE - 3 : PAGE] = b"abc"
    ram.bytes[0x8000:0x8003] = b"def"
    target = bytearray(8)
    memory.read_into(0x10000 + PAGE - 3, memoryview(target)[1:7])
    assert target == b"\0abcdef\0"
    assert refused(lambda: memory.read_into(0x11000 + PAGE - 1, memoryview(target))).length == 8
    assert target == b"\0abcdef\0"


@pytest.mark.parametrize(("address", "length"), [(0xFFFF, 1), (0xFFFF, 2), (0x12000, 1), (0x11FFF, 2), (0, 4)])
def test_dma_outside_is_refused(memory: GuestMemory, address: int, length: int) -> None:
    error = refused(lambda: memory.read(address, length))
    assert (error.address, error.length, error.unmapped_before) == (address, length, False)


def test_write_that_leaves_memory_writes_nothing(memory: GuestMemory, ram: Ram) -> None:
    refused(lambda: memory.write(0x11FFE, b"1234"))
    assert not any(ram.bytes[:])


def test_dma_after_unmap_is_told_apart(memory: GuestMemory) -> None:
    memory.unmap(0x11000, PAGE)
    assert refused(lambda: memory.write(0x11800, b"x")).unmapped_before
    assert refused(lambda: memory.read(0x10FFF, 2)).unmapped_before
    assert not refused(lambda: memory.write(0x12000, b"x")).unmapped_before


def test_unmap_of_a_wide_range_remembers_only_what_was_mapped(memory: GuestMemory) -> None:
    memory.unmap(0, 1 << 48)
    assert refused(lambda: memory.read(0x10000, 1)).unmapped_before
    assert not refused(lambda: memory.read(0x20000, 1)).unmapped_before


def test_unmap_leaves_neighbours_alone(memory: GuestMemory) -> None:
    memory.unmap(0x10000, PAGE)
    memory.write(0x11000, b"x")
    refused(lambda: memory.read(0x10FFF, 1))


def test_unmap_all_leaves_nothing(memory: GuestMemory) -> None:
    memory.unmap_all()
    refused(lambda: memory.read(0x10000, 1))
    refused(lambda: memory.read(0x11000, 1))


def test_range_can_be_mapped_again_after_unmap(memory: GuestMemory, ram: Ram) -> None:
    memory.unmap(0x10000, PAGE)
    memory.map(0x10000, PAGE, ram.fd, 0x2000)
    memory.write(0x10000, b"new")
    assert ram.bytes[0x2000:0x2003] == b"new"


def test_range_without_a_file_is_kept_but_refused(memory: GuestMemory) -> None:
    memory.map(0xF0000, PAGE, None)
    assert "no memory" in str(refused(lambda: memory.read(0xF0000, 4)))
    with pytest.raises(FileExistsError):
        memory.map(0xF0000, PAGE, None)


def test_read_only_range_refuses_writes(memory: GuestMemory, ram: Ram) -> None:
    memory.map(0x20000, PAGE, ram.fd, writable=False)
    assert memory.read(0x20000, 1) == b"\0"
    assert "direction" in str(refused(lambda: memory.write(0x20000, b"x")))


def test_write_only_range_refuses_reads(memory: GuestMemory, ram: Ram) -> None:
    memory.map(0x20000, PAGE, ram.fd, readable=False)
    memory.write(0x20000, b"x")
    refused(lambda: memory.read(0x20000, 1))


@pytest.mark.parametrize(("address", "size"), [(0x10000, PAGE), (0xF000, 0x1001), (0x11FFF, 1), (0x8000, 0x10000)])
def test_overlapping_map_is_refused(memory: GuestMemory, ram: Ram, address: int, size: int) -> None:
    with pytest.raises(FileExistsError):
        memory.map(address, size, ram.fd)


@pytest.mark.parametrize(("address", "size", "offset"), [
    (0x20000, 0, 0), (0xFFFF_FFFF_FFFF_F000, 0x2000, 0), (0x20000, PAGE, 0xF001),
])
def test_impossible_map_is_refused(
    memory: GuestMemory, ram: Ram, address: int, size: int, offset: int
) -> None:
    with pytest.raises(ValueError, match="bytes at"):
        memory.map(address, size, ram.fd, offset)
    refused(lambda: memory.read(0x20000, 1))


def test_forget_lets_go_of_the_past_too(memory: GuestMemory) -> None:
    memory.forget()
    assert not refused(lambda: memory.read(0x10000, 1)).unmapped_before
