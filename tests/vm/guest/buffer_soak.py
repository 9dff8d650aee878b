"""Buffers made and let go of very often, and at each moment at which their card can go; run in the guest.

Each function returns what was wrong.
"""

from __future__ import annotations

import mmap
import os
import random
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pciedma
from pciedma import uapi
from pciedma_lab.guest import buffers
from pciedma_lab.guest.buffers import PAGE

from . import exports
from .buffer_faults import Call, Case, errno_of, held, in_child, make_batch, moves, unlike, until
from .buffer_life import as_user, just_free
from .entries import BARRIER, C2H, H2C, batch, entry, wait
from .shared import BOTH, Outcome, create, destroy, said

_NEW, _USER = uapi.PCIEDMA_BUFFER_NEW, uapi.PCIEDMA_BUFFER_USER
_LIMIT_PAGES = 64
#: What a result has that nobody has told.
_UNTOLD = 77


def _cycle(fd: int, rng: random.Random) -> bool:
    """Make a buffer, map it, move it there and back, and let go of it, in some order; returns whether it was right."""
    size = PAGE * rng.randint(1, 8)
    made = create(fd, size)
    area = buffers.shared_of(fd, size, made.mmap_offset)
    view = area.view
    length = rng.randint(1, size)
    view[:length] = data = rng.randbytes(length)
    whole = batch(fd, [entry(H2C, made.id, 0, length)]) == (1, [(0, length, 0)])
    view[:length] = bytes(length)
    early = rng.random() < 0.5
    if early:
        destroy(fd, made.id)
        whole &= os.preadv(fd, [view[:length]], 0) == length
    else:
        whole &= batch(fd, [entry(C2H, made.id, 0, length)]) == (1, [(0, length, 0)])
    whole &= view[:length] == data
    view.release()
    area.close()
    if not early:
        destroy(fd, made.id)
    return whole


