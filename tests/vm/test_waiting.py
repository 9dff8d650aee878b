"""Waiting by interrupt, by polling, and by what pays: no end is found by a look alone."""

from __future__ import annotations

import pytest

from .conftest import Lab

#: Microseconds that adaptive waiting spins at most: long enough to do so under emulation.
SPIN_US = 2000


@pytest.mark.parametrize(
    ("wait_mode", "count", "way", "faults"),
    [("ADAPTIVE", 6000, "read", ["jitter=0-1000"]), ("ADAPTIVE", 3000, "transfer", ["jitter=0-1000"]),
     ("ADAPTIVE", 1000, "read", ["hiccup=0-3000", "delayed_writes=300"]),
     ("INTERRUPT", 300, "read", ["jitter=0-1000", "delayed_writes=300"])],
)
def test_interrupt_that_is_switched_on_late_is_not_lost(
    lab: Lab, wait_mode: str, count: int, way: str, faults: list[str]
) -> None:
    """A waiter that stops spinning switches the interrupt on just when the DMA ends."""
    for fault in faults:
        lab.xdma.control.set_fault(fault)
    options = {"count": count, "length": 4096, "wait_mode": wait_mode, "spin_us": SPIN_US, "way": way}
    with lab.drain_bound("xdma", 3000):  # a busy host delays interrupts, too
        found = lab.call("waiting:reads", 300, path=lab.memory, **options)
    misses = found.pop("poll_misses")
    print(f"{misses} of {count} polled in vain")
    assert found == {"moved": [4096], "looks": 0}
    assert (misses > 0) == (wait_mode == "ADAPTIVE")  # else nobody has stopped spinning


@pytest.mark.parametrize(("latency_us", "way"), [(300, "read"), (1500, "read"), (300, "transfer")])
def test_adaptive_waiting_seldom_polls_in_vain_where_latency_is_constant(lab: Lab, latency_us: int, way: str) -> None:
    """Also when it has changed from what was usual."""
    options = {"path": lab.memory, "length": 4096, "wait_mode": "ADAPTIVE", "spin_us": SPIN_US, "way": way}
    lab.call("waiting:reads", count=100, **options)
    lab.xdma.control.set_fault(f"delay={latency_us}")
    found = lab.call("waiting:reads", count=1000, **options)
    print(f"{found['poll_misses']} of 1000 polled in vain")
    assert (found["moved"], found["poll_misses"] <= 100) == ([4096], True)
