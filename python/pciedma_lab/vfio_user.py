"""The server side of the vfio-user protocol, by which QEMU attaches a card's model.

Source: QEMU's specification of the protocol (docs/interop/vfio-user).
"""

from __future__ import annotations

import array
import errno
import json
import os
import select
import socket
import struct
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

from .config_space import SIZE as CONFIG_SIZE
from .control import ControlServer
from .model import CardModel, Interrupts

_HEADER = struct.Struct("<HHIII")
_REPLY, _NO_REPLY, _ERROR = 0x1, 0x10, 0x20
_ACCESS = struct.Struct("<QII")
_MULTIPLE = struct.Struct("<QII8s")
_IRQ_SET = struct.Struct("<IIIII")
_DMA_MAP = struct.Struct("<IIQQQ")
_DMA_UNMAP = struct.Struct("<IIQQ")

CONFIG_REGION = 7
_REGIONS, _IRQS = 9, 5
_MAX_FDS = 16
#: Timers nearer than this are waited for without sleeping.
_SPIN_SECONDS = 200e-6


class Command(IntEnum):
    """The protocol's commands that a client sends."""

    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    GET_INFO = 4
    GET_REGION_INFO = 5
    GET_IRQ_INFO = 7
    SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    RESET = 13
    WRITE_MULTIPLE = 15


class Irq(IntEnum):
    """Indexes of interrupts."""

    INTX = 0
    MSI = 1
    MSIX = 2


class SetIrqs(IntEnum):
    """Flags of SET_IRQS."""

    DATA_NONE = 1
    DATA_EVENTFD = 4
    MASK = 8
    UNMASK = 16
    TRIGGER = 32


class Disconnected(Exception):
    """The client has gone."""


class _Lines(Interrupts):
    """The client's eventfds: messages, and the level of INTA with its automatic mask."""

    def __init__(self) -> None:
        self.messages: dict[int, int] = {}
        self.pin: int | None = None
        self.asserted = False
        self.masked = False

    def message(self, vector: int) -> None:
        fd = self.messages.get(vector)
        if fd is not None:
            os.eventfd_write(fd, 1)

    def level(self, asserted: bool) -> None:
        self.asserted = asserted
        if asserted and not self.masked and self.pin is not None and not self.messages:
            self.masked = True
            os.eventfd_write(self.pin, 1)

    def unmask(self) -> None:
        self.masked = False
        self.level(self.asserted)

    def close(self) -> None:
        for fd in [*self.messages.values(), *([self.pin] if self.pin is not None else [])]:
            os.close(fd)
        self.__init__()  # type: ignore[misc]


