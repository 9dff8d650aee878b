"""Usual tools, unmodified, from Debian's packages: each does what tests/vm/tool_matrix.py says. One machine for all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pciedma_lab import modules
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine

from .conftest import KERNEL, Lab
from .guest import tools
from .tool_matrix import MESSAGES, PACKAGES, ROWS, SIZE, UNKNOWN, Row

#: Not again on the debug kernel: the tools are a distribution's, and slow.
pytestmark = pytest.mark.stock_kernel


class Bench:
    """The machine, and for which kind of card its modules are loaded now."""

    def __init__(self, vm: Machine, *cards: EmulatedCard) -> None:
        """Nothing is loaded."""
        self.lab = Lab(vm, {card.name: card for card in cards})
        self.is_sized: bool | None = None

    def node(self, row: Row) -> str:
        """Return the channel for a row, with the modules loaded so that it is one."""
        if self.is_sized != (row.card != UNKNOWN):
            if self.is_sized is not None:
                self.lab.vm.unload_modules()
            self.is_sized = row.card != UNKNOWN
            self.lab.vm.load_modules(xdma=f"memory_size={SIZE}" if self.is_sized else "")
            self.lab.find()
        return self.lab.data if row.card == MESSAGES else self.lab.memory


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    modules.build(KERNEL)
    cards = [EmulatedCard("capric"), EmulatedCard("xdma")]
    with Machine(KERNEL, iommu=True, cards=cards, packages=PACKAGES, time_limit_s=900) as vm:
        yield Bench(vm, *cards)


@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
def test_tool_does_what_is_documented(bench: Bench, row: Row) -> None:
    vm, node = bench.lab.vm, bench.node(row)
    memory = {"read": "data", "write": "zeros"}.get(row.moves)
    bench.lab.call("tools:set_up", node=node, size=SIZE, memory=memory)
    environment = {"NODE": node, "DATA": str(tools.DATA), "OUT": str(tools.OUT)}
    result = vm.run(["timeout", "150", "sh", "-ec", row.command], 200, env=environment)
    words = result.stdout + result.stderr
    if row.fails:
        assert result.returncode not in (0, 124), words
        assert row.fails in words
        return
    assert result.returncode == 0, words
    if row.moves == "write":
        assert bench.lab.call("tools:memory_differs", node=node) == "", words
    elif row.moves == "read":
        begin, end = row.part
        assert bench.lab.call("tools:file_differs", begin=begin, end=end) == "", words


def test_numpy_example_pins_nothing(bench: Bench) -> None:
    """It is here, and not in test_examples.py, because this machine has numpy."""
    bench.node(ROWS[0])
    vm, nodes = bench.lab.vm, bench.lab.nodes
    argv = ["python3", "examples/python/numpy_blocks.py"]
    before = bench.lab.call("memory:pinned")[0]
    result = vm.run([*argv, nodes["xdma"], "0x1000", "--blocks", "16"], 120)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "16 blocks of 8192 samples read as written; peaks 16 to 256\n"
    assert bench.lab.call("memory:pinned")[0] == before
    result = vm.run([*argv, nodes["capric"], "0"])
    assert (result.returncode, result.stderr) == (1, "numpy_blocks: channel 0 is not memory\n")
