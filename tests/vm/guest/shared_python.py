"""The Python binding's shared memory, entries and calls for asyncio, run in the guest."""

from __future__ import annotations

import asyncio
import errno
import gc
import importlib
import os
import random
import resource
import time
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import pciedma
from pciedma import Entry


def _channel(path: str, timeout_s: float | None = 10) -> pciedma.Channel:
    channel = pciedma.Channel(path)
    channel.timeout_s = timeout_s
    return channel


def _held(channel: pciedma.Channel) -> list[int]:
    """What the kernel says of the open file: buffers, and their bytes."""
    text = Path(f"/proc/self/fdinfo/{channel.fileno()}").read_text()
    lines = dict(line.split(":\t") for line in text.splitlines() if line.startswith("buffer"))
    return [int(lines["buffers"]), int(lines["buffer-bytes"])]


def slices(path: str, length: int) -> list[str]:
    """Move parts of a Buffer by calls, by way of slices and arrays; returns what was wrong."""
    wrong = []
    rng = random.Random(5)
    with _channel(path) as channel, channel.buffer(8 * length + 5) as buffer:
        first = 0 if channel.kind is pciedma.Kind.MEMORY else None
        if len(buffer) != 8 * length + 5 or any(buffer):
            wrong.append("new memory")
        for start in (0, 1, length, 3 * length + 7):
            data = rng.randbytes(length)
            buffer[start : start + length] = data
            sent = channel.write(buffer[start : start + length], first)
            buffer[start : start + length] = bytes(length)
            got = channel.readinto(buffer[start : start + length], first)
            if (sent, got, bytes(buffer[start : start + length])) != (length, length, data):
                wrong.append(f"slice at {start}: {sent}, {got}")
        try:
            numpy: Any = importlib.import_module("numpy")
        except ImportError:
            return wrong
        array = numpy.frombuffer(buffer, "u1")[3 : 3 + length]
        array[:] = numpy.arange(length) % 251
        channel.write(array, first)
        array[:] = 0
        channel.readinto(array, first)
        if not (array == numpy.arange(length) % 251).all():
            wrong.append("array")
        del array
    return wrong


def entries(path: str, kind: Literal["buffer", "registration"], length: int, count: int, way: str) -> list[Any]:
    """Write parts and read them into other memory; returns what was wrong."""
    data = random.Random(7).randbytes(length * count)
    target = bytearray(length * count)
    wrong: list[Any] = []
    with _channel(path) as channel:
        is_memory = channel.kind is pciedma.Kind.MEMORY
        if kind == "buffer":
            out: Any = channel.buffer(len(data), c2h=False)
            back: Any = channel.buffer(len(data), h2c=False)
            out[:] = data
        else:
            out, back = channel.register(data), channel.register(target)
        with out, back:
            for place in range(0, len(data), length):
                pairs = [(out, "write"), (back, "read")]
                if is_memory and place:
                    break  # all of them at once
                for memory, direction in pairs:
                    places = range(0, len(data), length) if is_memory else [place]
                    made = [
                        Entry(memory[at : at + length], at if is_memory else None, direction=direction)  # type: ignore[arg-type]
                        for at in places
                    ]
                    results = _moved(channel, made, way)
                    del made
                    if [result.bytes for result in results] != [length] * len(places):
                        wrong.append(results[:3])
            if bytes(back[:]) != data:
                wrong.append("data")
            if _held(channel)[0] != 2:
                wrong.append(_held(channel))
        if _held(channel) != [0, 0]:
            wrong.append(_held(channel))
    return wrong


def _moved(channel: pciedma.Channel, made: list[Entry], way: str) -> list[pciedma.Result]:
    if way == "transfer":
        return channel.transfer(made)
    if way == "asyncio":
        return asyncio.run(channel.transfer_async(made))
    channel.submit(made)
    results = []
    while some := channel.wait(100):
        results += some
    return sorted(results, key=lambda result: result.tag)


def failing(path: str, way: str, at: int, count: int) -> dict[str, Any]:
    """Read parts; returns errors, by tag, and the one that was raised."""
    with _channel(path) as channel, channel.buffer(4096 * count) as buffer:
        try:
            results = _moved(
                channel, [Entry(buffer[n * 4096 :][:4096], at + n * 4096, direction="read") for n in range(count)], way
            )
        except pciedma.TransferError as error:
            results = list(error.results)
            raised = [type(error).__name__, error.errno]
        else:
            raised = []
        gc.collect()  # asyncio.run() makes a circle of an exception, and so of the views in its frames
        return {"raised": raised, "errors": [result.error.errno if result.error else 0 for result in results]}


