"""The project's folder: a clone, or what an installed lab makes like one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pciedma_lab import cache, project

PROJECT = Path(__file__).resolve().parents[2]


def test_clone_is_found_from_its_packages() -> None:
    assert project.CLONE == project.FOLDER == PROJECT
    assert project.SOURCE == PROJECT / "src"


@pytest.mark.parametrize("packages", ["usr/lib/python3/dist-packages", "python"])
def test_packages_elsewhere_are_no_clones(packages: str, tmp_path: Path) -> None:
    assert project.find_clone(tmp_path / packages) is None


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    (folder / "__pycache__").mkdir(parents=True)
    for name in ("a.py", "b.py", "__pycache__/a.pyc"):
        (folder / name).write_text(name)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_copy_of_a_package_has_no_bytecode(package: Path, tmp_path: Path) -> None:
    project.copy_package(package, tmp_path / "copy")
    assert names(tmp_path / "copy") == ["a.py", "b.py"]


def test_copy_of_a_package_is_left_alone_while_nothing_changes(package: Path, tmp_path: Path) -> None:
    """On file systems with coarser times, too."""
    project.copy_package(package, tmp_path / "copy")
    (package / "__pycache__/b.pyc").touch()
    os.utime(tmp_path / "copy/a.py", (1000, 1000))
    with (tmp_path / "copy/a.py").open() as file:
        project.copy_package(package, tmp_path / "copy")
        assert os.fstat(file.fileno()).st_nlink == 1


def test_copy_of_a_package_follows_what_changes_and_vanishes(package: Path, tmp_path: Path) -> None:
    project.copy_package(package, tmp_path / "copy")
    (package / "a.py").write_text("A.PY")
    os.utime(package / "a.py", (1000, 1000))
    (package / "b.py").unlink()
    project.copy_package(package, tmp_path / "copy")
    assert names(tmp_path / "copy") == ["a.py"]
    assert (tmp_path / "copy/a.py").read_text() == "A.PY"


def test_installed_lab_gives_the_guest_both_packages(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("pciedma", "pciedma_lab"):
        (tmp_path / "site" / name).mkdir(parents=True)
        (tmp_path / "site" / name / "__init__.py").touch()
    monkeypatch.setattr(project, "CLONE", None)
    monkeypatch.setattr(project, "PACKAGES", tmp_path / "site")
    monkeypatch.setattr(project, "FOLDER", cache.root() / "lab-1-x")
    project.provide()
    found = sorted(path.parent.name for path in (project.FOLDER / "python").rglob("*.py"))
    assert found == ["pciedma", "pciedma_lab"]


def test_clone_is_given_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "copy_package", None)
    project.provide()
