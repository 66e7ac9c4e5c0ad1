"""Damaged files of a run, with every verb: one line, or the same numbers as those of the undamaged run."""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from campaigns import ledger
from campaigns.ledger import Outcome
from campaigns.prepared import Prepared, training
from campaigns.told import first_line, our_warnings, said, timeless

HELP = "bytes flipped, cut, swapped in every file of a run"
LIMIT = 60
TRIES = 3000
_TINY = (
    *("trainer.max_steps=4", "trainer.eval_every=2", "trainer.log_every=1", "trainer.batch_size=16", "logger=none"),
    *("n=4", "device=cpu", "threads=1", "trainer.workers=0"),
)
_MOONS = ("data=moons", "data.train=100", "data.val=20", "data.test=20")
_FLOW = (*_TINY, *_MOONS, "model=realnvp", "model.net.vector.hidden=[8]", "model.couplings=2")
RUNS = {
    "run": _FLOW,
    "twin": (*_FLOW, "seed=1"),
    "table": (*_TINY, "data=csv", "data.path=../table.csv", "model=gaussian"),
    "table2": (*_TINY, "data=csv", "data.path=../table2.csv", "model=gaussian"),
}
"""Two runs each that differ in their seed, or in the user's file."""
OTHER = {"run": "twin", "table": "table2"}
NEITHER = (".lock", "train.log")
"""Files whose content nothing reads."""
OF_BEST = ("sample", "eval", "load")
"""What takes the checkpoint ``last`` where there is no ``best``; records and samples say which it was."""


# --- verbs -----------------------------------------------------------------------------------------------------------


def _load(run: str) -> int:
    """What the Python side says of a run."""
    import gencli
    from gencli.cli.main import _report
    from gencli.core.errors import GencliError

    try:
        found = gencli.load(run, device="cpu")
        print(json.dumps([found.results, found.log_prob(found.sample(3).float()).tolist()]))
    except GencliError as error:
        return _report(error)
    return 0


def _main(*words: str) -> int:
    from gencli.cli.main import main

    return main([*words])


VERBS: Mapping[str, Callable[[str], int]] = {
    "sample": lambda run: _main("sample", f"run={run}", "n=3", "device=cpu", "name=new"),
    "eval": lambda run: _main("eval", f"run={run}", "device=cpu", "split=val"),
    "resume": lambda run: _main("train", f"resume={run}", "device=cpu", "trainer.max_steps=6"),
    "load": _load,
    "compare": lambda run: _main("compare", "--json", run, OTHER[run]),
    "ls": lambda run: _main("ls", "--json", "."),
    "report": lambda run: _main("report", run, OTHER[run]),
    "card": lambda run: _main("card", run),
}


def answer(verb: str, work: Path, run: str, out: str) -> Any:
    """The numbers that a command gave; what time decides is left out."""
    import numpy as np
    import safetensors.numpy

    folder = work / run
    if verb == "sample":
        with np.load(folder / "samples/new.npz") as arrays:
            return {key: arrays[key].tolist() for key in arrays}
    if verb == "eval":
        return timeless(json.loads((folder / "eval/val-exact.json").read_text()))
    if verb == "resume":
        weights = safetensors.numpy.load_file(folder / "checkpoints/last.safetensors")
        record = timeless(json.loads((folder / "eval/test-exact.json").read_text()))
        return {key: value.tolist() for key, value in weights.items()}, record
    if verb == "load":
        results, densities = json.loads(out)
        return sorted(map(repr, map(timeless, results))), densities
    if verb == "compare":
        rows = [row for group in json.loads(out)["groups"] for row in group["rows"]]
        return {str(row["run"]): {key: row.get(key) for key in _COMPARED} for row in rows}
    if verb == "ls":
        keys = ("value", "bound", "unit", "split", "se", "flags", "model", "data", "seed")
        return {line["run"]: {key: line[key] for key in keys} for line in json.loads(out)}
    text = out if verb == "card" else (work / "report.html").read_text()
    return re.findall(r"-?\d+\.\d+ ± \d+\.?\d*", text)


