"""Windows: registers of the user's logic, run in the guest."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import pciedma
from pciedma import uapi

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mremap.restype = ctypes.c_void_p
_FAILED = ctypes.c_void_p(-1).value
_PAGE = 4096
_PROT_READ, _PROT_RW = 1, 3
_MREMAP_MAYMOVE, _MREMAP_FIXED = 1, 2
_MADV_KEEPONFORK = 19
_RWF_NOWAIT, _RWF_APPEND = 8, 16
SCRATCH, ONCE = 0x00, 0x08
_WAYS: tuple[Literal["call", "mmap"], ...] = ("call", "mmap")
ONES = 0xFFFFFFFF


def _outcome(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or the name of its errno."""
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def listed() -> list[list[dict[str, Any]]]:
    """Return what INFO and sysfs say of each window of each card, in PCI order."""
    cards = sorted(pciedma.list_cards(), key=lambda card: card.pci_address)
    return [_windows(card.path) for card in cards]


def _windows(card: str) -> list[dict[str, Any]]:
    found = []
    with pciedma.open(card) as opened:
        for number in range(opened.info.windows):
            with opened.window(number) as window:
                folder = Path(f"/sys/class/pciedma/{window.path.removeprefix('/dev/')}")
                names = ("name", "bar", "size", "widths", "mappable", "write_combining")
                shown = {name: (folder / name).read_text().strip() for name in names}
                with opened.window(window.info.name) as named:
                    assert named.path == window.path
                info = asdict(window.info)
                assert info.pop("card") == opened.info.index
                found.append(info | {"widths": list(window.info.widths), "by": window.by, "sysfs": shown})
    return found


def access(card: str, name: str, by: str, width: int, offset: int, value: int, write: bool) -> int | None:
    """Make one access by the binding; returns what a read returns."""
    with pciedma.open(card) as opened, opened.window(name, by="mmap" if by == "mmap" else "call") as window:
        if not write:
            return int(getattr(window, f"read{8 * width}")(offset))
        getattr(window, f"write{8 * width}")(offset, value)
        return None


def refusals(card: str) -> dict[str, str]:
    """Make wrong accesses by the binding; returns the classes of the errors."""
    with pciedma.open(card) as opened, opened.window("user") as window:
        size = window.info.size
        cases: dict[str, Callable[[], Any]] = {
            "unaligned": lambda: window.read32(2),
            "beyond": lambda: window.read32(size),
            "negative": lambda: window.write32(-4, 0),
            "width": lambda: window.read64(0),
            "too large": lambda: window.write8(0, 256),
            "below zero": lambda: window.write32(0, -1),
            "no number": lambda: window.read32("0"),  # type: ignore[arg-type]
            "by": lambda: opened.window("user", by="magic"),  # type: ignore[arg-type]
            "name": lambda: opened.window("nothing"),
            "number": lambda: opened.window(9),
        }
        found = {case: _class_of_error(call) for case, call in cases.items()}
        window.close()
        found["closed"] = _class_of_error(lambda: window.read32(0))
    return found


def _class_of_error(call: Callable[[], Any]) -> str:
    try:
        call()
    except (ValueError, TypeError, LookupError) as error:
        return type(error).__name__
    return "ok"


def unsuitable_calls(path: str, size: int) -> dict[str, Any]:
    """Read and write as no access can be made; returns what each led to."""
    fd = os.open(path, os.O_RDWR)

    def vector(*lengths: int) -> list[bytearray]:
        return [bytearray(length) for length in lengths]

    found = {}
    for name, length, offset in (("0 bytes", 0, 0), ("3 bytes", 3, 0), ("16 bytes", 16, 0), ("a page", 4096, 0),
                                 ("unaligned", 4, 2), ("8 bytes", 8, 0), ("end", 4, size), ("far", 4, 1 << 40)):
        found[f"read {name}"] = _outcome(lambda n=length, o=offset: len(os.pread(fd, n, o)))  # type: ignore[misc]
        found[f"write {name}"] = _outcome(lambda n=length, o=offset: os.pwrite(fd, bytes(n), o))  # type: ignore[misc]
    found["vector with a wrong element"] = _outcome(lambda: os.preadv(fd, vector(4, 4, 3), 0))
    found["vector with an unaligned element"] = _outcome(lambda: os.pwritev(fd, vector(2, 4), 0))
    found["seek end"] = os.lseek(fd, 0, os.SEEK_END)
    found["seek behind"] = _outcome(lambda: os.lseek(fd, size + 1, os.SEEK_SET))
    found["bad memory"] = _bad_memory(fd)
    found["append"] = _outcome(lambda: os.open(path, os.O_RDWR | os.O_APPEND))
    found["exclusive"] = _outcome(lambda: os.open(path, os.O_RDWR | os.O_EXCL))
    found["RWF_APPEND"] = _outcome(lambda: os.pwritev(fd, vector(4), 0, _RWF_APPEND))
    found["channel's ioctl"] = _outcome(
        lambda: fcntl.ioctl(fd, uapi.PCIEDMA_IOC_CHANNEL_INFO, uapi.pciedma_channel_info())
    )
    os.close(fd)
    return found


