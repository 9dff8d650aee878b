"""The server side of the vfio-user protocol, by which QEMU attaches a card's model.

Source: QEMU's specification of the protocol (docs/interop/vfio-user).
"""

from __future__ import annotations

import contextlib
import errno
import json
import select
import struct
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

from .config_space import SIZE as CONFIG_SIZE
from .control import ControlServer
from .interrupt_lines import InterruptLines, Irq
from .listener import Listener
from .model import CardModel
from .vfio_connection import MAX_DATA, MAX_FDS, Connection, Disconnected, Message

_ACCESS = struct.Struct("<QII")
_MULTIPLE = struct.Struct("<QII8s")
_IRQ_SET = struct.Struct("<IIIII")
_DMA_MAP = struct.Struct("<IIQQQ")
_DMA_UNMAP = struct.Struct("<IIQQ")
_DMA_READABLE, _DMA_WRITABLE = 1, 2
_UNMAP_ALL = 2

MAJOR, MINOR = 0, 1
CONFIG_REGION = 7
_REGIONS = 9
_WIDTHS = (1, 2, 4, 8)
#: Timers nearer than this are waited for without sleeping: poll() counts in whole milliseconds.
_SPIN_SECONDS = 1e-3
#: How many messages may pass before the control socket gets its turn.
_FAIRNESS = 256


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