_COMPARED = ("value", "bound", "se", "se_examples", "bits_per_dim", "difference", "n_examples")


def same(verb: str, got: Any, wanted: Any) -> bool:
    """Whether a command gave what it gives of the undamaged run; numbers that it leaves out are not wrong ones."""
    if verb in ("compare", "ls"):
        return all(told in (None, wanted[name][key]) or _is_blank(got[name]) for name, key, told in _cells(got))
    if verb == "load":
        return got[1] == wanted[1] and {*got[0]} <= {*wanted[0]}
    if verb in ("report", "card"):
        return {*got} <= {*wanted}
    return bool(got == wanted)


def _cells(table: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, Any]]:
    return ((name, key, told) for name, row in table.items() for key, told in row.items())


def _is_blank(row: Mapping[str, Any]) -> bool:
    """Whether a run is listed without a number, as damaged."""
    return row.get("value") is None


# --- damage ----------------------------------------------------------------------------------------------------------


def _flip(file: Path, draw: random.Random, other: Path) -> None:
    data = bytearray(file.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    file.write_bytes(data)


def _digit(file: Path, draw: random.Random, other: Path) -> None:
    data = bytearray(file.read_bytes())
    places = [k for k, byte in enumerate(data) if chr(byte).isdigit()]
    if not places:
        return _flip(file, draw, other)
    at = draw.choice(places)
    data[at] = draw.choice([byte for byte in b"0123456789" if byte != data[at]])
    file.write_bytes(data)


def _cut(file: Path, draw: random.Random, other: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: draw.randrange(len(data))])


def _cut_tail(file: Path, draw: random.Random, other: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: -draw.randint(1, min(len(data), 60))])


def _insert(file: Path, draw: random.Random, other: Path) -> None:
    data = file.read_bytes()
    at = draw.randrange(len(data) + 1)
    file.write_bytes(data[:at] + draw.randbytes(draw.randint(1, 16)) + data[at:])


def _zero(file: Path, draw: random.Random, other: Path) -> None:
    data = bytearray(file.read_bytes())
    at = draw.randrange(len(data))
    end = min(len(data), at + draw.choice((1, 8, 512, 4096)))
    data[at:end] = bytes(end - at)
    file.write_bytes(data)


def _swap(file: Path, draw: random.Random, other: Path) -> None:
    if other.is_file():
        shutil.copyfile(other, file)
    else:
        file.write_bytes(draw.randbytes(100))


