"""The directive registers: the table of register_table.py in a Markdown page."""

from __future__ import annotations

from typing import Any

import register_table
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective


class Registers(SphinxDirective):
    """The directive's argument is ``module:NAME``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        lines = register_table.table(register_table.declared(self.arguments[0]))
        container = nodes.container(classes=["registers"])
        self.state.nested_parse(StringList(lines, source=self.arguments[0]), 0, container)
        return [container]


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx of the directive."""
    app.add_directive("registers", Registers)
    return {"parallel_read_safe": True}
