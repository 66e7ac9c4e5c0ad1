"""`gencli ls`: the runs that are here, with their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gencli.cli.help import Parser
from gencli.config.locate import runs
from gencli.core.errors import UsageError, quoted
from gencli.core.files import standard_json
from gencli.report import listing

NEWEST = 30
"""Runs that are shown without ``--all``."""


def main(words: Sequence[str]) -> int:
    """Print the runs below folders, the newest last.

    Raises:
        UsageError: a folder is not there.
    """
    parser = Parser(prog="gencli ls", add_help=False)
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_intermixed_args(list(words))
    found: list[Path] = []
    for name in args.folders or ["outputs"]:
        folder = Path(name)
        if not folder.is_dir() and args.folders:
            raise UsageError(f"{quoted(name, 200)}: no such folder")
        found += runs(folder)
    if args.json:
        print(standard_json(listing.plain([listing.line_of(run) for run in found]), indent=2))
        return 0
    if not found:
        where = " ".join(args.folders) or "outputs/"
        print(f"no runs below {quoted(where, 200)} yet; gencli train makes one")
        return 0
    kept = found if args.all else found[-NEWEST:]
    listing.print_listing([listing.line_of(run) for run in kept], len(found) - len(kept))
    return 0
