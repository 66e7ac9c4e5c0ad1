"""Samples of models that are Reparameterized are differentiable in every parameter."""

import functools
import math

import pytest
import torch

from gencli.core.noise import RowNoise
from gencli.models.base import Reparameterized
from tests.models.test_models import VECTOR, build, labels

FLOWS = [name for name in VECTOR if not name.startswith("gmm")]


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("name", FLOWS)
def test_samples_are_differentiable_in_every_parameter(name, conditional):
    if conditional and name.startswith("gaussian"):
        pytest.skip("closed forms refuse conditions")
    model = build(name, (3,), conditional)
    assert isinstance(model, Reparameterized)
    draw = functools.partial(model.sample, 5, labels(5), noise=RowNoise(0, torch.arange(5)))
    x = draw()
    x.square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key
    # and the gradient is the right one: a finite difference along it
    direction = [p.grad.clone() for p in model.parameters()]
    size = math.sqrt(sum(float(d.square().sum()) for d in direction))
    with torch.enable_grad():
        values = []
        for sign in (1, -1):
            for p, d in zip(model.parameters(), direction, strict=True):
                p.data += sign * 1e-6 * d / size
            values.append(model.sample(5, labels(5), noise=RowNoise(0, torch.arange(5))).square().sum().item())
            for p, d in zip(model.parameters(), direction, strict=True):
                p.data -= sign * 1e-6 * d / size
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(size, rel=1e-3)


def test_sampling_is_the_same_with_and_without_gradients():
    for name in FLOWS:
        model = build(name, (3,))
        grad = model.sample(4, noise=RowNoise(0, torch.arange(4)))
        with torch.no_grad():
            none = model.sample(4, noise=RowNoise(0, torch.arange(4)))
        assert (grad - none).abs().max() < 1e-9
