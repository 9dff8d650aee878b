"""Finalizers, collections and handlers of signals that come in the midst of a channel's work."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import pciedma
from pciedma import Entry, sharing, transfer
from pciedma.turn import Turn

from .fake_driver import FakeDriver


class StopError(Exception):
    pass


@pytest.fixture
def buffer(channel: pciedma.Channel) -> Iterator[pciedma.Buffer]:
    with channel.buffer(4096) as made:
        yield made


def reads(buffer: pciedma.Buffer, count: int) -> list[Entry]:
    return [Entry(buffer[n : n + 1], n, direction="read") for n in range(count)]


def ends(call: Callable[[], object]) -> None:
    """Make a call in a thread; it is to come back."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "it waits for itself"
    assert failures == []


@contextmanager
def alarms(handler: Callable[[], object]) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, lambda *arguments: handler())
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def left_over(channel: pciedma.Channel, driver: FakeDriver, buffer: pciedma.Buffer, ways: str) -> None:
    """Leave coroutines whose loop was closed to the next collection."""
    loop = asyncio.new_event_loop()
    calls: list[Any] = [channel.read_async(8)] if "pool" in ways else []
    calls += [channel.transfer_async(reads(buffer, 3))] if "entries" in ways else []
    calls += [channel.read_async(1 << 12) for _ in range(600)] if "tickets" in ways else []
    for call in calls:
        task: Any = loop.create_task(call)
        task._log_destroy_pending = False
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()


@pytest.mark.parametrize("ways", ["pool", "entries", "pool entries tickets"])
def test_coroutines_that_are_collected_in_the_midst_of_a_call_do_not_stop_it(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer, monkeypatch: pytest.MonkeyPatch, ways: str
) -> None:
    entries, collected = transfer._entries, []

    def collect(*arguments: Any) -> Any:
        collected.append(gc.collect())
        return entries(*arguments)

    def work() -> None:
        driver.entries.held = True
        gc.disable()
        try:
            left_over(channel, driver, buffer, ways)
            driver.entries.release()
            driver.entries.held = False
            channel.wait(0)  # nobody but their own circle keeps them now
            monkeypatch.setattr(transfer, "_entries", collect)
            channel.submit(reads(buffer, 2))
        finally:
            gc.enable()
        assert len(channel.wait(2)) == 2
        assert asyncio.run(channel.read_async(2)) == b"\0\1"

    ends(work)
    assert collected[0] > 0
    pool = channel._pool
    assert not (channel._tickets or channel._loops or channel._queue or channel._handed_in)
    assert pool is None or pool._free[len(pool.memory)] == {0}


def test_handler_of_a_signal_is_refused_in_the_midst_of_a_call(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries, told = transfer._entries, []

    def interrupted(*arguments: Any) -> Any:
        for call in (lambda: channel.submit(reads(buffer, 1)), channel.wait):
            with pytest.raises(RuntimeError, match="at work in this thread"):
                call()
        told.append(channel.submitted)
        return entries(*arguments)

    monkeypatch.setattr(transfer, "_entries", interrupted)
    ends(lambda: channel.submit(reads(buffer, 3)))
    assert (told, [result.tag for result in channel.wait(3)]) == ([3], [0, 1, 2])


@pytest.mark.parametrize("where", ["in a handler", "in a thread"])
@pytest.mark.parametrize("way", ["submit", "asyncio", "transfer"])
def test_cancel_ends_what_is_just_being_handed_in(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer, monkeypatch: pytest.MonkeyPatch, way: str,
    where: str,
) -> None:
    entries = transfer._entries
    threads = [threading.Thread(target=channel.cancel)]

    def cancel(*arguments: Any) -> Any:
        if where == "in a handler":
            channel.cancel()
        else:
            threads[0].start()
            threads[0].join(0.1)
        return entries(*arguments)

    monkeypatch.setattr(transfer, "_entries", cancel)
    driver.entries.held = True
    if way == "submit":
        channel.submit(reads(buffer, 3))
        errors: list[Any] = [result.error for result in channel.wait(3, timeout_s=5)]
    elif way == "transfer":
        with pytest.raises(pciedma.RequestCancelledError) as caught:
            channel.transfer(reads(buffer, 3))
        errors = [result.error for result in caught.value.results]
        assert driver.entries.calls == []
    else:
        calls = [channel.read_async(1), channel.transfer_async(reads(buffer, 2))]

        async def main() -> list[Any]:
            return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 5)

        errors = asyncio.run(main())
    assert {type(error) for error in errors} == {pciedma.RequestCancelledError}
    assert driver.entries.under_way == 0
    monkeypatch.setattr(transfer, "_entries", entries)
    driver.entries.held = False
    assert channel.transfer(reads(buffer, 1))[0].error is None


def test_finalizer_of_memory_is_refused_as_results_are_taken(driver: FakeDriver, channel: pciedma.Channel) -> None:
    told: list[str] = []

    class Memory(bytearray):
        pass

    def finalize(reference: object) -> None:
        try:
            channel.wait()
        except RuntimeError as error:
            told.append(str(error))

    driver.entries.held = True
    memory = Memory(8)
    kept = weakref.ref(memory, finalize)
    with channel.register(memory) as registration:
        channel.submit([Entry(registration, 0, direction="read")])
    del memory, registration
    driver.entries.release()
    ends(lambda: channel.wait(1))
    assert (kept(), len(told)) == (None, 1)


