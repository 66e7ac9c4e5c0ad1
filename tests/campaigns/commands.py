"""Command lines drawn from the declared options of every group: done, or refused in one line with nothing written."""

from __future__ import annotations

import argparse
import random
import re
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from campaigns import ledger, lines
from campaigns.children import interrupting
from campaigns.ledger import Outcome
from campaigns.lines import TINY, Key
from campaigns.prepared import Prepared, training
from campaigns.told import changed, first_line, our_warnings, said, snapshot

HELP = "command lines drawn from the declared options"
LIMIT = 60
"""Seconds of a try; longer is a hang."""
LARGE = 10
"""Seconds of a try whose command asks for something large: Ctrl-C follows, which has to end it."""
GRACE = 5
"""Seconds between Ctrl-C and the end. Training ends its step first, which may be long: then Ctrl-C comes once more."""
TRIES = 5000
MOONS = ("data=moons", "data.train=60", "data.val=16", "data.test=16")
RUNS = {
    "flow": (*TINY, *MOONS, "model=realnvp", "model.net.vector.hidden=[8]"),
    "field": (*TINY, *MOONS, "model=flow_matching", "model.net.vector.width=8", "model.net.vector.blocks=1"),
    "energy": (
        *(*TINY, *MOONS, "model=ebm", "model.net.vector.hidden=[8]", "objective=nce", "sampler.steps=3"),
        *("sampler.warmup=2", "estimator=ais", "estimator.chains=8", "estimator.betas=3", "estimator.refresh=2"),
    ),
}
"""Good runs beside which samples are drawn and numbers measured."""
SHARES = {
    "value": 26,
    "parts": 14,
    "fitting": 14,
    "text": 8,
    "grammar": 8,
    "typo": 6,
    "sweep": 4,
    "sample": 8,
    "eval": 6,
    "words": 6,
}
"""Groups of tries, and how many of a hundred."""


@dataclass(frozen=True)
class Line:
    """A command.

    Args:
        name: of the try.
        words: after ``gencli``.
        key: the one drawn key, whose value is checked if the command takes it.
        beside: whether the good runs lie in the working directory.
    """

    name: str
    words: tuple[str, ...]
    key: Key | None = None
    beside: bool = False


def options(parser: argparse.ArgumentParser) -> None:
    """What this campaign may be told."""
    ledger.options(parser)


def run(args: argparse.Namespace) -> int:
    """Run command lines, and say what was neither done nor refused in one line."""
    found = [line for line in drawn(args.seed, args.limit or TRIES) if args.only in line.name]
    if args.failed:
        again = ledger.failed(args.failed)
        found = [line for line in found if line.name in again]
    with ledger.folder() as parent:
        room = room_of(parent)
        outcomes, broken = ledger.spread(found, lambda line: tried(room, line), parent, args)
    return ledger.told(outcomes, broken, args.report)


def room_of(parent: Path) -> Prepared:
    """A process with the good runs."""
    return Prepared(parent, training(RUNS), [["sample", "run=flow", "device=cpu"], ["eval", "run=flow", "device=cpu"]])


# --- tries -----------------------------------------------------------------------------------------------------------


def drawn(seed: int, count: int) -> list[Line]:
    """Command lines in a mixed order; each by its name and the seed alone."""
    order = random.Random(seed).choices([*SHARES], weights=[*SHARES.values()], k=count)
    return [line(seed, group, number) for number, group in enumerate(order)]


def line(seed: int, group: str, number: int) -> Line:
    """One command line."""
    draw = random.Random(f"{seed} {group} {number}")
    made = _GROUPS[group](draw)
    return Line(f"{group}/{number}", tuple(made[0]), *made[1:])


