"""Entries without a driver: results, failures, what is split, submitted, waited for, kept and closed."""

from __future__ import annotations

import asyncio
import errno
import gc
import importlib
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pciedma
from pciedma import Entry, uapi
from pciedma.entry import Move

from .fake_driver import FakeDriver

numpy: Any = importlib.import_module("numpy")


@pytest.fixture
def buffer(channel: pciedma.Channel) -> Iterator[pciedma.Buffer]:
    with channel.buffer(1 << 16) as made:
        yield made


def reads(buffer: pciedma.Buffer, count: int) -> list[Entry]:
    return [Entry(buffer[n : n + 1], n % 4096, direction="read") for n in range(count)]


def test_entries_move_and_have_results_in_their_order(channel: pciedma.Channel, buffer: pciedma.Buffer) -> None:
    buffer[:4] = b"abcd"
    numbers = numpy.frombuffer(buffer, "u2")[4:6]
    results = channel.transfer([
        Entry(buffer[:4], 8, direction="write"), Entry(numbers, 8, direction="read", tag="it", barrier=True),
        Entry(memoryview(buffer)[100:101].toreadonly(), direction="write"),
    ])
    assert results == [pciedma.Result(0, 4, None), pciedma.Result("it", 4, None), pciedma.Result(2, 1, None)]
    assert (bytes(numbers), channel.read(2, 7)) == (b"abcd", b"\7a")
    assert channel.transfer([]) == []


def test_whole_buffers_and_registrations_are_memory(channel: pciedma.Channel) -> None:
    data = bytearray(b"0123")
    with channel.register(data) as registration, channel.buffer(4) as buffer:
        channel.transfer([Entry(registration, 8, direction="write"), Entry(buffer, 8, direction="read")])
        channel.transfer([Entry(memoryview(data)[1:2], 0, direction="read")])
        assert (bytes(buffer), data) == (b"0123", b"0\x0023")


@pytest.mark.parametrize(
    ("make", "error", "why"),
    [(lambda b: Entry(bytearray(4), 0, direction="read"), ValueError, "4 bytes at 0x.* lie in no open Buffer"),
     (lambda b: Entry(b[:0], 0, direction="read"), ValueError, "at least a byte"),
     (lambda b: Entry(b[:4].toreadonly(), 0, direction="read"), TypeError, "read-only"),
     (lambda b: Entry(b[:4], -1, direction="read"), ValueError, "negative"),
     (lambda b: Entry(b[:4], 0, direction="up"),  # type: ignore[arg-type]
      ValueError, "'read' or 'write', not 'up'"),
     (lambda b: Entry(b[:4:2], 0, direction="read"), TypeError, "contiguous"),
     (lambda b: b[:4], TypeError, "pciedma's Entry")],
)
def test_entry_that_cannot_be_is_refused_before_any_is_moved(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer, make: Callable[[pciedma.Buffer], Any],
    error: type[Exception], why: str,
) -> None:
    for call in (channel.transfer, channel.submit):
        with pytest.raises(error, match=why):
            call([Entry(buffer[:1], 0, direction="write"), make(buffer)])
    assert (driver.entries.calls, channel.submitted) == ([], 0)


@pytest.mark.parametrize("address", [0, -1, 4095])
def test_buffer_may_be_closed_while_the_error_of_its_parts_is_handled(
    driver: FakeDriver, channel: pciedma.Channel, address: int
) -> None:
    driver.entries.broken = {0: errno.EIO}
    for method in (channel.transfer, channel.submit):
        buffer = channel.buffer(64)
        try:
            method([Entry(buffer[:2], address, direction="read"), Entry(buffer[:0], 0, direction="read")])
        except (OSError, ValueError):
            buffer.close()
    buffer = channel.buffer(64)
    try:
        channel.transfer([Entry(buffer[:2], abs(address), direction="read")])
    except OSError:
        buffer.close()
    else:
        buffer.close()


