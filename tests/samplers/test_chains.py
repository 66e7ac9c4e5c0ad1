"""Samplers by Markov chains, each against laws that are known."""

from __future__ import annotations

import math

import pytest
import torch
from energies import law, noise, quadratic, spec, two_modes, wavy
from scipy.stats import ks_2samp

import gencli
from gencli.cli.main import main
from gencli.core import options
from gencli.core.errors import RunFailed, UsageError
from gencli.core.noise import RowNoise
from gencli.core.spec import Spec, Support
from gencli.kernels import hmc, langevin, tempering
from gencli.kernels.gibbs import Gibbs
from gencli.models.classical.ngram import NGram
from gencli.models.energy.exponential import Polynomial, Quadratic
from gencli.run import checkpoint
from gencli.samplers.chain import Chain
from gencli.samplers.hmc import HMC
from gencli.samplers.langevin import Langevin, ShortRun
from gencli.samplers.tempering import Tempering

SAMPLERS = {
    "langevin": lambda: Langevin(step=0.01, steps=100),
    "sgld": lambda: ShortRun(step=0.01, sigma=math.sqrt(0.02), steps=100),
    "mala": lambda: HMC(leaps=1, jitter=0.0, warmup=0, step=0.8, steps=60),
    "hmc": lambda: HMC(leaps=5, warmup=0, step=0.4, steps=30),
    "tempering": lambda: Tempering(replicas=4, hot=10.0, warmup=0, steps=1, leaps=3, step=0.4),
}


def test_unadjusted_langevin_has_its_own_stationary_variance():
    """On E = a x^2 / 2 the recursion x (1 - step a) + sqrt(2 step T) xi has variance T / (a (1 - step a / 2))."""
    model = Quadratic(spec(1))
    a, step, temperature, n = 1.0, 0.5, 0.7, 20_000
    sampler = Langevin(step=step, steps=40, temperature=temperature, hot=temperature, init="normal")
    x = sampler.sample(model, n, None, noise()).x
    expected = temperature / (a * (1 - step * a / 2))
    assert float(x.var()) == pytest.approx(expected, abs=4 * expected * math.sqrt(2 / n))
    short = ShortRun(step=step, sigma=math.sqrt(2 * step * temperature), steps=40, init="normal")
    found = short.sample(model, n, None, noise())
    assert torch.allclose(found.x, x, atol=1e-5)
    assert found.diagnostics["effective_temperature"] == pytest.approx(temperature)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "tempering"])
def test_exact_samples_stay_exact(name):
    """Two-sample Kolmogorov-Smirnov tests of both coordinates and the energy, three seeds; no p-value below 1e-3."""
    model, n = two_modes(distance=3.0), 2000
    for seed in range(3):
        with torch.no_grad():
            start, other = (model.sample(n, noise=noise(10 * seed + k)) for k in (1, 2))
        x = SAMPLERS[name]().run(model, start, None, noise(10 * seed + 3)).x
        assert not torch.equal(x, start)
        with torch.no_grad():
            views = [(v[:, 0], v[:, 1], model.energy(v)) for v in (x, other)]
        assert min(ks_2samp(a, b).pvalue for a, b in zip(*views, strict=True)) > 1e-3


@pytest.mark.parametrize("name", ["mala", "hmc", "tempering"])
def test_chains_reach_the_moments_of_a_gaussian(name):
    model, n = quadratic().float(), 3000
    mean, covariance = law(model)
    options = {"steps": 40, "warmup": 40, "init": "normal"}
    sampler = {
        "mala": lambda: HMC(leaps=1, target=0.574, jitter=0.0, **options),
        "hmc": lambda: HMC(leaps=5, target=0.8, **options),
        "tempering": lambda: Tempering(replicas=3, hot=4.0, target=0.7, **options),
    }[name]()
    found = sampler.sample(model, n, None, noise())
    x = found.x
    away = (x.mean(0) - mean) / (covariance.diagonal() / n).sqrt()
    assert away.abs().max() < 4
    error = ((covariance.diagonal()[:, None] * covariance.diagonal() + covariance**2) / n).sqrt()
    assert ((x.T.cov() - covariance) / error).abs().max() < 4
    assert found.diagnostics["ess"] > 2 * n
    assert found.diagnostics["r_hat"] < 1.5  # of 10 draws a half-chain


