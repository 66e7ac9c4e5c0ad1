"""Whether a step has become slower: ratios to loops by hand, against those of floors.json; code 1 if one lost a third.

The band is wide, because machines differ and drift: it is for the mistake that makes a step twice as slow, not for a
tenth. No peer is needed.

    python -m benchmarks.check            # a minute
    python -m benchmarks.check --write    # keep what is seen now, after a change that is meant
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import coupling_flow, langevin
from benchmarks.racing import Report, ratios

FLOORS = Path(__file__).parent / "floors.json"
LEAST = 2 / 3
"""Of the ratio that is kept."""

ROUNDS = 5
RACES: dict[str, Callable[[Report], None]] = {
    "coupling_flow": lambda report: coupling_flow.main(report, ROUNDS, compiled=False, same=False),
    "langevin": lambda report: langevin.main(report, ROUNDS),
}


def seen() -> dict[str, float]:
    """gencli's speed as a share of its fastest floor, by benchmark and work."""
    torch.set_num_threads(1)
    found = {}
    for name, race in RACES.items():
        report = Report(name)
        race(report)
        for table in report.tables:
            floors = {key: value for key, value in ratios(table["median"]).items() if key != "peer"}
            if floors:
                found[f"{name}: {table['title']}"] = round(min(floors.values()), 3)
    return found


def lost(kept: dict[str, float], found: dict[str, float]) -> list[str]:
    """A line for each work that is slower than it may be, or is not measured any more."""
    return [
        f"{name}: {found.get(name, 0.0):.2f} of a loop by hand, {ratio:.2f} before"
        for name, ratio in kept.items()
        if found.get(name, 0.0) < LEAST * ratio
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Whether a step has become slower")
    parser.add_argument("--write", action="store_true", help="keep what is seen now")
    write, found = parser.parse_args().write, seen()
    if write:
        FLOORS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return 0
    slower = lost(json.loads(FLOORS.read_text(encoding="utf-8")), found)
    print("\n".join(slower) or "as fast as before")
    return int(bool(slower))


if __name__ == "__main__":
    sys.exit(main())