def test_buffer_may_be_closed_when_the_error_of_its_parts_was_handled(
    driver: FakeDriver, channel: pciedma.Channel
) -> None:
    def fail(buffer: pciedma.Buffer) -> None:
        entries = reads(buffer, 3)
        channel.transfer(entries)

    driver.entries.broken = {1: errno.EIO}
    results: list[Any] = []
    gc.disable()
    try:
        with channel.buffer(64) as buffer:
            try:
                fail(buffer)
            except pciedma.TransferError as error:
                results += error.results
    finally:
        gc.enable()
    assert len(results) == 3


def test_memory_of_another_channel_closed_or_for_the_other_direction_is_refused(
    channel: pciedma.Channel, devices: Path
) -> None:
    with pciedma.Channel(devices / "pciedma0c1") as other, other.buffer(8) as foreign, channel.buffer(8) as closed:
        closed.close()
        for memory in (foreign, foreign[:1], closed):
            with pytest.raises(ValueError, match=r"lie in no open|is not memory of"):
                channel.transfer([Entry(memory, 0, direction="write")])
    with channel.register(b"constant") as one, pytest.raises(ValueError, match="not for the direction c2h"):
        channel.transfer([Entry(one, 0, direction="read")])


def test_the_registration_for_the_direction_is_found(driver: FakeDriver, channel: pciedma.Channel) -> None:
    data = bytearray(8)
    with channel.register(data, h2c=False), channel.register(data, c2h=False):
        channel.transfer([Entry(data, 0, direction=direction) for direction in ("read", "write")])  # type: ignore[arg-type]


def test_failure_ends_the_call_and_carries_all_results(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer
) -> None:
    driver.entries.broken = {2: errno.EIO}
    with pytest.raises(pciedma.TransferError, match=r"reading 1 bytes at 0x2 of .*Input/output error") as caught:
        channel.transfer(reads(buffer, 5))
    results = caught.value.results
    assert [(result.tag, result.bytes) for result in results] == [(0, 1), (1, 1), (2, 0), (3, 0), (4, 0)]
    kinds = [type(None), type(None), pciedma.TransferError, *[pciedma.RequestCancelledError] * 2]
    assert [type(result.error) for result in results] == kinds
    assert (str(caught.value), caught.value.errno) == (str(results[2].error), errno.EIO)
    assert all(result.error is None or result.error.__traceback__ is None for result in results)


@pytest.mark.parametrize("way", ["transfer", "submit", "asyncio"])
@pytest.mark.parametrize("room", [4096, 4])
def test_with_each_the_failure_of_an_entry_ends_no_other(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer, way: str, room: int
) -> None:
    """Those that the kernel refuses, the first among them, and those that fail."""
    driver.entries.broken, driver.entries.room = {2: errno.EIO, 7: errno.ETIMEDOUT}, room
    wrong = [Entry(buffer[:2], 4095, direction="read")]
    made = [*wrong, *reads(buffer, 5), *wrong, *wrong, *(reads(buffer, 10)[5:]), *wrong]
    results: Any = []
    if way == "submit":
        assert channel.submit(made, each=True) == list(range(14))
        while some := channel.wait():
            results += some
        results.sort(key=lambda result: result.tag)
    else:
        with pytest.raises(pciedma.TransferError) as caught:
            channel.transfer(made, each=True) if way == "transfer" else asyncio.run(
                channel.transfer_async(made, each=True)
            )
        results = caught.value.results
        assert caught.value.errno == errno.ENOSPC
    made.clear()
    wrong.clear()
    codes = {n: result.error.errno for n, result in enumerate(results) if result.error}
    assert codes == {3: errno.EIO, 10: errno.ETIMEDOUT, **dict.fromkeys((0, 6, 7, 13), errno.ENOSPC)}
    assert len(results) == 14
    assert all(flags & uapi.PCIEDMA_TRANSFER_EACH for flags in driver.entries.flags)
    assert bytes(buffer[3:10]) == b"\3\4\5\6\0\10\11"


