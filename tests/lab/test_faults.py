"""How faults are named, valued and counted."""

from __future__ import annotations

import pytest

from pciedma_lab.faults import BadFault, Faults, nothing, number, one_of, span

KNOWN = {"plain": nothing, "delay": number, "jitter": span, "stall": one_of("both", "c2h")}


@pytest.fixture
def faults() -> Faults:
    return Faults(KNOWN)


@pytest.mark.parametrize(("text", "name", "value"), [
    ("plain", "plain", True),
    ("delay=12.5", "delay", 12.5),
    ("delay=0", "delay", 0.0),
    ("jitter=1-20", "jitter", (1.0, 20.0)),
    ("stall", "stall", "both"),
    ("stall=c2h", "stall", "c2h"),
])
def test_fault_has_its_value_for_ever(faults: Faults, text: str, name: str, value: object) -> None:
    assert faults.set(text) == name
    assert [faults.take(name) for _ in range(3)] == [value] * 3


def test_counted_fault_ends_by_itself(faults: Faults) -> None:
    faults.set("delay=5*2")
    assert [faults.take("delay") for _ in range(3)] == [5.0, 5.0, None]
    assert faults.active == {}


def test_looking_does_not_count(faults: Faults) -> None:
    faults.set("plain*1")
    assert faults.value("plain") is True
    assert faults.take("plain") is True
    assert faults.value("plain") is None


def test_setting_again_replaces(faults: Faults) -> None:
    faults.set("delay=5*1")
    faults.set("delay=7")
    assert [faults.take("delay"), faults.take("delay")] == [7.0, 7.0]


def test_clear_switches_all_off(faults: Faults) -> None:
    faults.set("plain")
    faults.set("stall")
    faults.clear()
    assert faults.take("plain") is None
    assert faults.take("stall") is None


@pytest.mark.parametrize("text", [
    "plain=1", "plain*0", "plain*x", "plain*-1", "delay", "delay=", "delay=fast", "delay=-1", "delay=nan",
    "delay=inf", "jitter=5", "jitter=9-3", "jitter=5-", "stall=h2c", "stall=",
])
def test_bad_value_is_refused(faults: Faults, text: str) -> None:
    with pytest.raises(BadFault):
        faults.set(text)
    assert faults.active == {}


@pytest.mark.parametrize("text", ["unknown", "unknown=3*2", "", "PLAIN"])
def test_unknown_fault_lists_the_known(faults: Faults, text: str) -> None:
    with pytest.raises(BadFault, match="the faults are delay, jitter, plain, stall"):
        faults.set(text)
