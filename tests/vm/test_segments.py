"""An engine that crosses no boundary, and cannot begin anywhere: memory is cut for it, or copied."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pciedma_lab import modules
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.chroot import PROJECT
from pciedma_lab.machine import Machine

from .conftest import KERNEL, Lab, make_lab

PAGE = 4096

#: The example's card, if it did what such cards do: it records what it was not to be told.
PICKY = """

class Picky(Model):
    def _start(self, *, to_host):
        host = self.values[HOST_HIGH.offset] << 32 | self.values[HOST_LOW.offset]
        end = host + self.values[LENGTH.offset]
        if host % ALIGNMENT:
            self.records.violation("host_alignment", f"DMA of {host:#x} to {end:#x}")
        if host // BOUNDARY != (end - 1) // BOUNDARY:
            self.records.violation("segment_boundary", f"DMA of {host:#x} to {end:#x}")
        if end % BOUNDARY == 0 and end - host > 4096:
            self.records.counters["of_pages_to_a_boundary"] += 1
        super()._start(to_host=to_host)


Model = Picky
"""


def replaced(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def picky(folder: Path, boundary: int, alignment: int) -> Path:
    """Make such a card of the example, and return its model."""
    longest = 6 * PAGE + alignment  # no divisor of 64 KiB: of a huge page's segments one would cross that
    shutil.copytree(PROJECT / "examples/card", folder)
    desc = f"\t.segment_boundary = {boundary},\n\t.host_alignment\t= {alignment},\n\t.drain_ms"
    for name, *changes in (
        ("loop.c", ("\t.drain_ms", desc)),
        ("loop_regs.h", ("LOOP_DMA_MAX\t\t4096", f"LOOP_DMA_MAX\t\t{longest}"), ("GENMASK(28, 16)", "GENMASK(31, 16)")),
        (
            "loop.py",
            ("LONGEST = 4096", f"LONGEST = {longest}\nBOUNDARY = {boundary}\nALIGNMENT = {alignment}"),
            ("Field(28, 16,", "Field(31, 16,"),
            ("Field(12, 0,", "Field(15, 0,"),
        ),
    ):
        path = folder / name
        path.write_text(replaced(path.read_text(), *changes) + (PICKY if name == "loop.py" else ""))
    return folder / "loop.py"


def copied(lab: Lab) -> list[int]:
    return [lab.sysfs("loop", f"c0/{direction}/copied") for direction in ("c2h", "h2c")]


def moves(lab: Lab, kind: str, lengths: list[int], skews: list[int]) -> list[int]:
    """Move memory there and back, and return the bytes that were copied: each way, and of how many."""
    before = copied(lab)
    path = lab.nodes["loop"] + "c0"
    found = lab.call("memory:there_and_back", path=path, kind=kind, lengths=lengths, skews=skews, card_address=0)
    assert found == []
    return [*(now - then for then, now in zip(before, copied(lab), strict=True)), sum(lengths) * len(skews)]


@pytest.mark.parametrize(
    ("boundary", "alignment", "machine"),
    [(65536, 64, "plain"), (65536, 4096, "bounced"), (1024, 64, "iommu")],
)
def test_no_segment_crosses_a_boundary_or_begins_unaligned(
    tmp_path: Path, boundary: int, alignment: int, machine: str
) -> None:
    model = picky(tmp_path / "mycard", boundary, alignment)
    loop = EmulatedCard(str(model), seed=1)
    modules.build(KERNEL, [model], warnings_are_errors=True)
    iommu, bounced = machine == "iommu", machine == "bounced"
    with Machine(KERNEL, cards=[loop], time_limit_s=300, iommu=iommu, swiotlb_force=bounced) as vm:
        lab = make_lab(vm, loop)
        path = lab.nodes["loop"] + "c0"
        aligned = [PAGE, PAGE + alignment, 2 * PAGE - alignment]
        for kind in ("small_pages", "transparent_huge"):
            to_host, from_host, _ = moves(lab, kind, [5000, 40_001, 65536], aligned)
            assert (to_host, from_host) == (0, 0)
        if boundary > PAGE and machine != "bounced":
            assert loop.control.counters()["of_pages_to_a_boundary"]
        unaligned = [PAGE + 1, PAGE + 32, PAGE + 63, 2 * PAGE - 1]
        to_host, from_host, all_bytes = moves(lab, "anonymous", [1, 100, 5000, 8129, 40_001, 65536], unaligned)
        assert to_host == from_host == all_bytes
        for pieces, is_direct in (
            ([[0, 8192], [3 * PAGE + alignment, 8192]], True),
            ([[0, 5001], [3 * PAGE + alignment, 8192]], True),
            ([[0, 1000], [PAGE, 1000], [2 * PAGE, 20_000]], True),  # two slots of a bounce buffer's page
            ([[0, 8192], [3 * PAGE + 1, 8192]], False),
            ([[32, 8192], [3 * PAGE, 8192]], False),
        ):
            before = copied(lab)
            assert lab.call("segments:vector_there_and_back", path=path, pieces=pieces)
            rise = [now - then for then, now in zip(before, copied(lab), strict=True)]
            assert (rise == [0, 0]) == is_direct, pieces
        assert lab.call("memory:uring", path=path, depth=4, length=10_000) == {"bad": []}
        assert loop.control.violations() == []
        vm.unload_modules()
