"""A tiny run of every family, made once undisturbed; and whether another run is the same to the bit."""

from __future__ import annotations

import itertools
import json
import os
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from campaigns.children import forked
from campaigns.told import CLOCKS, metrics

TINY = (
    *("trainer.max_steps=10", "trainer.eval_every=4", "trainer.log_every=3", "trainer.batch_size=16"),
    *("trainer.ema_decay=0.9", "trainer.eval_minutes=null", "trainer.eval_examples=null", "optimizer.warmup_steps=4"),
    *("logger=none", "n=4", "device=cpu"),
)
MOONS = ("data=moons", "data.train=200", "data.val=24", "data.test=24")
FIELD = ("model.net.vector.width=8", "model.net.vector.blocks=1")
DDIM = ("sampler=ddim", "sampler.steps=2", "trainer.sample_every=4")
COARSE = ("estimator.method=rk4", "estimator.steps=8", "sampler.method=euler", "sampler.steps=2")
CHAINS = ("estimator.chains=16", "estimator.betas=4")
FAMILIES: dict[str, tuple[str, ...]] = {
    "flow": (*MOONS, "model=realnvp", "model.net.vector.hidden=[8]", "trainer.patience=50"),
    "glow": (
        *("data=digits", "data.flip=true", "model=glow", "model.net.image.width=4", "model.net.image.dropout=0.2"),
        *("model.levels=1", "model.steps=1", "model.marginal=0", "trainer.accumulate=2"),
    ),
    "autoregressive": ("data=digits", "model=made", "model.hidden=[8]", "model.masks=2", "model.orderings=random"),
    "vae": (
        *("data=digits", "data.flatten=true", "data.binarize=8", "data.transform=none", "model=vae", "model.latent=2"),
        *("net@model.net=mlp", "model.net.hidden=[8]", "estimator.k=4"),
    ),
    "gan": (
        *(*MOONS, "model=generator", "model.net.vector.hidden=[8]", "objective.critic.vector.hidden=[8]"),
        *("objective.critic_steps=2",),
    ),
    "field": (*MOONS, "model=flow_matching", *FIELD, *COARSE, "trainer.sample_every=5"),
    "diffusion": (*MOONS, "model=diffusion", *FIELD, "estimator=vlb", "estimator.samples=2", *DDIM),
    "student": (
        *(*MOONS, "model=diffusion", *FIELD, "objective=progressive", "objective.teacher={good}/diffusion"),
        *("objective.start=8", "objective.end=2", *DDIM, "estimator=null"),
    ),
    "reflow": (
        *(*MOONS, "model=flow_matching", *FIELD, *COARSE, "objective=reflow", "objective.teacher={good}/field"),
        *("objective.pairs=40", "objective.tolerance=1e-2", "objective.passes=2"),
    ),
    "ebm": (
        *(*MOONS, "model=ebm", "model.net.vector.hidden=[8]", "objective=pcd", "objective.buffer=40"),
        *("objective.steps=2", "sampler.steps=4", "sampler.warmup=2", "estimator.refresh=2", *CHAINS),
    ),
    "rbm": (
        *("data=digits", "data.binarize=8", "data.flatten=true", "data.transform=none", "model=rbm", "model.hidden=4"),
        *("objective.buffer=40", "objective.steps=2", "sampler.steps=4", "sampler.warmup=2", *CHAINS),
    ),
    "mixture": (*MOONS, "model=gmm", "model.components=3", "optimizer.lr=1e-4"),
    "sample": ("data=crabs", "model=gmm", "model.components=2", "trainer.patience=50"),
    "closed": (*MOONS, "model=gaussian", "trainer.max_steps=4"),
    "ergm": (
        *("data=florentine", "model=ergm", "model.terms=[edges]", "objective.samples=40", "objective.anchor=2"),
        *("objective.steps=2", "sampler.warmup=2", "sampler.steps=2"),
        *("estimator.chains=4", "estimator.bridges=2", "estimator.burn=0", "estimator.steps=1"),
    ),
    "ising": (
        *("data=ising", "data.size=4", "data.train=64", "data.val=16", "data.test=16", "model=ising"),
        *("model.couplings=edges", "objective.buffer=40", "objective.steps=2", "sampler.steps=2", "sampler.warmup=2"),
    ),
    "text": (
        *("data=text_file", "data.path={good}/text.txt", "data.window=16", "model=transformer", "model.layers=1"),
        *("model.heads=2", "model.width=8", "model.dropout=0.1"),
    ),
    "began": ("init_from={good}/flow", "optimizer.lr=1e-3"),
}
"""Options of each; those that need another run come after it."""


def words(name: str, good: Path) -> list[str]:
    """The options of a family's run."""
    own = [word.replace("{good}", str(good)) for word in FAMILIES[name]]
    return [*(() if own[0].startswith("init_from") else TINY), *own]


class Made(NamedTuple):
    """Undisturbed runs.

    Args:
        folder: where they lie.
        seconds: of the CPU that each took.
    """

    folder: Path
    seconds: dict[str, float]


