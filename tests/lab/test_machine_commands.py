"""The command lines of run, modules, tools and docs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pciedma_lab import cache, chroot, deb_command, docs_command, modules, modules_command, run_command, tools_command
from pciedma_lab.cache import LabError


def test_run_when_the_lab_fails_gives_125(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(series: str, **options: object) -> None:
        raise LabError("no network")

    monkeypatch.setattr(run_command, "prepare", fail)
    assert run_command.main(["--", "true"]) == 125
    assert "no network" in capsys.readouterr().err


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), ConnectionResetError(104, "Connection reset")])
def test_run_when_a_part_of_the_lab_goes_away_gives_125_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OSError
) -> None:
    """Not what it means that nobody reads the command's output."""

    def fail(machine: object, arguments: object) -> int:
        raise error

    monkeypatch.setattr(run_command, "_run_in", fail)
    assert run_command.main(["--", "true"]) == 125
    assert str(error.strerror) in capsys.readouterr().err


def test_run_whose_output_nobody_reads_ends_as_by_sigpipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(machine: object, arguments: object) -> int:
        run_command._pass_on("stdout", b"words")
        pytest.fail("somebody reads")

    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        monkeypatch.setattr(run_command, "_run_in", write)
        assert run_command.main(["--", "true"]) == 128 + signal.SIGPIPE
    assert capsys.readouterr().err == ""


def test_run_kernel_of_another_architecture_says_that_it_cannot_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(modules, "build", lambda series: pytest.fail("built"))
    assert run_command.main(["--kernel", "trixie-arm64", "--", "true"]) == 125
    assert "cannot run it" in capsys.readouterr().err


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


@pytest.mark.parametrize(("failing", "status"), [("none", 0), ("html", 1), ("man", 1)])
def test_docs_builds_all_and_fails_if_one_did(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failing: str, status: int
) -> None:
    asked: list[str] = []

    def command(self: chroot.Chroot, argv: list[str], cwd: Path | None = None) -> list[str]:
        assert "-W" in argv
        asked.append(argv[argv.index("-b") + 1])
        return ["false" if asked[-1] == failing else "true"]

    monkeypatch.setattr(chroot.Chroot, "command", command)
    monkeypatch.setattr(modules, "BUILD", tmp_path)
    stale = tmp_path / "docs/html/stale.html"
    stale.parent.mkdir(parents=True)
    stale.touch()
    assert docs_command.main([]) == status
    assert asked == ["html", "man"]
    assert not stale.exists()


def test_docs_without_a_chroot_says_why_and_leaves_what_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: chroot.Chroot, argv: list[str]) -> list[str]:
        raise LabError("no network")

    monkeypatch.setattr(chroot.Chroot, "command", fail)
    monkeypatch.setattr(modules, "BUILD", tmp_path)
    built = tmp_path / "docs/html/index.html"
    built.parent.mkdir(parents=True)
    built.touch()
    assert docs_command.main([]) == 1
    assert "no network" in capsys.readouterr().err
    assert built.exists()


def test_docs_of_two_runs_are_built_one_after_the_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(chroot.Chroot, "command", lambda self, argv: ["true"])
    monkeypatch.setattr(modules, "BUILD", tmp_path)
    run = threading.Thread(target=docs_command.main, args=([],))
    with cache.locked(tmp_path / "docs/lock"):
        run.start()
        run.join(0.5)
        assert run.is_alive()
    run.join(60)
    assert not run.is_alive()


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A project with a commit, and a chroot that is this computer."""

    def run(self: chroot.Chroot, argv: list[str], cwd: Path | None = None) -> str:
        return subprocess.run(argv, cwd=cwd or project, text=True, check=True, capture_output=True).stdout

    project = tmp_path / "a project's"
    (project / "debian").mkdir(parents=True)
    for name in ("Makefile", "debian/changelog"):
        (project / name).write_text("1")
    (project / ".gitignore").write_text("/build/\n")
    author = ("-c", "user.name=a", "-c", "user.email=a@example.net", "-c", "commit.gpgsign=false")
    for words in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "1"]):
        subprocess.run(["git", *words], cwd=project, check=True)
    monkeypatch.setattr(deb_command, "PROJECT", project)
    monkeypatch.setattr(deb_command, "_BUILD", project / "build/deb")
    monkeypatch.setattr(chroot.Chroot, "run", run)
    return project


@pytest.mark.parametrize(("name", "warned"), [(None, False), ("Makefile", True), ("new.c", True)])
def test_deb_warns_of_what_is_not_committed(
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str | None,
    warned: bool,
) -> None:
    monkeypatch.setattr(deb_command, "make", lambda suite: 0)
    if name:
        (repository / name).write_text("2")
    assert deb_command.main([]) == 0
    assert ("warning: the packages are of the last commit" in capsys.readouterr().err) == warned


def test_deb_of_two_runs_is_built_one_after_the_other(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    def make(suite: str) -> int:
        built.append(suite)
        return 0

    monkeypatch.setattr(deb_command, "_make", make)
    run = threading.Thread(target=deb_command.make, args=("trixie",))
    with cache.locked(repository / "build/deb/trixie.lock"):
        run.start()
        run.join(0.5)
        assert built == []
        assert deb_command.make("bookworm") == 0
    run.join(60)
    assert built == ["bookworm", "trixie"]


def test_deb_exports_the_last_commit_to_any_place(
    repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "xz").write_text("#!/bin/sh\nexec cat\n")
    (tmp_path / "xz").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (repository / "Makefile").write_text("2")
    tree = repository / "build/a b's/tree/pciedma"
    deb_command._export("trixie", tree)
    assert (tree / "Makefile").read_text() == "1"
    assert (tree / "debian/changelog").exists()
    assert next(tree.parent.glob("pciedma_*.orig.tar.xz")).stat().st_size > 0
