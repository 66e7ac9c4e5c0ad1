"""The loop: turns, budgets, rates, losses that are not finite, several processes."""

import dataclasses
import importlib
import json
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import forks
import pytest
import torch
from torch import nn

import gencli
from gencli.cli.main import main
from gencli.config.compose import compose
from gencli.config.sections import AdamOptions, OptimizerOptions
from gencli.core.distributed import World
from gencli.core.errors import RunFailed
from gencli.models.base import ExactLikelihood
from gencli.objectives.base import Loss, Objective, Turn
from gencli.run import checkpoint
from gencli.training.clock import Clock
from gencli.training.optim import make_optimizer, schedule
from gencli.training.session import Session
from tests.conftest import TINY
from tests.runs import same, tensors


@pytest.mark.slow
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
    good, bad = ({k: v for k, v in tensors(run).items() if not k.startswith("logs/")} for run in ("good", "bad"))
    assert same(good, bad) == []  # step 12 did not move a bit
    facts = json.loads(Path("bad/nonfinite.json").read_text())
    assert facts["step"] == 12
    assert facts["parameters"]
    kept = checkpoint.read(Path("bad/nonfinite.safetensors"))[0]["x"]
    assert kept.shape == (128, 2)


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_clock_bounds_training():
    began = time.monotonic()
    run = gencli.train(
        [
            *[o for o in TINY if "max_steps" not in o],
            "trainer.max_steps=null",
            "trainer.max_minutes=0.01",
            "run_dir=run",
            "trainer.eval_every=100000",
        ]
    )
    seconds = run.info["progress"]["seconds"]
    assert 0.6 <= seconds < 2.8
    assert time.monotonic() - began < 60
    last = [line for line in run.metrics if line["split"] == "val"][-1]
    assert last["step"] == run.info["progress"]["step"]


