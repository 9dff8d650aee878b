"""The check of all kernels: what is kept of it, what does not count, the table, and the exit status."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pciedma_lab import cache, junit, kernels, kernels_command, kernels_report, modules, tools_command
from pciedma_lab.cache import LabError
from pciedma_lab.chroot import PROJECT
from pciedma_lab.kernels_report import Build

SOURCES = "0123456789ab"
BUILD = Build("6.12.1-1", "6.12.1+deb13-amd64", SOURCES, "gcc 14.2.0", seconds=60)
UNAME = "6.12.1+deb13-amd64 #1 SMP PREEMPT_DYNAMIC Debian 6.12.1-1 (2026-01-01)"


def suite(*results: str, properties: str = "") -> str:
    """Return a suite of tests with these results, as elements."""
    said = f"<properties>{properties}</properties>"
    cases = [f'<testcase classname="c" name="t{at}">{said}{result}</testcase>' for at, result in enumerate(results)]
    return f'<testsuite time="120">{"".join(cases)}</testsuite>'


def report(
    passed: int = 7, skipped: int = 2, failed: int = 0, errors: int = 0, sources: str = SOURCES, kernel: str = UNAME
) -> str:
    results = [""] * passed + ["<skipped/>"] * skipped + ["<failure/>"] * failed + ["<error/>"] * errors
    properties = f'<property name="sources" value="{sources}"/><property name="kernel" value="{kernel}"/>'
    return f"<testsuites>{suite(*results, properties=properties)}</testsuites>"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the results, empty, and a cache that has some kernels."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kernels_report, "FOLDER", tmp_path / "kernels")
    monkeypatch.setattr(kernels_report, "sources", lambda: SOURCES)
    monkeypatch.setattr(kernels_report, "commit", lambda: "abcdef0")
    for name in ("trixie", "trixie-arm64"):
        (cache.root() / f"kernel-{name}-6.12.1-1").mkdir(parents=True)
        (cache.root() / f"kernel-{name}.json").write_text(json.dumps({"folder": f"kernel-{name}-6.12.1-1"}))
    (tmp_path / "kernels").mkdir()
    return tmp_path / "kernels"


@pytest.fixture
def good(folder: Path) -> Path:
    """The same with a good result of trixie."""
    kernels_report.write_build("trixie", BUILD)
    kernels_report.tests_report("trixie").write_text(report())
    return folder


def problems(name: str = "trixie") -> tuple[str, ...]:
    return kernels_report.judge(name, SOURCES).problems


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two files, one of them a source, in git's care."""
    monkeypatch.undo()  # the real sources()
    project = tmp_path / "project"
    for name in ("src/main.c", "docs/index.md"):
        (project / name).parent.mkdir(parents=True)
        (project / name).write_text("1")
    (project / ".gitignore").write_text("*.o\n")
    for words in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *words], cwd=project, check=True)
    monkeypatch.setattr(kernels_report, "PROJECT", project)
    return project


@pytest.mark.parametrize(
    ("name", "text", "same"),
    [
        ("src/main.c", "1", True),
        ("src/main.c", "2", False),
        ("src/main.c", None, False),
        ("src/new.c", "1", False),
        ("src/main.o", "1", True),
        ("docs/index.md", "2", True),
        ("docs/add-a-card.md", "2", False),
        ("tests/c_build.py", "1", False),
        ("tests/lab/test_x.py", "1", True),
        ("tests/vm/test_x.py", "1", False),
    ],
)
def test_sources_differ_with_what_is_tested_alone(repository: Path, name: str, text: str | None, same: bool) -> None:
    before = kernels_report.sources()
    path = repository / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if text is not None:
        path.write_text(text)
    assert (kernels_report.sources() == before) == same


def test_sources_without_a_repository_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(kernels_report, "PROJECT", tmp_path)
    with pytest.raises(LabError, match="git cannot tell"):
        kernels_report.sources()


def test_parse_counts_what_passed_and_takes_errors_for_failures() -> None:
    text = report(passed=4, skipped=3, failed=2, errors=1)
    assert junit.parse(text) == junit.Report(4, 3, 3, 120.0, {"sources": SOURCES, "kernel": UNAME})


