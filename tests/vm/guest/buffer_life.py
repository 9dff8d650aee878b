"""What becomes of buffers and their mappings, run in the guest. Each function returns what was wrong."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import re
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pciedma
from pciedma import uapi
from pciedma_lab.guest import buffers, io_uring
from pciedma_lab.guest.buffers import PAGE
from pciedma_lab.guest.libc_calls import pread, pwrite, result_of

from . import unpinnable
from .buffer_faults import (
    KEPT,
    WILD,
    Case,
    end_of,
    errno_of,
    held,
    in_child,
    moves,
    opened,
    unlike,
    until,
)
from .entries import BARRIER, C2H, H2C, entry, wait
from .shared import BOTH, Outcome, create, destroy, said

_libc = ctypes.CDLL(None, use_errno=True)
_NEW, _USER = uapi.PCIEDMA_BUFFER_NEW, uapi.PCIEDMA_BUFFER_USER


#: Nobody else is this user, so that nothing else counts against his limit.
_USER_ID = 54321
_SET_DUMPABLE = 4
_TMPFS_IS_DIRECT = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= (6, 6)


def as_user(limit: int, fds: list[int], work: Callable[[], list[Case]]) -> list[str]:
    """Do it in a child, who alone has *fds*, and is a user with a limit of locked memory; returns what was wrong."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        try:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
            os.setgid(_USER_ID)
            os.setuid(_USER_ID)
            _libc.prctl(_SET_DUMPABLE, 1)  # else it cannot read its own fdinfo
            os.write(writes, "\n".join(unlike(work())).encode())
        except BaseException as error:
            os.write(writes, repr(error).encode())
        finally:
            os._exit(0)
    for fd in (writes, *fds):
        os.close(fd)
    with os.fdopen(reads) as told:
        wrong = told.read().splitlines()
    os.waitpid(child, 0)
    return wrong


def just_free(fd: int, pages: int) -> bool:
    """Whether just so many pages are not counted yet; another may be about to let go."""
    def all_are() -> bool:
        asked = uapi.pciedma_buffer_create(flags=BOTH, type=_NEW, size=pages * PAGE)
        if said(fd, "BUFFER_CREATE", asked):
            return False
        destroy(fd, asked.id)
        return True
    asked = uapi.pciedma_buffer_create(flags=BOTH, type=_NEW, size=(pages + 1) * PAGE)
    return until(all_are, 3) and said(fd, "BUFFER_CREATE", asked) == "ENOMEM"


def limits(path: str, pages: int) -> list[str]:
    """Reach the limit of locked memory, and let go of what counts in all ways: just that is free again."""
    fd, other = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    return as_user(pages * PAGE, [fd, other], lambda: _limit_cases(fd, other, pages))


def _limit_cases(fd: int, other: int, pages: int) -> list[Case]:
    area = buffers.anonymous((pages + 2) * PAGE)
    user: dict[str, Any] = {"flags": BOTH, "type": _USER, "address": area.address}
    kind = uapi.pciedma_buffer_create
    cases: list[Case] = [("at first", True, just_free(fd, pages))]
    for skip, size in ((0, pages * PAGE + 1), (1, pages * PAGE)):
        asked = kind(**user | {"size": size, "address": area.address + skip})
        cases.append((f"user {size} at {skip}", "ENOMEM", said(fd, "BUFFER_CREATE", asked)))
    cases.append(("after refusals", True, just_free(fd, pages)))
    bad = kind(**user | {"size": 2 * PAGE, "address": WILD[0]})
    cases += [("not there", "EFAULT", said(fd, "BUFFER_CREATE", bad)), ("after a fault", True, just_free(fd, pages))]
    registered = create(fd, 2 * PAGE, type=_USER, address=area.address + PAGE - 1)
    cases.append(("three pages registered", True, just_free(other, pages - 3)))
    destroy(fd, registered.id)
    cases.append(("registered, and destroyed", True, just_free(other, pages)))
    made = create(fd, 5 * PAGE - 1)
    memory = mmap.mmap(fd, made.size, offset=made.mmap_offset)
    destroy(fd, made.id)
    cases += [("destroyed, but mapped", True, just_free(other, pages - 5)), ("held", (0, 0), held(fd))]
    child = in_child(lambda: None)
    memory.close()
    cases.append(("a child has it mapped", True, just_free(other, pages - 5)))
    end_of(child)
    cases.append(("no child any more", True, just_free(other, pages)))
    cases += _limits_of_others(fd, other, pages)
    return cases


