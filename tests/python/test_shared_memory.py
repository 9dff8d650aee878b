"""Buffers and registrations without a driver: what they are, how long they live, what is refused."""

from __future__ import annotations

import array
import asyncio
import copy
import ctypes
import errno
import gc
import importlib
import mmap
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pciedma
from pciedma import Entry, uapi
from pciedma.buffer import Shared

from .fake_driver import FakeDriver

numpy: Any = importlib.import_module("numpy")
C2H, H2C = uapi.PCIEDMA_BUFFER_C2H, uapi.PCIEDMA_BUFFER_H2C
NEW, USER, DMABUF = uapi.PCIEDMA_BUFFER_NEW, uapi.PCIEDMA_BUFFER_USER, uapi.PCIEDMA_BUFFER_DMABUF


def test_buffer_is_zeroed_memory_of_its_size(driver: FakeDriver, channel: pciedma.Channel) -> None:
    with channel.buffer(5000) as buffer:
        assert (len(buffer), buffer.size, buffer.id, buffer.channel) == (5000, 5000, 1, channel)
        assert (bytes(buffer), buffer.c2h, buffer.h2c, buffer.closed) == (bytes(5000), True, True, False)
        assert repr(buffer) == f"<Buffer 1 of {channel.path} 5000 bytes>"
        assert driver.entries.created == [(NEW, C2H | H2C, 8192)]
    assert (driver.entries.destroyed, buffer.closed, buffer.id) == ([1], True, 0)
    assert repr(buffer) == f"<Buffer of {channel.path} 5000 bytes closed>"
    buffer.close()


def test_slices_are_parts_without_a_copy(channel: pciedma.Channel) -> None:
    with channel.buffer(64) as buffer:
        part = buffer[8:16]
        part[:] = b"abcdefgh"
        buffer[0], buffer[-1], buffer[1:3] = 7, 9, b"xy"
        assert (buffer[0], buffer[63], buffer[-1], bytes(buffer[:4])) == (7, 9, 9, b"\7xy\0")
        assert (bytes(buffer[8:16]), bytes(part[2:4]), list(buffer)[8:10]) == (b"abcdefgh", b"cd", [97, 98])
        assert bytes(buffer[8:16:2]) == b"aceg"
        for wrong in (lambda: buffer[64], lambda: buffer.__setitem__(64, 0)):
            with pytest.raises(IndexError):
                wrong()
        for value in (b"too long", b""):
            with pytest.raises(ValueError, match="different structures"):
                buffer[1:3] = value
        with pytest.raises(ValueError, match="invalid value"):
            buffer[0] = 256
        part.release()


def test_calls_and_arrays_work_in_a_buffer(channel: pciedma.Channel) -> None:
    with channel.buffer(4096) as buffer:
        numbers = numpy.frombuffer(buffer, "u1")
        assert channel.readinto(buffer[16:32], 100) == 16
        assert channel.readinto(numbers[32:48], 200) == 16
        assert bytes(buffer[16:48]) == bytes(range(100, 116)) + bytes(range(200, 216))
        buffer[:2] = b"hi"
        assert (channel.write(buffer[:2], 5), channel.read(3, 4)) == (2, b"\4hi")
        del numbers


def test_buffer_with_views_is_not_closed_and_nothing_is_lost(driver: FakeDriver, channel: pciedma.Channel) -> None:
    buffer = channel.buffer(64)
    for view in (buffer[1:2], memoryview(buffer), numpy.frombuffer(buffer, "u1")):
        with pytest.raises(BufferError):
            buffer.close()
        assert (buffer.closed, driver.entries.destroyed, buffer[0]) == (False, [], 0)
        del view
    buffer.close()


def test_views_do_not_hide_an_exception_that_leaves_the_buffer(
    driver: FakeDriver, channel: pciedma.Channel
) -> None:
    with pytest.raises(KeyError), channel.buffer(64) as buffer:
        view = buffer[1:9]
        raise KeyError
    assert (driver.entries.destroyed, buffer.closed, bytes(view)) == ([1], True, bytes(8))
    with pytest.raises(BufferError), channel.buffer(64) as buffer:
        view = buffer[1:9]
    view.release()
    buffer.close()


