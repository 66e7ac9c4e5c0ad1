"""`gencli report`: one page of a run, or of several, that a browser opens without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gencli.cli.help import Parser
from gencli.core.errors import UsageError, quoted
from gencli.core.files import write_whole
from gencli.report.collect import expand


def main(words: Sequence[str]) -> int:
    """Write the page.

    Raises:
        UsageError: a name leads to no run, or the page cannot be written there.
    """
    parser = Parser(prog="gencli report", add_help=False)
    parser.add_argument("runs", nargs="*")
    parser.add_argument("--split", default="test")
    parser.add_argument("--out")
    args = parser.parse_intermixed_args(list(words))
    if not args.runs:
        raise UsageError("gencli report needs runs: folders, a sweep, a pattern, or latest")
    folders = expand(args.runs)
    where = Path(args.out) if args.out else _beside(folders, args.runs)
    if where.is_dir() or not where.parent.is_dir():
        raise UsageError(f"--out {quoted(str(where), 200)}: the name of a file in a folder that is there")
    from gencli.report.page import gather, html

    write_whole(where, html(gather(folders, args.split)))
    print(f"{len(folders)} run{'s' if len(folders) > 1 else ''} -> {where}")
    return 0


def _beside(folders: Sequence[Path], words: Sequence[str]) -> Path:
    """In the run's own folder, or in the sweep's; several of those have no place of their own."""
    if len(folders) == 1:
        return folders[0] / "report.html"
    if len(words) == 1 and Path(words[0]).is_dir():
        return Path(words[0]) / "report.html"
    return Path("report.html")