def _killed(path: str, rng: random.Random) -> None:
    """Let a child go through cycles until it is killed."""
    child = os.fork()
    if not child:
        try:
            fd = os.open(path, os.O_RDWR)
            while True:
                _cycle(fd, rng)
        finally:
            os._exit(1)
    time.sleep(rng.random() * 0.03)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def cycles(path: str, count: int, kills: int, seed: int) -> list[str]:
    """Go through *count* cycles, *kills* of them killed at some moment; at the end as much is free as at first."""
    fd = os.open(path, os.O_RDWR)

    def work() -> list[Case]:
        rng = random.Random(seed)
        ended = {number * (count // kills) for number in range(kills)} if kills else set()
        wrong = 0
        for number in range(count):
            if number in ended:
                _killed(path, rng)
            else:
                wrong += not _cycle(fd, rng)
        free = just_free(fd, _LIMIT_PAGES)
        return [("wrong", 0, wrong), ("held", (0, 0), held(fd)), ("just all is free", True, free)]

    os.chmod(path, 0o666)  # noqa: PTH101
    return as_user(_LIMIT_PAGES * PAGE, [fd], work)


class _Victim:
    """What has a card's memory when that goes."""

    def __init__(self, path: str) -> None:
        self.channel = pciedma.Channel(path)
        self.channel.timeout_s = None
        self.fd = self.channel.fileno()
        self.data = os.urandom(4 * PAGE)
        self.cases: list[Case] = []

    def made(self, **fields: Any) -> uapi.pciedma_buffer_create:
        return create(self.fd, 4 * PAGE, **fields)

    def mapped(self) -> tuple[Any, memoryview]:
        made = self.made()
        self.area = buffers.shared_of(self.fd, 4 * PAGE, made.mmap_offset)
        self.area.view[:] = self.data
        return made, self.area.view

    def reads(self, view: memoryview) -> None:
        """See that memory is what it was, and can be written."""
        self.cases.append(("what it had", True, view == self.data))
        view[:] = bytes(4 * PAGE)
        self.cases.append(("what it was given", True, view == bytes(4 * PAGE)))

    def ends(self, name: str, found: Outcome, *others: Outcome) -> None:
        self.cases.append((name, {"ENODEV", *others}, found))


Then = Callable[[], None]


def _open(one: _Victim) -> Then:
    def then() -> None:
        for kind in (_NEW, _USER):
            asked = uapi.pciedma_buffer_create(flags=BOTH, type=kind, size=PAGE, address=0 if kind == _NEW else PAGE)
            one.ends("create", said(one.fd, "BUFFER_CREATE", asked), *([] if kind == _NEW else ["EFAULT"]))
        one.ends("wait", said(one.fd, "TRANSFER_WAIT", uapi.pciedma_transfer_wait(0, 1, 1, 0, -1, 0)))
    return then


def _pages_come(one: _Victim) -> Then:
    asked = uapi.pciedma_buffer_create(flags=BOTH, type=_NEW, size=200 << 20)
    maker = Call(lambda: said(one.fd, "BUFFER_CREATE", asked))
    return lambda: one.ends("create", maker.value(60), 0)


def _created(one: _Victim) -> Then:
    made = one.made()

    def then() -> None:
        area = buffers.shared_of(one.fd, 4 * PAGE, made.mmap_offset)
        one.data = bytes(4 * PAGE)
        one.reads(area.view)
        one.cases.append(("destroy", 0, said(one.fd, "BUFFER_DESTROY", uapi.pciedma_buffer_destroy(id=made.id))))
    return then


def _mapped(one: _Victim) -> Then:
    made, view = one.mapped()

    def then() -> None:
        one.reads(view)
        one.ends("transfer", moves(one.fd, [entry(H2C, made.id, 0, PAGE)]))
        one.ends("write", errno_of(lambda: os.pwrite(one.fd, view, 0)))
    return then


def _closed(one: _Victim) -> Then:
    _, view = one.mapped()
    one.channel.close()
    return lambda: one.reads(view)


def _registered(one: _Victim) -> Then:
    area = buffers.scattered_pages(4 * PAGE)
    area.view[:] = one.data
    made = one.made(type=_USER, address=area.address)

    def then() -> None:
        one.ends("transfer", moves(one.fd, [entry(C2H, made.id, 0, PAGE)]))
        one.reads(area.view)
    return then


def _exported(one: _Victim) -> Then:
    made, _ = one.mapped()
    dmabuf = exports.export(one.fd, made.id)

    def then() -> None:
        with mmap.mmap(dmabuf, 4 * PAGE) as memory, memoryview(memory) as view:
            one.reads(view)
        again = exports.export(one.fd, made.id)
        os.close(again)
        os.close(dmabuf)
    return then


def _imported(one: _Victim) -> Then:
    dmabuf = exports.some(4 * PAGE)
    if dmabuf is None:
        return lambda: None
    exports.imported(one.fd, dmabuf)
    memory = mmap.mmap(dmabuf, 4 * PAGE)
    memory[:] = one.data

    def then() -> None:
        with memoryview(memory) as view:
            one.reads(view)
        memory.close()
        os.close(dmabuf)
    return then


def _submitted(one: _Victim) -> Then:
    """Some have begun, some wait in the queue, for room, and behind barriers."""
    made, view = one.mapped()
    parts = [entry((C2H if number % 2 else H2C) | (BARRIER if number % 90 == 89 else 0), made.id, 0, PAGE, 0, number)
             for number in range(600)]
    one.cases.append(("submitted", 600, moves(one.fd, parts, submit=True)))

    def then() -> None:
        results = wait(one.fd, 600, 600, 20 * 10**9)
        one.cases += [("results", 600, len(results)), ("tags", 600, len({tag for tag, _, _ in results})),
                      ("how", True, {error for _, _, error in results} <= {0, 19, 125})]
        view[:] = one.data
        one.reads(view)
    return then


def _half_done(one: _Victim) -> Then:
    made = create(one.fd, 8 << 20)
    area = buffers.shared_of(one.fd, 8 << 20, made.mmap_offset)
    asked, room = make_batch([entry(H2C, made.id, 0, 8 << 20)] * 8)
    for result in room:
        result.error = _UNTOLD
    call = Call(lambda: said(one.fd, "TRANSFER", asked))

    def then() -> None:
        found = call.value(20)
        one.cases += [("transfer", True, found == "ENODEV" or found in range(1, 9)), ("taken", 8, asked.taken),
                      ("results", True, all(result.error in (0, 19, 125) for result in room)),
                      ("bytes", [result.error == 0 for result in room], [result.bytes == 8 << 20 for result in room]),
                      ("memory", True, area.view == bytes(8 << 20))]
    return then


def _waiting(one: _Victim) -> Then:
    one.made()
    waiters = [Call(lambda: len(wait(one.fd, least))) for least in (1, 256)]  # noqa: B023
    time.sleep(0.05)

    def then() -> None:
        for waiter in waiters:
            one.ends("wait", waiter.value(20))
    return then


def _polling(one: _Victim) -> Then:
    one.made()

    def polled() -> int:
        poll = select.poll()
        poll.register(one.fd, select.POLLPRI)
        return poll.poll(60_000)[0][1]

    poller = Call(polled)
    return lambda: one.cases.append(("poll", True, bool(poller.value(20) & select.POLLHUP)))


def _forked(one: _Victim) -> Then:
    _, view = one.mapped()
    child = in_child(lambda: None)

    def then() -> None:
        one.reads(view)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return then


def _reading(one: _Victim) -> Then:
    made = create(one.fd, 4 << 20)
    area = buffers.shared_of(one.fd, 4 << 20, made.mmap_offset)

    def read() -> Outcome:
        while True:
            os.preadv(one.fd, [area.view], 0)

    reader = Call(read)
    time.sleep(0.02)
    return lambda: one.ends("read", reader.value(20))


def _destroyed(one: _Victim) -> Then:
    made, view = one.mapped()
    moves(one.fd, [entry(H2C, made.id, 0, 4 * PAGE, 0, number) for number in range(400)], submit=True)
    destroy(one.fd, made.id)

    def then() -> None:
        one.cases.append(("results", 400, len(wait(one.fd, 400, 400, 20 * 10**9))))
        one.reads(view)
    return then


PHASES: dict[str, Callable[[_Victim], Then]] = {
    "open": _open, "pages come": _pages_come, "created": _created, "mapped": _mapped, "closed, but mapped": _closed,
    "registered": _registered, "exported": _exported, "imported": _imported, "submitted": _submitted,
    "half done": _half_done, "waiting": _waiting, "polling": _polling, "forked": _forked, "reading": _reading,
    "destroyed": _destroyed,
}


def gone(path: str, names: list[str], ready: str, goes: str) -> list[str]:
    """Be in some phases, each with an open file, when the card goes; *ready* and *goes* are files that tell of it."""
    victims = [(name, one, PHASES[name](one)) for name in names for one in [_Victim(path)]]
    Path(ready).touch()
    if not until(Path(goes).exists, 60):
        return ["the card does not go"]
    wrong = []
    for name, one, then in victims:
        then()
        one.channel.close()
        wrong += [f"{name}: {text}" for text in unlike(one.cases)]
    return wrong
