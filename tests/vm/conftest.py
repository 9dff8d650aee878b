"""The machine that most tests share, and the state in which each test finds and leaves it."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import pytest

from pciedma_lab import kernels_report, modules
from pciedma_lab.cache import LabError
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine, Process

#: The kernel of the full tests.
KERNEL = os.environ.get("PCIEDMA_KERNEL", "trixie")

#: Of the machine that most tests share.
TIME_LIMIT_S = int(os.environ.get("PCIEDMA_TIME_LIMIT_S", "4500"))

#: A drain bound for Capric beyond the quarter of a second for which a busy host may keep an interrupt back.
PATIENT_MS = 1000

#: What runs in the guest: the lab's own modules, and the tests'.
GUEST = ("pciedma_lab.guest", "tests.vm.guest")
#: What a debug kernel says when memory that a dead card may still use stays mapped for ever, as it must.
DELIBERATE_LEAK = ["DMA-API: .*(pending DMA allocations|Mapped at)", "WARNING: .* at kernel/dma/debug.c", "Call Trace:"]

#: DMA_API_DEBUG takes two mappings that begin in one cache line for a mistake, and after it says nothing any more. They
#: are none where caches are coherent: so adjacent buffers are left to the kernels without it.
LEAST_GAP = 64 if KERNEL == "debug" else 1


def guest_target(target: str) -> str:
    """Return the whole name of ``module:function``, where the module is one of GUEST's packages'."""
    module = target.partition(":")[0]
    return next(f"{package}.{target}" for package in GUEST if find_spec(f"{package}.{module}"))


@dataclass
class Lab:
    """A booted machine with the modules loaded: the shared one has a Capric card, QEMU's edu, and an XDMA card."""

    vm: Machine
    #: By name; of several of a kind, by ``kind:variant`` or ``kind:position``.
    cards: dict[str, EmulatedCard]
    #: Nodes and PCI addresses in the guest, by the same keys.
    nodes: dict[str, str] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)

    @functools.cached_property
    def usual_drain_ms(self) -> int:
        """Capric's drain bound, as the driver has it."""
        return self.sysfs("capric", "c0/c2h/drain_ms")

    @functools.cached_property
    def uname(self) -> str:
        """The kernel's release and version."""
        return self.vm.run(["uname", "-rv"]).stdout.strip()

    @property
    def capric(self) -> EmulatedCard:
        """The Capric card's model."""
        return self.cards["capric"]

    @property
    def xdma(self) -> EmulatedCard:
        """The XDMA card's model."""
        return self.cards["xdma"]

    def call(self, target: str, wait_s: float = 120, /, **kwargs: Any) -> Any:
        """Run a function of a module of GUEST in the guest."""
        return self.vm.call(guest_target(target), wait_s, **kwargs)

    def start(self, target: str, /, **kwargs: Any) -> Process:
        """Start a function of a module of GUEST in the guest."""
        return self.vm.start_call(guest_target(target), **kwargs).started()

    def begin(self, target: str, /, **kwargs: Any) -> Process:
        """The same, and wait until the Capric card has begun a DMA for it."""
        self.capric.control.counters(reset=True)
        process = self.start(target, **kwargs)
        self.wait_for("starts")
        return process

    def begin_stalled(self, target: str, /, fault: str = "stall*1", **kwargs: Any) -> Process:
        """The same with the XDMA card, whose engine stops dead at what it is given."""
        self.xdma.control.set_fault(fault)
        process = self.start(target, **kwargs)
        self.wait_stalled()
        return process

    def hold_open(self, path: str) -> Process:
        """Start a process that keeps a channel open until its card is gone, and wait until it does."""
        process = self.start("memory:left_open", path=path)
        self.wait_until(f"ls -l /proc/{process.pid}/fd | grep -q {path}")
        return process

    def wait_until(self, script: str) -> None:
        """Wait until a line of shell succeeds in the guest."""
        end = time.monotonic() + 30 * self.vm.patience
        while self.vm.run(["sh", "-c", script]).returncode:
            assert time.monotonic() < end, script

    def wait_stalled(self, stalled: bool = True) -> None:
        """Wait until an engine of the XDMA card has stopped dead, or none is so any more."""
        end = time.monotonic() + 30 * self.vm.patience
        while any(engine["stalled"] for engine in self.xdma.control.state()["engines"].values()) != stalled:
            assert time.monotonic() < end, f"an engine stalls: {not stalled}"
            time.sleep(0.01)

    def wait_taken(self) -> None:
        """Wait until the XDMA card has had its faults: those that were set for a number of times."""
        end = time.monotonic() + 30 * self.vm.patience
        while faults := self.xdma.control.faults():
            assert time.monotonic() < end, f"not taken: {faults}"
            time.sleep(0.01)

    def wait_for(self, *counters: str, card: str = "capric") -> None:
        """Wait until a card has counted each of these since its counters were reset."""
        end = time.monotonic() + 30 * self.vm.patience
        while not all(self.cards[card].control.counters().get(name) for name in counters):
            assert time.monotonic() < end, f"the card did not count {counters}"
            time.sleep(0.01)

    def last_late_dma(self, card: str) -> float:
        """When a model last did a DMA after its halt; 0 if it never did. Its record goes back to earlier tests."""
        events = self.cards[card].control.events()
        return max((event["time_s"] for event in events if event["name"] == "late_dma"), default=0.0)

    @property
    def data(self) -> str:
        """Capric's channel node."""
        return self.nodes["capric"] + "c0"

    @property
    def memory(self) -> str:
        """XDMA's channel node."""
        return self.nodes["xdma"] + "c0"

    def there_and_back(self, **kwargs: Any) -> None:
        """Move memory through XDMA and insist that all was right."""
        options = {"lengths": [1, 100, 5000, 70000]} | kwargs
        assert self.call("memory:there_and_back", path=self.memory, **options) == []

    def sysfs(self, card: str, attribute: str) -> int:
        """Return a number of a card's or, by ``c0/...``, its channel's sysfs folder."""
        name = self.nodes[card].removeprefix("/dev/")
        folder, _, rest = attribute.rpartition("c0/")
        path = f"/sys/class/pciedma/{name}c0/{rest}" if "c0/" in attribute else f"/sys/class/pciedma/{name}/{attribute}"
        assert not folder
        return int(self.vm.run(["cat", path]).stdout)

    def looks(self) -> dict[str, int]:
        """How many ends of each engine were found by looking, because no interrupt told of them in time."""
        looks: dict[str, int] = self.call("state:looks")
        return looks

    @contextlib.contextmanager
    def drain_bound(self, card: str, milliseconds: int) -> Iterator[None]:
        """Another drain bound for a card's first channel, in both directions."""
        before = self._set_drain_bound(card, milliseconds)
        try:
            yield
        finally:
            if card in self.nodes:  # else it went; a new one has its own
                self._set_drain_bound(card, before)

    def _set_drain_bound(self, card: str, milliseconds: int) -> int:
        channel = f"{self.nodes[card].removeprefix('/dev/')}c0"
        return int(self.call("state:set_drain_bound", channel=channel, milliseconds=milliseconds) or 0)

    def find(self) -> None:
        """Learn the cards' nodes and addresses anew."""
        self._learn(self.call("state:cards"))

    @property
    def _drivers(self) -> dict[str, str]:
        return {address: f"pciedma_{key.partition(':')[0]}" for key, address in self.addresses.items()}

    def restore(self) -> None:
        """Bind again what a failed test left unbound, so that only that test fails."""
        self._learn(self.call("state:bound", drivers=self._drivers))

    def enter(self, drain_ms: int) -> dict[str, int]:
        """The same, with a drain bound for Capric; returns the looks."""
        found = self.call("state:entered", drivers=self._drivers, drain_ms=drain_ms)
        self._learn(found["cards"])
        looks: dict[str, int] = found["looks"]
        return looks

    def _learn(self, found: list[list[str]]) -> None:
        self.nodes.clear()
        for kind, node, address in found:
            known = [key for key, its in self.addresses.items() if its == address]
            new = [key for key, card in self.cards.items() if card.name == kind and key not in self.addresses]
            key = [*known, *new, kind][0]
            self.nodes[key], self.addresses[key] = node, address

    def plug_in(self, card: str) -> None:
        """Plug a card in that was unplugged, and wait for its nodes."""
        self.vm.device_add(self.cards[card])
        end = time.monotonic() + 30 * self.vm.patience
        while True:
            self.find()
            if card in self.nodes:
                return
            assert time.monotonic() < end, f"{card} does not come back"
            time.sleep(0.1)

    def settled(self) -> None:
        """Wait until all user memory is unpinned."""
        end = time.monotonic() + 20 * self.vm.patience
        while True:
            acquired, released = self.call("memory:pinned")
            if acquired == released:
                return
            assert time.monotonic() < end, f"{acquired - released} pages stay pinned"
            time.sleep(0.05)

    def echo(self, count: int = 20, **kwargs: Any) -> dict[str, Any]:
        """Send messages through Capric and insist that all were right."""
        result: dict[str, Any] = self.call("transfers:echo", path=self.data, count=count, **kwargs)
        assert result["errors"] == 0, result["first_error"]
        return result

    def verified_load(self, function: str, wait_s: float = 300, /, **options: Any) -> dict[str, Any]:
        """Run a load on XDMA and insist that all was right."""
        target = f"verified_load:{function}"
        found: dict[str, Any] = self.call(target, wait_s, path=self.memory, least_gap=LEAST_GAP, **options)
        assert found["wrong"] == 0, found["first_error"]
        return found


