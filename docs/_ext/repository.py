"""Links to files of the repository that are no pages, such as LICENSE, go to where the repository lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes

ROOT = Path(__file__).resolve().parents[2]
BASE = "https://github.com/gencli/gencli/blob/main/"


def _link(app: Any, doctree: nodes.document) -> None:
    """Point out what Sphinx has no page for; it warns of what is no file either."""
    for node in list(doctree.findall(addnodes.pending_xref)):
        target = node["reftarget"].removesuffix(".md")
        for name in (target, f"{target}.md"):
            path = (Path(app.srcdir) / name).resolve()
            path = path if path.is_file() else ROOT / name
            if node["reftype"] == "myst" and path.is_file() and not path.is_relative_to(app.srcdir):
                uri = BASE + path.relative_to(ROOT).as_posix()
                node.replace_self(nodes.reference("", "", *node.children, internal=False, refuri=uri))
                break


def setup(app: Any) -> dict[str, bool]:
    """Before links are resolved."""
    app.connect("doctree-read", _link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