def _folder(file: Path, draw: random.Random, other: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGES: dict[str, Callable[[Path, random.Random, Path], None]] = {
    **{"flip": _flip, "digit": _digit, "cut": _cut, "cut-tail": _cut_tail, "insert": _insert, "zero": _zero},
    **{"swap": _swap, "folder": _folder},
    "empty": lambda file, draw, other: file.write_bytes(b"") and None,
    "gone": lambda file, draw, other: file.unlink(),
}


@dataclass(frozen=True)
class Damage:
    """A try: one file of a run is damaged, one command follows."""

    name: str
    run: str
    file: str
    how: str
    verb: str
    seed: str


def drawn(files: Mapping[str, list[str]], seed: int, count: int) -> list[Damage]:
    """Tries; each by its number and the seed alone."""
    found = []
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        run = draw.choices([*files], weights=[3, 2])[0]
        file, verb = draw.choice(files[run]), draw.choice([*VERBS])
        how = draw.choices([*DAMAGES], weights=(6, 5, 2, 2, 2, 2, 3, 1, 1, 1))[0]
        name = f"{verb}/{number}-{how}-{run}-{file.replace('/', '-')}"
        found.append(Damage(name, run, file, how, verb, f"{seed} {number}"))
    return found


# --- the campaign ----------------------------------------------------------------------------------------------------


class Bench:
    """Good runs, and what each command says of them."""

    def __init__(self, parent: Path, pairs: Mapping[str, str] = OTHER) -> None:
        for k, name in enumerate(("table", "table2")):
            rows = [f"{random.Random(j).gauss(3, 2 + k)},{random.Random(-j).gauss(-1, 1 + k)}" for j in range(1, 200)]
            (parent / f"{name}.csv").write_text("\n".join(["a,b", *rows]) + "\n")
        warm = [["eval", "run=run", "device=cpu"], ["compare", "run"], ["report", "run"]]
        named = {*pairs, *pairs.values()}
        good = {name: words for name, words in RUNS.items() if name in named}
        self.room = Prepared(parent, training(good), warm)
        self.files = {
            run: sorted(
                str(path.relative_to(self.room.good / run))
                for path in (self.room.good / run).rglob("*")
                if path.is_file() and path.suffix != ".png" and path.name not in NEITHER
            )
            for run in pairs
        }
        self.wanted = {(run, verb): self._right(run, verb) for run in pairs for verb in VERBS}

    def _right(self, run: str, verb: str) -> Any:
        with self._place() as scratch:
            ended = self.room.act(scratch, partial(VERBS[verb], run), LIMIT)
            if ended.code:
                raise RuntimeError(f"{verb} of a good run failed: {ended.err.decode()}{ended.out.decode()}")
            return answer(verb, scratch / "work", run, ended.out.decode())

    def _place(self) -> Any:
        return _with_copies(self.room)

    def tried(self, damage: Damage) -> Outcome:
        """Damage one file of a copy, run one command, compare what it says."""
        with self._place() as scratch:
            work = scratch / "work"
            file = work / damage.run / damage.file
            before = file.read_bytes()
            DAMAGES[damage.how](file, random.Random(damage.seed), work / OTHER[damage.run] / damage.file)
            if file.is_file() and file.read_bytes() == before:
                return Outcome(damage.name, line="the file is as it was")
            ended = self.room.act(scratch, partial(VERBS[damage.verb], damage.run), LIMIT)
            out, err = ended.texts
            outcome = Outcome(damage.name, line=first_line(err, out), code=ended.code, seconds=ended.seconds)
            outcome.failures = [*said(ended.code, out, err, LIMIT), *our_warnings(out + err)]
            if ended.code == 0:
                outcome.failures += self._wrong(damage, work, out, err)
            return outcome

    def _wrong(self, damage: Damage, work: Path, out: str, err: str) -> Iterator[str]:
        wanted = self.wanted[damage.run, damage.verb]
        if (damage.file, damage.how) == ("checkpoints/best.safetensors", "gone") and damage.verb in OF_BEST:
            return  # last is taken, as of a run before its first validation
        try:
            got = answer(damage.verb, work, damage.run, out)
        except (OSError, ValueError, KeyError) as error:
            yield f"no answer, though it ended well: {error!r}"[:300]
            return
        if damage.verb == "resume" and damage.file == "checkpoints/best.safetensors" and "warning:" in out + err:
            got, wanted = got[0], wanted[0]  # a best that is forgotten, as the warning says: another one is measured
        if not same(damage.verb, got, wanted):
            yield f"another answer: {got!r}"[:400]


def _with_copies(room: Prepared) -> Any:
    from contextlib import contextmanager

    @contextmanager
    def place() -> Iterator[Path]:
        with room.folder() as scratch:
            shutil.copytree(room.good, scratch / "work", dirs_exist_ok=True)
            for table in room.parent.glob("*.csv"):
                shutil.copyfile(table, scratch / table.name)
            yield scratch

    return place()


def options(parser: argparse.ArgumentParser) -> None:
    """What this campaign may be told."""
    ledger.options(parser)


def run(args: argparse.Namespace) -> int:
    """Damage files, and say which command did not end in one line nor gave the right numbers."""
    with ledger.folder() as parent:
        bench = Bench(parent)
        found = [each for each in drawn(bench.files, args.seed, args.limit or TRIES) if args.only in each.name]
        if args.failed:
            again = ledger.failed(args.failed)
            found = [each for each in found if each.name in again]
        outcomes, broken = ledger.spread(found, bench.tried, parent, args)
    return ledger.told(outcomes, broken, args.report)
