"""Tries spread over processes, and what they came to: counted, shown, kept."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

EVERY = 30.0
"""Seconds between lines of progress."""
T = TypeVar("T")


@dataclass
class Outcome:
    """What a try came to.

    Args:
        name: ``group/what``.
        failures: what must not be; empty if all is well.
        line: the first line that the command said.
        code: its exit code.
        seconds: how long it took.
    """

    name: str
    failures: list[str] = field(default_factory=list)
    line: str = ""
    code: int = 0
    seconds: float = 0.0


def options(parser: argparse.ArgumentParser) -> None:
    """Options of every campaign whose tries are spread."""
    parser.add_argument("--limit", type=int, help="at most so many tries")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn, and of the order")
    parser.add_argument("--only", default="", help="tries whose name, group/what, holds this text")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no further try is begun after them")
    parser.add_argument("--report", type=Path, help="a file that gets one line of JSON a try")
    parser.add_argument("--failed", type=Path, help="a report: only the tries that failed there")


def failed(report: Path) -> set[str]:
    """Names of the tries that failed, by a report."""
    found = [json.loads(line) for line in report.read_text().splitlines()]
    return {outcome["name"] for outcome in found if outcome["failures"]}


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for everything that a campaign makes."""
    with tempfile.TemporaryDirectory(prefix="gencli-campaign-") as made:
        yield Path(made)


def spread(
    tries: Sequence[T], run: Callable[[T], Outcome], parent: Path, args: argparse.Namespace
) -> tuple[list[Outcome], int]:
    """Run every try in one of some forked processes: (outcomes, processes that did not end well).

    Args:
        tries: what is handed to ``run``, in this order.
        run: makes one try. What it holds is made before the fork and shared.
        parent: a folder for what they hand over.
        args: how many processes, and how many minutes they have.
    """
    began = time.monotonic()
    ledgers = [parent / f"worker{k}.jsonl" for k in range(args.jobs)]
    workers: set[int] = set()
    for k, ledger in enumerate(ledgers):
        sys.stdout.flush()
        worker = os.fork()
        if worker == 0:
            code = 1
            try:
                with ledger.open("w") as file:
                    for each in tries[k :: args.jobs]:
                        if time.monotonic() - began > 60 * args.minutes:
                            break
                        file.write(json.dumps(vars(run(each))) + "\n")
                        file.flush()
                code = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stderr.flush()
                os._exit(code)
        workers.add(worker)
    broken = _waited(workers, ledgers, len(tries), began)
    outcomes = [Outcome(**found) for found in _handed(ledgers)]
    print(f"{len(outcomes)} of {len(tries)} tried in {time.monotonic() - began:.0f} s", flush=True)
    return outcomes, broken


def _handed(ledgers: Sequence[Path]) -> list[dict]:
    """What the processes have handed over so far; a line may be half written."""
    lines = [line for ledger in ledgers if ledger.exists() for line in ledger.read_text().splitlines(keepends=True)]
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _waited(workers: set[int], ledgers: Sequence[Path], total: int, began: float) -> int:
    """Wait for the workers and say how far they are; how many of them failed."""
    broken, spoken = 0, began
    while workers:
        for worker in [*workers]:
            done, status = os.waitpid(worker, os.WNOHANG)
            if done:
                workers.remove(worker)
                broken += bool(status)
        time.sleep(0.2)
        if time.monotonic() - spoken > EVERY:
            spoken = time.monotonic()
            found = _handed(ledgers)
            bad = sum(bool(outcome["failures"]) for outcome in found)
            print(f"{len(found)}/{total} tries, {bad} failed, {spoken - began:.0f} s", flush=True)
    return broken


def told(outcomes: Sequence[Outcome], broken: int, report: Path | None = None) -> int:
    """Show what tries came to: a table by group, then each failure; the exit code of the campaign."""
    _table(outcomes)
    bad = sorted((outcome for outcome in outcomes if outcome.failures), key=lambda outcome: outcome.name)
    for outcome in bad:
        print(f"\n{shown(outcome.name)}  (code {outcome.code}, {outcome.seconds:.1f} s)")
        for failure in outcome.failures:
            print(f"  {shown(failure)}")
        print(f"  > {shown(outcome.line)[:200]}")
    if report:
        report.write_text("".join(json.dumps(vars(outcome)) + "\n" for outcome in outcomes))
    if broken:
        print(f"\n{broken} workers did not end well")
    return int(bool(bad or broken))


def _table(outcomes: Sequence[Outcome]) -> None:
    """Tries, failures and seconds by group."""
    count: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    seconds: defaultdict[str, float] = defaultdict(float)
    for outcome in outcomes:
        for group in (outcome.name.partition("/")[0], "all"):
            count[group] += 1
            bad[group] += bool(outcome.failures)
            seconds[group] += outcome.seconds
    print(f"\n{'group':<20}{'tries':>8}{'failed':>8}{'seconds':>10}")
    for group in sorted(count, key=lambda group: (group == "all", group)):
        print(f"{group:<20}{count[group]:>8}{bad[group]:>8}{seconds[group]:>10.1f}")


def shown(text: str) -> str:
    """A text with everything that is not printable escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
