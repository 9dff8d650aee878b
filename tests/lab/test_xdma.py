"""The XDMA model against the product guide, on the bench: what it does, what it forbids, and its faults."""

from __future__ import annotations

import pytest

from pciedma_lab.cards import xdma
from pciedma_lab.xdma.card_memory import SIZE
from pciedma_lab.xdma.stream import FIFO_BYTES

from .bench import MEMORY, Ram
from .xdma_bench import (
    ADJACENT,
    C2H,
    COMPLETED,
    CONFIG,
    CONTROL,
    CONTROL_W1C,
    CONTROL_W1S,
    COUNT,
    CREDITS,
    DATA,
    DONE,
    EOP,
    FIRST_LO,
    H2C,
    IDLE_STOPPED,
    IRQ,
    MAGIC_STOPPED,
    MASK,
    MASK_W1C,
    MASK_W1S,
    NON_INC,
    NOT_OF_C2H,
    RING,
    RING_LENGTH,
    RUN,
    RUNNING,
    SGDMA,
    STATUS,
    STATUS_RC,
    STOP,
    STOPPED,
    WRITE_ERRORS,
    XdmaBench,
)

PATTERN = bytes(n * 7 % 251 for n in range(4096))


@pytest.fixture
def bench() -> XdmaBench:
    return XdmaBench()


def put(bench: XdmaBench, data: bytes = PATTERN, at: int = DATA) -> None:
    bench.ram.bytes[at - MEMORY : at - MEMORY + len(data)] = data


def got(bench: XdmaBench, length: int, at: int = DATA) -> bytes:
    return bytes(bench.ram.bytes[at - MEMORY : at - MEMORY + length])


# Identity


def test_identifiers_name_target_channel_kind_and_version() -> None:
    model = xdma.Model("mixed")
    found = [model.read(0, offset, 4) for offset in (0x0000, 0x0100, 0x1100, 0x0200, 0x2000, 0x3000, 0x5100, 0x6000)]
    assert found == [
        0x1FC00006, 0x1FC08106, 0x1FC18106, 0, 0x1FC20006, 0x1FC30006, 0x1FC58106, 0x1FC60006,
    ]


@pytest.mark.parametrize("variant", list(xdma.DESIGNS))
def test_each_variant_has_its_bars_and_registers_where_it_says(variant: str) -> None:
    model = xdma.Model(variant)
    design = xdma.DESIGNS[variant]
    identifier = model.read(design.dma_bar, 0x2000, 4)
    assert identifier == (xdma.FOREIGN if variant.startswith("foreign") else 0x1FC20000 | design.version)
    assert model.records.violations == []


def test_alignments_register_says_what_the_engine_can_do() -> None:
    assert xdma.Model().read(0, 0x4C, 4) == 0x00010140
    assert xdma.Model("aligned").read(0, 0x104C - 0x1000, 4) == 0x00404040
    assert xdma.Model("old-core").read(0, 0x4C, 4) == 0


# Registers


@pytest.mark.parametrize("engine", [H2C, C2H])
def test_set_and_clear_aliases_change_bits_alone(bench: XdmaBench, engine: int) -> None:
    bench.write(engine + CONTROL, 0x18)
    bench.write(engine + CONTROL_W1S, 0x6)
    bench.write(engine + CONTROL_W1C, 0x8)
    assert bench.read(engine + CONTROL) == 0x16
    bench.write(engine + MASK, 0x12)
    bench.write(engine + MASK_W1S, 0x44)
    bench.write(engine + MASK_W1C, 0x2)
    assert bench.read(engine + MASK) == 0x54
    assert bench.violations == []


def test_status_is_cleared_by_reading_its_other_address_or_by_ones(bench: XdmaBench) -> None:
    put(bench)
    bench.chain(H2C, [(DATA, 0, 64)])
    assert bench.read(STATUS) == DONE | STOPPED
    bench.write(STATUS, DONE)
    assert bench.read(STATUS) == STOPPED
    assert bench.read(STATUS_RC) == STOPPED
    assert bench.read(STATUS) == 0


@pytest.mark.parametrize(
    ("offset", "size", "value", "violation"),
    [(0x0F0, 4, 0, "reserved_register"), (CONTROL, 4, 1 << 28, "reserved_bits"), (CONTROL, 1, 0, "access_size"),
     (0x0304, 4, 0, "reserved_register"), (ADJACENT, 4, 64, "reserved_bits"), (0x7000, 4, 0, "reserved_register")],
)
def test_write_that_the_guide_does_not_know_is_recorded(
    bench: XdmaBench, offset: int, size: int, value: int, violation: str
) -> None:
    bench.model.write(0, offset, size, value)
    assert bench.violations == [violation]


