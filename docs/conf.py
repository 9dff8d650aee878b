"""How Sphinx builds the documentation: `make docs`, or `sphinx-build -W docs OUTPUT` with Debian's packages."""

from __future__ import annotations

import sys
from enum import EnumMeta
from pathlib import Path
from typing import Any

_DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(_DOCS / "ext"), str(_DOCS.parent / "python")]

import pciedma  # noqa: E402 - found by the line above

project = "pciedma"
author = "the pciedma authors"
project_copyright = author
version = release = pciedma.__version__
#: Stands where man pages have their date, which would change with each build.
today = f"{project} {release}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "kernel_doc", "registers"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
smartquotes = False
nitpicky = True
nitpick_ignore_regex = [
    # Python's own, which is documented elsewhere
    ("py:class", r"(\w+Error|BytesLike|Path|int|bytes|Enum|type|TracebackType|BaseException)"),
    ("py:class", r"(collections|enum|os|pathlib|types|typing)\..*"),
    # the kernel's own, and what only core knows the inside of
    ("c:identifier", r"(__)?(aligned_)?[su](8|16|32|64)|bool|size_t|dma_addr_t|resource_size_t"),
    ("c:identifier", r"pci_\w+|module|device|pciedma_(card|engine|cursor|channel|window)"),
]

c_id_attributes = ["__iomem"]
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
autoclass_content = "both"

html_theme = "alabaster"
html_theme_options = {
    "description": "DMA between PCI Express cards and user space",
    "page_width": "1200px",
    "show_powered_by": False,
}
html_title = f"{project} {release}"
html_domain_indices = False
html_copy_source = False
html_last_updated_fmt = None
html_show_sourcelink = False
html_sidebars = {"**": ["about.html", "searchbox.html", "navigation.html"]}

man_pages = [
    ("man/pciedma.1", "pciedma", "list and diagnose PCI Express DMA cards", "", 1),
    ("man/pciedma-lab.1", "pciedma-lab", "develop and test with emulated PCI Express DMA cards", "", 1),
    ("man/pciedma.4", "pciedma", "device nodes of PCI Express DMA cards", "", 4),
]


def setup(app: Any) -> None:
    """Keep the signature that all enumerations inherit out of the pages."""

    def signature(app: Any, what: str, name: str, thing: Any, *rest: Any) -> tuple[str, None] | None:
        return ("", None) if isinstance(thing, EnumMeta) else None

    app.connect("autodoc-process-signature", signature)