def _limits_of_others(fd: int, other: int, pages: int) -> list[Case]:
    """Let other processes hold, and let go."""
    area = buffers.anonymous(4 * PAGE)
    cases: list[Case] = []

    def both(fd: int) -> None:
        create(fd, 4 * PAGE, type=_USER, address=area.address)
        made = create(fd, 3 * PAGE)
        KEPT.append(mmap.mmap(fd, made.size, offset=made.mmap_offset))

    child = in_child(lambda: both(fd))
    cases.append(("a child's, in a file that is ours, too", True, just_free(other, pages - 7)))
    end_of(child)
    cases.append(("which has ended", True, just_free(other, pages - 7)))
    child = in_child(lambda: None)
    os.close(fd)
    cases.append(("which we have closed, but a child has not", True, just_free(other, pages - 7)))
    end_of(child)
    cases.append(("which is closed", True, just_free(other, pages)))

    def becomes_another() -> None:
        made = create(other, 3 * PAGE)
        KEPT.append(mmap.mmap(other, made.size, offset=made.mmap_offset))
        destroy(other, made.id)
        os.execvp("sleep", ["sleep", "100"])

    child = in_child(becomes_another, b"")
    cases.append(("a child that became another program", True, just_free(other, pages)))
    end_of(child)
    return cases


@contextmanager
def mapping(fd: int, size: int, **fields: Any) -> Iterator[tuple[mmap.mmap, int]]:
    """Have a buffer made and mapped; gives the mapping and the id."""
    made = create(fd, size, **fields)
    memory = mmap.mmap(fd, made.size, offset=made.mmap_offset)
    try:
        yield memory, made.id
    finally:
        memory.close()


def _maps(fd: int, length: int, offset: int, flags: int = mmap.MAP_SHARED, protection: int = 3) -> Outcome:
    try:
        mmap.mmap(fd, length, flags, protection, offset=offset).close()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return 0


def mappings(path: str) -> list[str]:
    """Map what may, and may not be mapped; and change mappings in all ways."""
    cases = _alone(path)
    area = buffers.anonymous(4 * PAGE)
    with opened(path) as fd:
        first, made, last = create(fd, PAGE), create(fd, 4 * PAGE), create(fd, 2 * PAGE)
        user = create(fd, 4 * PAGE, type=_USER, address=area.address)
        at = made.mmap_offset
        cases.append(("private", "EINVAL", _maps(fd, PAGE, at, mmap.MAP_PRIVATE)))
        places: list[tuple[Outcome, int, int]] = [
            ("EINVAL", 5 * PAGE, at), ("EINVAL", 4 * PAGE, at + PAGE), (0, 3 * PAGE, at + PAGE),
            (0, PAGE, at + 3 * PAGE), ("EINVAL", 3 * PAGE, last.mmap_offset),
            ("EINVAL", PAGE, last.mmap_offset + 2 * PAGE),
            ("EINVAL", PAGE, last.mmap_offset + 6 * PAGE), ("EINVAL", 2 * PAGE, first.mmap_offset),
            ("EINVAL", PAGE, 1 << 62), (0, 100, at),
        ]
        cases += [(f"{length} at {skip - at}", wanted, _maps(fd, length, skip)) for wanted, length, skip in places]
        cases.append(("registered is nowhere", 0, user.mmap_offset))
        destroy(fd, first.id)
        cases.append(("destroyed", "EINVAL", _maps(fd, PAGE, first.mmap_offset)))
        again = create(fd, PAGE)
        cases.append(("nor is another there", True, again.mmap_offset > last.mmap_offset))
        cases += _changed(path, fd, made)
    for flags, wanted in ((os.O_RDONLY, "EACCES"), (os.O_WRONLY, "EACCES")):
        with opened(path, flags) as fd:
            made = create(fd, PAGE, flags=uapi.PCIEDMA_BUFFER_C2H if flags == os.O_RDONLY else uapi.PCIEDMA_BUFFER_H2C)
            cases += [(f"to write by {flags}", wanted, _maps(fd, PAGE, made.mmap_offset)),
                      (f"to read by {flags}", 0 if flags == os.O_RDONLY else "EACCES",
                       _maps(fd, PAGE, made.mmap_offset, mmap.MAP_SHARED, 1))]
    return unlike(cases)


