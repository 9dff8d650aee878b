"""Memory channels: verified transfers with memory of all kinds, run in the guest."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pciedma
from pciedma import uapi
from pciedma_lab.guest import buffers, io_uring
from pciedma_lab.guest.buffers import PAGE, Buffer
from pciedma_lab.guest.libc_calls import pread, pwrite
from pciedma_lab.guest.linux_aio import PREAD, PWRITE, Context

from .entries import C2H, H2C, batch, entry, wait
from .shared import create

#: How begun() can make a request: a call, the kernel's two, TRANSFER of registered memory, SUBMIT, a mapped buffer's
#: call.
WAYS = ("sync", "aio", "io_uring", "transfer", "submit", "mapped")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.preadv.restype = _libc.pwritev.restype = ctypes.c_ssize_t
_CANARY = 0xA5


def _differs(one: Buffer, other: Buffer) -> bool:
    return bool(_libc.memcmp(ctypes.c_void_p(one.address), ctypes.c_void_p(other.address), ctypes.c_size_t(one.length)))


def there_and_back(
    path: str, lengths: list[int], *, kind: str = "anonymous", skews: list[int] | None = None,
    card_address: int = 12345, wait_mode: str = "ADAPTIVE", seed: int = 1,
) -> list[str]:
    """Write and read back each length at each skew of a buffer; returns what was wrong.

    The bytes before and behind the area must stay as they were.
    """
    rng = random.Random(seed)
    wrong = []
    make: Callable[[int], Buffer] = getattr(buffers, kind)
    with pciedma.Channel(path) as channel:
        channel.wait_mode = pciedma.WaitMode[wait_mode]
        for length in lengths:
            unit = buffers.HUGE if kind == "huge_tlb" else PAGE
            buffer = make((length + 2 * PAGE + unit - 1) // unit * unit + unit)
            data = rng.randbytes(length)
            for skew in skews or [PAGE, PAGE + 1, PAGE + 63, 2 * PAGE - 1]:
                found = _one(channel.fileno(), buffer, skew, data, card_address)
                if found:
                    wrong.append(f"{kind} {length} at {skew}: {found}")
    return wrong


def _one(fd: int, buffer: Buffer, skew: int, data: bytes, card_address: int) -> str:
    length = len(data)
    where = buffer.address + skew
    ctypes.memset(buffer.address, _CANARY, skew)
    ctypes.memset(where + length, _CANARY, PAGE)
    ctypes.memmove(where, data, length)
    if (moved := pwrite(fd, where, length, card_address)) != length:
        return f"wrote {moved}"
    ctypes.memset(where, 0x5A, length)
    if (moved := pread(fd, where, length, card_address)) != length:
        return f"read {moved}"
    if ctypes.string_at(where, length) != data:
        return "wrong data"
    if ctypes.string_at(buffer.address, skew) != bytes([_CANARY]) * skew:
        return "bytes before the buffer changed"
    if ctypes.string_at(where + length, PAGE) != bytes([_CANARY]) * PAGE:
        return "bytes behind the buffer changed"
    return ""


def vectors(path: str, pieces: int = 1024, seed: int = 1, longest: int = 3000) -> list[Any]:
    """Write odd pieces with one call and read them into other odd pieces; returns counts, and whether all was right."""
    rng = random.Random(seed)
    lengths = [rng.choice([0, 1, 7, rng.randint(1, longest)]) for _ in range(pieces)]
    data = rng.randbytes(sum(lengths))
    out = buffers.anonymous(len(data) + PAGE)
    back = buffers.anonymous(len(data) + pieces * 5 + PAGE)
    ctypes.memmove(out.address + 3, data, len(data))
    with pciedma.Channel(path) as channel:
        wrote = _vector(_libc.pwritev, channel.fileno(), _cut(out.address + 3, lengths, 0))
        rng.shuffle(lengths)
        areas = _cut(back.address + 1, lengths, 5)
        read = _vector(_libc.preadv, channel.fileno(), areas)
    got = b"".join(ctypes.string_at(address, length) for address, length in areas)
    gaps = all(ctypes.string_at(address + length, 5) == bytes(5) for address, length in areas)
    return [wrote == len(data), read == len(data), got == data, gaps]


def _cut(start: int, lengths: list[int], gap: int) -> list[tuple[int, int]]:
    areas = []
    for length in lengths:
        areas.append((start, length))
        start += length + gap
    return areas


def _vector(function: Any, fd: int, areas: list[tuple[int, int]]) -> int:
    raw = (ctypes.c_uint64 * (2 * len(areas)))(*(word for area in areas for word in area))
    return int(function(fd, raw, len(areas), ctypes.c_long(777)))


def bad_memory(path: str) -> dict[str, int | str]:
    """Transfer with memory that is not there, or not for this; returns the result of each."""
    length = 16 * PAGE
    with pciedma.Channel(path) as channel:
        fd = channel.fileno()
        found: dict[str, int | str] = {"null": pwrite(fd, 0, length, 0)}
        found["kernel"] = pread(fd, 0xFFFF888000000000, length, 0)
        found["wraps"] = pread(fd, (1 << 64) - PAGE, length, 0)
        half = buffers.anonymous(length)
        ctypes.memset(half.address, 1, length)
        buffers.unmap(half.address + length // 2, length // 2)
        found["half_gone_write"] = pwrite(fd, half.address, length, 0)
        found["half_gone_read"] = pread(fd, half.address, length, 0)
        guarded = buffers.anonymous(length)
        buffers.protect(guarded.address + length // 2, length // 2, 1)
        found["half_read_only_write"] = pwrite(fd, guarded.address, length, 0)
        found["half_read_only_read"] = pread(fd, guarded.address, length, 0)
        two = buffers.anonymous(length)
        buffers.protect(two.address + PAGE, PAGE, 1)
        buffers.protect(two.address + PAGE, PAGE, 3)
        found["straddling"] = pread(fd, two.address + 5, length - 10, 0)
        with buffers.read_only_file(os.urandom(length)) as file:
            found["read_only_file_write"] = pwrite(fd, file.address, length, 0)
            found["read_only_file_read"] = pread(fd, file.address, length, 0)
        found["position_overflow"] = pread(fd, two.address, length, (1 << 63) - 5)
        found["negative"] = pread(fd, two.address, length, -5)
    return found


def beyond_the_limit(path: str) -> list[int | str]:
    """Read without a bound on time, and a long one, and little memory that may be locked; then with a short one."""
    import resource

    buffer = buffers.anonymous(1 << 20)
    with pciedma.Channel(path) as channel:
        channel.timeout_s = None
        pid = os.fork()
        if pid == 0:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            results: list[int | str] = []
            for timeout_s in (None, 61.0, 60.0):
                channel.timeout_s = timeout_s
                results += [pread(channel.fileno(), buffer.address, length, 0) for length in (1 << 20, 32768)]
            os._exit(0 if results == ["ENOMEM", 32768, "ENOMEM", 32768, 1 << 20, 32768] else 1)
        return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]


def changed_while_under_way(path: str, how: str) -> dict[str, Any]:
    """Unmap the buffer, or fork and write to it, while it is read into by another thread.

    Its pages must not become somebody else's before the card has let go of them.
    """
    length = 4 << 20
    buffer = buffers.small_pages(length)
    with pciedma.Channel(path) as channel:
        fd = channel.fileno()
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(pread(fd, buffer.address, length, 0)))
        acquired, _ = pinned()
        thread.start()
        while thread.is_alive() and pinned()[0] < acquired + length // PAGE:
            time.sleep(0.005)
        if how == "munmap":
            buffers.unmap(buffer.address, length)
            heir = buffers.small_pages(4 * length)
            ctypes.memset(heir.address, _CANARY, heir.length)
        else:
            child = os.fork()
            if child == 0:
                ctypes.memset(buffer.address, 0xEE, length)
                os._exit(0)
            os.waitpid(child, 0)
        before_the_end = thread.is_alive()
        thread.join()
        if how == "munmap":
            same = heir.mapping[:] == bytes([_CANARY]) * heir.length
        else:
            again = buffers.anonymous(length)
            pread(fd, again.address, length, 0)
            same = ctypes.string_at(again.address, length) == ctypes.string_at(buffer.address, length)
    return {"result": results[0], "same": same, "before_the_end": before_the_end}


def uring(path: str, *, depth: int = 8, length: int = 65536, rounds: int = 4, fixed: bool = False) -> dict[str, Any]:
    """Write and read back *depth* areas at once by io_uring; returns results that were wrong."""
    bad: list[Any] = []
    with pciedma.Channel(path) as channel, io_uring.Ring(2 * depth) as ring:
        fd = channel.fileno()
        area = buffers.anonymous(depth * (length + PAGE))
        places = [(area.address + n * (length + PAGE) + n, length) for n in range(depth)]
        if fixed:
            ring.register_buffers([(area.address, area.length)])
        opcodes = (io_uring.WRITE_FIXED, io_uring.READ_FIXED) if fixed else (io_uring.WRITE, io_uring.READ)
        for _ in range(rounds):
            blocks = [os.urandom(length) for _ in places]
            for (address, _), block in zip(places, blocks, strict=True):
                ctypes.memmove(address, block, length)
            for opcode in opcodes:
                for n, (address, _) in enumerate(places):
                    ring.prepare(opcode, fd, address, length, n * length, data=n)
                ring.submit()
                bad += [(opcode, *one) for one in ring.wait(depth) if one[1] != length]
                if opcode == opcodes[0]:
                    ctypes.memset(area.address, 0, area.length)
            bad += [
                n for n, (address, _) in enumerate(places) if ctypes.string_at(address, length) != blocks[n]
            ]
    return {"bad": bad}


def aio(path: str, *, depth: int = 8, length: int = 100_000, rounds: int = 4) -> dict[str, Any]:
    """The same by Linux AIO."""
    bad: list[Any] = []
    with pciedma.Channel(path) as channel, Context(depth) as context:
        fd = channel.fileno()
        area = buffers.anonymous(depth * (length + PAGE))
        places = [area.address + n * (length + PAGE) + n for n in range(depth)]
        for _ in range(rounds):
            blocks = [os.urandom(length) for _ in places]
            for address, block in zip(places, blocks, strict=True):
                ctypes.memmove(address, block, length)
            for opcode in (PWRITE, PREAD):
                for n, address in enumerate(places):
                    context.submit(opcode, fd, address, length, n * length, data=n)
                bad += [(opcode, *one) for one in context.wait(depth) if one[1] != length]
                if opcode == PWRITE:
                    ctypes.memset(area.address, 0, area.length)
            bad += [n for n, address in enumerate(places) if ctypes.string_at(address, length) != blocks[n]]
    return {"bad": bad}


def _shared(fd: int, way: str, direction: str, length: int, at: int) -> Any:
    """Make one request of memory that the card knows: registered, or new."""
    if way == "transfer":
        area = buffers.small_pages(length)
        made = create(fd, length, type=uapi.PCIEDMA_BUFFER_USER, address=area.address)
    else:
        made = create(fd, length)
        area = buffers.shared_of(fd, made.size, made.mmap_offset)
    if way == "mapped":
        return (pread if direction == "read" else pwrite)(fd, area.address, length, at)
    parts = [entry(C2H if direction == "read" else H2C, made.id, 0, length, at)]
    try:
        if way == "transfer":
            ((_, moved, error),) = batch(fd, parts)[1]
        else:
            batch(fd, parts, submit=True)
            ((_, moved, error),) = wait(fd, 1)
    except OSError as failed:
        return errno.errorcode[failed.errno or 0]
    return errno.errorcode[error] if error and not moved else moved


def begun(
    path: str, way: str, direction: str = "read", length: int = 65536, timeout_s: float | None = 20.0, at: int = 0
) -> Any:
    """Make one request by *way* and return what it led to: the count or the errno's name."""
    buffer = buffers.anonymous(length)
    ctypes.memset(buffer.address, 1, length)
    with pciedma.Channel(path) as channel:
        channel.timeout_s = timeout_s
        fd = channel.fileno()
        if way == "sync":
            return (pread if direction == "read" else pwrite)(fd, buffer.address, length, at)
        if way in ("transfer", "submit", "mapped"):
            return _shared(fd, way, direction, length, at)
        if way == "aio":
            with Context(1) as context:
                context.submit(PREAD if direction == "read" else PWRITE, fd, buffer.address, length, at)
                result = context.wait(1, 120)[0][1]
        else:
            with io_uring.Ring(1) as ring:
                opcode = io_uring.READ if direction == "read" else io_uring.WRITE
                ring.prepare(opcode, fd, buffer.address, length, at)
                ring.submit()
                result = ring.wait(1, 120)[0][1]
        return result if result >= 0 else errno.errorcode[-result]


