"""The Capric model against its data sheet, on the bench: what it does, what it forbids, and its faults."""

from __future__ import annotations

import pytest

from pciedma_lab.cards import capric
from pciedma_lab.config_space import COMMAND, COMMAND_INTX_DISABLE, COMMAND_MASTER
from pciedma_lab.faults import BadFault

from .bench import (
    ASSERTED,
    C2H,
    DCSR1,
    DCSR2,
    ERR,
    H2C,
    INT_RD_ENB,
    INT_REG,
    INT_WR_ENB,
    MEMORY,
    MEMORY_SIZE,
    RD_DMA_ADR,
    RD_DMA_SIZE,
    WR_DMA_ADR,
    WR_DMA_SIZE,
    Bench,
)

BOTH = pytest.mark.parametrize("way", [C2H, H2C], ids=["c2h", "h2c"])
RD_MSK, RD_PENDING, WR_MSK, WR_PENDING = 1 << 16, 1 << 17, 1 << 24, 1 << 25
PATTERN = bytes(n * 7 % 251 for n in range(2047))


# What it does


def test_registers_after_reset_are_those_of_the_data_sheet() -> None:
    model = capric.Model()
    for offset in range(0, 256, 4):
        value = model.read(0, offset, 4)
        assert value == (capric.UNDEFINED if offset in (WR_DMA_ADR, RD_DMA_ADR) else 0)
    assert model.records.violations == []


@pytest.mark.parametrize("offset", [WR_DMA_ADR, WR_DMA_SIZE, RD_DMA_ADR, RD_DMA_SIZE])
def test_settings_read_back(bench: Bench, offset: int) -> None:
    bench.write(offset, 0x321)
    assert bench.read(offset) == 0x321


@pytest.mark.parametrize("size", [1, 2, 3, 100, 2047])
@pytest.mark.parametrize("at", [0, 1, 0xFFF])
def test_loop_back_returns_every_byte_and_touches_no_other(bench: Bench, size: int, at: int) -> None:
    bench.ram.bytes[at : at + size] = PATTERN[:size]
    bench.move(H2C, size, MEMORY + at)
    bench.move(C2H, size, MEMORY + 0x8000 + at)
    expected = bytearray(MEMORY_SIZE)
    expected[at : at + size] = expected[0x8000 + at : 0x8000 + at + size] = PATTERN[:size]
    assert bench.ram.bytes[:] == expected
    assert bench.violations == []


def test_every_dma_begins_at_the_start_of_sram(bench: Bench) -> None:
    bench.ram.bytes[0:4] = b"abcd"
    bench.move(H2C, 4)
    bench.ram.bytes[0:2] = b"XY"
    bench.move(H2C, 2)
    bench.move(C2H, 4, MEMORY + 0x100)
    assert bench.ram.bytes[0x100:0x104] == b"XYcd"


@BOTH
def test_start_bit_reads_one_until_acknowledged(bench: Bench, way: dict[str, int]) -> None:
    bench.start(way)
    assert bench.read(DCSR2) & way["start"]
    bench.run()
    assert bench.read(DCSR2) == way["start"] * 3
    bench.write(INT_REG, way["done"])
    assert bench.read(DCSR2) == 0
    assert bench.read(INT_REG) == 0


@BOTH
def test_done_is_not_set_before_the_start_write_is_over(bench: Bench, way: dict[str, int]) -> None:
    bench.start(way)
    assert bench.read(INT_REG) == 0
    assert bench.interrupts.messages == 0


@BOTH
def test_completion_shows_done_source_and_asserted(bench: Bench, way: dict[str, int]) -> None:
    bench.start(way)
    bench.run()
    assert bench.read(INT_REG) == ASSERTED | way["done"] | way["source"]
    assert bench.interrupts.messages == 1


@BOTH
def test_done_bit_of_dcsr2_acknowledges_too(bench: Bench, way: dict[str, int]) -> None:
    bench.start(way)
    bench.run()
    bench.write(DCSR2, way["start"] << 1)
    assert bench.read(INT_REG) == 0
    assert bench.read(DCSR2) == 0


@BOTH
def test_writing_zeros_acknowledges_and_stops_nothing(bench: Bench, way: dict[str, int]) -> None:
    bench.start(way)
    bench.write(DCSR2, 0)
    bench.run()
    bench.write(INT_REG, 0)
    assert bench.read(INT_REG) & way["done"]


