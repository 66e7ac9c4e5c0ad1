"""The discretised mixture of logistics: normalised, equal to its definition, stable in its tails."""

import pytest
import torch

from gencli.models.distributions import LogisticMixture


def mixture(levels, dtype=torch.float64, n=200, components=3, spread=1.0):
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(n, components, generator=generator, dtype=dtype).log_softmax(-1)
    mean = 1.5 * spread * torch.randn(n, components, generator=generator, dtype=dtype)
    log_scale = torch.linspace(-7, 5, n * components, dtype=dtype).view(n, components)
    return LogisticMixture(levels, weights, mean, log_scale)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 5e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("levels", [2, 3, 17, 256])
def test_probabilities_sum_to_one(levels, dtype, error):
    total = mixture(levels, dtype, spread=2.0).logits().exp().sum(-1)
    assert (total - 1).abs().max() < error


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_one_level_is_its_entry_among_all(levels):
    law = mixture(levels)
    logits = law.logits()
    for x in (0, 1, levels // 2, levels - 1):
        at = torch.full((200,), x)
        assert torch.allclose(law.log_prob(at), logits[:, x], atol=1e-12)


def test_is_the_difference_of_sigmoids():
    levels = 17
    law = mixture(levels, spread=0.3)
    law.log_scale = law.log_scale.clamp(-2, 1)  # where the difference has digits left
    v = 2 * torch.arange(levels, dtype=torch.float64) / (levels - 1) - 1
    low, high = v - 1 / (levels - 1), v + 1 / (levels - 1)
    low[0], high[-1] = -torch.inf, torch.inf
    scale = law.log_scale.exp()[:, None]
    cdf = [torch.sigmoid((edge[:, None] - law.mean[:, None]) / scale) for edge in (low, high)]
    p = (law.log_weights.exp()[:, None] * (cdf[1] - cdf[0])).sum(-1)
    assert torch.allclose(law.logits().exp(), p, atol=1e-12)


def test_tails_are_those_of_a_logistic_and_gradients_finite():
    """Far below the mean log P grows by the bin's width over s a level, also where P itself is 0 in fp32."""
    levels, s = 256, 2.0**-7
    log_scale = torch.full((1, 1), s).log().requires_grad_()
    mean = torch.ones(1, 1, requires_grad=True)
    law = LogisticMixture(levels, torch.zeros(1, 1), mean, log_scale)
    logits = law.logits()[0]
    assert logits[1].exp() == 0
    assert torch.allclose(logits[2:200].diff(), torch.full((197,), 2 / 255 / s), rtol=1e-4)
    for x in (0, 1, 128, 255):
        for parameter in torch.autograd.grad(logits[x], (mean, log_scale), retain_graph=True):
            assert parameter.isfinite().all()
            assert parameter.abs().max() > 0