def make(parent: Path, names: Sequence[str]) -> Made:
    """Train the run of each family in a child of its own, and the runs that these need."""
    from gencli.config.compose import compose

    good = parent / "good"
    good.mkdir()
    (good / "text.txt").write_text("the cat sat on the mat and the dog ran to the hat\n" * 30)
    needed = {word.rpartition("/")[2] for name in names for word in FAMILIES[name] if "{good}/" in word}
    wanted = [name for name in FAMILIES if name in {*names, *needed}]
    compose("train", list(MOONS))  # fills the caches of Hydra's parser, which each child would fill anew
    seconds = {}
    for name in wanted:
        before = _spent()
        ended = forked(lambda own=name: trained(words(own, good), good, own), parent, 120)  # type: ignore[misc]
        if ended.code:
            raise RuntimeError(f"{name} cannot be trained:\n{ended.out.decode()}\n{ended.err.decode()}")
        seconds[name] = _spent() - before
    return Made(good, seconds)


def _spent() -> float:
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def trained(own: Sequence[str], folder: Path, name: str) -> int:
    """``gencli train`` within a folder; the exit code."""
    return called(["train", *own, f"run_dir={name}"], folder)


def called(command: Sequence[str], folder: Path) -> int:
    """A command of ``gencli`` within a folder, in a child; the exit code.

    Its pictures of samples are left out: they take most of the time of a tiny run, and follow from the samples.
    """
    from gencli.cli.main import main
    from gencli.pictures import files, style

    os.chdir(folder)
    files.of_samples, files.SHOWN = lambda *_: None, 0  # type: ignore[assignment]
    style.rendered = lambda figure, format="png": b"a picture\n"
    return main([*command])


# --- the same to the bit ---------------------------------------------------------------------------------------------


def differences(one: Path, other: Path) -> Iterator[str]:
    """Where two finished runs differ, but for times: a line each."""
    yield from _checkpoints(one, other)
    for a, b in itertools.zip_longest(metrics(one), metrics(other)):
        if a != b:
            yield f"metrics.jsonl: {a} is now {b}"
    yield from _files(one, other)
    a, b = (json.loads((run / "run.json").read_text()) for run in (one, other))
    for key in ("status", "best", "result", "steps", "data_sha256", "parameters", "sizes", "init_from"):
        if a.get(key) != b.get(key):
            yield f"run.json: {key}={a.get(key)} is now {b.get(key)}"
    if a["progress"]["step"] != b["progress"]["step"]:
        yield f"run.json: {a['progress']} is now {b['progress']}"
    yield from (f"left over: {path.relative_to(other)}" for path in temporary(other))


def temporary(run: Path) -> list[Path]:
    """Files of writes that did not end."""
    return sorted(run.rglob("*.tmp"))


def damaged(run: Path) -> Iterator[str]:
    """What of a run cannot be read, whenever its process ended; metrics.jsonl and train.log may end in half a line."""
    from gencli.core.errors import GencliError
    from gencli.run import checkpoint

    for file in sorted((run / "checkpoints").glob("*.safetensors")):
        try:
            checkpoint.read(file)
        except GencliError as error:
            yield str(error)
    for file in [*run.glob("*.json"), *run.glob("eval/*.json")]:
        try:
            json.loads(file.read_text())
        except ValueError as error:
            yield f"{file.relative_to(run)}: {error}"


def _checkpoints(one: Path, other: Path) -> Iterator[str]:
    import torch

    from gencli.run import checkpoint

    for name in ("last", "best"):
        files = [run / "checkpoints" / f"{name}.safetensors" for run in (one, other)]
        if not files[0].exists():
            if files[1].exists():
                yield f"{name}: there was none"
            continue
        (mine, told), (theirs, found) = map(checkpoint.read, files)
        for key in sorted(mine.keys() | theirs.keys()):
            if key not in mine or key not in theirs or not _equal(mine[key], theirs[key], torch.equal):
                yield f"{name}: tensor {key}"
        for each in (told, found):
            each.pop("seconds", None)
            if "logged" in each:
                each["logged"] = each["logged"][0]
        yield from (
            f"{name}: {key}={told.get(key)} is now {found.get(key)}" for key in told if told[key] != found.get(key)
        )


def _equal(a: Any, b: Any, same: Any) -> bool:
    return a.dtype == b.dtype and bool(same(a.nan_to_num(), b.nan_to_num()))


def _files(one: Path, other: Path) -> Iterator[str]:
    """Records, arrays and samples."""
    names = [
        {str(path.relative_to(run)) for kind in ("eval", "samples") for path in (run / kind).glob("*")}
        for run in (one, other)
    ]
    yield from (f"{name}: {'missing' if name in names[0] else 'too much'}" for name in sorted(names[0] ^ names[1]))
    for name in sorted(names[0] & names[1]):
        if name.endswith(".json"):
            a, b = (json.loads((run / name).read_text()) for run in (one, other))
            for key in sorted(a.keys() | b.keys()):
                if key not in CLOCKS and a.get(key) != b.get(key):
                    yield f"{name}: {key}={a.get(key)} is now {b.get(key)}"
        elif name.endswith(".npz"):
            with np.load(one / name) as a, np.load(other / name) as b:
                wrong = [
                    key for key in {*a, *b} if key not in a or key not in b or a[key].tobytes() != b[key].tobytes()
                ]
            yield from (f"{name}: {key}" for key in sorted(wrong))
