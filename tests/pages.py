"""The pages of README and docs, and what stands in them: fenced blocks, commands, links."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DOCS = [
    path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in path.parts
]
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", *DOCS]


def text(page):
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page, *languages):
    return [code for language, code in FENCE.findall(text(page)) if language in languages]


def commands(page):
    """The words of each gencli command in its blocks; a block of language `text` is output."""
    for code in blocks(page, "", "console", "bash"):
        for line in code.replace("\\\n", " ").splitlines():
            if line.startswith("gencli "):
                yield tuple(shlex.split(line, comments=True)[1:])
