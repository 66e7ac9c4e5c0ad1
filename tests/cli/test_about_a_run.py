"""Commands about a run take their sections from it, and only what may change is changed."""

import os
import shlex
from pathlib import Path

import pytest
import yaml

from gencli.cli import main as cli
from gencli.config import locate
from gencli.config.compose import parse_overrides
from gencli.run.reporter import setting
from tests.cli.conftest import TOY


def quoted(run):
    return f"run='{run}'"


def test_eval_takes_its_groups_from_the_run(ran, run):
    assert cli.main(["eval", quoted(run), "estimator.draws=4", "data.root=/x", "trust=[toyzoo]"]) == 0
    config = ran[-1][1]
    assert config["estimator"]["draws"] == 4
    assert config["data"]["root"] == "/x"
    assert config["data"]["note"] == "${oc.env:HOME} \\${x}"  # plain text, not interpolated
    assert config["model"]["_target_"] == "toyzoo.models.Toy"
    assert config["choices"]["model"] == "toy"
    assert config["choices"]["estimator"] == "exact"
    assert (config["run"], config["checkpoint"], config["trust"], config["seed"]) == (str(run), "best", ["toyzoo"], 0)


def test_a_checkpoint_inside_the_run(ran, run):
    assert (
        cli.main(["sample", quoted(run / "checkpoints" / "best.safetensors"), "model=toy", "n=3", "trust=[toyzoo]"])
        == 0
    )
    config = ran[-1][1]
    assert (config["run"], config["n"]) == (str(run), 3)
    assert config["checkpoint"] == str(run / "checkpoints" / "best.safetensors")


@pytest.mark.parametrize(
    ("verb", "word", "message"),
    [
        ("eval", "model=energy", "a run of model=toy"),
        ("eval", "data=digits", "a run of data=toy"),
        ("sample", "objective=gap", "a run of objective=nll"),
        ("eval", "estimator.drws=1", "Did you mean 'draws'?"),
        ("eval", "estimator=exakt", "Did you mean 'exact'?"),
        ("eval", "weights=mean", "expected one of [ema, raw]"),
        ("sample", "sampler.temprature=1", "Did you mean 'temperature'?"),
    ],
)
def test_overrides_that_contradict_the_run(ran, run, capsys, verb, word, message):
    assert cli.main([verb, quoted(run), word, "trust=[toyzoo]"]) == 2
    assert message in capsys.readouterr().err
    assert ran == []


def test_resume_takes_everything_from_the_run(ran, run, capsys):
    resume = f"resume='{run}'"
    assert cli.main(["train", resume, "trainer.max_steps=9000", "trust=[toyzoo]"]) == 0
    config = ran[-1][1]
    assert (config["seed"], config["trainer"]["max_steps"], config["checkpoint"]) == (5, 9000, "last")
    assert config["resume"] == str(run)
    assert config["optimizer"]["name"] == "adamw"
    for word, message in [
        ("optimizer=sgd", "a run of optimizer=adamw"),
        ("experiment=e1", "no experiment to choose"),
        ("optimizer.lr=abc", "optimizer.lr=abc: a number of at least 0 is needed"),
        ("trainer.max_stps=1", "Did you mean 'max_steps'"),
    ]:
        assert cli.main(["train", resume, word]) == 2
        assert message in capsys.readouterr().err


def test_runs_that_are_not_there(ran, run, capsys):
    assert cli.main(["eval"]) == 2
    assert "gencli eval needs run=RUN" in capsys.readouterr().err
    assert cli.main(["eval", "run=latest"]) == 2
    assert "there is no run under outputs/" in capsys.readouterr().err
    made = Path("outputs/toy-toy/2026-01-01_00-00-00")
    made.parent.mkdir(parents=True)
    run.rename(made)
    assert cli.main(["eval", "run=outputs/toy-toy/2026-01-01_00-00-01"]) == 2
    assert f"Did you mean '{made}'?" in capsys.readouterr().err
    (made / "config.yaml").write_text("a: [")
    assert cli.main(["eval", "run=latest"]) == 2
    assert "config.yaml is damaged, line " in capsys.readouterr().err


def test_latest_is_the_newest_run_sweeps_included(run):
    for age, name in [(20, "m-d/1"), (5, "sweeps/x/0"), (10, "m-d/2")]:
        folder = Path("outputs") / name
        folder.mkdir(parents=True)
        for file in ("run.json", "config.yaml"):
            (folder / file).touch()
        os.utime(folder / "run.json", (1000 - age, 1000 - age))
    assert locate.find_run("latest") == Path("outputs/sweeps/x/0")


@pytest.mark.slow
def test_a_sweep_over_runs(ran, run):
    other = run.with_name("b")
    other.mkdir()
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["choices"]["model"] = "energy"
    config["estimator"] = None
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    (other / "run.json").write_text("{}")
    assert cli.main(["eval", "-m", f"run='{run}','{other}'", "seed=1,2", "trust=[toyzoo]"]) == 0
    seen = [(config["run"], config["choices"]["model"], config["seed"]) for _, config, _ in ran]
    assert seen == [(str(r), m, s) for r, m in ((run, "toy"), (other, "energy")) for s in (1, 2)]
    assert ran[-1][1]["estimator"] is None
    assert not Path("outputs").exists()


def test_the_run_of_one_command_is_forgotten_by_the_next(ran, run):
    assert cli.main(["eval", quoted(run), "trust=[toyzoo]"]) == 0
    assert cli.main(["train", *TOY, "estimator=from_run"]) == 2


@pytest.mark.parametrize("name", ["moons-1", "my rün (1)", "it's", 'a "b"', "$HOME", "${x}", "a,b=c", "back\\slash"])
def test_a_command_that_is_told_reads_back_the_folder(name):
    """The shell takes the words apart, Hydra's grammar the value."""
    (word,) = shlex.split(setting("run", Path.cwd() / name))
    (override,) = parse_overrides([word])
    assert override.value().replace("\\${", "${") == name