def repeat_until_error(path: str, way: str, direction: str) -> dict[str, Any]:
    """Make requests by *way* until one fails; returns how many went well and the errno."""
    calls = 0
    while True:
        try:
            result = begun(path, way, direction, 200_000)
        except OSError as error:
            return {"calls": calls, "errno": error.errno}
        if isinstance(result, str):
            return {"calls": calls, "errno": getattr(errno, result)}
        calls += 1


def one_way(path: str, direction: str, length: int) -> int | str:
    """Make one call on a channel that may have this direction only."""
    buffer = buffers.anonymous(length)
    fd = os.open(path, os.O_RDONLY if direction == "read" else os.O_WRONLY)
    try:
        return (pread if direction == "read" else pwrite)(fd, buffer.address, length, 0)
    finally:
        os.close(fd)


def cancelled(path: str, way: str, after_s: float = 0.1, at: int = 0) -> dict[str, Any]:
    """Begin a request, and CANCEL it (or, of AIO, io_cancel) after a while."""
    buffer = buffers.anonymous(65536)
    start = time.monotonic()
    result: Any
    with pciedma.Channel(path) as channel:
        channel.timeout_s = 30.0
        fd = channel.fileno()
        timer = threading.Timer(after_s, channel.cancel)
        if way == "io_cancel":
            with Context(1) as context:
                request = context.submit(PREAD, fd, buffer.address, 65536, at)
                time.sleep(after_s)
                context.cancel(request)
                result = context.wait(1, 60)[0][1]
        elif way == "sync":
            timer.start()
            value = pread(fd, buffer.address, 65536, at)
            result = value
        elif way == "aio":
            with Context(1) as context:
                context.submit(PREAD, fd, buffer.address, 65536, at)
                timer.start()
                result = context.wait(1, 60)[0][1]
        else:
            with io_uring.Ring(1) as ring:
                ring.prepare(io_uring.READ, fd, buffer.address, 65536, at)
                ring.submit()
                timer.start()
                result = ring.wait(1, 60)[0][1]
    if isinstance(result, int) and result < 0:
        result = errno.errorcode[-result]
    return {"result": result, "seconds": time.monotonic() - start}


