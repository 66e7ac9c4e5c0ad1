"""An id changes when, and only when, the resolved config changes in what matters."""

import copy
import re

import pytest

from gencli.config.compose import compose
from gencli.sweeps.ids import job_id, slug, sweep_id

WORDS = ["model=maf", "data=moons", "seed=1"]


@pytest.fixture(scope="module")
def config():
    return compose("train", WORDS)


def test_every_value_counts_but_those_of_where(config):
    """Each leaf of a config is changed in turn."""
    free = {"run_dir", "resume", "device", "threads", "logger", "trust", "choices", "trainer.workers", "data.root"}
    seen = {job_id(config)}
    for path in leaves(config):
        changed = copy.deepcopy(config)
        node = changed
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = "another"
        name = ".".join(path)
        matters = name not in free and path[0] not in free
        assert (job_id(changed) not in seen) == matters, name
        seen |= {job_id(changed)}


def leaves(node, path=()):
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


@pytest.mark.parametrize(
    ("words", "same"),
    [
        (["device=cpu", "threads=1", "logger=none", "trainer.workers=0", "run_dir=x"], True),
        (["model.transforms=5", "optimizer.lr=0.001"], True),  # the defaults, said aloud
        (["seed=2"], False),
        (["model.transforms=6"], False),
        (["logger=none", "trainer.eval_every=201"], False),
    ],
)
def test_how_a_config_came_about_does_not_count(config, words, same):
    assert (job_id(compose("train", [*WORDS, *words])) == job_id(config)) == same


def test_an_id_is_for_ever():
    """Sweeps of earlier versions are found again: this is the id of a fixed config."""
    assert job_id({"seed": 1, "model": {"a": 1.0, "b": [0.5, None]}, "device": "cpu"}) == "2750a99f"
    assert job_id({"model": {"b": [0.5, None], "a": 1}, "seed": 1}) == "2750a99f"


def test_a_sweep_is_a_set_of_jobs():
    assert sweep_id(["b", "a", "a"]) == sweep_id(["a", "b"]) != sweep_id(["a"])


@pytest.mark.parametrize(
    "words",
    [
        ["data.path=/home/me/a b.csv"],
        ["model.hidden=[8,8]"],
        ["x=" + "y" * 500],
        ["~sampler"],
        ["a=../../b"],
        ["a=ü\n"],
    ],
)
def test_names_are_safe_for_shells_and_file_systems(words):
    assert re.fullmatch(r"\w[\w.+-]{0,60}", slug(words), re.ASCII)
