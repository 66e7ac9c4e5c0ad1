"""`gencli compare`: runs side by side, ranked only where their numbers measure the same thing."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from gencli.cli.help import Parser
from gencli.core.errors import UsageError
from gencli.core.files import standard_json
from gencli.report import forms, render
from gencli.report.collect import expand, one_a_run
from gencli.report.compare import compared
from gencli.report.importance import importances
from gencli.report.seeds import entries, flat


def main(words: Sequence[str]) -> int:
    """Print the comparison as a table, CSV, JSON, Markdown or LaTeX.

    Raises:
        UsageError: a name leads to no run, or no run has a number.
    """
    parser = Parser(prog="gencli compare", add_help=False)
    parser.add_argument("runs", nargs="*")
    parser.add_argument("--split")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--group-by", metavar="KEYS")
    parser.add_argument("--best", choices=["validation"])
    parser.add_argument("--importance", action="store_true")
    form = parser.add_mutually_exclusive_group()
    for name in ("csv", "json", "markdown", "latex"):
        form.add_argument(f"--{name}", action="store_const", const=name, dest="form")
    args: argparse.Namespace = parser.parse_intermixed_args(list(words))
    if not args.runs:
        raise UsageError("gencli compare needs runs: folders, or a pattern such as outputs/*-digits/*")
    if args.importance and args.group_by:
        raise UsageError("--importance and --group-by: one of them; importances are of all that was swept")
    if args.best and not args.group_by:
        raise UsageError("--best validation needs --group-by KEYS: the keys whose values each get one configuration")

    # what is chosen by importances is chosen on validation; trials of a search have no other number
    split = args.split or ("val" if args.importance else "test")
    comparison = compared(expand(args.runs), split, further=args.all)
    if args.importance:
        rows = one_a_run(comparison.groups[0])
        forms.write_importances(importances(rows, [flat(row.run) for row in rows]), comparison, args.form)
    elif args.group_by:
        keys = [] if args.group_by == "config" else args.group_by.split(",")
        forms.write_grouped(comparison, [entries(rows, keys, args.best) for rows in comparison.groups], args.form)
    elif args.form == "csv":
        render.write_csv(comparison)
    elif args.form == "json":
        print(standard_json(render.plain(comparison), indent=2))
    elif args.form:
        names = render.short_names([row.run for rows in comparison.groups for row in rows])
        forms.write_sheets(comparison, [render.sheet_of(rows, names) for rows in comparison.groups], args.form)
    else:
        render.print_table(comparison)
    return 0
