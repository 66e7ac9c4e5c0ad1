"""Masked layers that leave out blocks of zeros equal those that multiply by them."""

import torch
from torch.nn import functional as F

from gencli.nn import masked
from gencli.nn.masked import MaskedLinear, MaskedMLP


def staircase(rows, columns):
    return torch.arange(rows)[:, None] * columns >= torch.arange(columns) * rows


def test_blocks_cover_the_mask_and_leave_a_quarter_out():
    mask = staircase(40, 20)
    blocks = masked._stairs(mask, 2)
    kept = torch.zeros_like(mask)
    for rows, columns in blocks:
        kept[rows, columns] = True
    assert not (mask & ~kept).any()
    assert 0.7 < kept.float().mean() < 0.8
    assert masked._stairs(torch.ones(4, 4), 2) is None


def test_values_gradients_and_second_gradients_are_those_of_the_whole_product(monkeypatch):
    monkeypatch.setattr(MaskedLinear, "LARGE", 1)
    torch.manual_seed(0)
    layer = MaskedLinear(staircase(4, 3)).double()
    assert layer.stairs is not None
    x = torch.randn(2, 3, dtype=torch.double, requires_grad=True)

    def plain(x, weight, bias):
        return F.linear(x, weight * layer.mask, bias)

    assert torch.allclose(layer(x), plain(x, layer.weight, layer.bias), atol=1e-14)
    grads = [
        torch.autograd.grad(f.square().sum(), [x, layer.weight, layer.bias])
        for f in (layer(x), plain(x, layer.weight, layer.bias))
    ]
    for fast, slow in zip(*grads, strict=True):
        assert torch.allclose(fast, slow, atol=1e-14)

    def blocks(x, weight, bias):
        return masked._StaircaseLinear.apply(x, weight * layer.mask, bias, layer.stairs)

    assert torch.autograd.gradgradcheck(blocks, (x, layer.weight, layer.bias))


def test_a_large_network_takes_its_parameters_from_coordinates_before():
    torch.manual_seed(0)
    net = MaskedMLP(4, 2, hidden=[300, 300])
    torch.nn.init.normal_(net.last.weight)
    assert net.hidden[1].stairs is not None
    x = torch.randn(1, 4)
    jacobian = torch.autograd.functional.jacobian(lambda v: net(v)[0, :, 0], x)[:, 0]
    assert torch.equal(jacobian, jacobian.tril(-1))
    assert jacobian.tril(-1).abs().sum() > 0
