"""Interrupts and polling: what a handler does, what others see of it, and who polls."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine

from .conftest import KERNEL, Lab, make_lab


def _vectors(lab: Lab, card: str) -> set[str]:
    """Return what /proc/interrupts calls the vectors of a card, without the card's name."""
    name = lab.nodes[card].removeprefix("/dev/")
    words = lab.vm.run(["cat", "/proc/interrupts"]).stdout.split()
    return {word.removeprefix(name) for word in words if word == name or word.startswith(f"{name}-")}


def test_vectors_have_names(lab: Lab) -> None:
    assert _vectors(lab, "xdma") == {"-c0-c2h", "-c0-h2c", "-events"}
    assert _vectors(lab, "capric") == {""}  # one for both
    assert _vectors(lab, "edu") == {"-c0"}


def test_processes_that_poll_look_only_in_turn(lab: Lab) -> None:
    """Four on two processors: one that looks although another's transfer comes first keeps that one from its end."""
    found = lab.call("pollers:crowd", path=lab.memory)
    assert found["in_turn"] > 0
    assert found["out_of_turn"] == 0
    print(found)


@pytest.fixture(scope="module", params=["msi", "4ch"])
def several(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A card whose engines share a vector, and one whose engines do not."""
    xdma = EmulatedCard("xdma", variant=request.param)
    with Machine(KERNEL, cards=[xdma], time_limit_s=300) as vm:
        yield make_lab(vm, xdma)


def test_interrupts_beside_pollers_have_a_budget_and_are_all_handled(several: Lab) -> None:
    looks = several.looks()
    found = several.call("pollers:beside_a_client", path=several.memory)
    assert found["requests"] > 0
    assert found["interrupts"] > 0
    assert found["unhandled"] == 0
    assert found["most"] <= 2 * (8 + 2)  # two looks at what can be with the engine
    assert several.looks() == looks
