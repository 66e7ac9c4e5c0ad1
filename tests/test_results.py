"""Figures in documents are those of results/: none is out of date, none is without a record."""

import json
import re
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
FIGURE = re.compile(r"\d\.\d")


@pytest.fixture(scope="module")
def tables():
    return SimpleNamespace(**runpy.run_path(str(ROOT / "scripts" / "tables"), run_name="tables_script"))


@pytest.fixture
def copied(tmp_path):
    """The documents, recipes and results, to be meddled with."""
    for folder in ("docs", "results", "configs/experiment"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def test_documents_and_recipes_say_what_results_hold(tables):
    assert tables.stale(ROOT) == []


def test_a_figure_that_no_record_has_is_found(tables, copied):
    page, recipe = copied / "docs/results.md", copied / "configs/experiment/crabs_gmm.yaml"
    for path, name in ((page, "mnist_maf"), (recipe, "crabs_gmm")):
        run = tables.read(copied / f"results/{name}.json").runs[0]
        figure, whole = f"{run.records[0]['value']:.3f}", path.read_text()
        assert figure in whole
        path.write_text(whole.replace(figure, "1.234"))
        assert [line.partition(":")[0] for line in tables.stale(copied)] == [str(path.relative_to(copied))]
        path.write_text(whole)
    (copied / "results/mnist_maf.json").rename(copied / "results/other.json")
    with pytest.raises(KeyError, match="mnist_maf"):
        tables.stale(copied)


def test_a_recipe_that_nothing_is_said_of_is_found(tables, copied):
    (copied / "configs/experiment/new.yaml").write_text("# A new one\n# Seen: 1.0\n")
    assert tables.stale(copied) == ["experiment=new: results/new.json is missing"]
    whole = json.loads((copied / "results/mnist_maf.json").read_text())
    (copied / "results/new.json").write_text(json.dumps(whole | {"recipe": "new"}))
    assert "results/new.json: no table shows it" in tables.stale(copied)


def test_prose_of_the_page_has_no_figure_of_its_own(tables):
    prose = tables.BLOCK.sub("", (ROOT / "docs/results.md").read_text())
    assert [line for line in prose.splitlines() if FIGURE.search(line)] == []


@pytest.mark.parametrize("path", sorted((ROOT / "results").glob("*.json")), ids=lambda path: path.stem)
def test_a_file_of_results_is_whole(tables, path):
    """Every run has records with all that repeats them, or says that it has none."""
    recipe = tables.read(path)
    assert recipe.recipe == path.stem
    like = [run.like_for_like for run in recipe.runs]
    assert like == sorted(like, reverse=True), "the published system stands first"
    for run in recipe.runs:
        for record in run.records:
            assert record["metric"] != "nll" or record["bound"] in ("exact", "upper", "lower", "estimate")
            assert record["seed"] is not None
        if run.records:
            assert run.command.startswith(f"gencli train experiment={path.stem}")
            assert None not in (run.steps, run.cpu_seconds, run.device, run.threads, run.version, run.machine)
            assert run.number.endswith(tables.headline(run.records[0]))
            assert len(run.words) in (0, len(run.records))
        else:
            assert run.number == "not measured yet"


def test_a_recipe_bounded_by_minutes_is_repeated_by_its_steps(tables):
    run = tables.Measured("", steps=5329, overrides=["model.marginal=0"])
    assert tables.chosen("mnist_glow", run)[-2:] == ["trainer.max_steps=5329", "trainer.max_minutes=null"]
    assert tables.chosen("digits_realnvp", tables.Measured("", steps=3000)) == ["experiment=digits_realnvp", "seed=0"]


def test_what_a_run_needs_is_trained_first_and_what_that_needs_before(tables, monkeypatch, tmp_path):
    """moons_progressive is its own student's teacher, and has one itself."""
    trained = []

    def gencli(*words):
        trained.append(words[1:3])
        Path(words[-4].partition("=")[2]).mkdir()

    monkeypatch.setitem(tables.prepared.__globals__, "gencli", gencli)
    student = tables.read(ROOT / "results/moons_progressive.json").runs[1]
    assert tables.prepared(student, tmp_path, "cpu") == [f"objective.teacher={tmp_path / 'moons_progressive'}"]
    teacher = f"objective.teacher={tmp_path / 'moons_diffusion'}"
    assert [words[0] for words in trained] == ["experiment=moons_diffusion", "experiment=moons_progressive"]
    assert trained[1][1] == teacher


def test_diagnostics_that_belong_beside_a_number_are_shown(tables):
    sides = {"log_z": 2.0, "log_z_forward": 1.5, "log_z_reverse": 2.25}
    assert tables.diagnosed({"metric": "nll", "value": 10.0, "diagnostics": sides}) == [
        "by its forward side >= 9.500 nats",
        "by its reverse side ~ 10.250 nats",
    ]
    skill = {f"{name}@{lead}": lead / 8 for name in tables.FORECASTS for lead in (1, 6)}
    assert tables.diagnosed({"metric": "forecast", "diagnostics": skill})[:2] == ["at 1, 6 steps", "RMSE 0.125, 0.75"]
    fit = {"theta.edges": -1.5, "theta_se.edges": 0.25, "aic": 12.0, "aic_se": 0.5}
    told = tables.diagnosed({"metric": "nll", "value": 5.0, "diagnostics": fit})
    assert told == ["theta edges -1.500 (0.250)", "AIC 12.00 ± 0.5"]


@pytest.mark.slow
def test_a_recipe_that_is_run_keeps_its_records(tables, capsys):
    run = tables.Measured("one normal", evals=[["split=train", "examples=10"]])
    run.overrides = ["trainer.max_steps=1", "trainer.batch_size=10"]
    tables.measure("crabs_normal", run, "cpu")
    own, further = run.records
    assert own["n_examples"] == 1000
    assert further["n_examples"] == 10
    assert run.words == [[], ["split=train", "examples=10"]]
    assert run.besides[-1].startswith("`split=train examples=10`: <= ")
    assert run.number.endswith("nats (4.3014 bits/dim), train split")
    assert run.command == "gencli train experiment=crabs_normal trainer.max_steps=1 trainer.batch_size=10 seed=0"
    assert run.machine["versions"]["torch"]
