"""What may befall a request, by every card, way in, wait mode, length and IOMMU: each two of them together, or all."""

from __future__ import annotations

import itertools
import os

import pytest

from pciedma_lab.machine import GuestError

from .conftest import Lab

#: What the cards do meanwhile, by what befalls the request.
FAULTS = {
    "on_time": "jitter=0-1000", "slow": "bandwidth=1", "stopped": "delay=300000*1", "killed": "delay=300000*1",
    "hung": "stall*1", "unpinnable": "", "direct": "",
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
    """All that can be; edu cannot be made to hang, and only xdma's longest takes longer than a slow card's time-out."""
    cases = [dict(zip(FACTORS, values, strict=True)) for values in itertools.product(*FACTORS.values())]
    return [
        case for case in cases
        if int(case["length"]) <= LONGEST[str(case["card"])] and (case["card"], case["point"]) != ("edu", "hung")
        and (case["point"] != "slow" or (case["card"], case["length"]) == ("xdma", LONGEST["xdma"]))
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


@pytest.mark.parametrize(
    ("iommu", "fixture"), [("off", "untranslated"), ("strict", "machine"), ("swiotlb", "bounced")],
)
def test_two_factors_together_change_nothing(iommu: str, fixture: str, request: pytest.FixtureRequest) -> None:
    lab: Lab = request.getfixturevalue(fixture)
    lab.restore()
    wrong = []
    for case in CASES:
        if case["iommu"] == iommu and (found := _try(lab, case)):
            wrong.append((case, found))
    assert wrong == []


def _try(lab: Lab, case: Case) -> object:
    """Try a case; returns what was wrong."""
    card, point = str(case["card"]), str(case["point"])
    options = {name: value for name, value in case.items() if name not in ("iommu", "card")}
    model = lab.cards.get(card)
    if model and FAULTS[point]:
        model.control.set_fault(FAULTS[point])
    try:
        found = lab.call("combinations:run", path=lab.nodes[card] + "c0", again=model is None, **options)
    except GuestError as error:
        found = str(error)
    if model:
        model.control.clear_faults()
        found = found or model.control.violations(clear=True)
    return found or lab.sysfs(card, "quarantined_bytes")
