"""Mistakes with buffers and transfers, run in the guest. Each function returns what was wrong."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import select
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pciedma import uapi
from pciedma_lab.guest import buffers
from pciedma_lab.guest.buffers import PAGE

from .entries import BARRIER, C2H, FOREVER, H2C, entry, moved, wait
from .shared import BOTH, Outcome, create, destroy, said

_NEW, _USER, _DMABUF = uapi.PCIEDMA_BUFFER_NEW, uapi.PCIEDMA_BUFFER_USER, uapi.PCIEDMA_BUFFER_DMABUF
_SUBMIT = uapi.PCIEDMA_TRANSFER_SUBMIT
_TOP = 1 << 31
_CACHE_LINE = 64
_MOST = uapi.PCIEDMA_ENTRIES
#: Addresses that no program has.
WILD = (1 << 60, (1 << 63) + PAGE, (1 << 64) - PAGE)

Case = tuple[str, Any, Any]


def unlike(cases: Iterable[Case]) -> list[str]:
    """Return what is not as it should be."""
    wrong = []
    for name, wanted, found in cases:
        if found not in (wanted if isinstance(wanted, set) else [wanted]):
            wrong.append(f"{name}: {found}, not {wanted}")
    return wrong


def held(fd: int) -> tuple[int, int]:
    """Return how many buffers an open file has, and their bytes."""
    text = Path(f"/proc/self/fdinfo/{fd}").read_text()
    lines = dict(line.split(":\t") for line in text.splitlines() if ":\t" in line)
    return int(lines["buffers"]), int(lines["buffer-bytes"])


@contextmanager
def opened(path: str, flags: int = os.O_RDWR) -> Iterator[int]:
    """Open a node."""
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def _words(structure: type[ctypes.Structure], *fields: str, **good: Any) -> Iterator[tuple[str, Any]]:
    """Spoil one word of some fields after the other."""
    for name in fields:
        field = getattr(structure, name)
        for at in range(field.offset, field.offset + field.size, 4):
            spoilt = structure(**good)
            ctypes.c_uint32.from_address(ctypes.addressof(spoilt) + at).value = _TOP
            yield f"{name}+{at - field.offset}", spoilt


def _read_only(argument: Any) -> int:
    """Return the address of a copy that cannot be written."""
    area = buffers.anonymous(PAGE)
    ctypes.memmove(area.address, ctypes.byref(argument), ctypes.sizeof(argument))
    buffers.protect(area.address, PAGE, buffers.READ)
    KEPT.append(area)
    return area.address


KEPT: list[Any] = []


def _bad_numbers(fd: int, user: dict[str, Any], new: dict[str, Any]) -> list[Case]:
    """Ask for memory of the program's, and for new, with descriptors and of sizes that there are not."""
    kind = uapi.pciedma_buffer_create
    cases: list[Case] = []
    for number in (1, -1, 1 << 30):
        cases.append(("user fd", "EINVAL", said(fd, "BUFFER_CREATE", kind(**user | {"fd": number}))))
        cases.append(("new fd", "EINVAL", said(fd, "BUFFER_CREATE", kind(**new | {"fd": number}))))
    for name, good in (("user", user), ("new", new)):
        for size in (0, 1 << 63, (1 << 64) - 1, (1 << 63) - PAGE):
            cases.append((f"{name} {size:#x}", "EINVAL", said(fd, "BUFFER_CREATE", kind(**good | {"size": size}))))
        for size in (1 << 40, 1 << 44, 1 << 46, 1 << 52, (1 << 62) + 1):
            found = said(fd, "BUFFER_CREATE", kind(**good | {"size": size}))
            cases.append((f"{name} {size:#x}", "ENOMEM", found))
    return cases


def _very_many(fd: int, user: dict[str, Any], count: int) -> list[Outcome]:
    """Register a byte of a cache line each, or the kernel's DMA debugger complains; returns what was said."""
    kind = uapi.pciedma_buffer_create
    lines = buffers.anonymous(count * _CACHE_LINE)
    addresses = range(lines.address, lines.address + count * _CACHE_LINE, _CACHE_LINE)
    return [said(fd, "BUFFER_CREATE", kind(**user | {"size": 1, "address": address})) for address in addresses]