def _alone(path: str) -> list[Case]:
    """Let a mapping be all that is left of an exclusive open file: others can have the channel, and move it."""
    with opened(path, os.O_RDWR | os.O_EXCL) as fd:
        made = create(fd, PAGE)
        memory = buffers.shared_of(fd, PAGE, made.mmap_offset)
        busy_now = errno_of(lambda: os.close(os.open(path, os.O_RDWR)))
    memory.view[:] = data = bytes(range(256)) * 16
    with opened(path, os.O_RDWR | os.O_EXCL) as fd:
        return [("exclusive", "EBUSY", busy_now), ("written from it", PAGE, pwrite(fd, memory.address, PAGE, 0)),
                ("what", data, os.pread(fd, PAGE, 0)),
                ("its id has gone", "ENOENT", moves(fd, [entry(H2C, made.id, 0, PAGE)]))]


_libc.mremap.restype = _libc.mmap.restype = ctypes.c_void_p
_MAP_FIXED = 0x10
_MAYMOVE = 1


def _mremap(address: int, old: int, new: int) -> Outcome:
    found = _libc.mremap(ctypes.c_void_p(address), ctypes.c_size_t(old), ctypes.c_size_t(new), _MAYMOVE)
    return errno.errorcode[ctypes.get_errno()] if found in (None, ctypes.c_void_p(-1).value) else int(found)


def _changed(path: str, fd: int, made: Any) -> list[Case]:
    """Change a mapping of four pages; the data are always those of the pages."""
    memory = mmap.mmap(fd, made.size, offset=made.mmap_offset)
    memory[:] = b"".join(bytes([1 + number]) * PAGE for number in range(4))
    address = buffers.address_of(memory)
    cases: list[Case] = [("growth", "EFAULT", _mremap(address, 4 * PAGE, 8 * PAGE))]
    memory.madvise(mmap.MADV_DONTNEED)
    cases += [("after DONTNEED", [1, 2, 3, 4], [memory[number * PAGE] for number in range(4)])]
    buffers.protect(address + PAGE, PAGE, buffers.NONE)
    with pciedma.Channel(path) as channel:
        where = channel.fileno()
        cases += [(f"{name} of {first} pages from {skip}", wanted, call(where, address + skip * PAGE, first * PAGE, 0))
                  for name, call in (("read", pread), ("write", pwrite)) for skip, first, wanted in (
                      (0, 1, PAGE), (1, 1, "EFAULT"), (0, 2, {PAGE, "EFAULT"}), (2, 2, 2 * PAGE))]
    buffers.protect(address + PAGE, PAGE, buffers.READ)
    cases += [("read to what is read only", "EFAULT", pread(fd, address + PAGE, PAGE, 0)),
              ("write from what is read only", PAGE, pwrite(fd, address + PAGE, PAGE, 0))]
    buffers.protect(address + PAGE, PAGE, buffers.READ_WRITE)
    memory[:] = b"".join(bytes([1 + number]) * PAGE for number in range(4))
    moved_to = _mremap(address + 2 * PAGE, 2 * PAGE, 2 * PAGE)
    cases.append(("stays", address + 2 * PAGE, moved_to))
    room = buffers.anonymous(4 * PAGE)
    found = _libc.mremap(ctypes.c_void_p(address + 2 * PAGE), ctypes.c_size_t(2 * PAGE), ctypes.c_size_t(2 * PAGE), 3,
                         ctypes.c_void_p(room.address))
    cases.append(("moves", room.address, found))
    destroy(fd, made.id)
    cases += [("written from there", 2 * PAGE, pwrite(fd, room.address, 2 * PAGE, 64 * PAGE)),
              ("what", [3, 4], [os.pread(fd, 1, (64 + number) * PAGE)[0] for number in range(2)]),
              ("read to there", PAGE, pread(fd, room.address + PAGE, PAGE, 64 * PAGE)),
              ("what then", [3, 3], [*ctypes.string_at(room.address + PAGE - 1, 2)])]
    buffers.unmap(room.address, PAGE)
    cases += [("half of it has gone", {PAGE, "EFAULT"}, pwrite(fd, room.address, 2 * PAGE, 0)),
              ("the rest", PAGE, pwrite(fd, room.address + PAGE, PAGE, 0))]
    buffers.unmap(room.address + PAGE, PAGE)
    buffers.unmap(address, 2 * PAGE)
    cases.append(("all has gone", "EFAULT", pwrite(fd, address, PAGE, 0)))
    KEPT.append((memory, room))
    return cases


