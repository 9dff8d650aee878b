"""Find out why cards do not work, and say what to type next.

Looks at the modules, the cards and the user's rights; changes nothing, needs no root. As root it can also read the
kernel log. Where one problem follows from another, only the first is shown.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import textwrap
from collections.abc import Sequence

from .. import __version__
from .access_checks import check_memlock, check_nodes
from .card_checks import (
    check_cards,
    check_device,
    check_driver,
    check_health,
    check_loaded,
    check_log,
    check_others,
)
from .cards import CardState
from .facts import Facts
from .findings import Check, Finding, Result, Status, diagnose, problems
from .module_checks import check_installed, check_options, check_signature, check_version
from .pci import full_address
from .steps import typed
from .system import System

EXIT_STATUS = "0: all is well; 1: there is a problem"

#: In this order: a check comes after those that it needs.
CHECKS = (
    Check("modules", check_installed),
    Check("signature", check_signature, needs=("modules",)),
    Check("options", check_options),
    Check("device", check_device),
    Check("cards", check_cards, needs=("modules", "device")),
    Check("loading", check_loaded, needs=("modules", "signature", "options", "cards")),
    Check("driver", check_driver, needs=("modules", "cards")),
    Check("version", check_version, needs=("modules",)),
    Check("nodes", check_nodes, needs=("cards", "loading")),
    Check("memlock", check_memlock),
    Check("health", check_health, needs=("cards",)),
    Check("others", check_others),
    Check("kernel log", check_log),
)

_NAME_WIDTH = max(len(check.name) for check in CHECKS)
_STATUS_WIDTH = max(len(status.value) for status in Status)
_INDENT = " " * (_STATUS_WIDTH + _NAME_WIDTH + 4)
_MOST_WIDTH = 100
_LEAST_WIDTH = 60


def _finding_lines(check: str, finding: Finding, width: int) -> list[str]:
    status = finding.status.value.upper() if finding.status == Status.PROBLEM else finding.status.value
    lines = [f"{status:{_STATUS_WIDTH}}  {check:{_NAME_WIDTH}}  {finding.summary}"]
    lines += textwrap.wrap(finding.cause, width, initial_indent=_INDENT, subsequent_indent=_INDENT,
                           break_long_words=False, break_on_hyphens=False)
    # Commands are to be copied, so they are not wrapped.
    return [*lines, *(f"{_INDENT}    {step}" for step in finding.steps)]


def _trial(cards: Sequence[CardState], system: System) -> str:
    """Return a command that reads from the first channel that can be read."""
    for card in cards:
        for channel in card.channels:
            if "c2h" in channel.directions and channel.kind != "stream":
                read = f"pciedma.open({card.index}).channel({channel.index}).read(64)"
                return f"Try a transfer:\n    {system.python} -c 'import pciedma; print({read})'"
    return "No channel can be read: try a write, see docs/calls.md."


def _verdict(results: Sequence[Result], facts: Facts) -> str:
    count = len(problems(result.finding for result in results))
    if count:
        number = "1 problem" if count == 1 else f"{count} problems"
        return f"{number}. Type what stands under the first, then `{facts.system.tool} doctor` again."
    return f"All is well. {_trial(facts.cards, facts.system)}"


def text(results: Sequence[Result], facts: Facts, width: int) -> str:
    """Return what people read."""
    lines = [line for result in results for line in _finding_lines(result.check, result.finding, width)]
    return "\n".join([*lines, "", _verdict(results, facts)])


def as_json(results: Sequence[Result]) -> str:
    """Return what programs read: an object with the findings in their order."""
    findings = [
        {
            "check": result.check,
            "status": result.finding.status.value,
            "summary": result.finding.summary,
            "cause": result.finding.cause,
            "steps": list(result.finding.steps),
        }
        for result in results
    ]
    count = len(problems(result.finding for result in results))
    return json.dumps({"version": __version__, "problems": count, "findings": findings}, indent=2)


def _address(text: str) -> str:
    try:
        return full_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--json", action="store_true", help="an object with all findings, for programs")
    parser.add_argument("--device", type=_address, metavar="ADDRESS",
                        help="the PCI address of your card, as lspci has it: says why this one does not work")


def _as_typed(result: Result, system: System) -> Result:
    steps = typed(result.finding.steps, system)
    return dataclasses.replace(result, finding=dataclasses.replace(result.finding, steps=steps))


def run(arguments: argparse.Namespace, system: System | None = None) -> int:
    """Print the findings; returns 1 if one is a problem."""
    facts = Facts(system or System(), arguments.device)
    results = [_as_typed(result, facts.system) for result in diagnose(CHECKS, facts)]
    width = max(_LEAST_WIDTH, min(_MOST_WIDTH, shutil.get_terminal_size().columns))
    print(as_json(results) if arguments.json else text(results, facts, width))
    return 1 if problems(result.finding for result in results) else 0