def bad_creates(path: str) -> list[str]:
    """Try to have buffers made in all the wrong ways."""
    kind = uapi.pciedma_buffer_create
    cases: list[Case] = []
    area, half, fixed = buffers.anonymous(4 * PAGE), buffers.anonymous(2 * PAGE), buffers.anonymous(PAGE)
    buffers.protect(half.address + PAGE, PAGE, buffers.NONE)
    buffers.protect(fixed.address, PAGE, buffers.READ)
    hole = buffers.anonymous(3 * PAGE)
    hole.unmap(PAGE, PAGE)
    reads, closed = os.pipe()
    user: dict[str, Any] = {"flags": BOTH, "type": _USER, "address": area.address, "size": PAGE}
    new: dict[str, Any] = {"flags": BOTH, "type": _NEW, "size": PAGE}
    other: dict[str, Any] = {"flags": BOTH, "type": _DMABUF, "fd": reads}
    with opened(path) as fd:
        os.close(closed)
        for name, good in (("user", user), ("new", new), ("dmabuf", other)):
            for field, spoilt in _words(kind, "flags", "reserved", "id", "mmap_offset", **good):
                cases.append((f"{name} {field}", "EINVAL", said(fd, "BUFFER_CREATE", spoilt)))
            cases.append((f"{name} no flags", "EINVAL", said(fd, "BUFFER_CREATE", kind(**good | {"flags": 0}))))
            for number in (0, 4, _TOP, (1 << 32) - 1):
                cases.append((f"{name} type", "EINVAL", said(fd, "BUFFER_CREATE", kind(**good | {"type": number}))))
        cases += _bad_numbers(fd, user, new)
        for name, fields, wanted in (
            ("new address", new | {"address": area.address}, "EINVAL"),
            ("new address 1", new | {"address": 1}, "EINVAL"),
            ("dmabuf size", other | {"size": PAGE}, "EINVAL"), ("dmabuf address", other | {"address": PAGE}, "EINVAL"),
            ("dmabuf pipe", other, "EINVAL"), ("dmabuf itself", other | {"fd": fd}, "EINVAL"),
            ("dmabuf closed", other | {"fd": closed}, "EBADF"), ("dmabuf -1", other | {"fd": -1}, "EBADF"),
            ("null", user | {"address": 0}, "EFAULT"),
            ("half", user | {"address": half.address, "size": 2 * PAGE}, "EFAULT"),
            ("half by a byte", user | {"address": half.address + PAGE - 1, "size": 2}, "EFAULT"),
            ("hole", user | {"address": hole.address, "size": 3 * PAGE}, "EFAULT"),
            ("no access", user | {"address": half.address + PAGE}, "EFAULT"),
            ("read only", user | {"address": fixed.address}, "EFAULT"),
            ("around", user | {"address": (1 << 64) - PAGE, "size": 2 * PAGE}, "EFAULT"),
            ("around by a byte", user | {"address": (1 << 64) - 1, "size": 2}, "EFAULT"),
            *(("wild", user | {"address": wild}, "EFAULT") for wild in WILD),
            ("read only to the card", user | {"address": fixed.address, "flags": uapi.PCIEDMA_BUFFER_H2C}, 0),
            ("a byte", user | {"address": half.address + PAGE - 1, "size": 1}, 0), ("new byte", new | {"size": 1}, 0),
        ):
            cases.append((name, wanted, said(fd, "BUFFER_CREATE", kind(**fields))))
        cases.append(("those made", (3, 2 * PAGE + 1), held(fd)))
        before = held(fd)
        for good in (new, user):
            cases += [("null", "EFAULT", said(fd, "BUFFER_CREATE", 0)),
                      ("its result", "EFAULT", said(fd, "BUFFER_CREATE", _read_only(kind(**good))))]
        cases.append(("those after", before, held(fd)))
        many = _very_many(fd, user, _MOST - before[0] + 1)
        cases += [("4096", [0], [*{*many[:-1]}]), ("4097", "EMFILE", many[-1])]
    for flags, allowed in ((os.O_RDONLY, uapi.PCIEDMA_BUFFER_C2H), (os.O_WRONLY, uapi.PCIEDMA_BUFFER_H2C)):
        with opened(path, flags) as fd:
            for asked in (uapi.PCIEDMA_BUFFER_C2H, uapi.PCIEDMA_BUFFER_H2C, BOTH):
                for good in (new, user):
                    found = said(fd, "BUFFER_CREATE", kind(**good | {"flags": asked}))
                    cases.append((f"mode {flags} {asked}", 0 if asked == allowed else "EBADF", found))
    os.close(reads)
    return unlike(cases)


