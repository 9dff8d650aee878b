"""Finding cards, with folders in place of sysfs and /dev."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import pciedma
from pciedma.card import find, list_cards

from .fake_driver import FakeDriver


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Path, Path]:
    """Two cards, the second with two channels."""
    sysfs, devices = tmp_path / "class", tmp_path / "dev"
    for index, (name, address) in enumerate((("edu", "0000:00:09.0"), ("capric", "0001:0a:00.0"))):
        function = tmp_path / "pci" / address
        function.mkdir(parents=True)
        folder = sysfs / f"pciedma{index}"
        folder.mkdir(parents=True)
        (folder / "card").write_text(f"{name}\n")
        (folder / "device").symlink_to(function)
        (sysfs / f"pciedma{index}c0").mkdir()
    (sysfs / "pciedma1c1").mkdir()
    devices.mkdir()
    return sysfs, devices


def test_list_names_cards_and_not_channels(tree: tuple[Path, Path]) -> None:
    cards = list_cards(*tree)
    assert [(card.index, card.name, card.pci_address) for card in cards] == [
        (0, "edu", "0000:00:09.0"), (1, "capric", "0001:0a:00.0"),
    ]
    assert cards[1].path == str(tree[1] / "pciedma1")


def test_list_leaves_out_a_card_that_goes_meanwhile(tree: tuple[Path, Path]) -> None:
    (tree[0] / "pciedma0/card").unlink()
    assert [card.index for card in list_cards(*tree)] == [1]
    assert find(None, *tree) == str(tree[1] / "pciedma1")


@pytest.mark.parametrize(
    ("which", "node"),
    [(None, "pciedma0"), (1, "pciedma1"), ("00:09.0", "pciedma0"), ("0000:00:09.0", "pciedma0"),
     ("0001:0A:00.0", "pciedma1")],
)
def test_find_takes_number_and_address(tree: tuple[Path, Path], which: int | str | None, node: str) -> None:
    assert find(which, *tree) == str(tree[1] / node)


def test_find_takes_a_path(tree: tuple[Path, Path]) -> None:
    assert find("/dev/pciedma7", *tree) == "/dev/pciedma7"


def test_find_of_an_absent_address_names_what_is_there(tree: tuple[Path, Path]) -> None:
    with pytest.raises(pciedma.NoCardError, match=r"02:00.0; cards: 0000:00:09.0, 0001:0a:00.0"):
        find("02:00.0", *tree)


def test_find_without_a_card_says_what_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(pciedma.NoCardError, match="driver loaded"):
        find(None, tmp_path, tmp_path)


def test_open_of_an_absent_node_says_what_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(pciedma.NoCardError, match="lsmod"):
        pciedma.open(str(tmp_path / "pciedma0"))


class Index:
    """An integer like numpy's."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


FOUND = pciedma.FoundCard(1, "/dev/pciedma1", "0001:0a:00.0", "capric")


@pytest.mark.parametrize(
    ("which", "node"),
    [("0", "pciedma0"), ("17", "pciedma17"), (Index(1), "pciedma1")],
)
def test_find_takes_a_number_as_text_and_what_is_like_an_integer(
    tree: tuple[Path, Path], which: Any, node: str
) -> None:
    assert find(which, *tree) == str(tree[1] / node)


@pytest.mark.parametrize(
    ("which", "path"),
    [(Path("/dev/pciedma7"), "/dev/pciedma7"), (Path("pciedma7"), "pciedma7"), (b"/dev/x", "/dev/x"),
     ("./pciedma7", "./pciedma7"), (FOUND, "/dev/pciedma1")],
)
def test_find_takes_path_objects_and_found_cards(tree: tuple[Path, Path], which: Any, path: str) -> None:
    assert find(which, *tree) == path


@pytest.mark.parametrize("which", [True, False, 1.0, [0], {}, object(), Decimal(1)])
def test_find_of_what_names_no_card_is_a_type_error_with_the_value(tree: tuple[Path, Path], which: Any) -> None:
    with pytest.raises(TypeError, match=f"number of a card is an integer, not {re.escape(repr(which))}"):
        find(which, *tree)


