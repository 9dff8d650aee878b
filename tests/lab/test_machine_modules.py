"""The build of the modules: the copy of the sources, and what counts as a warning."""

from __future__ import annotations

import os
from pathlib import Path

from pciedma_lab import modules


def test_mirror_copies_with_times_and_leaves_products_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "src", tmp_path / "copy"
    (source / "core").mkdir(parents=True)
    (source / "core/main.c").write_text("1")
    os.utime(source / "core/main.c", (1000, 1000))
    modules.mirror(source, target)
    (target / "core/main.o").write_text("object")
    (target / "x.mod.c").write_text("made")
    modules.mirror(source, target)
    assert (target / "core/main.c").stat().st_mtime == 1000
    assert (target / "core/main.o").exists()
    assert (target / "x.mod.c").exists()


def test_mirror_takes_changes_even_to_an_older_time(tmp_path: Path) -> None:
    source, target = tmp_path / "src", tmp_path / "copy"
    source.mkdir()
    (source / "a.c").write_text("new")
    modules.mirror(source, target)
    (source / "a.c").write_text("old")
    os.utime(source / "a.c", (1000, 1000))
    modules.mirror(source, target)
    assert (target / "a.c").read_text() == "old"


def test_mirror_prunes_sources_that_vanished(tmp_path: Path) -> None:
    source, target = tmp_path / "src", tmp_path / "copy"
    source.mkdir()
    (source / "card.c").touch()
    modules.mirror(source, target)
    (source / "card.c").unlink()
    modules.mirror(source, target)
    assert not (target / "card.c").exists()


def test_warnings_are_lines_about_our_sources() -> None:
    output = """\
warning: the compiler differs from the one used to build the kernel
  The kernel was built by: gcc-14
  You are using:           gcc-14

core/main.c:3:5: warning: unused variable 'x'
"""
    assert modules.warnings(output) == ["core/main.c:3:5: warning: unused variable 'x'"]
