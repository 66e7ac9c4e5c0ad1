"""Gradients without a graph are those of autograd, and so are the chains that they move."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import get_args

import pytest
import torch
from torch import nn

from gencli.core import tensors
from gencli.core.noise import RowNoise
from gencli.core.spec import Batch, Spec, Support
from gencli.kernels.base import Energy, Kernel
from gencli.kernels.energy import weighted
from gencli.kernels.hmc import HMC
from gencli.kernels.langevin import Langevin
from gencli.methods.chains import energy_of
from gencli.models.classical.gaussian import Covariance
from gencli.models.energy.ebm import EBM
from gencli.models.energy.reference import Reference
from gencli.nn.energy import EnergyNet
from gencli.nn.mlp import ACTIVATIONS, MLP
from gencli.objectives.energy.base import energies, walk

SPEC = Spec((3,), Support("real"))


def ebm(base: str = "gaussian", bound: float | None = None, **options: object) -> EBM:
    torch.manual_seed(0)
    model = EBM(SPEC, net=partial(EnergyNet, vector={"hidden": [16, 16], **options}), base=base, bound=bound)
    model.initialize(torch.randn(200, 3))
    for p in model.net.parameters():
        nn.init.normal_(p, std=0.4)
    return model


@pytest.mark.parametrize("weight", [0.3, torch.tensor([0.0, 0.5, 2.0])])
def test_a_weighted_sum_has_the_slope_of_its_parts(weight):
    """Chains anneal and temper in sums, some with a weight for each chain; a part of weight 0 is not asked."""
    model, x = ebm(), torch.randn(3, 3)
    base = model.reference()
    never = Energy(lambda x: 1 / 0)
    mixed = weighted([(0.7, energy_of(base)), (weight, energy_of(model)), (0.0, never)])
    assert mixed.slope is not None
    for found, exact in zip(mixed.slope(x), tensors.slope(mixed, x), strict=True):
        assert torch.allclose(found, exact, atol=1e-5)
    assert weighted([(0.7, Energy(base.energy)), (weight, energy_of(model))]).slope is None


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_chain_rule_of_an_mlp_is_its_gradient(activation):
    torch.manual_seed(1)
    net = MLP((2, 3, 3), (1,), 0, hidden=[8, 8], activation=activation).double()
    for p in net.parameters():
        nn.init.normal_(p)
    x = torch.randn(20, 2, 3, 3, dtype=torch.float64)
    f, gradient = net.slope(x)
    plain, by_autograd = tensors.slope(lambda at: net(at).squeeze(1), x)
    assert not f.requires_grad
    assert not gradient.requires_grad
    torch.testing.assert_close(f, plain)
    torch.testing.assert_close(gradient, by_autograd)


def test_layers_without_a_chain_rule_of_their_own_take_that_of_autograd():
    model = ebm("none", spectral_norm=True).eval()
    x = torch.randn(5, 3)
    e, gradient = model.slope(x)
    torch.testing.assert_close((e, gradient), tensors.slope(model.energy, x))


@pytest.mark.parametrize("base", ["none", "gaussian"])
def test_a_bounded_tilt_has_the_slope_of_its_bound(base):
    model, x = ebm(base, bound=0.7), 3 * torch.randn(20, 3)
    assert 0.3 < float(model.tilt(x).detach().abs().max()) < 0.7  # it bends
    torch.testing.assert_close(model.slope(x), tensors.slope(model.energy, x))


@pytest.mark.parametrize("covariance", get_args(Covariance))
@pytest.mark.parametrize("shape", [(3,), (1, 2, 2)])
def test_the_slope_of_a_normal_is_its_gradient(covariance, shape):
    spec = Spec(shape, Support("real"))
    base = Reference(spec, covariance=covariance, widen=1.3).double()
    skewed = torch.randn(200, *shape).double().flatten(1).cumsum(1).view(200, *shape)
    base.initialize(skewed)
    e, gradient = base.slope(skewed)
    assert not gradient.requires_grad
    torch.testing.assert_close((e, gradient), tensors.slope(base.energy, skewed))


@pytest.mark.parametrize("base", ["none", "gaussian", "gmm"])
@pytest.mark.parametrize("kernel", [Langevin(step_size=0.1), HMC(leaps=3, step_size=0.2)])
def test_chains_are_those_of_autograd(base: str, kernel: Kernel):
    model, x = ebm(base), torch.randn(30, 3)
    fast = energy_of(model)
    assert fast.slope is not None
    ends = [
        walk(kernel, energy, x, RowNoise(0, torch.arange(30)), 20)[0] for energy in (fast, replace(fast, slope=None))
    ]
    assert (ends[0] - x).abs().mean() > 0.1
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-4)


def test_one_pass_has_the_loss_and_gradients_of_two():
    model = ebm().double()
    x, chains, y = torch.randn(7, 3).double(), torch.randn(4, 3).double(), torch.arange(7)
    together = energies(model, Batch(x, y), chains)
    apart = model.energy(x), model.energy(chains)
    torch.testing.assert_close(together, apart)
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = [torch.autograd.grad(a.mean() - b.mean(), parameters) for a, b in (together, apart)]
    torch.testing.assert_close(*found)
