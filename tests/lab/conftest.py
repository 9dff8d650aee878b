"""The bench, and a served Capric with a client of the protocol in this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pciedma_lab.cards.capric import Model
from pciedma_lab.config_space import Identity
from pciedma_lab.control import ControlServer
from pciedma_lab.model import CardModel
from pciedma_lab.vfio_user import Server

from .bench import DCSR1, INT_RD_ENB, INT_WR_ENB, MEMORY, MEMORY_SIZE, MSI, Bench, Client, Ram


@pytest.fixture
def bench() -> Bench:
    """A bare Capric."""
    return Bench()


@pytest.fixture
def ram() -> Iterator[Ram]:
    """The guest's memory, not mapped yet."""
    ram = Ram()
    yield ram
    ram.close()


@pytest.fixture
def eventfd() -> Iterator[int]:
    """An eventfd for interrupts."""
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    yield fd
    os.close(fd)


class Served:
    """A model with its server in a thread."""

    def __init__(self, model: CardModel, folder: Path) -> None:
        """Serve it."""
        self.model = model
        self.path = folder / "socket"
        self.control_path = folder / "control"
        self.server = Server(model, self.path, ControlServer(model, self.control_path))
        self._thread = threading.Thread(target=self.server.serve)
        self._thread.start()
        self._clients: list[Client] = []

    def client(self) -> Client:
        """Return a new client, connected but silent."""
        client = Client(self.path)
        self._clients.append(client)
        return client

    @property
    def alive(self) -> bool:
        """Whether the server serves."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End it."""
        self.server.stopped = True
        for client in self._clients:
            client.close()
        Client(self.path).close()
        self._thread.join(10)
        assert not self.alive
        self.server.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A served Capric."""
    served = Served(Model(seed=1), tmp_path)
    yield served
    served.stop()


@pytest.fixture
def intx(tmp_path: Path) -> Iterator[Served]:
    """A served Capric without MSI."""
    served = Served(Model("intx"), tmp_path)
    yield served
    served.stop()


class Big(CardModel):
    """A card of the next kind: several BARs, MSI-X, and registers that hold what was written."""

    name = "big"
    identity = Identity(
        0x10EE, 0x9038, 0x10EE, 0x0007, 0x070001, bars=(0x10000, 0x1000, 0, 0, 0, 0),
        msix_vectors=32, msix_table=(0, 0x8000), msix_pending=(0, 0x8FE0),
    )

    def __init__(self) -> None:
        """Make it."""
        self.written: dict[tuple[int, int], int] = {}
        super().__init__()

    def read_register(self, bar: int, offset: int, size: int) -> int:
        """Return what was written."""
        return self.written.get((bar, offset), 0)

    def write_register(self, bar: int, offset: int, size: int, value: int) -> None:
        """Keep it; at BAR 1, send the message of that number."""
        self.written[bar, offset] = value
        if bar == 1:
            self.send_message(value)

    def reset(self) -> None:
        """Forget all."""
        self.written.clear()

    def state(self) -> dict[str, object]:
        """Say nothing."""
        return {}


@pytest.fixture
def big(tmp_path: Path) -> Iterator[Served]:
    """A served card with MSI-X."""
    served = Served(Big(), tmp_path)
    yield served
    served.stop()


@pytest.fixture
def client(served: Served, ram: Ram) -> Client:
    """A client that has greeted, mapped memory at MEMORY, switched MSI on, and set the card going."""
    client = served.client()
    client.version()
    client.map(MEMORY, MEMORY_SIZE, ram.fd)
    client.write(4, 6, 2, region=7)
    client.enable_messages(MSI)
    client.write(DCSR1, INT_RD_ENB | INT_WR_ENB)
    return client
