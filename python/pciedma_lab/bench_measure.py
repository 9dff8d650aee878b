"""The benchmark's machines, and what the requests of a row cost on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import cache
from .bench_plan import FIGURES, INSTRUCTIONS, KIB, MIB, PAGE, TIMES, Case
from .cache import LabError
from .card_process import EmulatedCard
from .machine import Machine

_TIMED, _COUNTED = "pciedma_lab.guest.benchmark", "pciedma_lab.guest.counting"
#: What the emulated link of each engine moves, in MB/s.
LINK_MB_S = 1000
#: A card for which instructions are counted does all that it has been told when a register is read, before the read is
#: answered; if nobody reads, after a time. So what it does, and when, does not depend on how fast its host is.
_UNTIL_READ = (f"delayed_writes={20 * 10**6}", "early_completion")
#: Of a machine that counts: whoever has nothing to do reads the card's registers, which is the kernel's to allow.
_COUNTING = {"icount": True, "cpus": 1, "words": ["iomem=relaxed"]}
#: Of one that measures times: memory for the largest requests.
_TIMING = {"memory_mib": 3072}
_SPINNER_READS = "reads.H2C0.IDENTIFIER"
_CHANNELS = 4
#: Card memory in which timed requests go round; the first access to a model's is slow, so it is written before.
_SPAN = 256 * MIB
_TIME_LIMIT_S = 3600
_COPY_ALL = 1 << 30  # a threshold that no request reaches
#: How long a timed row goes on, and its fewest and most requests.
_SECONDS, _LEAST, _MOST = 2.0, 3, 2000
_WARM = {"least": 3, "most": 3, "seconds": 0}
#: A counted row's requests are made by some processes in turn, each in so many rounds at most, after some that warm up.
_PROCESSES, _ROUNDS, _WARM_SHARE = 2, 4, 10


@dataclass(frozen=True)
class Bench:
    """A machine that is ready to measure."""

    vm: Machine
    card: EmulatedCard
    #: The beginning of the channels' nodes; a channel's number is the rest.
    node: str

    def set_path(self, case: Case) -> None:
        """Let requests be copied, or not, as the row wants it."""
        threshold = _COPY_ALL if case.path == "copy" else 0
        script = f"for f in /sys/class/pciedma/*/?2?/copy_threshold; do echo {threshold} > $f; done"
        if (done := self.vm.run(["sh", "-c", script])).returncode:
            raise LabError(f"the threshold cannot be set: {done.stderr}")


@contextmanager
def ready(kernel: str, boot: str, driver: Sequence[Path] = ()) -> Iterator[Bench]:
    """Boot a machine with the driver, or with another state of the *driver*: its modules."""
    card = EmulatedCard("xdma", variant=f"{_CHANNELS}ch")
    plain = Case(boot, 0)
    options: dict[str, Any] = _COUNTING if plain.is_counted else _TIMING
    with Machine(kernel, cards=[card], iommu=plain.has_iommu, time_limit_s=_TIME_LIMIT_S, **options) as vm:
        if driver:
            vm.load_foreign(driver, {})
        else:
            vm.load_modules()
        node = vm.run(["sh", "-c", "ls -d /dev/pciedma*c0"]).stdout.strip()[:-1]
        if plain.is_counted:
            _begin_counting(vm, card, node)
        else:
            vm.call(f"{_TIMED}:fill", 300, path=f"{node}0", span=_SPAN)
            card.control.set_fault(f"bandwidth={LINK_MB_S}")
        yield Bench(vm, card, node)


def _begin_counting(vm: Machine, card: EmulatedCard, node: str) -> None:
    """Let the card keep to the guest's clock, and start the engines, which they do once."""
    for fault in _UNTIL_READ:
        card.control.set_fault(fault)
    for direction in ("read", "write"):
        once = request(Case("icount", 4 * KIB, direction, wait_mode="INTERRUPT"))
        vm.call(f"{_COUNTED}:count", 300, path=f"{node}0", warm=1, requests=1, rounds=1, **once)