@pytest.mark.parametrize("alias", [0, 4, 8])
@pytest.mark.parametrize(
    ("register", "bits", "reserved"),
    [(CONTROL, 0x00FFFE7E, WRITE_ERRORS), (MASK, 0x00FFFE7E, WRITE_ERRORS | 1 << 3 | 1 << 5)],
)
def test_conditions_that_only_h2c_knows_are_reserved_for_c2h(
    bench: XdmaBench, register: int, bits: int, reserved: int, alias: int
) -> None:
    bench.write(H2C + register + alias, bits)
    bench.write(C2H + register + alias, bits & ~reserved)
    assert bench.violations == []
    for number in range(24):
        if reserved >> number & 1:
            bench.write(C2H + register + alias, 1 << number)
    assert bench.violations == ["reserved_bits"] * reserved.bit_count()
    assert not bench.read(C2H + register) & reserved


# Chains with STOP


@pytest.mark.parametrize("length", [1, 64, 4095])
def test_memory_moves_there_and_back(bench: XdmaBench, length: int) -> None:
    put(bench)
    bench.chain(H2C, [(DATA + 1, 0x1_2345_6789, length)])
    put(bench, bytes(4096))
    bench.chain(C2H, [(0x1_2345_6789, DATA + 2, length)])
    assert got(bench, length + 4) == b"\0\0" + PATTERN[1 : length + 1] + b"\0\0"
    assert bench.violations == []


def test_chain_counts_stops_and_leaves_run_set(bench: XdmaBench) -> None:
    bench.chain(H2C, [(DATA, n, 10) for n in range(5)])
    assert bench.read(COUNT) == 5
    assert bench.read(CONTROL) & RUN
    assert not bench.read(STATUS) & 1
    assert bench.poll_word(H2C) == 5
    assert bench.interrupts.messages == 1


def test_rising_run_clears_status_and_count(bench: XdmaBench) -> None:
    bench.chain(H2C, [(DATA, 0, 10)])
    bench.write(CONTROL_W1C, RUN)
    assert bench.read(COUNT) == 1
    bench.model.set_fault("stall")
    bench.write(CONTROL_W1S, RUN)
    assert bench.read(COUNT) == 0
    assert bench.read(STATUS) == 1


def test_descriptors_are_fetched_by_blocks(bench: XdmaBench) -> None:
    for index in range(10):
        # two blocks of five: within one, the number of those that are left
        adjacent = 3 - index if index < 4 else 4 if index == 4 else max(8 - index, 0)
        bench.descriptor(index, DATA, 0, 8, STOP if index == 9 else 0, adjacent=adjacent)
    bench.begin(H2C, credit_mode=False, adjacent=4)
    bench.run()
    assert bench.model.records.counters["h2c0_fetches"] == 2
    assert bench.read(COUNT) == 10


def test_block_across_4_kib_is_a_violation(bench: XdmaBench) -> None:
    for index in range(130):
        bench.descriptor(index, DATA, 0, 8, STOP if index == 129 else 0, adjacent=3)
    bench.write(FIRST_LO, RING + 126 * 32)
    bench.write(ADJACENT, 3)
    bench.write(CONTROL, RUNNING)
    bench.run()
    assert "block_crosses_page" in bench.violations


def test_first_descriptor_must_be_aligned(bench: XdmaBench) -> None:
    bench.write(FIRST_LO, RING + 16)
    bench.write(CONTROL, RUNNING)
    assert "descriptor_alignment" in bench.violations


def test_start_without_bus_master_is_a_violation(bench: XdmaBench) -> None:
    bench.bus_master(False)
    bench.begin(H2C)
    assert bench.violations == ["start_without_bus_master"]


def test_settings_while_it_runs_are_a_violation(bench: XdmaBench) -> None:
    bench.begin(H2C)
    bench.write(FIRST_LO, RING)
    assert bench.violations == ["setting_while_busy"]


# Rings with credits


def test_ring_goes_as_far_as_its_credits_and_is_busy_in_between(bench: XdmaBench) -> None:
    for index in range(256):
        bench.descriptor(index, DATA, index * 8, 8, COMPLETED)
    bench.begin(H2C)
    bench.run()
    assert bench.read(COUNT) == 0
    for credits in (1, 3, 200, 300):
        before = bench.read(COUNT)
        bench.write(CREDITS, credits)
        bench.run()
        assert bench.read(COUNT) == before + credits
        assert bench.poll_word(H2C) == before + credits
        assert bench.read(CREDITS) == 0
        assert bench.read(STATUS) & 1
    assert bench.violations == []