def test_find_of_a_negative_number_says_so(tree: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="negative: -1"):
        find(-1, *tree)


@pytest.mark.parametrize("which", ["pciedma0", "capric", "", "-1", "0x1", "\u00b2", "01:00"])
def test_find_of_other_text_says_what_it_could_be(tree: tuple[Path, Path], which: str) -> None:
    with pytest.raises(pciedma.NoCardError, match="no number, no PCI address, and without a slash no path") as caught:
        find(which, *tree)
    assert repr(which) in str(caught.value)
    assert "0001:0a:00.0" in str(caught.value)


def by_path(devices: Path, name: str) -> Path:
    """Return a link to a node as udev makes it."""
    folder = devices / "pciedma/by-path"
    folder.mkdir(parents=True, exist_ok=True)
    channel = name.removeprefix("pciedma0")
    link = folder / f"pci-0000:00:00.0{'-' if channel else ''}{channel}"
    link.symlink_to(f"../../{name}")
    return link


@pytest.mark.parametrize("make", [str, Path, os.fsencode])
def test_open_by_a_link_finds_the_channels(devices: Path, make: Callable[[Path], Any]) -> None:
    with pciedma.open(make(by_path(devices, "pciedma0"))) as card:
        assert card.path == str(devices / "pciedma0")
        for number in (0, 1):
            with card.channel(number) as channel:
                assert (channel.path, channel.info.channel) == (str(devices / f"pciedma0c{number}"), number)


def test_open_keeps_to_the_card_when_the_link_changes(devices: Path) -> None:
    link = by_path(devices, "pciedma0")
    with pciedma.open(link) as card:
        link.unlink()
        link.symlink_to("../../pciedma1")
        with card.channel(1) as channel:
            assert channel.info.card == 0


def test_channel_is_opened_by_a_link(devices: Path) -> None:
    with pciedma.Channel(by_path(devices, "pciedma0c1")) as channel:
        assert (channel.path, channel.info.channel) == (str(devices / "pciedma0c1"), 1)


def test_channel_of_a_card_under_another_name_is_found_by_its_number(driver: FakeDriver, devices: Path) -> None:
    (devices / "mine").touch()
    driver.names["mine"] = "pciedma1"
    with pciedma.open(devices / "mine") as card, card.channel(1) as channel:
        assert (channel.info.card, channel.info.channel) == (1, 1)


def test_channels_of_a_card_that_all_have_other_numbers_are_found_beside_it(
    driver: FakeDriver, devices: Path
) -> None:
    driver.names |= {f"pciedma0{suffix}": f"pciedma3{suffix}" for suffix in ("", "c0", "c1")}
    with pciedma.open(devices / "pciedma0") as card, card.channel(1) as channel:
        assert (card.info.index, channel.info.card, channel.info.channel) == (3, 3, 1)


@pytest.mark.parametrize("other", ["pciedma1c0", "pciedma0c1"])
def test_channel_of_another_card_or_number_is_refused(driver: FakeDriver, card: pciedma.Card, other: str) -> None:
    driver.names["pciedma0c0"] = other
    with pytest.raises(pciedma.WrongNodeError, match=r"not channel 0 of card 0, 0000:00:00\.0"):
        card.channel(0)


