"""Finding cards, with folders in place of sysfs and /dev."""

from __future__ import annotations

from pathlib import Path

import pytest

import pciedma
from pciedma.card import find, list_cards


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