@pytest.mark.parametrize(("leaps", "target"), [(1, 0.574), (5, 0.8)])
@pytest.mark.parametrize("step", [0.05, 5.0])
def test_chains_accept_at_their_target(leaps, target, step):
    sampler = HMC(leaps=leaps, target=target, step=step, steps=20, warmup=200, init="normal")
    found = sampler.sample(Quadratic(spec(20)), 100, None, noise())
    assert found.diagnostics["acceptance"] == pytest.approx(target, abs=0.06)


@pytest.mark.slow
def test_tempering_finds_the_weights_of_modes():
    """All chains start in the light mode; a plain chain would stay there."""
    model, n = two_modes(distance=8.0), 500
    start = torch.zeros(n, 2)
    tempered = Tempering(replicas=6, hot=20.0, steps=100, warmup=50, leaps=4)
    found = tempered.run(model, start, None, noise())
    share = float((found.x[:, 0] < 4).double().mean())
    assert share == pytest.approx(0.2, abs=4 * math.sqrt(0.16 / n))
    assert found.diagnostics["swaps"] > 0.2
    plain = HMC(steps=50, warmup=50).run(model, start, None, noise()).x
    assert float((plain[:, 0] < 4).double().mean()) > 0.8


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_chain_does_not_depend_on_its_batch(name):
    model = wavy()
    whole = SAMPLERS[name]().sample(model, 6, None, RowNoise(5, torch.arange(6))).x
    part = SAMPLERS[name]().sample(model, 2, None, RowNoise(5, torch.tensor([3, 4]))).x
    assert (whole[3:5] - part).abs().max() < 1e-3
    assert all(p.requires_grad for p in model.net.parameters())


def test_a_diverging_chain_says_so():
    with pytest.raises(RunFailed, match=r"5 of 5 chains diverged with sampler.step=50"):
        Langevin(step=50.0, steps=200).sample(Polynomial(spec(2)), 5, None, noise())


@pytest.mark.parametrize("kind", ["langevin", "annealed", "sgld"])
def test_small_steps_reach_the_moments_of_a_gaussian(kind):
    """Of deviations 0.4 and 0.8; the bias in the variance is 1 / (1 - step / 2 var), and four standard errors."""
    model, n, step = Quadratic(spec(2)), 4000, 0.02
    std = torch.tensor([0.4, 0.8])
    with torch.no_grad():
        model.log_diagonal.copy_(-std.log())
        model.b.copy_(torch.tensor([1.0, -1.0]) / std.square())
    options = {"step": step, "steps": 300, "init": "normal", "init_scale": 3.0}
    sampler = {
        "langevin": lambda: Langevin(**options),
        "annealed": lambda: Langevin(**options, hot=10.0),
        "sgld": lambda: ShortRun(**options, sigma=math.sqrt(2 * step)),
    }[kind]()
    x = sampler.sample(model, n, None, noise()).x
    expected = std.square() / (1 - step / (2 * std.square()))
    assert ((x.mean(0) - torch.tensor([1.0, -1.0])) / (expected / n).sqrt()).abs().max() < 4
    assert (x.var(0) / expected - 1).abs().max() < 4 * math.sqrt(2 / n)


def test_a_diverging_chain_says_step_and_norm():
    start = torch.zeros(3, 2)
    start[1] = 40.0
    said = r"1 of 3 chains diverged with sampler\.step=0\.02: the largest norm was .+ at step \d of 20"
    with pytest.raises(RunFailed, match=said):
        Langevin(step=0.02, steps=20).run(Polynomial(spec(2)), start, None, noise())
    start[0] = math.nan
    with pytest.raises(RunFailed, match=r"they were so at the start"):
        Langevin(step=0.01, steps=6).run(Polynomial(spec(2)), start, None, noise())


SAME = {
    "langevin": (Langevin(step=0.02, steps=9), langevin.Langevin(step_size=0.02), 0),
    "annealed": (
        Langevin(step=0.02, steps=9, temperature=0.5, hot=2.0),
        langevin.Langevin(step_size=0.02, temperature=0.5, hot=2.0, cooling=4.5),
        0,
    ),
    "sgld": (ShortRun(step=0.02, sigma=0.1, steps=9), langevin.ShortRun(step_size=0.02, sigma=0.1), 0),
    "hmc": (HMC(leaps=3, steps=9, warmup=7), hmc.HMC(leaps=3), 7),
    "tempering": (Tempering(replicas=3, steps=9, warmup=7), tempering.Tempering(replicas=3), 7),
}


