"""Runs that an earlier gencli wrote: they open, say what they said, go on, and train to the same weights.

What they said stands in golden/expected.json; golden/cases.py asks. Numbers are compared as far as other processors and
builds of torch agree; ``scripts/golden`` compares to the bit on one machine.
"""

import functools
import json
import math
import runpy
from pathlib import Path

import pytest
from golden import asked, cases

from gencli.config import catalog
from gencli.config import renamed as names
from gencli.config.plain import read_yaml

ROOT = Path(__file__).resolve().parent.parent
EXPECTED = json.loads((cases.HERE / "expected.json").read_text(encoding="utf-8"))
names.update(EXPECTED)  # records say of which classes their settings were, by the names of that time
NEAR = 1e-5
"""Of what a run says: a few units in the last place of float32, summed."""
LOOSE = 1e-3
"""Of training: the first steps of Adam blow up what is near 0."""
FEW = 0.02
"""Share of integers that may differ by one: reals are rounded to them, and some lie at the edge."""
STRAY = 0.02
"""In a sum of weights: the constant of an energy has no gradient but rounding, and Adam makes steps of that, in all of
the learning rates' sum."""
ROUGH = (
    "self_check_error",
    "solver_error",
    "largest_solver_error",
    "nfe",
    "cells",
    "evaluations",
    "sweeps",
    "energy_data",
)
"""Diagnostics that are made of last places, that a step more of a solver changes, or that hold an energy's constant."""


def near(found, wanted, tolerance, where=""):
    """Fails at the first place where two things of lists, mappings, texts and numbers differ."""
    if isinstance(wanted, dict) and {"values", "dtype"} <= wanted.keys():
        assert found["dtype"] == wanted["dtype"], where
        near_tensor(found["values"], wanted["values"], wanted["dtype"], tolerance, where)
    elif isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), where
        for key in wanted:
            if key not in (*ROUGH, "sha256"):
                near(found[key], wanted[key], tolerance, f"{where} {key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for k, (one, other) in enumerate(zip(found, wanted, strict=True)):
            near(one, other, tolerance, f"{where} {k}")
    elif isinstance(wanted, float):
        same = found == wanted or (math.isnan(found) and math.isnan(wanted))
        assert same or abs(found - wanted) <= tolerance * (1 + abs(wanted)), f"{where}: {found} is not {wanted}"
    else:
        assert found == wanted, where


def near_tensor(found, wanted, dtype, tolerance, where):
    found, wanted = list(flat(found)), list(flat(wanted))
    assert len(found) == len(wanted), where
    if "float" in dtype:
        near(found, wanted, tolerance, where)
        return
    away = [abs(one - other) for one, other in zip(found, wanted, strict=True)]
    assert max(away) <= 1, where
    assert sum(away) <= FEW * len(away), where


def flat(values):
    for value in values:
        yield from flat(value) if isinstance(value, list) else [value]


def near_state(found, wanted, where):
    """Sums of a checkpoint's groups, measured against their norms."""
    assert found.keys() == wanted.keys(), where
    for group, sums in wanted.items():
        assert found[group]["count"] == sums["count"], f"{where} {group}"
        for key, stray in (("sum", STRAY if group in ("model", "ema") else 0), ("norm", 0)):
            away = abs(found[group][key] - sums[key])
            far = LOOSE * (1 + sums["norm"]) + stray
            assert away <= far, f"{where} {group} {key}: {found[group][key]} is not {sums[key]}"


@pytest.mark.slow
@pytest.mark.parametrize("name", cases.CASES)
def test_a_golden_run_opens_and_says_what_it_said(name, tmp_path):
    cases.stage(tmp_path, name)
    wanted = EXPECTED[name]["opened"]
    near(asked.opened(name, wanted["samples"]["values"]), wanted, NEAR)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, case in cases.CASES.items() if case.estimators or case.samplers])
def test_other_estimators_and_samplers_say_what_they_said(name, tmp_path):
    cases.stage(tmp_path, name)
    near(asked.others(name), EXPECTED[name]["others"], NEAR)


@functools.cache
def configs():
    return [read_yaml(cases.HERE / "runs" / name / "config.yaml") for name in cases.CASES]