def test_overfetching_core_does_what_old_descriptors_say(bench: XdmaBench) -> None:
    put(bench, bytes(64))
    bench.model.card_memory.view(0, 64)[:] = PATTERN[:64]  # type: ignore[index]
    for index in range(4):
        bench.descriptor(index, 8 * index, DATA + 8 * index, 8, COMPLETED, magic=0xAD4B if index < 3 else 0)
    bench.descriptor(4, 32, DATA + 32, 8, COMPLETED)
    bench.begin(C2H)
    bench.model.set_fault("overfetch")
    bench.run()
    assert got(bench, 64) == bytes(64)  # nothing before the first credit
    bench.write(C2H + CREDITS, 1)
    bench.run()
    assert got(bench, 64) == PATTERN[:24] + bytes(40)
    assert bench.read(C2H + COUNT) == bench.poll_word(C2H) == 1
    bench.write(C2H + CREDITS, 1)
    bench.run()
    counters = bench.model.records.counters
    assert (counters["c2h0_overfetches"], counters["c2h0_overfetched"], bench.read(C2H + COUNT)) == (2, 3, 2)


def test_overfetching_core_does_what_lies_behind_stop(bench: XdmaBench) -> None:
    put(bench)
    bench.descriptor(1, DATA + 8, 8, 8)
    bench.model.set_fault("overfetch*1")
    bench.chain(H2C, [(DATA, 0, 8)])
    assert bytes(bench.model.card_memory.view(0, 24) or b"") == PATTERN[:16] + bytes(8)
    assert bench.read(COUNT) == 1


def test_old_descriptor_whose_memory_was_unmapped_is_seen(bench: XdmaBench) -> None:
    bench.descriptor(0, 0, DATA, 8, COMPLETED)
    bench.descriptor(1, 0, 0x1000_0000, 8, COMPLETED)
    bench.begin(C2H)
    bench.model.set_fault("overfetch*1")
    bench.write(C2H + CREDITS, 1)
    bench.run()
    assert bench.violations == ["dma_outside_memory"]


def completions(bench: XdmaBench, count: int) -> list[tuple[int, int, int]]:
    """Let one descriptor after the other be done; return count and poll word at each interrupt, and messages then."""
    for index in range(count):
        bench.descriptor(index, DATA, index * 8, 8, COMPLETED)
    seen: list[tuple[int, int, int]] = []

    def message(vector: int) -> None:
        bench.interrupts.messages += 1
        seen.append((bench.read(COUNT), bench.poll_word(H2C), bench.interrupts.messages))
        bench.write(STATUS, DONE)

    bench.interrupts.message = message  # type: ignore[method-assign]
    bench.begin(H2C)
    for _ in range(count):
        bench.write(CREDITS, 1)
        bench.run(1e-3)
    return seen


def test_stale_interrupts_come_again_and_tell_old_counts_first(bench: XdmaBench) -> None:
    bench.model.set_fault("stale_interrupt")
    seen = completions(bench, 4)
    assert [count for count, _, _ in seen] == [1, 1, 2, 3, 3, 3, 4]
    assert [poll for _, poll, _ in seen] == [1, 1, 2, 3, 3, 3, 4]
    assert bench.violations == []


def test_stale_count_is_right_when_the_engine_is_idle(bench: XdmaBench) -> None:
    bench.model.set_fault("stale_interrupt")
    for index in range(2):
        bench.descriptor(index, DATA, 0, 8, COMPLETED)
    bench.begin(H2C)
    bench.write(CREDITS, 2)
    bench.run()
    assert (bench.read(COUNT), bench.poll_word(H2C)) == (1, 1)
    bench.write(CONTROL_W1C, RUN)
    assert (bench.read(COUNT), bench.poll_word(H2C)) == (2, 2)
    interrupts = bench.interrupts.messages
    bench.run(1e-3)
    assert bench.interrupts.messages == interrupts


def endless_ring(bench: XdmaBench) -> None:
    """Let an engine run through the ring for ever, without credits."""
    for index in range(RING_LENGTH):
        bench.descriptor(index, DATA, index * 8, 8, COMPLETED)
    bench.begin(H2C, credit_mode=False)


def test_ring_without_end_lets_software_in(bench: XdmaBench) -> None:
    endless_ring(bench)
    counts = []
    for _ in range(10):
        assert bench.model.run_timers() == 0
        counts.append(bench.read(COUNT))
    assert counts == sorted({*counts})
    bench.write(CONTROL_W1C, RUN)
    bench.run()
    assert not bench.read(STATUS) & 1
    assert bench.violations == []


@pytest.mark.parametrize(("descriptors", "length"), [(1, 8), (RING_LENGTH, 8), (RING_LENGTH, 4096)])
def test_early_completion_is_over_when_the_credits_write_is(bench: XdmaBench, descriptors: int, length: int) -> None:
    for index in range(descriptors):
        bench.descriptor(index, DATA, index * length, length, COMPLETED)
    bench.begin(H2C)
    bench.run()
    bench.model.set_fault("early_completion*1")
    bench.write(CREDITS, descriptors)
    assert bench.poll_word(H2C) == descriptors