def _bad_memory(fd: int) -> str:
    """Read into memory that is not there: found out before the register is read."""
    result = _libc.pread(fd, ctypes.c_void_p(8), ctypes.c_size_t(4), ctypes.c_long(ONCE))
    return "ok" if result >= 0 else errno.errorcode[ctypes.get_errno()]


def calls(path: str) -> dict[str, Any]:
    """Use the window's registers by all ways of reading and writing."""
    fd = os.open(path, os.O_RDWR)
    found: dict[str, Any] = {}
    found["position"] = [os.write(fd, struct.pack("<I", 0x11111111)), os.lseek(fd, 0, os.SEEK_CUR)]
    os.lseek(fd, 0, os.SEEK_SET)
    found["read"] = [os.read(fd, 4).hex(), os.read(fd, 2).hex(), os.lseek(fd, 0, os.SEEK_CUR)]
    pieces = [b"\x01", b"", b"\x02", b"\x03\x04", struct.pack("<I", 0), struct.pack("<I", 7)]
    found["pwritev"] = os.pwritev(fd, pieces, 0)
    parts = [bytearray(2), bytearray(1), bytearray(1)]
    found["preadv"] = [os.preadv(fd, parts, 0), b"".join(parts).hex()]
    found["nowait"] = os.preadv(fd, parts[:1], 0, _RWF_NOWAIT)
    size = os.lseek(fd, 0, os.SEEK_END)
    found["to the end"] = os.preadv(fd, [bytearray(4), bytearray(4)], size - 4)
    os.close(fd)
    return found


def _map(fd: int, length: int, protection: int = _PROT_RW, flags: int = mmap.MAP_SHARED, offset: int = 0) -> Any:
    address = _libc.mmap(None, ctypes.c_size_t(length), protection, flags, fd, ctypes.c_long(offset))
    return errno.errorcode[ctypes.get_errno()] if address == _FAILED else address


def mappings(path: str, size: int) -> dict[str, Any]:
    """Map as may be and as may not; returns "ok" or the errno's name of each."""
    found = {}
    read_write, read_only, write_only = (os.open(path, flags) for flags in (os.O_RDWR, os.O_RDONLY, os.O_WRONLY))
    cases: dict[str, tuple[Any, ...]] = {
        "whole": (read_write, size),
        "last page": (read_write, _PAGE, _PROT_RW, mmap.MAP_SHARED, size - _PAGE),
        "read-only": (read_only, _PAGE, _PROT_READ),
        "populated": (read_write, size, _PROT_RW, mmap.MAP_SHARED | 0x8000),
        "private": (read_write, _PAGE, _PROT_RW, mmap.MAP_PRIVATE),
        "private, read-only": (read_write, _PAGE, _PROT_READ, mmap.MAP_PRIVATE),
        "private of a read-only file": (read_only, _PAGE, _PROT_READ, mmap.MAP_PRIVATE),
        "too long": (read_write, size + _PAGE),
        "behind": (read_write, _PAGE, _PROT_RW, mmap.MAP_SHARED, size),
        "across": (read_write, 2 * _PAGE, _PROT_RW, mmap.MAP_SHARED, size - _PAGE),
        "far": (read_write, _PAGE, _PROT_RW, mmap.MAP_SHARED, 1 << 50),
        "writable of a read-only file": (read_only, _PAGE),
        "of a write-only file": (write_only, _PAGE),
    }
    for name, arguments in cases.items():
        address = _map(*arguments)
        found[name] = address if isinstance(address, str) else "ok"
        if not isinstance(address, str):
            _libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(arguments[1]))
    address = _map(read_write, 2 * _PAGE)
    grown = _libc.mremap(ctypes.c_void_p(address), ctypes.c_size_t(_PAGE), ctypes.c_size_t(4 * _PAGE), _MREMAP_MAYMOVE)
    found["grown"] = errno.errorcode[ctypes.get_errno()] if grown == _FAILED else "ok"
    address = _map(read_only, _PAGE, _PROT_READ)
    found["made writable"] = (
        errno.errorcode[ctypes.get_errno()]
        if _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(_PAGE), _PROT_RW) else "ok"
    )
    futex = _libc.syscall(202, ctypes.c_void_p(address), 0, 0, None, None, 0)
    found["futex"] = errno.errorcode[ctypes.get_errno()] if futex < 0 else "ok"
    for fd in (read_write, read_only, write_only):
        os.close(fd)
    return found