@BOTH
def test_acknowledging_one_direction_leaves_the_other(bench: Bench, way: dict[str, int]) -> None:
    other = H2C if way is C2H else C2H
    bench.start(C2H, address=MEMORY)
    bench.start(H2C, address=MEMORY + 0x4000)
    bench.run()
    bench.write(INT_REG, way["done"])
    assert bench.read(INT_REG) == ASSERTED | other["done"] | other["source"]
    assert bench.violations == []


def test_message_is_an_edge_of_int_asserted(bench: Bench) -> None:
    bench.start(C2H)
    bench.run()
    bench.start(H2C, address=MEMORY + 0x4000)
    bench.run()
    assert bench.interrupts.messages == 1
    bench.write(INT_REG, C2H["done"])
    assert bench.interrupts.messages == 1
    bench.write(INT_REG, H2C["done"])
    bench.move(C2H)
    assert bench.interrupts.messages == 2


@BOTH
def test_no_interrupt_without_its_enable_bit(bench: Bench, way: dict[str, int]) -> None:
    bench.write(DCSR1, INT_WR_ENB if way is H2C else INT_RD_ENB)
    bench.start(way)
    bench.run()
    assert bench.read(INT_REG) == way["done"]
    assert bench.interrupts.messages == 0


@pytest.mark.parametrize(("way", "mask", "pending"), [
    (C2H, WR_MSK, WR_PENDING), (H2C, RD_MSK, RD_PENDING),
], ids=["c2h", "h2c"])
def test_masked_interrupt_waits_and_is_sent_at_unmasking(
    bench: Bench, way: dict[str, int], mask: int, pending: int
) -> None:
    both = INT_RD_ENB | INT_WR_ENB
    bench.write(DCSR1, both | mask)
    bench.start(way)
    bench.run()
    assert bench.read(INT_REG) == way["done"]
    assert bench.read(DCSR1) == both | mask | pending
    assert bench.interrupts.messages == 0
    bench.write(DCSR1, both)
    assert bench.read(INT_REG) == ASSERTED | way["done"] | way["source"]
    assert bench.read(DCSR1) == both
    assert bench.interrupts.messages == 1


def test_unmasking_clears_pending_even_if_it_is_written_back(bench: Bench) -> None:
    bench.write(DCSR1, INT_WR_ENB | WR_MSK)
    bench.start(C2H)
    bench.run()
    bench.write(DCSR1, bench.read(DCSR1) & ~WR_MSK)
    assert bench.read(DCSR1) == INT_WR_ENB
    assert bench.interrupts.messages == 1


def test_unmasking_after_the_acknowledgement_sends_nothing(bench: Bench) -> None:
    bench.write(DCSR1, INT_WR_ENB | WR_MSK)
    bench.start(C2H)
    bench.run()
    bench.write(INT_REG, C2H["done"])
    bench.write(DCSR1, INT_WR_ENB)
    assert bench.interrupts.messages == 0
    assert bench.read(INT_REG) == 0


@BOTH
def test_size_set_later_starts_what_waits_for_it(bench: Bench, way: dict[str, int]) -> None:
    bench.start(way, size=0)
    bench.run(0.001)
    assert bench.read(DCSR2) == way["start"]
    bench.write(way["address"], MEMORY + 8)
    bench.write(way["size"], 4)
    bench.run()
    assert bench.read(INT_REG) & way["done"]
    assert bench.violations == ["size_zero"]


@BOTH
def test_reset_stops_a_dma_for_good(bench: Bench, way: dict[str, int]) -> None:
    bench.ram.bytes[:100] = b"x" * 100
    bench.model.set_fault("delay=2000")
    bench.start(way)
    assert bench.read(DCSR2) == way["start"]
    bench.write(DCSR1, 1)
    assert bench.read(DCSR2) == 0
    bench.run(0.004)
    bench.write(DCSR1, 0)
    assert [bench.read(offset) for offset in (DCSR2, INT_REG, way["size"])] == [0, 0, 0]
    assert bench.ram.bytes[:100] == b"x" * 100
    assert bench.interrupts.messages == 0
    assert bench.violations == []


def test_reset_clears_done_interrupt_and_pending(bench: Bench) -> None:
    bench.write(DCSR1, INT_RD_ENB | INT_WR_ENB | WR_MSK)
    bench.start(C2H)
    bench.start(H2C, address=MEMORY + 0x4000)
    bench.run()
    bench.reset()
    assert bench.read(INT_REG) == 0
    assert bench.read(DCSR1) == INT_RD_ENB | INT_WR_ENB
    assert bench.interrupts.messages == 1
    bench.move(C2H)
    assert bench.interrupts.messages == 2
    assert bench.violations == []