class Server:
    """Serves one client after the other with a model, and the control socket beside it.

    All of it runs in the one thread that calls serve(), so an unmap is never answered during a DMA.
    """

    def __init__(self, model: CardModel, path: Path, control: ControlServer | None = None) -> None:
        """Listen on the UNIX socket *path*; raises LabError if it cannot be had."""
        self.model = model
        self.lines = InterruptLines()
        model.interrupts = self.lines
        model.hang_up = self._hang_up
        self.control = control
        self.stopped = False
        self._connection: Connection | None = None
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
        self._listener = Listener(path)
        self._poll = select.poll()
        self._poll.register(self._listener, select.POLLIN)
        if control is not None:
            control.register(self._poll)

    def serve(self) -> None:
        """Serve until ``stopped`` is set."""
        turn = 0
        while not self.stopped:
            left = self.model.run_timers()
            near = left is not None and left < _SPIN_SECONDS
            turn += 1
            if not (self._take_message() or near):
                self._wait(left)
            elif turn % _FAIRNESS == 0:
                self._wait(0)

    def close(self) -> None:
        """Let go of the client and stop listening."""
        self._forget_client()
        self._listener.close()
        if self.control is not None:
            self.control.close()

    def _wait(self, seconds: float | None) -> None:
        for fd, _ in self._poll.poll(None if seconds is None else int(seconds * 1000)):
            if fd == self._listener.fileno():
                self._accept()
            elif self.control is not None:
                self.control.handle(fd)

    def _accept(self) -> None:
        client = self._listener.accept()
        self._connection = Connection(client)
        self._poll.register(self._connection, select.POLLIN)
        self._poll.unregister(self._listener)

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.hang_up()

    def _forget_client(self) -> None:
        """The client has gone: nothing of it stays, and the next one finds the card after a reset."""
        if self._connection is None:
            return
        with contextlib.suppress(KeyError):  # an interrupt came before it was registered
            self._poll.unregister(self._connection)
        self._poll.register(self._listener, select.POLLIN)
        self._connection.close()
        self._connection = None
        self.lines.close()
        self.model.disconnected()

    def _take_message(self) -> bool:
        """Handle a message if there is one; returns whether there was."""
        if self._connection is None:
            return False
        try:
            message = self._connection.receive()
            if message is None:
                return False
            self._handle(self._connection, message)
        except Disconnected:
            self._forget_client()
        return True

    def _handle(self, connection: Connection, message: Message) -> None:
        handler = self._commands.get(message.command)
        error = 0
        reply = b""
        try:
            if handler is None:
                error = errno.ENOTSUP
            else:
                reply = handler(message.payload, message.fds)
        except OSError as failure:
            error = failure.errno or errno.EINVAL
        except (ValueError, struct.error):
            error = errno.EINVAL
        finally:
            if message.fds:
                message.close_fds()
        connection.reply(message, reply, error)

    def _version(self, payload: bytes, fds: list[int]) -> bytes:
        major, minor = struct.unpack_from("<HH", payload)
        if major != MAJOR:
            raise Disconnected
        capabilities = {
            "max_msg_fds": MAX_FDS,
            "max_data_xfer_size": MAX_DATA,
            "pgsizes": 4096,
            "write_multiple": True,
        }
        text = json.dumps({"capabilities": capabilities}).encode() + b"\0"
        return struct.pack("<HH", MAJOR, min(minor, MINOR)) + text

    def _dma_map(self, payload: bytes, fds: list[int]) -> bytes:
        _, flags, offset, address, size = _DMA_MAP.unpack_from(payload)
        self.model.memory.map(
            address, size, fds[0] if fds else None, offset,
            readable=bool(flags & _DMA_READABLE), writable=bool(flags & _DMA_WRITABLE),
        )
        return b""

    def _dma_unmap(self, payload: bytes, fds: list[int]) -> bytes:
        _, flags, address, size = _DMA_UNMAP.unpack_from(payload)
        if flags & _UNMAP_ALL:
            self.model.memory.unmap_all()
        else:
            self.model.memory.unmap(address, size)
        return payload[: _DMA_UNMAP.size]

    def _get_info(self, payload: bytes, fds: list[int]) -> bytes:
        has_reset, is_pci = 1, 2
        return struct.pack("<IIII", 16, has_reset | is_pci, _REGIONS, len(Irq))

    def _get_region_info(self, payload: bytes, fds: list[int]) -> bytes:
        index = struct.unpack_from("<III", payload)[2]
        if index >= _REGIONS:
            raise ValueError(f"there is no region {index}")
        bars = self.model.identity.bars
        size = bars[index] if index < len(bars) else 0
        if index == CONFIG_REGION:
            size = CONFIG_SIZE
        readable, writable = 1, 2
        return struct.pack("<IIIIQQ", 32, readable | writable if size else 0, index, 0, size, 0)

    def _get_irq_info(self, payload: bytes, fds: list[int]) -> bytes:
        index = struct.unpack_from("<III", payload)[2]
        identity = self.model.identity
        counts = {Irq.INTX: 1, Irq.MSI: identity.msi_vectors, Irq.MSIX: identity.msix_vectors}
        eventfd, maskable, automasked, no_resize = 1, 2, 4, 8
        flags = eventfd | (maskable | automasked if index == Irq.INTX else no_resize)
        return struct.pack("<IIII", 16, flags, index, counts.get(Irq(index), 0))

    def _set_irqs(self, payload: bytes, fds: list[int]) -> bytes:
        _, flags, index, start, count = _IRQ_SET.unpack_from(payload)
        self.lines.set(flags, index, start, count, fds)
        return b""

    def _region_read(self, payload: bytes, fds: list[int]) -> bytes:
        offset, region, count = _ACCESS.unpack(payload)
        self._check(region, offset, count)
        if region == CONFIG_REGION:
            return payload + self.model.read_config(offset, count)
        value = self.model.read(region, offset, count)
        return payload + value.to_bytes(count, "little")

    def _region_write(self, payload: bytes, fds: list[int]) -> bytes:
        offset, region, count = _ACCESS.unpack_from(payload)
        self._write(offset, region, count, payload[16:])
        return payload[:16]

    def _write_multiple(self, payload: bytes, fds: list[int]) -> bytes:
        number = int.from_bytes(payload[:8], "little")
        for offset, region, count, data in _MULTIPLE.iter_unpack(payload[8 : 8 + number * _MULTIPLE.size]):
            self._write(offset, region, count, data[:count])
        return payload[:8]

    def _write(self, offset: int, region: int, count: int, data: bytes) -> None:
        self._check(region, offset, count)
        if len(data) != count:
            raise ValueError(f"{len(data)} bytes came, {count} were said")
        if region == CONFIG_REGION:
            self.model.write_config(offset, data)
        else:
            self.model.write(region, offset, count, int.from_bytes(data, "little"))

    def _check(self, region: int, offset: int, count: int) -> None:
        bars = self.model.identity.bars
        size = CONFIG_SIZE if region == CONFIG_REGION else bars[region] if region < len(bars) else 0
        if offset + count > size or (count not in _WIDTHS and region != CONFIG_REGION):
            raise ValueError(f"region {region} has no {count} bytes at {offset:#x}")

    def _reset(self, payload: bytes, fds: list[int]) -> bytes:
        self.model.config.reset()
        self.model.function_reset()
        return b""
