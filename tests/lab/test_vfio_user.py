"""The vfio-user server, spoken to as QEMU does."""

from __future__ import annotations

import errno
import gc
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pciedma_lab.cards.capric import Model
from pciedma_lab.vfio_connection import Connection

from . import bench
from .bench import (
    C2H,
    DCSR1,
    DCSR2,
    H2C,
    INT_REG,
    INT_WR_ENB,
    MEMORY,
    MEMORY_SIZE,
    WR_DMA_ADR,
    WR_DMA_SIZE,
    Client,
    ProtocolError,
    Ram,
    eventually,
    rings,
)
from .conftest import Served

INTX, MSI, MSIX = 0, 1, 2
NONE, EVENTFD, MASK, UNMASK, TRIGGER = 1, 4, 8, 16, 32


@contextmanager
def failing(number: int) -> Iterator[None]:
    """Expect an answer with this errno."""
    with pytest.raises(ProtocolError) as caught:
        yield
    assert caught.value.errno == number


def open_files() -> int:
    gc.collect()  # the garbage of earlier tests is not this one's
    return len(list(Path("/proc/self/fd").iterdir()))


def sram(served: Served) -> bytearray:
    assert isinstance(served.model, Model)
    return served.model.sram


def start(client: Client, way: dict[str, int], size: int = 64, address: int = MEMORY) -> None:
    """Start a DMA with posted writes."""
    client.write(way["address"], address, posted=True)
    client.write(way["size"], size, posted=True)
    client.write(DCSR2, way["start"], posted=True)


def done(client: Client, way: dict[str, int]) -> bool:
    return bool(client.read(INT_REG) & way["done"])


# Greeting and description


def test_version_is_the_clients_at_most(served: Served) -> None:
    major, minor, capabilities = served.client().version(0, 0)
    assert (major, minor) == (0, 0)
    assert capabilities["write_multiple"] is True
    assert capabilities["pgsizes"] == 4096
    assert isinstance(capabilities["max_msg_fds"], int)
    assert served.alive


def test_version_of_a_newer_client_is_answered_with_ours(served: Served) -> None:
    assert served.client().version(0, 7)[:2] == (0, 1)


def test_other_major_version_is_hung_up_on(served: Served) -> None:
    with pytest.raises(ConnectionResetError):
        served.client().version(1, 0)
    assert served.client().version()[0] == 0


def test_device_is_pci_with_reset(client: Client) -> None:
    assert struct.unpack("<IIII", client.call(4, struct.pack("<IIII", 16, 0, 0, 0))) == (16, 3, 9, 5)


@pytest.mark.parametrize(("index", "flags", "size"), [(0, 3, 256), (1, 0, 0), (6, 0, 0), (7, 3, 4096), (8, 0, 0)])
def test_region_info(client: Client, index: int, flags: int, size: int) -> None:
    reply = client.call(5, struct.pack("<IIIIQQ", 32, 0, index, 0, 0, 0))
    assert struct.unpack("<IIIIQQ", reply) == (32, flags, index, 0, size, 0)


def test_region_info_of_no_region_is_einval(client: Client) -> None:
    with failing(errno.EINVAL):
        client.call(5, struct.pack("<IIIIQQ", 32, 0, 9, 0, 0, 0))


@pytest.mark.parametrize(("index", "flags", "count"), [(0, 7, 1), (1, 9, 1), (2, 9, 0), (3, 9, 0), (4, 9, 0)])
def test_irq_info(client: Client, index: int, flags: int, count: int) -> None:
    reply = client.call(7, struct.pack("<IIII", 16, 0, index, 0))
    assert struct.unpack("<IIII", reply) == (16, flags, index, count)


def test_irq_info_of_no_index_is_einval(client: Client) -> None:
    with failing(errno.EINVAL):
        client.call(7, struct.pack("<IIII", 16, 0, 5, 0))


@pytest.mark.parametrize("command", [0, 6, 14, 16, 99])
def test_unknown_command_is_enotsup(client: Client, command: int) -> None:
    with failing(errno.ENOTSUP):
        client.call(command)