def test_parse_of_several_suites_is_their_sum() -> None:
    text = suite("", "<failure/>") * 2
    assert junit.parse(f"<testsuites>{text}</testsuites>") == junit.Report(2, 2, 0, 240.0, {})


def test_parse_leaves_out_of_what_the_tests_say_that_in_which_they_differ() -> None:
    kernels = [suite("", properties=f'<property name="kernel" value="{name}"/>') for name in ("6.1", "6.12")]
    sources = suite("", "<skipped/>", properties=f'<property name="sources" value="{SOURCES}"/>')
    text = f"<testsuites>{''.join(kernels)}{sources}</testsuites>"
    assert junit.parse(text).properties == {"sources": SOURCES}


def test_parse_of_a_test_that_fails_twice_is_one_failure() -> None:
    """In its call and in a fixture's end, as pytest writes it; and one that is skipped before its fixture fails."""
    twice = '<testcase classname="c" name="t"><failure/></testcase><testcase classname="c" name="t"><error/></testcase>'
    late = '<testcase classname="c" name="u"><skipped/><error/></testcase>'
    text = f'<testsuites><testsuite tests="4" time="1">{twice}{late}</testsuite></testsuites>'
    assert junit.parse(text) == junit.Report(0, 2, 0, 1.0, {})


def test_parse_of_half_a_report_is_refused() -> None:
    with pytest.raises(ValueError, match="not a JUnit report"):
        junit.parse(report()[:-20])


def test_sources_are_the_same_whatever_the_user_has_git_ignore(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "src/new.c").touch()
    before = kernels_report.sources()
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.gitconfig").write_text(f"[core]\nexcludesFile = {tmp_path}/ignored\n")
    (tmp_path / "ignored").write_text("new.c\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert kernels_report.sources() == before


def test_tests_are_of_the_sources_that_who_runs_them_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels_report.tested_sources() == SOURCES
    monkeypatch.setenv("PCIEDMA_SOURCES", "of the command")
    assert kernels_report.tested_sources() == "of the command"


@pytest.mark.parametrize("path", sorted((PROJECT / "tests/vm").glob("test_*.py")), ids=lambda path: path.stem)
def test_tests_that_choose_their_kernel_are_not_repeated_for_each(path: Path) -> None:
    text = path.read_text()
    follows = re.search(r"^from \.conftest import .*\bKERNEL\b|\b(lab|machine): Lab\b", text, re.M)
    marked = re.search(r"^pytestmark = .*\bfixed_kernel\b", text, re.M)
    assert bool(follows) != bool(marked)


def test_checked_are_all_kernels_but_the_debug_one() -> None:
    assert set(kernels.SERIES) - set(kernels_report.CHECKED) == {"debug"}


def test_judge_good_results_are_good(good: Path) -> None:
    row = kernels_report.judge("trixie", SOURCES)
    assert row.is_good
    assert row.cells() == ("trixie", "6.12.1+deb13-amd64 (6.12.1-1)", "gcc 14.2.0", "0", "7", "0", "2", "3.0", "")


def test_judge_kernel_that_cannot_boot_needs_no_tests(folder: Path) -> None:
    kernels_report.write_build("trixie-arm64", dataclasses.replace(BUILD, release="6.12.1+deb13-arm64"))
    row = kernels_report.judge("trixie-arm64", SOURCES)
    assert row.is_good
    assert row.cells()[3:] == ("0", "-", "-", "-", "1.0", "")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"warnings": 3}, "warnings"),
        ({"error": True}, "does not build"),
        ({"sources": "other"}, "built from other sources"),
        ({"version": "6.12.0-1"}, "built for 6.12.0-1, but there is 6.12.1-1"),
    ],
)
def test_judge_build_that_does_not_do_is_a_problem(good: Path, change: dict[str, str | int], problem: str) -> None:
    kernels_report.write_build("trixie", dataclasses.replace(BUILD, **change))  # type: ignore[arg-type]
    assert problems() == (problem,)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (report(failed=1), "tests failed"),
        (report(errors=1), "tests failed"),
        (report(passed=0), "no test passed"),
        (report(sources="other"), "tests of other sources"),
        (report(kernel=UNAME.replace("Debian 6.12.1-1", "Debian 6.12.0-1")), "tests on another kernel"),
        (report(kernel=UNAME.replace("+deb13-amd64", "+deb13-rt-amd64")), "tests on another kernel"),
        ('<testsuites><testsuite tests="9"/></testsuites>', "tests of other sources"),
        ("<testsuites>", "no report of the tests"),
    ],
)
def test_judge_tests_that_do_not_do_are_a_problem(good: Path, text: str, problem: str) -> None:
    kernels_report.tests_report("trixie").write_text(text)
    assert problems() == (problem,)