def _value(draw: random.Random) -> tuple[Any, ...]:
    """One drawn value of a declared key of a part."""
    found = lines.parts(draw, fit=True)
    group = draw.choices(
        ("model", "data", "objective", "sampler", "estimator", "trainer", "optimizer", "top"),
        weights=(5, 3, 4, 4, 4, 3, 2, 2),
    )[0]
    if group == "top":
        keys: Sequence[Key] = lines.top_keys("train")
    else:
        if group in ("objective", "sampler", "estimator"):
            of_model = lines.partners(group, found["model"]) or lines.names(group)
            found.setdefault(group, draw.choice(of_model))
        name = {"trainer": "default", "optimizer": "adamw"} | found
        keys = lines.keys_of(group, name[group], group)
    if not keys:
        return ["train", *_bounded(found)], None
    key = draw.choice(keys)
    words = [word for word in _bounded(found) if not word.startswith(f"{key.path}=")]
    prefix = draw.choices(("", "++", "+"), weights=(12, 2, 1))[0]
    return ["train", *words, f"{prefix}{key.path}={lines.value(key.hint, draw)}"], key


def _bounded(found: dict[str, str]) -> list[str]:
    return [*TINY, *lines.of_parts(found)]


def _parts(draw: random.Random) -> tuple[Any, ...]:
    """Parts that need not go together."""
    return (["train", *_bounded(lines.parts(draw, fit=False))],)


def _fitting(draw: random.Random) -> tuple[Any, ...]:
    """Parts that fit by their classes, with some options at the ends of their ranges."""
    found = lines.parts(draw, fit=True)
    words = _bounded(found)
    for group in draw.sample([*found], k=draw.randint(0, len(found))):
        keys = lines.keys_of(group, found[group], group)
        if keys:
            key = draw.choice(keys)
            words = [word for word in words if not word.startswith(f"{key.path}=")]
            words.append(f"{key.path}={lines.fitting(key.hint, draw)}")
    return (["train", *words],)


def _text(draw: random.Random) -> tuple[Any, ...]:
    """Texts that shells, terminals, paths, YAML or OmegaConf interpret."""
    verb = draw.choice(["train", "train", "sample", "eval"])
    keys = ["model", "data", "objective", "logger", "experiment", "optimizer", "run", "sampler", "estimator"]
    keys += [key.path for key in lines.top_keys(verb)]
    text = draw.choice(lines.NASTY)
    if draw.random() < 0.4:
        text = "'" + re.sub(r"\\+(?='|$)", lambda m: m[0] * 2, text).replace("'", "\\'") + "'"
    at = draw.choice(keys)
    word = draw.choices([f"{at}={text}", f"{text}={draw.choice(keys)}", text, f"+{at}.x={text}"], (8, 1, 1, 1))[0]
    start = [*TINY, *MOONS, "model=gaussian"] if verb == "train" else ["run=flow", "device=cpu"]
    return [verb, *start, word], None, verb != "train"


def _grammar(draw: random.Random) -> tuple[Any, ...]:
    """What Hydra's grammar takes or refuses."""
    path = draw.choice(["seed", "model", "data.train", "trainer.max_steps", "model.covariance", "n", "optimizer.lr"])
    word = draw.choice(
        [
            *(
                f"{path}={draw.choice(lines.GRAMMAR)}",
                f"~{path}",
                f"~{path}={draw.choice(lines.NUMBERS)}",
                f"+{path}=1",
            ),
            *(f"++{path}={draw.choice(lines.NUMBERS)}", f"{path}=", f"{path}", f"={path}", f"{path}==1", f"{path}:=1"),
            *(f"@{path}=1", f"{path}@x=y", f"{path}@model=y", f"net@{path}=mlp", f"+net@{path}.x=mlp", f"~~{path}"),
            *(f"{path}.x=1", f"{path}..x=1", f".{path}=1", f"{path}[0]=1", f"{path}/x=1", f"+++{path}=1", f"-{path}=1"),
            *(
                "hydra.run.dir=x",
                "hydra.mode=MULTIRUN",
                "hydra.job.name=x",
                "hydra/launcher=basic",
                "hydra.verbose=true",
            ),
            *("hydra/job_logging=default", "hydra.searchpath=[x]", "hydra.output_subdir=x", "defaults=[]"),
            *("+hydra=1", "hydra.verbose=true"),
            *("--cfg=job", "--info", "-m", "--multirun", "--package=model", "--config-name=eval", "--config-path=x"),
            *("--config-dir=nothing", "-h", "--hydra-help", "--version", "-x", "--model maf", "--seed", "-c", "-p"),
        ]
    )
    return (["train", *TINY, *MOONS, "model=gaussian", word],)


