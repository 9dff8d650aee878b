"""The command lines of run, modules and tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from pciedma_lab import chroot, modules, modules_command, run_command, tools_command
from pciedma_lab.cache import LabError


def test_run_faults_go_to_the_cards_they_name() -> None:
    cards = run_command.make_cards(["capric", "edu", "capric"], ["capric:stall=h2c*1"])
    assert [(card.name, card.faults) for card in cards] == [("capric", ["stall=h2c*1"])] * 2


@pytest.mark.parametrize("fault", ["capric", "edu:stall", "other:stall", "capric:"])
def test_run_fault_without_such_a_card_is_refused(fault: str) -> None:
    with pytest.raises(ValueError, match="there is no --card"):
        run_command.make_cards(["capric", "edu"] if fault != "capric" else [], [fault])


def test_run_when_the_lab_fails_gives_125(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(series: str) -> None:
        raise LabError("no network")

    monkeypatch.setattr(run_command, "prepare", fail)
    assert run_command.main(["--", "true"]) == 125
    assert "no network" in capsys.readouterr().err


def test_modules_builds_all_supported_kernels_with_the_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, bool, bool]] = []

    def build(series: str, *, warnings_are_errors: bool, sparse: bool) -> Path:
        asked.append((series, warnings_are_errors, sparse))
        return Path("/built") / series

    monkeypatch.setattr(modules, "build", build)
    assert modules_command.main(["--sparse"]) == 0
    assert asked == [(series, False, True) for series in ("bookworm", "trixie", "backports")]
    assert capsys.readouterr().out.splitlines() == ["/built/bookworm", "/built/trixie", "/built/backports"]


def test_modules_build_failure_gives_1_and_the_compilers_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(series: str, **options: bool) -> Path:
        raise modules.BuildFailed("main.c:1: error: expected ';'")

    monkeypatch.setattr(modules, "build", fail)
    assert modules_command.main(["--kernel", "trixie"]) == 1
    assert "expected ';'" in capsys.readouterr().err


@pytest.mark.parametrize("separator", [[], ["--"]])
def test_tools_inside_the_chroot_runs_directly(monkeypatch: pytest.MonkeyPatch, separator: list[str]) -> None:
    monkeypatch.setenv(chroot.INSIDE, "tools")
    assert tools_command.main([*separator, "sh", "-c", "exit 3"]) == 3


def test_tools_without_a_command_says_how() -> None:
    assert tools_command.main([]) == 2