def test_handler_of_a_signal_may_submit_but_not_wait_while_its_thread_waits(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer
) -> None:
    """It would take what that waits for."""
    told: list[Any] = []

    def handler() -> None:
        told.append(channel.submit(reads(buffer, 2)))
        told.append(channel.wait(0))
        with pytest.raises(RuntimeError, match="at work in this thread"):
            channel.wait(1, timeout_s=5)
        driver.entries.release()

    driver.entries.held = True
    channel.submit(reads(buffer, 2))
    with alarms(handler):
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert [result.tag for result in channel.wait(4, timeout_s=5)] == [0, 1, 2, 3]
    assert told == [[2, 3], []]


def test_memory_may_be_shared_in_the_midst_of_that(
    channel: pciedma.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    nested: list[Any] = []

    def ref(*arguments: Any) -> Any:
        if not nested:
            nested.append(None)
            nested[0] = channel.register(bytearray(8))
        return weakref.ref(*arguments)

    monkeypatch.setattr(sharing, "weakref", types.SimpleNamespace(ref=ref))
    made: list[Any] = []
    ends(lambda: made.append(channel.register(bytearray(16))))
    for one in (*nested, *made):
        assert channel.transfer([Entry(one.memory, 0, direction="read")])[0].error is None
        one.close()


def test_second_signal_while_the_lock_is_another_s_loses_nothing(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer
) -> None:
    """The first comes while results are waited for, the second while the lock is."""
    failures: list[BaseException] = []
    waiting, locked = threading.Event(), threading.Event()

    def hold() -> None:
        waiting.wait()
        time.sleep(0.1)
        try:
            with channel._condition:
                locked.set()
                time.sleep(0.4)
        except BaseException as error:
            failures.append(error)

    def stop() -> None:
        raise StopError

    driver.entries.held = True
    channel.submit(reads(buffer, 2))
    thread = threading.Thread(target=hold)
    thread.start()
    with alarms(stop):
        signal.setitimer(signal.ITIMER_REAL, 0.25, 0.1)
        waiting.set()
        with pytest.raises(StopError):
            channel.wait(2)
    thread.join()
    assert locked.is_set()
    assert failures == []
    driver.entries.release()
    ends(lambda: channel.wait(2))
    assert channel.submitted == 0


def test_exception_at_any_line_of_waiting_leaves_the_lock_free_and_loses_nothing(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer
) -> None:
    """As that of a handler of a signal."""
    lines = 0

    def trace(at: int) -> Callable[..., Any]:
        def of_line(frame: types.FrameType, event: str, argument: object) -> Any:
            nonlocal lines
            if event == "line":
                lines += 1
                if lines == at:
                    raise StopError
            return of_line

        def of_call(frame: types.FrameType, event: str, argument: object) -> Any:
            return of_line if frame.f_code.co_name in ("_await_results", "_regain") else None

        return of_call

    def wait(at: int) -> None:
        nonlocal lines
        lines = 0
        timer = threading.Timer(0.01, driver.entries.release)
        driver.entries.held = True
        channel.submit(reads(buffer, 2))
        timer.start()
        before = sys.gettrace()
        sys.settrace(trace(at))
        try:
            channel.wait(2, timeout_s=5)
        except StopError:
            pass
        finally:
            sys.settrace(before)
        timer.join()

    wait(0)
    total = lines
    assert total > 10
    for at in range(1, total + 1):
        wait(at)
        ends(lambda: channel.wait(100, timeout_s=5))
        assert channel.submitted == 0, at


@pytest.mark.parametrize("method", ["_take", "_feed"])
def test_what_is_to_be_cleared_up_does_not_wait_for_results(
    driver: FakeDriver, channel: pciedma.Channel, buffer: pciedma.Buffer, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """What is collected in the midst of wait() may be what another waits for."""
    original, left, done = getattr(pciedma.Channel, method), [None], []

    def collect(self: pciedma.Channel, *arguments: Any) -> None:
        original(self, *arguments)
        if left:
            left.clear()
            channel._turn.clear_up(lambda: done.append(time.monotonic()))
            assert done == []

    driver.entries.held = True
    channel.submit(reads(buffer, 2))
    monkeypatch.setattr(pciedma.Channel, method, collect)
    begin = time.monotonic()
    driver.entries.release(1)
    threading.Timer(1, driver.entries.release).start()
    assert len(channel.wait(2, timeout_s=10)) == 2
    assert done[0] - begin < 0.8


def test_what_is_to_be_cleared_up_is_left_to_who_has_the_lock() -> None:
    turn, done = Turn(), []
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with turn, turn.lock:
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(10)
    ends(lambda: turn.clear_up(lambda: done.append(threading.get_ident())))
    assert done == []
    leave.set()
    thread.join()
    assert done == [thread.ident]
    with turn, turn.lock:
        turn.clear_up(lambda: done.append(turn.is_mine))
        assert len(done) == 1
    assert done[1:] == [True]
    turn.clear_up(lambda: done.append(turn.is_mine))
    assert done[2:] == [True]
    assert not turn.is_mine