def test_early_completion_of_a_ring_without_end_lets_software_in(bench: XdmaBench) -> None:
    bench.model.set_fault("early_completion*1")
    endless_ring(bench)
    assert bench.read(COUNT) > RING_LENGTH
    bench.write(CONTROL_W1C, RUN)
    bench.run()
    assert not bench.read(STATUS) & 1


def test_credits_are_lost_when_run_falls(bench: XdmaBench) -> None:
    bench.begin(H2C)
    bench.model.set_fault("stall")
    for index in range(4):
        bench.descriptor(index, DATA, 0, 8)
    bench.write(CREDITS, 500)
    bench.write(CONTROL_W1C, RUN)
    assert bench.read(CREDITS) == 0


def test_more_credits_than_the_register_holds_are_a_violation(bench: XdmaBench) -> None:
    bench.begin(H2C)
    bench.write(CREDITS, 1000)
    bench.write(CREDITS, 24)
    assert bench.violations == ["credits"]


# Interrupts


def test_interrupt_needs_log_mask_and_enable(bench: XdmaBench) -> None:
    bench.write(MASK, 0)
    bench.chain(H2C, [(DATA, 0, 8)])
    assert bench.interrupts.messages == 0
    bench.write(MASK, DONE)
    assert bench.interrupts.messages == 1
    assert bench.read(IRQ + 0x44) == 1
    bench.write(STATUS, DONE)
    assert bench.read(IRQ + 0x44) == 0


def test_completion_while_the_source_is_high_makes_no_new_edge(bench: XdmaBench) -> None:
    for index in range(4):
        bench.descriptor(index, DATA, 0, 8, COMPLETED)
    bench.begin(H2C)
    bench.write(CREDITS, 1)
    bench.run()
    bench.write(CREDITS, 1)
    bench.run()
    assert bench.interrupts.messages == 1
    bench.write(STATUS, DONE)
    bench.write(CREDITS, 1)
    bench.run()
    assert bench.interrupts.messages == 2


def test_record_is_in_memory_before_the_interrupt(bench: XdmaBench) -> None:
    seen = []
    bench.interrupts.message = lambda vector: seen.append((vector, bench.poll_word(C2H), got(bench, 4)))  # type: ignore[method-assign]
    put(bench, b"abcd")
    bench.chain(H2C, [(DATA, 0, 4)])
    put(bench, b"wxyz")
    bench.write(IRQ + 0xA0, 5 << 8)
    bench.chain(C2H, [(0, DATA, 4)])
    assert seen[-1] == (5, 1, b"abcd")


def test_intx_is_a_level() -> None:
    bench = XdmaBench("intx")
    bench.chain(H2C, [(DATA, 0, 4)])
    assert bench.interrupts.asserted
    bench.write(STATUS, DONE | STOPPED)
    assert not bench.interrupts.asserted


@pytest.mark.parametrize("variant", ["default", "msi", "msi-msix"])
def test_pin_is_a_level_while_messages_are_off(variant: str) -> None:
    bench = XdmaBench(variant)
    bench.messages()
    bench.chain(H2C, [(DATA, 0, 4)])
    assert (bench.interrupts.asserted, bench.interrupts.messages) == (True, 0)
    bench.write(STATUS, DONE | STOPPED)
    assert not bench.interrupts.asserted
    bench.messages(msi=True, msix=True)
    bench.write(CONTROL_W1C, RUN)
    bench.chain(H2C, [(DATA, 0, 4)])
    assert (bench.interrupts.asserted, bench.interrupts.messages) == (False, 1)


def test_config_block_says_which_messages_are_on(bench: XdmaBench) -> None:
    for msi, msix in ((False, False), (False, True)):
        bench.messages(msi=msi, msix=msix)
        assert bench.read(CONFIG + 0x14) == msi | msix << 1


@pytest.mark.parametrize("variant", ["user-intx", "user"])
def test_user_wire_holds_the_pin_if_messages_are_off(variant: str) -> None:
    bench = XdmaBench(variant)
    bench.messages()
    bench.model.write(1, IRQ + 0x08, 4, 1 << 3)
    bench.model.set_fault("user_interrupt=3")
    assert (bench.interrupts.asserted, bench.interrupts.messages) == (True, 0)
    bench.model.write(0, 0x04, 4, 8)
    assert not bench.interrupts.asserted


@pytest.mark.parametrize("variant", ["user", "user-msi"])
def test_user_wire_stays_until_the_users_logic_was_served(variant: str) -> None:
    bench = XdmaBench(variant)
    model = bench.model
    model.write(1, IRQ + 0x08, 4, 1 << 3)
    model.write(1, IRQ + 0x80, 4, 7 << 24)
    model.set_fault("user_interrupt=3")
    assert bench.interrupts.messages == 1
    assert model.read(1, IRQ + 0x40, 4) == 8
    model.write(0, 0x04, 4, 8)
    assert model.read(1, IRQ + 0x48, 4) == 0


# The user's logic and the bypass


