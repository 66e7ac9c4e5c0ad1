"""Chains in the noise of a model: its samples as a function of their noise, and the posterior that follows."""

import math

import pytest
import torch
from energies import noise, normal, spec, two_modes
from torch import Tensor

from gencli.core.tensors import LOG_2PI
from gencli.kernels.hmc import HMC
from gencli.methods import inverse
from gencli.methods.inverse import Observation
from gencli.methods.operators import Selection
from gencli.methods.pushforward import pushed, width
from gencli.models.classical.gaussian import Gaussian


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