def bad_ids(path: str) -> list[str]:
    """Try to have buffers destroyed and exported in all the wrong ways."""
    cases: list[Case] = []
    with opened(path) as fd, opened(path) as other:
        mine, gone = create(fd, PAGE).id, create(fd, PAGE).id
        area = buffers.anonymous(PAGE)
        user = create(fd, PAGE, type=_USER, address=area.address).id
        theirs = max(create(other, PAGE).id for _ in range(8))
        destroy(fd, gone)
        for name, kind, more in (
            ("BUFFER_DESTROY", uapi.pciedma_buffer_destroy, ()), ("BUFFER_EXPORT", uapi.pciedma_buffer_export, ("fd",)),
        ):
            for field, spoilt in _words(kind, "flags", "reserved", *more, id=mine):
                cases.append((f"{name} {field}", "EINVAL", said(fd, name, spoilt)))
            for number in (0, gone, theirs, (1 << 31) - 1, 1 << 31, (1 << 32) - 1):
                cases.append((f"{name} {number:#x}", "ENOENT", said(fd, name, kind(id=number))))
            cases.append((f"{name} null", "EFAULT", said(fd, name, 0)))
        export = uapi.pciedma_buffer_export
        cases.append(("user export", "ENOTSUP", said(fd, "BUFFER_EXPORT", export(id=user))))
        fds = len([*Path("/proc/self/fd").iterdir()])
        cases.append(("its result", "EFAULT", said(fd, "BUFFER_EXPORT", _read_only(export(id=mine)))))
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (fds - 1, limits[1]))
        cases.append(("descriptors", "EMFILE", said(fd, "BUFFER_EXPORT", export(id=mine))))
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        cases += [("descriptors after", fds, len([*Path("/proc/self/fd").iterdir()])),
                  ("held", (2, 2 * PAGE), held(fd)),
                  ("destroy", 0, said(fd, "BUFFER_DESTROY", uapi.pciedma_buffer_destroy(id=mine))),
                  ("again", "ENOENT", said(fd, "BUFFER_DESTROY", uapi.pciedma_buffer_destroy(id=mine)))]
    return unlike(cases)


def make_batch(parts: list[Any], /, *, submit: bool = False, **spoilt: Any) -> tuple[Any, Any]:
    """Return a batch and its results."""
    many = (uapi.pciedma_transfer_entry * len(parts))(*parts)
    room = (uapi.pciedma_transfer_result * len(parts))()
    fields: dict[str, Any] = {
        "flags": _SUBMIT if submit else 0, "count": len(parts), "entries": ctypes.addressof(many),
        "results": ctypes.addressof(room) if not submit else 0,
    }
    made = uapi.pciedma_transfer_batch(**fields | spoilt)
    made.keep = many, room
    return made, room


def moves(fd: int, parts: list[Any], /, **spoilt: Any) -> Outcome:
    return said(fd, "TRANSFER", make_batch(parts, **spoilt)[0])


def _before_a_hole(entries: list[Any], kind: type[ctypes.Structure] = uapi.pciedma_transfer_entry) -> int:
    """Return the address of entries behind which nothing is."""
    area = buffers.anonymous(2 * PAGE)
    KEPT.append(area)
    data = b"".join(bytes(one) for one in entries)
    area.unmap(PAGE, PAGE)
    address = area.address + PAGE - len(data)
    ctypes.memmove(address, data, len(data))
    return address


def _beyond(made: int, flags: int, end: int) -> list[Any]:
    addresses = (end, end - 63, 1 << 63, (1 << 64) - 64, (1 << 64) - 1)
    return [entry(flags, made, 0, 64, address) for address in addresses]