def test_reading_clears_what_counts_writes_and_each_access_counts_once() -> None:
    bench = XdmaBench("user")
    model = bench.model
    for value in (1, 2, 3):
        model.write(0, 0, 4, value)
    assert [model.read(0, 8, 4) for _ in range(2)] == [3, 0]
    model.write(0, 8, 4, 5)
    assert model.read(0, 8, 4) == 0
    counters = model.records.counters
    assert (counters["user_reads"], counters["user_reads.0x8.4"], counters["user_writes.0x0.4"]) == (3, 3, 3)
    assert counters["user_writes.0x8.4"] == 1
    assert model.state()["accesses"][-2:] == [("user", "write", 8, 4, 5), ("user", "read", 8, 4, 0)]


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_each_width_touches_its_bytes_of_the_users_registers(size: int) -> None:
    model = XdmaBench("user").model
    mask = (1 << 8 * size) - 1
    model.write(0, 0, 4, 0x44332211)
    assert model.read(0, 0, size) == 0x44332211 & mask
    model.write(0, 2 if size < 4 else 0, size, 0xAABBCCDD & mask)
    assert model.read(0, 0, 4) == {1: 0x44DD2211, 2: 0xCCDD2211}.get(size, 0xAABBCCDD)
    assert model.read(0, 3, 1) == {1: 0x44, 2: 0xCC}.get(size, 0xAA)


def test_wide_read_reads_both_registers_once() -> None:
    model = XdmaBench("user").model
    model.write(0, 0, 4, 7)
    assert model.read(0, 8, 8) == 1
    assert model.read(0, 8, 8) == 0
    model.write(0, 0, 8, 0xFFFFFFFF_00000009)
    assert model.read(0, 0, 8) == 9
    assert model.records.counters["user_reads.8"] == 3


@pytest.mark.parametrize(("bar", "offset", "window"), [(0, 0x2000, "user"), (2, 0x2000, "bypass")])
@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_memory_behind_user_and_bypass_bar_takes_every_width(bar: int, offset: int, window: str, size: int) -> None:
    model = XdmaBench("user-bypass").model
    value = 0x8877665544332211 & (1 << 8 * size) - 1
    model.write(bar, offset + size, size, value)
    assert model.read(bar, offset + size, size) == value
    assert model.read(bar, offset, size) == model.read(bar, offset + 2 * size, size) == 0
    counters = model.records.counters
    assert (counters[f"{window}_writes.{size}"], counters[f"{window}_reads.{size}"]) == (1, 3)


# Stopping


def test_halt_finishes_the_current_descriptor_and_no_other(bench: XdmaBench) -> None:
    for index in range(4):
        bench.descriptor(index, DATA, 0, 8, COMPLETED)
    bench.begin(H2C)
    bench.model.set_fault("delay=100")
    bench.write(CREDITS, 4)
    bench.run(20e-6)
    bench.write(CONTROL_W1C, RUN)
    assert bench.read(STATUS) & 1
    bench.run(1e-3)
    assert bench.read(STATUS) == DONE | IDLE_STOPPED
    assert bench.read(COUNT) == 1


def test_stalled_descriptor_stays_busy_until_a_function_reset(bench: XdmaBench) -> None:
    bench.model.set_fault("stall*1")
    bench.chain(H2C, [(DATA, 0, 8)])
    bench.write(CONTROL_W1C, RUN)
    bench.run(10)
    assert bench.read(STATUS) & 1
    bench.model.function_reset()
    assert bench.read(STATUS) == 0
    bench.run(10)
    assert bench.model.records.counters["h2c0_descriptors"] == 0


def test_late_dma_happens_after_the_halt_and_before_idle(bench: XdmaBench) -> None:
    put(bench, bytes(8))
    bench.model.card_memory.view(0, 8)[:] = b"the data"  # type: ignore[index]
    bench.model.set_fault("late_dma*1")
    bench.model.set_fault("stall*1")
    bench.chain(C2H, [(0, DATA, 8)])
    bench.write(C2H + CONTROL_W1C, RUN)
    assert got(bench, 8) == bytes(8)
    while bench.read(C2H + STATUS) & 1:
        pass
    assert got(bench, 8) == b"the data"
    assert "late_dma" in bench.events


def test_lying_idle_reads_idle_and_writes_later(bench: XdmaBench) -> None:
    bench.model.card_memory.view(0, 8)[:] = b"the data"  # type: ignore[index]
    put(bench, bytes(8))
    bench.model.set_fault("lying_idle*1")
    bench.model.set_fault("stall*1")
    bench.chain(C2H, [(0, DATA, 8)])
    bench.write(C2H + CONTROL_W1C, RUN)
    assert not bench.read(C2H + STATUS) & 1
    bench.bus_master(False)
    bench.run(2)
    assert got(bench, 8) == b"the data"
    assert "lying_idle_dma" in bench.events