def test_with_each_a_signal_ends_nothing_and_an_error_of_the_call_all(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer
) -> None:
    driver.entries.interrupted, driver.entries.broken = 2, {16: errno.EIO}
    made = [Entry(buffer[n * 8 :][:8], n * 8, direction="read") for n in range(4)]
    with pytest.raises(pciedma.TransferError) as caught:
        channel.transfer(made, each=True)
    assert [result.bytes for result in caught.value.results] == [8, 8, 0, 8]
    driver.gone = {0}
    before = len(driver.entries.calls)
    driver.entries.refused = {uapi.PCIEDMA_IOC_TRANSFER: errno.ENODEV}
    for _ in range(2):
        with pytest.raises(pciedma.CardGoneError) as gone:
            channel.transfer(made, each=True)
        assert {type(result.error) for result in gone.value.results[1:]} == {pciedma.RequestCancelledError}
    channel.submit(made, each=True)
    assert [result.error and result.error.errno for result in channel.wait(4)] == [
        errno.ENODEV, *[errno.ECANCELED] * 3,
    ]
    assert len(driver.entries.calls) == before
    made.clear()


@pytest.mark.parametrize("at", [0, 1])
def test_entry_that_the_kernel_refuses_ends_the_call(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer, at: int
) -> None:
    with pytest.raises(pciedma.TransferError) as caught:
        channel.transfer([*reads(buffer, at), Entry(buffer[:2], 4095, direction="read"), *reads(buffer, 2 - at)])
    assert caught.value.errno == errno.ENOSPC
    assert [result.bytes for result in caught.value.results] == [1] * at + [0] * (3 - at)


def test_signal_does_not_shorten_a_call(driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer) -> None:
    driver.entries.interrupted = 2
    results = channel.transfer([Entry(buffer[n * 8 :][:8], n * 8, direction="read") for n in range(4)])
    assert ([result.bytes for result in results], bytes(buffer[:32])) == ([8] * 4, bytes(range(32)))
    assert driver.entries.calls == [4, 4, 4]


def test_more_entries_than_the_kernel_takes_are_split(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer
) -> None:
    assert len(channel.transfer(reads(buffer, 10_000))) == 10_000
    assert driver.entries.calls == [4096, 4096, 1808]
    assert bytes(buffer[:10_000]) == (bytes(range(256)) * 40)[:10_000]


def test_long_entries_are_split_and_told_of_as_one() -> None:
    move = Move(uapi.PCIEDMA_ENTRY_C2H | uapi.PCIEDMA_ENTRY_BARRIER, 3, 10, 5 << 30, 7, "it", None)
    raw = [uapi.pciedma_transfer_entry() for _ in move.parts]
    for part, one in zip(move.parts, raw, strict=True):
        part.fill(one)
    most = uapi.PCIEDMA_ENTRY_MAX
    assert [(one.offset, one.length, one.address, one.flags) for one in raw] == [
        (10, most, 7, 5), (10 + most, most, 7 + most, 1), (10 + 2 * most, (5 << 30) - 2 * most, 7 + 2 * most, 1),
    ]
    move.parts[0].moved, move.parts[1].moved, move.parts[1].code, move.parts[2].moved = most, 100, errno.EIO, 50
    assert (move.moved, move.code) == (most + 100, errno.EIO)
    message = Move(uapi.PCIEDMA_ENTRY_C2H, 3, 0, 5 << 30, None, None, None)
    assert len(message.parts) == 1


def test_no_room_is_waited_for_or_told_of(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer, devices: Path
) -> None:
    driver.entries.held, driver.entries.room = True, 2
    channel.submit(reads(buffer, 2))
    channel.timeout_s = 0
    with pytest.raises(pciedma.WouldBlockError):
        channel.transfer(reads(buffer, 1))
    channel.timeout_s = 0.05
    with pytest.raises(pciedma.WouldBlockError):
        channel.transfer(reads(buffer, 1))
    channel.timeout_s = 10

    def take() -> None:
        driver.entries.release()
        assert len(channel.wait(2)) == 2

    thread = threading.Timer(0.1, take)
    thread.start()
    assert channel.transfer(reads(buffer, 1))[0].bytes == 1
    thread.join()