def _typo(draw: random.Random) -> tuple[Any, ...]:
    """A letter of a right command goes, comes, or changes place."""
    verb = draw.choice(["train", "train", "train", "sample", "eval"])
    if verb == "train":
        words = [*TINY, *MOONS, "model=maf", "model.hidden=[8]", "model.transforms=1", "optimizer.lr=1e-3"]
    else:
        words = ["run=flow", "device=cpu", "n=2", "seed=1", "weights=raw", "checkpoint=last"]
    words = [verb, *words]
    k = draw.randrange(1 if verb == "train" and draw.random() < 0.9 else 0, len(words))
    word = words[k]
    at = draw.randrange(len(word))
    words[k] = draw.choice(
        [
            word[:at] + word[at + 1 :],
            word[:at] + draw.choice("aeiostx0159._-=[]") + word[at:],
            word[:at] + word[at : at + 2][::-1] + word[at + 2 :],
            word.upper(),
            word.replace("=", " ", 1),
            word.replace("=", ":", 1),
            f"--{word}",
        ]
    )
    return words, None, verb != "train"


def _sweep(draw: random.Random) -> tuple[Any, ...]:
    """Sweeps in which no job can begin, and words of sweeps without one."""
    declared = [*lines.keys_of_sweeps()]
    key = draw.choice(declared)
    bad = draw.choice(["model=nothing", "seed=abc", "trainer.max_steps=-1", "model=maf data=karate", "data.train=x"])
    word = f"{key.path}={lines.value(key.hint, draw)}"
    kinds = [
        ["-m", *bad.split(), "seed=0,1", word],
        ["-m", "seed=glob(x*)", word],
        ["-m", f"model=glob({draw.choice(['x*', '[', '**', ''])})"],
        ["-m", f"seed={draw.choice(lines.GRAMMAR)}", *bad.split()],
        [word],
    ]
    return (["train", *TINY, *MOONS, "model=gaussian", "sweep.workers=1", *draw.choice(kinds)],)


def _about(verb: str, draw: random.Random) -> tuple[Any, ...]:
    """A command about a run, with one drawn value."""
    name = draw.choice([*RUNS])
    model = {"flow": "realnvp", "field": "flow_matching", "energy": "ebm"}[name]
    words, keys = [verb, f"run={name}", "device=cpu"], lines.top_keys(verb)
    group = draw.choice(["sampler", "picture", None] if verb == "sample" else ["estimator", "sampler", "metric", None])
    if group == "metric":
        part = draw.choice(lines.names("metric"))
        words += ["n=8", f"metrics=[{part}]", *lines.small("metric", part, f"metrics.{part}")]
        keys = [*keys, *lines.keys_of("metric", part, f"metrics.{part}")]
    elif group:
        part = draw.choice(lines.partners(group, model) if draw.random() < 0.8 else lines.names(group))
        words += [f"{group}={part}", *lines.small(group, part, group)]
        keys = lines.keys_of(group, part, group) or keys
    key = draw.choice(keys)
    words = [word for word in words if not word.startswith(f"{key.path}=")]
    return [*words, f"{key.path}={lines.value(key.hint, draw)}"], key, True


def _words(draw: random.Random) -> tuple[Any, ...]:
    """Verbs that take plain words, and words that are no verb."""
    some = [*lines.NASTY, *lines.NONSENSE, *RUNS, *lines.names("model"), *lines.catalog.GROUPS, "*", "flow/eval"]
    flags = ("--json", "--csv", "--all", "--latex", "--markdown", "--split", "--group-by", "--best", "--importance")
    verb = draw.choice(
        ["compare", "ls", "report", "card", "list", "help", "--complete", "--completion", "--help", "-h"]
    )
    verb = draw.choices((verb, draw.choice(some)), weights=(9, 1))[0]
    words = [draw.choice(some) for _ in range(draw.randint(0, 3))]
    words += draw.choices(flags, k=draw.choice((0, 0, 1, 1, 2)))
    draw.shuffle(words)
    return [verb, *words], None, True


