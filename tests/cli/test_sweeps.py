"""Sweeps: every job runs, in a process of its own or by Hydra, and what went wrong is told at the end."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch  # noqa: F401 (jobs are forks of this process, and need not import it)

from gencli.cli import main as cli
from gencli.config.compose import compose
from gencli.sweeps import folder, launcher
from tests.cli.conftest import TOY
from tests.runs import ROOT


@pytest.fixture
def swept(ran, monkeypatch, tmp_path):
    """Jobs write their config here, as ``ran`` does within one process; each leaves a finished run."""
    file, own = tmp_path / "calls.jsonl", cli._run_verb

    def run_verb(verb, config, sweep_dir):
        with file.open("a") as stream:
            stream.write(json.dumps([config, str(sweep_dir)]) + "\n")
        own(verb, config, sweep_dir)
        (sweep_dir / "checkpoints").mkdir()
        (sweep_dir / "checkpoints" / "last.safetensors").touch()
        (sweep_dir / "run.json").write_text('{"status": "finished"}')

    def calls(key="seed"):
        lines = file.read_text().splitlines() if file.exists() else []
        return [json.loads(line)[0][key] for line in lines]

    monkeypatch.setattr(cli, "_run_verb", run_verb)
    monkeypatch.setattr(launcher, "can_fork", lambda: True)
    monkeypatch.setattr(launcher, "_warm", lambda configs: None)
    return calls


@pytest.mark.slow
def test_every_job_of_a_sweep_runs(swept, capsys):
    assert cli.main(["train", *TOY, "-m", "seed=1,13,15,2", "sweep.workers=1"]) == 1
    out, err = capsys.readouterr()
    assert swept() == [1, 13, 15, 2]
    assert "[2/4] seed=13: failed after" in out
    assert "2 of 4 jobs done" in out
    assert "2 of 4 jobs failed" in err
    assert "[2/4] seed=13: the loss is not finite (exit code 1; log: outputs/sweeps/" in err
    assert "[3/4] seed=15: no such luck (exit code 2)" in err
    (sweep,) = Path("outputs/sweeps").iterdir()
    jobs = {path.name.rpartition("-")[0] for path in sweep.iterdir() if path.is_dir()}
    assert jobs == {"seed1", "seed2"}
    assert {path.name.rpartition("-")[0] for path in sweep.glob("*.log")} == {"seed1", "seed13", "seed2"}


@pytest.mark.slow
def test_what_is_done_is_not_done_again(swept, capsys):
    words = ["train", *TOY, "-m", "seed=1,13"]
    assert cli.main(words) == 1
    assert cli.main(words) == 1  # the same command finds the sweep that it left
    assert f"going on with {next(Path('outputs/sweeps').iterdir())}: 1 of 2 jobs are done" in capsys.readouterr().out
    assert sorted(swept()) == [1, 13, 13]
    assert cli.main(["train", *TOY, "-m", "seed=1,2", f"sweep.dir={next(Path('outputs/sweeps').iterdir())}"]) == 0
    assert sorted(swept()) == [1, 2, 13, 13]
    (sweep,) = Path("outputs/sweeps").iterdir()
    assert len([path for path in sweep.iterdir() if path.is_dir()]) == 2


def test_a_finished_sweep_begins_anew_elsewhere(swept, monkeypatch, capsys):
    monkeypatch.setattr(folder.time, "strftime", lambda form: "now")
    for _ in range(2):
        assert cli.main(["train", *TOY, "-m", "seed=1"]) == 0
    assert sorted(path.name for path in Path("outputs/sweeps").iterdir()) == ["now", "now-2"]
    assert "outputs/sweeps/now is a finished sweep of these jobs" in capsys.readouterr().out


@pytest.mark.slow
def test_seeds_are_the_innermost_loop(swept):
    assert cli.main(["train", *TOY, "-m", "seed=1,2", "n=3,4", "sweep.workers=1"]) == 0
    assert list(zip(swept("n"), swept("seed"), strict=True)) == [(3, 1), (3, 2), (4, 1), (4, 2)]


@pytest.mark.slow
def test_a_failure_may_stop_the_others(swept, capsys):
    assert cli.main(["train", *TOY, "-m", "seed=13,1,2", "sweep.workers=1", "sweep.on_fail=stop"]) == 1
    assert swept() == [13]
    assert "0 of 3 jobs done" in capsys.readouterr().out


def test_one_job_that_was_told_to_stop_does_not_end_the_sweep(swept, capsys):
    assert cli.main(["train", *TOY, "-m", "seed=14,1", "sweep.workers=1"]) == 1
    assert swept() == [14, 1]
    assert "go on with the same command: gencli train" in capsys.readouterr().out


def test_a_second_ctrl_c_ends_jobs_that_do_not_listen(swept, monkeypatch, capsys):
    def run_verb(verb, config, sweep_dir):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for _ in range(2):
            os.kill(os.getppid(), signal.SIGINT)
            time.sleep(0.5)
        time.sleep(1000)

    monkeypatch.setattr(cli, "_run_verb", run_verb)
    assert cli.main(["train", *TOY, "-m", "seed=1,2", "sweep.workers=1"]) == 130
    assert "go on with the same command" in capsys.readouterr().out
    (record,) = Path("outputs/sweeps").glob("*/sweep.json")
    jobs = json.loads(record.read_text())["jobs"].values()
    assert [(job["state"], job["exit_code"]) for job in jobs] == [("interrupted", 137), ("waiting", None)]


@pytest.mark.slow
def test_a_sweep_of_refusals_leaves_nothing_behind(swept, capsys):
    assert cli.main(["train", *TOY, "-m", "model=energy", "objective=nll", "seed=1,2"]) == 2
    assert not Path("outputs").exists()
    assert cli.main(["train", *TOY, "-m", "seed=15"]) == 2
    assert not Path("outputs").exists()
    assert swept() == [15]


@pytest.mark.slow
def test_a_job_that_cannot_be_composed_fails_alone(swept, capsys):
    assert cli.main(["train", *TOY, "-m", "model=toy,energy", "objective=nll", "seed=1"]) == 1
    assert swept() == [1]
    assert "model=energy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("model=glob(zzz*)", "expands to no jobs"),
        ("model=toy,nope", "there is no such model"),
        ("trainer.max_steps=1,abc", "trainer.max_steps=abc"),
        ("sweep.worker=2", "Did you mean 'workers'?"),
        ("sweep.workers=0", "sweep.workers=0: an integer of at least 1 or auto is needed"),
        ("sweep.on_fail=go", "one of continue, stop is needed"),
        ("run_dir=here seed=1,2", "each job of a sweep needs a folder of its own"),
        ("n=interval(1,2)", "a sweep goes through values"),
    ],
)
def test_sweeps_that_cannot_start(swept, word, says, capsys):
    assert cli.main(["train", *TOY, "-m", *word.split()]) == 2
    assert swept() == []
    assert not Path("outputs").exists()
    err = capsys.readouterr().err
    assert says in err
    assert "Traceback" not in err


def test_keys_of_sweeps_are_of_sweeps(swept, capsys):
    assert cli.main(["train", *TOY, "sweep.workers=2"]) == 2
    assert "without -m this is no sweep" in capsys.readouterr().err
    assert cli.main(["train", *TOY, "-m", "hydra/launcher=basic", "sweep.workers=2"]) == 2
    assert "sweep.workers=2" in capsys.readouterr().err


@pytest.mark.slow
def test_globs_see_options_only(swept):
    assert cli.main(["train", *TOY, "-m", "optimizer=glob(*)", "sweep.workers=1"]) == 0
    there = sorted(path.stem for path in (ROOT / "configs" / "optimizer").glob("*.yaml"))
    assert [choices["optimizer"] for choices in swept("choices")] == there


def test_a_second_sweep_of_the_same_jobs_is_refused_while_one_runs(swept, capsys):
    held, _ = folder.SweepFolder.of("here", "a1b2c3d4", lambda found: "")
    held.hold("a1b2c3d4", print)
    held.note([], {})
    try:
        assert cli.main(["train", *TOY, "-m", "seed=1", "sweep.dir=here"]) == 2
        assert "here is a sweep that process" in capsys.readouterr().err
    finally:
        held.release()


def test_no_sweep_inside_torchrun(ran, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.main(["train", *TOY, "-m", "seed=1,2"]) == 2
    assert "torchrun" in capsys.readouterr().err


# --- by Hydra --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_jobs_by_a_launcher_of_hydra(ran, capsys):
    assert cli.main(["train", *TOY, "-m", "hydra/launcher=basic", "seed=1,13,2"]) == 1
    assert [config["seed"] for _, config, _ in ran] == [1, 13, 2]
    assert "1 of 3 jobs failed" in capsys.readouterr().err
    (sweep,) = Path("outputs/sweeps").iterdir()
    assert sorted(path.name for path in sweep.iterdir()) == ["0", "2", "multirun.yaml"]


@pytest.mark.slow
def test_an_interrupted_job_ends_a_sweep_by_hydra(ran):
    assert cli.main(["train", *TOY, "-m", "hydra/launcher=basic", "seed=1,14,2"]) == 143
    assert [config["seed"] for _, config, _ in ran] == [1, 14]


@pytest.mark.slow
def test_joblib_launcher(capfd):
    """Jobs in other processes: their refusals come back as the exit code and in the summary."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "model=energy", "objective=nll", "seed=1,2"]
    assert cli.main(["train", *TOY, *words]) == 2
    err = capfd.readouterr().err
    assert "2 of 2 jobs failed" in err
    assert err.count("failed (") == 2
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("words", "late"),
    [
        (["n=0", "logger=none"], set()),
        (["n=0", "logger=none", "trainer.compile=auto"], set()),
        (["n=0", "logger=none", "trainer.compile=true"], {"torch._dynamo"}),
        (["n=0", "logger=tensorboard"], {"torch.utils.tensorboard"}),
        (["n=4", "logger=none"], {"matplotlib.figure", "matplotlib.backends.backend_agg"}),
    ],
)
def test_what_is_late_is_imported_for_all_jobs_where_they_will_use_it(monkeypatch, words, late):
    """Compilers alone take longer to import than torch."""
    named, config = [], compose("train", ["model=maf", "data=moons", *words])
    monkeypatch.setattr(launcher.importlib, "import_module", named.append)
    launcher._warm([config])
    assert {name for name in named if not name.startswith("gencli.")} == late
    assert "gencli.training.session" in named
