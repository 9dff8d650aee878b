"""Vectors, RWF_NOWAIT and Linux AIO take the same path as read and write."""

from __future__ import annotations

from .conftest import Lab


def test_vectored_message_is_one_dma_each_way(lab: Lab) -> None:
    lab.capric.control.counters(reset=True)
    result = lab.call("ways_in:vectors", path=lab.data)
    assert result == {"sent": 2047, "got": 2047, "same": True, "too_long": "EMSGSIZE"}
    assert lab.capric.control.counters()["starts"] == 2


def test_nowait_moves_on_an_idle_card_and_is_eagain_on_a_busy_one(lab: Lab) -> None:
    assert lab.call("ways_in:nowait", path=lab.data) == 10
    lab.capric.control.set_fault("stall=c2h*1")
    blocked = lab.begin("transfers:one", path=lab.data, direction="read", timeout_s=1.5)
    assert lab.call("ways_in:nowait", path=lab.data) == "EAGAIN"
    assert blocked.value()["class"] == "DmaTimeoutError"


def test_linux_aio_moves_messages(lab: Lab) -> None:
    assert lab.call("ways_in:aio", path=lab.data, rounds=50) == {"short": [], "wrong": 0}


def test_linux_aio_moves_memory_at_an_offset(lab: Lab) -> None:
    path = lab.nodes["edu"] + "c0"
    assert lab.call("ways_in:aio", path=path, rounds=2, offset=100) == {"short": [], "wrong": 0}