def test_judge_without_results_is_not_built_and_without_report_not_tested(good: Path) -> None:
    assert problems("bookworm") == ("not built",)
    kernels_report.tests_report("trixie").unlink()
    assert problems() == ("no report of the tests",)
    kernels_report.build_note("trixie").write_text('{"what": "of another edition"}')
    assert problems() == ("not built",)


def test_judge_numbers_that_do_not_count_are_not_shown(good: Path) -> None:
    kernels_report.tests_report("trixie").write_text(report(sources="other"))
    assert kernels_report.judge("trixie", SOURCES).cells()[4:7] == ("-", "-", "-")


def test_table_aligns_texts_to_the_left_and_numbers_to_the_right(good: Path) -> None:
    lines = kernels_report.table([kernels_report.judge(name, SOURCES) for name in ("trixie", "bookworm")])
    assert lines == [
        "series    kernel                         compiler    warnings  passed  failed  skipped  minutes",
        "trixie    6.12.1+deb13-amd64 (6.12.1-1)  gcc 14.2.0         0       7       0        2      3.0",
        "bookworm  -                              -                  -       -       -        -        -  not built",
    ]


@pytest.mark.parametrize(("names", "status"), [(["trixie"], 0), (["trixie", "bookworm"], 1), ([], 1)])
def test_report_is_1_unless_all_asked_for_are_good(
    good: Path, capsys: pytest.CaptureFixture[str], names: list[str], status: int
) -> None:
    assert kernels_command.main(["--report", *(f"--kernel={name}" for name in names)]) == status
    *rows, last = capsys.readouterr().out.splitlines()[1:]
    assert [row.split()[0] for row in rows] == (names or list(kernels_report.CHECKED))
    assert last == f"1 of {len(rows)} kernels are good; sources {SOURCES}, commit abcdef0"


Lab = Callable[..., list[str]]