def exits_with_requests(path: str, way: str, count: int = 4) -> None:
    """Begin requests and leave them to the process's end."""
    buffer = buffers.anonymous(count * 65536)
    channel = pciedma.Channel(path)
    channel.timeout_s = None
    if way == "aio":
        context = Context(count)
        for n in range(count):
            context.submit(PREAD, channel.fileno(), buffer.address + n * 65536, 65536, 0)
    else:
        ring = io_uring.Ring(count)
        for n in range(count):
            ring.prepare(io_uring.READ, channel.fileno(), buffer.address + n * 65536, 65536, 0)
        ring.submit()
    os.kill(os.getpid(), signal.SIGKILL)


def big_read(path: str, length: int, *, times: int = 1, wait_mode: str = "ADAPTIVE") -> dict[str, Any]:
    """Read with one call into memory of 4 KiB pages; returns the seconds of the fastest, and pages pinned at most.

    The pages pinned are sampled by another thread while the calls run.
    """
    buffer = buffers.small_pages(length)
    most, done = 0, threading.Event()

    def sample() -> None:
        nonlocal most
        while not done.wait(0.001):
            acquired, released = _pins()
            most = max(most, acquired - released)

    with pciedma.Channel(path) as channel:
        channel.wait_mode = pciedma.WaitMode[wait_mode]
        seconds = []
        for _ in range(times):
            start = time.monotonic()
            assert pread(channel.fileno(), buffer.address, length, 0) == length
            seconds.append(time.monotonic() - start)
        sampler = threading.Thread(target=sample)
        sampler.start()
        assert pread(channel.fileno(), buffer.address, length, 0) == length
        done.set()
        sampler.join()
    return {"seconds": min(seconds), "pages": most}


