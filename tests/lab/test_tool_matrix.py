"""docs/tools.md says of usual tools what the tests in tests/vm/test_tools.py insist on."""

from __future__ import annotations

import re

from pciedma_lab.chroot import PROJECT

from ..vm import tool_matrix


def test_page_has_the_matrix_as_it_is_tested() -> None:
    page = (PROJECT / "docs/tools.md").read_text()
    shown = re.findall(r"^\|.*\|$", page, re.M)
    assert shown == tool_matrix.table().splitlines(), "python3 -m tests.vm.tool_matrix prints it"


def test_rows_have_names_of_their_own() -> None:
    names = [row.id for row in tool_matrix.ROWS]
    assert len({*names}) == len(names)
