"""A driver that answers for files, for the tests that need one."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

import pciedma

from .fake_driver import FakeDriver


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """The driver; its channels are 4096 bytes of memory, its windows 4096 bytes of registers."""
    made = FakeDriver()
    monkeypatch.setattr(fcntl, "ioctl", made.ioctl)
    return made


@pytest.fixture
def devices(driver: FakeDriver, tmp_path: Path) -> Path:
    """A folder with the nodes of two cards with two channels and two windows each."""
    folder = tmp_path / "dev"
    folder.mkdir()
    for card in (0, 1):
        for suffix in ("", "c0", "c1", "w0", "w1"):
            (folder / f"pciedma{card}{suffix}").write_bytes(bytes(range(256)) * 16)
    return folder


@pytest.fixture
def card(devices: Path) -> Iterator[pciedma.Card]:
    """An open card."""
    with pciedma.Card(devices / "pciedma0") as opened:
        yield opened


@pytest.fixture
def channel(devices: Path) -> Iterator[pciedma.Channel]:
    """An open channel."""
    with pciedma.Channel(devices / "pciedma0c0") as opened:
        yield opened


@pytest.fixture
def window(devices: Path) -> Iterator[pciedma.Window]:
    """An open window."""
    with pciedma.Window(devices / "pciedma0w0") as opened:
        yield opened
