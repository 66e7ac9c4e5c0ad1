"""Games as runs: resume to the bit, what is refused, exact NLL of what a critic trained, modes that are found."""

import functools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from games import GAMES, REALS, noise

import gencli
from gencli.cli.main import main
from gencli.core.errors import UsageError
from gencli.core.spec import Batch
from gencli.models.generator import Generator
from gencli.nn.adversarial import CriticNet, GeneratorNet
from gencli.objectives.adversarial import WGANGP
from gencli.run import checkpoint
from tests.runs import before_step, tensors

QUICK = [
    "trainer.max_steps=6",
    "trainer.eval_every=2",
    "trainer.log_every=1",
    "trainer.batch_size=32",
    "trainer.accumulate=2",
    "optimizer=adam",
    "optimizer.betas=[0.0,0.9]",
    "logger=none",
    "n=0",
    "device=cpu",
]
IMAGES = ["data=digits", "data.transform=scale", "model=generator", "model.conditional=true", "model.net.image.width=8"]


def values(run):
    lines = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
    clock = ("seconds", "steps_per_second", "examples_per_second")
    return [{k: v for k, v in line.items() if k not in clock} for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective", ["wgan_gp", *(pytest.param(name, marks=pytest.mark.slow) for name in GAMES if name != "wgan_gp")]
)
def test_critics_resume_to_the_bit(objective, monkeypatch):
    """Critic, its optimizer, power iterations, EMA; stopped at step 3 of 6, between two validations."""
    game = [f"objective={objective}", "objective.critic.image.width=8", "objective.spectral_norm=true"]
    words = [*IMAGES, *game, *QUICK]
    gencli.train([*words, "run_dir=whole"])
    with monkeypatch.context() as patch:
        before_step(patch, 2, lambda trainer: setattr(trainer.stop, "signal", 15))
        with pytest.raises(gencli.core.errors.Interrupted):
            gencli.train([*words, "run_dir=halves"])
    assert checkpoint.read(Path("halves/checkpoints/last.safetensors"))[1]["step"] == 3
    gencli.train(["resume=halves"])
    whole, halves = tensors("whole"), tensors("halves")
    assert any(name.startswith("objective/critic") for name in whole)
    assert any(name.startswith("optimizer.critic") for name in whole)
    assert set(whole) == set(halves)
    assert [name for name in whole if not torch.equal(whole[name], halves[name])] == []
    assert values("whole") == values("halves")
    best = json.loads(Path("whole/run.json").read_text())["best"]
    scores = {line["step"]: line["energy_distance"] for line in values("whole") if line["split"] == "val"}
    assert scores[best["step"]] == best["energy_distance"] == min(scores.values())


@pytest.mark.slow
def test_a_generator_has_no_nll_and_eval_says_why(capsys):
    run = gencli.train([*IMAGES, "objective.critic.image.width=8", *QUICK, "n=4", "run_dir=run"])
    config = run.config
    assert (config["choices"]["net"], config["choices"]["critic"]) == ("generator", "critic")
    samples = np.load("run/samples/direct.npz")["samples"]
    assert samples.dtype == np.uint8
    assert samples.max() <= 16
    assert main(["eval", "run=run"]) == 2
    said = capsys.readouterr().err.strip()
    assert "no density" in said
    assert "parzen" in said
    assert len(said.splitlines()) == 1
    assert list(Path("run/eval").glob("*")) == []
    assert main(["eval", "run=run", "estimator=parzen", "estimator.n=200"]) == 0
    record = json.loads(Path("run/eval/test-parzen-n=200.json").read_text())
    assert record["bound"] == "estimate"
    assert record["diagnostics"]["bandwidth"] > 0
    assert "~" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"no exact likelihood$"):
        run.log_prob(torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["net@objective.critic=resnet"], "needs another net"),
        (["+objective.critic.vector.hiden=[3]"], "hiden"),
        (["objective.critic_steps=0"], "objective.critic_steps=0: an integer of at least 1"),
        (["model.latent=0"], "model.latent=0: an integer of at least 1"),
    ],
)
def test_a_critic_that_cannot_be_built_is_refused_in_one_line(words, says, capsys):
    assert main(["train", "model=generator", "data=moons", *words]) == 2
    said = capsys.readouterr().err.strip()
    assert says in said
    assert len(said.splitlines()) == 1
    assert list(Path().iterdir()) == []


def test_an_objective_that_needs_differentiable_samples_refuses_a_mixture(capsys):
    assert main(["train", "model=gmm", "data=moons", "objective=wgan_gp"]) == 2
    assert "Reparameterized" in capsys.readouterr().err


@pytest.mark.slow
def test_a_flow_trained_by_a_critic_keeps_its_exact_nll():
    """Flow-GAN (Grover, Dhar and Ermon, 2018): the number is the density's own, and that integrates to one."""
    words = ["data=moons", "data.train=2000", "data.val=500", "data.test=500", "model=realnvp", "objective=wgan_gp"]
    small = ["model.net.vector.hidden=[16]", "objective.critic.vector.hidden=[16]", "model.couplings=4"]
    run = gencli.train([*words, *small, *QUICK, "trainer.max_steps=20", "trainer.eval_every=20", "run_dir=run"])
    record = run.results[0]
    assert (record["bound"], record["estimator"]) == ("exact", "exact")
    test = run.parts.dataset.split("test").gather(torch.arange(500)).x
    assert record["value"] == pytest.approx(float(-run.log_prob(test).mean()), abs=1e-4)
    x = run.sample(4000)
    low, high = x.amin(0) - 2, x.amax(0) + 2
    axes = [torch.linspace(float(a), float(b), 250) for a, b in zip(low, high, strict=True)]
    cell = math.prod(float(axis[1] - axis[0]) for axis in axes)
    total = run.log_prob(torch.cartesian_prod(*axes)).exp().sum() * cell
    assert total == pytest.approx(1, abs=5e-3)


@pytest.mark.slow
def test_a_critic_finds_every_mode():
    """Four separate modes: after 200 steps each has its share, and nearly all samples lie on one."""
    torch.manual_seed(0)
    centres = 2 * torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    hidden = {"hidden": [64, 64]}
    model = Generator(REALS, net=functools.partial(GeneratorNet, vector=hidden), latent=8)
    objective = WGANGP(REALS, critic=functools.partial(CriticNet, vector=hidden), gradient_penalty=0.1, critic_steps=3)
    objective.bind(model)
    turns = objective.turns(model)
    optimizers = [torch.optim.Adam(turn.parameters, 4e-3, betas=(0.5, 0.9)) for turn in turns]
    moves = 0
    for _ in range(200):
        for turn, optimizer in zip(turns, optimizers, strict=True):
            for _ in range(turn.repeats):
                generator = torch.Generator().manual_seed(moves)
                x = centres[torch.randint(4, (64,), generator=generator)]
                x = x + 0.3 * torch.randn(64, 2, generator=generator)
                optimizer.zero_grad()
                turn.loss(Batch(x), noise(moves)).value.backward()
                optimizer.step()
                moves += 1
    with torch.no_grad():
        x = model.sample(4000, noise=noise(7))
    distance, nearest = torch.cdist(x, centres).min(1)
    assert (distance < 1.2).float().mean() > 0.8
    assert torch.bincount(nearest, minlength=4).min() > 500
