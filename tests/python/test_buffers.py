"""Buffers: all memory that is contiguous, in whatever order and shape, moves as it lies; nothing else does."""

from __future__ import annotations

import array
import ctypes
import importlib
import mmap
from collections.abc import Callable
from typing import Any

import pytest

import pciedma

#: mypy need not know it.
numpy: Any = importlib.import_module("numpy")


EMPTY = [
    pytest.param(lambda: ((ctypes.c_int * 4) * 0)(), id="ctypes"),
    pytest.param(bytearray, id="bytearray"),
]


@pytest.mark.parametrize("make", EMPTY)
def test_empty_shapes_move_nothing(channel: pciedma.Channel, make: Callable[[], Any]) -> None:
    assert channel.readinto(make(), 5) == channel.write(make(), 5) == 0
    assert channel.read(3, 4) == b"\x04\x05\x06"


def test_buffer_without_dimensions_moves(channel: pciedma.Channel) -> None:
    scalar = ctypes.c_uint32(0)
    assert channel.readinto(scalar, 16) == 4
    assert bytes(scalar) == b"\x10\x11\x12\x13"
    assert channel.write(scalar, 100) == 4
    assert channel.read(5, 100) == b"\x10\x11\x12\x13h"


class _Register(ctypes.Structure):
    _fields_ = [("Offset", ctypes.c_uint32), ("Value", ctypes.c_uint32)]


def test_structures_move_whatever_the_names_of_their_fields(channel: pciedma.Channel) -> None:
    registers = (_Register * 2)()
    assert channel.readinto(registers, 1) == 16
    assert registers[1].Value == int.from_bytes(bytes(range(13, 17)), "little")


def test_references_to_objects_are_refused(channel: pciedma.Channel) -> None:
    class Holder(ctypes.Structure):
        _fields_ = [("number", ctypes.c_int), ("reference", ctypes.py_object)]

    objects: Any
    for objects in ((ctypes.py_object * 2)(), (Holder * 2)(), numpy.array([None, "x"]), numpy.zeros(2, "i4,O")):
        for call in (channel.readinto, channel.write):
            with pytest.raises(TypeError, match="references to Python objects"):
                call(objects)


@pytest.mark.parametrize("wrong", ["text", 5, None, 1.5, [1, 2], object()])
def test_what_is_no_buffer_is_a_type_error(channel: pciedma.Channel, wrong: Any) -> None:
    for call in (channel.readinto, channel.write):
        with pytest.raises(TypeError, match="bytes-like object"):
            call(wrong)


def test_buffer_may_be_resized_afterwards(channel: pciedma.Channel) -> None:
    data = bytearray(4)
    words = array.array("H", [0, 0])
    area = mmap.mmap(-1, 4096)
    for buffer in (data, words, area):
        channel.readinto(buffer)
        channel.write(buffer)
    data.append(1)
    words.append(1)
    area.close()


def test_buffer_that_is_refused_may_be_freed_while_the_error_is_handled(channel: pciedma.Channel) -> None:
    read_only = mmap.mmap(-1, 4096, prot=mmap.PROT_READ)
    objects, gaps = memoryview((ctypes.py_object * 2)()), memoryview(bytearray(16))[::2]
    buffer: Any
    for buffer, free in ((read_only, read_only.close), (objects, objects.release), (gaps, gaps.release)):
        try:
            channel.readinto(buffer)
        except TypeError:
            free()
        else:
            pytest.fail("no error")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(16,), (4, 4), (2, 2, 4), (1, 16), (0, 4), (4, 0, 2), ()])
@pytest.mark.parametrize("kind", ["u1", ">u2", "f4", "c16", "?", "i4,u2"])
def test_numpy_arrays_of_each_shape_and_order_move_as_they_lie(
    channel: pciedma.Channel, shape: tuple[int, ...], order: str, kind: str
) -> None:
    there = numpy.zeros(shape, kind, order=order)
    assert channel.readinto(there, 64) == there.nbytes
    expected = (bytes(range(256)) * 16)[64 : 64 + there.nbytes]
    assert there.tobytes("A") == expected
    there.setflags(write=False)
    assert channel.write(there, 1000) == there.nbytes
    assert channel.read(there.nbytes, 1000) == expected
    with pytest.raises(TypeError, match="read-only"):
        channel.readinto(there)


GAPS = [
    pytest.param(lambda square: square[::2], id="every other row"),
    pytest.param(lambda square: square[:, 1], id="a column"),
    pytest.param(lambda square: square[::-1], id="backwards"),
    pytest.param(lambda square: square[1:3, 1:3], id="a part"),
    pytest.param(lambda square: numpy.broadcast_to(square[0], (3, 4)), id="a row repeated"),
    pytest.param(lambda square: square.reshape(2, 2, 4).transpose(1, 0, 2), id="neither order"),
    pytest.param(lambda square: memoryview(bytearray(8))[::2], id="memoryview"),
]


@pytest.mark.parametrize("make", GAPS)
def test_memory_with_gaps_is_refused_and_stays(channel: pciedma.Channel, make: Callable[[Any], Any]) -> None:
    square = numpy.zeros((4, 4), "u4")
    for call in (channel.readinto, channel.write):
        with pytest.raises(TypeError, match=r"not contiguous in memory.*numpy.ascontiguousarray\(\)"):
            call(make(square), 32)
    assert not square.any()
    assert channel.read(16, 32) == bytes(range(32, 48))


def test_parts_of_an_array_without_gaps_move(channel: pciedma.Channel) -> None:
    square = numpy.zeros((4, 4), "u4")
    assert channel.readinto(square[1:3], 8) == 32
    assert channel.write(square.T[:, 1:3], 100) == 32
    assert channel.read(32, 100) == bytes(range(8, 40)) == square[1:3].tobytes()
    assert not square[::3].any()


def test_memory_mapped_in_shapes_by_memoryview_moves(channel: pciedma.Channel) -> None:
    area = mmap.mmap(-1, 4096)
    shaped = memoryview(area).cast("I", (4, 4, 64))
    assert channel.readinto(shaped) == 4096
    assert channel.write(shaped[2:], 0) == 2048
    assert channel.read() == 8 * bytes(range(256)) + area[2048:]


def test_numpy_integers_are_integers_but_no_bool(card: pciedma.Card) -> None:
    with card.channel(numpy.int64(1)) as channel:
        assert channel.read(numpy.uint8(3), numpy.uint64(65)) == b"ABC"
        channel.timeout_s = numpy.float32(0.5)
        assert channel.timeout_s == 0.5
        channel.timeout_s = numpy.int32(30)
        assert channel.timeout_s == 30.0
        with pytest.raises(TypeError):
            channel.read(numpy.bool_(True))
    with card.window(numpy.int64(1)) as window:
        window.write32(numpy.uint16(8), numpy.uint32(0xFFFFFFFF))
        assert window.read32(numpy.int8(8)) == 0xFFFFFFFF
        with pytest.raises(TypeError):
            window.read32(numpy.bool_(False))
    with pytest.raises(TypeError):
        pciedma.open(numpy.bool_(True))
    with pytest.raises(pciedma.NoCardError, match="pciedma12345'"):
        pciedma.open(numpy.uint16(12345))
