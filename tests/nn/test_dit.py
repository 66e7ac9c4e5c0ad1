"""The transformer on patches."""

from __future__ import annotations

import functools

import pytest
import torch

from gencli.core.spec import Spec, Support
from gencli.methods.volume import rates
from gencli.models.diffusion.field import NetworkField
from gencli.nn.dit import DiT, positions
from gencli.paths.schedules import VP

SMALL = functools.partial(DiT, patch=2, width=16, layers=2, heads=2)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 4, 6)])
def test_it_starts_at_zero_and_feels_its_context(shape):
    torch.manual_seed(0)
    net = SMALL(shape, (2, *shape[1:]), 5)
    x, c = torch.randn(4, *shape), torch.randn(4, 5)
    assert torch.equal(net(x, c), torch.zeros(4, 2, *shape[1:]))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    out = net(x, c)
    assert torch.allclose(net(x[1:2], c[1:2]), out[1:2], atol=1e-4)
    assert not torch.allclose(net(x, -c), out)
    out.square().mean().backward()
    # the bias of the keys moves every score of a query alike, which the softmax does not see
    blind = torch.zeros(48, dtype=torch.bool)
    blind[16:32] = True
    for name, parameter in net.named_parameters():
        felt = parameter.grad.abs() > 1e-9
        assert felt.any(), name
        if name.endswith("qkv.bias"):
            assert felt[~blind].all()


def test_every_patch_sees_every_other_and_knows_where_it_is():
    torch.manual_seed(0)
    net = SMALL((1, 8, 8), (1, 8, 8), 3)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, c = torch.randn(1, 1, 8, 8), torch.randn(1, 3)
    far = x.clone()
    far[0, 0, 7, 7] += 1
    assert ((net(far, c) - net(x, c)).abs() > 1e-6).float().mean() > 0.9
    flat = net(torch.zeros_like(x), c)[0, 0].unfold(0, 2, 2).unfold(1, 2, 2).reshape(16, 4)  # patch by patch
    assert torch.cdist(flat, flat).fill_diagonal_(1).min() > 1e-3


def test_patches_are_cut_and_joined_again():
    net = SMALL((3, 4, 6), (3, 4, 6), 1)
    x = torch.randn(2, 3, 4, 6)
    tokens = net._cut(x)
    assert tokens.shape == (2, 6, 12)
    assert torch.equal(net._join(tokens), x)
    assert torch.equal(tokens[0, 1].view(3, 2, 2), x[0, :, 0:2, 2:4])  # the first row's second patch


def test_positions_differ_and_their_distance_is_that_of_the_places():
    p = positions(4, 5, 32)
    assert p.shape == (20, 32)
    assert torch.cdist(p, p).fill_diagonal_(1).min() > 0.5
    grid = p.view(4, 5, 32)
    inner = (grid[1:] * grid[:-1]).sum(-1)  # of neighbours in a column: the same everywhere
    assert torch.allclose(inner, inner[:1, :1].expand_as(inner), atol=1e-4)


def test_it_serves_a_field_and_its_exact_trace():
    torch.manual_seed(0)
    model = NetworkField(Spec((1, 4, 4), Support("real"), classes=3), net=SMALL, path=VP, conditional=True).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x, t, y = torch.randn(2, 16).double(), torch.tensor([0.2, 0.7]).double(), torch.tensor([0, 2])
    velocity = lambda z: model.predict(z.view(-1, 1, 4, 4), t, y).velocity.flatten(1)  # noqa: E731
    jacobian = torch.autograd.functional.jacobian(velocity, x)
    exact = torch.stack([jacobian[i, :, i].trace() for i in range(2)])
    with torch.no_grad():
        assert torch.allclose(rates(model, x, t, y, None).divergence[:, 0], exact)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((3,), {}, "another net"),
        ((1, 7, 8), {}, r"model\.net\.patch=2: does not divide the 7x8 image"),
        ((1, 8, 8), {"width": 18}, r"model\.net\.width=18"),
        ((1, 8, 8), {"heads": 3}, r"model\.net\.heads=3"),
    ],
)
def test_refusals(shape, options, message):
    with pytest.raises(ValueError, match=message):
        SMALL(shape, shape, 5, **options)
    with pytest.raises(ValueError, match="without one"):
        SMALL((1, 8, 8), (1, 8, 8), 0)