def test_reset_is_held_until_it_is_let_go(bench: Bench) -> None:
    bench.write(DCSR1, 1)
    assert bench.read(DCSR1) == 1
    bench.run(0.0001)
    bench.write(DCSR1, 0)
    assert bench.read(DCSR1) == 0
    assert bench.violations == []


def test_function_reset_stops_everything(bench: Bench) -> None:
    bench.model.set_fault("stall=c2h")
    bench.start(C2H)
    bench.model.config.write(0x49, b"\xa8")
    assert bench.model.records.counters["resets"] == 1
    assert bench.read(DCSR2) == 0
    assert bench.read(DCSR1) == 0
    assert not bench.model.config.bus_master


def test_transactions_pending_while_a_dma_runs(bench: Bench) -> None:
    def pending() -> bool:
        return bool(bench.model.config.data[0x4A] & 0x20)

    assert not pending()
    bench.start(H2C)
    assert pending()
    bench.run()
    assert not pending()


def test_reserved_offsets_read_zero_and_ignore_writes(bench: Bench) -> None:
    bench.write(0x40, 0x1234)
    assert bench.read(0x40) == 0
    assert bench.violations == ["reserved_register"]


def test_counters_count(bench: Bench) -> None:
    bench.model.records.counters.clear()
    bench.move(C2H, 10)
    bench.move(C2H, 20)
    bench.model.set_fault("delay=30*1")
    bench.start(H2C, 5)
    bench.run(0.001)
    bench.read(INT_REG)
    bench.write(INT_REG, H2C["done"])
    counters = bench.model.records.counters
    assert 29_000 <= counters.pop("busy_ns") <= 31_000
    assert counters == {
        "mmio_reads": 3, "reads.INT_REG": 3, "mmio_writes": 12, "writes.INT_REG": 3, "writes.DCSR2": 3,
        "writes.WR_DMA_ADR": 2, "writes.WR_DMA_SIZE": 2, "writes.RD_DMA_ADR": 1, "writes.RD_DMA_SIZE": 1,
        "starts": 3, "c2h_starts": 2, "h2c_starts": 1,
        "c2h_dmas": 2, "c2h_bytes": 30, "h2c_dmas": 1, "h2c_bytes": 5, "interrupts": 3,
    }


def test_state_shows_registers_and_what_runs(bench: Bench) -> None:
    bench.model.set_fault("stall=h2c")
    bench.start(H2C, 5)
    state = bench.model.state()
    assert state["running"] == ["h2c"]
    assert state["registers"]["RD_DMA_SIZE"] == 5
    assert state["registers"]["DCSR2"] == H2C["start"]


@pytest.mark.parametrize(("variant", "subsystem", "bar", "vectors"), [
    (None, 7, 256, 1), ("intx", 7, 256, 0), ("foreign-subsystem", 0x1234, 256, 1), ("foreign-bar", 7, 65536, 1),
])
def test_variants_differ_in_one_thing(variant: str | None, subsystem: int, bar: int, vectors: int) -> None:
    identity = capric.Model(variant).identity
    assert (identity.vendor, identity.device, identity.class_code) == (0x10EE, 7, 0x050000)
    assert identity.subsystem_device == subsystem
    assert identity.bars == (bar, 0, 0, 0, 0, 0)
    assert identity.msi_vectors == vectors


def test_card_without_messages_holds_its_pin_until_acknowledged() -> None:
    bench = Bench("intx")
    bench.start(C2H)
    bench.run()
    assert bench.interrupts.asserted
    assert bench.interrupts.messages == 0
    bench.write(INT_REG, C2H["done"])
    assert not bench.interrupts.asserted
    assert bench.model.records.counters["interrupts"] == 1


def test_card_whose_messages_are_off_holds_its_pin(bench: Bench) -> None:
    bench.messages()
    bench.start(C2H)
    bench.run()
    assert (bench.interrupts.asserted, bench.interrupts.messages) == (True, 0)
    bench.messages(msi=True)
    assert not bench.interrupts.asserted
    bench.messages()
    assert bench.interrupts.asserted
    bench.card.write_config(COMMAND, bytes([COMMAND_MASTER, COMMAND_INTX_DISABLE >> 8]))
    assert not bench.interrupts.asserted
    bench.bus_master(True)
    bench.write(INT_REG, C2H["done"])
    assert not bench.interrupts.asserted
    bench.messages(msi=True)
    bench.move(C2H)
    assert (bench.interrupts.asserted, bench.interrupts.messages) == (False, 1)