def test_short_payload_is_einval(client: Client) -> None:
    for command in (2, 3, 5, 7, 8, 9, 10):
        with failing(errno.EINVAL):
            client.call(command, b"\1\2")


# Regions


def test_registers_read_back(client: Client) -> None:
    client.write(WR_DMA_ADR, 0x12345678)
    assert client.read(WR_DMA_ADR) == 0x12345678


def test_posted_writes_come_before_the_read_that_follows(client: Client) -> None:
    for n in range(500):
        client.write(WR_DMA_ADR, n, posted=True)
    assert client.read(WR_DMA_ADR) == 499


def test_many_requests_at_once_are_answered_in_order(client: Client) -> None:
    numbers = []
    for _ in range(300):
        client.send(9, struct.pack("<QII", DCSR1, 0, 4))
        numbers.append(client._number)
    for number in numbers:
        assert client.receive(number)[16:] == struct.pack("<I", 0x300)


def test_message_in_pieces_is_put_together(client: Client) -> None:
    message = struct.pack("<HHIIIQII", 77, 9, 32, 0, 0, DCSR1, 0, 4)
    for byte in message:
        client.socket.send(bytes([byte]))
        time.sleep(0.0005)
    assert client.receive(77)[16:] == struct.pack("<I", 0x300)


@pytest.mark.parametrize(("region", "offset", "size"), [
    (0, 0x100, 4), (0, 0xFE, 4), (0, 0, 3), (0, 0, 0), (1, 0, 4), (7, 4094, 4), (8, 0, 4), (0, (1 << 64) - 2, 4),
])
def test_access_outside_is_einval(client: Client, region: int, offset: int, size: int) -> None:
    with failing(errno.EINVAL):
        client.read(offset, size, region)
    with failing(errno.EINVAL):
        client.write(offset, 0, size, region)


def test_write_with_too_few_bytes_is_einval(client: Client) -> None:
    with failing(errno.EINVAL):
        client.call(10, struct.pack("<QII", WR_DMA_ADR, 0, 4) + b"\1\2")


def test_config_space_is_region_7(client: Client) -> None:
    assert client.config(0) == 0x000710EE
    client.write(0x10, 0xFFFFFFFF, region=7)
    assert client.config(0x10) == 0xFFFFFF00


def test_config_accesses_are_counted_apart(served: Served, client: Client) -> None:
    served.model.records.counters.clear()
    client.config(0)
    client.write(0x3C, 5, 1, region=7)
    assert served.model.records.counters == {"config_reads": 1, "config_writes": 1}


def test_multiple_writes_take_effect_in_order(client: Client) -> None:
    writes = [(WR_DMA_ADR, 0x111), (WR_DMA_SIZE, 7), (WR_DMA_ADR, 0x222)]
    payload = struct.pack("<Q", len(writes))
    for offset, value in writes:
        payload += struct.pack("<QIIQ", offset, 0, 4, value)
    assert client.call(15, payload) == struct.pack("<Q", 3)
    assert (client.read(WR_DMA_ADR), client.read(WR_DMA_SIZE)) == (0x222, 7)


def test_multiple_writes_beyond_their_number_are_ignored(client: Client) -> None:
    payload = struct.pack("<QQIIQ", 1, WR_DMA_ADR, 0, 4, 5) + struct.pack("<QIIQ", WR_DMA_ADR, 0, 4, 6)
    client.call(15, payload)
    assert client.read(WR_DMA_ADR) == 5


# Memory


def test_dma_moves_the_clients_memory(client: Client, ram: Ram) -> None:
    ram.bytes[:64] = bytes(range(64))
    start(client, H2C)
    assert done(client, H2C)
    start(client, C2H, address=MEMORY + 0x1000)
    assert done(client, C2H)
    assert ram.bytes[0x1000:0x1040] == bytes(range(64))


def test_file_descriptor_finds_its_message_among_posted_writes(client: Client, served: Served) -> None:
    other = Ram()
    try:
        for n in range(50):
            client.write(WR_DMA_SIZE, n, posted=True)
        payload = struct.pack("<IIQQQ", 32, 3, 0, 0x50_0000, MEMORY_SIZE)
        client.send(2, payload, [other.fd])
        number = client._number
        for n in range(50):
            client.write(WR_DMA_SIZE, n, posted=True)
        assert client.receive(number) == b""
        other.bytes[:4] = b"here"
        assert served.model.memory.read(0x50_0000, 4) == b"here"
    finally:
        other.close()