def make_lab(vm: Machine, *cards: EmulatedCard) -> Lab:
    """Load the modules and find the cards."""
    vm.load_modules()
    names = [card.name for card in cards]
    keys = [
        name if names.count(name) == 1 else f"{name}:{card.variant or number}"
        for number, (name, card) in enumerate(zip(names, cards, strict=True))
    ]
    lab = Lab(vm, dict(zip(keys, cards, strict=True)))
    lab.find()
    return lab


@pytest.fixture(scope="session")
def sources() -> str:
    """Of which sources the run is; empty without a git repository."""
    with contextlib.suppress(LabError):
        return kernels_report.tested_sources()
    return ""


#: How a request can be made: a call, the kernel's two, TRANSFER of registered memory, SUBMIT, a mapped buffer's call.
WAYS = ["sync", "aio", "io_uring", "transfer", "submit", "mapped"]


@pytest.fixture(autouse=True)
def said(sources: str, record_property: Callable[[str, object], None]) -> None:
    """Let the JUnit report say of which sources it is: in each test, of which several processes run some each."""
    record_property("sources", sources)


@pytest.fixture(scope="session")
def machine() -> Iterator[Lab]:
    """One booted guest with the IOMMU strict, for all tests that leave it in order."""
    modules.build(KERNEL)
    cards = [EmulatedCard("capric", seed=1), EmulatedCard("xdma", seed=1)]
    with Machine(KERNEL, iommu=True, cards=cards, edu=1, time_limit_s=TIME_LIMIT_S) as vm:
        lab = make_lab(vm, *cards)
        assert lab.usual_drain_ms < PATIENT_MS
        yield lab