def test_spurious_interrupt_comes_by_the_pin_if_messages_are_off(bench: Bench) -> None:
    bench.messages()
    bench.model.set_fault("spurious_interrupt=1*2")
    bench.run(0.006)
    assert (bench.interrupts.rises, bench.interrupts.messages) == (2, 0)
    assert not bench.interrupts.asserted


# What it forbids


@BOTH
def test_start_while_busy_is_a_violation(bench: Bench, way: dict[str, int]) -> None:
    bench.model.set_fault("stall")
    bench.start(way)
    bench.write(DCSR2, way["start"])
    assert bench.violations == ["start_while_busy"]


@BOTH
def test_start_before_the_acknowledgement_is_a_violation(bench: Bench, way: dict[str, int]) -> None:
    bench.start(way)
    bench.run()
    bench.write(DCSR2, way["start"])
    bench.run()
    assert bench.violations == ["start_while_busy"]
    assert bench.model.records.counters["starts"] == 1


@BOTH
@pytest.mark.parametrize("what", ["address", "size"])
def test_setting_during_its_dma_is_a_violation_and_changes_nothing(
    bench: Bench, way: dict[str, int], what: str
) -> None:
    bench.model.set_fault("stall")
    bench.start(way)
    before = bench.read(way[what])
    bench.write(way[what], 0x40)
    assert bench.violations == ["setting_while_busy"]
    assert bench.read(way[what]) == before


def test_setting_the_other_direction_during_a_dma_is_allowed(bench: Bench) -> None:
    bench.model.set_fault("stall=c2h")
    bench.start(C2H)
    bench.move(H2C, 50, MEMORY + 0x4000)
    assert bench.violations == []


@pytest.mark.parametrize(("offset", "value"), [
    (DCSR1, INT_WR_ENB | 1 << 1), (DCSR1, 1 << 31), (DCSR2, 1 << 2), (DCSR2, 1 << 18), (WR_DMA_SIZE, 0x800),
    (RD_DMA_SIZE, 0x10004), (INT_REG, ASSERTED), (INT_REG, 1), (ERR, 1),
])
def test_reserved_bit_is_a_violation(bench: Bench, offset: int, value: int) -> None:
    bench.write(offset, value)
    assert bench.violations == ["reserved_bits"]


@BOTH
def test_size_of_2048_is_a_violation_and_moves_nothing(bench: Bench, way: dict[str, int]) -> None:
    bench.start(way, 2048)
    bench.run()
    assert bench.violations == ["reserved_bits", "size_zero"]
    assert bench.read(INT_REG) == 0


@BOTH
def test_start_with_size_zero_is_a_violation(bench: Bench, way: dict[str, int]) -> None:
    bench.write(DCSR2, way["start"])
    assert bench.violations == ["size_zero"]


@BOTH
def test_end_at_4_gib_is_allowed_and_one_byte_more_a_violation(bench: Bench, way: dict[str, int]) -> None:
    bench.model.memory.map(0xFFFF_0000, MEMORY_SIZE, bench.ram.fd)
    bench.move(way, 16, 0xFFFF_FFF0)
    assert bench.violations == []
    bench.start(way, 17, 0xFFFF_FFF0)
    assert bench.violations == ["past_4_gib"]


@BOTH
def test_one_boundary_is_allowed(bench: Bench, way: dict[str, int]) -> None:
    bench.move(way, 2047, MEMORY + 0xFFF)
    assert bench.violations == []


def test_two_boundaries_are_a_violation(bench: Bench) -> None:
    # 11 bits of size cannot cross two, so the check is shown on a register that holds more.
    bench.write(WR_DMA_ADR, MEMORY + 0xFFF)
    bench.model.values[WR_DMA_SIZE] = 0x1002
    bench.write(DCSR2, C2H["start"])
    assert bench.violations == ["two_boundaries"]


@pytest.mark.parametrize(("offset", "size"), [(DCSR1, 1), (DCSR2, 2), (WR_DMA_ADR, 8), (INT_REG + 2, 4)])
def test_access_that_is_not_one_register_is_a_violation(bench: Bench, offset: int, size: int) -> None:
    bench.model.read(0, offset, size)
    bench.model.write(0, offset, size, 0)
    assert bench.violations == ["access_size", "access_size"]


