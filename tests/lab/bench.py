"""What the lab's tests use in QEMU's place: a bench for a bare model, and a client of the protocol."""

from __future__ import annotations

import array
import json
import mmap
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pciedma_lab.cards.capric import Model
from pciedma_lab.config_space import COMMAND, COMMAND_MASTER
from pciedma_lab.model import CardModel, Interrupts

#: Where the guest's memory begins on the bus, and its length.
MEMORY, MEMORY_SIZE = 0x10_0000, 0x1_0000

DCSR1, DCSR2 = 0x00, 0x04
WR_DMA_ADR, WR_DMA_SIZE, RD_DMA_ADR, RD_DMA_SIZE = 0x08, 0x0C, 0x1C, 0x20
INT_REG, ERR = 0x2C, 0x30
#: Register offsets and bits of a direction.
C2H = {"address": WR_DMA_ADR, "size": WR_DMA_SIZE, "start": 1 << 0, "done": 1 << 9, "source": 1 << 1}
H2C = {"address": RD_DMA_ADR, "size": RD_DMA_SIZE, "start": 1 << 16, "done": 1 << 8, "source": 1 << 0}
INT_RD_ENB, INT_WR_ENB = 1 << 8, 1 << 9
ASSERTED = 1 << 31


MSI, MSIX = 0x05, 0x11


def capability(read: Callable[[int, int], bytes], wanted: int) -> int:
    """Return where a card has a capability, or 0; *read* reads its configuration space."""
    at = read(0x34, 1)[0]
    while at and read(at, 1)[0] != wanted:
        at = read(at + 1, 1)[0]
    return at


class Ram:
    """A file in memory, as the guest's RAM is."""

    def __init__(self, size: int = MEMORY_SIZE) -> None:
        """Make it, all zeros."""
        self.fd = os.memfd_create("guest")
        os.ftruncate(self.fd, size)
        self.bytes = mmap.mmap(self.fd, size)

    def close(self) -> None:
        """Let go of it."""
        self.bytes.close()
        os.close(self.fd)


class Recorder(Interrupts):
    """Notes the interrupts of a bare model."""

    def __init__(self) -> None:
        """Start with none."""
        self.messages = 0
        self.asserted = False
        self.rises = 0

    def message(self, vector: int) -> None:
        """Count a message."""
        self.messages += 1

    def level(self, asserted: bool) -> None:
        """Note the level of INTA."""
        self.rises += asserted and not self.asserted
        self.asserted = asserted


class ModelBench:
    """A bare model with bus mastering on, memory at MEMORY, and time standing still."""

    def __init__(self, model: CardModel) -> None:
        """Put it on the bench."""
        self.card = model
        #: The bench's clock, in seconds: it moves in run() alone.
        self.now = 1000.0
        model.clock = lambda: self.now
        self.interrupts = Recorder()
        model.interrupts = self.interrupts
        self.ram = Ram()
        model.memory.map(MEMORY, MEMORY_SIZE, self.ram.fd)
        self.bus_master(True)
        self.messages(msi=True, msix=True)

    def bus_master(self, on: bool) -> None:
        """Set Bus Master Enable."""
        self.card.write_config(COMMAND, bytes([COMMAND_MASTER if on else 0, 0]))

    def messages(self, *, msi: bool = False, msix: bool = False) -> None:
        """Switch kinds of messages that the card has on or off."""
        for wanted, enable in ((MSI, msi), (MSIX, msix << 7)):
            at = capability(self.card.read_config, wanted)
            if at:
                place = at + 2 if wanted == MSI else at + 3
                self.card.write_config(place, bytes([enable]))

    def read(self, offset: int) -> int:
        """Read a register."""
        return self.card.read(0, offset, 4)

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        self.card.write(0, offset, 4, value)

    def run(self, seconds: float = 0.0) -> None:
        """Let time pass, and what falls due in it happen in its turn."""
        end = self.now + seconds
        left = self.card.run_timers()
        while left is not None and (not left or self.now + left < end):
            self.now += max(left, 1e-9) if left else 0
            left = self.card.run_timers()
        self.now = end
        while self.card.run_timers() == 0:
            pass

    @property
    def violations(self) -> list[str]:
        """The names of the violations so far."""
        return [violation["name"] for violation in self.card.records.violations]

    @property
    def events(self) -> list[str]:
        """The names of the events so far."""
        return [event["name"] for event in self.card.records.events]