def unmappable(path: str) -> list[Any]:
    """Map a window that may not be mapped, by the binding and by libc; returns the errnos' names."""
    fd = os.open(path, os.O_RDWR)
    found = [_outcome(lambda: pciedma.Window(path, by="mmap").close()), _map(fd, _PAGE)]
    os.close(fd)
    return ["EOPNOTSUPP" if name == "ENOTSUP" else name for name in found]


class _Map:
    """A mapping by libc, of which each part can be moved and cut. Outlives the file."""

    def __init__(self, path: str, pages: int = 2) -> None:
        fd = os.open(path, os.O_RDWR)
        self.address = int(_map(fd, pages * _PAGE))
        os.close(fd)

    def word(self, offset: int = SCRATCH) -> int:
        """Load 32 bits."""
        return int(ctypes.c_uint32.from_address(self.address + offset).value)

    def set(self, offset: int, value: int) -> None:
        """Store 32 bits."""
        memory = (ctypes.c_char * 4).from_address(self.address + offset)
        memoryview(memory).cast("B").cast("I")[0] = value

    def faults(self) -> int:
        """Load a word; returns how many page faults that took."""
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        self.word()
        return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before


def _loop(read: Callable[[], int], seen: set[int | str], stop: threading.Event, counts: list[int]) -> None:
    while not stop.is_set():
        try:
            seen.add(read())
        except OSError as error:
            seen.add(errno.errorcode[error.errno or 0])
            if error.errno == errno.ENODEV:
                return
        counts[0] += 1
        time.sleep(0.002)  # an emulated bus is slow, and there is but one


@contextlib.contextmanager
def _readers(path: str, each: int = 2) -> Iterator[tuple[dict[str, set[int | str]], dict[str, list[int]]]]:
    """Have threads read the scratch register, by calls and by a mapping, with what they see and how often."""
    stop = threading.Event()
    seen: dict[str, set[int | str]] = {"call": set(), "mmap": set()}
    counts = {"call": [0], "mmap": [0]}
    with contextlib.ExitStack() as stack:
        threads = []
        for by in seen:
            for _ in range(each):
                window = stack.enter_context(pciedma.Window(path, by=by))  # type: ignore[arg-type]
                read = lambda window=window: window.read32(SCRATCH)  # noqa: E731
                threads.append(threading.Thread(target=_loop, args=(read, seen[by], stop, counts[by])))
        for thread in threads:
            thread.start()
        yield seen, counts
        stop.set()
        for thread in threads:
            thread.join()


def read_during(card: str, path: str, script: str, value: int) -> dict[str, Any]:
    """Read the scratch register in threads while a line of shell runs, or the card is reset by us for ``RESET``.

    Returns what was seen, whether a page that was there before has to be faulted in again, and what it reads then.
    """
    mapping = _Map(path)
    mapping.set(SCRATCH, value)
    with _readers(path) as (seen, counts):
        found: dict[str, Any] = {"before": mapping.word(), "faults before": min(mapping.faults() for _ in range(5))}
        time.sleep(0.2)
        if script == "RESET":
            with pciedma.open(card) as opened:
                opened.reset()
        else:
            found["status"] = subprocess.run(["sh", "-c", script], check=False).returncode
        found["faults after"] = mapping.faults() > 0
        here = dict.fromkeys(counts, 0) | {by: count[0] for by, count in counts.items()}
        time.sleep(0.5)
        found["goes on"] = all(counts[by][0] > here[by] for by in counts)
    found["after"] = mapping.word()
    mapping.set(SCRATCH, value + 1)
    found["written"] = mapping.word()
    found["seen"] = {by: sorted(map(str, values)) for by, values in seen.items()}
    return found