@pytest.mark.parametrize("make", [lambda c: c.buffer(64), lambda c: c.register(bytearray(64))])
def test_memory_that_nobody_closed_is_warned_of_and_forgotten(
    driver: FakeDriver, channel: pciedma.Channel, make: Callable[[pciedma.Channel], Any]
) -> None:
    memory = make(channel)
    text = repr(memory)
    with pytest.warns(ResourceWarning) as caught:
        del memory
        gc.collect()
    assert [str(one.message) for one in caught] == [f"unclosed {text}"]
    assert driver.entries.destroyed == [1]


def test_closed_channel_forgets_its_memory_but_buffers_stay_mapped(driver: FakeDriver, devices: Path) -> None:
    data = bytearray(8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pciedma.Channel(devices / "pciedma0c0") as channel:
            buffer, registration = channel.buffer(64), channel.register(data)
        data.append(1)  # nobody has it any more
        buffer[0] = 5
        assert (buffer.closed, registration.closed, buffer[0]) == (True, True, 5)
        assert sorted(driver.entries.destroyed) == [1, 2]
        buffer.close()
        del buffer, registration
        gc.collect()


@pytest.mark.parametrize("make", [lambda c: c.buffer(64), lambda c: c.register(bytearray(64))])
def test_memory_is_not_copied_or_pickled(channel: pciedma.Channel, make: Callable[[pciedma.Channel], Any]) -> None:
    with make(channel) as memory:
        for call in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match=r"cannot copy or pickle <\w+ 1 of .*channel's path"):
                call(memory)
        for name in ("sise", "size", "id"):
            with pytest.raises(AttributeError):
                setattr(memory, name, 1)


def test_buffer_keeps_its_size(channel: pciedma.Channel) -> None:
    with channel.buffer(4096) as buffer, pytest.raises(TypeError, match="has the size with which it was made"):
        buffer.resize(8192)


def test_registered_object_is_kept_until_it_is_closed(driver: FakeDriver, channel: pciedma.Channel) -> None:
    data = bytearray(b"0123456789")
    with channel.register(data) as registration:
        assert (len(registration), registration.size, registration.id) == (10, 10, 1)
        registration[0:2] = b"ab"
        assert (registration[1], bytes(registration[:3]), data[:3]) == (98, b"ab2", b"ab2")
        with pytest.raises(BufferError):
            data.append(1)
        part = registration[4:6]
        assert repr(registration) == f"<Registration 1 of {channel.path} 10 bytes>"
    part[:] = b"zz"  # a view is the object's
    assert (data[4:6], driver.entries.destroyed) == (b"zz", [1])
    part.release()
    data.append(1)
    with pytest.raises(ValueError, match="closed"):
        registration[0]


@pytest.mark.parametrize(
    ("make", "flags"),
    [
        (lambda: b"abc", H2C), (lambda: memoryview(bytearray(9)).toreadonly(), H2C),
        (lambda: array.array("I", [1, 2]), C2H | H2C), (lambda: numpy.zeros((4, 5), order="F"), C2H | H2C),
        (lambda: mmap.mmap(-1, 4096), C2H | H2C),
    ],
)
def test_objects_are_registered_for_what_can_be_done_with_them(
    driver: FakeDriver, channel: pciedma.Channel, make: Callable[[], Any], flags: int
) -> None:
    with channel.register(make()):
        assert driver.entries.created[0][:2] == (USER, flags)


def test_directions_are_those_wanted(driver: FakeDriver, channel: pciedma.Channel) -> None:
    with channel.buffer(1, h2c=False) as one, channel.register(bytearray(1), c2h=False) as two:
        assert [created[1] for created in driver.entries.created] == [C2H, H2C]
        assert (one.c2h, one.h2c, two.c2h, two.h2c) == (True, False, False, True)