def measure(kernel: str, boot: str, todo: Sequence[Case], driver: Sequence[Path] = ()) -> list[dict[str, Any]]:
    """Measure rows, all of one boot, with the driver or with another state of the *driver*: its modules."""
    rows = []
    with ready(kernel, boot, driver) as bench:
        for number, case in enumerate(todo):
            rows.append(measure_row(bench, case))
            cache.say(f"{boot}: {number + 1} of {len(todo)} rows")
    return rows


def measure_row(bench: Bench, case: Case) -> dict[str, Any]:
    """Measure one row: its parameters, and the figures."""
    bench.set_path(case)
    figures = _counted(bench, case) if case.is_counted else _timed(bench, case)
    return {"kernel": bench.vm.kernel_release, **asdict(case), **{name: figures[name] for name in FIGURES}}


def request(case: Case) -> dict[str, Any]:
    """Return the words for the guest about a row's requests."""
    names = ("direction", "length", "wait_mode", "pages", "way", "depth")
    return {name: value for name, value in asdict(case).items() if name in names}


def warm_up(case: Case) -> int:
    """Return how many requests are made before any count."""
    return max(case.requests // _WARM_SHARE, 1)


def _timed(bench: Bench, case: Case) -> dict[str, Any]:
    paths = [f"{bench.node}{channel}" for channel in range(case.channels)]

    def measured(**limits: Any) -> dict[str, Any]:
        words = request(case) | limits
        found: dict[str, Any] = bench.vm.call(f"{_TIMED}:measure", 300, paths=paths, span=_SPAN, **words)
        return found

    measured(**_WARM)
    bench.card.control.counters(reset=True)
    found = measured(least=_LEAST, most=_MOST, seconds=_SECONDS)
    counters = bench.card.control.counters()
    rate = found["bytes"] / found["seconds"] / 1e6
    return {
        "link_mb_s": LINK_MB_S * case.channels,
        "throughput_mb_s": round(rate, 3),
        "share": round(rate / LINK_MB_S / case.channels, 4),
        "p50_us": round(found["p50_us"], 1),
        "p99_us": round(found["p99_us"], 1),
        "idle_share": round(_idle(counters, case), 4),
        **dict.fromkeys(INSTRUCTIONS),
        "requests": found["requests"],
        **_counts(counters, case, found["requests"]),
    }


def _counted(bench: Bench, case: Case) -> dict[str, Any]:
    """The clock counts instructions, so times say nothing."""
    bench.card.control.counters(reset=True)
    each = case.requests // _PROCESSES
    rounds = min(_ROUNDS, each)
    limits = {"warm": warm_up(case), "requests": each // rounds, "rounds": rounds}
    path = f"{bench.node}0"
    found = [bench.vm.call(f"{_COUNTED}:count", 600, path=path, **request(case), **limits) for _ in range(_PROCESSES)]
    counters = bench.card.control.counters()
    counters["mmio_reads"] -= counters[_SPINNER_READS]
    thread, all_ = (sorted(value for one in found for value in one[name]) for name in ("thread", "all"))
    return {
        **dict.fromkeys(TIMES),
        "instructions": round(lower_quartile(thread)),
        "instructions_all": round(all_[0]),
        "instructions_page": round(all_[0] * PAGE / case.length, 1) if case.length >= PAGE else None,
        "requests": sum(rounds * one["requests"] for one in found),
        **_counts(counters, case, sum(one["made"] for one in found)),
    }


def lower_quartile(values: Sequence[float]) -> float:
    """Return the value that a quarter is below.

    Of what a thread executes the least would be too little: what the kernel puts off is done in anybody's time.
    """
    return sorted(values)[len(values) // 4]


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
        "mmio_reads": round(counters.get("mmio_reads", 0) / requests, 3),
        "mmio_writes": round(counters["mmio_writes"] / requests, 3),
        "interrupts": round(counters.get("interrupts", 0) / requests, 3),
        "descriptors": round(descriptors / requests, 3),
    }