@pytest.mark.parametrize(("fault", "moved"), [("dropped_dma", 0), ("dropped_dma=c2h", 0), ("short_dma=5", 5)])
def test_dma_that_was_dropped_is_reported_all_the_same(bench: XdmaBench, fault: str, moved: int) -> None:
    put(bench, bytes(20))
    bench.model.card_memory.view(0, 20)[:] = PATTERN[:20]  # type: ignore[index]
    bench.model.set_fault(f"{fault}*1")
    bench.chain(C2H, [(0, DATA, 10), (10, DATA + 10, 10)])
    assert got(bench, 20) == PATTERN[:moved] + bytes(10 - moved) + PATTERN[10:20]
    assert bench.read(C2H + COUNT) == bench.poll_word(C2H) == 2
    assert bench.violations == []


# Errors


@pytest.mark.parametrize(
    ("fault", "engine", "status"),
    [("descriptor_error", H2C, 1 << 19), ("read_error", C2H, 1 << 9), ("write_error", H2C, 1 << 14),
     ("magic_error", C2H, MAGIC_STOPPED)],
)
def test_error_is_logged_and_stops_the_engine(bench: XdmaBench, fault: str, engine: int, status: int) -> None:
    bench.model.set_fault(f"{fault}*1")
    bench.chain(engine, [(DATA, 0, 8) if engine == H2C else (0, DATA, 8)])
    assert bench.read(engine + STATUS) == status
    assert bench.read(engine + COUNT) == 0
    assert bench.interrupts.messages == 1


def test_error_that_nobody_wants_logged_stops_silently(bench: XdmaBench) -> None:
    bench.model.set_fault("read_error*1")
    bench.chain(H2C, [(DATA, 0, 8)], control=RUN)
    assert bench.read(STATUS) == 0


def test_busy_shows_once_more_after_an_error(bench: XdmaBench) -> None:
    bench.model.set_fault("busy_extra_read*1")
    bench.model.set_fault("read_error*1")
    bench.chain(H2C, [(DATA, 0, 8)])
    assert bench.read(STATUS) & 1
    assert not bench.read(STATUS) & 1


def test_poll_word_carries_the_error_bit(bench: XdmaBench) -> None:
    bench.model.set_fault("poll_error*1")
    bench.chain(H2C, [(DATA, 0, 8)])
    assert bench.poll_word(H2C) == 1 << 31


def test_descriptor_without_magic_stops(bench: XdmaBench) -> None:
    bench.descriptor(0, DATA, 0, 8, STOP, magic=0x1234)
    bench.begin(H2C, credit_mode=False, adjacent=0)
    bench.run()
    assert bench.read(STATUS) == MAGIC_STOPPED


def test_descriptors_outside_memory_are_an_error_and_a_violation(bench: XdmaBench) -> None:
    bench.write(FIRST_LO, 0x10000000)
    bench.write(CONTROL, RUNNING)
    bench.run()
    assert bench.read(STATUS) == 1 << 19
    assert bench.violations == ["dma_outside_memory"]


@pytest.mark.parametrize(("engine", "status"), [(H2C, 1 << 14), (C2H, 1 << 9)])
def test_nobody_answers_behind_the_cards_memory(bench: XdmaBench, engine: int, status: int) -> None:
    bench.chain(engine, [(DATA, SIZE - 4, 8) if engine == H2C else (SIZE - 4, DATA, 8)])
    assert bench.read(engine + STATUS) == status


def test_fixed_address_repeats_the_data_paths_width(bench: XdmaBench) -> None:
    bench.model.card_memory.view(32, 16)[:] = PATTERN[:16]  # type: ignore[index]
    bench.chain(C2H, [(32, DATA, 64)], control=RUNNING | NON_INC)
    assert got(bench, 64) == PATTERN[:16] * 4
    bench.write(C2H + CONTROL_W1C, RUN)
    bench.chain(C2H, [(33, DATA, 64)], control=RUNNING | NON_INC)
    assert bench.read(C2H + STATUS) & 8


def test_unaligned_addresses_are_refused_by_a_core_that_needs_them_aligned() -> None:
    bench = XdmaBench("aligned")
    bench.chain(H2C, [(DATA + 1, 0, 64)])
    assert bench.read(STATUS) == 8


def test_strict_poll_mode_needs_completions_logged(bench: XdmaBench) -> None:
    bench.model.set_fault("strict_poll_mode")
    bench.chain(H2C, [(DATA, 0, 8)], control=RUNNING & ~DONE)
    assert bench.poll_word(H2C) == 0


# Streams


