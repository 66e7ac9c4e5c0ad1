"""Gradients of ELBO and IWAE: DReG agrees with the plain estimator, and what the objectives weigh."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from latents import NAMES, REAL, LinearVAE, build, noise
from refusals import built
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.core.spec import Batch, Spec
from gencli.models.classical.ppca import PPCA
from gencli.objectives.elbo import ELBO
from gencli.objectives.iwae import IWAE


@pytest.mark.parametrize("name", ["vae", "vae-realnvp", "vae-iaf", "vae-vamp", "hvae"])
def test_dreg_has_the_expectation_of_the_plain_gradient(name):
    """Along random directions of all parameters the two agree within 4.5 standard errors; dreg's spread is smaller."""
    model, x = build(name, shape=(4,), scale=0.25)
    x = x[:1]
    n, k, repeats = 400, 6, 12
    parameters = list(model.parameters())
    generator = torch.Generator().manual_seed(9)
    normal = functools.partial(torch.randn, generator=generator, dtype=torch.float64)
    directions = [[normal(p.shape) for p in parameters] for _ in range(4)]

    def slopes(gradient: str, seed: int) -> Tensor:
        (turn,) = IWAE(model.spec, k=k, gradient=gradient).turns(model)
        loss = turn.loss(Batch(x.expand(n, -1)), noise(n, seed)).value
        g = torch.autograd.grad(loss, parameters, allow_unused=True)
        return torch.stack([sum((a * b).sum() for a, b in zip(g, d, strict=True) if a is not None) for d in directions])

    plain = torch.stack([slopes("plain", seed) for seed in range(repeats)])
    dreg = torch.stack([slopes("dreg", seed) for seed in range(repeats)])
    gap = dreg - plain  # the same noise: what they share cancels
    assert (gap.mean(0).abs() < 4.5 * gap.std(0) / math.sqrt(repeats) + 1e-9).all()
    assert gap.abs().max() > 1e-9  # and yet they are not the same estimator


def test_dreg_vanishes_for_an_exact_posterior():
    """With q the posterior log w is constant in z: the gradient of q's parameters is 0 sample by sample."""
    linear = LinearVAE(d=1)
    linear.set_posterior(1.0)
    x = linear.exact.sample((30,))

    def gradient(kind: str) -> float:
        (turn,) = IWAE(linear.model.spec, k=8, gradient=kind).turns(linear.model)
        loss = turn.loss(Batch(x), noise(30)).value
        return max(float(g.abs().max()) for g in torch.autograd.grad(loss, linear.model.encoder.parameters()))

    assert gradient("dreg") < 1e-9
    assert gradient("plain") > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_skipped_parameters_give_the_same_weights(name):
    model, x = build(name)
    with torch.no_grad():
        plain = model.log_weights(x, 4, noise=noise(200))
        through = model.log_weights(x, 4, noise=noise(200), through=lambda z: z)
    assert (plain - through).abs().max() < 1e-8
    assert all(p.requires_grad for p in model.parameters())


def test_objective_elbo():
    model, x = build("vae", support="levels:5")
    batch = Batch(x, progress=0.25)
    terms = model.elbo(x, noise=noise(200))
    distortion, rate = terms.distortion.mean(), terms.rate.mean(0)

    def loss(**options: float) -> Tensor:
        objective = ELBO(model.spec, **options)
        objective.bind(model)
        (turn,) = objective.turns(model)
        return turn.loss(batch, noise(200)).value

    assert torch.isclose(loss(), distortion + rate.sum())
    assert torch.isclose(loss(beta=3.0), distortion + 3 * rate.sum())
    assert torch.isclose(loss(beta=3.0, warmup=0.5), distortion + 1.5 * rate.sum())
    free = float(rate.detach().median())
    assert torch.isclose(loss(free_bits=free), distortion + rate.clamp(min=free).sum())
    score = ELBO(model.spec, beta=3.0, warmup=0.5, free_bits=1.0).score(model, batch, noise(200))
    assert torch.allclose(score, terms.distortion + terms.rate.sum(1))


def test_the_rate_of_layers_comes_in_by_and_by():
    for name, warmup in (("vae", 0.0), ("hvae", 0.3)):
        model, _ = build(name, support="levels:5")
        objective = ELBO(model.spec)
        objective.bind(model)
        assert objective.warmup == warmup


def test_ppca_refuses_dreg():
    with pytest.raises(ValueError, match=r"objective\.gradient"):
        IWAE(Spec((6,), REAL), gradient="dreg").bind(PPCA(Spec((6,), REAL), latent=2))


@pytest.mark.parametrize(
    ("key", "kind", "options"),
    [
        ("objective.beta=-1", ELBO, {"beta": -1}),
        ("objective.warmup=2", ELBO, {"warmup": 2}),
        ("objective.k=0", IWAE, {"k": 0}),
        ("objective.gradient=double", IWAE, {"gradient": "double"}),
    ],
)
def test_wrong_options_of_the_objectives(key, kind, options):
    with pytest.raises((UsageError, ValueError), match=f"^{key}"):
        built("objective", kind, Spec((6,), REAL), **options)