def beyond_the_end(path: str, end: int) -> list[str]:
    """Try to have more moved than a card's memory has."""
    with opened(path) as fd:
        made = create(fd, PAGE).id
        cases: list[Case] = [("up to the end", 1, moves(fd, [entry(C2H, made, 0, 64, end - 64)]))]
        for flags in (C2H, H2C):
            cases += [(f"{part.address:#x}", "ENOSPC", moves(fd, [part])) for part in _beyond(made, flags, end)]
    return unlike(cases)


def bad_transfers(path: str) -> list[str]:
    """Try to have parts moved in all the wrong ways; the card's memory is of unknown size."""
    cases: list[Case] = []
    with opened(path) as fd, opened(path) as other:
        mine, gone, theirs = create(fd, 2 * PAGE).id, create(fd, PAGE).id, max(create(other, PAGE).id for _ in range(8))
        c2h, h2c = (create(fd, PAGE, flags=flag).id for flag in (uapi.PCIEDMA_BUFFER_C2H, uapi.PCIEDMA_BUFFER_H2C))
        destroy(fd, gone)
        good = entry(H2C, mine, 0, 64)
        for submit in (False, True):
            fields = {"flags": _SUBMIT if submit else 0}
            for field, spoilt in _words(uapi.pciedma_transfer_batch, "flags", "reserved", **fields):
                spoilt.count, spoilt.entries = 1, ctypes.addressof(good)
                cases.append((f"batch {field}", "EINVAL", said(fd, "TRANSFER", spoilt)))
            cases += [("no entries", "EINVAL", moves(fd, [good], submit=submit, count=0)),
                      *((f"at {at:#x}", "EFAULT", moves(fd, [good], submit=submit, entries=at)) for at in (0, *WILD)),
                      ("flag", "EINVAL", moves(fd, [good], submit=submit, flags=4 | submit))]
            parts: list[tuple[Any, Any]] = [(spoilt, "EINVAL") for _, spoilt in _words(
                uapi.pciedma_transfer_entry, "flags", "reserved", flags=H2C, buffer=mine, length=64)]
            for flags in (0, BARRIER, C2H | H2C, C2H | H2C | BARRIER, H2C | 8):
                parts.append((entry(flags, mine, 0, 64), "EINVAL"))
            for flags in (C2H, H2C, H2C | BARRIER):
                for number in (0, gone, theirs, _TOP, (1 << 32) - 1):
                    parts.append((entry(flags, number, 0, 64), "ENOENT"))
                for length in (0, uapi.PCIEDMA_ENTRY_MAX + 1, _TOP, 1 << 32, (1 << 32) + 64, 1 << 63, (1 << 64) - 1):
                    parts.append((entry(flags, mine, 0, length), "EINVAL"))
                for offset, length in ((2 * PAGE, 1), (2 * PAGE - 1, 2), (0, 2 * PAGE + 1), ((1 << 64) - 1, 1),
                                       ((1 << 64) - 64, 128), (1 << 63, 64), (1 << 32, 64), ((1 << 64) - 1, 2)):
                    parts.append((entry(flags, mine, offset, length), "EINVAL"))
                parts += [(part, "ENOSPC") for part in _beyond(mine, flags, (1 << 63) - 1)]
            parts += [(entry(H2C, c2h, 0, 64), "EACCES"), (entry(C2H, h2c, 0, 64), "EACCES")]
            for number, (part, wanted) in enumerate(parts):
                name = f"{number} {part.flags} {part.buffer} {part.offset:#x} {part.length:#x} {part.address:#x}"
                cases.append((name, wanted, moves(fd, [part, good], submit=submit)))
                count = moves(fd, [good, good, part, good], submit=submit)
                cases.append((f"{number} in the middle", 2, count))
                if submit:
                    cases.append((f"{number} ended", 2, len(wait(fd, 2))))
            hole = _before_a_hole([good, good])
            cases.append(("hole", 2, moves(fd, [good] * 3, submit=submit, entries=hole)))
            if submit:
                cases.append(("hole ended", 2, len(wait(fd, 2))))
        cases.append(("results", "EINVAL", moves(fd, [good], submit=True, results=PAGE)))
        for at in (*WILD, _before_a_hole([uapi.pciedma_transfer_result()])):
            cases.append((f"results {at:#x}", "EFAULT", moves(fd, [good, good], results=at)))
        none, _ = make_batch([entry(C2H, 0, 0, 64), good])
        none.taken = 7
        asked, told = make_batch([entry(H2C, mine, 0, 64, 0, tag) for tag in (7, 8)] + [entry(C2H, 0, 0, 64, 0, 9)] * 2)
        cases += [("taken", 2, said(fd, "TRANSFER", asked)), ("told as taken", 2, asked.taken),
                  ("told", [(7, 64), (8, 64), (0, 0), (0, 0)], [(one.tag, one.bytes) for one in told]),
                  ("nothing is told", [], wait(fd, 0)), ("without results", 1, moves(fd, [good], results=0)),
                  ("null", "EFAULT", said(fd, "TRANSFER", 0)),
                  ("the first is bad", "ENOENT", said(fd, "TRANSFER", none)), ("none is taken", 0, none.taken),
                  ("two, but not to be told", "EFAULT", said(fd, "TRANSFER", _read_only(asked)))]
    for flags, bad in ((os.O_RDONLY, H2C), (os.O_WRONLY, C2H)):
        with opened(path, flags) as fd:
            made = create(fd, PAGE, flags=(C2H | H2C) & ~bad).id
            cases += [("the other direction", "EBADF", moves(fd, [entry(bad, made, 0, 64)])),
                      ("its direction", 1, moves(fd, [entry((C2H | H2C) & ~bad, made, 0, 64)]))]
    return unlike(cases)


