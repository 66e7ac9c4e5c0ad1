"""A run that was stopped goes on as if it had not been."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import forks
import pytest
import yaml

import gencli
from gencli.cli.main import main
from gencli.core.errors import Interrupted, UsageError
from gencli.run import checkpoint
from gencli.training import signals
from gencli.training.signals import StopRequest
from tests.conftest import TINY
from tests.runs import before_step, same, tensors

HARD = [
    "data=digits",
    "data.flip=true",
    "model=glow",
    "model.steps=2",
    "model.net.image.width=8",
    "model.net.image.dropout=0.2",
    "trainer.ema_decay=0.9",
    "trainer.accumulate=2",
    "trainer.batch_size=32",
    "trainer.log_every=3",
    "trainer.eval_every=3",
    "optimizer.warmup_steps=4",
    "logger=none",
    "n=0",
    "device=cpu",
]


def stop(trainer):
    """As a signal would."""
    trainer.stop.signal = signal.SIGTERM


@pytest.mark.slow
def test_resume_is_the_same_run_to_the_bit(monkeypatch):
    """EMA, schedule, augmentation, dropout and accumulation on; stopped at step 5 of 10, between two validations."""
    gencli.train([*HARD, "run_dir=whole", "trainer.max_steps=10"])

    with monkeypatch.context() as patch:
        before_step(patch, 4, stop)
        with pytest.raises(Interrupted):
            gencli.train([*HARD, "run_dir=halves", "trainer.max_steps=10"])
    assert json.loads(Path("halves/run.json").read_text())["status"] == "interrupted"
    assert checkpoint.read(Path("halves/checkpoints/last.safetensors"))[1]["step"] == 5
    gencli.train(["resume=halves"])
    assert same(tensors("whole"), tensors("halves")) == []

    def values(run):
        lines = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
        clock = ("seconds", "steps_per_second", "examples_per_second")
        return [{k: v for k, v in line.items() if k not in clock} for line in lines]

    assert values("whole") == values("halves")
    a, b = (json.loads(Path(run, "eval/test-exact.json").read_text())["value"] for run in ("whole", "halves"))
    assert a == b


@pytest.mark.slow
def test_resume_goes_on_beyond_the_old_end(tmp_path):
    gencli.train([*TINY, "run_dir=run"])
    gencli.train(["resume=run", "trainer.max_steps=30"])
    info = json.loads(Path("run/run.json").read_text())
    assert (info["status"], info["progress"]["step"]) == ("finished", 30)
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert config["trainer"]["max_steps"] == 30  # what the folder says is what was run


@pytest.mark.slow
def test_kill_9_loses_nothing_but_the_steps_since_the_checkpoint(tmp_path):
    forks.warm_up(*TINY)
    rng = random.Random(0)
    words = ["train", *TINY, "trainer.max_steps=100000", "trainer.eval_every=5", "run_dir=run"]
    process = forks.Child(main, words, folder=tmp_path)
    last = tmp_path / "run/checkpoints/last.safetensors"

    def go_beyond(step):
        """Wait until the process has saved a later step, however busy the machine is."""
        deadline = time.monotonic() + 240
        while not last.exists() or checkpoint.read(last)[1]["step"] <= step:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)

    step = 0
    for _ in range(2):
        go_beyond(step)
        time.sleep(0.3 * rng.random())  # between two savings, or within one
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        found = checkpoint.read(last)[1]["step"]
        assert found > step
        assert found % 5 == 0
        step = found
        json.loads((tmp_path / "run/run.json").read_text())
        process = forks.Child(main, ["train", "resume=run"], folder=tmp_path)
    go_beyond(step)
    process.send_signal(signal.SIGINT)
    assert process.wait(240) == 130
    assert checkpoint.read(last)[1]["step"] > step
    steps = [json.loads(line)["step"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)  # nothing was logged twice


@pytest.fixture
def without_nohup():
    """SIGHUP as it is by default: nohup, under which tests may run, has it ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
@pytest.mark.usefixtures("without_nohup")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_saves_and_says_how_to_go_on(number, code, tmp_path, monkeypatch, capsys):
    before_step(monkeypatch, 3, lambda trainer: os.kill(os.getpid(), number))
    assert main(["train", *TINY, "run_dir=run"]) == code
    out = capsys.readouterr()
    assert "gencli train resume=run" in out.out
    assert checkpoint.read(Path("run/checkpoints/last.safetensors"))[1]["step"] == 4
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert main(["train", "resume=run"]) == 0


def test_nohup_is_respected_and_a_second_signal_stops_at_once(monkeypatch):
    """A second one that a wrapper hands on, which the terminal has sent to both, is the first."""
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.signal == 0
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.signal == signal.SIGINT
            now[0] += 0.01
            os.kill(os.getpid(), signal.SIGINT)
            now[0] += 1.0
            with pytest.raises(Interrupted, match="at once"):
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_time_of_a_run_is_that_of_all_its_sessions(capsys):
    assert main(["train", *TINY, "run_dir=run"]) == 0
    kept = json.loads(Path("run/run.json").read_text()) | {"wall_seconds": 3600.0}
    Path("run/run.json").write_text(json.dumps({key: value for key, value in kept.items() if key != "seal"}))
    capsys.readouterr()
    assert main(["train", "resume=run", "trainer.max_steps=21"]) == 0
    assert "; 1:00:0" in capsys.readouterr().out


