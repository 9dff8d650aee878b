"""The card of docs/add-a-card.md: its model against its data sheet, and cards from outside the project."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pciedma_lab import cards, kernels, modules, run_options
from pciedma_lab.cache import LabError
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine

from .bench import MEMORY, MEMORY_SIZE, ModelBench

PROJECT = Path(__file__).resolve().parents[2]
LOOP = PROJECT / "examples/card/loop.py"

ID, COMMAND, STATUS, INTERRUPT, HOST_LOW, HOST_HIGH, CARD, LENGTH = range(0, 0x20, 4)
START_H2C, START_C2H, ABORT = 1, 2, 4
BUSY, DONE = 1, 2


class Bench(ModelBench):
    """A bare loop with its interrupt on."""

    def __init__(self) -> None:
        """Put it on the bench."""
        super().__init__(cards.model(str(LOOP))())
        self.write(INTERRUPT, 1)

    def start(self, command: int, length: int = 100, address: int = MEMORY, card: int = 0) -> None:
        """Start a DMA, as the driver does."""
        for register, value in ((HOST_LOW, address & 0xFFFFFFFF), (HOST_HIGH, address >> 32), (CARD, card)):
            self.write(register, value)
        self.write(LENGTH, length)
        self.write(COMMAND, command)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.ram.close()


def test_identification_is_read_only(bench: Bench) -> None:
    bench.write(ID, 0)
    assert bench.read(ID) == int.from_bytes(b"LOOP", "big")
    assert bench.violations == []


@pytest.mark.parametrize("length", [1, 255, 4096])
def test_data_come_back_and_no_other_byte_changes(bench: Bench, length: int) -> None:
    data = bytes(n * 7 % 251 for n in range(length))
    bench.ram.bytes[3 : 3 + length] = data
    bench.start(START_H2C, length, MEMORY + 3, 0x1001)
    bench.run()
    assert bench.read(STATUS) == DONE | length << 16
    bench.write(STATUS, DONE)
    bench.start(START_C2H, length, MEMORY + 0x8001, 0x1001)
    bench.run()
    expected = bytearray(MEMORY_SIZE)
    expected[3 : 3 + length] = expected[0x8001 : 0x8001 + length] = data
    assert bench.ram.bytes[:] == expected
    assert bench.interrupts.messages == 2
    assert bench.violations == []


def test_host_address_has_64_bits(bench: Bench) -> None:
    bench.card.memory.map(0x12_0000_0000, MEMORY_SIZE, bench.ram.fd)
    bench.start(START_C2H, 64, 0x12_0000_0000)
    bench.run()
    assert bench.read(STATUS) == DONE | 64 << 16
    assert bench.violations == []


def test_disabled_interrupt_is_not_sent(bench: Bench) -> None:
    bench.write(INTERRUPT, 0)
    bench.start(START_C2H)
    bench.run()
    assert bench.read(STATUS) & DONE
    assert bench.interrupts.messages == 0


def test_pin_is_held_while_done_if_messages_are_off(bench: Bench) -> None:
    bench.messages()
    bench.start(START_C2H)
    bench.run()
    assert (bench.interrupts.asserted, bench.interrupts.messages) == (True, 0)
    bench.write(INTERRUPT, 0)
    assert not bench.interrupts.asserted
    bench.write(INTERRUPT, 1)
    assert bench.interrupts.asserted
    bench.write(STATUS, DONE)
    assert not bench.interrupts.asserted


def test_abort_ends_behind_one_burst_that_takes_its_time(bench: Bench) -> None:
    bench.card.set_fault("stall*1")
    bench.start(START_C2H, 4096)
    bench.run(1.0)
    bench.write(COMMAND, ABORT)
    bench.run(0.019)
    assert bench.read(STATUS) == BUSY
    bench.run(0.002)
    assert bench.read(STATUS) == DONE | 256 << 16
    assert bench.violations == []


def test_abort_of_nothing_does_nothing(bench: Bench) -> None:
    bench.write(COMMAND, ABORT)
    bench.run(1.0)
    assert bench.read(STATUS) == 0
    assert bench.interrupts.messages == 0


def test_reset_forgets_the_dma(bench: Bench) -> None:
    bench.start(START_C2H)
    bench.card.function_reset()
    bench.run(1.0)
    assert bench.read(STATUS) == 0
    assert bench.card.records.counters["c2h_dmas"] == 0


@pytest.mark.parametrize(
    ("name", "offset", "value", "command"),
    [
        ("reserved_register", 0x20, 0, None),
        ("reserved_bits", INTERRUPT, 2, None),
        ("reserved_bits", ID, 1, None),
        ("two_commands", COMMAND, START_C2H | START_H2C, None),
        ("bad_length", LENGTH, 0, START_C2H),
        ("bad_length", LENGTH, 4097, START_C2H),
        ("bad_length", CARD, 0xFFFF, START_C2H),
        ("dma_outside_memory", HOST_HIGH, 1, START_C2H),
    ],
)
def test_what_the_data_sheet_forbids_is_recorded(
    bench: Bench, name: str, offset: int, value: int, command: int | None
) -> None:
    bench.write(HOST_LOW, MEMORY)
    bench.write(LENGTH, 100)
    bench.write(offset, value)
    if command:
        bench.write(COMMAND, command)
    bench.run()
    assert bench.violations == [name]


def test_access_of_another_width_is_recorded(bench: Bench) -> None:
    bench.card.read(0, STATUS, 2)
    bench.card.write(0, INTERRUPT, 2, 0)
    assert bench.violations == ["access_size", "reserved_register"]


def test_settings_and_start_during_a_dma_are_recorded(bench: Bench) -> None:
    bench.start(START_C2H)
    bench.write(LENGTH, 50)
    bench.write(COMMAND, START_C2H)
    assert bench.violations == ["setting_while_busy", "start_while_busy"]
    bench.run()
    assert bench.read(STATUS) == DONE | 100 << 16


def test_start_before_done_is_cleared_is_recorded(bench: Bench) -> None:
    bench.start(START_C2H)
    bench.run()
    bench.start(START_C2H)
    assert bench.violations == ["start_while_busy"]


def test_start_without_bus_mastering_is_recorded_and_never_ends(bench: Bench) -> None:
    bench.bus_master(False)
    bench.start(START_C2H)
    bench.run(1.0)
    assert bench.violations == ["start_without_bus_master"]
    assert bench.read(STATUS) == BUSY


# Cards from outside the project


def test_model_is_found_by_its_path_and_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(LOOP.parent)
    card = EmulatedCard("../card/loop.py", faults=["stall"])
    assert (card.name, card.source) == ("loop", LOOP)
    card.start()
    try:
        assert card.control.faults() == ["stall"]
        assert card.control.state()["ID"] == 0x4C4F4F50
    finally:
        card.stop()


@pytest.mark.parametrize("name", ["no_such_card", "/no/such/card.py"])
def test_model_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(KeyError, match="there is no card"):
        cards.model(name)
    card = EmulatedCard(name)
    with pytest.raises(RuntimeError, match="there is no card"):
        card.start()


def test_run_finds_faults_and_back_end_of_a_card_by_its_path() -> None:
    found = run_options.make_cards([str(LOOP), "capric", str(LOOP)], ["loop:stall*1"])
    assert [card.name for card in found] == ["loop", "capric", "loop"]
    assert [card.faults for card in found] == [["stall*1"], [], ["stall*1"]]
    assert Machine(cards=found).back_ends == [LOOP]


def test_modules_with_a_card_lie_beside_those_without() -> None:
    assert modules.built("trixie", [LOOP]) != modules.built("trixie")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder where build() builds, with compiler and kernel taken away."""
    monkeypatch.setattr(modules, "BUILD", tmp_path / "build")
    monkeypatch.setattr(kernels, "provide", lambda series: None)

    def make(kernel: Any, copy: Path, sparse: bool) -> str:
        (copy / "modules.order").touch()
        return ""

    monkeypatch.setattr(modules, "_make", make)
    return tmp_path / "build/trixie"