def bad_messages(path: str) -> list[str]:
    """The same of messages: they are short, lie together, and have no address."""
    scattered = buffers.scattered_pages(64 * PAGE)
    with opened(path) as fd:
        made = create(fd, 64 * PAGE, type=_USER, address=scattered.address).id
        across = [moves(fd, [entry(H2C, made, number * PAGE - 100, 200)]) for number in range(1, 64)]
        return unlike([
            ("too long", "EMSGSIZE", moves(fd, [entry(H2C, made, 0, 2048)])),
            ("much too long", "EMSGSIZE", moves(fd, [entry(C2H, made, 0, 64 * PAGE)])),
            ("longest", 1, moves(fd, [entry(H2C, made, 0, 2047)])),
            ("second too long", 1, moves(fd, [entry(H2C, made, 0, 10), entry(H2C, made, 0, 2048)])),
            ("address", "EINVAL", moves(fd, [entry(H2C, made, 0, 10, 1)])),
            ("beyond", "EINVAL", moves(fd, [entry(H2C, made, 64 * PAGE - 9, 10)])),
            ("across pages", True, {*across} <= {"EINVAL", 1}),
        ])


def bad_waits(path: str) -> list[str]:
    """Try to take results, and to be told of them, in all the wrong ways; and take all there can be."""
    cases: list[Case] = []
    room = (uapi.pciedma_transfer_result * 4)()
    good: dict[str, Any] = {"min": 1, "max": 4, "results": ctypes.addressof(room)}
    kind, event = uapi.pciedma_transfer_wait, uapi.pciedma_transfer_eventfd
    with opened(path) as fd:
        made = create(fd, PAGE).id
        for field, spoilt in _words(kind, "flags", "reserved", **good):
            cases.append((f"wait {field}", "EINVAL", said(fd, "TRANSFER_WAIT", spoilt)))
        for fields, wanted in (
            ({"max": 0, "min": 0}, "EINVAL"), ({"max": 0}, "EINVAL"), ({"min": 5}, "EINVAL"),
            ({"min": _MOST + 1, "max": _MOST + 1}, "EINVAL"),
            ({"timeout_ns": -2}, "EINVAL"), ({"timeout_ns": -(1 << 63)}, "EINVAL"), ({"min": 0}, 0),
            ({"min": 0, "timeout_ns": FOREVER}, 0), ({}, "ETIMEDOUT"), ({"timeout_ns": 1}, "ETIMEDOUT"),
            ({"min": 0, "max": (1 << 32) - 1}, 0), ({"min": 0, "results": 0}, 0),
        ):
            cases.append((f"wait {fields}", wanted, said(fd, "TRANSFER_WAIT", kind(**good | fields))))
        closed, writes = os.pipe()
        os.close(closed)
        for field, spoilt in _words(event, "flags", "reserved", eventfd=-1):
            cases.append((f"eventfd {field}", "EINVAL", said(fd, "TRANSFER_EVENTFD", spoilt)))
        for number, wanted in ((-2, "EINVAL"), (-(1 << 31), "EINVAL"), (writes, "EINVAL"), (closed, "EBADF"),
                               (1 << 30, "EBADF"), (fd, "EINVAL"), (-1, 0)):
            cases.append((f"eventfd {number}", wanted, said(fd, "TRANSFER_EVENTFD", event(eventfd=number))))
        cases += [(f"null {name}", "EFAULT", said(fd, name, 0)) for name in ("TRANSFER_WAIT", "TRANSFER_EVENTFD")]
        os.close(writes)
        cases += _all_entries(fd, made)
    return unlike(cases)


