"""Run folders that come from a stranger: every case of tests/hostile with every verb."""

from __future__ import annotations

import argparse
import random
from collections import Counter

from campaigns import ledger

HELP = "run folders that come from a stranger"


def options(parser: argparse.ArgumentParser) -> None:
    """What this campaign may be told."""
    ledger.options(parser)
    parser.add_argument("--each", type=int, help="at most so many verbs of each case")


def run(args: argparse.Namespace) -> int:
    """Open every hostile run with every verb, and say what was not refused in one line."""
    from hostile import cases
    from hostile.opening import Server, pairs

    found = [pair for pair in pairs(cases()) if args.only in pair.name]
    if args.failed:
        again = ledger.failed(args.failed)
        found = [pair for pair in found if pair.name in again]
    random.Random(args.seed).shuffle(found)
    if args.each:
        tried: Counter[str] = Counter()
        found = [pair for pair in found if (tried.update([pair.case.name]) or tried[pair.case.name]) <= args.each]
    found = found[: args.limit]
    with ledger.folder() as parent:
        server = Server(parent)
        print(f"{len(found)} pairs of {len({pair.case.name for pair in found})} cases", flush=True)
        outcomes, broken = ledger.spread(found, lambda pair: server.run(pair.case, pair.verb), parent, args)
        touched = not server.good_is_untouched()
    code = ledger.told(outcomes, broken, args.report)
    if touched:
        print("\nthe good runs were changed")
    return int(bool(code or touched))