def test_two_maps_in_a_burst_get_the_file_each_came_with(client: Client, served: Served) -> None:
    rams = [Ram(), Ram()]
    try:
        for n, ram in enumerate(rams):
            ram.bytes[:1] = bytes([n + 1])
            client.send(2, struct.pack("<IIQQQ", 32, 3, 0, 0x50_0000 + n * 0x10_0000, MEMORY_SIZE), [ram.fd])
            client.send(2, struct.pack("<IIQQQ", 32, 1, 0, 0x58_0000 + n * 0x10_0000, 0x1000))
        for back in range(3, -1, -1):
            assert client.receive(client._number - back) == b""
        assert served.model.memory.read(0x50_0000, 1) == b"\1"
        assert served.model.memory.read(0x60_0000, 1) == b"\2"
    finally:
        for ram in rams:
            ram.close()


def test_map_over_a_mapping_is_eexist(client: Client, ram: Ram) -> None:
    with failing(errno.EEXIST):
        client.map(MEMORY + 0x1000, 0x1000, ram.fd)


def test_map_beyond_the_file_is_einval(client: Client, ram: Ram) -> None:
    with failing(errno.EINVAL):
        client.map(0x50_0000, 0x1000, ram.fd, offset=MEMORY_SIZE)


def test_map_of_a_file_that_cannot_be_mapped_is_an_error(client: Client) -> None:
    reader, writer = os.pipe()
    with pytest.raises(ProtocolError):
        client.map(0x50_0000, 0x1000, reader)
    os.close(reader)
    os.close(writer)
    assert client.read(DCSR1) == 0x300


def test_map_without_a_file_is_kept_and_refused_to_dma(client: Client, served: Served) -> None:
    client.map(0xF_0000, 0x1000, None)
    start(client, C2H, address=0xF_0000)
    assert not done(client, C2H)
    assert [v["name"] for v in served.model.records.violations] == ["dma_outside_memory"]


def test_read_only_map_refuses_a_dma_write(client: Client, served: Served, ram: Ram) -> None:
    client.map(0x50_0000, 0x1000, ram.fd, flags=1)
    start(client, C2H, address=0x50_0000)
    assert not done(client, C2H)
    assert [v["name"] for v in served.model.records.violations] == ["dma_outside_memory"]


def test_dma_after_unmap_is_recorded(client: Client, served: Served) -> None:
    client.unmap(MEMORY, MEMORY_SIZE)
    start(client, C2H)
    assert not done(client, C2H)
    assert [v["name"] for v in served.model.records.violations] == ["dma_after_unmap"]


def test_unmap_all_unmaps_all(client: Client, served: Served) -> None:
    client.unmap(0, 0, flags=2)
    start(client, C2H)
    client.read(INT_REG)
    assert [v["name"] for v in served.model.records.violations] == ["dma_after_unmap"]


def test_nothing_is_written_once_unmap_is_answered(client: Client, served: Served, ram: Ram) -> None:
    served.model.set_fault("jitter=0-300")
    for _ in range(100):
        ram.bytes[:2047] = bytes(2047)
        sram(served)[:] = b"\xaa" * 2048
        start(client, C2H, 2047)
        client.unmap(MEMORY, MEMORY_SIZE)
        before = ram.bytes[:2047]
        assert before in (bytes(2047), b"\xaa" * 2047)
        time.sleep(0.0005)
        assert ram.bytes[:2047] == before
        client.map(MEMORY, MEMORY_SIZE, ram.fd)
        client.write(DCSR1, 1)
        time.sleep(0.0001)
        client.write(DCSR1, INT_WR_ENB)
    assert served.model.records.counters["c2h_dmas"] + served.model.records.counters["dmas_refused"] > 0


# Interrupts