class Server:
    """Serves one client after the other with a model, and the control socket beside it."""

    def __init__(self, model: CardModel, path: Path, control: ControlServer | None = None) -> None:
        """Listen on the UNIX socket *path*."""
        self.model = model
        self.lines = _Lines()
        model.interrupts = self.lines
        self.control = control
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._client: socket.socket | None = None
        self._poll = select.poll()
        self._poll.register(self._listener, select.POLLIN)
        if control is not None:
            control.register(self._poll)
        self._commands: dict[int, Callable[[bytes, list[int]], bytes]] = {
            Command.VERSION: self._version,
            Command.DMA_MAP: self._dma_map,
            Command.DMA_UNMAP: self._dma_unmap,
            Command.GET_INFO: self._get_info,
            Command.GET_REGION_INFO: self._get_region_info,
            Command.GET_IRQ_INFO: self._get_irq_info,
            Command.SET_IRQS: self._set_irqs,
            Command.REGION_READ: self._region_read,
            Command.REGION_WRITE: self._region_write,
            Command.RESET: self._reset,
            Command.WRITE_MULTIPLE: self._write_multiple,
        }
        self.stopped = False

    def serve(self) -> None:
        """Serve until ``stopped`` is set."""
        while not self.stopped:
            left = self.model.run_timers()
            if self._client is not None and self._drain(spin=left is not None and left < _SPIN_SECONDS):
                continue
            if left is not None and left < _SPIN_SECONDS:
                continue
            for fd, _ in self._poll.poll(None if left is None else left * 1000):
                if fd == self._listener.fileno():
                    self._accept()
                elif self.control is not None:
                    self.control.handle(fd)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        self._forget_client()
        client.setblocking(False)
        self._client = client
        self._poll.register(client, select.POLLIN)

    def _drain(self, *, spin: bool) -> bool:
        """Handle a message if there is one; returns whether there was."""
        assert self._client is not None
        try:
            header, fds = self._receive_header()
        except BlockingIOError:
            return False
        except (Disconnected, ConnectionError):
            self._forget_client()
            return True
        self._handle(header, fds)
        return True

    def _forget_client(self) -> None:
        if self._client is None:
            return
        self._poll.unregister(self._client)
        self._client.close()
        self._client = None
        self.lines.close()
        self.model.memory.unmap_all()
        self.model.config.reset()
        self.model.function_reset()

    def _receive_header(self) -> tuple[bytes, list[int]]:
        assert self._client is not None
        data, ancillary, _, _ = self._client.recvmsg(_HEADER.size, socket.CMSG_SPACE(_MAX_FDS * 4))
        if not data:
            raise Disconnected
        fds: list[int] = []
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds += array.array("i", content[: len(content) // 4 * 4])
        if len(data) < _HEADER.size:
            data += self._receive(_HEADER.size - len(data))
        return data, fds

    def _receive(self, size: int) -> bytes:
        assert self._client is not None
        parts = []
        while size:
            try:
                part = self._client.recv(size)
            except BlockingIOError:
                select.select([self._client], [], [])
                continue
            if not part:
                raise Disconnected
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _handle(self, header: bytes, fds: list[int]) -> None:
        number, command, size, flags, _ = _HEADER.unpack(header)
        payload = self._receive(size - _HEADER.size) if size > _HEADER.size else b""
        error = 0
        try:
            reply = self._commands[command](payload, fds)
        except KeyError:
            reply, error = b"", errno.ENOTSUP
        except (ValueError, struct.error):
            reply, error = b"", errno.EINVAL
        if flags & _NO_REPLY:
            return
        flags = _REPLY | (_ERROR if error else 0)
        assert self._client is not None
        self._client.sendall(_HEADER.pack(number, command, _HEADER.size + len(reply), flags, error) + reply)

    def _version(self, payload: bytes, fds: list[int]) -> bytes:
        major, minor = struct.unpack_from("<HH", payload)
        capabilities = {
            "max_msg_fds": _MAX_FDS,
            "max_data_xfer_size": 1 << 20,
            "pgsizes": 4096,
            "write_multiple": True,
        }
        text = json.dumps({"capabilities": capabilities}).encode() + b"\0"
        return struct.pack("<HH", major, min(minor, 1)) + text

    def _dma_map(self, payload: bytes, fds: list[int]) -> bytes:
        _, flags, offset, address, size = _DMA_MAP.unpack_from(payload)
        self.model.memory.map(address, size, fds[0] if fds else None, offset, writable=bool(flags & 2))
        return b""

    def _dma_unmap(self, payload: bytes, fds: list[int]) -> bytes:
        _, flags, address, size = _DMA_UNMAP.unpack_from(payload)
        if flags & 2:
            self.model.memory.unmap_all()
        else:
            self.model.memory.unmap(address, size)
        return payload

    def _get_info(self, payload: bytes, fds: list[int]) -> bytes:
        return struct.pack("<IIII", 16, 1 | 2, _REGIONS, _IRQS)

    def _get_region_info(self, payload: bytes, fds: list[int]) -> bytes:
        index = struct.unpack_from("<III", payload)[2]
        bars = self.model.identity.bars
        size = bars[index] if index < len(bars) else 0
        if index == CONFIG_REGION:
            size = CONFIG_SIZE
        return struct.pack("<IIIIQQ", 32, 3 if size else 0, index, 0, size, 0)

    def _get_irq_info(self, payload: bytes, fds: list[int]) -> bytes:
        index = struct.unpack_from("<III", payload)[2]
        counts = {Irq.INTX: 1, Irq.MSI: self.model.identity.msi_vectors}
        flags = 1 | (2 | 4 if index == Irq.INTX else 8)
        return struct.pack("<IIII", 16, flags, index, counts.get(index, 0))  # type: ignore[call-overload]

    def _set_irqs(self, payload: bytes, fds: list[int]) -> bytes:
        _, flags, index, start, count = _IRQ_SET.unpack_from(payload)
        if index == Irq.INTX:
            self._set_intx(flags, count, fds)
        elif index in (Irq.MSI, Irq.MSIX) and flags & SetIrqs.TRIGGER:
            vectors = range(start, start + count) if count else list(self.lines.messages)
            for number, vector in enumerate(vectors):
                old = self.lines.messages.pop(vector, None)
                if old is not None:
                    os.close(old)
                if number < len(fds):
                    self.lines.messages[vector] = fds[number]
        else:
            for fd in fds:
                os.close(fd)
        return b""

    def _set_intx(self, flags: int, count: int, fds: list[int]) -> None:
        if flags & SetIrqs.TRIGGER:
            if self.lines.pin is not None:
                os.close(self.lines.pin)
            self.lines.pin = fds[0] if fds else None
            self.lines.unmask()
        elif flags & SetIrqs.UNMASK and not fds:
            self.lines.unmask()
        elif flags & SetIrqs.MASK:
            self.lines.masked = True

    def _region_read(self, payload: bytes, fds: list[int]) -> bytes:
        offset, region, count = _ACCESS.unpack(payload)
        if region == CONFIG_REGION:
            self.model.records.counters["config_reads"] += 1
            if self.model.faults.value("all_ones_config"):
                return payload + b"\xff" * count
            return payload + self.model.config.read(offset, count)
        self._check(region, offset, count)
        return payload + self.model.read(region, offset, count).to_bytes(count, "little")

    def _region_write(self, payload: bytes, fds: list[int]) -> bytes:
        offset, region, count = _ACCESS.unpack_from(payload)
        self._write(offset, region, count, payload[_ACCESS.size :])
        return payload[: _ACCESS.size]

    def _write_multiple(self, payload: bytes, fds: list[int]) -> bytes:
        for offset, region, count, data in _MULTIPLE.iter_unpack(payload[8:]):
            self._write(offset, region, count, data[:count])
        return payload[:8]

    def _write(self, offset: int, region: int, count: int, data: bytes) -> None:
        if region == CONFIG_REGION:
            self.model.records.counters["config_writes"] += 1
            if not self.model.faults.value("all_ones_config"):
                self.model.config.write(offset, data)
            return
        self._check(region, offset, count)
        self.model.write(region, offset, count, int.from_bytes(data, "little"))

    def _check(self, region: int, offset: int, count: int) -> None:
        bars = self.model.identity.bars
        if region >= len(bars) or offset + count > bars[region]:
            raise ValueError(f"region {region} has no {count} bytes at {offset:#x}")

    def _reset(self, payload: bytes, fds: list[int]) -> bytes:
        self.model.config.reset()
        self.model.function_reset()
        return b""
