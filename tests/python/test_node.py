"""What cards, channels and windows have in common: one owner of each descriptor, no attribute by a slip, versions."""

from __future__ import annotations

import copy
import errno
import multiprocessing
import os
import pickle
import re
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pciedma
from pciedma import uapi
from pciedma.node import open_node

from .fake_driver import FakeDriver

COPIES: list[Callable[[Any], object]] = [
    copy.copy,
    copy.deepcopy,
    *(lambda node, protocol=protocol: pickle.dumps(node, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
]


def nothing(*arguments: object) -> None:
    """Run in a process of its own."""


@pytest.fixture(params=["card", "channel", "window"])
def node(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("make_copy", COPIES)
def test_copy_or_pickle_is_refused_and_names_the_node(node: Any, make_copy: Callable[[Any], object]) -> None:
    for held in (node, [node], {"it": node}) if make_copy is not copy.copy else (node,):
        with pytest.raises(TypeError, match=f"cannot copy or pickle .*{re.escape(node.path)}.*hand over its path"):
            make_copy(held)
    os.fstat(node.fileno())  # nobody has closed it


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_process_that_is_not_forked_refuses_a_node(node: Any, method: str) -> None:
    process: Any = multiprocessing.get_context(method).Process(target=nothing, args=(node,))  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="cannot copy or pickle"):
        process.start()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # a process of pytest-xdist has a thread
def test_fork_shares_the_open_file_until_both_have_closed_it(channel: pciedma.Channel) -> None:
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        with channel:
            os.write(writable, channel.read(3, 65))
        os._exit(channel.closed - 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert (os.read(readable, 10), channel.read(3, 66)) == (b"ABC", b"BCD")
    os.close(readable)
    os.close(writable)


@pytest.mark.parametrize("stays", [False, True])
def test_card_that_goes_while_it_is_opened_is_no_card(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stays: bool
) -> None:
    """The kernel says ENXIO then, as of a node that stays behind, which is another matter."""
    path = tmp_path / "pciedma0c0"
    path.touch()

    def open_late(name: str, flags: int) -> int:
        if not stays:
            path.unlink()
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO), name)

    monkeypatch.setattr(os, "open", open_late)
    with pytest.raises(OSError, match="No such device or address" if stays else "no such card") as caught:
        open_node(str(path), os.O_RDWR)
    assert (caught.value.errno, type(caught.value)) == (
        (errno.ENXIO, OSError) if stays else (errno.ENOENT, pciedma.NoCardError)
    )


def test_facts_of_a_node_are_copied_and_pickled(
    card: pciedma.Card, channel: pciedma.Channel, window: pciedma.Window
) -> None:
    found = pciedma.FoundCard(0, "/dev/pciedma0", "0000:01:00.0", "xdma")
    for fact in (card.info, channel.info, window.info, found):
        assert pickle.loads(pickle.dumps(fact)) == copy.deepcopy(fact) == fact


@pytest.mark.parametrize(
    ("name", "hint"),
    [("timeout", "is timeout_s meant?"), ("time_out_s", "is timeout_s meant?"), ("waitmode", "is wait_mode meant?"),
     ("zebra", "has no attribute 'zebra'$")],
)
def test_unknown_attribute_is_refused_with_the_one_meant(channel: pciedma.Channel, name: str, hint: str) -> None:
    with pytest.raises(AttributeError, match=hint):
        setattr(channel, name, 1)


@pytest.mark.parametrize("name", ["path", "info", "closed", "read"])
def test_what_is_only_read_is_not_set(channel: pciedma.Channel, name: str) -> None:
    before = getattr(channel, name)
    with pytest.raises(AttributeError, match=name):
        setattr(channel, name, None)
    assert getattr(channel, name) == before


def test_unknown_attribute_of_a_card_is_refused(card: pciedma.Card) -> None:
    for name in ("timeout_s", "chanel", "info", "name"):
        with pytest.raises(AttributeError, match=name):
            setattr(card, name, 1)


def test_subclass_may_have_attributes_of_its_own(devices: Path) -> None:
    class Mine(pciedma.Channel):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self.label = "mine"

    with Mine(devices / "pciedma0c0") as channel:
        assert (channel.label, channel.read(2)) == ("mine", b"\0\1")


def test_node_can_be_referred_to_weakly(card: pciedma.Card) -> None:
    assert weakref.ref(card)() is card


def test_repr_says_what_it_is(card: pciedma.Card, channel: pciedma.Channel, window: pciedma.Window) -> None:
    assert repr(card) == f"<Card {card.path} xdma at 0000:00:00.0>"
    assert repr(channel) == f"<Channel {channel.path} memory>"
    channel.close()
    assert repr(channel) == f"<Channel {channel.path} memory closed>"
    assert repr(window) == f"<Window {window.path} user>"
    for kind in (pciedma.Card, pciedma.Channel, pciedma.Window):
        assert repr(kind.__new__(kind)) == f"<{kind.__name__} closed>"


def _old(driver: FakeDriver, *unknown: int) -> None:
    driver.version, driver.abi_version, driver.unknown = "0.0.7", 0, set(unknown)


SETTINGS: list[tuple[int, Callable[[pciedma.Channel], object]]] = [
    (uapi.PCIEDMA_IOC_GET_WAIT, lambda channel: channel.timeout_s),
    (uapi.PCIEDMA_IOC_SET_WAIT, lambda channel: setattr(channel, "wait_mode", pciedma.WaitMode.POLL)),
    (uapi.PCIEDMA_IOC_CANCEL, lambda channel: channel.cancel()),
]
CARD_CALLS: list[tuple[int, Callable[[pciedma.Card], object]]] = [
    (uapi.PCIEDMA_IOC_RESET, lambda card: card.reset()),
    (uapi.PCIEDMA_IOC_SET_EVENTS, lambda card: card.listen([1])),
    (uapi.PCIEDMA_IOC_GET_EVENTS, lambda card: card.events()),
]


def _names_both_versions(error: OSError) -> None:
    assert error.errno == 25
    for words in ("0.0.7 (ABI 0)", f"{pciedma.__version__} (ABI {uapi.PCIEDMA_ABI_VERSION})", "pciedma doctor",
                  "modprobe -r pciedma_xdma pciedma && sudo modprobe pciedma_xdma"):
        assert words in str(error)


@pytest.mark.parametrize(("request_code", "call"), SETTINGS)
def test_call_that_an_older_driver_lacks_names_both_versions(
    driver: FakeDriver, channel: pciedma.Channel, request_code: int, call: Callable[[pciedma.Channel], object]
) -> None:
    _old(driver, request_code)
    with pytest.raises(pciedma.DriverTooOldError) as caught:
        call(channel)
    _names_both_versions(caught.value)
    assert channel.read(2) == b"\0\1"


@pytest.mark.parametrize(("request_code", "call"), CARD_CALLS)
def test_call_of_a_card_that_an_older_driver_lacks_names_both_versions(
    driver: FakeDriver, card: pciedma.Card, request_code: int, call: Callable[[pciedma.Card], object]
) -> None:
    _old(driver, request_code)
    with pytest.raises(pciedma.DriverTooOldError) as caught:
        call(card)
    _names_both_versions(caught.value)
    with card.channel(1) as channel:
        assert channel.timeout_s == 10.0


@pytest.mark.parametrize("abi_version", [uapi.PCIEDMA_ABI_VERSION, uapi.PCIEDMA_ABI_VERSION + 1])
def test_call_that_a_driver_lacks_which_is_not_older_is_plainly_enotty(
    driver: FakeDriver, card: pciedma.Card, channel: pciedma.Channel, abi_version: int
) -> None:
    driver.abi_version = abi_version
    driver.unknown = {request for request, _ in (*SETTINGS, *CARD_CALLS)}
    calls = [(call, channel) for _, call in SETTINGS] + [(call, card) for _, call in CARD_CALLS]
    node: Any
    for call, node in calls:
        with pytest.raises(OSError, match="Inappropriate ioctl") as caught:
            call(node)
        assert (type(caught.value), caught.value.errno, caught.value.filename) == (OSError, 25, node.path)


def test_newer_driver_works_with_what_this_binding_knows(driver: FakeDriver, devices: Path) -> None:
    driver.version, driver.abi_version, driver.kind = "9.0.0", 77, 12
    driver.wait = uapi.pciedma_wait(mode=55, timeout_ns=5_000_000_000)
    driver.wait.reserved[3] = 99
    with pciedma.open(devices / "pciedma0") as card, card.channel(0) as channel:
        assert (card.info.abi_version, card.info.driver_version) == (77, "9.0.0")
        assert (channel.kind, repr(channel)) == (pciedma.Kind.UNKNOWN, f"<Channel {channel.path} unknown>")
        assert channel.read(2) == b"\0\1"
        with pytest.raises(ValueError, match="55 is not a valid WaitMode"):
            print(channel.wait_mode)
        channel.timeout_s = 3.0
        assert (driver.wait.mode, driver.wait.timeout_ns, driver.wait.reserved[3]) == (55, 3_000_000_000, 99)
        channel.wait_mode = pciedma.WaitMode.POLL
        assert channel.wait_mode is pciedma.WaitMode.POLL