@pytest.mark.parametrize("offset", [WR_DMA_ADR, WR_DMA_SIZE, RD_DMA_ADR, RD_DMA_SIZE, INT_REG, ERR, 0x40])
def test_read_in_reset_is_a_violation(bench: Bench, offset: int) -> None:
    bench.write(DCSR1, 1)
    bench.read(DCSR1)
    bench.read(DCSR2)
    assert bench.violations == []
    bench.read(offset)
    assert bench.violations == ["access_in_reset"]


@pytest.mark.parametrize(("offset", "value"), [
    (DCSR2, C2H["start"]), (WR_DMA_ADR, 1), (WR_DMA_SIZE, 1), (INT_REG, C2H["done"]),
])
def test_write_in_reset_is_a_violation_and_ignored(bench: Bench, offset: int, value: int) -> None:
    bench.write(DCSR1, 1)
    bench.write(offset, value)
    assert bench.violations == ["access_in_reset"]
    bench.run(20e-6)
    bench.write(DCSR1, 0)
    assert bench.read(offset) in (0, capric.UNDEFINED)


def test_reset_shorter_than_5_us_is_a_violation(bench: Bench) -> None:
    bench.write(DCSR1, 1)
    bench.run(4.9e-6)
    bench.write(DCSR1, 0)
    assert bench.violations == ["reset_too_short"]
    bench.write(DCSR1, 1)
    bench.run(5.1e-6)
    bench.write(DCSR1, 0)
    assert bench.violations == ["reset_too_short"]


@BOTH
def test_start_without_bus_mastering_is_a_violation_and_reaches_no_memory(
    bench: Bench, way: dict[str, int]
) -> None:
    bench.move(H2C, 100)
    bench.ram.bytes[:100] = b"x" * 100
    bench.bus_master(False)
    bench.start(way)
    bench.run()
    assert bench.violations == ["start_without_bus_master"]
    assert bench.events == ["dma_without_bus_master"]
    assert bench.read(INT_REG) == 0
    assert bench.ram.bytes[:100] == b"x" * 100


@BOTH
def test_dma_outside_memory_is_a_violation_with_its_facts(bench: Bench, way: dict[str, int]) -> None:
    bench.start(way, 32, MEMORY - 16)
    bench.run()
    violation, = bench.model.records.violations
    assert violation["name"] == "dma_outside_memory"
    assert (violation["address"], violation["length"]) == (MEMORY - 16, 32)
    assert violation["direction"] == ("c2h" if way is C2H else "h2c")
    assert bench.read(INT_REG) == 0


@BOTH
def test_dma_after_unmap_is_a_violation(bench: Bench, way: dict[str, int]) -> None:
    bench.model.set_fault("delay=500")
    bench.start(way)
    bench.model.memory.unmap(MEMORY, MEMORY_SIZE)
    bench.run(0.001)
    assert bench.violations == ["dma_after_unmap"]


def test_violation_carries_the_last_32_accesses_by_name(bench: Bench) -> None:
    for n in range(40):
        bench.write(WR_DMA_ADR, n)
    bench.read(INT_REG)
    bench.write(0x44, 5)
    violation, = bench.model.records.violations
    assert len(violation["history"]) == 32
    assert violation["history"][-3:] == [
        "write WR_DMA_ADR 0x00000027", "read INT_REG 0x00000000", "write BAR0+0x44 0x00000005",
    ]


# Its faults


@BOTH
def test_lost_interrupt_is_done_without_a_message_once(bench: Bench, way: dict[str, int]) -> None:
    bench.model.set_fault("lost_interrupt*1")
    bench.move(way)
    assert bench.interrupts.messages == 0
    bench.move(way)
    assert bench.interrupts.messages == 1


def test_late_interrupt_comes_after_its_time(bench: Bench) -> None:
    bench.model.set_fault("late_interrupt=5*1")
    bench.start(C2H)
    bench.run(0.002)
    assert bench.read(INT_REG) & C2H["done"]
    assert bench.interrupts.messages == 0
    bench.run(0.006)
    assert bench.interrupts.messages == 1


def test_duplicate_interrupt_comes_twice(bench: Bench) -> None:
    bench.model.set_fault("duplicate_interrupt*1")
    bench.move(C2H)
    assert bench.interrupts.messages == 2
    bench.move(C2H)
    assert bench.interrupts.messages == 3