def signalled(path: str, way: str, direction: str = "read", *, restart: bool = False) -> dict[str, Any]:
    """Make one request by *way*, with a handler for SIGALRM; returns what it led to, and the signals that came.

    With *restart* the handler is one of SA_RESTART.
    """
    seen: list[int] = []
    signal.signal(signal.SIGALRM, lambda number, frame: seen.append(number))
    signal.siginterrupt(signal.SIGALRM, not restart)
    return {"result": begun(path, way, direction), "signals": len(seen)}


def closed(path: str, way: str, direction: str = "read") -> Any:
    """Begin a request by *way* and close the channel's file while it is under way; returns what it led to."""
    length = 65536
    buffer = buffers.anonymous(length)
    channel = pciedma.Channel(path)
    fd = channel.fileno()
    closer = threading.Timer(0.1, channel.close)
    if way == "sync":
        closer.start()
        return (pread if direction == "read" else pwrite)(fd, buffer.address, length, 0)
    if way == "aio":
        with Context(1) as context:
            context.submit(PREAD if direction == "read" else PWRITE, fd, buffer.address, length, 0)
            channel.close()
            result = context.wait(1, 60)[0][1]
    else:
        with io_uring.Ring(1) as ring:
            ring.prepare(io_uring.READ if direction == "read" else io_uring.WRITE, fd, buffer.address, length, 0)
            ring.submit()
            channel.close()
            result = ring.wait(1, 60)[0][1]
    return result if result >= 0 else errno.errorcode[-result]


