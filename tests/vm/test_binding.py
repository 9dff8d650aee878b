"""The Python binding with the real driver: what it opens, what it refuses, and whole transfers."""

from __future__ import annotations

import errno
import time
from typing import Any

import pytest

from .conftest import Lab

#: So long that there is time to disturb it, at BANDWIDTH MB/s.
LENGTH = 16 << 20
BANDWIDTH = 20


@pytest.mark.parametrize("card", ["capric", "edu", "xdma"])
def test_card_is_opened_by_all_that_names_it(lab: Lab, card: str) -> None:
    node = lab.nodes[card]
    found = lab.call("binding:opened_by", node=node, address=lab.addresses[card])
    ways = {"link", "path object", "bytes", "text", "number", "found", "address"}
    assert found == {way: [node, f"{node}c0", f"{node}c0"] for way in ways}


@pytest.mark.parametrize("card", ["capric", "edu", "xdma"])
def test_what_is_no_card_channel_or_window_is_refused(lab: Lab, card: str) -> None:
    node = lab.nodes[card]
    found = lab.call("binding:refused", node=node)
    assert {one["class"] for one in found.values()} == {"WrongNodeError"}, found
    assert {one["errno"] for one in found.values()} == {errno.ENOTTY}
    for part in ("channel", "window"):
        for wanted in {"card", "channel", "window"} - {part}:
            assert f"pciedma.open('{node}').{part}(0)" in found[f"{part} as {wanted}"]["text"]
        assert f"pciedma.open(CARD).{part}(NUMBER)" in found[f"card as {part}"]["text"]
    for name in ("null as card", "null as channel", "null as window", "console as card", "folder as card"):
        assert "not a node of pciedma" in found[name]["text"]
    number = node.removeprefix("/dev/pciedma")
    for wanted, one in lab.call("binding:renamed", node=node).items():
        assert (one["class"], f"a channel, not a {wanted}" in one["text"]) == ("WrongNodeError", True)
        assert f"pciedma.open({number}).channel(0)" in one["text"]


def test_call_that_a_driver_does_not_know_which_is_not_older_is_enotty(lab: Lab) -> None:
    found = lab.call("binding:unknown_call", node=lab.nodes["xdma"])
    assert {name: (one["class"], one["errno"]) for name, one in found.items()} == {
        "card": ("OSError", errno.ENOTTY), "channel": ("OSError", errno.ENOTTY),
    }


def test_whole_transfers_of_edu_end_with_its_memory(lab: Lab) -> None:
    path = lab.nodes["edu"] + "c0"
    assert lab.call("binding:whole", path=path, direction="read", length=5000, address=4000) == {
        "moved": 96, "class": "", "signals": 0,
    }
    found = lab.call("binding:whole", path=path, direction="write", length=5000)
    assert (found["moved"], found["class"], found["errno"]) == (4096, "TransferError", errno.ENOSPC)
    assert f"writing 5000 bytes at 0x0 of {path}: No space left on device, after 4096 bytes" in found["text"]


def _slow(lab: Lab) -> None:
    lab.xdma.control.set_fault(f"bandwidth={BANDWIDTH}")
    lab.xdma.control.counters(reset=True)


@pytest.mark.parametrize("direction", ["read", "write"])
def test_signals_do_not_shorten_a_whole_transfer(lab: Lab, direction: str) -> None:
    """Each ends a call of the kernel's when what the engine has of it, at most half of this, has come to its end."""
    _slow(lab)
    found = lab.call("binding:whole", path=lab.memory, direction=direction, length=3 * LENGTH, signal_after_s=0.1)
    assert found.pop("signals") >= 2
    assert found == {"moved": 3 * LENGTH, "class": ""}


@pytest.mark.parametrize("direction", ["read", "write"])
def test_cancel_ends_a_whole_transfer(lab: Lab, direction: str) -> None:
    _slow(lab)
    found = lab.call("binding:whole", path=lab.memory, direction=direction, length=2 * LENGTH, cancelled=True)
    assert (found["class"], found["errno"]) == ("RequestCancelledError", errno.ECANCELED)
    assert 0 < found["moved"] < 2 * LENGTH
    assert found["partial"] == (found["moved"] if direction == "read" else 0)
    assert found["text"].endswith(f"Operation canceled, after {found['moved']} bytes")


def _moving(lab: Lab, counter: str, least: int) -> None:
    end = time.monotonic() + 30 * lab.vm.patience
    while lab.xdma.control.counters().get(counter, 0) < least:
        assert time.monotonic() < end, counter
        time.sleep(0.01)


def test_error_of_the_card_loses_nothing_that_arrived(lab: Lab) -> None:
    lab.call("binding:fill", path=lab.memory, length=LENGTH, seed=5)
    _slow(lab)
    reading = lab.start("binding:partial", path=lab.memory, length=LENGTH, seed=5)
    _moving(lab, "c2h0_bytes", LENGTH // 4)
    lab.xdma.control.set_fault("read_error")
    found: dict[str, Any] = reading.value(120)
    assert (found["class"], found["errno"], found["right"]) == ("TransferError", errno.EIO, True)
    assert 0 < found["moved"] < LENGTH
    assert f"reading {LENGTH} bytes at 0x0 of {lab.memory}: Input/output error, after " in found["text"]


def test_error_of_the_card_that_passes_is_survived_by_a_whole_transfer(lab: Lab) -> None:
    lab.call("binding:fill", path=lab.memory, length=LENGTH, seed=6)
    _slow(lab)
    errors = lab.sysfs("xdma", "c0/c2h/errors")
    reading = lab.start("binding:partial", path=lab.memory, length=LENGTH, seed=6)
    _moving(lab, "c2h0_bytes", LENGTH // 4)
    lab.xdma.control.set_fault("read_error*1")
    assert reading.value(120) == {"class": "", "right": True}
    assert lab.sysfs("xdma", "c0/c2h/errors") == errors + 1


@pytest.mark.parametrize("card", ["edu", "xdma"])
def test_buffers_of_all_shapes_are_filled(lab: Lab, card: str) -> None:
    assert lab.call("binding:shapes", path=lab.nodes[card] + "c0") == []