def test_stream_loops_packets_back_with_their_results() -> None:
    bench = XdmaBench("stream")
    put(bench)
    bench.descriptor(0, DATA, 0, 100, EOP | STOP | COMPLETED, adjacent=0)
    bench.begin(H2C, credit_mode=False, adjacent=0)
    bench.run()
    put(bench, bytes(4096))
    bench.descriptor(0, DATA + 0x2000, DATA, 64, adjacent=0)
    bench.descriptor(1, DATA + 0x2020, DATA + 64, 64, STOP | COMPLETED, adjacent=0)
    bench.begin(C2H, credit_mode=False, adjacent=1)
    bench.run()
    assert got(bench, 128) == PATTERN[:100] + bytes(28)
    assert got(bench, 8, DATA + 0x2000) == bytes.fromhex("0000b452 40000000".replace(" ", ""))
    assert got(bench, 8, DATA + 0x2020) == bytes.fromhex("0100b452 24000000".replace(" ", ""))


def test_stream_waits_for_data_and_stays_busy() -> None:
    bench = XdmaBench("stream")
    bench.descriptor(0, DATA + 0x2000, DATA, 64, STOP, adjacent=0)
    bench.begin(C2H, credit_mode=False, adjacent=0)
    bench.run(10)
    assert bench.read(C2H + STATUS) & 1
    bench.model.set_fault("stream_source=16")
    bench.run()
    assert got(bench, 16) == bytes(range(16))


def test_stream_length_must_be_a_multiple_of_64() -> None:
    bench = XdmaBench("stream")
    bench.model.set_fault("stream_source=16")
    bench.descriptor(0, DATA + 0x2000, DATA, 100, STOP, adjacent=0)
    bench.begin(C2H, credit_mode=False, adjacent=0)
    bench.run()
    assert bench.violations == ["stream_length"]


def test_sink_notices_a_wrong_byte() -> None:
    bench = XdmaBench("stream")
    bench.model.set_fault("stream_sink")
    put(bench, bytes(range(251)))
    bench.chain(H2C, [(DATA, 0, 100)])
    assert bench.model.state()["stream_errors"] == 0
    bench.write(CONTROL_W1C, RUN)
    bench.chain(H2C, [(DATA, 0, 100)])
    assert bench.model.state()["stream_errors"] == 1


@pytest.mark.parametrize("sink", [None, "sink_rate=0"])
def test_nobody_takes_more_than_the_fifo_holds(sink: str | None) -> None:
    bench = XdmaBench("stream")
    more = Ram(1 << 20)
    bench.model.memory.map(1 << 32, 1 << 20, more.fd)
    if sink:
        bench.model.set_fault(sink)
    bench.descriptor(0, 1 << 32, 0, 1 << 20, STOP | COMPLETED, adjacent=0)
    bench.begin(H2C, credit_mode=False, adjacent=0)
    bench.run(10)
    assert bench.model.records.counters["h2c_bytes"] - 32 == FIFO_BYTES
    assert bench.read(STATUS) & 1
    bench.write(CONTROL_W1C, RUN)
    bench.run(10)
    assert bench.read(STATUS) & 1
    bench.model.set_fault("stream_sink")
    bench.model.set_fault("sink_rate=1000")
    bench.run(1)
    assert bench.read(STATUS) == DONE | STOPPED | IDLE_STOPPED
    assert bench.read(COUNT) == 1
    more.close()


def test_reader_makes_room_and_gets_every_byte() -> None:
    bench = XdmaBench("stream")
    bench.ram.bytes[:] = bytes(n * 7 % 251 for n in range(len(bench.ram.bytes)))
    data = bytes(bench.ram.bytes[0x8000:])
    for index in range(3):
        bench.descriptor(index, DATA, 0, len(data), COMPLETED | (EOP | STOP if index == 2 else 0), adjacent=0)
    bench.begin(H2C, credit_mode=False, adjacent=0)
    bench.run()
    assert (bench.read(COUNT), bench.read(STATUS) & 1) == (2, 1)
    bench.write(C2H + FIRST_LO, RING + 32 * 8)
    received = b""
    while len(received) < 3 * len(data):
        put(bench, bytes(0x1000))
        bench.descriptor(8, MEMORY + 0x7000, DATA, 0x1000, STOP | COMPLETED, adjacent=0)
        bench.write(C2H + CONTROL, RUNNING & ~NOT_OF_C2H)
        bench.run()
        bench.write(C2H + CONTROL_W1C, RUN)
        received += got(bench, 0x1000)
        put(bench, data[:0x1000])
    assert received == 3 * data
    assert bench.read(COUNT) == 3


def test_sink_takes_at_its_rate_and_checks() -> None:
    bench = XdmaBench("stream")
    bench.model.set_fault("sink_rate=1")
    bench.ram.bytes[0x8000:0x9000] = bytes(n % 251 for n in range(0x1000))
    for index in range(32):
        bench.descriptor(index, DATA, 0, 251 * 16, COMPLETED | (STOP if index == 31 else 0), adjacent=0)
    bench.begin(H2C, credit_mode=False, adjacent=0)
    bench.run()
    first = bench.read(COUNT)
    assert 251 * 16 * first <= FIFO_BYTES
    bench.run(4e-3)
    assert bench.read(COUNT) == first + 1
    bench.run(0.1)
    assert bench.read(COUNT) == 32
    assert bench.model.state()["stream_errors"] == 0