@pytest.mark.parametrize(
    ("make", "error", "why"),
    [(lambda c: c.buffer(0), ValueError, "at least a byte"), (lambda c: c.buffer(-1), ValueError, "at least a byte"),
     (lambda c: c.buffer(True), TypeError, "an integer"), (lambda c: c.buffer(1.0), TypeError, "an integer"),
     (lambda c: c.buffer(1, c2h=False, h2c=False), ValueError, "no direction"),
     (lambda c: c.register(b""), ValueError, "no bytes"), (lambda c: c.register(5), TypeError, "bytes-like"),
     (lambda c: c.register(b"x", c2h=True), TypeError, "read-only"),
     (lambda c: c.register(memoryview(bytearray(9))[::2]), TypeError, "contiguous")],
)
def test_memory_that_cannot_be_is_refused(
    driver: FakeDriver, channel: pciedma.Channel, make: Callable[[pciedma.Channel], Any], error: type[Exception],
    why: str,
) -> None:
    with pytest.raises(error, match=why):
        make(channel)
    assert driver.entries.created == []


@pytest.mark.parametrize(
    ("code", "why"),
    [(errno.ENOMEM, "RLIMIT_MEMLOCK"), (errno.EMFILE, "4,096"), (errno.EOPNOTSUPP, "cannot reach .*held for long"),
     (errno.EIO, "error")],
)
def test_refusal_of_the_kernel_says_why(driver: FakeDriver, channel: pciedma.Channel, code: int, why: str) -> None:
    driver.entries.refused = {uapi.PCIEDMA_IOC_BUFFER_CREATE: code}
    for make in (lambda: channel.buffer(1), lambda: channel.register(bytearray(1))):
        with pytest.raises(OSError, match=why) as caught:
            make()
        assert (caught.value.errno, caught.value.filename) == (code, channel.path)


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENODEV, 0])
@pytest.mark.parametrize("is_view", [False, True])
def test_object_may_be_closed_while_the_error_of_its_registration_is_handled(
    driver: FakeDriver, channel: pciedma.Channel, code: int, is_view: bool
) -> None:
    """Without a refusal of the kernel's it is for no direction."""
    driver.entries.refused = {uapi.PCIEDMA_IOC_BUFFER_CREATE: code} if code else {}
    area = mmap.mmap(-1, 4096)
    try:
        channel.register(memoryview(area)[:10] if is_view else area, c2h=False, h2c=None if code else False)
    except (OSError, ValueError):
        area.close()
    else:
        pytest.fail("no error")
    gc.collect()