def test_message_rings_the_eventfd_after_the_data(client: Client, ram: Ram, served: Served, eventfd: int) -> None:
    client.set_irqs(EVENTFD | TRIGGER, MSI, 0, 1, [eventfd])
    sram(served)[:4] = b"data"
    start(client, C2H, 4)
    assert rings(eventfd) == 1
    assert ram.bytes[:4] == b"data"
    assert done(client, C2H)


def test_delayed_dma_ends_at_its_time(client: Client, served: Served, eventfd: int) -> None:
    client.set_irqs(EVENTFD | TRIGGER, MSI, 0, 1, [eventfd])
    served.model.set_fault("delay=200000*1")
    began = time.monotonic()
    start(client, C2H)
    assert rings(eventfd) == 1
    assert 0.2 <= time.monotonic() - began < 0.5


def test_first_set_irqs_may_come_without_a_file(client: Client, eventfd: int) -> None:
    client.set_irqs(EVENTFD | TRIGGER, MSI, 0, 1)
    client.set_irqs(EVENTFD | TRIGGER, MSI, 0, 1, [eventfd])
    start(client, C2H)
    assert rings(eventfd) == 1


def test_new_eventfd_replaces_the_old(client: Client, eventfd: int) -> None:
    old = os.eventfd(0, os.EFD_NONBLOCK)
    client.set_irqs(EVENTFD | TRIGGER, MSI, 0, 1, [old])
    client.set_irqs(EVENTFD | TRIGGER, MSI, 0, 1, [eventfd])
    start(client, C2H)
    assert rings(eventfd) == 1
    assert rings(old, 0) == 0
    os.close(old)


@pytest.mark.parametrize(("flags", "count"), [(NONE | TRIGGER, 0), (EVENTFD | TRIGGER, 1)])
def test_vectors_can_be_let_go(client: Client, eventfd: int, flags: int, count: int) -> None:
    client.set_irqs(EVENTFD | TRIGGER, MSI, 0, 1, [eventfd])
    client.set_irqs(flags, MSI, 0, count)
    start(client, C2H)
    assert done(client, C2H)
    assert rings(eventfd, 0.01) == 0


def test_pin_rings_once_until_unmasked_and_again_while_asserted(intx: Served, ram: Ram, eventfd: int) -> None:
    client = intx.client()
    client.version()
    client.map(MEMORY, MEMORY_SIZE, ram.fd)
    client.write(4, 6, 2, region=7)
    client.write(DCSR1, INT_WR_ENB)
    client.set_irqs(EVENTFD | TRIGGER, INTX, 0, 1, [eventfd])
    start(client, C2H)
    assert rings(eventfd) == 1
    assert rings(eventfd, 0.01) == 0
    client.set_irqs(EVENTFD | UNMASK, INTX, 0, 1, [eventfd])
    assert rings(eventfd, 0.01) == 0
    client.set_irqs(NONE | UNMASK, INTX, 0, 1)
    assert rings(eventfd) == 1
    client.write(INT_REG, C2H["done"])
    client.set_irqs(NONE | UNMASK, INTX, 0, 1)
    assert rings(eventfd, 0.01) == 0


def test_masked_pin_rings_when_unmasked(intx: Served, ram: Ram, eventfd: int) -> None:
    client = intx.client()
    client.version()
    client.map(MEMORY, MEMORY_SIZE, ram.fd)
    client.write(4, 6, 2, region=7)
    client.write(DCSR1, INT_WR_ENB)
    client.set_irqs(EVENTFD | TRIGGER, INTX, 0, 1, [eventfd])
    client.set_irqs(NONE | MASK, INTX, 0, 1)
    start(client, C2H)
    assert done(client, C2H)
    assert rings(eventfd, 0.01) == 0
    client.set_irqs(NONE | UNMASK, INTX, 0, 1)
    assert rings(eventfd) == 1


def test_disabled_pin_does_not_ring(intx: Served, ram: Ram, eventfd: int) -> None:
    client = intx.client()
    client.version()
    client.map(MEMORY, MEMORY_SIZE, ram.fd)
    client.write(4, 0x406, 2, region=7)
    client.write(DCSR1, INT_WR_ENB)
    client.set_irqs(EVENTFD | TRIGGER, INTX, 0, 1, [eventfd])
    start(client, C2H)
    assert done(client, C2H)
    assert rings(eventfd, 0.01) == 0


