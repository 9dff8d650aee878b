"""Calls for asyncio without a driver: what they move, cancellation, loops, and what is left over."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import pciedma
from pciedma import Entry, uapi
from pciedma.pool import Pool

from .fake_driver import FakeDriver

Call = Callable[[pciedma.Channel, pciedma.Buffer], Coroutine[Any, Any, object]]

#: What each moves is at most 4096 bytes; the card has so many.
CALLS: list[Call] = [
    lambda channel, buffer: channel.read_async(8, 65),
    lambda channel, buffer: channel.readinto_async(bytearray(8), 65),
    lambda channel, buffer: channel.readinto_async(buffer[:8], 65),
    lambda channel, buffer: channel.write_async(b"12345678", 65),
    lambda channel, buffer: channel.transfer_async([Entry(buffer[:8], 65, direction="read")]),
]
NAMES = ["read", "readinto", "readinto buffer", "write", "transfer"]


@pytest.fixture(autouse=True)
def nothing_is_said(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No exception is lost, no coroutine forgotten."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()
    assert caplog.records == []


@pytest.fixture
def buffer(channel: pciedma.Channel) -> Iterator[pciedma.Buffer]:
    with channel.buffer(1 << 16) as made:
        yield made


def is_idle(channel: pciedma.Channel) -> bool:
    """Nothing is under way, and all of the pool is free."""
    pool = channel._pool
    return not (channel._handed_in or channel._queue or channel._loops or channel._tickets) and (
        pool is None or len(pool._free[len(pool.memory)]) == 1
    )


async def settled(channel: pciedma.Channel) -> None:
    for _ in range(1000):
        if is_idle(channel):
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it does not settle")


def test_bytes_are_read_and_written(channel: pciedma.Channel, buffer: pciedma.Buffer) -> None:
    async def main() -> None:
        data = bytearray(4)
        assert await channel.read_async(3, 65) == b"ABC"
        assert await channel.readinto_async(data, 66) == 4
        assert await channel.readinto_async(buffer[8:10], 97) == 2
        assert (data, bytes(buffer[8:10])) == (b"BCDE", b"ab")
        assert await channel.write_async(b"hello", 10) == 5
        assert await channel.write_async(buffer[8:10], 15) == 2
        assert await channel.read_async(7, 10) == b"helloab"
        results = await channel.transfer_async([Entry(buffer[:2], 65, direction="read")])
        assert (results, bytes(buffer[:2])) == ([pciedma.Result(0, 2, None)], b"AB")
        assert await channel.transfer_async([]) == []
        await settled(channel)

    asyncio.run(main())


def test_ends_of_the_memory_are_as_for_synchronous_calls(channel: pciedma.Channel, buffer: pciedma.Buffer) -> None:
    async def main() -> None:
        assert len(await channel.read_async()) == len(await channel.read_async(5000)) == 4096
        assert await channel.read_async(10, 4090) == bytes(range(250, 256))
        assert await channel.read_async(10, 4096) == await channel.read_async(0) == b""
        for data in (bytes(10), buffer[:10]):
            with pytest.raises(pciedma.TransferError, match=r"writing 10 bytes at 0xffa of .*, after 6 b") as caught:
                await channel.write_async(data, 4090)
            assert (caught.value.errno, caught.value.transferred) == (errno.ENOSPC, 6)
            del caught
        for wrong in (lambda: channel.read_async(-1), lambda: channel.write_async(b"x", -1)):
            with pytest.raises(ValueError, match="negative"):
                await wrong()
        with pytest.raises(TypeError, match="read-only"):
            await channel.readinto_async(b"abc")

    asyncio.run(main())


@pytest.mark.parametrize("call", CALLS, ids=NAMES)
@pytest.mark.parametrize(
    ("code", "kind"),
    [(errno.EIO, pciedma.TransferError), (errno.ETIMEDOUT, pciedma.DmaTimeoutError),
     (errno.ENODEV, pciedma.CardGoneError)],
)
def test_errors_are_those_of_synchronous_calls(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer, call: Call, code: int, kind: type[OSError]
) -> None:
    driver.entries.broken = {65: code}

    async def main() -> None:
        with pytest.raises(kind, match=r"ing 8 bytes at 0x41 of ") as caught:
            await call(channel, buffer)
        assert (type(caught.value), caught.value.errno) == (kind, code)
        await settled(channel)

    asyncio.run(main())


def test_long_requests_go_in_parts(driver: FakeDriver, channel: pciedma.Channel, monkeypatch: Any) -> None:
    monkeypatch.setattr("pciedma.pool._MOST", 1 << 9)
    data = os.urandom(4096)

    async def main() -> None:
        assert await channel.write_async(data[:4000]) == 4000
        assert await channel.read_async(4000) == data[:4000]
        driver.entries.broken = {1024: errno.EIO}
        with pytest.raises(pciedma.TransferError) as caught:
            await channel.read_async(4000)
        assert (caught.value.transferred, caught.value.partial) == (1024, data[:1024])
        await settled(channel)

    asyncio.run(main())


def test_thousands_at_once_queue(driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer) -> None:
    driver.entries.room = 128

    async def main() -> None:
        calls = [channel.read_async(4096) for _ in range(1000)]  # twice the pool
        calls += [channel.read_async(2, n % 4000) for n in range(5000)]
        found = await asyncio.gather(*calls, channel.transfer_async(
            [Entry(buffer[n : n + 1], n % 4096, direction="read") for n in range(6000)]
        ))
        assert {len(one) for one in found[:1000]} == {4096}
        assert all(one == bytes([n % 4000 % 256, (n % 4000 + 1) % 256]) for n, one in enumerate(found[1000:-1]))
        await settled(channel)

    asyncio.run(main())
    assert bytes(buffer[:6000]) == (bytes(range(256)) * 24)[:6000]
    assert driver.entries.most <= 128


@pytest.mark.parametrize("call", CALLS, ids=NAMES)
def test_cancelled_task_ends_at_once_and_memory_is_kept(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer, call: Call
) -> None:
    async def main() -> None:
        before = asyncio.create_task(call(channel, buffer))
        before.cancel()
        with pytest.raises(asyncio.CancelledError):
            await before
        assert driver.entries.calls == []
        driver.entries.held = True
        task = asyncio.create_task(call(channel, buffer))
        while not driver.entries.under_way:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (driver.entries.under_way, is_idle(channel)) == (1, False)
        del task
        buffer.close()  # no view of it is left
        driver.entries.release()
        await settled(channel)
        driver.entries.held = False
        assert await channel.read_async(1, 1) == b"\1"
        after = asyncio.create_task(channel.read_async(1))
        await after
        assert after.cancel() is False

    asyncio.run(main())


def test_cancelled_read_does_not_touch_its_buffer_later(driver: FakeDriver, channel: pciedma.Channel) -> None:
    driver.entries.held = True
    data = bytearray(8)

    async def main() -> None:
        task = asyncio.create_task(channel.readinto_async(data, 65))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        driver.entries.release()
        await settled(channel)

    asyncio.run(main())
    assert data == bytes(8)
    data.append(1)


def test_what_was_cancelled_before_there_was_room_does_not_begin(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer
) -> None:
    driver.entries.held, driver.entries.room = True, 1

    async def main() -> None:
        tasks = [asyncio.create_task(call(channel, buffer)) for call in CALLS for _ in range(3)]
        tasks += [asyncio.create_task(channel.read_async(4096)) for _ in range(600)]
        await asyncio.sleep(0.01)
        for task in tasks[1:]:
            task.cancel()
        await asyncio.wait(tasks[1:])
        assert driver.entries.under_way == 1
        driver.entries.release()
        assert await tasks[0] == b"ABCDEFGH"
        await settled(channel)
        assert driver.entries.under_way == 0

    asyncio.run(main())


def test_channel_s_cancel_ends_all(driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer) -> None:
    driver.entries.held, driver.entries.room = True, 100

    async def main() -> None:
        tasks = [asyncio.create_task(call(channel, buffer)) for call in CALLS for _ in range(30)]
        tasks += [asyncio.create_task(channel.read_async(4096)) for _ in range(600)]
        await asyncio.sleep(0.01)
        channel.cancel()
        await asyncio.wait(tasks)
        assert {type(task.exception()) for task in tasks} == {pciedma.RequestCancelledError}
        await settled(channel)

    asyncio.run(main())


def test_loops_one_after_the_other(driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer) -> None:
    async def cancelled() -> None:
        driver.entries.held = True
        tasks = [asyncio.create_task(call(channel, buffer)) for call in CALLS]
        await asyncio.sleep(0)
        assert all(not task.done() for task in tasks)

    async def right() -> None:
        driver.entries.held = False
        assert await channel.read_async(1, 60) == b"<"
        await settled(channel)

    for _ in range(3):
        asyncio.run(right())
        asyncio.run(cancelled())  # the loop is closed, and they are still under way
        assert not is_idle(channel)
        driver.entries.release()
        asyncio.run(right())
        assert is_idle(channel)


def test_loop_that_is_dropped_with_tasks_under_way_does_no_harm(
    driver: FakeDriver, channel: pciedma.Channel
) -> None:
    driver.entries.held = True
    loop = asyncio.new_event_loop()
    task: Any = loop.create_task(channel.read_async(8))
    loop.run_until_complete(asyncio.sleep(0))
    coroutine = task.get_coro()
    loop.close()
    task._log_destroy_pending = False
    coroutine.close()
    driver.entries.release()
    driver.entries.held = False
    assert asyncio.run(channel.read_async(2)) == b"\0\1"
    assert channel.wait() == []
    del task, coroutine


def test_loops_in_threads_and_waiting_threads_share_a_channel(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer
) -> None:
    failures: list[BaseException] = []

    async def main(number: int) -> None:
        asyncio.get_running_loop().slow_callback_duration = 100  # a busy host is nothing to be told of
        for _ in range(40):
            found = await asyncio.gather(*(channel.read_async(2, number + n) for n in range(10)))
            assert found == [bytes([number + n, number + n + 1]) for n in range(10)]

    def wait(number: int) -> None:
        for _ in range(100):
            channel.submit([Entry(buffer[number : number + 1], number, direction="read")] * 3)
            assert len(channel.wait(3, 3)) == 3

    def run(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            failures.append(error)

    driver.entries.held = True
    stop = threading.Event()

    def release() -> None:
        while not stop.wait(0.0001):
            driver.entries.release(4)

    threads = [threading.Thread(target=run, args=(lambda n=n: asyncio.run(main(n), debug=True),)) for n in range(3)]
    threads += [threading.Thread(target=run, args=(lambda n=n: wait(n),)) for n in range(2)]
    releasing = threading.Thread(target=release)
    for thread in (releasing, *threads):
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    stop.set()
    releasing.join()
    assert failures == []
    assert is_idle(channel)


def test_closed_channel_ends_its_tasks(driver: FakeDriver, devices: Path) -> None:
    driver.entries.held = True

    async def main() -> None:
        channel = pciedma.Channel(devices / "pciedma0c0")
        buffer = channel.buffer(64)
        tasks = [asyncio.create_task(call(channel, buffer)) for call in CALLS]
        tasks += [asyncio.create_task(channel.read_async(4096)) for _ in range(600)]
        await asyncio.sleep(0.01)
        channel.close()
        await asyncio.wait(tasks, timeout=5)
        assert {type(task.exception()) for task in tasks} == {pciedma.RequestCancelledError}
        with pytest.raises(ValueError, match="is closed"):
            await channel.read_async(1)
        assert driver.entries.under_way == 0
        tasks.clear()
        buffer.close()

    asyncio.run(main())
    asyncio.run(asyncio.sleep(0))


@pytest.mark.parametrize("when", ["before", "meanwhile", "never"])
def test_channel_that_is_closed_after_its_card_has_gone_ends_its_tasks(
    driver: FakeDriver, devices: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """What was under way ends before close() or during it, or the hardware does not let go of it."""
    driver.entries.held, driver.entries.room = True, 8
    monkeypatch.setattr("pciedma.transfer._CLOSING_S", 0.2 if when == "never" else 10)
    kept: list[object] = []
    monkeypatch.setattr("pciedma.transfer._kept", kept)
    data = bytearray(64)

    async def main() -> None:
        channel = pciedma.Channel(devices / "pciedma0c0")
        buffer = channel.buffer(64)
        registration = channel.register(data)
        channel.submit([Entry(registration, 0, direction="write")])
        tasks = [asyncio.create_task(call(channel, buffer)) for call in CALLS for _ in range(3)]
        tasks += [asyncio.create_task(channel.read_async(4096)) for _ in range(600)]
        await asyncio.sleep(0.01)
        driver.gone = {0}
        if when == "before":
            driver.entries.close()
        elif when == "meanwhile":
            threading.Timer(0.1, driver.entries.close).start()
        with pytest.raises(pciedma.CardGoneError):
            channel.timeout_s = 1
        channel.close()
        await asyncio.wait(tasks, timeout=5)
        assert all(task.done() for task in tasks)
        kinds = {type(task.exception()) for task in tasks}
        assert kinds == {pciedma.RequestCancelledError} | ({pciedma.CardGoneError} if when != "never" else set())
        tasks.clear()
        buffer.close()

    asyncio.run(main())
    if when == "never":
        assert any(isinstance(one, memoryview) and one.obj is data for one in kept)
        with pytest.raises(BufferError):
            data.append(1)
    else:
        assert kept == []
        data.append(1)


def test_channel_is_not_kept_by_what_has_ended(driver: FakeDriver, devices: Path) -> None:
    async def main() -> weakref.ref[pciedma.Channel]:
        channel = pciedma.Channel(devices / "pciedma0c0")
        await channel.read_async(1)
        await channel.write_async(b"x")
        await settled(channel)
        await asyncio.sleep(0)
        gc.disable()
        channel.close()
        return weakref.ref(channel)

    try:
        assert asyncio.run(main())() is None
    finally:
        gc.enable()


def test_messages_are_of_one_piece(driver: FakeDriver, devices: Path) -> None:
    driver.kind, driver.size = uapi.PCIEDMA_KIND_MESSAGE, 0

    async def main() -> None:
        with pciedma.Channel(devices / "pciedma0c0") as channel:
            assert await channel.write_async(b"hello") == 5
            assert (await channel.read_async(5), len(await channel.read_async(5000))) == (b"hello", 2047)
            assert len(await channel.read_async()) == 2047
            with pytest.raises(ValueError, match="no addresses"):
                await channel.read_async(1, 0)

    asyncio.run(main())


def test_message_that_is_too_long_is_said_to_be(driver: FakeDriver, devices: Path) -> None:
    driver.kind, driver.size = uapi.PCIEDMA_KIND_MESSAGE, 0

    async def main() -> None:
        with pciedma.Channel(devices / "pciedma0c0") as channel:
            assert await channel.write_async(bytes(2047)) == 2047
            for length in (2048, 3000, 5 << 20):
                with pytest.raises(pciedma.MessageTooLongError, match=f"writing {length} bytes of ") as caught:
                    await channel.write_async(bytes(length))
                assert (caught.value.errno, caught.value.transferred) == (errno.EMSGSIZE, 0)
            assert len(await channel.read_async(3000)) == 2047
            await settled(channel)

    asyncio.run(main())


@pytest.mark.parametrize(("max_dma", "size"), [(2047, 2), (1 << 20, 2), ((1 << 20) + 1, 4), (16 << 20, 4)])
def test_pool_is_not_large_however_long_messages_can_be(
    driver: FakeDriver, devices: Path, max_dma: int, size: int
) -> None:
    driver.kind, driver.size, driver.max_dma = uapi.PCIEDMA_KIND_MESSAGE, 0, max_dma
    driver.entries.size = 16 << 20

    async def main() -> None:
        with pciedma.Channel(devices / "pciedma0c0") as channel:
            length = min(max_dma, 2 << 20)
            assert await channel.write_async(bytes(length)) == length
            assert channel._pool
            assert len(channel._pool.memory) == size << 20
            if max_dma > 2 << 20:
                with pytest.raises(ValueError, match=r"in a buffer\(\)"):
                    await channel.write_async(bytes(length + 1))
            await settled(channel)

    asyncio.run(main())


def test_registration_that_does_not_fit_is_memory_like_other(driver: FakeDriver, channel: pciedma.Channel) -> None:
    path = str(channel.path).replace("c0", "c1")

    async def main() -> None:
        data = bytearray(b"0123")
        with pciedma.Channel(path) as other, other.register(data) as foreign:
            assert (await channel.write_async(foreign, 65), await channel.readinto_async(foreign, 97)) == (4, 4)
            assert (data, channel.read(4, 65)) == (b"abcd", b"0123")
        with channel.register(data, h2c=False) as only_read, channel.register(b"wxyz") as constant:
            assert (await channel.write_async(only_read, 65), channel.read(4, 65)) == (4, b"abcd")
            with pytest.raises(TypeError, match="read-only"):
                await channel.readinto_async(constant, 0)
            assert (await channel.write_async(constant, 65), channel.read(4, 65)) == (4, b"wxyz")
        for call in (channel.write_async, channel.readinto_async):
            with pytest.raises(ValueError, match="closed"):
                await call(only_read, 0)
        await settled(channel)

    asyncio.run(main())


def test_memory_where_the_engine_cannot_begin_is_copied(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer
) -> None:
    driver.entries.alignment = 64
    data = bytearray(64)

    async def main() -> None:
        with channel.register(data) as registration:
            for memory in (buffer[:64], buffer[3:67], registration[1:9], registration[:]):
                assert await channel.readinto_async(memory, 65) == len(memory)
                assert bytes(memory) == bytes(range(65, 65 + len(memory)))
                assert await channel.write_async(memory, 1000) == len(memory)
                assert await channel.read_async(len(memory), 1000) == bytes(memory)
                del memory
            assert await channel.readinto_async(registration, 70) == 64
            assert data == bytes(range(70, 134))
        with pytest.raises(pciedma.TransferError) as caught:
            await channel.transfer_async([Entry(buffer[3:67], 65, direction="read")])
        assert caught.value.errno == errno.EINVAL
        await settled(channel)

    asyncio.run(main())
    data.append(1)


def test_what_tasks_ask_for_at_a_time_is_one_call_and_of_each_alone(
    driver: FakeDriver, channel: pciedma.Channel
) -> None:
    driver.entries.broken = {65 + 7: errno.EIO}

    async def main() -> list[Any]:
        with channel.buffer(100) as buffer:
            reads = (channel.readinto_async(buffer[i : i + 1], 65 + i) for i in range(20))
            return await asyncio.gather(*reads, return_exceptions=True)

    found = asyncio.run(main())
    assert [one for i, one in enumerate(found) if i != 7] == [1] * 19
    assert isinstance(found[7], pciedma.TransferError)
    assert driver.entries.calls == [20]
    assert driver.entries.flags == [uapi.PCIEDMA_TRANSFER_SUBMIT | uapi.PCIEDMA_TRANSFER_EACH]


def test_loop_looks_for_room_with_one_timer(driver: FakeDriver, channel: pciedma.Channel) -> None:
    """However many turns there were in which tasks asked for something while others had all entries."""
    driver.entries.room = 0

    async def main() -> None:
        tasks = []
        for _ in range(50):
            tasks.append(asyncio.create_task(channel.read_async(1, 65)))
            await asyncio.sleep(0)
        await asyncio.sleep(0.02)
        before = len(driver.entries.calls)
        await asyncio.sleep(0.1)
        assert 0 < len(driver.entries.calls) - before <= 25
        driver.entries.room = 8
        assert await asyncio.gather(*tasks) == [b"A"] * 50
        await settled(channel)

    asyncio.run(main())


@pytest.mark.parametrize("direction", ["c2h", "h2c"])
def test_channel_of_one_direction(driver: FakeDriver, devices: Path, direction: str) -> None:
    driver.directions = [direction]

    def exported_here() -> int:
        return sum("exported" in str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())

    async def main() -> None:
        before = exported_here()
        with pciedma.Channel(devices / "pciedma0c0") as channel, channel.buffer(64) as buffer:
            buffer[:3] = b"abc"
            if direction == "c2h":
                assert (await channel.read_async(3, 65), await channel.readinto_async(buffer[:3], 97)) == (b"ABC", 3)
                assert channel.transfer([Entry(buffer[3:6], 65, direction="read")])[0].bytes == 3
                assert bytes(buffer[:6]) == b"abcABC"
            else:
                assert (await channel.write_async(buffer[:3], 65), await channel.write_async(b"x", 68)) == (3, 1)
                assert channel.read(4, 65) == b"abcx"  # the file has more than the kernel's
        assert {created[0] for created in driver.entries.created} == {uapi.PCIEDMA_BUFFER_NEW}
        assert exported_here() - before == driver.entries.exported  # the fake's own

    asyncio.run(main())


def test_pool_gives_all_parts_and_has_them_back(channel: pciedma.Channel) -> None:
    pool = Pool(channel)
    whole = len(pool.memory)
    for length in (1, 256, 257, 5000, 1 << 18):
        parts = []
        while (offset := pool.take(length)) is not None:
            parts.append(offset)
        size = 1 << max(8, (length - 1).bit_length())
        assert sorted(parts) == list(range(0, whole, size))
        for offset in parts[::2] + parts[1::2]:
            pool.give(offset, length)
        assert pool._free[whole] == {0}
    pool.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_child_does_not_touch_the_parent_s_requests(driver: FakeDriver, channel: pciedma.Channel) -> None:
    driver.entries.held = True

    async def main() -> None:
        task = asyncio.create_task(channel.read_async(2, 65))
        while not driver.entries.under_way:
            await asyncio.sleep(0)
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.new_event_loop().run_until_complete(channel.read_async(1))
            except ValueError as error:
                right = "before fork()" in str(error) and driver.entries.under_way == 1
            channel.close()
            os._exit(0 if right and driver.entries.under_way == 1 else 1)
        assert os.waitpid(pid, 0)[1] == 0
        driver.entries.release()
        assert await asyncio.wait_for(task, 5) == b"AB"

    asyncio.run(main())
