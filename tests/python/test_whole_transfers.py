"""Whole transfers: all bytes or an error that says how many; one call where that is asked for, and for messages."""

from __future__ import annotations

import array
import copy
import errno
import mmap
import os
import pickle
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import pciedma
from pciedma import uapi

from .fake_driver import FakeDriver

#: Most that Linux moves by one call.
CALL_MAX = 0x7FFFF000
_MAP_NORESERVE = 0x4000  # mypy knows none in mmap
#: What moves data: the name of the kernel's call, and the channel's.
WAYS: dict[str, Callable[..., int]] = {"preadv": pciedma.Channel.readinto, "pwritev": pciedma.Channel.write}


class Kernel:
    """Moves nothing, *most* bytes a call at most; of the third call and those after it comes what is in *ends*."""

    def __init__(self, most: int = CALL_MAX, ends: Sequence[int | OSError | Callable[[], object]] = ()) -> None:
        self.most, self.ends = most, list(ends)
        self.calls: list[tuple[int, int | None]] = []

    def move(self, fd: int, buffers: Sequence[memoryview], position: int | None = None) -> int:
        """Take the place of os.preadv() and the like."""
        length = sum(len(buffer) for buffer in buffers)
        self.calls.append((length, position))
        if len(self.calls) > 2 and self.ends:
            end = self.ends.pop(0)
            if isinstance(end, OSError):
                raise end
            if isinstance(end, int):
                return end
            end()
        return min(length, self.most)


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def install(monkeypatch: pytest.MonkeyPatch, kernel: Kernel) -> Kernel:
    for name in ("preadv", "pwritev", "readv", "writev"):
        monkeypatch.setattr(os, name, kernel.move)
    return kernel


def huge(length: int) -> mmap.mmap:
    """Return memory that is not there until somebody touches it."""
    return mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)


def test_transfer_goes_on_after_short_counts(
    channel: pciedma.Channel, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = install(monkeypatch, Kernel(4000))
    assert WAYS[way](channel, bytearray(10000), 1 << 40) == 10000
    assert kernel.calls == [(10000, 1 << 40), (6000, (1 << 40) + 4000), (2000, (1 << 40) + 8000)]


def test_transfer_above_2_gib_goes_on(channel: pciedma.Channel, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = install(monkeypatch, Kernel())
    assert WAYS[way](channel, huge(5 << 30), 7) == 5 << 30
    assert kernel.calls == [
        (5 << 30, 7), ((5 << 30) - CALL_MAX, CALL_MAX + 7), ((5 << 30) - 2 * CALL_MAX, 2 * CALL_MAX + 7)
    ]


def test_kernel_cuts_a_call_where_it_goes_on(driver: FakeDriver) -> None:
    driver.names["null"] = "pciedma0c0"
    with pciedma.Channel("/dev/null") as channel:
        assert channel.write(huge((2 << 30) + 5), whole=False) == CALL_MAX
        assert channel.write(huge((2 << 30) + 5)) == (2 << 30) + 5


GROWABLE: list[tuple[Callable[[], Any], Callable[[Any], object]]] = [
    (lambda: bytearray(10000), lambda buffer: buffer.extend(b"more")),
    (lambda: array.array("H", [0] * 5000), lambda buffer: buffer.append(1)),
    (lambda: mmap.mmap(-1, 12288), lambda buffer: buffer.close()),
]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("make", "change"), GROWABLE)
def test_buffer_may_be_resized_while_the_error_of_a_transfer_is_handled(
    channel: pciedma.Channel, way: str, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any],
    change: Callable[[Any], object], whole: bool,
) -> None:
    kernel = install(monkeypatch, Kernel(4000, [OSError(errno.EIO, "")]))
    kernel.calls += [] if whole else [(0, 0)] * 2  # so that the first call fails
    buffer = make()
    try:
        WAYS[way](channel, buffer, 0, whole=whole)
    except pciedma.TransferError as error:
        change(buffer)
        assert error.transferred == (8000 if whole else 0)
    else:
        pytest.fail("no error")


@pytest.mark.parametrize(("make", "change"), GROWABLE)
def test_buffer_may_be_resized_while_a_wrong_call_is_handled(
    channel: pciedma.Channel, way: str, make: Callable[[], Any], change: Callable[[Any], object]
) -> None:
    buffer = make()
    try:
        WAYS[way](channel, buffer, -1)
    except ValueError:
        change(buffer)
    else:
        pytest.fail("no error")