def _all_entries(fd: int, made: int) -> list[Case]:
    """Have as many entries as there are, and lose no result."""
    counter = os.eventfd(0, os.EFD_NONBLOCK)
    cases: list[Case] = [("eventfd", 0, said(fd, "TRANSFER_EVENTFD", uapi.pciedma_transfer_eventfd(eventfd=counter)))]
    poll = select.poll()
    poll.register(fd, select.POLLPRI)
    cases.append(("not ready", [], poll.poll(0)))
    many = [entry(H2C, made, 0, 8, 0, tag) for tag in range(_MOST + 1)]
    cases += [("all", _MOST, moves(fd, many, submit=True)), ("one more", "EAGAIN", moves(fd, many[:1], submit=True)),
              ("one more that waits", "EAGAIN", moves(fd, many[:1])),
              ("ready", [(fd, select.POLLPRI)], poll.poll(5000))]
    kind = uapi.pciedma_transfer_wait
    hole = _before_a_hole([uapi.pciedma_transfer_result()] * 40)
    for at in (*WILD, 0, hole):
        found = said(fd, "TRANSFER_WAIT", kind(0, _MOST, _MOST, 0, FOREVER, at))
        cases.append((f"to {at:#x}", 32 if at == hole else "EFAULT", found))
    tags = [tag for tag, _, _ in ((one.tag, 0, 0) for one in (uapi.pciedma_transfer_result * 32).from_address(hole))]
    tags += [tag for tag, length, error in wait(fd, _MOST - 32, _MOST, 10**10) if (length, error) == (8, 0)]
    cases += [("tags", [*range(_MOST)], tags), ("eventfd", _MOST, os.eventfd_read(counter)),
              ("not ready after", [], poll.poll(0)), ("none is left", [], wait(fd, 0)),
              ("all again", [*range(_MOST)], [tag for tag, _, error in moved(fd, "sync", many[:-1]) if not error]),
              ("eventfd tells of none that was waited for", None, _read_or_none(counter))]
    os.close(counter)
    return cases


def _read_or_none(counter: int) -> int | None:
    try:
        return os.eventfd_read(counter)
    except BlockingIOError:
        return None


class Call(threading.Thread):
    """A function in a thread; its value, or the errno's name."""

    def __init__(self, function: Callable[[], Any]) -> None:
        """Start it."""
        super().__init__(daemon=True)
        self._function = function
        self.result: Any = "nothing"
        self.start()

    def run(self) -> None:
        """Call it."""
        try:
            self.result = self._function()
        except OSError as error:
            self.result = errno.errorcode[error.errno or 0]

    def value(self, within_s: float = 20) -> Any:
        """Wait for it."""
        self.join(within_s)
        return self.result


def until(condition: Callable[[], bool], within_s: float = 10) -> bool:
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def errno_of(call: Callable[[], object]) -> Outcome:
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return 0


def in_child(work: Callable[[], object], says: bytes = b"x") -> int:
    """Do it in a child, which then waits to be killed; returns its pid when it has, or has become another program."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        try:
            work()
            os.write(writes, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writes)
    if os.read(reads, 1) != says:
        raise RuntimeError("the child has failed")
    os.close(reads)
    return child


def end_of(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