def test_time_out_is_of_time_without_progress(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call gets on for longer than that, and waits for room now and then, but never as long."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += 0.9
        driver.entries.room = 1

    ask = channel._move_some

    def move(*arguments: Any) -> int:
        code = ask(*arguments)
        driver.entries.room = 0
        return code

    monkeypatch.setattr(pciedma.Channel, "_move_some", lambda self, *arguments: move(*arguments))
    monkeypatch.setattr("pciedma.transfer.time.sleep", sleep)
    monkeypatch.setattr("pciedma.transfer.time.monotonic", lambda: now[0])
    channel.timeout_s, driver.entries.room = 1, 0
    assert len(channel.transfer(reads(buffer, 20))) == 20
    assert now[0] > 10
    monkeypatch.setattr("pciedma.transfer.time.sleep", lambda seconds: now.__setitem__(0, now[0] + 0.9))
    with pytest.raises(pciedma.WouldBlockError):
        channel.transfer(reads(buffer, 1))


def test_submitted_entries_are_waited_for(driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer) -> None:
    driver.entries.held = True
    assert channel.wait() == channel.wait(0) == []
    assert channel.submit(reads(buffer, 3)) == [0, 1, 2]
    assert channel.submit([Entry(buffer[:1], 9, direction="read", tag="it")]) == ["it"]
    assert (channel.submitted, channel.wait(timeout_s=0.01), channel.wait(0)) == (4, [], [])
    driver.entries.release(3)
    assert [result.tag for result in channel.wait(2, 2)] == [0, 1]
    assert [result.tag for result in channel.wait(2, timeout_s=0.01)] == [2]
    threading.Timer(0.05, driver.entries.release).start()
    assert channel.wait(100) == [pciedma.Result("it", 1, None)]
    assert channel.submitted == 0


@pytest.mark.parametrize(("least", "most"), [(-1, None), (2, 1), (0, 0)])
def test_wait_for_what_cannot_be_is_refused(channel: pciedma.Channel, least: int, most: int | None) -> None:
    with pytest.raises(ValueError, match="min is 0 or more"):
        channel.wait(least, most)


def test_more_than_there_is_room_for_is_handed_in_when_results_are_taken(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer
) -> None:
    driver.entries.room = 64
    tags = channel.submit(reads(buffer, 1000)) + channel.submit(reads(buffer, 5))
    results = []
    while some := channel.wait():
        results += some
    assert [result.tag for result in results] == tags == list(range(1005))
    assert (driver.entries.most, bytes(buffer[:1000])) == (64, (bytes(range(256)) * 4)[:1000])


def test_failure_ends_what_had_not_been_handed_in_of_its_call_alone(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer
) -> None:
    driver.entries.room, driver.entries.broken = 64, {70: errno.EIO}
    channel.submit(reads(buffer, 200))
    channel.submit(reads(buffer, 3))
    results = []
    while some := channel.wait():
        results += some
    errors = [result.error.errno if result.error else 0 for result in sorted(results, key=lambda result: result.tag)]
    assert errors == [0] * 70 + [errno.EIO] + [0] * 57 + [errno.ECANCELED] * 72 + [0] * 3


def test_rest_of_a_call_waits_for_what_may_fail(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer
) -> None:
    driver.entries.held, driver.entries.room, driver.entries.broken = True, 8, {6: errno.EIO}
    channel.submit(reads(buffer, 20))
    driver.entries.release(4)
    assert (len(channel.wait(4)), driver.entries.under_way) == (4, 4)
    driver.entries.release(4)
    codes = [result.error and result.error.errno for result in channel.wait(16)]
    assert codes == [None, None, errno.EIO, None, *[errno.ECANCELED] * 12]
    assert driver.entries.under_way == 0


def test_refused_entry_of_a_submission_is_a_result(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer
) -> None:
    channel.submit([*reads(buffer, 2), Entry(buffer[:2], 4095, direction="read"), *reads(buffer, 1)])
    codes = {result.tag: result.error and result.error.errno for result in channel.wait(4)}
    assert codes == {0: None, 1: None, 2: errno.ENOSPC, 3: errno.ECANCELED}


def test_cancel_ends_what_waits_for_room_too(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer
) -> None:
    driver.entries.held, driver.entries.room = True, 4
    channel.submit(reads(buffer, 10))
    channel.cancel()
    results = channel.wait(10)
    assert [type(result.error) for result in results] == [pciedma.RequestCancelledError] * 10
    driver.entries.held = False
    channel.submit(reads(buffer, 1))
    assert channel.wait()[0].error is None


def test_memory_is_kept_until_the_result_is_there(driver: FakeDriver, channel: pciedma.Channel) -> None:
    driver.entries.held = True
    data = bytearray(b"abcd")
    with channel.register(data) as registration, channel.buffer(64) as buffer:
        channel.submit([Entry(registration, 0, direction="write"), Entry(buffer[:4], 0, direction="read")])
        kept = weakref.ref(buffer)
    with pytest.raises(BufferError):
        data.append(1)
    assert (buffer.closed, len(driver.entries.destroyed)) == (True, 2)
    del buffer
    gc.collect()
    assert kept() is not None
    driver.entries.release()
    assert [result.error for result in channel.wait(2)] == [None, None]
    gc.collect()
    assert kept() is None
    data.append(1)


def test_closed_channel_waits_for_what_was_submitted(driver: FakeDriver, devices: Path) -> None:
    driver.entries.held = True
    data = bytearray(8)
    channel = pciedma.Channel(devices / "pciedma0c0")
    registration = channel.register(data)
    channel.submit([Entry(registration, 0, direction="read")])
    assert driver.entries.under_way == 1
    channel.close()
    assert (driver.entries.under_way, registration.closed) == (0, True)
    data.append(1)
    for call in (lambda: channel.wait(), lambda: channel.submit([])):
        with pytest.raises(ValueError, match="is closed"):
            call()


def test_threads_that_wait_get_each_result_once(driver: FakeDriver, channel: pciedma.Channel) -> None:
    buffer = channel.buffer(4096)
    found: list[Any] = []
    lock = threading.Lock()

    def work(number: int) -> None:
        for _ in range(50):
            channel.submit([Entry(buffer[number : number + 1], number, direction="read", tag=number)] * 7)
            some = channel.wait(7, 7)
            with lock:
                found.extend(some)

    driver.entries.held = True
    stop = threading.Event()

    def release() -> None:
        while not stop.wait(0.0001):
            driver.entries.release(5)

    releasing = threading.Thread(target=release)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in (releasing, *threads):
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    stop.set()
    releasing.join()
    assert sorted(result.tag for result in found) == sorted(list(range(6)) * 350)
    assert (channel.submitted, channel.wait()) == (0, [])
    buffer.close()


def test_interrupted_wait_loses_no_result(driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer) -> None:
    class StopError(Exception):
        pass

    def stop(*arguments: object) -> None:
        raise StopError

    driver.entries.held = True
    channel.submit(reads(buffer, 200))
    before = signal.signal(signal.SIGALRM, stop)
    try:
        taken = 0
        while taken < 200:
            driver.entries.release(1)
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0003)
                time.sleep(0)
                taken += len(channel.wait(1, timeout_s=0.001))
                signal.setitimer(signal.ITIMER_REAL, 0)
            except StopError:
                pass
            assert len(channel._done) + len(channel._handed_in) == channel.submitted
            if not channel.submitted:
                break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_child_may_transfer_but_not_take_the_parent_s_results(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer
) -> None:
    driver.entries.held = True
    channel.submit(reads(buffer, 1))
    if os.fork() == 0:
        told = []
        for call in (channel.wait, lambda: channel.submit([])):
            try:
                call()
            except ValueError as error:
                told.append("before fork()" in str(error))
        moved = channel.transfer([Entry(buffer[8:9], 65, direction="read")])[0].bytes
        channel.close()
        os._exit(0 if told == [True, True] and moved == 1 and driver.entries.under_way == 1 else 1)
    assert os.wait()[1] == 0
    driver.entries.release()
    assert (channel.wait()[0].bytes, buffer[8]) == (1, 65)