def test_buffer_may_be_resized_while_an_interruption_is_handled(
    channel: pciedma.Channel, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    install(monkeypatch, Kernel(4000, [interrupt]))
    buffer = bytearray(10000)
    try:
        WAYS[way](channel, buffer, 0)
    except KeyboardInterrupt:
        buffer.extend(b"more")
    else:
        pytest.fail("no error")


def test_one_call_may_be_short(channel: pciedma.Channel, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = install(monkeypatch, Kernel(4000))
    assert WAYS[way](channel, bytearray(10000), 3, whole=False) == 4000
    assert channel.read(10000, whole=False) == bytes(4000)
    assert kernel.calls == [(10000, 3), (10000, 0)]


ERRORS: list[tuple[int, type[OSError], type[OSError]]] = [
    (errno.EIO, pciedma.TransferError, OSError),
    (errno.ETIMEDOUT, pciedma.DmaTimeoutError, TimeoutError),
    (errno.EAGAIN, pciedma.WouldBlockError, BlockingIOError),
    (errno.ENODEV, pciedma.CardGoneError, OSError),
    (errno.ECANCELED, pciedma.RequestCancelledError, OSError),
    (errno.EFAULT, pciedma.TransferError, OSError),
]


@pytest.mark.parametrize(("code", "kind", "builtin"), ERRORS)
def test_error_says_what_had_moved_and_what_was_asked_for(
    channel: pciedma.Channel, way: str, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[OSError],
    builtin: type[OSError],
) -> None:
    install(monkeypatch, Kernel(4000, [OSError(code, "x")]))
    with pytest.raises(builtin) as caught:
        WAYS[way](channel, bytearray(10000), 0x1000)
    error: Any = caught.value
    assert (type(error), error.errno, error.filename) == (kind, code, channel.path)
    assert (error.transferred, error.address, error.length) == (8000, 0x1000, 10000)
    doing = "reading" if way == "preadv" else "writing"
    reason = f"{doing} 10000 bytes at 0x1000 of {channel.path}: {os.strerror(code)}, after 8000 bytes"
    assert str(error) == f"[Errno {code}] {reason}"


def test_error_before_anything_has_moved_counts_nothing(channel: pciedma.Channel, way: str) -> None:
    os.close(channel.fileno())
    channel._fd = os.open(channel.path, os.O_WRONLY if way == "preadv" else os.O_RDONLY)
    with pytest.raises(pciedma.TransferError, match=r"ing 5 bytes at 0x0 of .*: Bad file descriptor$") as caught:
        WAYS[way](channel, bytearray(5))
    assert (caught.value.errno, caught.value.transferred, caught.value.partial) == (errno.EBADF, 0, b"")


def test_error_of_read_has_the_bytes_that_arrived(
    channel: pciedma.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    preadv = os.preadv

    def fail(fd: int, buffers: Sequence[Any], position: int) -> int:
        if position >= 140:
            raise OSError(errno.EIO, "x")
        return preadv(fd, [buffers[0][:20]], position)

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(pciedma.TransferError) as caught:
        channel.read(100, 100)
    assert (caught.value.transferred, caught.value.partial) == (40, bytes(range(100, 140)))


def test_error_of_a_transfer_is_copied_and_pickled(
    channel: pciedma.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, Kernel(4000, [OSError(errno.ETIMEDOUT, "x")]))
    with pytest.raises(pciedma.DmaTimeoutError) as caught:
        channel.read(10000, 1)
    for other in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value)):
        assert (str(other), type(other)) == (str(caught.value), pciedma.DmaTimeoutError)
        assert (other.transferred, other.partial, other.errno) == (8000, bytes(8000), errno.ETIMEDOUT)


def test_error_of_another_call_names_the_node(card: pciedma.Card, driver: FakeDriver) -> None:
    driver.gone = {0}
    with pytest.raises(pciedma.CardGoneError, match=r"No such device: '.*pciedma0'") as caught:
        card.reset()
    assert caught.value.transferred == 0


def test_read_ends_where_the_memory_ends(channel: pciedma.Channel) -> None:
    assert channel.read(100, 4090) == bytes(range(250, 256))
    buffer = bytearray(b"x" * 100)
    assert channel.readinto(buffer, 4095) == 1
    assert buffer == b"\xff" + b"x" * 99
    assert channel.read(1, 4096) == channel.read(10, 1 << 62) == b""


@pytest.mark.parametrize("end", [0, OSError(errno.ENOSPC, "x")])
def test_write_at_the_end_of_the_memory_is_enospc(
    channel: pciedma.Channel, monkeypatch: pytest.MonkeyPatch, end: int | OSError
) -> None:
    install(monkeypatch, Kernel(4000, [end]))
    with pytest.raises(pciedma.TransferError, match="No space left on device, after 8000 bytes") as caught:
        channel.write(bytes(10000))
    assert (caught.value.errno, caught.value.transferred) == (errno.ENOSPC, 8000)


def test_cancel_ends_a_whole_transfer_that_has_moved_part(
    channel: pciedma.Channel, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = install(monkeypatch, Kernel(4000, [channel.cancel]))
    with pytest.raises(pciedma.RequestCancelledError) as caught:
        WAYS[way](channel, bytearray(40000))
    assert (caught.value.errno, caught.value.transferred, len(kernel.calls)) == (errno.ECANCELED, 12000, 3)
    assert WAYS[way](channel, bytearray(40000)) == 40000


def test_cancel_before_and_after_does_not_matter(
    channel: pciedma.Channel, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, Kernel(4000, [channel.cancel]))
    channel.cancel()
    assert WAYS[way](channel, bytearray(12000)) == 12000


def test_signal_with_a_handler_does_not_end_a_whole_transfer(
    channel: pciedma.Channel, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        install(monkeypatch, Kernel(4000, [lambda: signal.raise_signal(signal.SIGUSR1)]))
        assert WAYS[way](channel, bytearray(20000)) == 20000
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1]


def test_close_by_another_thread_does_not_lead_to_another_file(
    channel: pciedma.Channel, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close() -> None:
        thread = threading.Thread(target=channel.close)
        thread.start()
        thread.join()

    install(monkeypatch, Kernel(4000, [close]))
    with pytest.raises(ValueError, match="is closed"):
        WAYS[way](channel, bytearray(20000))


@pytest.mark.parametrize("kind", [uapi.PCIEDMA_KIND_MESSAGE, uapi.PCIEDMA_KIND_STREAM, 99])
def test_message_is_one_call_and_may_be_short(
    driver: FakeDriver, devices: Path, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    driver.kind = kind
    with pciedma.Channel(devices / "pciedma0c0") as channel:
        kernel = install(monkeypatch, Kernel(4000))
        assert channel.readinto(bytearray(10000)) == channel.write(bytes(10000)) == 4000
        assert channel.read(10000) == bytes(4000)
        assert channel.write(b"") == channel.readinto(bytearray()) == 0
        assert kernel.calls == [(10000, None)] * 3 + [(0, None)] * 2


def test_error_of_a_message_has_no_address(
    driver: FakeDriver, devices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.kind = uapi.PCIEDMA_KIND_MESSAGE
    with pciedma.Channel(devices / "pciedma0c0") as channel:
        def refuse(fd: int, buffers: Sequence[memoryview]) -> int:
            raise OSError(errno.EMSGSIZE, "x")

        monkeypatch.setattr(os, "writev", refuse)
        with pytest.raises(pciedma.MessageTooLongError) as caught:
            channel.write(bytes(3000))
    assert str(caught.value) == f"[Errno 90] writing 3000 bytes of {channel.path}: Message too long"
    assert (caught.value.address, caught.value.transferred) == (None, 0)


def test_transfer_beyond_the_last_address_moves_nothing(
    channel: pciedma.Channel, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = install(monkeypatch, Kernel())
    last = (1 << 63) - 1
    for length, address in ((1, last), (16, last - 15), (5 << 30, last - CALL_MAX)):
        with pytest.raises(ValueError, match="end behind 2\\^63 - 1"):
            WAYS[way](channel, huge(length), address)
    with pytest.raises(ValueError, match="end behind 2\\^63 - 1"):
        channel.read(1 << 70, 5)
    assert kernel.calls == []
    assert WAYS[way](channel, bytearray(16), last - 16) == 16


def test_unsuitable_sizes_and_addresses_are_refused(channel: pciedma.Channel) -> None:
    with pytest.raises(ValueError, match="size is negative; without one it is the rest"):
        channel.read(-1)
    wrong: Any
    for wrong in ("4", 4.0, True, b"4"):
        with pytest.raises(TypeError, match="the size is an integer"):
            channel.read(wrong)
        for call in (lambda at: channel.read(1, at), lambda at: channel.write(b"x", at)):
            with pytest.raises(TypeError, match="the address is an integer"):
                call(wrong)
    assert channel.read(0) == channel.read(0, 7) == b""


def test_size_of_a_message_is_refused_as_well(driver: FakeDriver, devices: Path) -> None:
    driver.kind = uapi.PCIEDMA_KIND_MESSAGE
    with pciedma.Channel(devices / "pciedma0c0") as channel:
        with pytest.raises(ValueError, match="size is negative"):
            channel.read(-5)
        with pytest.raises(ValueError, match="longer than any message"):
            channel.read(1 << 70)