def _forked(action: Callable[[], int]) -> int:
    """Return what a child's action returns, 0 to 255."""
    pid = os.fork()
    if pid == 0:
        os._exit(action())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def wait_closed(path: str, name: str, value: int) -> dict[str, Any]:
    """While the card is being reset: what must be quick, and calls that wait. *name*: a file that ends the reset."""
    mapping, moved, gone = _Map(path), _Map(path), _Map(path)
    mapping.set(SCRATCH, value)
    value_before = [mapping.word(), moved.word(), gone.word()]
    Path(f"/tmp/{name}-ready").touch()
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    while _outcome(lambda: os.pread(fd, 4, 0)) != "EAGAIN":
        time.sleep(0.01)
    Path(f"/tmp/{name}-closed").touch()
    found: dict[str, Any] = {"before": value_before}
    waiting, killed = ([_reads_once(path, by, value) for by in _WAYS] for _ in range(2))
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os._exit(_beside_a_fault(path, tell))
    found["nonblocking"] = [_outcome(lambda: os.pread(fd, 4, 0)), _outcome(lambda: os.pwrite(fd, bytes(4), 0))]
    new = _Map(path)
    found["mmap"] = isinstance(new.address, int)
    to = _map(-1, 2 * _PAGE, _PROT_RW, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    result = _libc.mremap(ctypes.c_void_p(moved.address), ctypes.c_size_t(2 * _PAGE), ctypes.c_size_t(2 * _PAGE),
                          _MREMAP_MAYMOVE | _MREMAP_FIXED, ctypes.c_void_p(to))
    found["mremap"] = result == to
    moved.address = to
    found["munmap"] = _libc.munmap(ctypes.c_void_p(gone.address), ctypes.c_size_t(_PAGE))
    found["fork"] = _forked(lambda: 7)
    found["maps"] = path in Path("/proc/self/maps").read_text()
    os.read(told, 1)
    time.sleep(0.5)
    for process in killed:
        os.kill(process, signal.SIGKILL)
    found["killed"] = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in killed]
    found["waiting"] = [os.waitpid(process, os.WNOHANG)[0] for process in waiting]
    found["still closed"] = _outcome(lambda: os.pread(fd, 4, 0))  # nothing has waited for the reset
    os.close(fd)
    Path(f"/tmp/{name}-done").touch()
    found["waited"] = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in waiting]
    found["beside a fault"] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    found["after"] = [mapping.word(), moved.word(), new.word()]
    return found


def _reads_once(path: str, by: Literal["call", "mmap"], value: int) -> int:
    """Start a child that reads the scratch register once; its exit status is 0 if that is no bus's ones."""
    pid = os.fork()
    if pid == 0:
        with pciedma.Window(path, by=by) as window:
            os._exit(window.read32(SCRATCH) not in (0, value))
    return pid


def _beside_a_fault(path: str, tell: int) -> int:
    """Have a thread wait in a fault, in libc and so without Python's lock; fork, unmap and look beside it.

    Writes to *tell* when it has done so; returns 0, or bits for what was wrong.
    """
    mapping, other = _Map(path), _Map(path)
    target = ctypes.create_string_buffer(4)
    source = ctypes.c_void_p(mapping.address)
    faulting = threading.Thread(target=_libc.memcpy, args=(target, source, ctypes.c_size_t(4)))
    faulting.start()
    time.sleep(0.3)
    quick = "pciedma" in Path("/proc/self/maps").read_text()
    quick &= _forked(lambda: 5) == 5
    quick &= _libc.munmap(ctypes.c_void_p(other.address), ctypes.c_size_t(_PAGE)) == 0
    quick &= _libc.munmap(ctypes.c_void_p(mapping.address + _PAGE), ctypes.c_size_t(_PAGE)) == 0
    still = faulting.is_alive()
    os.write(tell, b"x")
    faulting.join()
    return (not quick) | (not still) << 1 | (target.raw == b"\xff\xff\xff\xff") << 2