def left_open(path: str, timeout_s: float = 60.0) -> dict[str, Any]:
    """Keep a channel open until poll() says that its card is gone; returns what calls say then."""
    buffer = buffers.anonymous(100)
    with pciedma.Channel(path) as channel:
        poll = select.poll()
        poll.register(channel.fileno(), 0)
        events = poll.poll(timeout_s * 1000)
        hup = bool(events and events[0][1] & select.POLLHUP)
        return {"hup": hup, "read": pread(channel.fileno(), buffer.address, 100, 0),
                "write": pwrite(channel.fileno(), buffer.address, 100, 0)}


def nonblocking(path: str) -> dict[str, Any]:
    """Read without waiting for others: with RWF_NOWAIT, and from a file that does not block."""
    buffer = bytearray(5000)
    found: dict[str, Any] = {}
    for name, options in (("nowait", {}), ("nonblocking", {"nonblocking": True})):
        with pciedma.Channel(path, **options) as channel:
            flags = os.RWF_NOWAIT if name == "nowait" else 0
            try:
                found[name] = os.preadv(channel.fileno(), [buffer], 0, flags)
            except OSError as error:
                found[name] = errno.errorcode[error.errno or 0]
    return found


def many_threads(
    path: str, threads: int = 16, rounds: int = 10, length: int = 50_000, *, tolerated: list[str] | None = None,
) -> dict[str, Any]:
    """Write and read back from many threads on one open file, each its own part; returns what was wrong.

    Transfers may fail with the errnos *tolerated*, or be short where that came after part had moved, and are counted;
    what they say has moved is there all the same.
    """
    wrong: list[str] = []
    failed = 0
    with pciedma.Channel(path) as channel:

        def work(number: int) -> None:
            nonlocal failed
            out, back = buffers.anonymous(length), buffers.anonymous(length)
            rng = random.Random(number)
            for turn in range(rounds):
                out.mapping[:] = rng.randbytes(length)
                moved = [pwrite(channel.fileno(), out.address, length, number * length),
                         pread(channel.fileno(), back.address, length, number * length)]
                there = min(0 if isinstance(result, str) else result for result in moved)
                unexpected = {result for result in moved if isinstance(result, str)} - set(tolerated or [])
                failed += there < length
                if unexpected or out.mapping[:there] != back.mapping[:there] or (there < length and not tolerated):
                    wrong.append(f"thread {number}, turn {turn}: {moved}")

        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return {"wrong": wrong, "failed": failed}


