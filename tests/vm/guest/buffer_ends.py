"""Ends of transfers, right and wrong ones, run in the guest."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pciedma
from pciedma import uapi
from pciedma_lab.guest import buffers
from pciedma_lab.guest.buffers import PAGE

from .buffer_faults import (
    Call,
    Case,
    end_of,
    held,
    in_child,
    make_batch,
    moves,
    opened,
    unlike,
    until,
)
from .buffer_life import mapping
from .entries import BARRIER, C2H, FOREVER, H2C, batch, entry, moved, wait
from .processes import unbind
from .shared import BOTH, Outcome, create, said
from .slow_memory import not_coming

_NEW = uapi.PCIEDMA_BUFFER_NEW
_MOST = uapi.PCIEDMA_ENTRIES


def several_wait(path: str) -> list[str]:
    """Let several wait for the results of one file, of which one has memory that goes while he is being told."""
    with opened(path) as fd:
        made = create(fd, PAGE).id
        waiters = [Call(lambda: len(wait(fd, 1, 1))) for _ in range(3)]
        cases: list[Case] = []
        for count in range(1, 4):
            time.sleep(0.1)
            cases.append((f"before {count}", count - 1, [one.result for one in waiters].count(1)))
            moves(fd, [entry(H2C, made, 0, 8)], submit=True)
            cases.append((f"after {count}", True, until(lambda: [one.result for one in waiters].count(1) == count)))  # noqa: B023
        area = buffers.anonymous(PAGE)
        with not_coming(area):
            moves(fd, [entry(H2C, made, 0, 8)], submit=True)
            asked = uapi.pciedma_transfer_wait(0, 1, 1, 0, FOREVER, area.address)
            unlucky = Call(lambda: said(fd, "TRANSFER_WAIT", asked))
            time.sleep(0.2)
            other = Call(lambda: len(wait(fd, 1, 1)))
            time.sleep(0.2)
            cases.append(("while it is being told", ("nothing", "nothing"), (unlucky.result, other.result)))
            buffers.unmap(area.address, PAGE)
        cases.append(("when its memory has gone", ("EFAULT", 1), (unlucky.value(), other.value(5))))
        cases += _shares(fd, made)
    return unlike(cases)


def _shares(fd: int, made: int, share: int = 40, rounds: int = 10) -> list[Case]:
    """Two wait for as many results as there are: one gets all, and the other as many that come then."""
    cases: list[Case] = []
    for turn in range(rounds):
        both = [Call(lambda: len(wait(fd, share, share, 10**10))) for _ in range(2)]
        time.sleep(0.02)
        for count in (1, 2):
            moves(fd, [entry(H2C, made, 0, 8)] * share, submit=True)
            cases.append((f"{count} in turn {turn}", True,
                          until(lambda: [one.result for one in both].count(share) == count)))  # noqa: B023
    return cases


def waiting_is_nothing(path: str) -> list[str]:
    """Stop a process that only waits for results, and interrupt it again and again: neither takes the card's time."""
    with opened(path) as fd:
        asked = uapi.pciedma_transfer_wait(0, 1, 1, 0, FOREVER, buffers.anonymous(PAGE).address)

        def work() -> None:
            signal.signal(signal.SIGALRM, lambda *_: None)
            signal.siginterrupt(signal.SIGALRM, False)
            signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
            if said(fd, "TRANSFER_WAIT", asked) != "EINTR":
                raise RuntimeError("a handler does not end it")
            signal.setitimer(signal.ITIMER_REAL, 0)

        cases: list[Case] = []
        end_of(in_child(work))
        child = os.fork()
        if not child:
            said(fd, "TRANSFER_WAIT", asked)
            os._exit(0)
        time.sleep(0.5)
        os.kill(child, signal.SIGSTOP)
        stopped = until(lambda: os.waitpid(child, os.WUNTRACED | os.WNOHANG)[0] == child, 15)
        os.kill(child, signal.SIGCONT)
        cases += [("stops at once", True, stopped), ("goes on", (0, 0), _later(child))]
        moves(fd, [entry(H2C, create(fd, PAGE).id, 0, 8)], submit=True)
        cases.append(("gets it", True, until(lambda: os.waitpid(child, os.WNOHANG) == (child, 0))))
    return unlike(cases)


def _later(child: int) -> tuple[int, int]:
    time.sleep(0.3)
    return os.waitpid(child, os.WNOHANG)


#: More than an engine has transfers for: so some wait for room, and some behind barriers.
_MANY = 600


def _victims(made: int) -> list[Any]:
    """Entries of which the first is what the engine stops dead at."""
    entries = [entry(H2C, made, 0, PAGE, number * PAGE, number) for number in range(_MANY)]
    entries.append(entry(C2H | BARRIER, made, 0, PAGE, 0, _MANY))
    return entries + [entry(H2C, made, 0, PAGE, 0, _MANY + 1 + number) for number in range(3)]


