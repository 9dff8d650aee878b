"""The build of the modules: the copy of the sources, and what counts as a warning."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pciedma_lab import kernels, modules


def test_mirror_leaves_products_and_what_is_the_same_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "src", tmp_path / "copy"
    (source / "core").mkdir(parents=True)
    (source / "core/main.c").write_text("1")
    modules.mirror(source, target)
    os.utime(target / "core/main.c", (1000, 1000))
    (target / "core/main.o").write_text("object")
    (target / "x.mod.c").write_text("made")
    modules.mirror(source, target)
    assert (target / "core/main.c").stat().st_mtime == 1000
    assert (target / "core/main.o").exists()
    assert (target / "x.mod.c").exists()


@pytest.mark.parametrize("of_the_same_time", [False, True])
def test_mirror_makes_changes_newer_than_what_was_built(tmp_path: Path, of_the_same_time: bool) -> None:
    """Whatever time the source has: that of a package is its changelog's, of a checkout its commit's or now."""
    source, target = tmp_path / "src", tmp_path / "copy"
    source.mkdir()
    (source / "a.c").write_text("new")
    os.utime(source / "a.c", (2000, 2000))
    modules.mirror(source, target)
    (target / "a.o").touch()
    (source / "a.c").write_text("old")
    os.utime(source / "a.c", (2000, 2000) if of_the_same_time else (1000, 1000))
    modules.mirror(source, target)
    assert (target / "a.c").read_text() == "old"
    assert (target / "a.c").stat().st_mtime_ns >= (target / "a.o").stat().st_mtime_ns


def test_mirror_adds_files_and_takes_them_away(tmp_path: Path) -> None:
    source, target, other = tmp_path / "src", tmp_path / "copy", tmp_path / "other.c"
    source.mkdir()
    other.write_text("other")
    modules.mirror(source, target, {Path("cards/other.c"): other})
    assert (target / "cards/other.c").read_text() == "other"
    modules.mirror(source, target)
    assert not (target / "cards/other.c").exists()


def test_mirror_prunes_sources_that_vanished(tmp_path: Path) -> None:
    source, target = tmp_path / "src", tmp_path / "copy"
    source.mkdir()
    (source / "card.c").touch()
    modules.mirror(source, target)
    (source / "card.c").unlink()
    modules.mirror(source, target)
    assert not (target / "card.c").exists()


def test_mirror_takes_no_products_that_lie_among_the_sources(tmp_path: Path) -> None:
    """As `make modules KDIR=...` leaves them: they are of another kernel."""
    source, target = tmp_path / "src", tmp_path / "copy"
    (source / "core").mkdir(parents=True)
    products = ("x.ko", "x.mod.c", "core/a.o", "core/.a.o.cmd", "modules.order", "Module.symvers")
    for name in ("Kbuild", "core/a.c", "core/a.h", *products):
        (source / name).write_text(name)
    modules.mirror(source, target)
    assert sorted(path.name for path in target.rglob("*") if path.is_file()) == ["Kbuild", "a.c", "a.h"]
    os.utime(source / "core/a.o", (1000, 1000))
    (target / "core/a.o").write_text("compiled here")
    modules.mirror(source, target)
    assert (target / "core/a.o").read_text() == "compiled here"


@pytest.mark.parametrize("form", ["{}.o", "/somewhere/src/{}.ko"])
def test_build_publishes_what_it_made_and_no_module_of_a_card_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """By the list that the kernel's build leaves, which is not the same in all kernels."""
    names = ["pciedma", "pciedma_gone"]

    def make(kernel: Any, copy: Path, sparse: bool) -> str:
        for name in names:
            (copy / f"{name}.ko").touch()
        (copy / "modules.order").write_text("".join(f"{form.format(name)}\n" for name in names))
        return ""

    monkeypatch.setattr(modules, "BUILD", tmp_path)
    monkeypatch.setattr(kernels, "provide", lambda series: None)
    monkeypatch.setattr(modules, "_make", make)
    modules.build("trixie")
    assert sorted(path.stem for path in modules.built("trixie").iterdir()) == ["pciedma", "pciedma_gone"]
    names.remove("pciedma_gone")
    modules.build("trixie")
    assert [path.name for path in modules.built("trixie").iterdir()] == ["pciedma.ko"]


def test_warnings_are_lines_about_our_sources() -> None:
    output = """\
warning: the compiler differs from the one used to build the kernel
  The kernel was built by: gcc-14
  You are using:           gcc-14

core/main.c:3:5: warning: unused variable 'x'
"""
    assert modules.warnings(output) == ["core/main.c:3:5: warning: unused variable 'x'"]


def test_warnings_of_several_lines_count_once() -> None:
    first = ["core/main.c:3:5: warning: unused variable 'x'", "    3 | int x;", "      |     ^"]
    assert modules.count_warnings(first) == 1
    assert modules.count_warnings([*first, "core/main.c:9: warning: no description found"]) == 2
    assert modules.count_warnings(["something that nobody expected"]) == 1
