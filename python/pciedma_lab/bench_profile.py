"""Which functions of the kernel the instructions of a request are in."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from . import cache
from .bench_measure import Bench, ready, request, warm_up
from .bench_plan import MIB, Case
from .instruction_log import Stretches, Symbols, read_symbols, recorded
from .machine import Machine, Process

_GUEST = "pciedma_lab.guest.counting:between_marks"
_READY_SECONDS, _LOG_SECONDS, _END_SECONDS = 120, 900, 300
_LOOK_SECONDS = 0.02
#: A log of more would only take longer.
_REQUESTS_OF_MANY, _REQUESTS_OF_LARGE = 100, 10
#: Of all instructions, what a function must have to be printed in a line of its own.
_LEAST_SHARE = 0.001


@dataclass(frozen=True)
class Profile:
    """The instructions of one request of a case, beyond those of an empty one."""

    case: Case
    kernel: str
    #: Of the requesting thread.
    thread: float
    #: Of the whole machine, by function; what an empty request executes there is taken off, so that few are below 0.
    functions: dict[str, float]

    def text(self, other: Profile | None = None) -> str:
        """Return the functions in the order of their instructions, with their shares; and those of an *other* state."""
        columns = [self.functions] if other is None else [self.functions, other.functions]
        wholes = [sum(column.values()) for column in columns]
        counts = {name: [column.get(name, 0.0) for column in columns] for name in chain(*columns)}
        shown = {name: row for name, row in counts.items() if max(map(abs, row)) >= _LEAST_SHARE * max(wholes)}
        rows = sorted(shown.items(), key=lambda item: (-max(item[1]), item[0]))
        rest = [whole - sum(row[place] for row in shown.values()) for place, whole in enumerate(wholes)]
        rows += [(f"{len(counts) - len(shown)} others", rest), ("all", wholes)]
        rows.append(("of these, for the thread", [self.thread] if other is None else [self.thread, other.thread]))
        title = f"{self.case.name}, kernel {self.kernel}: instructions of a request"
        lines = [title if other is None else f"{title}, of this state and of the other"]
        return "\n".join([*lines, *(_line(wholes, *row) for row in rows)])


def _line(wholes: Sequence[float], name: str, row: Sequence[float]) -> str:
    cells = [f"{count:12,.1f} {count / whole:7.1%}" for count, whole in zip(row, wholes, strict=True)]
    return f"{''.join(cells)}  {name}"


def profile(kernel: str, todo: Sequence[Case], driver: Sequence[Path] = ()) -> list[Profile]:
    """Profile cases, all of one boot on which instructions are counted; *driver* as for measure()."""
    found = []
    with ready(kernel, todo[0].boot, driver) as bench:
        symbols = read_symbols(bench.vm)
        for number, case in enumerate(todo):
            found.append(profile_row(bench, case, symbols))
            cache.say(f"{case.boot}: {number + 1} of {len(todo)} profiles")
    return found


def profile_row(bench: Bench, case: Case, symbols: Symbols, requests: int | None = None) -> Profile:
    """Profile one case, with the *symbols* of the machine's kernel, by so many requests or as many as usual."""
    bench.set_path(case)
    vm, shared = bench.vm, Path(tempfile.mkdtemp(prefix="profile-", dir=bench.vm.guest.results))
    usual = _REQUESTS_OF_MANY if case.length < MIB else _REQUESTS_OF_LARGE
    limits = {"warm": warm_up(case), "requests": requests or usual}
    process = vm.start_call(
        _GUEST, path=f"{bench.node}0", folder=f"/mnt/results/{shared.name}", **request(case), **limits
    )
    marks = json.loads(_wait_for(vm, process, shared / "marks").read_text())
    stretches = Stretches(**marks, wanted=2)
    with recorded(vm, stretches):
        (shared / "go").touch()
        _wait(vm, process, stretches.complete.is_set, _LOG_SECONDS)
    done = process.value(_END_SECONDS)
    whole, empty = map(symbols.by_function, stretches.counts)
    made = done["requests"]
    each = {name: (whole.get(name, 0) - empty.get(name, 0)) / made for name in whole | empty}
    return Profile(case, vm.kernel_release, (done["thread"] - done["thread_empty"]) / made, each)


def _wait(vm: Machine, process: Process, condition: Callable[[], bool], timeout_s: float) -> None:
    """Wait for what a call brings about before it ends."""
    end = time.monotonic() + timeout_s
    while not condition():
        if process.done:
            process.value()
            raise vm.failure("the call has ended too early")
        if time.monotonic() > end:
            raise vm.failure(f"the guest has not come so far within {timeout_s} s")
        vm.check_alive()
        time.sleep(_LOOK_SECONDS)


def _wait_for(vm: Machine, process: Process, path: Path) -> Path:
    _wait(vm, process, path.exists, _READY_SECONDS)
    return path
