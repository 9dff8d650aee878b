"""Memory that user space and the card share: nothing is pinned, mapped or copied for a transfer of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pciedma_lab import modules
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.chroot import PROJECT
from pciedma_lab.machine import Machine

from .conftest import KERNEL, Lab, make_lab

PAGE = 4096
#: Of the model; the driver is not told.
CARD_MEMORY = 64 << 30
MIB = 1 << 20


def copied(lab: Lab, card: str) -> int:
    return sum(lab.sysfs(card, f"c0/{direction}/copied") for direction in ("c2h", "h2c"))


@pytest.mark.parametrize(("card", "fixture"), [
    *((card, "lab") for card in ("xdma", "capric", "edu")),
    *(pytest.param(*place, marks=pytest.mark.stock_kernel) for place in (
        ("xdma", "untranslated"), ("capric", "untranslated"), ("edu", "untranslated"), ("xdma", "bounced"),
        ("capric", "bounced"),
    )),
])
def test_calls_move_a_buffer_s_own_data(request: pytest.FixtureRequest, card: str, fixture: str) -> None:
    """Where there is an IOMMU, memory that two of the cards do not reach, and nothing but bounce buffers."""
    lab: Lab = request.getfixturevalue(fixture)
    cases = {
        "xdma": [[0, 64], [1, 1], [4095, 2], [0, MIB], [12345, 5 * MIB], [0, 16 * MIB]],
        "capric": [[0, 2047], [5, 1], [2048, 2047], [4000, 1999]],
        "edu": [[0, 4096], [100, 300]],
    }[card]
    before = copied(lab, card)
    options = {"path": f"{lab.nodes[card]}c0", "size": MIB if card == "edu" else 16 * MIB, "cases": cases}
    assert lab.call("shared:there_and_back", 120, **options) == []
    assert copied(lab, card) == before


@pytest.mark.parametrize("way", ["sync", "submit"])
@pytest.mark.parametrize("kind", ["new", "small_pages", "scattered_pages"])
def test_entries_are_moved_in_order(lab: Lab, kind: str, way: str) -> None:
    before = copied(lab, "xdma")
    for length, count in ((1, 1), (4096, 256), (4097, 3), (777, 4096), (5 * MIB + 3, 4)):
        options = {"path": lab.memory, "way": way, "length": length, "count": count, "kind": kind}
        assert lab.call("entries:there_and_back", 120, **options) == [], (length, count)
    assert copied(lab, "xdma") == before


@pytest.mark.stock_kernel
@pytest.mark.parametrize(
    ("fixture", "kinds"), [("untranslated", ["user", "dmabuf"]), ("bounced", ["new", "user", "dmabuf"])],
)
def test_memory_out_of_reach_is_refused(request: pytest.FixtureRequest, fixture: str, kinds: list[str]) -> None:
    """Of a card that reaches 256 MiB, also through what it would be bounced."""
    lab: Lab = request.getfixturevalue(fixture)
    lines = lab.vm.kernel_log().count("reach")
    found = lab.call("exports:refused", path=f"{lab.nodes['edu']}c0", other=lab.memory, kinds=kinds)
    assert found == dict.fromkeys(kinds, "ENOTSUP")
    assert lab.vm.kernel_log().count("reach") > lines


@pytest.mark.stock_kernel
@pytest.mark.parametrize("fixture", ["untranslated", "bounced"])
@pytest.mark.parametrize("kind", ["new", "scattered_pages"])
def test_entries_of_memory_that_is_not_translated(request: pytest.FixtureRequest, kind: str, fixture: str) -> None:
    lab: Lab = request.getfixturevalue(fixture)
    before = copied(lab, "xdma")
    for length, count in ((1, 1), (4096, 256), (777, 300), (MIB + 3, 4)):
        options = {"path": lab.memory, "way": "sync", "length": length, "count": count, "kind": kind}
        assert lab.call("entries:there_and_back", 120, **options) == [], (length, count)
    assert copied(lab, "xdma") == before


@pytest.mark.parametrize("way", ["sync", "submit"])
@pytest.mark.parametrize(("card", "length", "count"), [("capric", 2000, 2), ("edu", 1000, 2)])
def test_entries_of_other_cards(lab: Lab, card: str, length: int, count: int, way: str) -> None:
    before = copied(lab, card)
    for mode in ("INTERRUPT", "POLL"):
        options = {"way": way, "length": length, "count": count, "kind": "new", "wait_mode": mode}
        assert lab.call("entries:there_and_back", 120, path=f"{lab.nodes[card]}c0", **options) == []
    assert copied(lab, card) == before


@pytest.mark.parametrize(("fault", "count"), [("", 600), ("delay=2000", 200)])
def test_failure_of_an_entry_is_that_of_its_call_but_where_each_is_alone(lab: Lab, fault: str, count: int) -> None:
    """Of a slow card, as each is at first, most have not begun when one fails."""
    if fault:
        lab.xdma.control.set_fault(fault)
        for do in ("unbind", "bind"):
            lab.call(f"processes:{do}", driver="pciedma_xdma", address=lab.addresses["xdma"])
        lab.find()
    assert lab.call("entries:each", path=lab.memory, bad=CARD_MEMORY, count=count) == []
    assert lab.call("entries:moved_in_part", path=lab.memory, bad=CARD_MEMORY) == []
    lab.there_and_back()


def test_one_call_of_many_entries_keeps_the_engine_busy(lab: Lab) -> None:
    """A card that is twice as fast as a loop of pread, in the same run."""
    rate = lab.call("entries:pread_rate", path=lab.memory, length=PAGE, count=300)
    lab.xdma.control.set_fault(f"bandwidth={max(round(2 * rate), 1)}")
    lab.xdma.control.counters(reset=True)
    assert lab.call("entries:one_call", path=lab.memory, length=PAGE, count=256) == [256, [0]]
    counters = lab.xdma.control.counters()
    idle = 1 - counters["c2h0_busy_ns"] / (counters["c2h0_last_ns"] - counters["c2h0_first_ns"])
    print(f"pread: {rate:.1f} MB/s; a call of 256: idle for {100 * idle:.2f} %, {counters['mmio_writes']} writes")
    assert (idle < 0.05, counters["mmio_writes"] <= 8) == (True, True)


@pytest.mark.parametrize("submit", [False, True])
def test_engine_is_told_at_once_of_what_gets_transfers_by_one_look(lab: Lab, submit: bool) -> None:
    """Of 1,000 entries 256 have transfers; the others wait for theirs."""
    count = 1000
    lab.xdma.control.counters(reset=True)
    assert lab.call("entries:one_call", path=lab.memory, length=PAGE, count=count, submit=submit) == [count, [0]]
    counters = lab.xdma.control.counters()
    print(f"{count} entries: {counters['mmio_writes']} writes")
    assert counters["mmio_writes"] < count // 8


@pytest.mark.skipif(KERNEL == "bookworm", reason="Debian 12's kernel has neither heaps nor udmabuf")
@pytest.mark.parametrize("exporter", ["heap", "udmabuf"])
def test_buffers_of_other_exporters(lab: Lab, exporter: str) -> None:
    before = copied(lab, "xdma")
    assert lab.call("exports:foreign", 120, path=lab.memory, exporter=exporter, size=3 * MIB) == []
    assert copied(lab, "xdma") == before


def test_exporters_that_misbehave_get_a_clear_errno(lab: Lab) -> None:
    built = modules.build_folder(KERNEL, Path(__file__).parent / "exporter_probe")
    probe = Path("/mnt/project") / built.relative_to(PROJECT) / "pciedma_exporter.ko"
    assert lab.vm.run(["insmod", str(probe)]).returncode == 0
    lines = lab.vm.kernel_log().count("cannot be reached: pciedma_exporter says")
    assert lab.call("exports:misbehaving", path=lab.memory) == []
    assert lab.vm.kernel_log().count("cannot be reached: pciedma_exporter says") == lines + 4
    assert lab.vm.run(["rmmod", "pciedma_exporter"]).returncode == 0


@pytest.mark.stock_kernel  # the debug kernel has no vgem
def test_work_of_others_on_imported_memory_is_waited_for(lab: Lab) -> None:
    before = copied(lab, "xdma")
    assert lab.call("fences:fences", path=lab.memory, size=MIB) == []
    assert copied(lab, "xdma") == before


def test_card_to_card_through_one_buffer() -> None:
    cards = [EmulatedCard("xdma"), EmulatedCard("xdma")]
    with Machine(KERNEL, iommu=True, cards=cards, time_limit_s=300, memory_mib=2048) as vm:
        lab = make_lab(vm, *cards)
        one, other = (f"{lab.nodes[f'xdma:{number}']}c0" for number in range(2))
        size = (8 if KERNEL == "debug" else 256) * MIB
        assert lab.call("exports:card_to_card", 200, source=one, sink=other, size=size) == []
        assert copied(lab, "xdma:0") == copied(lab, "xdma:1") == 0
