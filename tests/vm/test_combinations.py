"""What may befall a request, by every card, way in, wait mode, length and IOMMU: each two of them together, or all."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from pciedma_lab import modules
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine

from .conftest import KERNEL, Lab, make_lab

#: What the cards do meanwhile, by what befalls the request.
FAULTS = {
    "on_time": "jitter=0-1000", "stopped": "delay=300000*1", "killed": "delay=300000*1", "hung": "stall*1",
    "unpinnable": "", "direct": "",
}
FACTORS = {
    "iommu": ("off", "strict", "swiotlb"), "card": ("capric", "xdma", "edu"), "point": tuple(FAULTS),
    "way": ("pread", "aio", "io_uring"), "wait_mode": ("INTERRUPT", "POLL", "ADAPTIVE"),
    "length": (100, 2000, 4000, 70_000),
}
#: The longest request of a card.
LONGEST = {"capric": 2047, "xdma": 70_000, "edu": 4096 - 77}
Case = dict[str, str | int]


def every() -> list[Case]:
    """All that can be; edu cannot be made to hang."""
    cases = [dict(zip(FACTORS, values, strict=True)) for values in itertools.product(*FACTORS.values())]
    return [
        case for case in cases
        if int(case["length"]) <= LONGEST[str(case["card"])] and (case["card"], case["point"]) != ("edu", "hung")
    ]


def pairs(case: Case) -> set[tuple[tuple[str, str | int], ...]]:
    """Each two values of a case."""
    return set(itertools.combinations(case.items(), 2))


def pairwise(cases: list[Case]) -> list[Case]:
    """Some of the cases, in which each two values come together that do so in any."""
    left = set().union(*map(pairs, cases))
    chosen = []
    while left:
        chosen.append(max(cases, key=lambda case: len(pairs(case) & left)))
        left -= pairs(chosen[-1])
    return chosen


CASES = every() if os.environ.get("PCIEDMA_COMBINATIONS") == "all" else pairwise(every())


@pytest.fixture(scope="module", params=FACTORS["iommu"])
def translated(request: pytest.FixtureRequest) -> Iterator[tuple[str, Lab]]:
    """The way from the cards to memory, and a machine that has it; the strict one is that of the other tests."""
    if request.param == "strict":
        yield request.param, request.getfixturevalue("machine")
        return
    modules.build(KERNEL)
    cards = [EmulatedCard("capric"), EmulatedCard("xdma")]
    options = {"swiotlb_force": request.param == "swiotlb"}
    with Machine(KERNEL, cards=cards, edu=1, time_limit_s=3000, **options) as vm:
        yield request.param, make_lab(vm, *cards)


def test_two_factors_together_change_nothing(translated: tuple[str, Lab]) -> None:
    iommu, lab = translated
    wrong = []
    for case in CASES:
        if case["iommu"] != iommu:
            continue
        options = {name: value for name, value in case.items() if name not in ("iommu", "card")}
        model = lab.cards.get(str(case["card"]))
        if model and (fault := FAULTS[str(case["point"])]):
            model.control.set_fault(fault)
        found = lab.call("combinations:run", path=lab.nodes[str(case["card"])] + "c0", **options)
        if found:
            wrong.append((case, found))
        if model:
            model.control.clear_faults()
    assert wrong == []
