"""Networks and monotone maps by themselves."""

from __future__ import annotations

import pytest
import torch

from gencli.models.flows.maps import Additive, Affine, RationalQuadratic
from gencli.nn.auto import Auto
from gencli.nn.masked import MaskedMLP
from gencli.nn.mlp import MLP
from gencli.nn.resnet import ResidualConv

MAPS = [Additive(), Affine(2.0), RationalQuadratic(8, 3.0), RationalQuadratic(2, 1.0)]


@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("dim", [1, 2, 5, 9])
def test_made_sees_only_what_comes_before(dim, context):
    torch.manual_seed(0)
    made = MaskedMLP(dim, 3, context, hidden=[64, 64])
    torch.nn.init.normal_(made.last.weight)
    x = torch.randn(1, dim)
    y = torch.randn(1, context) if context else None
    jacobian = torch.autograd.functional.jacobian(lambda v: made(v, y)[0], x).squeeze(2).abs().sum(1)  # (D, D)
    assert jacobian.triu().abs().max() == 0
    if dim == 5:
        assert (jacobian.tril(-1).sum(1)[1:] > 0).all()
    if context:
        assert torch.autograd.functional.jacobian(lambda c: made(x, c)[0], y).abs().flatten(1).sum(1).min() > 0


@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("shape", [(5,), (2, 4, 4), (2, 8, 8)])
def test_networks_start_at_zero_and_use_the_context(shape, context):
    torch.manual_seed(0)
    out = (2 * shape[0], *shape[1:])
    net = Auto(shape, out, context, vector={"hidden": [8]}, tiny={"hidden": [8]}, image={"width": 8, "blocks": 1})
    assert isinstance(net.net, ResidualConv if shape == (2, 8, 8) else MLP)
    x, y = torch.randn(3, *shape), torch.randn(3, context) if context else None
    assert torch.equal(net(x, y), torch.zeros(3, *out))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter)
    assert net(x, y).shape == (3, *out)
    if y is not None:
        assert not torch.equal(net(x, y), net(x, -y))


def test_convolutions_refuse_vectors():
    with pytest.raises(ValueError, match="another net"):
        ResidualConv((3,), (3,), 0)


@pytest.mark.parametrize("map", MAPS)
def test_maps_of_zero_parameters_are_the_identity(map):
    x = torch.linspace(-4, 4, 101, dtype=torch.float64)
    z, log_slope = map.forward(x, torch.zeros(101, map.n_params, dtype=torch.float64))
    assert (z - x).abs().max() < 1e-12
    assert log_slope.abs().max() < 1e-12


@pytest.mark.parametrize("map", MAPS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_maps_increase_invert_and_know_their_slope(map, dtype, tolerance):
    generator = torch.Generator().manual_seed(0)
    x = torch.linspace(-4, 4, 801, dtype=dtype, requires_grad=True)
    params = torch.randn(map.n_params, generator=generator).to(dtype).expand(801, -1)
    z, log_slope = map.forward(x, params)
    (slope,) = torch.autograd.grad(z.sum(), x)
    assert (z.diff() > 0).all()
    assert (slope.log() - log_slope).abs().max() < 20 * tolerance
    assert (map.inverse(z, params) - x).abs().max() < 3 * tolerance


@pytest.mark.parametrize("size", [1.0, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_splines_hold_at_their_edges(dtype, size):
    """At -B, B, next to them, at every inner knot, far outside; with parameters so large that softmax is one-hot."""
    spline = RationalQuadratic(6, 3.0)
    generator = torch.Generator().manual_seed(1)
    params = size * torch.randn(spline.n_params, generator=generator).to(dtype)
    knots = spline._knots(params[:6])[0]
    near = [
        torch.nextafter(torch.tensor(b, dtype=dtype), torch.tensor(c, dtype=dtype))
        for b in (-3.0, 3.0)
        for c in (-9, 9)
    ]
    x = torch.cat([torch.tensor([-3.0, 3.0, -1e30, 1e30, 0.0], dtype=dtype), torch.stack(near), knots]).requires_grad_()
    p = params.expand(len(x), -1).clone().requires_grad_()
    z, log_slope = spline.forward(x, p)
    assert z.isfinite().all()
    assert log_slope.isfinite().all()
    assert torch.equal(z[:4], x[:4])
    assert (log_slope[:4] == 0).all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(log_slope.sum() + z[4:].sum(), (x, p)))
    back = spline.inverse(z, p)
    assert back.isfinite().all()
    assert (spline.forward(back, p)[0][4:] - z[4:]).abs().max() < (1e-4 if dtype is torch.float32 else 1e-9)


def test_the_spline_is_differentiable_at_its_bounds():
    """Slopes of one at -B and B: the log-slope goes to zero there."""
    spline = RationalQuadratic(5, 2.0)
    params = torch.randn(spline.n_params, generator=torch.Generator().manual_seed(2)).double()
    x = torch.tensor([-2 + 1e-7, 2 - 1e-7]).double()
    assert spline.forward(x, params.expand(2, -1))[1].abs().max() < 1e-4


def test_the_log_scale_is_bounded():
    s = Affine(2.0).forward(torch.zeros(2), torch.tensor([[1e9, 0], [-1e9, 0]]))[1]
    assert s.tolist() == [2.0, -2.0]


@pytest.mark.parametrize("bins", [1, 101])
def test_splines_refuse_bins(bins):
    with pytest.raises(ValueError, match="2 to 100"):
        RationalQuadratic(bins)