def closed_under_way(path: str, way: str) -> dict[str, Any]:
    """Close a Buffer, or all, while the card works on entries of it that were submitted."""
    channel = _channel(path)
    data = bytearray(os.urandom(1 << 20))
    buffer, registration = channel.buffer(1 << 20), channel.register(data)
    buffer[:] = bytes(data)
    channel.submit([Entry(buffer, 0, direction="write"), Entry(registration, 1 << 20, direction="write")])
    found: dict[str, Any] = {}
    begin = time.monotonic()
    if way == "buffer":
        buffer.close()
        registration.close()
        found["held"] = _held(channel)
        found["results"] = [[result.bytes, result.error] for result in channel.wait(2)]
        found["right"] = channel.read(2 << 20, 0) == bytes(data) * 2
        channel.close()
    else:
        channel.close()
        buffer.close()
    data.append(1)
    found["quick"] = time.monotonic() - begin < 15
    return found


def warned(path: str) -> list[str]:
    """Forget a Buffer and a Registration; returns the warnings, and what the kernel holds then."""
    with _channel(path) as channel, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        channel.buffer(4096)
        channel.register(bytearray(8192))
        gc.collect()
        held = _held(channel)
        return [str(one.message).replace(path, "NODE") for one in caught] + [str(held)]


def views(path: str) -> list[Any]:
    """Close a Buffer while there are views; returns what came of it."""
    with _channel(path) as channel:
        buffer = channel.buffer(4096)
        view = buffer[8:16]
        try:
            buffer.close()
            found: list[Any] = ["closed"]
        except BufferError:
            found = [buffer.closed, _held(channel), channel.write(buffer[:8], 0)]
        view.release()
        buffer.close()
        return [*found, _held(channel)]


def limited(path: str) -> dict[str, Any]:
    """Ask for more than RLIMIT_MEMLOCK allows, as somebody else than root; and for other memory that cannot be."""
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    with _channel(path) as channel:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 16, before[1]))
        os.seteuid(65534)
        try:
            channel.buffer(1 << 20)
            found = {"limit": "none"}
        except OSError as error:
            found = {"limit": str(error).replace(path, "NODE")}
        finally:
            os.seteuid(0)
            resource.setrlimit(resource.RLIMIT_MEMLOCK, before)
        return found


# asyncio