def removed(path: str, script: str, value: int) -> dict[str, Any]:
    """Use a window while its card goes by a line of shell, or by the test; returns what everything led to."""
    mapping, parent_only = _Map(path), _Map(path)
    mapping.set(SCRATCH, value)
    fd = os.open(path, os.O_RDWR)
    gate, told = os.pipe(), os.pipe()
    other = os.fork()
    if other == 0:  # a process of its own, which mapped nothing itself
        os.read(gate[0], 1)
        first = mapping.word()
        mapping.set(SCRATCH, 0x22222222)
        os.write(told[1], struct.pack("<III", first, mapping.word(), mapping.word(_PAGE)))
        os._exit(0)
    with _readers(path) as (seen, _):
        time.sleep(0.3)
        if script:
            subprocess.run(["sh", "-c", script], check=True)
        else:
            Path("/tmp/ready").touch()
        end = time.monotonic() + 60
        while Path(path).exists() or ("ENODEV" not in seen["call"] and time.monotonic() < end):
            time.sleep(0.02)
    found: dict[str, Any] = {"seen": {by: sorted(map(str, values)) for by, values in seen.items()}}
    found["ones"] = [mapping.word(), mapping.word(4), mapping.word(_PAGE), parent_only.word()]
    mapping.set(4, 0x11111111)
    found["own"] = [mapping.word(4), mapping.word(SCRATCH), parent_only.word(4)]
    os.write(gate[1], b"x")
    found["other process"] = list(struct.unpack("<III", os.read(told[0], 12)))
    os.waitpid(other, 0)
    found["child"] = _forked(lambda: int((mapping.word(), mapping.word(4)) == (ONES, ONES)))
    found["unchanged"] = [mapping.word(4), mapping.word(SCRATCH)]
    found.update(_cut_and_moved(mapping))
    found["pread"] = _outcome(lambda: os.pread(fd, 4, 0))
    found["pwrite"] = _outcome(lambda: os.pwrite(fd, bytes(4), 0))
    found["info"] = _outcome(lambda: fcntl.ioctl(fd, uapi.PCIEDMA_IOC_WINDOW_INFO, uapi.pciedma_window_info()))
    found["mmap"] = _map(fd, _PAGE)
    os.close(fd)
    return found


def _cut_and_moved(mapping: _Map) -> dict[str, Any]:
    """Move a mapping, cut it in two, and share it with a child on demand: the page goes with all of its parts."""
    found: dict[str, Any] = {}
    to = _map(-1, 2 * _PAGE, _PROT_RW, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    _libc.mremap(ctypes.c_void_p(mapping.address), ctypes.c_size_t(2 * _PAGE), ctypes.c_size_t(2 * _PAGE),
                 _MREMAP_MAYMOVE | _MREMAP_FIXED, ctypes.c_void_p(to))
    mapping.address = to
    found["moved"] = mapping.word(4)
    _libc.munmap(ctypes.c_void_p(to), ctypes.c_size_t(_PAGE))
    found["second half"] = mapping.word(_PAGE + 4)
    mapping.address = to + _PAGE
    _libc.madvise(ctypes.c_void_p(mapping.address), ctypes.c_size_t(_PAGE), _MADV_KEEPONFORK)

    def child() -> int:
        mapping.set(8, 0x33333333)
        return int(mapping.word(4) == 0x11111111)

    found["kept on fork"] = [_forked(child), mapping.word(8)]
    _libc.munmap(ctypes.c_void_p(mapping.address), ctypes.c_size_t(_PAGE))
    return found


def forked(path: str, value: int) -> dict[str, Any]:
    """Use a window in a child, by its parent's mapping, while the card works."""
    with pciedma.Window(path, by="mmap") as window:
        window.write32(SCRATCH, value)
        assert window.read32(SCRATCH) == value

        def child() -> int:
            right = window.read32(SCRATCH) == value
            window.write32(SCRATCH, value + 1)
            return int(right)

        return {"child": _forked(child), "parent": window.read32(SCRATCH)}


def read_until_gone(path: str) -> dict[str, Any]:
    """Read in threads until the test says that the card has died; returns what was seen."""
    with _readers(path, 1) as (seen, _):
        Path("/tmp/ready").touch()
        end = time.monotonic() + 30
        while ONES not in seen["mmap"] or ONES not in seen["call"]:
            if time.monotonic() > end:
                break
            time.sleep(0.05)
    return {by: sorted(map(str, values)) for by, values in seen.items()}