def covering():
    """Few runs that hold every model, objective, path and optimizer; ``scripts/golden write`` trains them all."""
    groups = {"model", "objective", "path", "optimizer"}
    kinds = {
        name: {(group, choice) for group, choice in config["choices"].items() if group in groups}
        for name, config in zip(cases.CASES, configs(), strict=True)
    }
    found, left = [], set().union(*kinds.values())
    while left:
        found.append(max(kinds, key=lambda name: len(kinds[name] & left)))
        left -= kinds[found[-1]]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", covering())
def test_training_and_going_on_give_the_same_weights(name, tmp_path):
    cases.stage(tmp_path, name)
    found, wanted = asked.trained(name), EXPECTED[name]["trained"]
    assert found["stored"] == wanted["stored"]  # a file: its sums are the same everywhere
    for part in ("fresh", "resumed"):
        near_state(found[part]["state"], wanted[part]["state"], part)
        near(found[part]["metrics"], wanted[part]["metrics"], LOOSE, part)


@pytest.mark.parametrize("path", asked.class_paths())
def test_a_class_that_a_run_may_name_is_there(path):
    assert isinstance(asked.resolve(path), type)


@pytest.mark.parametrize("group", ["model", "objective", "path", "net", "optimizer"])
def test_every_option_that_leaves_something_in_a_checkpoint_has_a_golden_run(group):
    options = {path.stem for path in (ROOT / "configs" / group).glob("*.yaml")}
    chosen = {config["choices"].get(group) for config in configs()}
    beside = {
        "net": {"critic", "generator"},  # choices tell these under their own keys
        "optimizer": {"energy", "few_parameters", "game", "latent", "shallow"},  # Adam with other numbers
    }
    assert options <= chosen | beside.get(group, set())


def asks(option):
    """Whether a sampler is a question, which leaves nothing in a run but its answer."""
    return "gencli.samplers.base.Question" in catalog.class_info(option.target).bases


@pytest.mark.parametrize("group", ["sampler", "estimator"])
def test_every_sampler_and_estimator_is_asked(group):
    options = {name for name, option in catalog.options(group).items() if not asks(option)}
    words = " ".join(" ".join([case.overrides, *case.estimators, *case.samplers]) for case in cases.CASES.values())
    asked = {word.partition("=")[2] for word in words.split() if word.startswith(f"{group}=")}
    assert options <= asked | {config["choices"].get(group) for config in configs()}


def test_golden_runs_name_every_class_by_a_known_path_and_no_folder_of_a_machine():
    known = set(asked.class_paths())
    for name in cases.CASES:
        text = (cases.HERE / "runs" / name / "config.yaml").read_text(encoding="utf-8")
        named = {line.split()[-1] for line in text.splitlines() if "_target_:" in line}
        assert named
        assert named <= known
        assert ": /" not in text


def test_configs_of_today_name_classes_by_known_paths():
    known = set(asked.class_paths())
    for file in (ROOT / "configs").rglob("*.yaml"):
        lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
        assert {words[1] for words in lines if words[:1] == ["_target_:"]} <= known, file


def test_a_difference_is_seen_and_a_rename_is_applied(tmp_path, capsys):
    before, after, table = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "renamed.txt"
    before.write_text(json.dumps({"x": [1.0, 2.0], "configs": {"train": "a: 1\n_target_: old.place.Net\n"}}))
    after.write_text(json.dumps({"x": [1.0, 2.0], "configs": {"train": "a: 1\n_target_: new.place.Net\n"}}))
    table.write_text("old.place new.place\n")
    compare = runpy.run_path(str(ROOT / "scripts" / "golden"), run_name="golden_script")["compare"]
    assert compare(before, after, None, 10) == 1
    assert "configs > train > 1" in capsys.readouterr().out
    assert compare(before, after, table, 10) == 0
    assert asked.renamed("old.placement.Net old.place.Net bold.place", {"old.place": "new"}) == (
        "old.placement.Net new.Net bold.place"
    )


def test_near_can_fail():
    near({"a": [1.0, math.nan, math.inf]}, {"a": [1.0, math.nan, math.inf]}, NEAR)
    for found in ({"a": [1.1]}, {"a": []}, {"b": [1.0]}, {"a": ["1"]}):
        with pytest.raises((AssertionError, TypeError)):
            near(found, {"a": [1.0]}, NEAR)
    with pytest.raises(AssertionError):
        near_tensor([[1, 2]], [[1, 3]], "torch.int64", NEAR, "")