def test_who_waits_for_a_long_step_is_told(monkeypatch, capsys):
    monkeypatch.setattr(signals, "PATIENCE", 0.05)
    for speaks, seconds in ((True, 0.3), (True, 0.0), (False, 0.3)):  # a long step, a short one, another rank's
        with StopRequest(speaks=speaks):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(seconds)
        time.sleep(0.1)
        assert ("once more stops at once" in capsys.readouterr().err) == (speaks and seconds > 0)


@pytest.mark.slow
def test_the_first_signal_ends_the_final_evaluation_at_once(monkeypatch, capsys):
    from gencli.estimators.exact import Exact

    seen = []
    own = Exact.nll

    def interrupt(self, *arguments):
        seen.append(1)
        os.kill(os.getpid(), signal.SIGINT)
        return own(self, *arguments)

    monkeypatch.setattr(Exact, "nll", interrupt)
    assert main(["train", *TINY, "run_dir=run"]) == 130
    assert len(seen) == 1
    assert "training is complete and saved; go on with: gencli train resume=run" in capsys.readouterr().out
    assert not Path("run/eval/test-exact.json").exists()
    monkeypatch.undo()


@pytest.mark.slow
@pytest.mark.parametrize("last", [9, 19])
def test_a_stop_at_a_validation_loses_none(last, monkeypatch):
    with monkeypatch.context() as patch:
        before_step(patch, last, stop)
        with pytest.raises(Interrupted):
            gencli.train([*TINY, "run_dir=run"])
    gencli.train(["resume=run"])
    steps = [line["step"] for line in gencli.load("run").metrics if line["split"] == "val"]
    assert steps == [0, 10, 20]


@pytest.mark.slow
def test_patience_that_ran_out_stays_out():
    fast = ["model.couplings=8", "optimizer.lr=0.03", "optimizer.schedule=constant", "optimizer.warmup_steps=0"]
    run = gencli.train([*TINY, *fast, "run_dir=run", "trainer.patience=2", "trainer.eval_every=2"])
    ended = run.info["progress"]["step"]
    assert ended < 20
    assert gencli.train(["resume=run"]).info["progress"]["step"] == ended


@pytest.mark.slow
def test_the_best_of_an_abandoned_branch_is_forgotten():
    gencli.train([*TINY, "run_dir=run", "trainer.eval_every=5"])
    gencli.train(["resume=run", "checkpoint=previous", "optimizer.lr=1e-9"])
    info = json.loads(Path("run/run.json").read_text())
    best = checkpoint.read(Path("run/checkpoints/best.safetensors"))[1]
    assert best["step"] == info["best"]["step"]
    assert best["best"] == [info["best"]["nll"], best["step"]]


@pytest.mark.slow
def test_the_score_of_a_best_that_is_gone_is_forgotten_with_it(tiny_run, tmp_path, capsys):
    """Else no later step, however good, would be kept unless it beat weights that are no more."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    (run / "checkpoints/best.safetensors").unlink()
    gencli.train([f"resume={run}", "trainer.max_steps=21", "optimizer.lr=1e-9"])
    assert "best.safetensors is gone" in capsys.readouterr().out
    assert checkpoint.read(run / "checkpoints/best.safetensors")[1]["step"] == 21


@pytest.mark.slow
def test_options_of_the_optimizer_follow_the_config_on_resume():
    gencli.train([*TINY, "run_dir=run"])
    gencli.train(["resume=run", "trainer.max_steps=21", "optimizer.weight_decay=0.5", "optimizer.betas=[0.8,0.99]"])
    meta = checkpoint.read(Path("run/checkpoints/last.safetensors"))[1]
    group = meta["optimizers"]["model"]["param_groups"][0]
    assert (group["weight_decay"], tuple(group["betas"])) == (0.5, (0.8, 0.99))


def test_a_run_that_was_killed_after_its_measurement_notes_that_once(tiny_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    before = (run / "metrics.jsonl").read_text().splitlines()
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | {"status": "running", "process": None, "seal": None}))
    gencli.train([f"resume={run}"])
    after = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["split"] for line in after].count("test") == 1
    assert len(after) == len(before)


@pytest.mark.slow
def test_only_checkpoints_to_go_on_from_have_moments(tiny_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    best, last = (checkpoint.read(run / "checkpoints" / f"{name}.safetensors") for name in ("best", "last"))
    parts = ["ema", "model", "objective", "preprocess"]
    assert {name.split("/")[0] for name in best[0]} <= {*parts}
    assert any(name.startswith("optimizer.model/") for name in last[0])
    with pytest.raises(UsageError, match=r"^checkpoint=best: .* as last and previous have; init_from=") as caught:
        gencli.train([f"resume={run}", "checkpoint=best"])
    assert "\n" not in str(caught.value)
    assert gencli.load(run, checkpoint="best").nll(split="val")["n_examples"] > 0
    resumed = gencli.train(
        [f"resume={run}", f"checkpoint={run / 'checkpoints/last.safetensors'}", "trainer.max_steps=21"]
    )
    assert resumed.info["progress"]["step"] == 21