def test_spurious_interrupts_come_with_nothing_set_until_cleared(bench: Bench) -> None:
    bench.model.set_fault("spurious_interrupt=2")
    bench.run(0.009)
    assert bench.read(INT_REG) == 0
    assert bench.interrupts.messages == 4
    bench.model.faults.clear()
    before = bench.interrupts.messages
    bench.run(0.005)
    assert bench.interrupts.messages == before


def test_spurious_interrupts_set_anew_come_no_more_often(bench: Bench) -> None:
    for _ in range(5):
        bench.model.set_fault("spurious_interrupt=3")
    bench.run(0.010)
    assert bench.interrupts.messages == 3


def test_spurious_interrupts_can_be_counted(bench: Bench) -> None:
    bench.model.set_fault("spurious_interrupt=1*2")
    bench.run(0.006)
    assert bench.interrupts.messages == 2


def test_spurious_interrupt_of_a_pin_leaves_a_true_one_asserted() -> None:
    bench = Bench("intx")
    bench.start(C2H)
    bench.run()
    bench.model.set_fault("spurious_interrupt=1*1")
    bench.run(0.003)
    assert bench.interrupts.asserted


@BOTH
def test_early_completion_is_over_when_the_start_write_is(bench: Bench, way: dict[str, int]) -> None:
    bench.ram.bytes[:3] = b"abc"
    bench.move(H2C, 3)
    bench.model.set_fault("early_completion*1")
    bench.start(way, 3, MEMORY + 0x10)
    assert bench.read(INT_REG) & way["done"]
    assert bench.interrupts.messages == 2
    assert bench.ram.bytes[0x10:0x13] == (b"abc" if way is C2H else b"\0\0\0")


@pytest.mark.parametrize(("fault", "stalled"), [
    ("stall", {"c2h", "h2c"}), ("stall=c2h", {"c2h"}), ("stall=h2c", {"h2c"}),
])
def test_stall_holds_the_direction_it_names(bench: Bench, fault: str, stalled: set[str]) -> None:
    bench.model.set_fault(fault)
    bench.start(C2H)
    bench.start(H2C, address=MEMORY + 0x4000)
    bench.run(0.002)
    assert set(bench.model.state()["running"]) == stalled


@pytest.mark.parametrize(("fault", "moved"), [("dropped_dma", 0), ("dropped_dma=h2c", 0), ("short_dma=5", 5)])
def test_dma_that_was_dropped_is_reported_all_the_same(bench: Bench, fault: str, moved: int) -> None:
    bench.ram.bytes[:10] = PATTERN[:10]
    bench.model.set_fault(f"{fault}*1")
    bench.move(H2C, 10)
    assert bench.model.sram[:10] == PATTERN[:moved] + bytes(10 - moved)
    bench.move(H2C, 10)
    assert bench.model.sram[:10] == PATTERN[:10]
    assert bench.interrupts.messages == 2


def test_dma_that_was_dropped_leaves_memory_as_it_was(bench: Bench) -> None:
    bench.model.sram[:10] = PATTERN[:10]
    bench.model.set_fault("dropped_dma=h2c")
    bench.move(C2H, 10)
    assert bench.ram.bytes[:10] == PATTERN[:10]
    bench.ram.bytes[:10] = bytes(10)
    bench.model.set_fault("dropped_dma=c2h*1")
    bench.move(C2H, 10)
    assert bench.ram.bytes[:10] == bytes(10)


def test_counted_stall_is_ended_by_a_reset(bench: Bench) -> None:
    bench.model.set_fault("stall=h2c*1")
    bench.start(H2C)
    bench.run(0.001)
    assert bench.read(INT_REG) == 0
    bench.reset()
    bench.move(H2C)
    assert bench.violations == []


def _halted(fault: str) -> Bench:
    """A card with *fault* and SRAM full of the pattern, halted during a C2H DMA."""
    bench = Bench()
    bench.ram.bytes[:2047] = PATTERN
    bench.move(H2C, 2047)
    bench.model.set_fault(fault)
    bench.start(C2H, 2047, MEMORY + 0x8000)
    bench.run(0.002)
    assert not any(bench.ram.bytes[0x8000:0x8800])
    bench.write(DCSR1, 1)
    return bench


