"""How a card interrupts is what the kernel has switched on, whatever else the card could do."""

from __future__ import annotations

import pytest

from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine

from .conftest import KERNEL, make_lab


@pytest.mark.parametrize("words", [["pci=nomsi"], []], ids=["intx", "messages"])
def test_every_end_comes_by_an_interrupt(words: list[str]) -> None:
    """Cards that have messages, one of them both kinds, in a kernel that uses them and in one that does not."""
    cards = [EmulatedCard("capric"), EmulatedCard("xdma"), EmulatedCard("xdma", variant="msi-msix")]
    with Machine(KERNEL, iommu=True, words=words, cards=cards, time_limit_s=300) as vm:
        lab = make_lab(vm, *cards[:2])
        xdma = vm.run(["sh", "-c", "grep -l xdma /sys/class/pciedma/*/card"]).stdout.split()
        assert len(xdma) == 2
        lab.echo(100, wait_mode="INTERRUPT")
        for file in xdma:
            path = f"/dev/{file.split('/')[4]}c0"
            options = {"lengths": [1, 5000, 3 << 20], "wait_mode": "INTERRUPT"}
            assert lab.call("memory:there_and_back", path=path, **options) == []
        assert vm.run(["sh", "-c", "cat /sys/class/pciedma/*/*/looks"]).stdout.split() == ["0"] * 6
        for card in cards:
            assert card.control.counters()["interrupts"] > 10
        sources = vm.run(["grep", "pciedma", "/proc/interrupts"]).stdout.splitlines()
        assert len(sources) >= 3
        assert ["MSI" in line for line in sources] == [not words] * len(sources)
