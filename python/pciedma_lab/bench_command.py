"""The command ``bench``: measure requests through the XDMA driver, and write the figures and a report with plots."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import bench_report, cache, modules
from .bench_plan import MIB, Case, cases
from .cache import LabError
from .card_process import EmulatedCard
from .machine import Machine, MachineFailed, prepare

_GUEST = "pciedma_lab.guest.benchmark"
BOOTS = ("off", "strict", "icount")
#: What the emulated link of each engine moves, in MB/s.
LINK_MB_S = 1000
_CHANNELS = 4
#: Card memory in which the requests go round; the first access to a model's memory is slow, so it is written before.
_SPAN = 256 * MIB
_MEMORY_MIB = 3072
_COPY_ALL = 1 << 30  # a threshold that no request reaches
#: How long a row goes on, and its fewest and most requests.
_SECONDS, _LEAST, _MOST = 2.0, 3, 2000
_WARM = {"least": 3, "most": 3, "seconds": 0}
_COUNTED = {"least": 50, "most": 50, "seconds": 0}


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="pciedma_lab bench", description=__doc__)
    parser.add_argument("--kernel", default="trixie")
    parser.add_argument("--boot", choices=BOOTS, action="append", help="only the rows of this boot; may be repeated")
    parser.add_argument("--output", type=Path, default=modules.BUILD / "bench.json", help="and .html beside it")
    arguments = parser.parse_args(argv)
    begin = time.monotonic()
    rows: list[dict[str, Any]] = []
    try:
        prepare(arguments.kernel)
        for boot in arguments.boot or BOOTS:
            rows += measure(arguments.kernel, boot, cases(boot))
    except (LabError, MachineFailed) as error:
        print(f"pciedma_lab: {error}", file=sys.stderr)
        return 1
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(rows, indent=1) + "\n")
    page = arguments.output.with_suffix(".html")
    page.write_text(bench_report.html(rows))
    print(f"{len(rows)} rows in {time.monotonic() - begin:.0f} s: {arguments.output}, {page}")
    return 0


def measure(kernel: str, boot: str, todo: Sequence[Case]) -> list[dict[str, Any]]:
    """Measure rows, all of one boot."""
    card = EmulatedCard("xdma", variant=f"{_CHANNELS}ch")
    iommu, icount = boot != "off", boot == "icount"
    with Machine(kernel, cards=[card], iommu=iommu, icount=icount, memory_mib=_MEMORY_MIB, time_limit_s=900) as vm:
        vm.load_modules()
        node = vm.run(["sh", "-c", "ls -d /dev/pciedma*c0"]).stdout.strip()[:-1]
        vm.call(f"{_GUEST}:fill", 300, path=f"{node}0", span=_SPAN)
        card.control.set_fault(f"bandwidth={LINK_MB_S}")
        rows = []
        for number, case in enumerate(todo):
            rows.append({"kernel": vm.kernel_release, **_row(vm, card, node, case)})
            cache.say(f"{boot}: {number + 1} of {len(todo)} rows")
    return rows


def _row(vm: Machine, card: EmulatedCard, node: str, case: Case) -> dict[str, Any]:
    """Measure one row: its parameters, and the figures."""
    threshold = _COPY_ALL if case.path == "copy" else 0
    script = f"for f in /sys/class/pciedma/*/?2?/copy_threshold; do echo {threshold} > $f; done"
    if (done := vm.run(["sh", "-c", script])).returncode:
        raise LabError(f"the threshold cannot be set: {done.stderr}")
    if case.boot == "icount":
        return asdict(case) | _counted(vm, card, node, case)
    return asdict(case) | _timed(vm, card, node, case)


def _measure(vm: Machine, node: str, case: Case, **limits: Any) -> dict[str, Any]:
    names = ("direction", "length", "wait_mode", "pages", "way", "depth")
    request = {name: value for name, value in asdict(case).items() if name in names} | limits
    paths = [f"{node}{channel}" for channel in range(case.channels)]
    result: dict[str, Any] = vm.call(f"{_GUEST}:measure", 300, paths=paths, span=_SPAN, **request)
    return result


def _timed(vm: Machine, card: EmulatedCard, node: str, case: Case) -> dict[str, Any]:
    _measure(vm, node, case, **_WARM)
    card.control.counters(reset=True)
    found = _measure(vm, node, case, least=_LEAST, most=_MOST, seconds=_SECONDS)
    counters = card.control.counters()
    rate = found["bytes"] / found["seconds"] / 1e6
    return {
        "link_mb_s": LINK_MB_S * case.channels,
        "throughput_mb_s": round(rate, 3),
        "share": round(rate / LINK_MB_S / case.channels, 4),
        "p50_us": round(found["p50_us"], 1),
        "p99_us": round(found["p99_us"], 1),
        "idle_share": round(_idle(counters, case), 4),
        "instructions": None,
        **_counts(counters, case, found["requests"]),
    }


def _counted(vm: Machine, card: EmulatedCard, node: str, case: Case) -> dict[str, Any]:
    """The clock counts instructions, so times say nothing; what an empty request costs is taken off."""
    _measure(vm, node, case, **_WARM)
    card.control.counters(reset=True)
    found = _measure(vm, node, case, **_COUNTED)
    counters = card.control.counters()
    empty = _measure(vm, node, case, empty=True, **_COUNTED)
    cost = found["thread_ns"] / found["requests"] - empty["thread_ns"] / empty["requests"]
    names = ("link_mb_s", "throughput_mb_s", "share", "p50_us", "p99_us", "idle_share")
    return {
        **dict.fromkeys(names),
        "instructions": round(cost),
        **_counts(counters, case, found["requests"]),
    }


def _engines(case: Case) -> list[str]:
    return [f"{'c2h' if case.direction == 'read' else 'h2c'}{channel}" for channel in range(case.channels)]


def _idle(counters: dict[str, int], case: Case) -> float:
    """Return for which share of the time, from the first descriptor to the last, an engine had nothing to do."""
    shares = []
    for engine in _engines(case):
        whole = counters[f"{engine}_last_ns"] - counters[f"{engine}_first_ns"]
        shares.append(1 - counters[f"{engine}_busy_ns"] / whole)
    return max(sum(shares) / len(shares), 0)


def _counts(counters: dict[str, int], case: Case, requests: int) -> dict[str, Any]:
    """Return what one request costs in accesses, interrupts and descriptors."""
    descriptors = sum(counters[f"{engine}_descriptors"] for engine in _engines(case))
    return {
        "requests": requests,
        "mmio_reads": round(counters.get("mmio_reads", 0) / requests, 3),
        "mmio_writes": round(counters["mmio_writes"] / requests, 3),
        "interrupts": round(counters.get("interrupts", 0) / requests, 3),
        "descriptors": round(descriptors / requests, 3),
    }