def test_late_dma_happens_after_the_halt_and_before_idle() -> None:
    bench = _halted("late_dma*1")
    assert bench.read(DCSR2) == C2H["start"]
    assert bench.model.config.data[0x4A] & 0x20
    assert not any(bench.ram.bytes[0x8000:0x8800])
    assert [bench.read(DCSR2) for _ in range(capric.LATE_READS)] == [*[C2H["start"]] * (capric.LATE_READS - 1), 0]
    assert bench.ram.bytes[0x8000:0x87FF] == PATTERN
    assert bench.events == ["late_dma"]
    assert not bench.model.config.data[0x4A] & 0x20
    bench.run(20e-6)
    bench.write(DCSR1, INT_WR_ENB)
    assert bench.read(INT_REG) == 0
    bench.move(C2H)
    assert bench.events == ["late_dma"]
    assert bench.violations == []


def test_late_dma_into_unmapped_memory_is_a_violation() -> None:
    bench = _halted("late_dma*1")
    bench.model.memory.unmap(MEMORY, MEMORY_SIZE)
    for _ in range(capric.LATE_READS):
        bench.read(DCSR2)
    assert bench.violations == ["dma_after_unmap"]


def test_late_dma_happens_even_if_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capric, "LATE_US", 1000.0)
    bench = _halted("late_dma*1")
    bench.run(0.002)
    assert bench.events == ["late_dma"]
    assert bench.read(DCSR2) == 0


def test_lying_idle_moves_data_after_idle_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capric, "LIE_US", 1000.0)
    bench = _halted("lying_idle*1")
    bench.run(0.002)
    assert bench.events == []
    assert bench.read(DCSR2) == 0
    assert not any(bench.ram.bytes[0x8000:0x8800])
    bench.run(0.002)
    assert bench.events == ["lying_idle_dma"]
    assert bench.ram.bytes[0x8000:0x87FF] == PATTERN
    assert bench.violations == []


def test_lying_idle_into_unmapped_memory_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capric, "LIE_US", 1000.0)
    bench = _halted("lying_idle*1")
    bench.read(DCSR2)
    bench.model.memory.unmap(MEMORY, MEMORY_SIZE)
    bench.run(0.002)
    assert bench.events == ["lying_idle_dma"]
    assert bench.violations == ["dma_after_unmap"]


def test_client_that_goes_ends_a_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capric, "LIE_US", 1000.0)
    bench = _halted("lying_idle*1")
    bench.read(DCSR2)
    bench.model.disconnected()
    bench.run(0.002)
    assert bench.violations == []


def test_delayed_writes_take_effect_late(bench: Bench) -> None:
    bench.model.set_fault("delayed_writes=1000")
    bench.start(C2H)
    bench.run(0.0005)
    assert bench.interrupts.messages == 0
    bench.run(0.001)
    assert bench.interrupts.messages == 1


def test_read_flushes_delayed_writes(bench: Bench) -> None:
    bench.model.set_fault("delayed_writes=1000000")
    bench.write(WR_DMA_ADR, 0x55)
    assert bench.model.values[WR_DMA_ADR] != 0x55
    assert bench.read(WR_DMA_ADR) == 0x55


def test_delayed_write_is_as_late_when_an_earlier_one_was_flushed(bench: Bench) -> None:
    bench.model.set_fault("delayed_writes=1000")
    bench.write(WR_DMA_ADR, 1)
    bench.run(0.0006)
    bench.read(WR_DMA_ADR)
    bench.write(WR_DMA_ADR, 2)
    bench.run(0.0006)
    assert bench.model.values[WR_DMA_ADR] == 1
    bench.run(0.0006)
    assert bench.model.values[WR_DMA_ADR] == 2


@pytest.mark.parametrize("count", ["", "*1"])
def test_writes_never_overtake_delayed_ones(bench: Bench, count: str) -> None:
    bench.model.set_fault(f"delayed_writes=1000000{count}")
    bench.write(WR_DMA_ADR, 1)
    bench.model.faults.clear()
    bench.write(WR_DMA_ADR, 2)
    bench.run(0.001)
    assert bench.read(WR_DMA_ADR) == 2


@pytest.mark.parametrize(("kind", "value"), [("unexpected", 1), ("ur", 2), ("ca", 4)])
def test_error_completion_is_shown_interrupts_and_is_not_done(bench: Bench, kind: str, value: int) -> None:
    bench.model.set_fault(f"error={kind}*1")
    bench.start(H2C)
    bench.run()
    assert bench.read(ERR) == value
    assert bench.read(INT_REG) == 0
    assert bench.read(DCSR2) == H2C["start"]
    assert bench.interrupts.messages == 1
    bench.reset()
    assert bench.read(ERR) == 0
    bench.move(H2C)
    assert bench.violations == []