class Bench(ModelBench):
    """A bare Capric out of reset, with interrupts on."""

    def __init__(self, variant: str | None = None) -> None:
        """Put it on the bench."""
        self.model = Model(variant, seed=1)
        super().__init__(self.model)
        self.write(DCSR1, INT_RD_ENB | INT_WR_ENB)

    def start(self, way: dict[str, int], size: int = 100, address: int = MEMORY) -> None:
        """Start a DMA, as the driver does."""
        self.write(way["address"], address)
        self.write(way["size"], size)
        self.write(DCSR2, way["start"])

    def move(self, way: dict[str, int], size: int = 100, address: int = MEMORY) -> None:
        """Do a DMA from the start to the acknowledgement."""
        self.start(way, size, address)
        self.run()
        assert self.read(INT_REG) & way["done"]
        self.write(INT_REG, way["done"])

    def reset(self) -> None:
        """Reset the card as the driver does."""
        self.write(DCSR1, 1)
        self.run(20e-6)
        self.write(DCSR1, INT_RD_ENB | INT_WR_ENB)


class ProtocolError(Exception):
    """The server answered with an errno."""

    def __init__(self, number: int) -> None:
        """Keep it."""
        super().__init__(os.strerror(number))
        self.errno = number


_HEADER = struct.Struct("<HHIII")
NO_REPLY = 0x10


class Client:
    """Speaks vfio-user as QEMU does."""

    def __init__(self, path: Path) -> None:
        """Connect; nothing is said yet."""
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(str(path))
        self._number = 0

    def send(self, command: int, payload: bytes = b"", fds: Sequence[int] = (), flags: int = 0) -> None:
        """Send a request."""
        self._number = (self._number + 1) & 0xFFFF
        message = _HEADER.pack(self._number, command, 16 + len(payload), flags, 0) + payload
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        assert self.socket.sendmsg([message], rights) == len(message)

    def receive(self, number: int | None = None) -> bytes:
        """Return the payload of the reply to the last request; raises ProtocolError."""
        got, _, size, flags, error = _HEADER.unpack(self._exactly(16))
        payload = self._exactly(size - 16)
        assert got == (self._number if number is None else number)
        assert flags & 1
        if flags & 0x20:
            raise ProtocolError(error)
        return payload

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise ConnectionResetError
            data += part
        return data

    def call(self, command: int, payload: bytes = b"", fds: Sequence[int] = ()) -> bytes:
        """Send a request and return the reply's payload."""
        self.send(command, payload, fds)
        return self.receive()

    def version(self, major: int = 0, minor: int = 1) -> tuple[int, int, dict[str, object]]:
        """Greet; returns the server's version and capabilities."""
        text = json.dumps({"capabilities": {"max_msg_fds": 8, "write_multiple": True}}).encode() + b"\0"
        reply = self.call(1, struct.pack("<HH", major, minor) + text)
        capabilities = json.loads(reply[4:].rstrip(b"\0"))["capabilities"]
        return *struct.unpack_from("<HH", reply), capabilities

    def map(self, address: int, size: int, fd: int | None, offset: int = 0, flags: int = 3) -> None:
        """Map memory for DMA."""
        payload = struct.pack("<IIQQQ", 32, flags, offset, address, size)
        assert self.call(2, payload, [] if fd is None else [fd]) == b""

    def unmap(self, address: int, size: int, flags: int = 0) -> None:
        """Unmap it."""
        payload = struct.pack("<IIQQ", 24, flags, address, size)
        assert self.call(3, payload) == payload

    def set_irqs(self, flags: int, index: int, start: int, count: int, fds: Sequence[int] = ()) -> None:
        """Set interrupts up."""
        assert self.call(8, struct.pack("<IIIII", 20, flags, index, start, count), fds) == b""

    def read(self, offset: int, size: int = 4, region: int = 0) -> int:
        """Read a region."""
        head = struct.pack("<QII", offset, region, size)
        reply = self.call(9, head)
        assert reply[:16] == head
        assert len(reply) == 16 + size
        return int.from_bytes(reply[16:], "little")

    def write(self, offset: int, value: int, size: int = 4, region: int = 0, *, posted: bool = False) -> None:
        """Write a region; *posted* asks for no reply."""
        head = struct.pack("<QII", offset, region, size)
        self.send(10, head + value.to_bytes(size, "little"), flags=NO_REPLY if posted else 0)
        if not posted:
            assert self.receive() == head

    def config(self, offset: int, size: int = 4) -> int:
        """Read configuration space."""
        return self.read(offset, size, region=7)

    def enable_messages(self, kind: int, on: bool = True) -> None:
        """Switch MSI or MSIX on or off, as the guest does in configuration space."""
        at = capability(lambda offset, size: self.config(offset, size).to_bytes(size, "little"), kind)
        self.write(at + 2 if kind == MSI else at + 3, on << (0 if kind == MSI else 7), 1, region=7)

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


def rings(eventfd: int, timeout_s: float = 5.0) -> int:
    """Return how often an eventfd was written since the last look; 0 if not within the time."""
    if not select.select([eventfd], [], [], timeout_s)[0]:
        return 0
    return os.eventfd_read(eventfd)


def eventually(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    """Return whether a condition comes true in time."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True
