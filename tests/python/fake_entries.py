"""What the kernel does with buffers and entries, for channels that are files: the card's memory is the file's begin."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pciedma import uapi

#: Calls that a card which goes, or has gone, does not refuse.
OUTSIDE_THE_GATE = {
    uapi.PCIEDMA_IOC_BUFFER_DESTROY, uapi.PCIEDMA_IOC_BUFFER_EXPORT, uapi.PCIEDMA_IOC_TRANSFER_WAIT,
    uapi.PCIEDMA_IOC_TRANSFER_EVENTFD,
}

#: Where new buffers lie in the file, each so far from the next.
_FAR = 1 << 26


@dataclass
class _File:
    """A channel's open file."""

    #: Of each type, place, bytes, and the file that has it if it was exported, or -1.
    buffers: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)
    results: list[tuple[int, int, int]] = field(default_factory=list)
    held: list[tuple[int, Any]] = field(default_factory=list)
    eventfd: int = -1


class FakeEntries:
    """Moves entries at once, or when release() says so if they are to be *held*.

    A call fails with its errno in *refused*, by its number; an entry fails if its card address is in *broken*, and
    begins at a multiple of *alignment* in memory. *destroyed* are the ids that were, *exported* how many were; *room*
    is how many entries there are. Where the channel is *one_way* what was exported is mapped.
    """

    def __init__(self, size: int) -> None:
        self.size, self.room, self.held = size, uapi.PCIEDMA_ENTRIES, False
        self.refused: dict[int, int] = {}
        self.broken: dict[int, int] = {}
        self.interrupted = 0
        self.closed = False
        self.alignment = 1
        self.created: list[tuple[int, int, int]] = []
        self.destroyed: list[int] = []
        self.exported = 0
        self.one_way = False
        self.calls: list[int] = []
        self.flags: list[int] = []
        self.most = 0
        self._files: dict[str, _File] = {}
        self._changed = threading.Condition()
        self._next = 0

    def ioctl(self, name: str, fd: int, request: int, argument: Any) -> int | None:
        """Make a call of these; returns None if it is none."""
        call = {
            uapi.PCIEDMA_IOC_BUFFER_CREATE: self._create, uapi.PCIEDMA_IOC_BUFFER_DESTROY: self._destroy,
            uapi.PCIEDMA_IOC_BUFFER_EXPORT: self._export,
            uapi.PCIEDMA_IOC_TRANSFER: self._transfer, uapi.PCIEDMA_IOC_TRANSFER_WAIT: self._wait,
            uapi.PCIEDMA_IOC_TRANSFER_EVENTFD: self._eventfd, uapi.PCIEDMA_IOC_CANCEL: self._cancel,
        }.get(request)
        if call is None:
            return None
        if request in self.refused:
            raise OSError(self.refused[request], "refused")
        with self._changed:
            return call(self._files.setdefault(name, _File()), fd, argument)

    def release(self, count: int = 1 << 20) -> None:
        """Let entries that are held end."""
        with self._changed:
            for file in self._files.values():
                while file.held and count:
                    count -= 1
                    self._end(file, *file.held.pop(0))

    def close(self) -> None:
        """Let the card be gone: what is held ends so."""
        with self._changed:
            self.closed = True
            for file in self._files.values():
                self._abort(file, errno.ENODEV)

    @property
    def under_way(self) -> int:
        """How many entries are held."""
        with self._changed:
            return sum(len(file.held) for file in self._files.values())

    def _create(self, file: _File, fd: int, argument: Any) -> int:
        self._next += 1
        argument.id, place, memory = self._next, argument.address, -1
        if argument.type == uapi.PCIEDMA_BUFFER_DMABUF:
            memory = os.dup(argument.fd)
            if "exported" not in str(Path(f"/proc/self/fd/{memory}").readlink()):
                os.close(memory)
                raise OSError(errno.EINVAL, "no dma-buf")
            argument.size = os.fstat(memory).st_size
        if argument.type == uapi.PCIEDMA_BUFFER_NEW:
            argument.size = -(-argument.size // 4096) * 4096
            place = argument.mmap_offset = self._next * _FAR
            os.ftruncate(fd, place + argument.size)
        self.created.append((argument.type, argument.flags, argument.size))
        file.buffers[argument.id] = argument.type, place, argument.size, memory
        return 0

    def _destroy(self, file: _File, fd: int, argument: Any) -> int:
        if argument.id not in file.buffers:
            raise OSError(errno.ENOENT, "no such buffer")
        del file.buffers[argument.id]
        self.destroyed.append(argument.id)
        return 0

    def _export(self, file: _File, fd: int, argument: Any) -> int:
        """Let the memory be another file's, from its begin; or else that has a copy."""
        kind, place, size, _ = file.buffers[argument.id]
        memory = os.memfd_create("exported")
        os.ftruncate(memory, size)
        if self.one_way:
            file.buffers[argument.id] = kind, 0, size, memory
        else:
            os.pwrite(memory, os.pread(fd, size, place), 0)
        argument.fd = os.dup(memory)
        self.exported += 1
        return 0

    def _check(self, file: _File, entry: Any) -> int:
        if entry.buffer not in file.buffers:
            return errno.ENOENT
        size = file.buffers[entry.buffer][2]
        if not 0 < entry.length <= uapi.PCIEDMA_ENTRY_MAX or entry.offset + entry.length > size:
            return errno.EINVAL
        if (file.buffers[entry.buffer][1] + entry.offset) % self.alignment:
            return errno.EINVAL
        return errno.ENOSPC if entry.address + entry.length > self.size else 0

    def _transfer(self, file: _File, fd: int, argument: Any) -> int:
        self.calls.append(argument.count)
        self.flags.append(argument.flags)
        room = self.room - len(file.held) - len(file.results)
        if room <= 0:
            raise OSError(errno.EAGAIN, "no room")
        entries = (uapi.pciedma_transfer_entry * argument.count).from_address(argument.entries)
        taken: list[Any] = []
        for entry in entries[:room]:
            if code := self._check(file, entry):
                if not taken:
                    raise OSError(code, "the first")
                break
            copy = uapi.pciedma_transfer_entry.from_buffer_copy(entry)
            taken.append((fd, copy, file.buffers[entry.buffer]))
        if argument.flags & uapi.PCIEDMA_TRANSFER_SUBMIT:
            file.held += [(fd, one[1:]) for one in taken]
            self.most = max(self.most, len(file.held) + len(file.results))
            while file.held and not self.held:
                self._end(file, *file.held.pop(0))
            return len(taken)
        results = (uapi.pciedma_transfer_result * argument.count).from_address(argument.results)
        return self._run(taken, results, bool(argument.flags & uapi.PCIEDMA_TRANSFER_EACH))

    def _run(self, taken: list[Any], results: Any, each: bool) -> int:
        whole = failed = 0
        for result, (fd, entry, buffer) in zip(results, taken, strict=False):
            moved, code = (0, errno.ECANCELED) if failed else self._move(fd, entry, buffer)
            if self.interrupted and not failed:
                self.interrupted, moved, code = self.interrupted - 1, entry.length // 2, errno.EINTR
            failed |= 0 if each and code != errno.EINTR else code  # a signal ends the call
            whole += not code
            result.tag, result.bytes, result.error, result.reserved = entry.tag, moved, code, 0
        if not whole and not results[0].bytes:
            raise OSError(results[0].error, "none was moved")
        return whole

    def _end(self, file: _File, fd: int, what: Any) -> None:
        entry, buffer = what
        moved, code = self._move(fd, entry, buffer)
        file.results.append((entry.tag, moved, code))
        self._changed.notify_all()
        if file.eventfd >= 0:
            os.eventfd_write(file.eventfd, 1)

    def _move(self, fd: int, entry: Any, buffer: tuple[int, int, int, int]) -> tuple[int, int]:
        if entry.address in self.broken:
            return 0, self.broken[entry.address]
        kind, place, _, exported = buffer
        place += entry.offset
        where = fd if exported < 0 else exported
        if entry.flags & uapi.PCIEDMA_ENTRY_C2H:
            data = os.pread(fd, entry.length, entry.address)
            if kind == uapi.PCIEDMA_BUFFER_USER:
                ctypes.memmove(place, data, len(data))
            else:
                os.pwrite(where, data, place)
        else:
            is_user = kind == uapi.PCIEDMA_BUFFER_USER
            data = ctypes.string_at(place, entry.length) if is_user else os.pread(where, entry.length, place)
            os.pwrite(fd, data, entry.address)
        return entry.length, 0

    def _wait(self, file: _File, fd: int, argument: Any) -> int:
        timeout = None if argument.timeout_ns < 0 else argument.timeout_ns / 1e9
        self._changed.wait_for(lambda: self.closed or len(file.results) >= argument.min, timeout)
        told = (uapi.pciedma_transfer_result * argument.max).from_address(argument.results)
        count: int = min(argument.max, len(file.results))
        for result, (tag, moved, code) in zip(told, file.results[:count], strict=False):
            result.tag, result.bytes, result.error, result.reserved = tag, moved, code, 0
        del file.results[:count]
        if not count and argument.min:
            raise OSError(errno.ENODEV if self.closed else errno.ETIMEDOUT, "none")
        return count

    def _eventfd(self, file: _File, fd: int, argument: Any) -> int:
        file.eventfd = os.dup(argument.eventfd)
        return 0

    def _cancel(self, file: _File, fd: int, argument: Any) -> int:
        self._abort(file, errno.ECANCELED)
        return 0

    def _abort(self, file: _File, code: int) -> None:
        for _, (entry, _) in file.held:
            file.results.append((entry.tag, 0, code))
            if file.eventfd >= 0:
                os.eventfd_write(file.eventfd, 1)
        file.held.clear()
        self._changed.notify_all()
