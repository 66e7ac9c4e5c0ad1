"""Commands that write their config down instead of running, and a run folder to talk about."""

import os

import pytest
import yaml

from gencli.cli import main as cli
from gencli.config import catalog
from gencli.core.errors import Interrupted, RunFailed, UsageError
from tests.runs import ROOT

ZOO = ROOT / "tests" / "zoo"
TOY = ["--config-dir", str(ZOO / "conf"), "model=toy", "data=toy", "trust=[toyzoo]"]


@pytest.fixture(autouse=True)
def zoo(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ZOO))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ZOO)]))
    monkeypatch.chdir(tmp_path)
    catalog.class_info.cache_clear()
    catalog._module.cache_clear()


@pytest.fixture
def ran(monkeypatch):
    """Commands write their config here instead of running; seed 13 fails, 14 is stopped, 15 is refused."""
    calls = []

    def run_verb(verb, config, sweep_dir):
        calls.append((verb, config, sweep_dir))
        if config["seed"] == 13:
            raise RunFailed("the loss is not finite")
        if config["seed"] == 14:
            raise Interrupted("stopped", 15)
        if config["seed"] == 15:
            raise UsageError("no such luck")
        if config["seed"] == 16:
            raise ZeroDivisionError("a bug")
        if sweep_dir is not None:
            assert not sweep_dir.exists()
            sweep_dir.mkdir(parents=True)
            (sweep_dir / "run.json").write_text("{}")

    monkeypatch.setattr(cli, "_run_verb", run_verb)
    return calls


@pytest.fixture
def run(ran, tmp_path):
    """A run folder of model=toy data=toy with odd entries in its config."""
    assert cli.main(["train", *TOY, "seed=5"]) == 0
    config = ran.pop()[1]
    config["data"]["note"] = "${oc.env:HOME} \\${x}"
    del config["resume"]  # as commands.train stores it
    folder = tmp_path / "some runs" / "a=1"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "run.json").write_text("{}")
    (folder / "checkpoints" / "best.safetensors").touch()
    return folder