def test_channel_of_a_card_that_has_gone_is_refused(
    driver: FakeDriver, card: pciedma.Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def goes(path: str, flags: int) -> int:
        driver.names["pciedma0"] = "pciedma5"
        driver.gone = {5}
        return opened(path, flags)

    monkeypatch.setattr(os, "open", goes)  # and another has its number at once
    with pytest.raises(pciedma.CardGoneError):
        card.channel(0)


def test_channel_by_an_unsuitable_number_says_why(card: pciedma.Card) -> None:
    for number in (2, -1, 1 << 70):
        with pytest.raises(IndexError, match="has 2 channels"):
            card.channel(number)
    wrong: Any
    for wrong in ("0", True, None, 1.0):
        with pytest.raises(TypeError, match=f"number of a channel is an integer, not {wrong!r}"):
            card.channel(wrong)
    with card.channel(Index(1)) as channel:
        assert channel.info.channel == 1


def test_channel_of_a_closed_card_says_so(card: pciedma.Card) -> None:
    card.close()
    with pytest.raises(ValueError, match="is closed"):
        card.channel(0)


@pytest.mark.parametrize("name", ["pciedma0c1", "link", "renamed"])
def test_channel_opened_as_a_card_says_what_to_do(driver: FakeDriver, devices: Path, name: str) -> None:
    (devices / "link").symlink_to("pciedma0c1")
    (devices / "renamed").touch()
    driver.names["renamed"] = "pciedma0c1"
    with pytest.raises(pciedma.WrongNodeError, match=r"pciedma.open\(.*\).channel\(1\)") as caught:
        pciedma.open(devices / name)
    assert caught.value.errno == errno.ENOTTY
    assert "a channel, not a card" in str(caught.value)


def test_channel_opened_as_a_card_is_not_touched(devices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "open", None)
    with pytest.raises(pciedma.WrongNodeError):
        pciedma.open(devices / "pciedma0c1")


def test_card_opened_as_a_channel_says_what_to_do(devices: Path) -> None:
    with pytest.raises(pciedma.WrongNodeError, match=r"pciedma.open\(CARD\).channel\(NUMBER\)"):
        pciedma.Channel(devices / "pciedma0")


@pytest.mark.parametrize("kind", [pciedma.Card, pciedma.Channel, pciedma.Window])
@pytest.mark.parametrize("name", ["/dev/null", "/dev/zero", "file", ".", "file/c0"])
def test_what_is_no_node_of_ours_is_refused(devices: Path, kind: type[pciedma.Card], name: str) -> None:
    (devices / "file").touch()
    with pytest.raises(pciedma.WrongNodeError, match="not a node of pciedma") as caught:
        kind(devices / name)
    assert "/dev/pciedma0" in str(caught.value)


@pytest.mark.parametrize("kind", [pciedma.Card, pciedma.Channel, pciedma.Window])
def test_node_whose_driver_answers_einval_is_none_of_ours(
    devices: Path, monkeypatch: pytest.MonkeyPatch, kind: Callable[[Path], object]
) -> None:
    def refuse(fd: int, request: int, argument: Any) -> int:
        raise OSError(errno.EINVAL, "what?")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    (devices / "strange").touch()
    with pytest.raises(pciedma.WrongNodeError, match="not a node of pciedma"):
        kind(devices / "strange")


def test_card_by_something_else_than_a_path_is_a_type_error() -> None:
    wrong: Any
    for wrong in (0, None, 1.5):
        for kind in (pciedma.Card, pciedma.Channel, pciedma.Window):
            with pytest.raises(TypeError, match="PathLike"):
                kind(wrong)


def test_found_card_is_opened_if_it_is_still_there(driver: FakeDriver, devices: Path) -> None:
    found = pciedma.FoundCard(1, str(devices / "pciedma1"), "0000:01:00.0", "xdma")
    with pciedma.open(found) as card:
        assert card.info.index == 1
    driver.addresses[1] = "0000:07:00.0"
    with pytest.raises(pciedma.NoCardError, match=r"at 0000:01:00\.0, is gone; there is 0000:07:00\.0 now"):
        pciedma.open(found)


def test_iterating_opens_each_channel(card: pciedma.Card) -> None:
    for number, channel in enumerate(card):
        with channel:
            assert (channel.info.channel, len(channel.read(10))) == (number, 10)
    channels = list(card)
    assert [(channel.info.channel, channel.closed) for channel in channels] == [(0, False), (1, False)]
    for channel in channels:
        channel.close()


def test_asking_whether_a_card_contains_a_channel_opens_none(card: pciedma.Card, channel: pciedma.Channel) -> None:
    with pytest.raises(TypeError):
        print(channel in card)


def test_unsuitable_event_lines_are_refused(card: pciedma.Card) -> None:
    with pytest.raises(ValueError, match="16 event lines"):
        card.listen([3, 16])
    wrong: Any
    for wrong in ("3", [True], [1.0], [None]):
        with pytest.raises(TypeError, match="event line is an integer"):
            card.listen(wrong)
    card.listen([Index(3)])
