"""The term that contrastive divergence leaves out, on chains whose law is known."""

from __future__ import annotations

import math

import pytest
import torch
from energies import noise, normal, spec
from enumerable import discrete
from torch import Tensor, nn

from gencli.core.spec import Batch
from gencli.models.base import Unnormalized
from gencli.objectives.energy.contrastive_divergence import ContrastiveDivergence, PersistentContrastiveDivergence
from gencli.objectives.energy.sampler_divergence import langevin_through, sampler_divergence


class Scaled(Unnormalized):
    """E(x) = a |x|^2 / 2: Langevin steps are linear, so that the law of chains from a normal is one."""

    def __init__(self, dim: int, a: float) -> None:
        super().__init__(spec(dim))
        self.a = nn.Parameter(torch.tensor(a, dtype=torch.float64))

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return 0.5 * self.a * x.square().sum(1)


def exact(a: float, D: int, step: float, temperature: float, steps: int, scale: float) -> float:
    """d/da of E_q[E] - H(q) with E fixed, of chains from N(0, scale^2): v <- (1 - step a)^2 v + 2 step T."""
    v, slope = scale**2, 0.0
    for _ in range(steps):
        c = 1 - step * a
        v, slope = c**2 * v + 2 * step * temperature, c**2 * slope - 2 * step * c * v
    return D * (0.5 * a * slope - 0.5 * slope / v)


@pytest.mark.parametrize(("temperature", "dim", "error"), [(0.0, 2, 0.06), (1.0, 5, 0.1)])
def test_the_slope_of_the_law_of_chains(temperature, dim, error):
    """Against the closed form; without noise neighbours move together, so that only the energy's mean has an error."""
    model, options = Scaled(dim, 1.7), {"step": 0.1, "temperature": temperature, "steps": 3}
    found = []
    for seed in range(4):
        ends = langevin_through(model, Batch(2 * normal(1500, dim, seed)), noise(seed), **options)
        value = sampler_divergence(model, ends, None)
        found.append(torch.autograd.grad(value, model.a)[0])
    slopes = torch.stack(found)
    assert float(slopes.mean()) == pytest.approx(exact(1.7, dim, scale=2.0, **options), rel=error)
    assert model.a.requires_grad


def test_the_loss_has_both_terms():
    """kl adds its share of the term to the loss of the same chains, and its slope is the sum of both."""
    model, x = Scaled(3, 0.8), normal(200, 3)
    plain, both = (ContrastiveDivergence(spec(3), steps=4, step=0.1, kl=kl, through=2) for kl in (0.0, 0.5))
    for objective in (plain, both):
        objective.bind(model)
    slopes = [torch.autograd.grad(o.loss(model, Batch(x), noise(2)).value, model.a)[0] for o in (plain, both)]
    before = ContrastiveDivergence(spec(3), steps=2, step=0.1)
    before.bind(model)
    source = noise(2)
    start = {}
    before.end = lambda ends, note: start.update(x=ends)
    before.loss(model, Batch(x), source)
    ends = langevin_through(model, Batch(start["x"]), source, step=0.1, temperature=1.0, steps=2)
    missing = torch.autograd.grad(sampler_divergence(model, ends, None), model.a)[0]
    assert torch.allclose(slopes[1] - slopes[0], 0.5 * missing)


def test_chains_that_meet_have_no_infinite_slope():
    model = Scaled(2, 1.0)
    ends = langevin_through(model, Batch(torch.zeros(5, 2).double()), noise(), step=0.1, temperature=0.0, steps=1)
    value = sampler_divergence(model, ends, None)
    assert math.isfinite(float(value.detach()))
    assert torch.autograd.grad(value, model.a)[0].isfinite()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kl": 1.0, "metropolis": True}, r"^objective\.kl=1\.0: only Langevin steps"),
        ({"kl": 1.0, "steps": 3, "through": 4}, r"^objective\.through=4: at most objective\.steps=3"),
    ],
)
def test_refusals(options, message):
    for kind in (ContrastiveDivergence, PersistentContrastiveDivergence):
        with pytest.raises(ValueError, match=message):
            kind(spec(2), **options)
    with pytest.raises(ValueError, match=r"^objective\.kl: "):
        ContrastiveDivergence(discrete("binary", 2), kl=1.0)
