"""The clients that tests use, tried on the kernel's own files, /dev/zero, pipes and a disk, run in the guest."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from pciedma_lab.guest import buffers, io_uring, linux_aio, verified_load
from pciedma_lab.guest.buffers import PAGE, Buffer
from pciedma_lab.guest.request_ways import Request, Ways

_libc = ctypes.CDLL(None, use_errno=True)
_DISK = "/dev/vda"  # of the guest's root, read-only


def io_uring_disabled() -> int:
    """Return the sysctl; kernels that do not have it always allow."""
    path = Path("/proc/sys/kernel/io_uring_disabled")
    return int(path.read_text()) if path.exists() else 0


@contextlib.contextmanager
def _file(data: bytes = b"") -> Iterator[int]:
    """Give an open file on tmpfs."""
    with tempfile.TemporaryFile(dir="/tmp") as file:
        file.write(data)
        file.flush()
        yield file.fileno()


def _name(result: int) -> int | str:
    return result if result >= 0 else errno.errorcode[-result]


def _named(completions: Sequence[tuple[int, int]]) -> dict[int, int | str]:
    return {data: _name(result) for data, result in completions}


def _raised(function: Callable[..., object], *arguments: Any) -> str:
    """Return the errno's name of the OSError, or the exception's class, that a call raises."""
    try:
        function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno] if error.errno else type(error).__name__
    except Exception as error:
        return type(error).__name__
    return "nothing"


def uring_reads(way: str, *, flags: int = 0, depth: int = 8, length: int = 100_001) -> list[str]:
    """Read a file at *depth* places at once; returns what was wrong."""
    data = os.urandom(depth * length)
    with _file(data) as fd, buffers.anonymous(length * depth + 2 * PAGE) as area, io_uring.Ring(depth, flags) as ring:
        ring.register_files([fd])
        ring.register_buffers([(area.address, PAGE), (area.address, area.length)])
        start = area.address + 77
        for n in range(depth):
            address, offset = start + n * length, (depth - 1 - n) * length
            if way == "readv":
                areas = [(address, 5), (address + 5, 0), (address + 5, length - 5)]
                ring.prepare_vector(io_uring.READV, fd, areas, offset, data=n)
            elif way == "read_fixed":
                ring.prepare(io_uring.READ_FIXED, fd, address, length, offset, data=n, buffer=1)
            elif way == "registered_file":
                ring.prepare(io_uring.READ, 0, address, length, offset, data=n, flags=io_uring.FIXED_FILE)
            else:
                ring.prepare(io_uring.READ, fd, address, length, offset, data=n, flags=io_uring.ASYNC)
        ring.submit()
        wrong = [f"{one}" for one in ring.wait(depth) if one[1] != length]
        for n in range(depth):
            if ctypes.string_at(start + n * length, length) != data[(depth - 1 - n) * length :][:length]:
                wrong.append(f"data of {n}")
        edges = ctypes.string_at(area.address, 77) + ctypes.string_at(start + depth * length, PAGE)
    return [*wrong, "edges"] if edges.strip(b"\0") else wrong


def uring_writes() -> list[bool]:
    """Write a file by all opcodes, and at its position; returns whether it then had what it should."""
    data = os.urandom(4 * PAGE)
    with _file() as fd, buffers.anonymous(4 * PAGE) as area, io_uring.Ring(4) as ring:
        area.mapping[:] = data
        ring.register_buffers([(area.address, area.length)])
        ring.prepare(io_uring.WRITE, fd, area.address, PAGE, 0, data=1)
        areas = [(area.address + PAGE, 1), (area.address + PAGE + 1, PAGE - 1)]
        ring.prepare_vector(io_uring.WRITEV, fd, areas, PAGE, data=2)
        ring.prepare(io_uring.WRITE_FIXED, fd, area.address + 2 * PAGE, PAGE, 2 * PAGE, data=3)
        ring.submit(wait=3)
        at_places = _named(ring.completions()) == dict.fromkeys((1, 2, 3), PAGE)
        os.lseek(fd, 3 * PAGE, os.SEEK_SET)
        ring.prepare(io_uring.WRITE, fd, area.address + 3 * PAGE, PAGE, -1)
        ring.submit()
        at_position = ring.wait(1) == [(0, PAGE)]
        return [at_places, at_position, os.pread(fd, 5 * PAGE, 0) == data]


def uring_zero_and_nop() -> dict[str, Any]:
    """Read /dev/zero, do nothing, and do more than the rings hold, so that all indexes turn over."""
    with buffers.anonymous(PAGE) as area, io_uring.Ring(4) as ring, Path("/dev/zero").open("rb") as zero:
        area.mapping[:] = b"x" * PAGE
        ring.prepare(io_uring.READ, zero.fileno(), area.address + 1, PAGE - 2, data=1)
        ring.prepare(io_uring.NOP, data=(1 << 64) - 1)
        ring.submit()
        first = _named(ring.wait(2))
        seen = []
        for n in range(100):
            ring.prepare(io_uring.NOP, data=n)
            if n % 4 == 3:
                ring.submit()
                seen += ring.wait(4)
        full = [_raised(ring.prepare, io_uring.NOP) for _ in range(5)]
        return {
            "zero": first == {1: PAGE - 2, (1 << 64) - 1: 0} and area.mapping[:] == b"x" + bytes(PAGE - 2) + b"x",
            "order": sorted(seen) == [(n, 0) for n in range(100)], "full": full,
        }


def uring_cancel() -> dict[str, Any]:
    """Cancel a read of an empty pipe, by its data; then what is not there."""
    readable, writable = os.pipe()
    with buffers.anonymous(PAGE) as area, io_uring.Ring(4) as ring:
        ring.prepare(io_uring.READ, readable, area.address, 10, data=1)
        ring.submit()
        ring.prepare(io_uring.READ, readable, area.address + 50, 10, data=5)
        ring.submit()
        early = _raised(ring.wait, 1, 0.05)
        ring.prepare_cancel(1, data=2)
        ring.prepare_cancel(4711, data=3)
        ring.submit()
        cancelled = _named(ring.wait(3))
        os.write(writable, b"hello")
        rest = _named(ring.wait(1))
        return {"early": early, "cancelled": cancelled, "rest": rest, "data": area.mapping[50:56].decode()}


def uring_link_timeout() -> dict[str, Any]:
    """Bound the time of a read of an empty pipe, and of one that ends in time."""
    readable, writable = os.pipe()
    found: dict[str, Any] = {}
    with buffers.anonymous(PAGE) as area, io_uring.Ring(4) as ring:
        for name, seconds in (("late", 0.1), ("in_time", 20.5)):
            ring.prepare(io_uring.READ, readable, area.address, 10, data=1, flags=io_uring.LINK)
            ring.prepare_link_timeout(seconds, data=2)
            start = time.monotonic()
            ring.submit()
            if name == "in_time":
                os.write(writable, b"x")
            found[name] = _named(ring.wait(2))
            found[f"{name}_quick"] = (0.1 if name == "late" else 0) <= time.monotonic() - start < 10
    return found


def uring_errors() -> dict[str, Any]:
    """Ask for what the kernel refuses."""
    with buffers.anonymous(PAGE) as area, io_uring.Ring(4) as ring:
        ring.prepare(io_uring.READ, 9999, area.address, 10, data=1)
        ring.prepare(99, data=2)
        ring.prepare(io_uring.NOP, data=3)
        ring.submit()
        completions = _named(ring.wait(3))
        start = time.monotonic()
        nothing = _raised(ring.wait, 1, 0.2)
        waited = 0.2 <= time.monotonic() - start < 10
        ring.prepare(io_uring.NOP, data=7)
        ring.submit()
        kept = _raised(ring.wait, 2, 0.1)
        return {
            "completions": completions, "nothing": nothing, "waited": waited, "kept": kept, "later": ring.wait(1),
            "depth_0": _raised(io_uring.Ring, 0), "mode": _raised(io_uring.Ring, 4, 2),
            "buffers": _raised(ring.register_buffers, [(PAGE, PAGE)]), "files": _raised(ring.register_files, [9999]),
        }


def aio_file(depth: int = 8, length: int = 100_001) -> list[str]:
    """Write a file at *depth* places and read it by vectors; returns what was wrong."""
    data = os.urandom(depth * length)
    wrong = []
    with _file() as fd, buffers.anonymous(depth * length) as area, linux_aio.Context(depth) as context:
        area.mapping[:] = data
        for n in range(depth):
            context.submit(linux_aio.PWRITE, fd, area.address + n * length, length, n * length, data=n)
        wrong += [f"write {one}" for one in context.wait(depth) if one[1] != length]
        if os.pread(fd, len(data) + 1, 0) != data:
            wrong.append("file")
        area.mapping[:] = bytes(len(data))
        for n in range(depth):
            at = area.address + n * length
            context.submit_vector(linux_aio.PREADV, fd, [(at, 9), (at + 9, length - 9)], n * length, data=n)
        found = context.wait(depth)
        wrong += [f"read {one}" for one in found if one[1] != length]
        if sorted(number for number, _ in found) != list(range(depth)) or area.mapping[:] != data:
            wrong.append("read data")
    return wrong


def aio_direct(depth: int = 8, length: int = 256 * 1024) -> dict[str, Any]:
    """Read a disk and a file of its ext4 with O_DIRECT, all requests by one call."""
    found: dict[str, Any] = {}
    paths = {"disk": _DISK, "file": os.path.realpath("/proc/self/exe")}
    for name, path in paths.items():
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        with buffers.anonymous(depth * length) as area, linux_aio.Context(depth) as context:
            pieces = [(area.address + n * length, length, n * length) for n in range(depth)]
            context.submit_all(
                [linux_aio.request(linux_aio.PREAD, fd, *piece, data=n) for n, piece in enumerate(pieces)]
            )
            results = dict(context.wait(depth)) == dict.fromkeys(range(depth), length)
            with Path(path).open("rb") as file:
                found[name] = results and file.read(depth * length) == area.mapping[:]
            context.submit(linux_aio.PREAD, fd, area.address + 1, 512, 0)
            found[f"{name}_odd"] = _name(context.wait(1)[0][1])
        os.close(fd)
    return found


def aio_cancel_and_errors() -> dict[str, Any]:
    """Cancel the polling of an empty pipe; and ask for what the kernel refuses."""
    readable, _writable = os.pipe()
    with buffers.anonymous(PAGE) as area:
        context = linux_aio.Context(2)
        one = context.submit(linux_aio.POLL, readable, 1, 0, 0, data=5)
        found: dict[str, Any] = {
            "early": _raised(context.wait, 1, 0.1), "cancel": errno.errorcode[context.cancel(one)],
            "event": context.wait(1), "again": errno.errorcode[context.cancel(one)],
            "bad_file": _raised(context.submit, linux_aio.PREAD, 9999, area.address, 1, 0),
            "bad_opcode": _raised(context.submit, 99, readable, area.address, 1, 0),
            "depth_0": _raised(linux_aio.Context, 0),
        }
        with _file(b"abc") as fd:
            context.submit(linux_aio.PREAD, fd, 0, 3, 0, data=6)
            found["null"] = _named(context.wait(1))
        context.destroy()
        context.destroy()
        found["destroyed"] = _raised(context.submit, linux_aio.PREAD, readable, area.address, 1, 0)
    return found


def kinds_of_memory(length: int = 4 << 20) -> list[str]:
    """Make a buffer of each kind, look at it by its address and its view; returns what was wrong."""
    wrong = []
    for kind in ("anonymous", "transparent_huge", "huge_tlb", "memfd", "file_shared", "straddling"):
        with getattr(buffers, kind)(length) as buffer:
            data = os.urandom(length)
            ctypes.memmove(buffer.address, data, length)
            with buffer.view as view:
                if view != memoryview(data) or len(view) != length or view.readonly:
                    wrong.append(f"{kind}: view")
                view[-1] = view[-1] ^ 0xFF
            if ctypes.string_at(buffer.address + length - 1, 1)[0] != data[-1] ^ 0xFF:
                wrong.append(f"{kind}: last byte")
            if buffer.address % (buffers.HUGE if "huge" in kind else PAGE):
                wrong.append(f"{kind}: alignment")
        buffer.close()
        if _raised(lambda buffer=buffer: buffer.view) == "nothing":
            wrong.append(f"{kind}: open")
    return wrong


def mappings_of(length: int = 64 * PAGE) -> dict[str, Any]:
    """Say what the kernel makes of buffers with two sides, holes and protections."""

    def read(buffer: Buffer) -> int | str:
        """Have the kernel fill the buffer from a file."""
        with _file(b"z" * length) as fd:
            moved = _libc.pread(fd, ctypes.c_void_p(buffer.address), ctypes.c_size_t(length), ctypes.c_long(0))
            return int(moved) if moved >= 0 else errno.errorcode[ctypes.get_errno()]

    two, holed = buffers.straddling(length), buffers.anonymous(length)
    guarded, closed = buffers.anonymous(length), buffers.anonymous(length)
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:buffer" in line]
    half = two.address + length // 2
    shared_half = f"{half:x}-{half + length // 2:x} rw-s"
    holed.unmap(length // 2, PAGE)
    guarded.protect(PAGE, PAGE, buffers.READ)
    closed.protect(0, length, buffers.NONE)
    data = os.urandom(length)
    with buffers.read_only_file(data) as file:
        same = ctypes.string_at(file.address, length) == data == bytes(file.view)
        found = {
            "straddling": read(two), "second_half": any(line.startswith(shared_half) for line in lines),
            "holed": read(holed), "guarded": read(guarded), "closed": read(closed),
            "read_only": read(file), "read_only_data": same, "read_only_view": file.view.readonly,
            "never_writable": _raised(file.protect, 0, PAGE, buffers.READ_WRITE),
        }
    del holed
    return found


@contextlib.contextmanager
def _sparse(size: int) -> Iterator[str]:
    """Give the path of a file on tmpfs, all zeros."""
    with tempfile.NamedTemporaryFile(dir="/tmp") as file:
        file.truncate(size)
        yield file.name


def load_of_file(workers: int, **options: Any) -> dict[str, Any]:
    """Run the mixed load on a file."""
    with _sparse(64 << 20) as path:
        if workers == 1:
            return verified_load.mixed(path, **options)
        return verified_load.together(path, workers=workers, **options)


def copy_of_file(size: int, **options: Any) -> dict[str, Any]:
    """Run the checked copy on a file, and say whether the file has as much as it should."""
    with _sparse(0) as path:
        start = time.monotonic()
        found = verified_load.checked_copy(path, **options)
        return found | {"size": Path(path).stat().st_size == size, "all_seconds": time.monotonic() - start}


class _Faulty(Ways):
    """Ways that do one thing wrong, at the fourth batch or the first one after it that has such a request."""

    fault = ""
    _batches = 0
    _done = False

    def run(self, way: str, requests: Sequence[Request]) -> list[int]:
        """Have the requests done, not quite."""
        self._batches += 1
        writes = self.fault in ("lost_write", "shifted_write", "stray_write")
        chosen = [n for n, one in enumerate(requests) if one.writes == writes and one.length > 64]
        if self._done or self._batches < 4 or not chosen:
            return super().run(way, requests)
        self._done = True
        return self._do_wrong(way, requests, chosen[-1])

    def _do_wrong(self, way: str, requests: Sequence[Request], number: int) -> list[int]:
        one = requests[number]
        address, length = max(one.pieces, key=lambda piece: piece[1])
        memory = ctypes.string_at(address, length)
        before = os.pread(self._fd, one.length, one.position)
        results = super().run(way, requests)
        if self.fault in ("wrong_byte", "byte_before", "byte_behind"):
            at = address + {"wrong_byte": length // 2, "byte_before": -1, "byte_behind": length}[self.fault]
            ctypes.memset(at, ctypes.string_at(at, 1)[0] ^ 1, 1)
        elif self.fault == "not_read":
            ctypes.memmove(address, memory, length)
        elif self.fault == "short":
            results[number] -= 1
        elif self.fault == "error":
            results[number] = -errno.EIO
        elif self.fault == "lost_write":
            os.pwrite(self._fd, before, one.position)
        elif self.fault == "shifted_write":
            os.pwrite(self._fd, b"x" + os.pread(self._fd, one.length - 1, one.position), one.position)
        elif self.fault == "stray_write":
            beside = one.position - 7 if one.position - 7 >= 4096 else one.position + one.length
            os.pwrite(self._fd, bytes([os.pread(self._fd, 1, beside)[0] ^ 1]), beside)
        return results


def load_with(fault: str, what: str) -> dict[str, Any]:
    """Run the load, or the copy, with ways that do one thing wrong."""
    _Faulty.fault = fault
    with _sparse(16 << 20) as path, mock.patch.object(verified_load, "Ways", _Faulty):
        if what == "copy":
            return verified_load.checked_copy(path, 8 << 20, chunk=(1 << 20) + 13)
        return verified_load.mixed(path, base=4096, span=4 << 20, total=20 << 20, longest=1 << 19)
