"""The cache: what is made is there whole or not at all, and once."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from pciedma_lab import cache


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache.root().mkdir()
    return cache.root()


def test_root_follows_xdg_cache_home(tmp_path: Path) -> None:
    assert cache.root() == tmp_path / "pciedma"


def test_provide_makes_under_another_name_and_renames(folder: Path) -> None:
    def make(temporary: Path) -> None:
        assert not (folder / "thing").exists()
        assert cache.final_name(temporary) == folder / "thing"
        temporary.write_text("whole")

    assert cache.provide(folder / "thing", make).read_text() == "whole"


def test_provide_failing_leaves_nothing_and_the_next_one_succeeds(folder: Path) -> None:
    def fail(temporary: Path) -> None:
        temporary.mkdir()
        raise OSError("half way")

    with pytest.raises(OSError, match="half way"):
        cache.provide(folder / "thing", fail)
    assert not (folder / "thing").exists()
    assert cache.provide(folder / "thing", Path.mkdir).is_dir()


def test_provide_by_several_threads_makes_once(folder: Path) -> None:
    both_want = threading.Barrier(2)
    made: list[int] = []

    def make(temporary: Path) -> None:
        made.append(1)
        temporary.mkdir()

    def want() -> None:
        both_want.wait()
        cache.provide(folder / "thing", make)

    cache.together(want, want)
    assert made == [1]


def test_together_raises_the_error_of_one_after_all_have_ended() -> None:
    ended: list[int] = []

    def fail() -> None:
        raise cache.LabError("no network")

    with pytest.raises(cache.LabError, match="no network"):
        cache.together(fail, lambda: ended.append(1))
    assert ended == [1]


def test_prune_removes_only_what_is_unused_and_superseded(folder: Path) -> None:
    old = time.time() - 100 * 24 * 3600
    for name, stamp in {"chroot-a-1": old, "chroot-a-2": time.time(), "chroot-a-3": old, "chroot-b-1": old}.items():
        (folder / name).mkdir()
        os.utime(folder / name, (stamp, stamp))
    cache.prune("chroot-a-", folder / "chroot-a-3")
    assert sorted(path.name for path in folder.iterdir()) == ["chroot-a-2", "chroot-a-3", "chroot-b-1"]


def test_remove_takes_folder_file_link_and_nothing(folder: Path) -> None:
    (folder / "kept").mkdir()
    (folder / "link").symlink_to(folder / "kept")
    (folder / "file").write_text("")
    (folder / "tree/deep").mkdir(parents=True)
    for name in ("link", "file", "tree", "absent"):
        cache.remove(folder / name)
    assert [path.name for path in folder.iterdir()] == ["kept"]
