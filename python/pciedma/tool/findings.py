"""What a check says, and the order in which checks are made."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .facts import Facts


class Status(enum.Enum):
    """What a finding means."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """One line, and if something is wrong: the cause in a sentence or two, and what to type next.

    A step that begins with ``#`` is not a command but something to do.
    """

    status: Status
    summary: str
    cause: str = ""
    steps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """A check: what it looks at; ``needs`` names checks without a problem, else its answer would mislead."""

    name: str
    look: Callable[[Facts], list[Finding]]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """A finding, and the check that made it."""

    check: str
    finding: Finding


def ok(summary: str) -> Finding:
    """All is well."""
    return Finding(Status.OK, summary)


def note(summary: str, cause: str = "", *steps: str) -> Finding:
    """Worth knowing, nothing is broken."""
    return Finding(Status.NOTE, summary, cause, steps)


def problem(summary: str, cause: str, *steps: str) -> Finding:
    """Something that keeps cards from working."""
    return Finding(Status.PROBLEM, summary, cause, steps)


def skipped(summary: str) -> Finding:
    """Not looked at, and why."""
    return Finding(Status.SKIPPED, summary)


def diagnose(checks: Sequence[Check], facts: Facts) -> list[Result]:
    """Make all checks in their order; one that needs another which found a problem is skipped."""
    results: list[Result] = []
    behind: dict[str, set[str]] = {}  # which problems keep a check from an answer: its own, or those before it
    for check in checks:
        waits = set().union(*(behind[name] for name in check.needs))
        findings = [skipped(f"first mend: {', '.join(sorted(waits))}")] if waits else check.look(facts)
        results += [Result(check.name, finding) for finding in findings]
        behind[check.name] = waits | ({check.name} if problems(findings) else set())
    return results


def problems(findings: Iterable[Finding]) -> list[Finding]:
    """Return those that are problems."""
    return [finding for finding in findings if finding.status == Status.PROBLEM]
