"""What fits on a terminal of 80 columns: every help page and list, with no line longer and nothing cut out of it."""

import importlib
import json

import pytest

from gencli import interfaces
from gencli.cli import help as helptext
from gencli.cli import main as cli
from gencli.cli.list import group_page, matrices, overview
from gencli.cli.option_page import option_page
from gencli.config import catalog, compatibility, notes
from gencli.config.declared import declared
from gencli.core import options
from tests.runs import ROOT

WIDTH = 80


@pytest.mark.parametrize("name", ["", *helptext.PAGES])
def test_help_pages(name):
    page = helptext.PAGES.get(name, helptext.MAIN)
    assert [line for line in page.splitlines() if len(line) > WIDTH] == []


def test_help_names_parts_within_parts():
    for key in ("net@model.net=", "path@model.path=", "kernel@objective.kernel=", "net@objective.critic="):
        assert key in helptext.TRAIN
    assert "kernel@sampler.kernel=" in helptext.SAMPLE
    assert "kernel@estimator.kernel=" in helptext.EVAL


def whole(lines, texts):
    """Those of the texts that do not stand in the lines from the first word to the last."""
    page = " ".join(" ".join(lines).split())
    return [text for text in texts if " ".join(text.replace("``", "`").split()) not in page]


@pytest.mark.slow
def test_lists_are_wrapped_and_not_cut():
    lines = overview((), WIDTH)
    for group in catalog.groups():
        page = group_page(group, (), WIDTH)
        lines += page
        column = max(map(len, catalog.options(group))) + 4
        told = [line[column:] for line in page if line.startswith("  ")]
        assert whole(told, [option.description for option in catalog.options(group).values()]) == []
        if group == "model" or group in compatibility.PARTS:
            lines += matrices(group, (), WIDTH)
    assert [line for line in lines if len(line) > WIDTH or line.endswith(" ...")] == []


@pytest.mark.slow
def test_pages_of_options():
    recipes = {recipe.name: recipe for recipe in notes.recipes()}
    for group in catalog.groups():
        for option in [*catalog.options(group).values()][:: 1 if group in ("model", "estimator") else 5]:
            page = option_page(option, (), WIDTH)
            assert [line for line in page if len(line) > WIDTH] == []
            if group == "experiment":
                assert whole(page, [recipes[option.name].seen]) == []
                continue
            for key in option.keys:
                if not key.endswith("_target_") and key.partition(".")[0] not in option.nested and key != "name":
                    assert any(line.strip().startswith(_places(group, option.name, key)) for line in page)
            used = [recipe.figure for recipe in recipes.values() if recipe.choices.get(group) == option.name]
            assert whole(page, [figure for figure in used if figure][:1]) == []


def _places(group, name, key):
    nested = {"net": "model.net", "path": "model.path", "kernel": "sampler.kernel"}
    return (f"{nested.get(group, group)}.{key}=", f"metrics.{name}.{key}=", f"logger.{name}.{key}=")


@pytest.mark.parametrize(
    ("group", "name", "command"),
    [
        ("metric", "restoration", "gencli eval run=latest metrics=[restoration] sampler=restore"),
        ("picture", "corner", "gencli sample run=latest picture=corner sampler=posterior"),
        ("picture", "restore", "gencli sample run=latest picture=restore sampler=restore"),
        ("metric", "mmd", "gencli eval run=latest metrics=[mmd]"),
        ("metric", "ood", "gencli eval run=latest metrics=[ood] metrics.ood.against=fashion_mnist"),
        ("picture", "compare", "gencli sample run=latest picture=compare picture.runs=[ANOTHER_RUN]"),
        ("picture", "chains", "gencli sample run=latest picture=chains sampler=hmc"),
    ],
)
def test_an_example_has_the_question_and_the_keys_that_are_needed(group, name, command):
    assert f"  {command}" in option_page(catalog.options(group)[name], (), WIDTH)


def test_the_page_of_a_model(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    assert cli.main(["list", "model", "maf"]) == 0
    page = capsys.readouterr().out
    for text in (
        "gencli train model=maf data=moons",
        "model.hidden=auto\n      a list, each an integer of at least 1, or auto; of each transform's",
        "model.dropout=0.0\n      a number of at least 0 and below 1",
        "model.bound=3.0\n      a number above 0; largest absolute log-scale of a transform",
        "brings: objective=nll, sampler=direct, estimator=exact",
        'Papamakarios, Pavlakou and Murray, "Masked autoregressive flow for density',
        "experiment=mnist_maf",
    ):
        assert text in page
    reached = json.loads((ROOT / "results" / "mnist_maf.json").read_text())["runs"][0]["records"][0]
    assert f"{reached['value']:.3f} ± {reached['se_examples']:.3f} nats" in page


@pytest.mark.parametrize("group", catalog.GROUPS)
def test_a_type_is_told_as_the_builder_tells_it(group):
    """What is read from a source, without importing it, are the words of a refusal."""
    for name, option in catalog.options(group).items():
        if option.target:
            module, _, kind = option.target.rpartition(".")
            told = declared(option)
            of_class = options.of_class(getattr(importlib.import_module(module), kind), 0, vars(interfaces))
            for key in told.keys() & of_class.hints.keys():
                assert told[key].words == options.words(of_class.hints[key]).rstrip(","), f"{group}={name} {key}"
