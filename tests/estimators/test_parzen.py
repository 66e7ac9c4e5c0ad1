"""Parzen windows: a density from samples, its bandwidth, its own error."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from games import noise, small_net

import gencli
from gencli.cli.main import main
from gencli.core.spec import Batch, Spec, Support
from gencli.estimators.parzen import Parzen
from gencli.models.generator import Generator
from gencli.models.trained import Learned


class Normal(Generator):
    """N(0, 1) in D dimensions, shifted by 3 y if conditional."""

    def __init__(self, spec, conditional=False):
        super().__init__(spec, net=small_net, conditional=conditional, latent=1)

    def sample(self, n, y=None, *, noise, temperature=1.0):
        x = noise.randn(n, self.spec.dim)
        return x + 3 * y[:, None] if self.conditional else x


def rows(n, dim=1, seed=5):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def test_parzen_is_a_kernel_density():
    from sklearn.neighbors import KernelDensity

    model = Normal(Spec((3,), Support("real")))
    parzen = Parzen(n=500)
    shared = parzen.prepare(model, Batch(rows(100, 3)), noise())
    x = rows(20, 3, seed=6)
    nll = parzen.nll(model, Batch(x), noise(), shared).nll
    samples, h = shared.state.samples, shared.state.bandwidth
    direct = -torch.distributions.MultivariateNormal(torch.zeros(3), h * h * torch.eye(3)).log_prob(
        x[:, None] - samples
    ).logsumexp(1) + math.log(500)
    assert torch.allclose(nll.float(), direct, atol=1e-4)
    theirs = KernelDensity(bandwidth=h).fit(samples.numpy()).score_samples(x.numpy())
    assert np.allclose(nll.numpy(), -theirs, atol=1e-4)


@pytest.mark.slow
def test_parzen_tends_to_the_nll_of_a_normal_on_the_line():
    model, test = Normal(Spec((1,), Support("real"))), rows(500, seed=9)
    exact = -torch.distributions.Normal(0.0, 1.0).log_prob(test).mean()
    gaps = []
    for n in (50, 5000):
        parzen = Parzen(n=n)
        shared = parzen.prepare(model, Batch(rows(200)), noise())
        gaps.append(abs(float(parzen.nll(model, Batch(test), noise(), shared).nll.mean() - exact)))
    assert gaps[1] < 0.01 < gaps[0]


def test_the_bandwidth_is_the_best_on_validation_rows():
    model, parzen = Normal(Spec((2,), Support("real"))), Parzen(n=300)
    validation = Batch(rows(200, 2))
    shared = parzen.prepare(model, validation, noise())
    best = shared.state.bandwidth
    mean = {}
    for h in (0.9 * best, best, 1.1 * best):
        other = replace(shared, state=replace(shared.state, bandwidth=h))
        mean[h] = float(parzen.nll(model, validation, noise(), other).nll.mean())
    assert min(mean, key=mean.get) == best


@pytest.mark.slow
def test_parzens_own_error_is_calibrated():
    """The spread of the number over independent sets of samples is what the record says."""
    model, test = Normal(Spec((1,), Support("real"))), Batch(rows(500, seed=9))
    numbers, variances = [], []
    for seed in range(40):
        parzen = Parzen(n=200)
        shared = parzen.prepare(model, Batch(rows(500)), noise(seed))
        variances.append(shared.variance)
        numbers.append(float(parzen.nll(model, test, noise(), shared).nll.mean()))
    assert np.std(numbers) == pytest.approx(math.sqrt(np.mean(variances)), rel=0.5)


def test_parzen_compares_a_row_with_its_own_class():
    spec = Spec((1,), Support("real"), classes=2)
    model, parzen = Normal(spec, conditional=True), Parzen(n=2000)
    y = torch.arange(200) % 2
    shared = parzen.prepare(model, Batch(rows(200) + 3 * y[:, None], y), noise())
    x = rows(500, seed=9)
    right = parzen.nll(model, Batch(x, torch.zeros(500, dtype=torch.long)), noise(), shared).nll.mean()
    wrong = parzen.nll(model, Batch(x, torch.ones(500, dtype=torch.long)), noise(), shared).nll.mean()
    assert right == pytest.approx(0.5 * math.log(2 * math.pi * math.e), abs=0.1)
    assert wrong > right + 1


def test_parzen_refuses_what_has_no_kernel():
    binary = Generator(Spec((2,), Support.parse("binary")), net=small_net)
    with pytest.raises(ValueError, match="model of reals"):
        Parzen().check(binary, Learned())
    with pytest.raises(ValueError, match="vector context"):
        Parzen().check(Generator(Spec((2,), Support("real"), context=3), net=small_net, conditional=True), Learned())
    with pytest.raises(ValueError, match=r"estimator\.n=5"):
        Parzen(n=5).check(Generator(Spec((2,), Support("real"), classes=3), net=small_net, conditional=True), Learned())


@pytest.mark.slow
def test_a_flow_can_be_measured_both_ways(tiny_run):
    """On the plane Parzen windows come near the exact number, and say that they are an estimate."""
    shutil.copytree(tiny_run, "copy")
    assert main(["eval", "run=copy", "split=val", "estimator=parzen", "estimator.n=500"]) == 0
    kernels = json.loads(Path("copy/eval/val-parzen-n=500.json").read_text())
    exact = gencli.load("copy").nll("val")
    assert (exact["bound"], kernels["bound"]) == ("exact", "estimate")
    assert kernels["value"] == pytest.approx(exact["value"], abs=0.3)
