"""A card that the driver lets go of is as a reset leaves it: another driver works at once."""

from __future__ import annotations

from .conftest import Lab

#: XDMA's registers that the driver sets, and that a reset clears.
XDMA = {
    "H2C CONTROL": 0x0004, "H2C IRQ_MASK": 0x0090, "H2C POLL_ADDRESS_LO": 0x0088, "C2H CONTROL": 0x1004,
    "C2H IRQ_MASK": 0x1090, "C2H POLL_ADDRESS_LO": 0x1088, "USER_ENABLE": 0x2004, "CHANNEL_ENABLE": 0x2010,
    "USER_VECTORS": 0x2080, "CHANNEL_VECTORS": 0x20A0, "H2C FIRST_DESCRIPTOR_LO": 0x4080,
    "C2H FIRST_DESCRIPTOR_LO": 0x5080, "C2H FIRST_ADJACENT": 0x5088, "CREDIT_ENABLE": 0x6020,
}
CAPRIC = {"DCSR1": 0x00, "DCSR2": 0x04, "INT_REG": 0x2C}
CARDS = {"capric": CAPRIC, "xdma": XDMA}


def _left_on(lab: Lab, card: str, registers: dict[str, int]) -> dict[str, int]:
    """Return the registers that are not 0."""
    address = lab.addresses[card]
    values = {name: lab.call("registers:read", address=address, bar=0, offset=at) for name, at in registers.items()}
    return {name: value for name, value in values.items() if value}


def test_card_that_was_let_go_of_has_nothing_switched_on(lab: Lab) -> None:
    """After unbind, idle and with an engine that cannot be stopped, and after rmmod."""
    resets = [lab.cards[card].control.counters().get("resets", 0) for card in CARDS]
    for stalled in (False, True):
        lab.echo(5)
        lab.there_and_back()
        if stalled:
            lab.begin_stalled("memory:begun", path=lab.memory, way="sync")
        for card in CARDS:
            lab.call("processes:unbind", driver=f"pciedma_{card}", address=lab.addresses[card])
        for card, registers in CARDS.items():
            assert _left_on(lab, card, registers) == {}
        if not stalled:  # and it was not a reset that did it
            assert [lab.cards[card].control.counters().get("resets", 0) for card in CARDS] == resets
        for card in CARDS:
            lab.call("processes:bind", driver=f"pciedma_{card}", address=lab.addresses[card])
        lab.find()
    lab.echo(5)
    lab.there_and_back()
    lab.vm.unload_modules()
    for card, registers in CARDS.items():
        assert _left_on(lab, card, registers) == {}
    lab.vm.load_modules()
    lab.find()