# Performance counters

PERF, AUTO, CLEAR, COUNT_ON = 0xC0, 1, 2, 4


def perf(bench: XdmaBench) -> tuple[int, int]:
    """Return cycles and beats of H2C channel 0."""
    low, high, beats, beats_high = (bench.read(PERF + 4 * n) for n in range(1, 5))
    return high << 32 | low, beats_high << 32 | beats


def test_counters_count_while_they_run_and_clear(bench: XdmaBench) -> None:
    bench.write(PERF, CLEAR | COUNT_ON)
    assert bench.read(PERF) == COUNT_ON
    bench.chain(H2C, [(DATA, 0, 160), (DATA, 0, 1)])
    bench.run(1.0)
    cycles, beats = perf(bench)
    assert cycles == pytest.approx(250e6, rel=1e-6)
    assert beats == 11
    bench.write(PERF, 0)
    bench.run(1.0)
    bench.write(CONTROL_W1C, RUN)
    bench.chain(H2C, [(DATA, 0, 160)])
    assert perf(bench) == (cycles, beats)
    bench.write(PERF, CLEAR)
    assert perf(bench) == (0, 0)


def test_automatic_counters_count_from_run_to_stop(bench: XdmaBench) -> None:
    bench.write(PERF, AUTO | COUNT_ON)
    bench.run(5.0)
    for _ in range(2):
        bench.model.set_fault("bandwidth=16")
        bench.write(CONTROL_W1C, RUN)
        bench.chain(H2C, [(DATA, 0, 16000)])
        bench.run(5.0)
        cycles, beats = perf(bench)
        assert cycles == pytest.approx(250e3, rel=0.01)
        assert beats == 1000


def test_counter_stays_at_its_end(bench: XdmaBench) -> None:
    bench.write(PERF, COUNT_ON)
    bench.run(20_000)
    assert perf(bench)[0] == 1 << 48 | (1 << 42) - 1


# Time


def test_bandwidth_and_busy_time(bench: XdmaBench) -> None:
    bench.model.set_fault("bandwidth=1")
    for index in range(4):
        bench.descriptor(index, DATA, 0, 1000, COMPLETED)
    bench.begin(H2C)
    bench.write(CREDITS, 4)
    bench.run(0.5e-3)
    assert bench.poll_word(H2C) == 0
    bench.run(2e-3)
    assert bench.poll_word(H2C) == 2
    bench.run(5e-3)
    counters = bench.model.records.counters
    assert bench.poll_word(H2C) == 4
    assert counters["h2c0_busy_ns"] == pytest.approx(4e6, rel=0.01)
    assert counters["h2c0_last_ns"] - counters["h2c0_first_ns"] == pytest.approx(4e6, rel=0.01)


def test_slow_engine_is_busy_with_one_descriptor_until_its_end(bench: XdmaBench) -> None:
    bench.model.set_fault("bandwidth=0.1")
    for index in range(4):
        bench.descriptor(index, DATA, 0, 4096)
    bench.begin(H2C)
    bench.write(CREDITS, 4)
    bench.run(0.060)
    assert bench.read(COUNT) == 1
    bench.write(CONTROL_W1C, RUN)
    bench.run(0.015)
    assert (bench.read(STATUS) & 1, bench.read(COUNT)) == (1, 1)
    bench.run(0.010)
    assert (bench.read(STATUS), bench.read(COUNT)) == (IDLE_STOPPED, 2)


def test_slow_engine_moves_a_long_descriptor_bit_by_bit(bench: XdmaBench) -> None:
    put(bench, bytes(0x8000))
    bench.model.card_memory.view(0, 0x8000)[:] = b"x" * 0x8000  # type: ignore[index]
    bench.model.set_fault("bandwidth=1")
    bench.chain(C2H, [(0, DATA, 0x8000)])
    bench.run(10e-3)
    assert 10_000 <= got(bench, 0x8000).count(b"x") <= 20_000
    bench.run(30e-3)
    assert got(bench, 0x8000) == b"x" * 0x8000
    assert bench.read(C2H + STATUS) == DONE | STOPPED


def test_reset_brings_every_register_back(bench: XdmaBench) -> None:
    bench.chain(H2C, [(DATA, 0, 8)])
    bench.messages()
    bench.model.function_reset()
    fresh = xdma.Model()
    for base in (0, C2H, IRQ, CONFIG, SGDMA, SGDMA + C2H, 0x6000):
        for offset in range(0, 0x100, 4):
            assert bench.read(base + offset) == fresh.read(0, base + offset, 4), hex(base + offset)