@pytest.fixture
def lab(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab that builds and tests as it is told; returns what is done."""

    def provide(name: str) -> kernels.Kernel:
        kernel = kernels.known(name)
        if kernel is None:
            raise LabError("no route to host")
        return kernel

    def set_up(status: int = 0, failure: LabError | None = None, text: str = report()) -> list[str]:
        done: list[str] = []

        def build(name: str, *, warnings_are_errors: bool) -> None:
            done.append(f"build {name}")
            if failure:
                raise failure

        def run(argv: list[str]) -> int:
            kernel = next(word.partition("=")[2] for word in argv if word.startswith("PCIEDMA_KERNEL="))
            done.append(f"test {kernel}")
            assert f"PCIEDMA_SOURCES={SOURCES}" in argv
            target = next(word.partition("=")[2] for word in argv if word.startswith("--junit-xml="))
            Path(target).write_text(text)
            return status

        monkeypatch.setattr(modules, "build", build)
        monkeypatch.setattr(tools_command, "main", run)
        return done

    monkeypatch.setattr(kernels, "provide", provide)
    monkeypatch.setattr(kernels.Kernel, "release", BUILD.release)
    return set_up


def test_check_builds_and_tests_and_keeps_the_results(lab: Lab) -> None:
    done = lab()
    assert kernels_command.main(["--kernel=trixie", "--kernel=trixie-arm64"]) == 0
    assert done == ["build trixie", "test trixie", "build trixie-arm64"]
    assert kernels_command.main(["--kernel=trixie", "--report"]) == 0


def test_check_of_what_is_good_is_done_only_on_demand(good: Path, lab: Lab) -> None:
    done = lab()
    assert kernels_command.main(["--kernel=trixie"]) == 0
    assert done == []
    assert kernels_command.main(["--kernel=trixie", "--again"]) == 0
    assert done == ["build trixie", "test trixie"]


def test_check_goes_on_after_a_kernel_that_is_not_to_be_had(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    done = lab()
    assert kernels_command.main(["--kernel=bookworm", "--kernel=trixie"]) == 1
    assert done == ["build trixie", "test trixie"]
    captured = capsys.readouterr()
    assert "no route to host" in captured.err
    assert captured.out.splitlines()[1].split()[0] == "bookworm"


def test_check_goes_on_after_a_builder_that_is_not_to_be_had(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    done = lab(failure=LabError("mmdebstrap failed"))
    assert kernels_command.main(["--kernel=trixie", "--kernel=trixie-arm64"]) == 1
    assert done == ["build trixie", "build trixie-arm64"]
    captured = capsys.readouterr()
    assert "trixie-arm64: mmdebstrap failed" in captured.err
    assert [line.split()[0] for line in captured.out.splitlines()[1:3]] == ["trixie", "trixie-arm64"]


def test_check_failed_tests_leave_their_report_and_the_next_kernel_is_checked(lab: Lab) -> None:
    done = lab(status=1, text=report(failed=1))
    assert kernels_command.main(["--kernel=trixie", "--kernel=trixie-arm64"]) == 1
    assert done == ["build trixie", "test trixie", "build trixie-arm64"]
    assert problems() == ("tests failed",)


@pytest.mark.parametrize("status", [2, 3, 4, 5, 125])
def test_check_that_did_not_come_to_the_end_leaves_no_report(good: Path, lab: Lab, status: int) -> None:
    lab(status=status)
    assert kernels_command.main(["--kernel=trixie", "--again"]) == 1
    assert problems() == ("no report of the tests",)


def test_check_during_which_the_sources_change_does_not_count(
    good: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = lab()
    monkeypatch.setattr(kernels_report, "sources", lambda: "edited" if "test trixie" in done else SOURCES)
    assert kernels_command.main(["--kernel=trixie", "--again"]) == 1
    assert problems() == ("not built",)
    assert not kernels_report.tests_report("trixie").exists()


def test_check_by_two_runs_is_done_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    done = lab()
    both_want = threading.Barrier(2)
    provide = kernels.provide

    def wait(name: str) -> kernels.Kernel:
        both_want.wait(60)
        return provide(name)

    def run(argv: list[str], test: Callable[[list[str]], int] = tools_command.main) -> int:
        time.sleep(0.2)
        return test(argv)

    monkeypatch.setattr(kernels, "provide", wait)
    monkeypatch.setattr(tools_command, "main", run)
    cache.together(*[lambda: kernels_command.check("trixie", again=False)] * 2)
    assert done == ["build trixie", "test trixie"]
    assert problems() == ()


def test_check_warnings_are_counted_and_the_tests_run_all_the_same(lab: Lab) -> None:
    done = lab(failure=modules.BuildFailed("core/main.c:1: warning: x", warnings=2))
    assert kernels_command.main(["--kernel=trixie"]) == 1
    assert done == ["build trixie", "test trixie"]
    row = kernels_report.judge("trixie", SOURCES)
    assert (row.problems, row.cells()[3:5]) == (("warnings",), ("2", "7"))


def test_check_what_does_not_build_is_not_tested(good: Path, lab: Lab) -> None:
    done = lab(failure=modules.BuildFailed("core/main.c:1: error: x"))
    assert kernels_command.main(["--kernel=trixie", "--again"]) == 1
    assert done == ["build trixie"]
    assert kernels_report.judge("trixie", SOURCES).cells()[3:5] == ("-", "-")


def test_compiler_is_the_one_that_the_module_names(tmp_path: Path) -> None:
    module = tmp_path / "pciedma.ko"
    assert kernels_command.compiler(module) == ""
    module.write_bytes(b"\x7fELF\0GCC: (Debian 12.2.0-14+deb12u1) 12.2.0\0GCC: (Debian")
    assert kernels_command.compiler(module) == "gcc 12.2.0"