def left_alone(path: str, card: str, length: int = 65536) -> dict[str, Any]:
    """Read, and when that fails use the buffer for something else until the card can be reset."""
    buffer = buffers.anonymous(length)
    with pciedma.Channel(path) as channel, pciedma.open(card) as opened:
        result = pread(channel.fileno(), buffer.address, length, 0)
        ctypes.memset(buffer.address, _CANARY, length)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                opened.reset()
                break
            except OSError:
                time.sleep(0.1)
        same = buffer.mapping[:] == bytes([_CANARY]) * length
        return {"result": result, "same": same, "again": pread(channel.fileno(), buffer.address, length, 0)}


def wraps(path: str, pieces: int = 64, rounds: int = 1024) -> list[str]:
    """Move one piece and then many, which are one descriptor each, as often as the ring has descriptors.

    No piece fills its pages, so that the IOMMU joins each, but none to the next: 65 descriptors a turn, and 1024 and
    65 have no common divisor.
    """
    wrong = []
    length = 5000
    out, back = (buffers.anonymous(pieces * 2 * PAGE) for _ in range(2))
    ctypes.memmove(out.address, os.urandom(out.length), out.length)
    areas = [[(buffer.address + n * 2 * PAGE, length) for n in range(pieces)] for buffer in (out, back)]
    expected = [ctypes.string_at(*area) for area in areas[0]]
    with pciedma.Channel(path) as channel:
        fd = channel.fileno()
        for turn in range(rounds):
            ctypes.memset(back.address, 0, back.length)
            moved = [pwrite(fd, out.address, length, 0), _vector(_libc.pwritev, fd, areas[0]),
                     pread(fd, back.address, length, 0), _vector(_libc.preadv, fd, areas[1])]
            if moved != [length, pieces * length] * 2 or [ctypes.string_at(*area) for area in areas[1]] != expected:
                wrong.append(f"turn {turn}: {moved}")
    return wrong


def pinned() -> list[int]:
    """Return how many pages were ever pinned and unpinned on this machine, on all its processors."""
    Path("/proc/sys/vm/stat_refresh").write_text("1")
    return _pins()


def _pins() -> list[int]:
    values = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return [int(values["nr_foll_pin_acquired"]), int(values["nr_foll_pin_released"])]


def one_big(path: str, length: int, wait_mode: str = "ADAPTIVE") -> float:
    """Read once into memory of 4 KiB pages; returns the seconds."""
    buffer = buffers.small_pages(length)
    with pciedma.Channel(path) as channel:
        channel.wait_mode = pciedma.WaitMode[wait_mode]
        start = time.monotonic()
        assert pread(channel.fileno(), buffer.address, length, 0) == length
        return time.monotonic() - start


def during(path: str, action: list[str]) -> dict[str, Any]:
    """Have a read under way by each way in, run a command, and return what the reads led to.

    All in one process that has loaded everything before: the shared folders do not answer during a suspend.
    """
    results: dict[str, Any] = {}

    def one(way: str) -> None:
        results[way] = begun(path, way)

    threads = [threading.Thread(target=one, args=(way,)) for way in WAYS]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    results["status"] = subprocess.run(action, check=False).returncode
    for thread in threads:
        thread.join()
    return results