def test_buffer_that_is_closed_is_not_known_by_its_place_any_more(
    driver: FakeDriver, channel: pciedma.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From before it is unmapped: another mapping may get the place."""
    buffer = channel.buffer(64)
    place, found = buffer._address, []

    def close(self: Any) -> None:
        mmap.mmap.close(self)
        found.append(channel._memory_at(place, 8, C2H))

    monkeypatch.setattr(Shared, "close", close, raising=False)  # what is called in mmap's place
    view = buffer[:8]
    with pytest.raises(BufferError):
        buffer.close()
    assert (channel._memory_at(place, 8, C2H), buffer.closed, found) == (buffer, False, [])
    view.release()
    buffer.close()
    assert (found, driver.entries.destroyed) == ([None], [1])


def test_buffer_that_cannot_be_mapped_is_destroyed(
    driver: FakeDriver, channel: pciedma.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pciedma.buffer._mmap", lambda *arguments: ctypes.set_errno(errno.EACCES))
    with pytest.raises(PermissionError, match=channel.path):
        channel.buffer(1 << 20)
    assert driver.entries.destroyed == [1]


def test_mapping_of_a_buffer_keeps_no_descriptor(channel: pciedma.Channel) -> None:
    before = {*Path("/proc/self/fd").iterdir()}
    with channel.buffer(1 << 20) as buffer:
        assert {*Path("/proc/self/fd").iterdir()} == before
        buffer[:3] = b"abc"
        channel.close()
        assert bytes(buffer[:3]) == b"abc"


def test_old_driver_is_called_so(driver: FakeDriver, channel: pciedma.Channel) -> None:
    driver.abi_version = 2
    driver.unknown = {uapi.PCIEDMA_IOC_BUFFER_CREATE, uapi.PCIEDMA_IOC_TRANSFER}
    for call in (lambda: channel.buffer(1), lambda: channel.register(bytearray(1))):
        with pytest.raises(pciedma.DriverTooOldError):
            call()


def test_dma_bufs_are_exported_and_imported(driver: FakeDriver, channel: pciedma.Channel, devices: Path) -> None:
    with channel.buffer(5000) as buffer, pciedma.Channel(devices / "pciedma1c0") as other:
        buffer[:8] = b"abcdefgh"
        fd = buffer.export_dmabuf()
        with other.import_dmabuf(fd, c2h=False) as shared, other.import_dmabuf(fd) as both:
            os.close(fd)
            assert [created[:2] for created in driver.entries.created[1:]] == [(DMABUF, H2C), (DMABUF, C2H | H2C)]
            assert repr(both) == f"<DmaBuf 3 of {other.path} 8192 bytes>"
            assert (len(both), both.size, both.id) == (8192, 8192, 3)
            assert (both.c2h, shared.c2h, both.closed) == (True, False, False)
            other.transfer([Entry(shared[2:6], 65, direction="write"), Entry(both[8190:], 65, direction="read")])
            assert other.read(4, 65) == b"cdef"
            other.transfer([Entry(both[8190:9999], 100, direction="write")])
            assert other.read(2, 100) == b"cd"
            results = asyncio.run(other.transfer_async([Entry(both[:1], 9, direction="write")]))
            assert (results[0].bytes, other.read(1, 9)) == (1, b"a")
            with pytest.raises(ValueError, match="not for the direction c2h"):
                other.transfer([Entry(shared, 0, direction="read")])
            with pytest.raises(ValueError, match="lie in no open"):
                channel.transfer([Entry(both[:1], 0, direction="read")])
            for key, error in ((3, TypeError), (slice(0, 8, 2), ValueError)):
                with pytest.raises(error):
                    both[key]  # type: ignore[index]
            with pytest.raises(ValueError, match="at least a byte"):
                other.transfer([Entry(both[4:2], 0, direction="read")])
            for call in (other.write_async, other.readinto_async):
                with pytest.raises(TypeError, match="bytes-like"):
                    asyncio.run(call(both, 0))  # type: ignore[arg-type]
            part = both[:4]
        assert (driver.entries.destroyed, both.closed) == ([3, 2], True)
        with pytest.raises(ValueError, match="lie in no open"):
            other.transfer([Entry(part, 0, direction="read")])
    with pytest.raises(ValueError, match="closed"):
        buffer.export_dmabuf()


def test_what_is_no_dma_buf_is_not_imported(driver: FakeDriver, channel: pciedma.Channel) -> None:
    with pytest.raises(OSError, match="no dma-buf's") as caught:
        channel.import_dmabuf(channel.fileno())
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError, match="Bad file") as caught:
        channel.import_dmabuf(999)
    assert caught.value.errno == errno.EBADF
    with pytest.raises(TypeError, match="the descriptor is an integer"):
        channel.import_dmabuf(True)


def test_closed_channel_forgets_dma_bufs(driver: FakeDriver, devices: Path) -> None:
    with pciedma.Channel(devices / "pciedma0c0") as channel, channel.buffer(64) as buffer:
        fd = buffer.export_dmabuf()
        shared = channel.import_dmabuf(fd)
        os.close(fd)
    assert shared.closed
    assert sorted(driver.entries.destroyed) == [1, 2]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_child_does_not_touch_what_the_parent_shares(driver: FakeDriver, channel: pciedma.Channel) -> None:
    buffer, registration = channel.buffer(64), channel.register(bytearray(64))
    readable, writable = os.pipe()
    if os.fork() == 0:
        buffer[0] = 9
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            buffer.close()
            del buffer, registration
            channel.close()
            gc.collect()
        os.write(writable, repr((driver.entries.destroyed, len(caught))).encode())
        os._exit(0)
    os.wait()
    assert os.read(readable, 100) == b"([], 0)"
    assert buffer[0] == 9
    os.close(readable)
    os.close(writable)
    buffer.close()
    registration.close()