def test_error_waits_for_a_dma_read(bench: Bench) -> None:
    bench.model.set_fault("error=ur*1")
    bench.move(C2H)
    assert bench.read(ERR) == 0
    bench.start(H2C)
    bench.run()
    assert bench.read(ERR) == 2


def test_all_ones_answers_reads_and_ignores_writes(bench: Bench) -> None:
    bench.model.set_fault("all_ones")
    bench.write(WR_DMA_SIZE, 77)
    assert bench.read(INT_REG) == 0xFFFFFFFF
    assert bench.model.read_config(0, 4) == b"\xee\x10\x07\x00"
    bench.model.faults.clear()
    assert bench.read(WR_DMA_SIZE) == 0


def test_counted_all_ones_end(bench: Bench) -> None:
    bench.model.set_fault("all_ones*2")
    assert [bench.read(INT_REG) for _ in range(3)] == [0xFFFFFFFF, 0xFFFFFFFF, 0]


def test_all_ones_config_takes_everything_away(bench: Bench) -> None:
    bench.model.set_fault("all_ones_config")
    assert bench.model.read_config(0, 4) == b"\xff" * 4
    assert bench.read(INT_REG) == 0xFFFFFFFF
    bench.model.write_config(4, b"\0\0")
    bench.model.faults.clear()
    assert bench.model.config.bus_master


def test_long_reset_lasts_until_the_faults_are_cleared(bench: Bench) -> None:
    bench.model.set_fault("long_reset")
    assert bench.read(INT_REG) == 0
    bench.model.function_reset()
    assert bench.model.read_config(0, 4) == b"\xff" * 4
    assert bench.read(INT_REG) == 0xFFFFFFFF
    bench.model.clear_faults()
    assert bench.read(INT_REG) == 0


def test_lost_config_is_silent_until_memory_is_switched_on_again(bench: Bench) -> None:
    bench.start(C2H)
    bench.model.set_fault("lost_config")
    assert bench.model.read_config(COMMAND, 2) == bytes(2)
    assert bench.read(DCSR1) == 0xFFFFFFFF
    bench.write(DCSR1, INT_RD_ENB)
    bench.model.write_config(COMMAND, bytes([COMMAND_MASTER | 2, 0]))
    assert bench.read(DCSR1) == 0
    assert bench.model.faults.active == {}
    bench.run(1.0)
    assert bench.interrupts.messages == 0
    assert bench.violations == []


def test_delay_is_kept(bench: Bench) -> None:
    bench.model.set_fault("delay=3000*1")
    bench.start(C2H)
    bench.run(0.002)
    assert bench.read(INT_REG) == 0
    bench.run(0.002)
    assert bench.read(INT_REG) & C2H["done"]


def test_every_eighth_dma_has_a_hiccup(bench: Bench) -> None:
    bench.model.set_fault("hiccup=100-200")
    slow = []
    for number in range(16):
        bench.start(C2H)
        bench.run(50e-6)
        slow += [] if bench.read(INT_REG) & C2H["done"] else [number]
        bench.run(200e-6)
        bench.write(INT_REG, C2H["done"])
    assert slow == [7, 15]


def test_jitter_stays_in_its_range_and_repeats_with_its_seed() -> None:
    series = []
    for _ in range(2):
        model = capric.Model(seed=7)
        model.set_fault("jitter=20-30")
        series.append([model.dma_delay_us() for _ in range(100)])
    assert series[0] == series[1]
    assert all(20 <= delay <= 30 for delay in series[0])
    assert max(series[0]) - min(series[0]) > 5


@pytest.mark.parametrize("fault", [
    "lost_interrupt", "late_interrupt=1", "duplicate_interrupt", "spurious_interrupt=1", "early_completion", "stall",
    "late_dma", "lying_idle", "delayed_writes=1", "error=ur", "all_ones", "all_ones_config", "death", "delay=1",
    "jitter=1-2", "long_reset",
])
def test_all_faults_of_the_contract_are_known(bench: Bench, fault: str) -> None:
    bench.model.set_fault(fault)
    bench.model.set_fault(f"{fault}*3")


def test_unknown_fault_is_refused_with_the_list(bench: Bench) -> None:
    with pytest.raises(BadFault, match=r"all_ones, all_ones_config, death, delay, .*stall"):
        bench.model.set_fault("gremlins")
