"""`gencli compare`: runs side by side, ranked only where their numbers measure the same thing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from gencli.cli.help import Parser
from gencli.core.errors import UsageError
from gencli.report import render
from gencli.report.collect import expand
from gencli.report.compare import compare


def main(words: Sequence[str]) -> int:
    """Print the comparison as a table, CSV or JSON.

    Raises:
        UsageError: a name leads to no run, or no run has a number.
    """
    parser = Parser(prog="gencli compare", add_help=False)
    parser.add_argument("runs", nargs="*")
    parser.add_argument("--split", default="test")
    parser.add_argument("--all", action="store_true")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true")
    form.add_argument("--json", action="store_true")
    args: argparse.Namespace = parser.parse_intermixed_args(list(words))
    if not args.runs:
        raise UsageError("gencli compare needs runs: folders, or a pattern such as outputs/*-digits/*")

    comparison = compare(expand(args.runs), args.split, further=args.all)
    if not comparison.groups:
        why = [f"{run}: {reason}" for run, reason in comparison.unfinished]
        raise UsageError(f"no run has a result on split={args.split} yet: " + "; ".join(why))
    if args.csv:
        render.write_csv(comparison)
    elif args.json:
        print(json.dumps(render.plain(comparison), indent=2))
    else:
        render.print_table(comparison)
    return 0