def test_build_puts_the_back_end_among_the_cards(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mycard"
    shutil.copytree(LOOP.parent, folder)
    (folder / "loop_extra.c").touch()
    (folder / "looping.c").touch()
    modules.build("trixie", [folder / "loop.py"])
    (cards_folder,) = made.glob("src-loop-*/cards")
    assert sorted(path.name for path in cards_folder.glob("loop*")) == ["loop.c", "loop_extra.c", "loop_regs.h"]
    assert (cards_folder / "capric.c").exists()
    (folder / "loop_extra.c").unlink()
    modules.build("trixie", [folder / "loop.py"])
    assert not (cards_folder / "loop_extra.c").exists()


def test_builds_of_cards_with_the_same_name_share_nothing(made: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        shutil.copytree(LOOP.parent, tmp_path / name)
        modules.build("trixie", [tmp_path / name / "loop.py"])
    assert len([*made.glob("src-loop-*")]) == len([*made.glob("modules-loop-*")]) == 2
    (tmp_path / "link").symlink_to("one")
    assert modules.built("trixie", [tmp_path / "link/loop.py"]) == modules.built("trixie", [tmp_path / "one/loop.py"])


def test_build_of_two_cards_with_the_same_name_is_refused(made: Path, tmp_path: Path) -> None:
    shutil.copytree(LOOP.parent, tmp_path / "mycard")
    with pytest.raises(LabError, match="are two cards loop"):
        modules.build("trixie", [LOOP, tmp_path / "mycard/loop.py"])


def test_build_of_a_card_that_would_be_taken_for_a_part_of_another_is_refused(made: Path, tmp_path: Path) -> None:
    for name in ("my_card.py", "my_card.c"):
        (tmp_path / name).touch()
    with pytest.raises(LabError, match="a part of a card my;"):
        modules.build("trixie", [tmp_path / "my_card.py"])


def test_build_of_a_card_that_the_driver_has_takes_no_file_of_the_drivers_and_says_so(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("xdma.py", "xdma.c", "xdma_mine.c"):
        (tmp_path / name).write_text("mine")
    modules.build("trixie", [tmp_path / "xdma.py"])
    (cards_folder,) = made.glob("src-xdma-*/cards")
    assert sorted(path.name for path in cards_folder.glob("xdma*")) == ["xdma.c", "xdma_mine.c"]
    assert (cards_folder / "xdma.c").read_text() == "mine"
    assert capsys.readouterr().err == "pciedma_lab: the card xdma is not the driver's own, but yours\n"
    assert (cards_folder / "capric.c").exists()
    modules.build("trixie")
    assert (made / "src/cards/xdma_engine.c").exists()


def test_build_without_a_back_end_says_what_is_missing(made: Path, tmp_path: Path) -> None:
    shutil.copy(LOOP, tmp_path / "loop.py")
    with pytest.raises(LabError, match=r"loop\.py has no back end beside it: loop\.c"):
        modules.build("trixie", [tmp_path / "loop.py"])


def test_card_that_has_landed_is_found_by_its_name(tmp_path: Path) -> None:
    """Where the checklist says that the model goes."""
    shutil.copytree(PROJECT / "python", tmp_path / "python", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(LOOP, tmp_path / "python/pciedma_lab/cards/")
    argv = [sys.executable, "-m", "pciedma_lab", "card", "loop", "--socket", "unused", "--fault", "unknown"]
    result = subprocess.run(argv, text=True, check=False, capture_output=True, cwd=tmp_path / "python", env={})
    assert result.returncode == 2
    assert "spurious_interrupt, stall" in result.stderr
