"""The likelihood of bits by a matrix product is the sum of that of each bit, under autocast too."""

from __future__ import annotations

import torch

from gencli.models.distributions import BernoulliHead


def test_a_matrix_product_has_the_sum_of_all_bits():
    torch.manual_seed(0)
    x, params = (torch.rand(4, 1, 50) < 0.3).float(), 3 * torch.randn(4, 6, 50, 1)
    head = BernoulliHead()
    exact = head.log_prob(x.double(), params.double()).sum(-1)
    with torch.autocast("cpu", torch.bfloat16):
        found = head.total(x, params)
    assert found.shape == (4, 6)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-4)