class Victim:
    """A call, or entries that were submitted, on an open file of its own."""

    def __init__(
        self, path: str, way: str, timeout_s: float | None, parts: Callable[[int], list[Any]], mode: str = "",
    ) -> None:
        """Begin."""
        self.channel = pciedma.Channel(path)
        self.channel.timeout_s = timeout_s
        if mode:
            self.channel.wait_mode = pciedma.WaitMode[mode]
        self.fd, self.way = self.channel.fileno(), way
        self.made = create(self.fd, PAGE)
        self.area = buffers.shared_of(self.fd, PAGE, self.made.mmap_offset)
        self.memory = self.area.view
        self.parts = parts(self.made.id)
        self.asked, self.room = make_batch(self.parts, submit=way == "submit")
        if way == "sync":
            self.call = Call(lambda: said(self.fd, "TRANSFER", self.asked))
        elif said(self.fd, "TRANSFER", self.asked) != len(self.parts):
            raise RuntimeError("not all were taken")

    def ends(self, within_s: float = 20) -> tuple[Any, list[str]]:
        """Return what the call says, or of how many there are results; and what the errors of all are, in order."""
        if self.way == "sync":
            result = self.call.value(within_s)
            found = [(one.tag, one.bytes, one.error) for one in self.room]
        else:
            found = sorted(wait(self.fd, len(self.parts), _MOST, int(within_s * 1e9)))
            result = len(found)
        return result, [errno.errorcode[error] if error else "ok" if size == part.length else "short"
                        for (_, size, error), part in zip(found, self.parts, strict=False)]

    def works(self) -> bool:
        """Whether its file does, and its buffer."""
        self.memory[:] = data = os.urandom(PAGE)
        parts = [entry(H2C, self.made.id, 0, PAGE, 0), entry(C2H | BARRIER, self.made.id, 0, PAGE, 0)]
        whole = batch(self.fd, parts) == (2, [(0, PAGE, 0)] * 2)
        return whole and bytes(self.memory) == data and held(self.fd) == (1, PAGE)

    def close(self) -> None:
        """Let go of all."""
        self.memory.release()
        self.area.close()
        self.channel.close()


def _others(made: int) -> list[Any]:
    places = [((1 << 30) + number * PAGE, number) for number in range(20)]
    return [entry(flags, made, 0, PAGE, *place) for place in places for flags in (H2C, C2H)]


_STALLED = Path("/tmp/stalled")


def ended(
    path: str, card: str, how: str, way: str, mode: str, within_s: float, driver: str = "", address: str = "",
) -> dict[str, Any]:
    """End what an engine has stopped dead at while others wait behind it; returns what became of all."""
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    signal.siginterrupt(signal.SIGUSR1, True)
    _STALLED.unlink(missing_ok=True)
    timeout_s = 0.4 if how == "timeout" else None if way == "sync" else 60.0
    child = 0
    if how in ("exit", "kill"):
        child = in_child(lambda: Victim(path, way, timeout_s, _victims, mode))
    else:
        victim = Victim(path, way, timeout_s, _victims, mode)
    until(_STALLED.exists, 60)
    other = Victim(path, "submit" if way == "sync" else "sync", 60.0, _others)
    idle = pciedma.Channel(path)
    waiter = Call(lambda: wait(idle.fileno(), 1)) if how == "unbind" else None
    time.sleep(0.1)
    start = time.monotonic()
    if how == "signal":
        signal.pthread_kill(victim.call.ident or 0, signal.SIGUSR1)
    elif how == "cancel":
        victim.channel.cancel()
    elif how == "reset":
        with pciedma.open(card) as opened_card:
            opened_card.reset()
    elif how == "unbind":
        unbind(driver, address)
    elif how == "close":
        victim.channel.close()  # a mapping does not keep it from that
        victim.memory[:] = bytes(PAGE)
    elif child:
        os.kill(child, signal.SIGKILL if how == "kill" else signal.SIGTERM)
        os.waitpid(child, 0)
    found: dict[str, Any] = {}
    if not child and how != "close":
        found["said"], errors = victim.ends()
        found |= {"first": errors[:1], "rest": sorted({*errors[1:]}), "count": len(errors)}
    found["late"] = time.monotonic() - start > within_s
    found["other said"], errors = other.ends()
    found["other"] = sorted({*errors})
    if how == "unbind":
        other.memory[:] = bytes(range(256)) * 16
        found["memory"] = other.memory[:] == bytes(range(256)) * 16
        found["then"] = [said(other.fd, "BUFFER_CREATE", uapi.pciedma_buffer_create(flags=BOTH, type=_NEW, size=PAGE)),
                         moves(other.fd, _others(other.made.id)), wait(other.fd, 0), held(other.fd)[0]]
        found["destroyed"] = said(other.fd, "BUFFER_DESTROY", uapi.pciedma_buffer_destroy(id=other.made.id))
        Path(f"/sys/bus/pci/drivers/{driver}/bind").write_text(address)
        found["memory"] &= other.memory[:] == bytes(range(256)) * 16
    else:
        found["works"] = other.works() and (bool(child) or how == "close" or victim.works())
    if waiter:
        found["waiter"] = waiter.value(5)
    idle.close()
    other.close()
    if not child:
        victim.close()
    return found