def test_pin_rings_although_the_card_could_send_messages(client: Client, ram: Ram, eventfd: int) -> None:
    client.enable_messages(bench.MSI, on=False)
    client.set_irqs(EVENTFD | TRIGGER, INTX, 0, 1, [eventfd])
    start(client, C2H)
    assert rings(eventfd) == 1
    client.enable_messages(bench.MSI)
    client.set_irqs(NONE | UNMASK, INTX, 0, 1)
    assert rings(eventfd, 0.01) == 0
    client.enable_messages(bench.MSI, on=False)
    assert rings(eventfd) == 1


def test_message_that_is_not_switched_on_is_not_sent(client: Client, eventfd: int) -> None:
    client.set_irqs(EVENTFD | TRIGGER, MSI, 0, 1, [eventfd])
    client.enable_messages(bench.MSI, on=False)
    start(client, C2H)
    assert done(client, C2H)
    assert rings(eventfd, 0.01) == 0


def test_both_kinds_of_messages_switched_on_are_msix(big: Served) -> None:
    client = big.client()
    client.version()
    files = [os.eventfd(0, os.EFD_NONBLOCK) for _ in (MSI, MSIX)]
    for kind, fd in zip((MSI, MSIX), files, strict=True):
        client.set_irqs(EVENTFD | TRIGGER, kind, 0, 1, [fd])
        client.enable_messages({MSI: bench.MSI, MSIX: bench.MSIX}[kind])
    client.write(0, 0, region=1)
    assert [rings(fd, 0) for fd in files] == [0, 1]
    for fd in files:
        os.close(fd)


def test_msix_vectors_ring_apart(big: Served) -> None:
    client = big.client()
    client.version()
    reply = client.call(7, struct.pack("<IIII", 16, 0, MSIX, 0))
    assert struct.unpack("<IIII", reply) == (16, 9, MSIX, 32)
    files = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(32)]
    client.set_irqs(EVENTFD | TRIGGER, MSIX, 0, 16, files[:16])
    client.set_irqs(EVENTFD | TRIGGER, MSIX, 16, 16, files[16:])
    client.enable_messages(bench.MSIX)
    for vector in (0, 7, 31):
        client.write(0, vector, region=1)
        assert [n for n, fd in enumerate(files) if rings(fd, 0)] == [vector]
    for fd in files:
        os.close(fd)


def test_several_bars_are_apart(big: Served) -> None:
    client = big.client()
    client.version()
    client.write(0x8, 1, region=0)
    client.write(0x8, 2, region=1)
    assert (client.read(0x8, region=0), client.read(0x8, region=1)) == (1, 2)


# Reset, clients that go, and clients that misbehave


def test_device_reset_resets_card_and_config(client: Client, served: Served) -> None:
    client.write(WR_DMA_SIZE, 9)
    resets = served.model.records.counters["resets"]
    assert client.call(13) == b""
    assert served.model.records.counters["resets"] == resets + 1
    assert (client.read(WR_DMA_SIZE), client.read(DCSR1)) == (0, 0)
    assert client.config(4) & 0xFFFF == 0


def test_function_reset_over_the_protocol(client: Client, served: Served) -> None:
    client.write(WR_DMA_SIZE, 9)
    client.write(0x48, 0xA810, 2, region=7)
    assert client.read(WR_DMA_SIZE) == 0
    assert client.config(4) & 0xFFFF == 0


def test_next_client_finds_a_card_after_reset(client: Client, served: Served, eventfd: int, ram: Ram) -> None:
    client.set_irqs(EVENTFD | TRIGGER, MSI, 0, 1, [eventfd])
    client.write(WR_DMA_SIZE, 9)
    client.close()
    second = served.client()
    second.version()
    assert (second.read(WR_DMA_SIZE), second.config(4) & 0xFFFF) == (0, 0)
    second.write(4, 6, 2, region=7)
    second.write(DCSR1, INT_WR_ENB)
    start(second, C2H)
    assert not done(second, C2H)
    assert [v["name"] for v in served.model.records.violations] == ["dma_outside_memory"]
    second.call(13)
    second.write(4, 6, 2, region=7)
    second.write(DCSR1, INT_WR_ENB)
    second.map(MEMORY, MEMORY_SIZE, ram.fd)
    start(second, C2H)
    assert done(second, C2H)
    assert rings(eventfd, 0.01) == 0


