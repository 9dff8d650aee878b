"""What usual tools do to a file: O_DIRECT, fsync, splice, seeking, flags of a call; run in the guest."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import itertools
import mmap
import os
import random
import socket
import tempfile
import threading
from collections.abc import Callable
from typing import Any

import pciedma
from pciedma_lab.guest import buffers, io_uring, linux_aio

from .processes import unbind
from .unpinnable import patchwork

_libc = ctypes.CDLL(None, use_errno=True)
for _function in (_libc.tee, _libc.vmsplice, _libc.sync_file_range):
    _function.restype = ctypes.c_ssize_t
_SET_PIPE_SIZE = 1031
#: As in <linux/fs.h>; Python knows some of them only.
_RWF = {
    "HIPRI": 0x1, "DSYNC": 0x2, "SYNC": 0x4, "NOWAIT": 0x8, "APPEND": 0x10, "NOAPPEND": 0x20, "ATOMIC": 0x40,
    "DONTCACHE": 0x80, "unknown": 0x40000000,
}


def _name(number: int) -> str:
    """Return an errno's name, as the kernel spells it."""
    return "EOPNOTSUPP" if number == errno.EOPNOTSUPP else errno.errorcode[number]


def _tried(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns, or the name of its errno."""
    try:
        return function(*arguments)
    except OSError as error:
        return _name(error.errno or 0)


def _counted(value: int) -> int:
    if value < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return value


class _Pipe:
    """A pipe with room for *size* bytes."""

    def __init__(self, size: int = 1 << 20) -> None:
        self.read, self.write = os.pipe()
        fcntl.fcntl(self.write, _SET_PIPE_SIZE, size)

    def __enter__(self) -> _Pipe:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.read)
        os.close(self.write)

    def take(self, length: int) -> bytes:
        """Read so many bytes, which are there."""
        found = b""
        while len(found) < length:
            found += os.read(self.read, length - len(found))
        return found


def direct(path: str, length: int) -> dict[str, Any]:
    """Open with O_DIRECT, and move *length* bytes to and from odd places; set and clear the flag later, too."""
    data = os.urandom(length)
    out, back = buffers.anonymous(length + 4096), bytearray(length + 1)
    ctypes.memmove(out.address + 1, data, length)
    fd = os.open(path, os.O_RDWR | os.O_DIRECT)
    found = [os.writev(fd, [(ctypes.c_char * length).from_address(out.address + 1)])]
    _tried(os.lseek, fd, 0, os.SEEK_SET)
    found.append(os.readv(fd, [memoryview(back)[1:]]))
    fcntl.fcntl(fd, fcntl.F_SETFL, 0)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_DIRECT)
    flags = bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT)
    os.close(fd)
    return {"moved": found, "same": back[1:] == data, "flag": flags}


def syncing(path: str) -> dict[str, Any]:
    """Call all that makes sure that what was written has arrived."""
    fd = os.open(path, os.O_RDWR)
    place = ctypes.c_long(0), ctypes.c_long(4096)
    found = {
        "fsync": _tried(os.fsync, fd),
        "fdatasync": _tried(os.fdatasync, fd),
        "sync_file_range": _tried(lambda: _counted(_libc.sync_file_range(fd, *place, 7))),
    }
    with io_uring.Ring(2) as ring:
        ring.prepare(io_uring.FSYNC, fd)
        ring.submit()
        found["io_uring"] = ring.wait(1)[0][1]
    os.close(fd)
    return found


def unsupported(path: str) -> dict[str, Any]:
    """Try what only files on disk do; returns the errno names, or what it led to."""
    fd = os.open(path, os.O_RDWR)
    with tempfile.TemporaryFile() as other:
        other.write(bytes(4096))
        found = {
            "fadvise": _tried(os.posix_fadvise, fd, 0, 0, os.POSIX_FADV_SEQUENTIAL),
            "fallocate": _tried(os.posix_fallocate, fd, 0, 4096),
            "ftruncate": _tried(os.ftruncate, fd, 0),
            "mmap": _tried(mmap.mmap, fd, 4096),
            "copy_from": _tried(os.copy_file_range, fd, other.fileno(), 4096),
            "copy_to": _tried(os.copy_file_range, other.fileno(), fd, 4096),
        }
    os.close(fd)
    polled = os.open(path, os.O_RDWR | os.O_DIRECT)
    with io_uring.Ring(2, io_uring.IOPOLL) as ring, buffers.anonymous(4096) as buffer:
        ring.prepare(io_uring.READ, polled, buffer.address, 100, 0)
        ring.submit()
        found["iopoll"] = _name(-ring.wait(1)[0][1])
    os.close(polled)
    return found


def card_node(path: str) -> dict[str, Any]:
    """Try on a card's node what belongs to a channel's."""
    fd = os.open(path, os.O_RDWR)
    with _Pipe() as pipe:
        found = {
            "fsync": _tried(os.fsync, fd),
            "splice_in": _tried(os.splice, fd, pipe.write, 100),
            "seek": _tried(os.lseek, fd, 0, os.SEEK_END),
            "mmap": _tried(mmap.mmap, fd, 4096),
        }
    os.close(fd)
    return found


def seeks(path: str) -> dict[str, Any]:
    """Seek in every way."""
    fd = os.open(path, os.O_RDWR)
    found = {
        name: _tried(os.lseek, fd, 7, getattr(os, f"SEEK_{name}")) for name in ("SET", "CUR", "DATA", "HOLE")
    }
    found["END"] = _tried(os.lseek, fd, 0, os.SEEK_END)
    os.close(fd)
    return found


def flags(path: str, *, append: bool = False) -> dict[str, Any]:
    """Read and write 100 bytes with each flag of preadv2() and pwritev2(); of messages without a position."""
    fd = os.open(path, os.O_RDWR | (os.O_APPEND if append else 0))
    position = 0 if _tried(os.lseek, fd, 0, os.SEEK_SET) == 0 else -1
    found: dict[str, Any] = {}
    for name, flag in (_RWF | {"none": 0}).items():
        found[f"{name} write"] = _tried(os.pwritev, fd, [bytes(100)], position, flag)
        found[f"{name} read"] = _tried(os.preadv, fd, [bytearray(100)], position, flag)
    found["APPEND NOAPPEND write"] = _tried(os.pwritev, fd, [bytes(100)], position, _RWF["APPEND"] | _RWF["NOAPPEND"])
    os.close(fd)
    return found


def high_priority(path: str, rounds: int, *, flag: bool) -> int:
    """Read in interrupt mode, with RWF_HIPRI or without; returns the bytes."""
    buffer = bytearray(5000)
    with pciedma.Channel(path) as channel:
        channel.wait_mode = pciedma.WaitMode.INTERRUPT
        return sum(os.preadv(channel.fileno(), [buffer], 0, os.RWF_HIPRI if flag else 0) for _ in range(rounds))


def _fill(fd: int, length: int, position: int, seed: int = 1) -> bytes:
    data = random.Random(seed).randbytes(length)
    assert os.pwrite(fd, data, position) == length
    return data


def splice_from(path: str, lengths: list[int], *, position: int = 12345, flag: int = 0) -> list[str]:
    """Splice memory of the card to a pipe, and send it to files and sockets; returns what was wrong."""
    wrong = []
    fd = os.open(path, os.O_RDWR | flag)
    for length in lengths:
        data = _fill(fd, length, position, length)
        with _Pipe() as pipe:
            moved = 0
            while moved < length:
                moved += (part := os.splice(fd, pipe.write, length - moved, position + moved))
                wrong += [f"{length}: other bytes by splice"] * (pipe.take(part) != data[moved - part : moved])
        with tempfile.TemporaryFile() as file:
            os.lseek(fd, position, os.SEEK_SET)
            sent = [os.sendfile(file.fileno(), fd, None, length), os.lseek(fd, 0, os.SEEK_CUR) - position]
            wrong += [f"{length}: sent {sent} to a file"] * (sent != [length] * 2)
            wrong += [f"{length}: other bytes in a file"] * (os.pread(file.fileno(), length, 0) != data)
        wrong += [f"{length}: other bytes by a socket"] * (_by_socket(fd, position, length) != data)
    os.close(fd)
    return wrong


def _by_socket(fd: int, position: int, length: int) -> bytes:
    one, other = socket.socketpair()
    found = bytearray()

    def receive() -> None:
        while len(found) < length and (part := other.recv(65536)):
            found.extend(part)

    thread = threading.Thread(target=receive)
    thread.start()
    sent = 0
    while sent < length:
        sent += os.sendfile(one.fileno(), fd, position + sent, length - sent)
    one.close()
    thread.join()
    other.close()
    return bytes(found)


def splice_to(path: str, lengths: list[int], *, position: int = 12345, flag: int = 0) -> list[str]:
    """Splice to the card what was written, teed and vmspliced into a pipe, and what is in a file."""
    wrong = []
    fd = os.open(path, os.O_RDWR | flag)

    def check(what: str, moved: int, data: bytes) -> None:
        got = os.pread(fd, len(data), position)
        if moved != len(data) or got != data:
            wrong.append(f"{what}, {len(data)}: {moved}, {'same' if got == data else 'other'} bytes")
        _fill(fd, len(data), position, 0)

    for length in lengths:
        data = random.Random(length).randbytes(length)
        with _Pipe() as pipe, _Pipe() as other:
            cuts = sorted([0, length, *(random.Random(1).randrange(length + 1) for _ in range(4))])
            for start, end in itertools.pairwise(cuts):
                os.write(pipe.write, data[start:end])
            teed = _counted(_libc.tee(pipe.read, other.write, ctypes.c_size_t(length), 0))
            check("splice", _splice_all(pipe.read, fd, length, position), data)
            check("tee", _splice_all(other.read, fd, teed, position), data[:teed])
            with buffers.anonymous(length + 4096) as memory:
                ctypes.memmove(memory.address + 5, data, length)
                area = (ctypes.c_uint64 * 2)(memory.address + 5, length)
                given = _counted(_libc.vmsplice(pipe.write, area, ctypes.c_size_t(1), 0))
                check("vmsplice", _splice_all(pipe.read, fd, given, position), data[:given])
        with tempfile.TemporaryFile() as file:
            file.write(b"before" + data)
            file.flush()
            os.lseek(fd, position, os.SEEK_SET)
            check("sendfile", os.sendfile(fd, file.fileno(), 6, length), data)
    os.close(fd)
    return wrong


def _splice_all(source: int, fd: int, length: int, position: int) -> int:
    moved = 0
    while moved < length:
        moved += os.splice(source, fd, length - moved, None, position + moved)
    return moved


def ring_splice(path: str, length: int, *, position: int = 12345) -> dict[str, Any]:
    """Splice to and from the card by io_uring."""
    fd = os.open(path, os.O_RDWR)
    data = random.Random(1).randbytes(length)
    found: dict[str, Any] = {}
    with _Pipe() as pipe, io_uring.Ring(2) as ring:
        os.write(pipe.write, data)
        ring.prepare_splice(pipe.read, -1, fd, position, length)
        ring.submit()
        found["to"] = ring.wait(1)[0][1]
        ring.prepare_splice(fd, position, pipe.write, -1, length)
        ring.submit()
        found["from"] = ring.wait(1)[0][1]
        found["same"] = pipe.take(length) == data
    os.close(fd)
    return found


def spliced_messages(path: str) -> dict[str, Any]:
    """Splice messages: what does not fit into one stays where it was."""
    fd = os.open(path, os.O_RDWR)
    data = random.Random(1).randbytes(3000)
    found: dict[str, Any] = {}
    with _Pipe() as pipe, tempfile.TemporaryFile() as file:
        os.write(pipe.write, data)
        found["too_long"] = _tried(os.splice, pipe.read, fd, 3000)
        found["first"] = os.splice(pipe.read, fd, 2047)
        found["first_there"] = os.read(fd, 2047) == data[:2047]
        found["rest"] = os.splice(pipe.read, fd, 953)
        found["rest_there"] = os.read(fd, 953) == data[2047:]
        os.write(fd, data[:2047])
        found["from"] = os.splice(fd, pipe.write, 65536)
        found["from_there"] = pipe.take(2047) == data[:2047]
        file.write(data)
        file.flush()
        found["file_too_long"] = _tried(os.sendfile, fd, file.fileno(), 0, 3000)
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        found["file_position"] = [
            _tried(os.sendfile, fd, file.fileno(), None, 3000), os.lseek(file.fileno(), 0, os.SEEK_CUR),
        ]
        found["file"] = os.sendfile(fd, file.fileno(), 953, 2047)
        found["file_there"] = os.read(fd, 2047) == data[953:]
        found["sendfile_from"] = _tried(os.sendfile, file.fileno(), fd, None, 100)
        found["position"] = _tried(os.splice, fd, pipe.write, 100, 0)
    os.close(fd)
    return found


def fsync_of_a_card_that_goes(path: str, driver: str, address: str) -> list[Any]:
    """Call fsync() while the card is there, and when it is gone."""
    fd = os.open(path, os.O_RDWR)
    found = [_tried(os.fsync, fd)]
    unbind(driver, address)
    found.append(_tried(os.fsync, fd))
    os.close(fd)
    return found


def marked(path: str, length: int, rounds: int = 20) -> int:
    """Write bytes of 0xAA, and read them back so often that all of the engine's DMA buffers have them."""
    mark = b"\xaa" * length
    with pciedma.Channel(path) as channel:
        fd = channel.fileno()
        os.write(fd, mark)
        same = 0
        for _ in range(rounds):
            _tried(os.lseek, fd, 0, os.SEEK_SET)
            same += os.read(fd, length) == mark
        return same


def bytes_after(path: str, length: int, way: str, kind: str = "anonymous") -> list[int]:
    """Read *length* bytes of what the card reports, over 0x5A; returns which bytes there are then."""
    if way.startswith("splice"):
        fd = os.open(path, os.O_RDWR | (os.O_DIRECT if way == "splice_direct" else 0))
        with _Pipe() as pipe:
            found = pipe.take(os.splice(fd, pipe.write, length))
        os.close(fd)
        return sorted(set(found))
    with pciedma.Channel(path) as channel, patchwork([(kind, (length + 4095) // 4096)]) as buffer:
        ctypes.memset(buffer.address, 0x5A, length)
        if way == "aio":
            with linux_aio.Context(1) as context:
                context.submit(linux_aio.PREAD, channel.fileno(), buffer.address, length, 0)
                moved = context.wait(1)[0][1]
        else:
            moved = os.readv(channel.fileno(), [(ctypes.c_char * length).from_address(buffer.address)])
        assert moved == length, moved
        return sorted(set(ctypes.string_at(buffer.address, length)))
