"""The directive ``options``: a table of a part's options, with defaults and comments as its YAML has them.

````
```{options} model maf
```
````
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from gencli.config import catalog
from gencli.config.locate import config_dir

LINE = re.compile(r"^(?P<key>\w+):\s*(?P<value>[^#]*?)\s*(?:#\s*(?P<comment>.*))?$")
FURTHER = re.compile(r"^\s+#\s*(.*)$")
"""A comment that goes on."""


class Options(SphinxDirective):
    """One option of a group: what it is, and its keys."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        group, name = self.arguments
        known = catalog.options(group)
        if name not in known:
            raise self.error(f"there is no {group}={name}")
        path = config_dir() / group / f"{name}.yaml"
        self.env.note_dependency(str(path))
        head = nodes.paragraph("", "", nodes.literal("", f"{group}={name}"), nodes.Text(f": {known[name].description}"))
        rows: list[list[str]] = []
        for line in path.read_text(encoding="utf-8").splitlines():
            if (match := LINE.match(line)) and match["key"] not in ("defaults", "_target_"):
                rows.append([match["key"], match["value"], match["comment"] or ""])
            elif rows and (further := FURTHER.match(line)):
                rows[-1][2] += " " + further[1]
        return [head, _table(rows)] if rows else [head]


def _table(rows: list[list[str]]) -> nodes.table:
    group = nodes.tgroup(cols=3)
    group += [nodes.colspec(colwidth=width) for width in (25, 25, 50)]
    titles = [nodes.entry("", nodes.paragraph("", title)) for title in ("key", "default", "")]
    group += nodes.thead("", nodes.row("", *titles))
    body = nodes.tbody()
    for key, value, comment in rows:
        cells = [nodes.literal("", key), nodes.literal("", value) if value else nodes.Text(""), nodes.Text(comment)]
        body += nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))
    group += body
    return nodes.table("", group)


def setup(app: Any) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("options", Options)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
