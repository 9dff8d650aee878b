"""Data that arrives whole, by every way of waiting."""

from __future__ import annotations

import pytest

from .conftest import Lab


def test_capric_random_messages_arrive(lab: Lab) -> None:
    result = lab.echo(2000, seed=7)
    assert result["messages"] == 2000


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 2046, 2047])
def test_capric_message_of_each_length_arrives(lab: Lab, size: int) -> None:
    lab.echo(10, size=size)


def test_capric_polled_messages_arrive_without_interrupts(lab: Lab) -> None:
    lab.capric.control.set_fault("jitter=0-200")
    lab.capric.control.counters(reset=True)
    lab.echo(500, wait_mode="POLL")
    assert lab.capric.control.counters().get("interrupts", 0) == 0


def test_edu_memory_reads_back_what_was_written(lab: Lab) -> None:
    result = lab.call("transfers:fill_and_verify", path=lab.nodes["edu"] + "c0", transfers=16)
    assert result["errors"] == 0, result["first_error"]
    assert result["bytes"] > 2 * 4096


def test_edu_polled_reads_back_what_was_written(lab: Lab) -> None:
    path = lab.nodes["edu"] + "c0"
    assert lab.call("transfers:one", path=path, direction="write", length=4096, wait_mode="POLL")["moved"] == 4096
    assert lab.call("transfers:one", path=path, direction="read", length=100, wait_mode="POLL")["moved"] == 100


def test_info_tells_what_the_cards_are(lab: Lab) -> None:
    capric = lab.call("transfers:info", card=lab.nodes["capric"])
    assert capric["card"]["name"] == "capric"
    assert capric["card"]["pci_address"] == lab.addresses["capric"]
    assert (capric["card"]["vendor"], capric["card"]["device"]) == (0x10EE, 0x0007)
    assert capric["channel"]["kind"] == "MESSAGE"
    assert capric["channel"]["c2h"]["max_dma"] == capric["channel"]["h2c"]["max_dma"] == 2047
    edu = lab.call("transfers:info", card=lab.nodes["edu"])
    assert edu["channel"]["kind"] == "MEMORY"
    assert edu["channel"]["size"] == 4096
    assert edu["channel"]["h2c"]["address_bits"] == 28


def test_two_writers_and_a_reader_see_whole_messages(lab: Lab) -> None:
    lab.call("processes:pattern_writer", path=lab.data, count=1, value=0x33)
    writers = [lab.start("processes:pattern_writer", path=lab.data, count=300, value=v) for v in (0x11, 0x22)]
    torn = lab.call("processes:reader", path=lab.data, count=300)
    assert [writer.value(120) for writer in writers] == [300, 300]
    assert torn == 0


def test_fork_shares_the_open_file(lab: Lab) -> None:
    assert lab.call("processes:forked", path=lab.data) == {"child": 0, "parent": 0}


def test_exclusive_open_keeps_others_out(lab: Lab) -> None:
    opens = lab.call("processes:open_twice_exclusive", path=lab.data)
    assert opens == ["ok", "EBUSY", "EBUSY", "ok", "EBUSY"]