def test_second_client_waits_for_the_first(client: Client, served: Served) -> None:
    second = served.client()
    second.send(1, struct.pack("<HH", 0, 1))
    second.socket.settimeout(0.05)
    with pytest.raises(TimeoutError):
        second.receive()
    assert client.read(DCSR1) == 0x300
    client.close()
    second.socket.settimeout(10)
    assert second.receive()[:4] == struct.pack("<HH", 0, 1)


@pytest.mark.parametrize("rest", [
    b"", b"\1\2\3", struct.pack("<HHIII", 1, 9, 32, 0, 0) + b"abc", struct.pack("<HHIII", 1, 9, 15, 0, 0),
    struct.pack("<HHIII", 1, 9, 1 << 30, 0, 0), struct.pack("<HHIII", 1, 9, 16, 1, 0),
])
def test_client_that_goes_or_babbles_leaves_the_server_to_the_next(served: Served, rest: bytes) -> None:
    first = served.client()
    first.version()
    first.socket.send(rest)
    first.close()
    second = served.client()
    assert second.version()[0] == 0
    assert served.alive


def test_client_that_goes_without_its_answers_leaves_the_server_to_the_next(served: Served) -> None:
    first = served.client()
    first.version()
    for _ in range(200):
        first.send(9, struct.pack("<QII", DCSR1, 0, 4))
    first.close()
    assert served.client().version()[0] == 0
    assert served.alive


def test_client_that_goes_with_an_answer_unread_leaves_the_server_to_the_next(served: Served) -> None:
    first = served.client()
    first.send(1, struct.pack("<HH", 0, 1))
    assert eventually(lambda: bool(select.select([first.socket], [], [], 0)[0]))
    first.close()
    assert served.client().version()[0] == 0
    assert served.alive


def test_slow_reader_gets_every_answer(client: Client) -> None:
    first = client._number + 1
    client.socket.setblocking(False)
    sent = 0
    try:
        while sent < 20000:
            client.send(9, struct.pack("<QII", 0, 7, 4096))
            sent += 1
    except BlockingIOError:
        client._number -= 1
    client.socket.settimeout(10)
    assert sent > 10
    for number in range(first, first + sent):
        assert len(client.receive(number & 0xFFFF)) == 16 + 4096


def test_no_file_descriptor_is_left_over(served: Served, ram: Ram, eventfd: int) -> None:
    before = open_files()
    client = served.client()
    client.version()
    for _ in range(20):
        client.map(MEMORY, MEMORY_SIZE, ram.fd)
        with failing(errno.EEXIST):
            client.map(MEMORY, MEMORY_SIZE, ram.fd)
        client.set_irqs(EVENTFD | TRIGGER, MSI, 0, 1, [eventfd])
        client.set_irqs(EVENTFD | TRIGGER, INTX, 0, 1, [eventfd])
        client.set_irqs(EVENTFD | UNMASK, INTX, 0, 1, [eventfd])
        client.set_irqs(EVENTFD | TRIGGER, 4, 0, 1, [eventfd])
        client.send(99, b"", [eventfd, ram.fd])
        with failing(errno.ENOTSUP):
            client.receive()
        client.unmap(MEMORY, MEMORY_SIZE)
    client.close()
    assert eventually(lambda: open_files() <= before)


def test_hanging_up_is_an_end_and_no_error_although_something_was_not_read() -> None:
    for hangs_up in (False, True):
        here, there = socket.socketpair()
        connection = Connection(there)
        here.sendall(bytes(100_000))
        if hangs_up:
            connection.hang_up()
        connection.close()
        with here:
            if hangs_up:
                assert here.recv(1) == b""
            else:
                with pytest.raises(ConnectionResetError):
                    here.recv(1)