_GROUPS = {
    **{"value": _value, "parts": _parts, "fitting": _fitting, "text": _text, "grammar": _grammar, "typo": _typo},
    **{"sweep": _sweep, "sample": lambda draw: _about("sample", draw), "eval": lambda draw: _about("eval", draw)},
    "words": _words,
}


# --- what must not be ------------------------------------------------------------------------------------------------


def tried(room: Prepared, line: Line) -> Outcome:
    """Run one command line in a fresh folder and look at what it did."""
    from gencli.cli.main import main

    limit, meanwhile = (LARGE + 2 * GRACE, [interrupting(LARGE, GRACE)]) if _is_large(line.words) else (LIMIT, [])
    with room.folder() as scratch:
        work = scratch / "work"
        if line.beside:
            shutil.copytree(room.good, work, dirs_exist_ok=True)
        before = snapshot(work)
        ended = room.act(scratch, lambda: main(line.words), limit, *meanwhile)
        out, err = ended.texts
        outcome = Outcome(line.name, line=first_line(err, out), code=ended.code, seconds=ended.seconds)
        stopped = STOPPED if meanwhile and ended.seconds > LARGE else 0
        if any(map(_sweeps, line.words)) and ended.code in (1, 2, stopped) and "Traceback" not in err:
            err = first_line(err)  # a sweep has a line for each job that failed
        outcome.failures = [
            *said(ended.code, _page(line.words, out), err, limit, stopped),
            *our_warnings(out + err),
        ]
        if ended.code == STOPPED and err.strip() != "interrupted" and not re.search("go on with|stopped", out):
            outcome.failures.append("it does not say that it was stopped")
        if ended.code == 2:
            paths = changed(before, snapshot(work))
            outcome.failures += [f"written: {path.removeprefix(str(work))}" for path in paths[:3]]
        if ended.code == 0 and line.key is not None:
            outcome.failures += _out_of_range(line.words[-1], line.key)
    if outcome.failures:
        outcome.failures.insert(0, f"gencli {' '.join(map(repr, line.words))}")
    return outcome


STOPPED = 128 + signal.SIGINT


def _page(words: Sequence[str], out: str) -> str:
    """What a command wrote, without what belongs there: line ends of CSV, tabs by which Hydra indents --info."""
    if "--csv" in words:
        return out.replace("\r\n", "\n")
    if any(word.startswith(("--i", "-i")) for word in words):
        return re.sub(r"^\t+", "", out, flags=re.M)
    return out


CHAINS = ("estimator=ais", "estimator=bridge", "estimator=smc", "estimator=path_sampling", "sampler=")
NETWORKS = ("model=pixelcnn", "model=pixelcnn_pp", "model=transformer", "model=made", "model=ngram")
"""Energies of which a sweep over all coordinates asks for each value of each: a network pass for every one."""


def _is_large(words: Sequence[str]) -> bool:
    """Whether a command asks for much time or memory, or for a real sweep."""
    if any(word.startswith(CHAINS) for word in words) and {*NETWORKS} & {*words}:
        return True
    large = r"=\[?-?(\d{5,}|\d(\.\d*)?e\+?\d+|1_000|5e-324|1e-400|range\(1,1e9\))"
    return any(re.search(large, word) or _sweeps(word) for word in words)


def _sweeps(word: str) -> bool:
    return word.startswith(("-m", "--multirun")) or "MULTIRUN" in word


def _out_of_range(word: str, key: Key) -> Iterator[str]:
    """What is wrong with a value that was taken."""
    from gencli.config.compose import parse_overrides
    from gencli.core import options as declared

    value = _plain(parse_overrides([word])[0].value())
    if isinstance(value, str) and re.fullmatch(r"\d+", value):
        value = int(value)  # Hydra's grammar leaves 007 a text, a key that is a number takes it
    if not declared.fits(value, key.hint) and not declared.fits([value], key.hint):
        yield f"taken, but {declared.words(key.hint)} is needed"


def _plain(value: Any) -> Any:
    """A value of Hydra's grammar as a config holds it."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return getattr(value, "text", value)
