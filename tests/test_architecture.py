"""The page on architecture: what it shows is run as it stands there, and what it names is there."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
from test_layers import PACKAGE, ROOMS

import gencli
from gencli.cli.main import main

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
GROUPS = {"model", "objective", "kernel", "sampler", "estimator", "data", "metric", "picture", "logger"}


@pytest.fixture
def package(monkeypatch, tmp_path):
    """The page's files, and its folder on Python's path."""
    for _, text in FENCE.findall(PAGE):
        name = re.match(r"# ((?:mine|conf)/\S+)\n", text)
        if name:
            file = tmp_path / name[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text.partition("\n")[2])
    (tmp_path / "mine" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return tmp_path


@pytest.mark.slow
def test_an_example_of_every_contract_works(package, capsys):
    assert {file.parent.name for file in (package / "conf").glob("*/*.yaml")} == GROUPS
    commands = [line for kind, text in FENCE.findall(PAGE) if kind == "console" for line in text.splitlines()]
    assert len(commands) == 6
    for command in commands:
        gencli_, *words = shlex.split(command)
        assert gencli_ == "gencli"
        assert main(words) == 0, command
    said = capsys.readouterr().out
    for fact in ("NLL = ", "NLL ~ ", "mean_distance", "largest", "acceptance", "r hat", " .. ", "random_walk"):
        assert fact in said, fact
    assert len((package / "run" / "lines.txt").read_text().splitlines()) > 0
    assert gencli.load("run", trust=["mine"]).config["objective"]["power"] == 1.0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("train objective=power objective.power=-1", "objective.power=-1: a number above 0 is needed"),
        ("train model=logistic model.s=1", "model.s"),
        ("train data=ring data.n=0", "data.n=0: an integer of at least 1 is needed"),
    ],
)
def test_wrong_options_of_the_examples_are_refused(package, capsys, words, says):
    verb, *rest = words.split()
    assert main([verb, "--config-dir", "conf", *rest, "trust=[mine]"]) == 2
    err = capsys.readouterr().err.strip()
    assert says in err
    assert len(err.splitlines()) == 1


def test_the_page_names_every_room():
    tree = PAGE[PAGE.index("## 2. Rooms") : PAGE.index("## 3.")]
    missing = [room for room in ROOMS if room.removesuffix(".py") not in tree and not room.startswith("__")]
    assert missing == []


def test_files_that_the_page_names_are_there():
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", PAGE))
    gone = [name for name in named if not (PACKAGE / name).exists() and not (PACKAGE.parent / name).exists()]
    assert gone == []