def elsewhere(path: str, other: str) -> list[str]:
    """Use a mapping where other memory would do; and register memory that may be, and that may not be."""
    cases: list[Case] = []
    data = bytes(range(256)) * 16
    with opened(path) as fd, mapping(fd, PAGE) as (memory, number), opened(other) as second:
        address = buffers.address_of(memory)
        memory[:] = data
        cases += [("another card's write", 2000, pwrite_or_write(second, address, 2000)),
                  ("another card's read", 2000, read_into(second, address + 2000, 2000)),
                  ("what came", data[:2000], memory[2000:4000])]
        memory[:] = data
        with io_uring.Ring(4) as ring:
            fixed = errno_of(lambda: ring.register_buffers([(address, PAGE)]))
            cases.append(("fixed", {0, "ENOTSUP"}, fixed))
            fixed_codes = [] if fixed else [io_uring.WRITE_FIXED, io_uring.READ_FIXED]
            for code in (io_uring.WRITE, io_uring.READ, *fixed_codes):
                ring.prepare(code, fd, address, PAGE, 0)
                ring.submit()
                cases.append((f"io_uring {code}", [PAGE], [result for _, result in ring.wait(1)]))
        cases.append(("after io_uring", data, memory[:]))
        direct = [os.O_DIRECT] if _TMPFS_IS_DIRECT else []
        for flags in (0, *direct):
            with opened("/root/direct", os.O_CREAT | os.O_RDWR | flags) as file:
                cases.append((f"file {flags}", PAGE, pwrite(file, address, PAGE, 0)))
                cases.append((f"from file {flags}", PAGE, pread(file, address, PAGE, 0)))
        with opened("/dev/vda", os.O_RDONLY) as disk, opened("/dev/vda", os.O_RDONLY | os.O_DIRECT) as same:
            cases += [("from the disk", PAGE, pread(same, address, PAGE, PAGE)),
                      ("what the disk has", os.pread(disk, PAGE, PAGE), memory[:])]
        memory[:] = data
        reads, writes = os.pipe()
        cases += [("pipe", PAGE, os.write(writes, memory)), ("from pipe", data, os.read(reads, PAGE))]
        kind: dict[str, Any] = {"type": _USER, "size": PAGE}
        again = create(fd, PAGE, type=_USER, address=address)
        cases += [("a mapping registered", 1, moves(fd, [entry(H2C, again.id, 0, PAGE, 7 * PAGE)])),
                  ("what it wrote", data, os.pread(fd, PAGE, 7 * PAGE))]
        destroy(fd, number)
        memory.close()
        cases += [("registered still", 1, moves(fd, [entry(C2H, again.id, 0, PAGE, 7 * PAGE)]))]
        os.close(reads)
        os.close(writes)
        cases += _registered(fd, kind)
    return unlike(cases)


def _shrunk(fd: int, kind: dict[str, Any], size: int, flags: int = 0) -> list[Case]:
    """Cut off the file behind registered memory: what is registered stays as it is."""
    memfd = os.memfd_create("x", flags)
    os.ftruncate(memfd, size)
    memory = mmap.mmap(memfd, size)
    memory[:] = b"m" * size
    made = create(fd, size, type=_USER, address=buffers.address_of(memory))
    os.ftruncate(memfd, 0)
    again = uapi.pciedma_buffer_create(flags=BOTH, address=buffers.address_of(memory), **kind)
    cases: list[Case] = [
        (f"cut off {size}", 1, moves(fd, [entry(H2C, made.id, 0, size)])),
        (f"what it was {size}", b"m" * size, os.pread(fd, size, 0)),
        (f"read to it {size}", 1, moves(fd, [entry(C2H, made.id, 0, size)])),
        (f"not there any more {size}", "EFAULT", said(fd, "BUFFER_CREATE", again)),
    ]
    KEPT.append(memory)
    os.close(memfd)
    return cases


def _not_written_yet(fd: int) -> list[Case]:
    """Register memory to be read from that has no pages of its own yet, and write to it then."""
    data = bytes(range(256)) * 16
    with opened("/root/private", os.O_CREAT | os.O_RDWR) as file:
        os.pwrite(file, b"f" * PAGE, 0)
        of_file = mmap.mmap(file, PAGE, flags=mmap.MAP_PRIVATE)
    cases: list[Case] = []
    for name, memory in (("anonymous", mmap.mmap(-1, PAGE, flags=mmap.MAP_PRIVATE)), ("of a file", of_file)):
        made = create(fd, PAGE, flags=uapi.PCIEDMA_BUFFER_H2C, type=_USER, address=buffers.address_of(memory))
        memory[:] = data
        cases += [(f"registered first, {name}", 1, moves(fd, [entry(H2C, made.id, 0, PAGE)])),
                  (f"what was written then, {name}", data, os.pread(fd, PAGE, 0))]
        KEPT.append(memory)
    return cases


