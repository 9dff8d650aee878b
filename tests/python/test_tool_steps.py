"""Steps of doctor as they can be typed on made-up machines."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pciedma.tool import system
from pciedma.tool.steps import typed

from .made_up_root import MadeUpRoot


@pytest.fixture
def root(tmp_path: Path) -> MadeUpRoot:
    """A machine with all programs, and a user with sudo."""
    return MadeUpRoot(tmp_path)


STEPS = (
    "sudo modprobe a", "echo 1 | sudo tee /x", "sudo apt update && sudo apt install b", "# say sudo to nobody",
    "sudoedit /y", "id",
)
OF_ROOT = (
    "modprobe a", "echo 1 | tee /x", "apt update && apt install b", "# say sudo to nobody", "editor /y", "id",
)


def test_steps_with_everything_there_are_as_they_are_written(root: MadeUpRoot) -> None:
    assert typed(STEPS, root.system()) == STEPS


def test_steps_of_root_are_without_sudo(root: MadeUpRoot) -> None:
    root.session(0)
    assert typed(STEPS, root.system()) == OF_ROOT


def test_steps_without_sudo_on_the_machine_are_roots(root: MadeUpRoot) -> None:
    root.missing = {"sudo"}
    assert typed(STEPS, root.system()) == ("# there is no sudo here: as root (su -)", *OF_ROOT)
    assert typed(("id",), root.system()) == ("id",)


def test_program_that_is_missing_is_installed_once_before_it_is_called(root: MadeUpRoot) -> None:
    root.missing = {"lspci", "fuser", "addgroup", "adduser"}
    steps = ("sudo dmesg | grep lspci", "lspci -nn", "lspci -vv", "sudo fuser -v /dev/pciedma*",
             "sudo addgroup --system g", "sudo adduser u g")
    assert typed(steps, root.system()) == (
        "sudo dmesg | grep lspci", "sudo apt install pciutils", "lspci -nn", "lspci -vv", "sudo apt install psmisc",
        "sudo fuser -v /dev/pciedma*", "sudo apt install adduser", "sudo addgroup --system g", "sudo adduser u g",
    )


def test_python_and_the_tool_are_called_where_they_are(root: MadeUpRoot) -> None:
    root.python, root.tool = "/venv/bin/python", "/venv/bin/python -m pciedma"
    log = "sudo dmesg | grep pciedma"
    steps = ("python3 -c 'import pciedma'", "sudo pciedma doctor", "pciedma doctor --device 1", log)
    assert typed(steps, root.system()) == (
        "/venv/bin/python -c 'import pciedma'", "sudo /venv/bin/python -m pciedma doctor",
        "/venv/bin/python -m pciedma doctor --device 1", log,
    )


@pytest.mark.parametrize(("prefix", "installed", "python", "tool"), [
    ("/usr", True, "python3", "pciedma"),
    ("/usr", False, "python3", "python3 -m pciedma"),
    ("/my venv", True, "'/my venv/bin/python'", "'/my venv/bin/python' -m pciedma"),
])
def test_system_knows_how_python_and_the_tool_are_called(
    monkeypatch: pytest.MonkeyPatch, prefix: str, installed: bool, python: str, tool: str
) -> None:
    monkeypatch.setattr(sys, "prefix", prefix)
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(sys, "executable", f"{prefix}/bin/python")
    monkeypatch.setattr(system, "has_program", lambda name: installed)
    found = system.System()
    assert (found.python, found.tool) == (python, tool)


def test_users_and_groups_are_those_that_the_machine_knows() -> None:
    assert system.name_of(0) == "root"
    assert system.name_of(0x7FFFFFF0) is None
    assert system.group_named("root") == system.Group(0, frozenset())
    assert system.group_named("no such group") is None
