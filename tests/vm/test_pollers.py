"""Interrupts and polling: what a handler does, what others see of it, and who polls."""

from __future__ import annotations

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
    sources = lab.vm.run(["grep", "pciedma", "/proc/interrupts"]).stdout.splitlines()
    assert all("MSI" in line for line in sources)


def test_processes_that_poll_look_only_in_turn(lab: Lab) -> None:
    """Four on two processors: one that looks although another's transfer comes first keeps that one from its end."""
    found = lab.call("pollers:crowd", path=lab.memory)
    assert found["in_turn"] > 0
    assert found["out_of_turn"] == 0
    print(found)


def test_process_that_polls_does_not_wait_for_another_that_is_elsewhere(lab: Lab) -> None:
    found = lab.call("queues:beside_one_that_is_away", path=lab.memory)
    assert found == {"moved": 4096, "soon": True, "away": [14 << 20]}


@pytest.mark.stock_kernel  # the debug kernel has no kprobes
def test_interrupts_beside_pollers_have_a_budget_and_are_all_handled() -> None:
    """Of a card whose engines share a vector, and of one whose engines do not."""
    cards = [EmulatedCard("xdma", variant="msi"), EmulatedCard("xdma", variant="4ch")]
    with Machine(KERNEL, cards=cards, time_limit_s=300) as vm:
        lab = make_lab(vm, *cards)
        for key in lab.cards:
            found = lab.call("pollers:beside_a_client", path=lab.nodes[key] + "c0")
            assert found["requests"] > 0
            assert found["interrupts"] > 0
            assert found["returns"] > 0
            assert found["unhandled"] == 0
            assert found["most"] <= 2 * (8 + 2)  # two looks at what can be with the engine
        assert set(lab.looks().values()) == {0}
