"""The debug kernel's configuration, what leaks count, and the driver's coverage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pciedma_lab import coverage_command, debug_kernel, verdict
from pciedma_lab.cache import LabError
from pciedma_lab.chroot import Chroot
from pciedma_lab.guest import debug_reports
from pciedma_lab.machine import VERDICT

FRAGMENT = "CONFIG_KASAN=y\n# CONFIG_SLUB_TINY is not set\nCONFIG_NR_CPUS=4\n"


def test_options_that_survived_are_not_missed() -> None:
    config = "# CONFIG_SLUB_TINY is not set\nCONFIG_OTHER=y\nCONFIG_KASAN=y\nCONFIG_NR_CPUS=4\n"
    assert debug_kernel.lost_options(FRAGMENT, config) == []


@pytest.mark.parametrize(
    ("config", "lost"),
    [("CONFIG_NR_CPUS=4\n# CONFIG_SLUB_TINY is not set\n", ["CONFIG_KASAN"]),
     ("CONFIG_KASAN=y\nCONFIG_NR_CPUS=64\n# CONFIG_SLUB_TINY is not set\n", ["CONFIG_NR_CPUS"]),
     ("CONFIG_KASAN=y\nCONFIG_NR_CPUS=4\nCONFIG_SLUB_TINY=y\n", ["CONFIG_SLUB_TINY"])],
)
def test_each_lost_option_is_named(config: str, lost: list[str]) -> None:
    assert debug_kernel.lost_options(FRAGMENT, config) == lost


def test_the_fragment_asks_for_the_debuggers() -> None:
    options = debug_kernel.wanted_options(debug_kernel.CONFIG.read_text())
    for name in ("KASAN", "PROVE_LOCKING", "DEBUG_ATOMIC_SLEEP", "DMA_API_DEBUG_SG", "DEBUG_KMEMLEAK", "UBSAN",
                 "DEBUG_OBJECTS", "FAILSLAB", "GCOV_KERNEL"):
        assert options[f"CONFIG_{name}"] == "y"
    assert options["CONFIG_SLUB_TINY"] is None


def test_source_package_is_read_from_what_apt_prints() -> None:
    line = "'http://x/linux-source_6.12.107-1_all.deb' linux-source_6.12.107-1_all.deb 1 SHA256:0\n"
    line += "'http://x/linux-source-6.12_6.12.107-1_all.deb' linux-source-6.12_6.12.107-1_all.deb 1 SHA256:0\n"
    assert debug_kernel.source_package(line) == ("linux-source-6.12", "6.12.107-1")
    with pytest.raises(LabError):
        debug_kernel.source_package("nothing")


def test_only_our_modules_objects_are_leaks() -> None:
    start = "unreferenced object 0xffff1 (size 8):\n  hex dump:\n    00 00  ..\n  backtrace (crc 0):\n"
    start += "    kmalloc+0x1/0x2\n"
    other = f"{start}    some_driver+0x2/0x3\n"
    named = f"{start}    channel_open+0x2/0x3 [pciedma]\n"
    unloaded = f"{start}    0xffffffffa0001234\n    do_one_initcall+0xa1/0x3f0\n"
    assert verdict.leaks("") == ([], [])
    assert verdict.leaks(other + named + unloaded) == ([named, unloaded], [other])


def test_coverage_sums_documents_and_leaves_headers_out() -> None:
    def document(*counts: int) -> str:
        lines = [{"line_number": n, "count": count} for n, count in enumerate(counts, 1)]
        return json.dumps({"files": [
            {"file": "/somewhere/build/debug/src/core/engine/engine.c", "lines": lines},
            {"file": "include/linux/list.h", "lines": lines},
            {"file": "/somewhere/build/debug/src-loop-0/cards/loop.c", "lines": lines},
        ]})

    other = document(2, 3, 0).replace("/src/", "/checked-loop-0/")
    lines = coverage_command.merged([document(1, 0, 0), other])
    assert lines == {"core/engine/engine.c": {1: 3, 2: 3, 3: 0}}
    assert coverage_command.table(lines)[-1].split() == ["all", "2", "of", "3", "lines", "66.7", "%"]
    line = coverage_command.closing_line(lines, 4, 0, 99)
    assert line == "the debug kernel: 99 tests passed; 4 machines, 0 reports; 66.7 % of the driver's lines ran"


def test_machine_keeps_the_counts_of_all_folders_that_modules_are_built_in(tmp_path: Path) -> None:
    built = tmp_path / "gcov/home/a/build/debug"
    ours = ("src/core/a.gcda", "src-loop-0/core/a.gcda", "checked-loop-0/cards/loop.gcda")
    for name in (*ours, "debug_probe/pciedma_probe.gcda", "src/core/a.gcno"):
        (built / name).parent.mkdir(parents=True, exist_ok=True)
        (built / name).write_text(name)
    kept = tmp_path / "results/gcda"
    debug_reports.keep_coverage(str(tmp_path / "gcov"), str(kept))
    assert {str(path.relative_to(kept)) for path in kept.rglob("*.gcda")} == {*ours}
    assert (kept / ours[1]).read_text() == ours[1]


def test_counts_are_read_beside_what_the_compiler_left_in_the_same_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(self: Chroot, argv: list[str], cwd: Path) -> str:
        counts = [int((cwd / name).with_suffix(".gcda").read_text()) for name in argv[3:]]
        lines = [{"line_number": 1, "count": sum(counts)}]
        return json.dumps({"files": [{"file": f"{cwd}/core/engine/engine.c", "lines": lines}]})

    results = tmp_path / "results/gcda"
    for folder, count in (("src", "1"), ("src-loop-0", "10")):
        engine = Path(folder, "core/engine/engine")
        for path in (tmp_path / "debug" / f"{engine}.gcno", results / f"{engine}.gcda"):
            path.parent.mkdir(parents=True)
            path.write_text(count)
    (results / "of-modules-that-are-gone/core").mkdir(parents=True)
    monkeypatch.setattr(coverage_command, "_BUILT", tmp_path / "debug")
    monkeypatch.setattr(Chroot, "run", run)
    assert coverage_command.collect([results, tmp_path / "no-module-loaded"]) == {"core/engine/engine.c": {1: 11}}


def test_machine_that_was_not_judged_counts_as_a_report(tmp_path: Path) -> None:
    for name, verdict_text in (("clean", "[]"), ("bad", '["WARNING", "leaked"]')):
        (tmp_path / name).mkdir()
        (tmp_path / name / VERDICT).write_text(verdict_text)
    assert coverage_command.count_reports([tmp_path / "clean"]) == 0
    assert coverage_command.count_reports([tmp_path / name for name in ("clean", "bad", "crashed")]) == 3