@pytest.fixture(scope="session")
def bounced() -> Iterator[Lab]:
    """A guest that bounces every DMA; XDMA with four channels."""
    modules.build(KERNEL)
    cards = [EmulatedCard("capric"), EmulatedCard("xdma", variant="4ch")]
    with Machine(KERNEL, cards=cards, edu=1, swiotlb_force=True, time_limit_s=TIME_LIMIT_S) as vm:
        yield make_lab(vm, *cards)


@pytest.fixture(scope="session")
def untranslated() -> Iterator[Lab]:
    """A guest without an IOMMU, and with memory that only XDMA reaches."""
    modules.build(KERNEL)
    cards = [EmulatedCard("capric"), EmulatedCard("xdma")]
    with Machine(KERNEL, cards=cards, edu=1, memory_mib=5120, time_limit_s=TIME_LIMIT_S) as vm:
        yield make_lab(vm, *cards)


@pytest.fixture(scope="session")
def unpluggable() -> Iterator[Lab]:
    """An XDMA card with MSI: QEMU crashes when it unplugs a card of another process that has MSI-X."""
    modules.build(KERNEL)
    xdma = EmulatedCard("xdma", variant="user-msi")
    with Machine(KERNEL, iommu=True, cards=[xdma], time_limit_s=TIME_LIMIT_S) as vm:
        yield make_lab(vm, xdma)
        vm.unload_modules()


@pytest.fixture
def lab(
    machine: Lab, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Iterator[Lab]:
    """The shared machine; afterwards the card must work on, and nothing may be wrong or left over.

    Nor may an interrupt have been lost: unless the test has the mark ``late_interrupts``, all ends were told of.
    """
    record_property("kernel", machine.uname)
    for card in machine.cards.values():
        card.control.clear_faults()
    may_be_late = request.node.get_closest_marker("late_interrupts") is not None
    looks = machine.enter(machine.usual_drain_ms if may_be_late else PATIENT_MS)
    yield machine
    for card in machine.cards.values():
        card.control.clear_faults()
        assert card.control.violations(clear=True) == []
    nodes = [machine.nodes[card] for card in machine.cards]
    found = machine.call("state:left", data=machine.data, memory_channel=machine.memory, nodes=nodes)
    late = {engine: count for engine, count in found.pop("looks").items() if count and count != looks.get(engine)}
    assert may_be_late or late == {}, f"ends were found by looking; before: {looks}"  # a new engine begins with 0
    assert found == {"messages": None, "memory": [], "quarantined": 0}


@pytest.fixture
def patient(lab: Lab) -> Iterator[None]:
    """Longer drain bounds, for tests in which nothing hangs: no look overtakes an interrupt on a busy host."""
    with lab.drain_bound("capric", 20_000), lab.drain_bound("xdma", 20_000):
        yield
