"""Docstrings are plain text, with shapes such as (B, *): what would be taken for markup in them is escaped."""

from __future__ import annotations

import re
from typing import Any

LITERAL = re.compile(r"(``.*?``|`.*?`)")


def _escape(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    for index, line in enumerate(lines):
        if not line.lstrip().startswith(">>>"):
            pieces = LITERAL.split(line)
            pieces[::2] = [re.sub(r"([*|]|(?<=\w)_(?!\w))", r"\\\1", text) for text in pieces[::2]]
            lines[index] = "".join(pieces)


def setup(app: Any) -> dict[str, bool]:
    """Run before napoleon, which adds markup of its own."""
    app.connect("autodoc-process-docstring", _escape, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
