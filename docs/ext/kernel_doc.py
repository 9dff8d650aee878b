"""The directive kernel-doc: a C file's kernel-doc comments, taken out by the kernel's own script.

It is the script that the environment variable KERNEL_DOC names, else that of Debian's newest package linux-kbuild.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any, ClassVar

import sphinx
from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

_PROJECT = Path(__file__).resolve().parents[2]
_PACKAGED = "usr/lib/linux-kbuild-*/scripts/kernel-doc"
#: The name of a macro is said twice, and its purpose stands beside it, not inside.
_MACRO = re.compile(r"(\.\. c:macro:: (\w+)\n\n)``\2(?: \(\))?``\n\n +(.*)")
_NO_PARAMETERS = re.compile(r"\*\*Parameters\*\*\n\n(?=\*\*Description)")


def _script() -> str:
    if named := os.environ.get("KERNEL_DOC"):
        return named
    found = [(re.findall(r"\d+", path.parts[-3]), path) for path in Path("/").glob(_PACKAGED)]
    if not found:
        raise ExtensionError("there is no kernel-doc: install linux-kbuild-6.x, or name the script in KERNEL_DOC")
    return str(max(found, key=lambda pair: [int(number) for number in pair[0]])[1])


def extract(path: Path, *options: str) -> str:
    """Return a C file's comments as reStructuredText; raises ExtensionError if they have faults, or are none."""
    command = [_script(), "-rst", "-Werror", "-sphinx-version", sphinx.__version__, *options, str(path)]
    result = subprocess.run(command, text=True, check=False, capture_output=True)
    if result.returncode or result.stderr or not result.stdout.strip():
        raise ExtensionError(f"{' '.join(command)} failed:\n{result.stderr}")
    return _NO_PARAMETERS.sub("", _MACRO.sub(r"\1  \3", result.stdout))


class KernelDoc(SphinxDirective):
    """``.. kernel-doc:: src/FILE``; with ``:export:`` only the functions that it exports."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"export": directives.flag}

    def run(self) -> list[nodes.Node]:
        """Return the comments' nodes."""
        path = _PROJECT / self.arguments[0]
        self.env.note_dependency(str(path))
        lines = extract(path, *(["-export"] if "export" in self.options else [])).splitlines()
        section = nodes.section()
        section.document = self.state.document
        self.state.nested_parse(StringList(lines, source=self.arguments[0]), 0, section, match_titles=True)
        return section.children


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx of the directive."""
    app.add_directive("kernel-doc", KernelDoc)
    return {"parallel_read_safe": True}
