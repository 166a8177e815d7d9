"""Sphinx configuration, and a directive for what is made from the code."""

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes  # type: ignore[import-untyped]  # it has no types
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

sys.path.insert(0, str(Path(__file__).parents[1]))

from docs import facts, state_machine

project = "dimse"
author = copyright = "The dimse developers"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
default_role = "literal"  # docstrings write `name`
html_theme = "alabaster"
html_theme_options = {
    "page_width": "1180px",
    "description": "DICOM networking for Python on Twisted",
    "font_size": "15px",
}
html_show_sourcelink = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 90
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 2

TABLES = {
    table.__name__.replace("_", "-"): table
    for table in (
        facts.archive_differences,
        facts.worklist_differences,
        facts.archive_keys,
        facts.configuration,
        facts.hostile_cases,
        facts.hostile_groups,
        facts.limits,
        facts.status_categories,
        facts.status_meanings,
        facts.tls_profiles,
        state_machine.actions,
        state_machine.events,
        state_machine.states,
        state_machine.transitions,
    )
}


class Made(SphinxDirective):
    """A table or picture made from the code: `{made} limits`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        if self.arguments[0] == "state-machine":
            return [nodes.raw("", state_machine.picture(), format="html")]
        header, *rows = TABLES[self.arguments[0]]()
        lines = ["|".join(map(_escaped, row)) for row in (header, ["---"] * len(header), *rows)]
        return self.parse_text_to_nodes("\n".join(f"|{line}|" for line in lines))


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def plain_signature(*args: Any) -> tuple[str | None, ...]:
    """Interfaces of zope by their name, which Sphinx cannot read as they print themselves."""
    *_, signature, returns = args
    return tuple(
        text and re.sub(r"~(\w+\.)+", "", re.sub(r"<InterfaceClass (\w+\.)+(\w+)>", r"\2", text))
        for text in (signature, returns)
    )


def setup(app: Sphinx) -> None:
    app.add_directive("made", Made)
    app.connect("autodoc-process-signature", plain_signature)