def _at_its_offset(fd: int) -> list[Case]:
    """Map a buffer where huge pages would begin if its offset were an address."""
    small, large = create(fd, PAGE), create(fd, 2 * buffers.HUGE)
    room = buffers.anonymous(4 * buffers.HUGE)
    address = -(-room.address // buffers.HUGE) * buffers.HUGE + large.mmap_offset % buffers.HUGE
    found = _libc.mmap(ctypes.c_void_p(address), ctypes.c_size_t(large.size), 3, mmap.MAP_SHARED | _MAP_FIXED, fd,
                       ctypes.c_long(large.mmap_offset))
    for number in range(large.size // PAGE):
        ctypes.memmove(address + number * PAGE, number.to_bytes(4, "little"), 4)
    whole = moves(fd, [entry(H2C, large.id, 0, large.size)])
    numbers = [int.from_bytes(os.pread(fd, 4, number * PAGE), "little") for number in range(large.size // PAGE)]
    KEPT.append(room)
    return [("mapped", address, found), ("moved", 1, whole), ("pages", [*range(large.size // PAGE)], numbers),
            ("offsets", [0, 0], [one.mmap_offset % buffers.HUGE for one in (small, large)])]


def _registered(fd: int, kind: dict[str, Any]) -> list[Case]:
    buffers.reserve_huge_pages(2)
    cases = _shrunk(fd, kind, 2 * PAGE) + _shrunk(fd, kind, buffers.HUGE, os.MFD_HUGETLB)
    cases += _not_written_yet(fd) + _at_its_offset(fd)
    for name in ("file", *unpinnable.there()):
        area = unpinnable.patchwork([(name, 1)])
        asked = uapi.pciedma_buffer_create(flags=BOTH, address=area.address, **kind)
        cases.append((name, {"ENOTSUP", 0} if name == "file" else "ENOTSUP", said(fd, "BUFFER_CREATE", asked)))
    return cases


def pwrite_or_write(fd: int, address: int, length: int) -> Outcome:
    """Write a message."""
    return result_of(_libc.write(fd, ctypes.c_void_p(address), ctypes.c_size_t(length)))


def read_into(fd: int, address: int, length: int) -> Outcome:
    """Read a message."""
    return result_of(_libc.read(fd, ctypes.c_void_p(address), ctypes.c_size_t(length)))


def busy(path: str, size: int) -> list[str]:
    """Do to a buffer and its mapping all that can be done while the card, which is slow, moves it whole, both ways."""
    data = os.urandom(size)
    cases: list[Case] = []
    with opened(path) as fd:
        for name, deed in (
            ("destroy", lambda memory, address, number: destroy(fd, number)),
            ("munmap", lambda memory, address, number: memory.close()),
            ("half munmap", lambda memory, address, number: buffers.unmap(address + size // 2, size // 2)),
            ("DONTNEED", lambda memory, address, number: memory.madvise(mmap.MADV_DONTNEED)),
            ("mremap", lambda memory, address, number: _mremap(address, size, size // 2)),
            ("PROT_NONE", lambda memory, address, number: buffers.protect(address, size, buffers.NONE)),
            ("fork", lambda memory, address, number: end_of(in_child(lambda: memory.write(b"")))),
            ("exec", lambda memory, address, number: end_of(in_child(lambda: os.execvp("sleep", ["sleep", "9"]), b""))),
        ):
            made = create(fd, size)
            memory = mmap.mmap(fd, size, offset=made.mmap_offset)
            memory[:] = data
            address = buffers.address_of(memory)
            begun = time.monotonic()
            moves(fd, [entry(H2C, made.id, 0, size, 0), entry(C2H | BARRIER, made.id, 0, size, 0)], submit=True)
            time.sleep(0.02)
            early = wait(fd, 0)
            deed(memory, address, made.id)
            late = said(fd, "BUFFER_DESTROY", uapi.pciedma_buffer_destroy(id=made.id))
            cases += [(f"{name}: it has begun", [], early), (name, [(0, size, 0)] * 2, wait(fd, 2, 2, 20 * 10**9)),
                      (f"{name}: its id", "ENOENT" if name == "destroy" else 0, late),
                      (f"{name}: what it wrote", True, os.pread(fd, size, 0) == data),
                      (f"{name}: it took long", True, time.monotonic() - begun > 0.02)]
            if not memory.closed:
                if name == "PROT_NONE":
                    buffers.protect(address, size, buffers.READ_WRITE)
                half = size // 2 if name in ("half munmap", "mremap") else size
                cases.append((f"{name}: what it read", True, ctypes.string_at(address, half) == data[:half]))
                KEPT.append(memory)
        cases.append(("held", (0, 0), held(fd)))
    return unlike(cases)
