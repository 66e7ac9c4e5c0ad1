"""Chains in the noise of a model: its samples as a function of their noise, and the posterior that follows."""

import math
from functools import partial

import pytest
import torch
from energies import noise, normal, spec, two_modes, wavy
from torch import Tensor

from gencli.core.tensors import LOG_2PI
from gencli.kernels.hmc import HMC
from gencli.methods import inverse
from gencli.methods.inverse import Observation
from gencli.methods.operators import Selection
from gencli.methods.pushforward import pushed, transport, width
from gencli.models.classical.gaussian import Gaussian
from gencli.models.flows.coupling import AffineCoupling
from gencli.nn.mlp import MLP
from gencli.run.opened import Trained


def gaussian() -> tuple[Gaussian, Tensor, Tensor]:
    root = torch.tensor([[1.0, 0.0], [1.8, 0.3]]).double()
    model, mean = Gaussian(spec(2)).double(), torch.tensor([0.5, -1.0]).double()
    model.normal.set(mean[None], (root @ root.T)[None])
    return model, mean, root @ root.T


def test_samples_are_the_push_forward_of_their_noise():
    model = gaussian()[0]
    assert width(model, None) == 2
    eps = normal(7, 2)
    weight = model.log_prob(pushed(model, None, eps)) + 0.5 * eps.square().sum(1) + LOG_2PI
    torch.testing.assert_close(weight, weight[:1].expand(7))  # -log det of an affine map


def test_uniform_noise_is_told():
    assert width(two_modes(), None) is None


def bent() -> AffineCoupling:
    torch.manual_seed(0)
    model = AffineCoupling(
        spec(2), net=lambda i, o, c: MLP(i, o, c, hidden=[16]), couplings=4, mixing="linear", marginal=0
    )
    model.initialize(normal(200, 2).float())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model.double().eval().requires_grad_(False)


def row_of(density, eps: Tensor) -> Tensor:
    return pushed(density, None, eps[None])[0]


def test_an_energy_moves_in_the_noise_of_what_it_tilts():
    """U(eps) = E(g(eps)) - log|det dg / deps| up to a constant: the density of eps by a change of variables."""
    over_normal, over_flow = wavy().double(), wavy().double()
    over_flow.base.density = bent()
    over_run = wavy().double()
    over_run.base.density = Trained(spec(2), bent())  # what model.base=run makes
    for model in (bent(), over_normal, over_flow, over_run):
        way = transport(model, None)
        eps = normal(6, 2, 5).requires_grad_(True)
        slope = torch.autograd.grad(way.energy(eps).sum(), eps)[0]
        along = 1e-6 * normal(6, 2, 6)
        rise = way.energy(eps + along) - way.energy(eps - along)
        torch.testing.assert_close(2 * (slope * along).sum(1), rise, atol=1e-11, rtol=1e-4)  # chains see the tilt
        u = pushed(way.density, None, eps)
        jacobian = torch.stack([torch.func.jacrev(partial(row_of, way.density))(row) for row in eps])
        by_hand = model.energy(u) - jacobian.det().abs().log()
        difference = way.energy(eps) - by_hand
        torch.testing.assert_close(difference, difference[:1].expand(6))
    assert (over_flow.tilt(u) - over_flow.tilt(u)[0]).abs().max() > 0.1  # the tilt counts


def test_what_is_not_made_of_normal_noise_in_one_pass_is_no_way():
    assert transport(two_modes(), None) is None
    assert transport(wavy("gmm"), None) is None
    assert transport(wavy("none"), None) is None


@pytest.mark.slow
def test_chains_in_noise_draw_from_the_posterior():
    model, mean, covariance = gaussian()
    sigma, each = 0.5, 150
    z = torch.tensor([[1.5], [-0.5]]).double()
    seen = Observation(Selection((2,), torch.tensor([True, False])), z, sigma, lambda eps: pushed(model, None, eps))
    gain = covariance[:, :1] / (covariance[0, 0] + sigma**2)
    exact, left = mean + (z - mean[0]) @ gain.T, covariance - gain @ covariance[:1]
    start = noise(1).randn(2 * each, 2).double()
    found = inverse.walk(
        lambda eps: 0.5 * eps.square().sum(1), seen, start, noise(2), kernel=HMC(leaps=6), each=each, draws=each,
        warmup=40, steps=10,
    )  # fmt: skip
    u = pushed(model, None, found.draws.flatten(0, 1)).view(2, each, 2)
    deviation = left.diagonal().sqrt()
    assert ((u.mean(1) - exact).abs() < 3.5 * deviation / math.sqrt(each)).all()
    assert ((u.std(1) / deviation - 1).abs() < 3.5 / math.sqrt(2 * each)).all()