def _run(path: str, main: Callable[[pciedma.Channel], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        with _channel(path) as channel:
            found = await main(channel)
            for _ in range(2000):
                if not (channel._handed_in or channel._loops):
                    break
                await asyncio.sleep(0.005)
            else:
                raise AssertionError("it does not settle")
            return found

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return asyncio.run(run(), debug=False)


def _threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def many(path: str, count: int, length: int) -> dict[str, Any]:
    """Read at many places at once; each is to be what is there."""
    data = random.Random(3).randbytes(length + count)

    async def main(channel: pciedma.Channel) -> dict[str, Any]:
        await channel.write_async(data, 0)
        threads = _threads()
        found = await asyncio.gather(*(channel.read_async(length, n) for n in range(count)))
        wrong = [n for n in range(count) if found[n] != data[n : n + length]]
        return {"wrong": wrong, "threads": _threads() - threads}

    result: dict[str, Any] = _run(path, main)
    return result


def messages(path: str, count: int) -> list[int]:
    """Write a message and read it, one after the other, by the pool and by a Buffer."""
    rng = random.Random(11)

    async def main(channel: pciedma.Channel) -> list[int]:
        wrong = []
        with channel.buffer(4096) as buffer:
            for number in range(count):
                data = rng.randbytes(rng.randint(1, 2047))
                await channel.write_async(data)
                if number % 2:
                    got: Any = await channel.read_async(len(data))
                else:
                    buffer[: len(data)] = bytes(len(data))
                    await channel.readinto_async(buffer[: len(data)])
                    got = bytes(buffer[: len(data)])
                wrong += [number] if got != data else []
        return wrong

    result: list[int] = _run(path, main)
    return result


def long(path: str, length: int) -> list[str]:
    """Write and read more than the pool has, while others do short things."""
    data = random.Random(13).randbytes(length)

    async def main(channel: pciedma.Channel) -> list[str]:
        target = bytearray(length)
        await channel.write_async(data, 0)
        *short, moved = await asyncio.gather(
            *(channel.read_async(10, n) for n in range(100)), channel.readinto_async(target, 0)
        )
        wrong = [f"short {n}" for n, one in enumerate(short) if one != data[n : n + 10]]
        return wrong + ([] if (moved, target) == (length, data) else ["long"])

    result: list[str] = _run(path, main)
    return result


def cancelled(path: str, kind: str) -> dict[str, Any]:
    """Cancel a task whose request the card has begun, and works on slowly; the channel is to work on."""
    length = 1 << 20

    async def main(channel: pciedma.Channel) -> dict[str, Any]:
        found: dict[str, Any] = {}
        data, there = bytearray(length), random.Random(23).randbytes(length)
        channel.write(there, 0)
        with channel.buffer(length) as buffer:
            memory: Any = data if kind == "pool" else buffer[:]
            task = asyncio.create_task(channel.readinto_async(memory, 0))
            del memory
            while not channel._handed_in:
                await asyncio.sleep(0)
            await asyncio.sleep(0.02)
            begin = time.monotonic()
            task.cancel()
            await asyncio.wait([task])
            found["at once"] = time.monotonic() - begin < 0.3
            found["under way"] = len(channel._handed_in) > 0
            data.append(1)
            while channel._handed_in:
                await asyncio.sleep(0.01)
            found["moved"] = [bytes(memory[:length]) == there for memory in (data, buffer)]
            found["touched"] = [any(memory[:length]) for memory in (data, buffer)]
        found["after"] = len(await channel.read_async(10, 0))
        return found

    result: dict[str, Any] = _run(path, main)
    return result


def cancel_all(path: str) -> dict[str, Any]:
    """End by cancel() what the card has begun, and what waits; returns the errors' classes."""

    async def main(channel: pciedma.Channel) -> dict[str, Any]:
        tasks = [asyncio.create_task(channel.read_async(1 << 20, 0)) for _ in range(30)]
        await asyncio.sleep(0.05)
        channel.cancel()
        await asyncio.wait(tasks)
        errors = [type(task.exception()).__name__ for task in tasks]
        return {"errors": errors, "after": len(await channel.read_async(9))}

    result: dict[str, Any] = _run(path, main)
    return result


def loops(path: str) -> list[Any]:
    """Leave requests under way in loops that are closed; the next loop is to work, and to clear up."""
    found: list[Any] = []

    async def leave(channel: pciedma.Channel) -> None:
        tasks = [asyncio.create_task(channel.read_async(1 << 18, 0)) for _ in range(8)]
        await asyncio.sleep(0.01)
        assert not tasks[-1].done()

    async def use(channel: pciedma.Channel) -> int:
        got = len(await channel.read_async(100, 0))
        while channel._handed_in or channel._loops:
            await asyncio.sleep(0.005)
        return got

    with _channel(path) as channel:
        for _ in range(3):
            asyncio.run(leave(channel))
            found.append(len(channel._handed_in) > 0)
            found.append(asyncio.run(use(channel)))
    return found


def from_card_to_card(path: str, other: str) -> list[Any]:
    """Let a card fill a Buffer, and another have it as a dma-buf; returns what was wrong."""
    data = random.Random(19).randbytes(4096)
    with _channel(path) as first, _channel(other) as second, first.buffer(1 << 16) as buffer:
        first.write(data, 0)
        fd = buffer.export_dmabuf()
        with second.import_dmabuf(fd) as shared:
            os.close(fd)
            first.transfer([Entry(buffer[8192:12288], 0, direction="read")])
            found = second.transfer([
                Entry(shared[8192:12288], 0, direction="write"), Entry(shared[:64], 0, direction="read", barrier=True),
            ])
            wrong: list[Any] = [[len(shared)]] if len(shared) != 1 << 16 else []
            wrong += [found] if [result.bytes for result in found] != [4096, 64] else []
            wrong += ["written"] if second.read(4096, 0) != data else []
            wrong += ["read"] if bytes(buffer[:64]) != data[:64] else []
        return wrong + ([_held(second)] if _held(second) != [0, 0] else [])


def gone(path: str, ready: str) -> dict[str, Any]:
    """Have entries under way as the card goes, and close the channel as soon as a call says so; *ready* is a file.

    Returns what became of the tasks, and of the memory.
    """
    data = bytearray(1 << 20)

    async def main() -> list[str]:
        with _channel(path) as channel:
            channel.submit([Entry(channel.register(data), 0, direction="write")])
            tasks: list[asyncio.Task[Any]] = [asyncio.create_task(channel.read_async(1 << 18, 0)) for _ in range(12)]
            with channel.buffer(1 << 20) as buffer:
                tasks += [asyncio.create_task(channel.readinto_async(buffer[:], 0))]
                await asyncio.sleep(0.05)
            Path(ready).touch()
            while True:  # the loop hears of nothing
                try:
                    channel.timeout_s = 10
                except pciedma.CardGoneError:
                    break
        await asyncio.wait(tasks, timeout=10)
        return [type(task.exception()).__name__ if task.done() else "pending" for task in tasks]

    ends = asyncio.run(main())
    gc.collect()
    data.append(1)
    return {"ends": sorted({*ends}), "count": len(ends), "resized": len(data) == (1 << 20) + 1}


def forked(path: str) -> dict[str, Any]:
    """Fork while a request is under way; the child uses, and closes, what it has."""

    async def main(channel: pciedma.Channel) -> dict[str, Any]:
        with channel.buffer(4096) as buffer:
            buffer[:5] = b"first"
            await channel.write_async(buffer[:5], 0)
            task = asyncio.create_task(channel.read_async(1 << 20, 0))
            await asyncio.sleep(0.01)
            pid = os.fork()
            if pid == 0:
                os._exit(_child(channel, buffer))
            status = os.waitpid(pid, 0)[1]
            data = await task
            return {
                "child": os.waitstatus_to_exitcode(status), "data": data[:5].decode(), "held": _held(channel)[0],
                "buffer": bytes(buffer[:6]).decode(), "sync": channel.write(buffer[:5], 0),
            }

    result: dict[str, Any] = _run(path, main)
    return result


def _child(channel: pciedma.Channel, buffer: pciedma.Buffer) -> int:
    wrong = 0
    try:
        channel.wait(timeout_s=0)
        wrong |= 1
    except ValueError:
        pass
    try:
        asyncio.new_event_loop().run_until_complete(channel.read_async(1))
        wrong |= 2
    except ValueError:
        pass
    buffer[5] = ord("!")
    wrong |= 4 * (channel.transfer([Entry(buffer[:5], 0, direction="write")])[0].bytes != 5)
    buffer.close()
    channel.close()
    gc.collect()
    return wrong


def told(path: str, address: int) -> list[Any]:
    """Fail in each of asyncio's calls, and in the synchronous one beside it; returns pairs that differ."""

    async def main(channel: pciedma.Channel) -> list[Any]:
        data, registration = bytearray(5000), channel.register(bytes(5000))
        pairs: list[tuple[Callable[[], Any], Callable[[], Awaitable[Any]]]] = [
            (lambda: channel.read(5000, address), lambda: channel.read_async(5000, address)),
            (lambda: channel.write(data, address), lambda: channel.write_async(data, address)),
            (lambda: channel.readinto(data, address), lambda: channel.readinto_async(data, address)),
            (lambda: channel.write(data, address), lambda: channel.write_async(registration, address)),
        ]
        found = []
        for call, call_async in pairs:
            one = _outcome(call)
            try:
                other = ["", len_of(await call_async())]
            except OSError as error:
                other = [type(error).__name__, str(error)]
            found += [] if one == other else [[one, other]]
        return found

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _channel(path) as channel:
            return asyncio.run(main(channel))


def len_of(value: Any) -> int:
    """Return a count, or that of bytes."""
    return value if isinstance(value, int) else len(value)


def _outcome(call: Callable[[], Any]) -> list[Any]:
    try:
        return ["", len_of(call())]
    except OSError as error:
        assert error.errno != errno.EFAULT
        return [type(error).__name__, str(error)]


def ways(path: str) -> list[Any]:
    """Move memory of each kind, aligned or not, by the calls that the channel has; returns what was wrong."""
    wrong: list[Any] = []
    data, target = random.Random(17).randbytes(8192), bytearray(8192)

    async def main(channel: pciedma.Channel) -> None:
        with channel.buffer(8192) as buffer, channel.register(target) as registration:
            for memory in (buffer, registration, bytearray(8192)):
                for start, length in ((0, 64), (1, 128), (4095, 4096)):
                    memory[start : start + length] = data[:length]
                    view = memory[start : start + length]
                    if channel.info.h2c:
                        found = [channel.write(view, 0), await channel.write_async(view, 4096)]
                        wrong.extend([["write", start, found]] if found != [length] * 2 else [])
                    if channel.info.c2h:
                        part = (memoryview(memory) if isinstance(memory, bytearray) else memory[:])[start:][:length]
                        found = [channel.readinto(part, 0), await channel.readinto_async(part, 4096)]
                        wrong.extend([["read", start, found]] if found != [length] * 2 else [])
                        if channel.info.h2c and bytes(part) != data[:length]:
                            wrong.append(["data", start])
                        part.release()
                    del view

    with _channel(path) as channel:
        asyncio.run(main(channel))
    return wrong
