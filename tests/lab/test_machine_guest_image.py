"""What the initramfs puts into roots before the guest begins, tried in folders of this computer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pciedma_lab import guest_image

_COMMAND = Path("usr/local/bin/pciedma")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root file system of a user's, as /mnt/root in a guest."""
    root = tmp_path / "new/mnt/root"
    (root / "usr").mkdir(parents=True)
    return root


def give_command(place: Path) -> None:
    """Run the part of the initramfs that makes the command ``pciedma``."""
    init = guest_image._INIT
    script = init[init.index("for root in /new ") : init.index("exec switch_root")]
    subprocess.run(["sh", "-ec", script.replace("/new", str(place / "new"))], check=True)


def files(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_symlink() or not path.is_dir())


def test_command_is_made_in_both_roots_where_there_is_none(tmp_path: Path, root: Path) -> None:
    give_command(tmp_path)
    assert files(tmp_path) == [f"new/mnt/root/{_COMMAND}", f"new/{_COMMAND}"]
    for place in (tmp_path / "new", root):
        text = (place / _COMMAND).read_text()
        assert text.startswith("#!/bin/sh\n")
        assert "python3 -P -m pciedma" in text
        assert os.access(place / _COMMAND, os.X_OK)


def test_command_in_a_guest_without_another_root_is_made_in_its_own(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    give_command(tmp_path)
    assert files(tmp_path) == [f"new/{_COMMAND}"]


@pytest.mark.parametrize("path", [str(_COMMAND), "usr/bin/pciedma", "usr/local/sbin/pciedma"])
def test_command_of_the_users_own_root_stays_and_is_the_one_that_runs(tmp_path: Path, root: Path, path: str) -> None:
    (root / path).parent.mkdir(parents=True)
    (root / path).write_text("their own")
    give_command(tmp_path)
    assert (root / path).read_text() == "their own"
    assert files(root) == [path]


@pytest.mark.parametrize("target", ["opt/pipx/pciedma", "opt/absent"])
def test_command_that_is_a_link_stays_and_is_not_followed(tmp_path: Path, root: Path, target: str) -> None:
    """An absolute one, as pipx makes it, leads elsewhere while this is not the root."""
    outside = tmp_path / "opt/pipx/pciedma"
    outside.parent.mkdir(parents=True)
    outside.write_text("of another root")
    (root / _COMMAND).parent.mkdir(parents=True)
    (root / _COMMAND).symlink_to(tmp_path / target)
    give_command(tmp_path)
    assert files(root) == [str(_COMMAND)]
    assert (root / _COMMAND).readlink() == tmp_path / target
    assert files(tmp_path / "opt") == ["pipx/pciedma"]
    assert outside.read_text() == "of another root"


@pytest.mark.parametrize("folder", ["usr/local", "usr/local/bin"])
def test_command_in_a_folder_that_is_a_link_is_not_made(tmp_path: Path, root: Path, folder: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (root / folder).parent.mkdir(exist_ok=True)
    (root / folder).symlink_to(tmp_path / "elsewhere")
    give_command(tmp_path)
    assert files(root) == [folder]
    assert [*(tmp_path / "elsewhere").iterdir()] == []