@pytest.mark.parametrize("name", SAME)
def test_a_chain_of_a_kernel_is_the_named_sampler_to_the_bit(name):
    named, kernel, warmup = SAME[name]
    of_any = Chain(kernel=kernel, steps=named.steps, warmup=warmup)
    model = wavy()
    a, b = (sampler.sample(model, 7, None, RowNoise(2, torch.arange(7))) for sampler in (named, of_any))
    assert torch.equal(a.x, b.x)
    assert a.diagnostics == pytest.approx(b.diagnostics, nan_ok=True)
    assert [*a.diagnostics] == [*b.diagnostics]


def test_a_diverging_chain_of_any_kernel_names_it():
    sampler = Chain(kernel=langevin.Langevin(step_size=50.0), steps=200, warmup=0)
    with pytest.raises(RunFailed, match=r"diverged with sampler\.kernel=Langevin\(step_size=50\.0"):
        sampler.sample(Polynomial(spec(2)), 5, None, noise())


@pytest.mark.parametrize(
    ("owner", "key", "value"),
    [
        (HMC, "leaps", 0),
        (HMC, "steps", 0),
        (HMC, "warmup", -1),
        (HMC, "init", "data"),
        (HMC, "init_scale", 0),
        (Langevin, "step", 0.0),
        (Langevin, "warmup", 1),  # it has none
        (ShortRun, "sigma", -1),
        (Tempering, "hot", 1),
    ],
)
def test_refusals(owner, key, value):
    with pytest.raises(UsageError, match=rf"^sampler\.{key}\b"):
        options.check({key: value}, options.of_class(owner), "sampler", owner.__name__)


