"""pytest's JUnit reports: how many tests passed, in what time, and what the run said about itself."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from xml.etree import ElementTree

#: By pytest's meaning: an error is a fixture's failure, which for who reads the report is a failure.
_FAILED = {"failure", "error"}


@dataclass(frozen=True)
class Report:
    """What one run of pytest came to; ``properties`` are those of ``record_property`` that all tests agree on."""

    passed: int
    failed: int
    skipped: int
    seconds: float
    properties: dict[str, str]


def parse(text: str) -> Report:
    """Return what a JUnit report says; raises ValueError if it is none."""
    try:
        suites = list(ElementTree.fromstring(text).iter("testsuite"))
    except ElementTree.ParseError as error:
        raise ValueError(f"not a JUnit report: {error}") from error
    results = [found for suite in suites for found in _results(suite)]
    failed = sum(bool(found & _FAILED) for found in results)
    skipped = sum("skipped" in found and not found & _FAILED for found in results)
    return Report(
        passed=len(results) - failed - skipped,
        failed=failed,
        skipped=skipped,
        seconds=sum(float(suite.get("time", 0)) for suite in suites),
        properties=_agreed(suites),
    )


def _agreed(suites: list[ElementTree.Element]) -> dict[str, str]:
    """Return the properties of which no two tests say different things."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for suite in suites:
        for entry in suite.iterfind("testcase/properties/property"):
            found[entry.get("name", "")].add(entry.get("value", ""))
    return {name: min(values) for name, values in found.items() if len(values) == 1}


def _results(suite: ElementTree.Element) -> list[set[str]]:
    """Return what a suite says of each of its tests: one that fails, and whose fixture fails then, is there twice."""
    found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for case in suite.iterfind("testcase"):
        found[case.get("classname", ""), case.get("name", "")] |= {child.tag for child in case}
    return list(found.values())
