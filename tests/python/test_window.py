"""Windows without a driver, with files in place of nodes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import pciedma
from pciedma import uapi

from .fake_driver import FakeDriver


def files_open(path: Path) -> int:
    """How many files this process has open on `path`."""
    return sum(fd.is_symlink() and fd.readlink() == path for fd in Path("/proc/self/fd").iterdir())


#: What a node is, what it is opened as, and how it is opened.
WRONG_NODES = [
    pytest.param(
        "w1", pciedma.Card, r"a window, not a card: it is pciedma.open\(.*\).window\(1\)", id="window as card"
    ),
    pytest.param(
        "w1", pciedma.Channel, r"a window, not a channel: it is pciedma.open\(.*\).window\(1\)", id="window as channel"
    ),
    pytest.param(
        "c1", pciedma.Window, r"a channel, not a window: it is pciedma.open\(.*\).channel\(1\)", id="channel as window"
    ),
    pytest.param(
        "", pciedma.Window, r"a card, not a window: .* pciedma.open\(CARD\).window\(NUMBER\)", id="card as window"
    ),
]


@pytest.mark.parametrize("abi_version", [0, uapi.PCIEDMA_ABI_VERSION, 77])
@pytest.mark.parametrize("name", ["node", "link", "renamed"])
@pytest.mark.parametrize(("suffix", "kind", "text"), WRONG_NODES)
def test_node_opened_as_another_says_what_it_is_whatever_the_driver(
    driver: FakeDriver, devices: Path, suffix: str, kind: Callable[[Path], object], text: str, name: str,
    abi_version: int,
) -> None:
    driver.abi_version = abi_version
    (devices / "link").symlink_to(f"pciedma0{suffix}")
    (devices / "renamed").touch()
    driver.names["renamed"] = f"pciedma0{suffix}"
    node = devices / (f"pciedma0{suffix}" if name == "node" else name)
    with pytest.raises(pciedma.WrongNodeError, match=text) as caught:
        kind(node)
    assert caught.value.errno == errno.ENOTTY
    assert files_open(node.resolve()) == 0


@pytest.mark.parametrize(("suffix", "kind", "text"), WRONG_NODES[:3])
def test_node_whose_name_says_that_it_is_another_is_not_touched(
    devices: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, kind: Callable[[Path], object], text: str
) -> None:
    monkeypatch.setattr(os, "open", None)
    with pytest.raises(pciedma.WrongNodeError, match=text):
        kind(devices / f"pciedma0{suffix}")