def progress(path: str, length: int, count: int, timeout_s: float) -> list[str]:
    """Have a slow card move more than it can in the time-out, in one call and in entries submitted at once."""
    cases: list[Case] = []
    with pciedma.Channel(path) as channel:
        channel.timeout_s = timeout_s
        fd = channel.fileno()
        made = create(fd, length)
        for flags in (0, BARRIER):
            parts = [entry(H2C | flags, made.id, 0, length, 0, number) for number in range(count)]
            start = time.monotonic()
            for way in ("sync", "submit", "sync"):  # a card whose rate is known has less in hand
                asked, room = make_batch(parts, submit=way == "submit")
                result = said(fd, "TRANSFER", asked)
                ends = wait(fd, count, count, 30 * 10**9) if way == "submit" else [
                    (one.tag, one.bytes, one.error) for one in room]
                cases += [(f"{way} {flags}", count, result),
                          (f"{way} {flags}: ends", [0] * count, [error for _, _, error in ends])]
            cases.append(("it took longer than the time-out", True, time.monotonic() - start > timeout_s))
    return unlike(cases)


def barriers(path: str, length: int, rounds: int) -> list[str]:
    """Let each entry behind a barrier need what the one before it has done, in the other direction."""
    cases: list[Case] = []
    with opened(path) as fd, mapping(fd, (rounds + 2) * length) as (memory, number):
        for way in ("sync", "submit"):
            data = os.urandom(length)
            memory[: (rounds + 2) * length] = data + bytes((rounds + 1) * length)
            parts = []
            for step in range(rounds + 1):  # each place of the buffer is what the card has of the one before
                parts.append(entry(H2C | BARRIER, number, step * length, length, step * length, 2 * step))
                parts.append(entry(C2H | BARRIER, number, (step + 1) * length, length, step * length, 2 * step + 1))
            ends = moved(fd, way, parts)
            cases += [(f"{way}: results", [(tag, length, 0) for tag in range(2 * rounds + 2)], ends),
                      (f"{way}: data", True, memory[: (rounds + 2) * length] == data * (rounds + 2))]
            mixed = [entry(flags, number, 0, 64, 0, place) for place, flags in enumerate(
                [H2C] * 40 + [C2H] * 40 + [H2C | BARRIER] + [C2H] * 40 + [H2C | BARRIER, C2H | BARRIER])]
            order = batch(fd, mixed)[1] if way == "sync" else _submitted(fd, mixed)
            tags = [tag for tag, _, _ in order]
            cases.append((f"{way}: order", True, {*tags[:80]} == {*range(80)} and tags[-2:] == [121, 122]
                          and (way == "sync" or tags.index(80) == 80 or {*tags[80:121]} == {*range(80, 121)})))
    return unlike(cases)


def _submitted(fd: int, parts: list[Any]) -> list[tuple[int, int, int]]:
    batch(fd, parts, submit=True)
    return wait(fd, len(parts), len(parts), 10**10)


def cancels(path: str, seconds: float) -> list[str]:
    """Cancel all the time what is moved in both directions by turns, by one file; returns what was wrong."""
    cases: list[Case] = []
    with pciedma.Channel(path) as channel:
        channel.wait_mode = pciedma.WaitMode.POLL
        fd = channel.fileno()
        made = create(fd, PAGE).id
        end = time.monotonic() + seconds

        def mover(*flags: int) -> set[Outcome]:
            found = set()
            parts = [make_batch([entry(one, made, 0, 8)])[0] for one in flags]
            while time.monotonic() < end:
                found |= {said(fd, "TRANSFER", part) for part in parts}
            return found

        movers = [Call(lambda: mover(H2C, C2H)) for _ in range(2)] + [Call(lambda: mover(H2C, H2C, C2H))]
        count = 0
        while time.monotonic() < end:
            channel.cancel()
            count += 1
        cases += [(f"after {count} cancels", True, call.value() <= {1, "ECANCELED"}) for call in movers]
        cases.append(("then", 1, moves(fd, [entry(H2C, made, 0, 8)])))
    return unlike(cases)


def blocked(path: str, timeout_s: float) -> dict[str, Any]:
    """Make a call of several entries that does not end by itself; returns what became of it, and of the mapping."""
    victim = Victim(path, "sync", timeout_s, lambda made: [entry(H2C, made, 0, PAGE, 0, number) for number in range(4)])
    _, errors = victim.ends(60)
    victim.memory[:] = bytes(range(256)) * 16
    found = {"said": victim.call.result, "errors": errors, "memory": victim.memory[:] == bytes(range(256)) * 16,
             "held": held(victim.fd), "then": moves(victim.fd, victim.parts), "results": wait(victim.fd, 0)}
    victim.close()
    return found
