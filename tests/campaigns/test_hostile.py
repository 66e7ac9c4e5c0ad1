"""A part of the campaign against hostile run folders; scripts/campaign hostile has the whole."""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from fractions import Fraction

import pytest
from hostile import cases
from hostile.base import SECRET, Case, Place, edit, evil_package, merge
from hostile.defaults import DEFAULTS

from gencli.config import schema
from gencli.config.compose import prepare
from gencli.config.locate import config_dir
from gencli.run import folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks under an audit hook, and asks /proc")

PART = {
    "defaults": ["model-callback:sample", "sampler-launcher:resume"],
    "target": ["model-os.system:load", "data-os.system:resume"],
    "own": ["model-gencli.run.opened.Trained:resume", "model-gencli.run.folder.subprocess.run:eval"],
    "keyword": ["model-1-args:sample"],
    "interpolation": ["model._target_-3-eval____import____os___system__touch_ran:eval"],
    "yaml": ["apply:sample", "laughs:compare", "nul-escape:again", "file-fifo:sample"],
    "trust": ["model-path:sample", "model-work:load"],
    "runs": ["sampler.run-latest:sample"],
    "values": ["trainer.batch_size-list:again", "device=meta:again"],
    "choices": ["sampler-up:sample"],
    "data": ["mnist.MNIST-outside:sample", "objects-npz:sample", "array.Array-fifo:sample"],
    "records": [
        "npz-objects:compare",
        "unit-escape:compare",
        "run.json-deep:compare",
        "eval-sparse:compare-json",
    ],
    "checkpoint": ["pickle:sample", "meta-deep:resume", "best=lists:resume"],
    "links": ["metrics.jsonl:resume", "samples-empty:sample"],
    "around": ["yaml.py:module:compare", "standard:module:compare"],
    "storage": [
        "link:search",
        "journal-of-another-file:search",
        "view-endless:search",
        "result-unit-markup:search",
        "param-beyond:search",
        "journal-value-null:search",
    ],
    "names": ["substitution:complete", "newline:complete-compare", "escape:near"],
}
"""Pairs of a case and a verb: something of each group."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    from hostile.opening import Server

    return Server(tmp_path_factory.mktemp("hostile"), bases=("flow",))


@pytest.fixture(scope="module")
def by_name():
    return {case.name: case for case in cases()}


@pytest.mark.slow
@pytest.mark.parametrize("pair", [f"{group}/{pair}" for group, some in PART.items() for pair in some])
def test_a_hostile_run_is_refused_in_one_line_or_works(server, by_name, pair):
    name = max((name for name in by_name if pair.startswith(f"{name}:")), key=len)
    verb = pair.removeprefix(f"{name}:")
    assert verb in by_name[name].verbs
    outcome = server.run(by_name[name], verb)
    assert not outcome.failures, (outcome.code, outcome.line)


def says(*lines: str, code: int = 2) -> Callable[[Place], int]:
    def act(place: Place) -> int:
        print("\n".join(lines), file=sys.stderr)
        return code

    return act


def connects(place: Place) -> None:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", 9))


def unpickles(place: Place) -> None:
    with contextlib.suppress(pickle.UnpicklingError):
        pickle.loads(pickle.dumps(Fraction(1, 2)))


BREACHES = {
    "command": lambda place: os.system("true"),
    "process": lambda place: subprocess.run(["true"], check=True),
    "write": lambda place: (place.outside / "new").write_text(""),
    "change": lambda place: (place.outside / "mine.txt").write_text("yours"),
    "beside": lambda place: (place.run.parent / "new").mkdir(),
    "through a link": lambda place: (
        (place.run / "out").symlink_to("../../../outside/x") or (place.run / "out").open("w")
    ),
    "removal": lambda place: (place.outside / "mine.txt").unlink(),
    "connection": connects,
    "pickle": unpickles,
    "import": lambda place: importlib.import_module("evil"),
    "code": lambda place: exec(compile("1", str(place.run / "x.py"), "exec")),
    "traceback": lambda place: 1 / 0,
    "exit code": says("error: no", code=3),
    "two lines": says("error: no", "more"),
    "no line": says(),
    "escape": says("error: \x1b]0;pwn\x07"),
    "direction": says("error: \u202e"),
    "secret": says(f"error: {SECRET}"),
    "end": lambda place: os.kill(os.getpid(), 9),
}
HARMLESS = {
    "one line": says("error: no"),
    "own files": lambda place: (place.run / "samples/x").write_text("") and None,
    "temporary": lambda place: tempfile.TemporaryFile().close(),
    "reading": lambda place: (place.outside / "mine.txt").read_text() and None,
    "git": lambda place: folder.git_commit() and None,
}


@pytest.mark.slow
@pytest.mark.parametrize("what", [*BREACHES, *HARMLESS])
def test_the_checker_sees(server, monkeypatch, what):
    from hostile import opening

    act = (BREACHES | HARMLESS)[what]
    monkeypatch.setattr(opening, "_command", lambda verb, place, case: act(place) or 0)
    outcome = server.run(Case("self/test", lambda place: evil_package(place.path, place.mark)), "sample")
    assert bool(outcome.failures) == (what in BREACHES), outcome


def test_the_campaign_is_large(by_name):
    assert len(by_name) >= 260
    assert {case.base for case in by_name.values()} == {"flow", "tilted", "field", "student"}


def hydra_of(config_name: str, overrides: list[str]) -> dict:
    """What Hydra would act on: callbacks, launcher, sweeper, logging, where it looks for configs."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(config_dir()), job_name="gencli", version_base="1.3"):
        cfg = compose(config_name, overrides, return_hydra_config=True)
    keys = ("callbacks", "launcher", "sweeper", "job_logging", "hydra_logging", "searchpath", "run", "sweep", "env")
    return {key: OmegaConf.to_container(cfg.hydra[key], resolve=False) for key in keys}


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "name"), [("sample", "sample"), ("eval", "eval"), ("train", "resume")])
def test_nothing_of_a_run_is_in_hydra(server, tmp_path, verb, name):
    schema.register()
    key = "resume" if verb == "train" else "run"
    without = hydra_of(name, [f"{key}=x"])
    for shape, entries in DEFAULTS.items():
        place = Place(tmp_path, tmp_path, tmp_path / shape, tmp_path, tmp_path, server.prepared.good)
        shutil.copytree(server.prepared.good / "flow", place.run)
        for section in ("model", "data", "objective", "sampler", "estimator"):  # the others are checked before
            merge(place, section, {"defaults": entries})
        edit(place, "estimator.command", "touch ran")
        prepared = prepare(verb, [f"{key}={place.run}"])
        assert prepared.overrides == [f"{key}='{place.run}'"]  # nothing else of the run is handed on
        if shape in ("hidden", "sweeper"):
            assert hydra_of(prepared.config_name, prepared.overrides) == without