RUN = ["data=moons", "data.train=200", "data.val=50", "data.test=50", "model=ebm", "model.net.vector.hidden=[8]"]
RUN += ["trainer.max_steps=2", "trainer.eval_every=2", "trainer.batch_size=16", "logger=none", "device=cpu"]
RUN += ["estimator=null", "optimizer.schedule=constant", "optimizer.warmup_steps=0"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sampler=chain", "kernel@sampler.kernel=malaa"], "Did you mean 'mala' or 'dmala'?"),
        (["sampler=chain", "kernel@sampler.kernel=hmc", "sampler.kernel.step_siz=1"], "Did you mean 'step_size'?"),
        (
            ["sampler=chain", "sampler.kernel.step_size=1"],
            "sampler.kernel is null: choose it first, kernel@sampler.kernel=NAME",
        ),
        (
            ["sampler=chain", "kernel@sampler.kernel=hmc", "sampler.kernel.step_size=0"],
            "sampler.kernel.step_size=0: a number above 0 is needed",
        ),
        (["sampler=langevin", "sampler.hot=0.5"], "sampler.hot=0.5: at least temperature=1.0"),
        (
            ["sampler=chain", "kernel@sampler.kernel=langevin", "sampler.kernel.hot=0.5", "sampler.kernel.cooling=5"],
            "sampler.kernel.hot=0.5: at least temperature=1.0",
        ),
        (["kernel@sampler.kernel=mala"], "a kernel is chosen for sampler=chain or gibbs or "),
        (
            ["sampler=chain", "kernel@sampler.kernel.inner=mala"],
            "kernel@sampler.kernel.inner: a kernel is chosen for kernel=tempering only",
        ),
        (
            [
                "sampler=chain",
                "kernel@sampler.kernel=tempering",
                "kernel@sampler.kernel.inner=mala",
                "sampler.kernel.leaps=5",
            ],
            "sampler.kernel.leaps=5: inner=HMC says this itself",
        ),
        (
            ["sampler=chain", "kernel@sampler.kernel=tempering", "kernel@sampler.kernel.inner=gibbs"],
            "sampler.kernel: Tempering moves x that is binary or levels or categorical; this model's x is real, which "
            "kernel=hmc, mala, langevin or tempering moves",
        ),
        (["objective=cd", "kernel@objective.kernel=mala", "objective.step=1"], "leave objective.step"),
        (["objective=mcmc_mle", "kernel@objective.kernel=mala", "objective.leaps=1"], "objective.leaps=1"),
    ],
)
def test_refusals_of_the_command_line(words, message, capsys):
    assert main(["train", *RUN, *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_kernel_from_the_command_line(tmp_path, capsys):
    chosen = ["sampler=chain", "kernel@sampler.kernel=mala", "sampler.steps=4", "sampler.warmup=3"]
    run = gencli.train([*RUN, *chosen, "n=4", f"run_dir={tmp_path / 'x'}"])
    assert run.config["sampler"]["kernel"]["leaps"] == 1
    assert run.config["choices"]["kernel"] == "mala"
    assert (run.path / "samples" / "chain.png").exists()
    again = gencli.load(run.path)
    assert torch.equal(again.sample(3), run.sample(3))
    words = ["sampler=chain", "kernel@sampler.kernel=langevin", "sampler.kernel.temperature=0.5", "sampler.warmup=0"]
    capsys.readouterr()
    assert main(["sample", f"run={run.path}", "n=3", *words, "sampler.steps=9"]) == 0
    assert "r hat" in capsys.readouterr().out
    assert main(["sample", f"run={run.path}", "n=3", "kernel@sampler.kernel=langevin"]) == 2
    assert "sampler=chain" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["cd", "pcd", "mcmc_mle"])
def test_an_objective_takes_any_kernel_and_resumes_to_the_bit(objective, tmp_path):
    own = ["n=0", f"objective={objective}", "kernel@objective.kernel=tempering", "objective.kernel.replicas=2"]
    own += {"pcd": ["objective.buffer=20"], "mcmc_mle": ["objective.samples=16"]}.get(objective, [])
    own += ["objective.steps=2"]
    whole = gencli.train([*RUN, *own, "trainer.max_steps=4", f"run_dir={tmp_path / 'whole'}"])
    gencli.train([*RUN, *own, f"run_dir={tmp_path / 'part'}"])
    part = gencli.train([f"resume={tmp_path / 'part'}", "trainer.max_steps=4"])
    a, b = (checkpoint.read(run.path / "checkpoints" / "last.safetensors")[0] for run in (whole, part))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert whole.config["objective"]["kernel"]["replicas"] == 2


@pytest.mark.slow
def test_chains_on_discrete_x_from_the_command_line(tmp_path, capsys):
    """Kernels of categories, for a run whose own sampler is another."""
    words = [
        "data=hmm",
        "data.train=3000",
        "data.val=300",
        "data.test=600",
        "model=made",
        "n=0",
        "trainer.max_steps=2",
        "trainer.eval_every=2",
        "estimator=null",
    ]
    run = gencli.train([*words, "logger=none", "device=cpu", f"run_dir={tmp_path / 'x'}"])
    few = ["sampler=chain", "sampler.steps=8", "sampler.warmup=4", f"run={run.path}", "n=5"]
    assert main(["sample", *few, "kernel@sampler.kernel=gibbs_with_gradients"]) == 0
    assert "r hat" in (said := capsys.readouterr().out)
    assert "acceptance" in said
    assert [*(run.path / "samples").glob("chain-kernel=gibbs_with_gradients-*.npz")]
    within = ["kernel@sampler.kernel=tempering", "kernel@sampler.kernel.inner=dmala", "sampler.kernel.inner.target=0.5"]
    assert main(["sample", *few, *within]) == 0
    assert "swaps" in capsys.readouterr().out
    assert main(["sample", *few, "kernel@sampler.kernel=hmc"]) == 2
    assert "moves x that is real; this model's x is categorical:3, which kernel=gibbs" in capsys.readouterr().err
    assert main(["list", "kernel"]) == 0
    assert "moves x that is: binary, levels, categorical" in capsys.readouterr().out


def test_a_chain_moves_a_model_that_has_no_parameters():
    """An n-gram has counts alone: of one symbol, each coordinate has the same law, which chains leave unmoved."""
    model = NGram(Spec((3,), Support("categorical", 2)), order=1)
    model.initialize(torch.tensor([[0, 0, 1]]))
    x = Chain(kernel=Gibbs(), warmup=0, steps=3).sample(model, 4000, None, noise()).x
    p = float(model.log_conditionals(torch.ones(1, 3, dtype=torch.long))[0, 0].exp())
    assert 0 < p < 0.5
    assert abs(float(x.double().mean()) - p) < 5 * math.sqrt(p * (1 - p) / x.numel())
