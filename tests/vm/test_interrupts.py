"""How a card interrupts is what the kernel has switched on, whatever else the card could do."""

from __future__ import annotations

from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine

from .conftest import KERNEL, PATIENT_MS, make_lab


def test_every_end_comes_by_the_pin_where_the_kernel_uses_no_messages() -> None:
    """Of cards that have messages, one of them both kinds, and of one that has none; test_pollers.py has messages."""
    cards = [
        EmulatedCard("capric"), EmulatedCard("capric", variant="intx"), EmulatedCard("xdma"),
        EmulatedCard("xdma", variant="msi-msix"),
    ]
    with Machine(KERNEL, iommu=True, words=["pci=nomsi"], cards=cards, time_limit_s=300) as vm:
        lab = make_lab(vm, *cards)
        for key, card in lab.cards.items():
            path = lab.nodes[key] + "c0"
            with lab.drain_bound(key, PATIENT_MS):
                if card.name == "capric":
                    assert lab.call("transfers:echo", path=path, count=100)["errors"] == 0
                else:
                    options = {"lengths": [1, 5000, 3 << 20], "wait_mode": "INTERRUPT"}
                    assert lab.call("memory:there_and_back", path=path, **options) == []
            assert card.control.counters()["interrupts"] > 10
            if card.name == "capric":
                card.control.set_fault("error=ur*1")
                assert lab.call("transfers:one", path=path, direction="write")["class"] == "TransferError"
                assert lab.call("transfers:echo", path=path, count=10)["errors"] == 0
        assert set(lab.looks().values()) == {0}
        sources = vm.run(["grep", "pciedma", "/proc/interrupts"]).stdout.splitlines()
        assert len(sources) >= 4
        assert not any("MSI" in line for line in sources)
        vm.unload_modules()
