"""The table of docs/benchmarks.md, made from results/benchmarks/*.json: how many times as fast gencli is as others.

A race leaves its result in benchmarks/results, which is not kept; those of the table were moved to results/benchmarks.

Of each benchmark the newest results count that were taken with the same arguments, whatever the rounds, at the same
commit; their median stands in the table, and how far they are apart.

    python -m benchmarks.table            writes the table
    python -m benchmarks.table --check    says whether it is out of date; code 1 if it is
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.racing import FLOOR, OURS

ROOT = Path(__file__).resolve().parents[1]
PAGE, KEPT = ROOT / "docs" / "benchmarks.md", ROOT / "results" / "benchmarks"
BLOCK = re.compile(r"(<!-- races -->\n).*?(<!-- end -->)", re.DOTALL)

RACES = (
    *("coupling_flow", "autoregressive_flow", "spline_flow", "flow_matching", "vae", "langevin", "text", "unet"),
    "pixelcnn",
)
"""Benchmarks that race peers or floors, in the order of the table."""

COMPILED = f"{OURS}, compiled"

KINDS = {"--compile": ", compiled", "--same": ", one architecture for all"}
"""What an argument makes of a race."""

Row = dict[str, str]


def newest(folder: Path = KEPT) -> list[list[dict[str, Any]]]:
    """Results of each benchmark and its arguments: those of the commit that was measured last."""
    found: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*-*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if result["benchmark"] in RACES:
            asked = re.sub(r"--rounds \d+", "", " ".join(result["arguments"])).strip()
            found.setdefault((RACES.index(result["benchmark"]), asked), []).append(result)
    groups = []
    for _, results in sorted(found.items(), key=lambda item: item[0]):
        last = max(results, key=lambda result: str(result["date"]))["commit"]
        groups.append([result for result in results if result["commit"] == last])
    return groups


def rows(results: list[dict[str, Any]]) -> Iterable[Row]:
    """A row for each work of each table of a benchmark."""
    for number, table in enumerate(results[-1]["tables"]):
        medians = [result["tables"][number]["median"] for result in results if len(result["tables"]) > number]
        asked = results[-1]["arguments"]
        if OURS not in table.get("median", ()) or ("--compile" in asked and COMPILED not in table["median"]):
            continue  # what is not compiled is told of the race without
        how = "".join(told for word, told in KINDS.items() if word in asked)
        yield row(f"{results[-1]['benchmark']}{how}: {table['title']}", medians)


def row(title: str, medians: list[Mapping[str, float]]) -> Row:
    """One work: ratios of several races, each within itself."""
    names = list(medians[-1])
    ours = COMPILED if COMPILED in names else OURS
    peers = [name for name in names if not name.startswith((OURS, FLOOR))]
    best = min(peers, key=lambda name: statistics.median(median[name] for median in medians)) if peers else None
    floors = {name.removeprefix(FLOOR).strip(" ,"): name for name in names if name.startswith(FLOOR)}
    return {
        "what": title,
        "races": str(len(medians)),
        "best peer": f"{best}: {ratio(medians, best, ours)}" if best else "",
        "floor": "; ".join(f"{told}: {ratio(medians, name, ours)}" for told, name in floors.items()),
    }


def ratio(medians: list[Mapping[str, float]], other: str, ours: str) -> str:
    """How many times as fast gencli is as another work, with the extremes of several races."""
    found = [median[other] / median[ours] for median in medians if other in median]
    apart = f" ({min(found):.2f} to {max(found):.2f})" if len(found) > 1 else ""
    return f"{statistics.median(found):.2f}{apart}"


def table(groups: list[list[dict[str, Any]]]) -> str:
    """Markdown."""
    lines = ["| what | races | of the best peer's speed | of a loop by hand |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(each.values()) + " |" for results in groups for each in rows(results)]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="The table of docs/benchmarks.md")
    parser.add_argument("--check", action="store_true", help="write nothing; code 1 if the table is out of date")
    text = PAGE.read_text(encoding="utf-8")
    made = BLOCK.sub(lambda found: f"{found[1]}{table(newest())}{found[2]}", text)
    if parser.parse_args().check:
        if made != text:
            print(f"{PAGE.name} is out of date: python -m benchmarks.table")
        return int(made != text)
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
