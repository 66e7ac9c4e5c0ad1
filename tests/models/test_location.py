"""Fields that start at the least-squares line of their context."""

import functools

import pytest
import torch
from fields import MixtureField

from gencli.core.spec import Spec, Support
from gencli.models.diffusion.field import NetworkField
from gencli.nn.mlp import MLP
from gencli.nn.resnet import ResidualConv
from gencli.nn.ring import RingConv
from gencli.paths.schedules import VP, Straight


def net(in_shape, out_shape, context):
    made = (
        MLP(in_shape, out_shape, context, hidden=[8])
        if len(in_shape) == 1
        else ResidualConv(in_shape, out_shape, context)
    )
    with torch.no_grad():
        for parameter in list(made.parameters())[-2:]:
            parameter.zero_()
    return made


def field(shape, path=Straight, **spec):
    """A field with a network that says nothing yet."""
    return NetworkField(
        Spec(shape, Support("real"), **spec), net=net, path=path, conditional=True, location="linear"
    ).requires_grad_(False)


CONTEXTS = {
    "reals": ((3,), {"context": (4,)}, lambda n: 100 + 30 * torch.randn(n, 4)),
    "classes": ((3,), {"classes": 5}, lambda n: torch.arange(n) % 5),
    "an image beside it": ((1, 5, 5), {"context": (2, 5, 5)}, lambda n: 100 + 30 * torch.randn(n, 2, 5, 5)),
    "reals of an image": ((1, 5, 5), {"context": (2,)}, lambda n: 100 + 30 * torch.randn(n, 2)),
}


@pytest.mark.parametrize("path", [Straight, VP])
@pytest.mark.parametrize("name", CONTEXTS)
def test_an_untrained_field_is_the_normal_distribution_around_the_line(name, path):
    torch.manual_seed(0)
    shape, spec, draw = CONTEXTS[name]
    y = draw(4000)
    away = torch.randn(4000, *shape)
    if name == "classes":
        mean = torch.randn(5, *shape)[y]
    elif name == "an image beside it":
        mean = (torch.rand(2, 5, 5) * y).sum(1, keepdim=True) - 7
    else:
        mean = (y @ torch.rand(y.shape[1], away[0].numel())).view(away.shape) - 7
    made = field(shape, path, **spec)
    made.initialize(mean + 0.5 * away, y)
    made = made.double()
    t = torch.linspace(0.1, 0.9, 4, dtype=torch.float64)
    some = y[:4] if name == "classes" else y[:4].double()
    alpha = made.path.alpha(t).view(-1, *[1] * len(shape))
    x = alpha * mean[:4] + torch.randn(4, *shape, dtype=torch.float64)  # where x_t is likely to be
    for k in range(4):
        exact = MixtureField(made.path, mean[k].flatten()[None].double(), 0.5)
        wanted = exact.predict(x[k].flatten()[None], t[k : k + 1]).v
        found = made.predict(x[k : k + 1], t[k : k + 1], some[k : k + 1]).v
        # the line is that of 4,000 rows: its mean is known to a 25th of a deviation or so
        assert torch.allclose(found.flatten(1), wanted, atol=0.15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conditional": False}, "model.location=linear needs model.conditional=true"),
        ({"conditional": True, "label_dropout": 0.1}, "model.location=linear needs model.label_dropout=0"),
    ],
)
def test_a_line_needs_a_context_that_is_there(options, message):
    with pytest.raises(ValueError, match=message):
        NetworkField(Spec((2,), Support("real"), context=(2,)), net=net, path=Straight, location="linear", **options)


def test_a_state_stands_beside_x_place_by_place():
    torch.manual_seed(0)
    spec, ring = Spec((8,), Support("real"), context=(16,)), functools.partial(RingConv, width=4)
    made = NetworkField(spec, net=ring, path=Straight, conditional=True, beside=True)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
        x, y, t = torch.randn(5, 8), torch.randn(5, 2, 8), torch.rand(5)
        v = made.predict(x, t, y.flatten(1)).v
        assert torch.allclose(made.predict(x.roll(3, 1), t, y.roll(3, 2).flatten(1)).v, v.roll(3, 1), atol=1e-4)
        assert not torch.allclose(made.predict(x, t, y.roll(1, 2).flatten(1)).v, v)
        assert not torch.allclose(made.predict(x, 1 - t, y.flatten(1)).v, v)


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        ({"context": (2,)}, {"conditional": False}),
        ({"context": (3,)}, {"conditional": True}),
        ({"classes": 2}, {"conditional": True}),
        ({"context": (2,)}, {"conditional": True, "label_dropout": 0.1}),
        ({"context": (2,)}, {"conditional": True, "context": net}),
    ],
)
def test_what_cannot_stand_beside_x_is_refused(spec, options):
    with pytest.raises(ValueError, match=r"model\.beside=true needs a vector of x, and one of 2 numbers, or several"):
        NetworkField(Spec((2,), Support("real"), **spec), net=net, path=Straight, beside=True, **options)
