"""The loop: resume to the bit, refusals before a step, stopping and going on, several turns, several processes."""

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import gencli
from gencli.cli.main import main
from gencli.core.errors import Interrupted, RunFailed, UsageError
from gencli.models.base import ExactLikelihood
from gencli.objectives.base import Loss, Objective, Turn
from gencli.run import checkpoint
from tests.conftest import TINY

ROOT = Path(__file__).resolve().parents[2]


def tensors(run):
    return checkpoint.read(Path(run) / "checkpoints" / "last.safetensors")[0]


def same(a, b):
    assert set(a) == set(b)
    return [name for name in a if not torch.equal(a[name], b[name])]


# --- the run folder ---


def test_a_run_folder_is_complete(tiny_run):
    info = json.loads((tiny_run / "run.json").read_text())
    assert info["status"] == "finished"
    assert info["progress"]["step"] == 20
    assert info["parameters"] == sum(p.numel() for p in gencli.load(tiny_run).model.parameters())
    assert {"seed", "versions", "git_commit", "device", "world_size", "wall_seconds", "best", "result"} <= set(info)
    config = yaml.safe_load((tiny_run / "config.yaml").read_text())
    assert config["choices"]["model"] == "realnvp"
    lines = [json.loads(line) for line in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    assert {(line["step"], line["split"]) for line in lines} >= {(5, "train"), (10, "val"), (20, "val"), (20, "test")}
    assert all({"step", "split", "seconds", "weights"} <= set(line) for line in lines)
    assert (tiny_run / "samples" / "direct.png").stat().st_size > 1000
    assert np.load(tiny_run / "samples" / "direct.npz")["samples"].shape == (16, 2)
    assert (tiny_run / "train.log").read_text()


def test_the_record_is_complete_and_adds_up(tiny_run):
    record = json.loads((tiny_run / "eval" / "test-exact.json").read_text())
    keys = (
        "metric value unit bits_per_dim perplexity bound estimator settings se_examples se_estimator n_examples "
        "n_nonfinite diagnostics ledger split split_sha256 protocol weights checkpoint checkpoint_sha256 seed seconds"
    )
    assert set(keys.split()) <= set(record)
    assert sum(line["nats"] for line in record["ledger"]) == pytest.approx(record["value"], abs=1e-6)
    assert record["bound"] == "exact"  # real data, an exact density
    assert record["se_estimator"] == 0.0
    assert record["bits_per_dim"] == pytest.approx(record["value"] / (2 * math.log(2)))
    nll = np.load(tiny_run / "eval" / "test-exact.npz")["nll"]
    assert nll.mean() == pytest.approx(record["value"])
    assert record["diagnostics"]["nll_minus_entropy"] == pytest.approx(
        record["value"] - record["diagnostics"]["entropy"]
    )


def test_the_api_agrees_with_the_record(tiny_run):
    run = gencli.load(tiny_run)
    record = run.results[0]
    again = run.nll(split="test", batch_size=333)
    assert again["value"] == pytest.approx(record["value"], abs=1e-5)  # any batch size
    x = run.parts.dataset.split("test").gather(torch.arange(100)).x
    expected = np.load(tiny_run / "eval" / "test-exact.npz")["nll"][:100]
    assert torch.allclose(-run.log_prob(x), torch.from_numpy(expected), atol=1e-4)
    assert torch.equal(run.sample(8, seed=3), run.sample(20, seed=3)[:8])


# --- resume ---

HARD = [
    "data=digits",
    "data.flip=true",
    "model=glow",
    "model.net.image.width=8",
    "model.net.image.dropout=0.2",
    "trainer.ema_decay=0.9",
    "trainer.accumulate=2",
    "trainer.batch_size=32",
    "trainer.log_every=1",
    "trainer.eval_every=3",
    "optimizer.warmup_steps=4",
    "logger=none",
    "n=0",
    "device=cpu",
]


def test_resume_is_the_same_run_to_the_bit():
    """EMA, schedule, augmentation, dropout and accumulation on; stopped at step 5 of 10, between two validations."""
    gencli.train([*HARD, "run_dir=whole", "trainer.max_steps=10"])

    from gencli.training.loop import Trainer

    own = Trainer._advance

    def stop_at_five(self, batches):
        if self.step == 4:
            self.stop.signal = signal.SIGTERM
        return own(self, batches)

    Trainer._advance = stop_at_five
    try:
        with pytest.raises(Interrupted):
            gencli.train([*HARD, "run_dir=halves", "trainer.max_steps=10"])
    finally:
        Trainer._advance = own
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


def test_resume_goes_on_beyond_the_old_end(tmp_path):
    gencli.train([*TINY, "run_dir=run"])
    gencli.train(["resume=run", "trainer.max_steps=30"])
    info = json.loads(Path("run/run.json").read_text())
    assert (info["status"], info["progress"]["step"]) == ("finished", 30)
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert config["trainer"]["max_steps"] == 30  # what the folder says is what was run


def test_kill_9_loses_nothing_but_the_steps_since_the_checkpoint(tmp_path):
    rng = random.Random(0)
    command = [sys.executable, "-m", "gencli", "train", *TINY, "trainer.max_steps=100000", "trainer.eval_every=5"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, "run_dir=run"], env=env, stdout=subprocess.DEVNULL, cwd=tmp_path)
    last = tmp_path / "run/checkpoints/last.safetensors"
    for _ in range(3):
        deadline = time.monotonic() + 60
        while not last.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(rng.random())
        process.kill()
        process.wait()
        step = checkpoint.read(last)[1]["step"]
        assert step > 0
        assert step % 5 == 0
        json.loads((tmp_path / "run/run.json").read_text())
        process = subprocess.Popen(
            [sys.executable, "-m", "gencli", "train", "resume=run"], env=env, stdout=subprocess.DEVNULL, cwd=tmp_path
        )
        deadline = time.monotonic() + 60
        while checkpoint.read(last)[1]["step"] == step and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert checkpoint.read(last)[1]["step"] > step
    steps = [json.loads(line)["step"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)  # nothing was logged twice


test_kill_9_loses_nothing_but_the_steps_since_the_checkpoint = pytest.mark.slow(
    test_kill_9_loses_nothing_but_the_steps_since_the_checkpoint
)


# --- a loss that is not finite ---


def test_a_non_finite_loss_stops_before_the_step(monkeypatch):
    from gencli.objectives.likelihood import NLL

    own = NLL.turns

    def poisoned(self, model):
        turn = own(self, model)[0]
        calls = iter(range(1000))

        def loss(batch, noise):
            result = turn.loss(batch, noise)
            return Loss(result.value * math.nan) if next(calls) == 12 else result

        return [Turn(turn.name, turn.parameters, loss)]

    gencli.train(
        [*TINY, "run_dir=good", "trainer.max_steps=12", "optimizer.schedule=constant", "trainer.eval_every=12"]
    )
    monkeypatch.setattr(NLL, "turns", poisoned)
    with pytest.raises(RunFailed, match="not finite at step 12"):
        gencli.train([*TINY, "run_dir=bad", "optimizer.schedule=constant", "trainer.eval_every=6"])
    info = json.loads(Path("bad/run.json").read_text())
    assert info["status"] == "failed"
    assert "step 12" in info["reason"]
    good, bad = tensors("good"), tensors("bad")
    assert same(good, bad) == []  # step 12 did not move a bit
    facts = json.loads(Path("bad/nonfinite.json").read_text())
    assert facts["step"] == 12
    assert facts["parameters"]
    kept = checkpoint.read(Path("bad/nonfinite.safetensors"))[0]["x"]
    assert kept.shape == (128, 2)


# --- several turns ---


class TwoPlayers(Objective):
    """A game with a known rhythm: the critic moves twice a step on its own parameter, then the model."""

    requires = (ExactLikelihood,)

    def __init__(self, spec):
        super().__init__(spec)
        self.critic = nn.Parameter(torch.zeros(()))

    def turns(self, model):
        def critic(batch, noise):
            assert not any(p.requires_grad for p in model.parameters())
            return Loss((self.critic - 1) ** 2 - 0 * model.log_prob(batch.x).mean())

        def player(batch, noise):
            assert not self.critic.requires_grad
            return Loss(-model.log_prob(batch.x).mean())

        return [Turn("critic", [self.critic], critic, repeats=2), Turn("model", list(model.parameters()), player)]

    def score(self, model, batch, noise):
        return -model.log_prob(batch.x)


def test_turns_move_their_own_parameters_only(monkeypatch):
    import gencli.objectives.likelihood

    TwoPlayers.__module__ = "gencli.objectives.likelihood"
    monkeypatch.setattr(gencli.objectives.likelihood, "NLL", TwoPlayers)
    run = gencli.train(
        [
            *TINY,
            "run_dir=game",
            "optimizer=sgd",
            "optimizer.lr=0.1",
            "optimizer.momentum=0",
            "optimizer.schedule=constant",
            "optimizer.warmup_steps=0",
            "trainer.clip_norm=null",
        ]
    )
    state = tensors("game")
    # c <- c - 0.1 * 2 (c - 1), 40 times from 0: the model's turn never touched it.
    assert float(state["objective/critic"]) == pytest.approx(1 - 0.8**40, abs=1e-6)
    assert any("loss_critic" in line for line in run.metrics)
    gencli.train(["resume=game", "trainer.max_steps=21"])
    assert float(tensors("game")["objective/critic"]) == pytest.approx(1 - 0.8**42, abs=1e-6)


# --- refusals ---


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("trainer.max_steps=null", "max_minutes"),
        ("trainer.precision=fp16", "fp32 or bf16"),
        ("trainer.accumulate=3", "trainer.accumulate"),
        ("device=cuda:7", "device=cuda:7"),
        ("data.transform=logit", "data.transform"),
        ("sampler.classes=[1]", "sampler.classes"),
        ("model.conditional=true", "labels"),
        ("sampler.temperature=-1", "sampler.temperature"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_and_nothing_is_written(override, says, tmp_path):
    overrides = [o for o in TINY if not o.startswith(override.split("=")[0] + "=")]
    if override == "model.conditional=true":
        overrides[0] = "data=checkerboard"
    with pytest.raises(UsageError, match=says) as caught:
        gencli.train([*overrides, override])
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_full_run_dir_is_not_overwritten(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        gencli.train([*TINY, "run_dir=mine"])
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


# --- schedules, budgets, early stopping ---


def test_the_clock_bounds_training():
    began = time.monotonic()
    run = gencli.train(
        [
            *[o for o in TINY if "max_steps" not in o],
            "trainer.max_steps=null",
            "trainer.max_minutes=0.03",
            "run_dir=run",
            "trainer.eval_every=100000",
        ]
    )
    seconds = run.info["progress"]["seconds"]
    assert 1.8 <= seconds < 4
    assert time.monotonic() - began < 60
    last = [line for line in run.metrics if line["split"] == "val"][-1]
    assert last["step"] == run.info["progress"]["step"]


def test_patience_stops_early_and_keeps_the_best():
    run = gencli.train(
        [
            *TINY,
            "run_dir=run",
            "optimizer.lr=3.0",
            "optimizer.schedule=constant",
            "trainer.patience=2",
            "trainer.max_steps=400",
            "trainer.eval_every=2",
            "optimizer.warmup_steps=0",
        ]
    )
    scores = [(line["nll"], line["step"]) for line in run.metrics if line["split"] == "val"]
    assert run.info["progress"]["step"] < 400
    assert run.info["best"]["step"] == min(scores)[1]


def test_cosine_and_warm_up():
    from gencli.training.optim import schedule

    config = {"warmup_steps": 10, "schedule": "cosine", "final_lr_fraction": 0.1}
    assert schedule(config, 0, 0.0) == pytest.approx(0.1)
    assert schedule(config, 100, 0.5) == pytest.approx(0.55)
    assert schedule(config, 100, 1.0) == pytest.approx(0.1)
    assert schedule({**config, "schedule": "constant"}, 50, 0.9) == 1.0


# --- several processes ---


@pytest.mark.slow
def test_two_processes_agree_with_one(tmp_path):
    """Same model on every rank, unpadded shards, and the NLL of one process to rounding."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29417"]
    done = subprocess.run(
        [*torchrun, "-m", "gencli", "train", *TINY, "model.net.vector.dropout=0", "run_dir=two"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    info = json.loads((tmp_path / "two/run.json").read_text())
    assert info["world_size"] == 2
    two = json.loads((tmp_path / "two/eval/test-exact.json").read_text())
    one = gencli.load(tmp_path / "two").nll(split="test")
    assert one["value"] == pytest.approx(two["value"], abs=1e-5)
    assert one["n_examples"] == two["n_examples"]
    # Training itself: the mean of two half-batch gradients is the gradient of the whole batch.
    gencli.train([*TINY, "model.net.vector.dropout=0", f"run_dir={tmp_path}/one"])
    single = tensors(tmp_path / "one")
    assert all(torch.allclose(single[n], t, atol=1e-5) for n, t in tensors(tmp_path / "two").items() if "model/" in n)


# --- signals ---


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_says_how_to_go_on(number, code, tmp_path, monkeypatch, capsys):
    from gencli.training.loop import Trainer

    own = Trainer._advance

    def interrupt(self, batches):
        if self.step == 3:
            os.kill(os.getpid(), number)
        return own(self, batches)

    monkeypatch.setattr(Trainer, "_advance", interrupt)
    assert main(["train", *TINY, "run_dir=run"]) == code
    out = capsys.readouterr()
    assert "gencli train resume=run" in out.out
    assert checkpoint.read(Path("run/checkpoints/last.safetensors"))[1]["step"] == 4
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert main(["train", "resume=run"]) == 0


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


# --- a run keeps what its numbers mean ---


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("eval ~data.transform", "~data.transform: an option of a run cannot be removed"),
        ("eval data.transform=standardize", "data.transform=standardize"),
        ("sample model.bound=1.0", "model.bound=1.0"),
        ("train model.bound=0.01", "model.bound=0.01"),
        ("train data.seed=7", "data.seed=7"),
        ("train seed=5", "seed=5"),
    ],
)
def test_model_and_data_of_a_run_cannot_be_changed(words, says, tiny_run, capsys):
    verb, override = words.split()
    before = {p: p.read_bytes() for p in tiny_run.rglob("*") if p.is_file()}
    assert main([verb, f"{'resume' if verb == 'train' else 'run'}={tiny_run}", override]) == 2
    assert says in capsys.readouterr().err
    assert {p: p.read_bytes() for p in tiny_run.rglob("*") if p.is_file()} == before


def test_names_of_a_stranger_do_not_leave_the_folder(tiny_run, tmp_path):
    folder = tmp_path / "stranger"
    shutil.copytree(tiny_run, folder)
    text = (folder / "config.yaml").read_text()
    for name in (f"{tmp_path}/out", "../../out", ".."):
        (folder / "config.yaml").write_text(text.replace("sampler: direct", f"sampler: {name}"))
        assert main(["sample", f"run={folder}"]) == 2
    assert {p.name for p in tmp_path.iterdir()} == {"stranger"}


def stop_before(step, number=signal.SIGTERM):
    """Make the trainer stop after a step, as a signal would."""
    from gencli.training.loop import Trainer

    own = Trainer._advance

    def advance(self, batches):
        if self.step == step:
            self.stop.signal = number
        return own(self, batches)

    return Trainer, advance


@pytest.mark.parametrize("last", [9, 19])
def test_a_stop_at_a_validation_loses_none(last, monkeypatch):
    with monkeypatch.context() as patch:
        trainer, advance = stop_before(last)
        patch.setattr(trainer, "_advance", advance)
        with pytest.raises(Interrupted):
            gencli.train([*TINY, "run_dir=run"])
    gencli.train(["resume=run"])
    steps = [line["step"] for line in gencli.load("run").metrics if line["split"] == "val"]
    assert steps == [0, 10, 20]


def test_patience_that_ran_out_stays_out():
    fast = ["optimizer.lr=3.0", "optimizer.schedule=constant", "optimizer.warmup_steps=0"]
    run = gencli.train([*TINY, *fast, "run_dir=run", "trainer.patience=2", "trainer.eval_every=2"])
    ended = run.info["progress"]["step"]
    assert ended < 20
    assert gencli.train(["resume=run"]).info["progress"]["step"] == ended


def test_the_best_of_an_abandoned_branch_is_forgotten():
    gencli.train([*TINY, "run_dir=run", "trainer.eval_every=5"])
    gencli.train(["resume=run", "checkpoint=previous", "optimizer.lr=1e-9"])
    info = json.loads(Path("run/run.json").read_text())
    best = checkpoint.read(Path("run/checkpoints/best.safetensors"))[1]
    assert best["step"] == info["best"]["step"]
    assert best["best"] == [info["best"]["nll"], best["step"]]


def test_options_of_the_optimizer_follow_the_config_on_resume():
    gencli.train([*TINY, "run_dir=run"])
    gencli.train(["resume=run", "trainer.max_steps=21", "optimizer.weight_decay=0.5", "optimizer.betas=[0.8,0.99]"])
    meta = checkpoint.read(Path("run/checkpoints/last.safetensors"))[1]
    group = meta["optimizers"]["model"]["param_groups"][0]
    assert (group["weight_decay"], tuple(group["betas"])) == (0.5, (0.8, 0.99))


@pytest.mark.parametrize(
    "override", ["trainer.max_steps=0", "trainer.max_minutes=0", "optimizer.name=sgd", "run_dir=/proc/no/x"]
)
def test_more_values_that_make_no_sense(override, tmp_path):
    overrides = [o for o in TINY if not o.startswith(override.split("=")[0] + "=")]
    with pytest.raises(UsageError):
        gencli.train([*overrides, override])
    assert list(tmp_path.iterdir()) == []


def test_a_closed_form_can_be_the_best():
    run = gencli.train([*TINY[:1], "model=gaussian", *TINY[3:], "run_dir=run", "optimizer.lr=1.0"])
    assert run.info["best"]["step"] == 0
    x = run.parts.dataset.split("train").gather(torch.arange(100_000)).x
    fit = torch.distributions.MultivariateNormal(x.mean(0).double(), torch.cov(x.T.double(), correction=0))
    points = x[:10]
    assert torch.allclose(run.log_prob(points), fit.log_prob(points.double()), atol=1e-4)


def test_log_prob_takes_data_units_only(tiny_run):
    run = gencli.load(tiny_run)
    with pytest.raises(UsageError, match="shape"):
        run.log_prob(torch.zeros(3, 5))
    with pytest.raises(UsageError, match="at least 1"):
        run.sample(0)


def test_only_weights_of_layers_decay():
    from gencli.models.flows.layers import Marginal
    from gencli.models.flows.maps import RationalQuadratic
    from gencli.training.optim import make_optimizer

    model = nn.ModuleList([nn.Linear(3, 3), Marginal((3,), RationalQuadratic(4)), nn.Conv2d(1, 1, 3)])
    config = {"name": "adamw", "lr": 1.0, "weight_decay": 0.1, "betas": [0.9, 0.99]}
    decaying, others = make_optimizer(model.parameters(), [model], config, torch.device("cpu")).param_groups
    assert {id(p) for p in decaying["params"]} == {id(model[0].weight), id(model[2].weight)}
    assert others["weight_decay"] == 0
    assert sum(p.numel() for g in (decaying, others) for p in g["params"]) == sum(p.numel() for p in model.parameters())
