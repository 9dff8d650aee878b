"""Windows without a driver: whose they are, accesses by both ways, what is refused; with files in place of nodes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

import pciedma
import pciedma.card
from pciedma import uapi

from .fake_driver import FakeDriver

By = Literal["mmap", "call"]


@pytest.fixture
def sysfs(driver: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the kernel shows of the windows of two cards."""
    folder = tmp_path / "class"
    for card in (0, 1):
        for window, name in enumerate(driver.windows):
            (folder / f"pciedma{card}w{window}").mkdir(parents=True)
            (folder / f"pciedma{card}w{window}/name").write_text(f"{name}\n")
    monkeypatch.setattr(pciedma.card, "SYSFS", folder)
    return folder


@pytest.fixture(params=["mmap", "call"])
def registers(request: pytest.FixtureRequest, devices: Path) -> Any:
    """A window that is accessed by either way."""
    with pciedma.Window(devices / "pciedma0w0", by=request.param) as window:
        assert window.by == request.param
        yield window


def files_open(path: Path) -> int:
    """How many files this process has open on `path`."""
    return sum(fd.is_symlink() and fd.readlink() == path for fd in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize(("which", "number"), [(0, 0), (1, 1), ("user", 0), ("bypass", 1)])
def test_window_is_opened_by_number_or_name(
    card: pciedma.Card, sysfs: Path, devices: Path, which: int | str, number: int
) -> None:
    with card.window(which) as window:
        assert window.path == str(devices / f"pciedma0w{number}")
        assert window.info == pciedma.WindowInfo(
            0, number, ["user", "bypass"][number], number, 4096, (1, 2, 4), mappable=True, write_combining=False
        )


@pytest.mark.parametrize("make", [str, Path, os.fsencode])
def test_window_is_opened_by_a_link_and_any_path(devices: Path, make: Callable[[Path], Any]) -> None:
    (devices / "pci-0000:00:00.0-user").symlink_to("pciedma0w0")
    for name in ("pci-0000:00:00.0-user", "pciedma0w0"):
        with pciedma.Window(make(devices / name)) as window:
            assert (window.path, window.info.window) == (str(devices / "pciedma0w0"), 0)


def test_window_of_a_card_under_another_name_is_found_by_its_number(driver: FakeDriver, devices: Path) -> None:
    (devices / "mine").touch()
    driver.names["mine"] = "pciedma1"
    with pciedma.open(devices / "mine") as card, card.window(1) as window:
        assert (window.info.card, window.info.window) == (1, 1)


def test_windows_of_a_card_that_all_have_other_numbers_are_found_beside_it(driver: FakeDriver, devices: Path) -> None:
    driver.names |= {f"pciedma0{suffix}": f"pciedma3{suffix}" for suffix in ("", "w0", "w1")}
    with pciedma.open(devices / "pciedma0") as card, card.window(1) as window:
        assert (card.info.index, window.info.card, window.info.window) == (3, 3, 1)


@pytest.mark.parametrize("other", ["pciedma1w0", "pciedma0w1"])
def test_window_of_another_card_or_number_is_refused_and_closed(
    driver: FakeDriver, card: pciedma.Card, devices: Path, other: str
) -> None:
    driver.names["pciedma0w0"] = other
    with pytest.raises(pciedma.WrongNodeError, match=r"not window 0 of card 0, 0000:00:00\.0"):
        card.window(0)
    assert files_open(devices / "pciedma0w0") == 0


@pytest.mark.parametrize("which", [0, "user"])
def test_window_of_a_card_whose_number_another_has_is_refused_and_closed(
    driver: FakeDriver, card: pciedma.Card, sysfs: Path, devices: Path, which: int | str
) -> None:
    driver.names["pciedma0"] = "pciedma5"
    driver.gone = {5}
    with pytest.raises(pciedma.CardGoneError):
        card.window(which)
    assert files_open(devices / "pciedma0w0") == 0


@pytest.mark.parametrize("name", ["user", "nothing"])
def test_window_by_name_of_a_card_that_has_gone_says_so(
    driver: FakeDriver, card: pciedma.Card, sysfs: Path, name: str
) -> None:
    driver.gone = {0}
    (sysfs / "pciedma0w1/name").unlink()
    with pytest.raises(pciedma.CardGoneError):
        card.window(name)


@pytest.mark.parametrize("which", [0, "user", "nothing"])
def test_window_of_a_closed_card_says_so(card: pciedma.Card, sysfs: Path, which: int | str) -> None:
    card.close()
    with pytest.raises(ValueError, match="is closed"):
        card.window(which)


def test_window_by_an_unsuitable_number_says_why(card: pciedma.Card) -> None:
    for number in (2, -1, 1 << 70):
        with pytest.raises(IndexError, match="has 2 windows"):
            card.window(number)
    wrong: Any
    for wrong in (True, False, 0.0, None, b"user"):
        with pytest.raises(TypeError, match=f"number of a window is an integer, not {wrong!r}"):
            card.window(wrong)


def test_window_by_an_unknown_name_names_those_there_are(driver: FakeDriver, card: pciedma.Card, sysfs: Path) -> None:
    with pytest.raises(LookupError, match="no window 'nothing'; windows: user, bypass"):
        card.window("nothing")


def test_registers_are_little_endian_and_of_each_width(registers: pciedma.Window) -> None:
    registers.write32(0x10, 0x01234567)
    assert registers.read32(0x10) == 0x01234567
    assert [registers.read8(0x10 + i) for i in range(4)] == [0x67, 0x45, 0x23, 0x01]
    registers.write16(0x12, 0xFFFF)
    registers.write8(0x11, 0)
    assert (registers.read16(0x10), registers.read32(0x10), registers.read8(0x14)) == (0x67, 0xFFFF0067, 0x14)


@pytest.mark.parametrize("wrong", [True, False, 1.0, "0", None])
def test_offset_or_value_that_is_no_integer_is_refused(registers: pciedma.Window, wrong: Any) -> None:
    for access in (lambda: registers.read8(wrong), lambda: registers.write8(wrong, 0)):
        with pytest.raises(TypeError, match=f"the offset is an integer, not {wrong!r}"):
            access()
    with pytest.raises(TypeError, match=f"the value is an integer, not {wrong!r}"):
        registers.write8(0, wrong)
    assert registers.read32(0) == 0x03020100


@pytest.mark.parametrize(
    ("access", "error", "why"),
    [
        (lambda window: window.read32(2), ValueError, "no multiple of 4"),
        (lambda window: window.read32(4096), IndexError, "beyond"),
        (lambda window: window.write32(-4, 0), IndexError, "beyond"),
        (lambda window: window.read64(0), ValueError, "no accesses of 64 bits, only of 8, 16, 32"),
        (lambda window: window.write8(0, 256), ValueError, "no value of 8 bits"),
        (lambda window: window.write32(0, -1), ValueError, "no value of 32 bits"),
    ],
)
def test_access_that_the_window_does_not_have_is_refused(
    registers: pciedma.Window, access: Callable[[pciedma.Window], object], error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        access(registers)


def test_closed_window_says_so(registers: pciedma.Window) -> None:
    registers.close()
    registers.close()
    for access in (lambda: registers.read8(0), lambda: registers.write8(0, 0)):
        with pytest.raises(ValueError, match="is closed"):
            access()


def test_window_that_may_not_be_mapped_is_accessed_by_calls(driver: FakeDriver, devices: Path) -> None:
    driver.mappable = False
    with pciedma.Window(devices / "pciedma0w0") as window:
        assert (window.by, window.read8(7)) == ("call", 7)


def test_way_that_there_is_not_is_refused(card: pciedma.Card) -> None:
    wrong: Any = "magic"
    with pytest.raises(ValueError, match="'mmap' or 'call', not 'magic'"):
        card.window(0, by=wrong)


@pytest.mark.parametrize("name", ["tmieout", "offset", "timeout_s"])
def test_unknown_attribute_of_a_window_is_refused(window: pciedma.Window, name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        setattr(window, name, 1)


@pytest.mark.parametrize("name", ["info", "by", "path", "read32"])
def test_what_is_only_read_of_a_window_is_not_set(window: pciedma.Window, name: str) -> None:
    before = getattr(window, name)
    with pytest.raises(AttributeError, match=name):
        setattr(window, name, None)
    assert getattr(window, name) == before


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