@pytest.mark.slow
def test_patience_stops_early_and_keeps_the_best():
    run = gencli.train(
        [
            *TINY,
            "run_dir=run",
            "optimizer.lr=0.03",
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
    config = OptimizerOptions("adam", 1.0, warmup_steps=10, final_lr_fraction=0.1)
    assert schedule(config, 0, 0.0) == pytest.approx(0.1)
    assert schedule(config, 100, 0.5) == pytest.approx(0.55)
    assert schedule(config, 100, 1.0) == pytest.approx(0.1)
    assert schedule(dataclasses.replace(config, schedule="constant"), 50, 0.9) == 1.0


def torchrun(words):
    """What the command does, with forks in place of Pythons that begin anew."""
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    where = {"rdzv_endpoint": "127.0.0.1:29417", "rdzv_configs": {"rank": 0}, "run_id": "two"}
    config = LaunchConfig(1, 1, nproc_per_node=2, start_method="fork", rdzv_backend="static", max_restarts=0, **where)
    codes = elastic_launch(config, main)(["train", *words])
    return max(codes.values())


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_agree_with_one(tmp_path, strategy):
    """Same model on every rank, whatever each keeps of it, unpadded shards, and the NLL of one process to rounding."""
    words = [*TINY, "model.net.vector.dropout=0", "run_dir=two", f"trainer.strategy={strategy}"]
    forks.warm_up(*words)
    forks.warm(importlib.import_module, "torch.distributed.launcher.api")
    process = forks.Child(torchrun, words, log="log", folder=tmp_path)
    assert process.wait() == 0, (tmp_path / "log").read_text()
    info = json.loads((tmp_path / "two/run.json").read_text())
    assert (info["world_size"], info["strategy"]) == (2, strategy)
    two = json.loads((tmp_path / "two/eval/test-exact.json").read_text())
    one = gencli.load(tmp_path / "two").nll(split="test")
    assert one["value"] == pytest.approx(two["value"], abs=1e-5)
    assert one["n_examples"] == two["n_examples"]
    # Training itself: the mean of two half-batch gradients is the gradient of the whole batch.
    gencli.train([*TINY, "model.net.vector.dropout=0", f"run_dir={tmp_path}/one"])
    for which in ("last", "best"):
        files = [tmp_path / run / "checkpoints" / f"{which}.safetensors" for run in ("one", "two")]
        single, shared = (checkpoint.read(file)[0] for file in files)
        assert single.keys() == shared.keys()
        weights = [n for n in single if n.startswith(("model/", "ema/"))]
        assert all(torch.allclose(single[n], shared[n], atol=1e-5) for n in weights)
    # Whoever goes on with a checkpoint finds all of it there, moments too.
    gencli.train([f"resume={tmp_path}/two", "trainer.max_steps=25", "trainer.strategy=ddp"])
    gencli.train([f"resume={tmp_path}/one", "trainer.max_steps=25"])
    single, shared = tensors(tmp_path / "one"), tensors(tmp_path / "two")
    assert all(torch.allclose(single[n], shared[n], atol=1e-5) for n in single if n.startswith(("model/", "optimizer")))


def test_only_weights_of_layers_decay():
    from gencli.models.flows.layers import Marginal
    from gencli.models.flows.maps import RationalQuadratic

    model = nn.ModuleList([nn.Linear(3, 3), Marginal((3,), RationalQuadratic(4)), nn.Conv2d(1, 1, 3)])
    config = AdamOptions("adamw", 1.0, weight_decay=0.1)
    turn = Turn("model", list(model.parameters()), lambda batch, noise: None)
    decaying, others = make_optimizer(turn, [model], config, torch.device("cpu")).param_groups
    assert {id(p) for p in decaying["params"]} == {id(model[0].weight), id(model[2].weight)}
    assert others["weight_decay"] == 0
    assert sum(p.numel() for g in (decaying, others) for p in g["params"]) == sum(p.numel() for p in model.parameters())


@pytest.mark.slow
def test_steps_are_those_of_the_whole_run():
    """The public ``steps`` is what ``fit`` does between validations, with its lines of metrics."""
    whole = gencli.train([*TINY, "run_dir=whole"])
    with Session.open(compose("train", [*TINY, "run_dir=steps"])) as session:
        session.trainer.prepare()
        session.trainer.steps(13)
        session.trainer.steps(7)
    state = session.trainer.state
    assert state.step == 20
    assert same(state.model.state_dict(), checkpoint.under("model", tensors(whole.path))) == []
    with state.measured() as average:
        assert same(average.state_dict(), checkpoint.under("ema", tensors(whole.path))) == []
    assert not Path("steps/checkpoints").exists()
    lines = [[line["step"] for line in run.metrics if line["split"] == "train"] for run in (whole, session.run)]
    assert lines[0] == lines[1] != []


def test_the_clock_stands_while_it_is_paused():
    clock = Clock(World())
    with clock.paused():
        time.sleep(0.5)
    clock.agree(1, None, 0, torch.device("cpu"))
    assert clock.seconds < 0.25
    time.sleep(0.3)
    clock.agree(2, None, 0, torch.device("cpu"))
    assert clock.seconds >= 0.3


@pytest.mark.parametrize(
    ("a_step", "exchanges"),
    [(8.0, [1, 2, 3, 4, 5, 6]), (0.3, [1, 4, 7, 10]), (0.001, [1, 11, 21])],
)
def test_ranks_agree_about_every_second(monkeypatch, a_step, exchanges):
    """A signal that waited for ten steps of 8 s would come after torchrun has killed all; the slower rank tells."""
    times, told, met = {}, {}, threading.Barrier(2, timeout=20)

    def largest(tensor):
        told[threading.get_ident()] = tensor
        met.wait()
        found = torch.stack([*told.values()]).amax(0)
        met.wait()
        return found

    monkeypatch.setattr("gencli.core.distributed.largest", largest)
    monkeypatch.setattr("gencli.training.clock.time.perf_counter", lambda: times.get(threading.get_ident(), 0.0))

    def trained(rank):
        """Steps after which this rank exchanged something, until the signal that rank 1 gets within the last step."""
        clock, agreed = Clock(World(rank=rank, size=2)), []
        for step in range(1, exchanges[-1] + 1):
            times[threading.get_ident()] = times.get(threading.get_ident(), 0.0) + a_step * (1 if rank else 0.4)
            before = clock.seconds
            stopped = clock.agree(step, None, 15 * (rank and step == exchanges[-1]), torch.device("cpu"))
            agreed += [step] * (clock.seconds != before)
        return agreed, stopped

    with ThreadPoolExecutor(2) as ranks:
        found = [*ranks.map(trained, range(2))]
    assert found == [(exchanges, 15)] * 2
