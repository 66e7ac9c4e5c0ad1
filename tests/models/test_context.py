"""What a model does with its context before its networks see it: flat, features of a network, channels beside x."""

import functools
import math

import pytest
import torch
import yaml

from gencli.config.compose import compose
from gencli.config.locate import config_dir
from gencli.core import sizes
from gencli.core.errors import UsageError
from gencli.core.noise import RowNoise, StepNoise
from gencli.core.spec import Spec, Support
from gencli.models.base import Model
from gencli.models.diffusion.cnf import CNF
from gencli.models.diffusion.field import NetworkField
from gencli.models.flows.autoregressive import AffineAutoregressive
from gencli.nn.mlp import MLP
from gencli.nn.pyramid import Pyramid
from gencli.nn.residual import ResidualMLP
from gencli.nn.unet import UNet
from gencli.objectives.diffusion.denoise import hide
from gencli.paths.schedules import Straight
from gencli.run.opened import builder

REALS = Support("real")
CONDITIONAL = (
    *("maf", "nsf_ar", "nice", "realnvp", "made", "transformer", "pixelcnn", "pixelcnn_pp", "vae", "hvae"),
    *("generator", "flow_matching", "cnf"),
)
SMALL = functools.partial(MLP, hidden=[16])
TINY_UNET = functools.partial(UNet, width=8, multipliers=[1, 2], groups=4)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def spec_of(name, context):
    if name.startswith("pixelcnn"):
        return Spec((1, 4, 4), Support("levels", 4), context=context)
    return Spec((4,), Support("levels", 4) if name == "transformer" else REALS, context=context)


@pytest.mark.parametrize("name", CONDITIONAL)
def test_every_conditional_model_takes_a_network_of_its_context(name):
    spec = spec_of(name, (1, 6, 6))
    section = compose("train", [f"model={name}", "net@model.context=mlp", "model.conditional=true"])["model"]
    model = builder([]).component(section, Model, spec)
    y = normal(3, *spec.context)
    assert model.context(y).shape == (3, model.context_dim) == (3, sizes.features(36))
    assert {key.partition(".")[0] for key in model.state_dict()} > {"context_net"}
    weights = [weight.std() for key, weight in model.context_net.named_parameters() if key.endswith("0.weight")]
    assert all(weight > 0.05 for weight in weights)  # as the network itself starts


def test_without_a_network_a_model_is_the_one_it_was():
    spec, y = Spec((2,), REALS, context=(3,)), normal(4, 3)
    for context in (None, SMALL):
        torch.manual_seed(0)
        model = AffineAutoregressive(spec, conditional=True, context=context, transforms=1, hidden=[8])
        kept = {key for key in model.state_dict() if not key.startswith("context_net")}
        if context is None:
            assert kept == set(model.state_dict())
            assert torch.equal(model.context(y), y)
            names = kept
    assert kept == names
    assert AffineAutoregressive(spec, transforms=1, hidden=[8]).context_dim == 0


FITS = {
    "vector": {"mlp", "residual", "auto", "pyramid", "critic", "energy", "generator", "field"},
    "sequence": {"mlp", "residual", "pyramid", "critic", "energy", "generator", "field", "residual_energy"},
    "image": {"mlp", "residual", "pyramid", "critic", "energy", "generator", "residual_energy"},
}


NETS = sorted({"resnet", "unet", "dit"}.union(*FITS.values()))


@pytest.mark.parametrize(("kind", "shape"), [("vector", (3,)), ("sequence", (12, 4)), ("image", (2, 9, 13))])
@pytest.mark.parametrize("net", NETS)
def test_a_network_reads_a_context_or_says_which_do(kind, shape, net):
    own = yaml.safe_load((config_dir() / "net" / f"{net}.yaml").read_text())
    target = "gencli.models.flows.autoregressive.AffineAutoregressive"
    section = {"_target_": target, "conditional": True, "transforms": 1, "context": own}
    spec = Spec((2,), REALS, context=shape)
    if net in FITS[kind]:
        model = builder([]).component(section, Model, spec)
        model.log_prob(normal(3, 2), normal(3, *shape)).sum().backward()
        return
    with pytest.raises(UsageError, match=r"model\.context \(gencli\.nn\..*; .* take net@model\.context=") as error:
        builder([]).component(section, Model, spec)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "conditional", "text"),
    [
        (Spec((2,), REALS, context=(3,)), False, "needs model.conditional=true"),
        (Spec((2,), REALS, classes=3), True, "classes are told as they are"),
        (Spec((2,), REALS), True, "this data has neither"),
    ],
)
def test_a_network_of_no_context_is_refused(spec, conditional, text):
    with pytest.raises(ValueError, match=text):
        AffineAutoregressive(spec, conditional=conditional, context=SMALL)


@pytest.mark.slow
def test_the_features_learn_what_a_linear_map_cannot_tell():
    """x | y = 2 [y_1 y_2 > 0] - 1 + noise: no single coordinate of y says anything of x."""
    spec, y = Spec((1,), REALS, context=(2,)), normal(512, 2)
    x = 2.0 * (y.prod(1, keepdim=True) > 0) - 1 + 0.2 * normal(512, 1, seed=1)
    torch.manual_seed(0)
    model = AffineAutoregressive(spec, conditional=True, context=SMALL, transforms=1, hidden=[8])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        (-model.log_prob(x, y).mean()).backward()
        optimizer.step()
    assert -model.log_prob(x, y).mean() < 0.6  # a fit of N(0, 1.04) has 1.44, the truth -0.19


FIELDS = {
    "diffusion": lambda spec, net, **more: NetworkField(spec, net=net, path=Straight, conditional=True, **more),
    "cnf": lambda spec, net, **more: CNF(spec, net=net, conditional=True, **more),
}


@pytest.mark.parametrize("make", FIELDS.values(), ids=FIELDS)
def test_an_image_of_the_size_of_x_joins_it_as_channels(make):
    spec = Spec((1, 7, 5), REALS, context=(2, 7, 5))
    model = make(spec, TINY_UNET)
    assert model.net.first.weight.shape[1] == 1 + 2
    torch.nn.init.normal_(model.net.last.weight, generator=torch.Generator().manual_seed(0))
    x, t = normal(2, 1, 7, 5), torch.tensor([0.3, 0.6])
    y = normal(2, 2, 7, 5, seed=1).requires_grad_()
    out = model.velocity(x, t, y)
    assert out.shape == x.shape
    (at,) = torch.autograd.grad(out[0, 0, 3, 2], y)
    assert bool((at[0, :, 3, 2] != 0).all())  # the pixel of y that lies there, in both channels
    assert bool((at[1] == 0).all())  # and no other row
    with pytest.raises(ValueError, match="needs y"):
        model.velocity(x, t)


@pytest.mark.parametrize(
    ("context", "net"),
    [((2, 7, 5), SMALL), ((2, 5, 7), None), ((70,), None), ((7, 5), None)],
    ids=["network", "other", "flat", "one"],
)
def test_other_contexts_of_an_image_are_vectors(context, net):
    spec = Spec((1, 7, 5), REALS, context=context)
    model = FIELDS["diffusion"](spec, TINY_UNET, context=net)
    beside = context == (7, 5)  # an image of one channel
    assert model.context_channels == (1 if beside else 0)
    assert model.net.first.weight.shape[1] == 1 + model.context_channels
    assert model.velocity(normal(2, 1, 7, 5), torch.tensor([0.3, 0.6]), normal(2, *context)).shape == (2, 1, 7, 5)


def test_odd_grids_go_through_a_unet_with_their_context():
    spec = Spec((1, 33, 49), REALS, context=(1, 33, 49))
    model = FIELDS["diffusion"](spec, TINY_UNET)
    assert model.velocity(normal(1, 1, 33, 49), torch.tensor([0.5]), normal(1, 1, 33, 49)).shape == (1, 1, 33, 49)


def test_a_field_of_small_images_sees_channels_flat():
    spec = Spec((1, 2, 3), REALS, context=(1, 2, 3))
    model = FIELDS["diffusion"](spec, functools.partial(ResidualMLP, width=8, blocks=1))
    assert model.velocity(normal(2, 1, 2, 3), torch.tensor([0.3, 0.6]), normal(2, 1, 2, 3)).shape == (2, 1, 2, 3)


@pytest.mark.parametrize("shape", [(2,), (1, 4, 4)])
def test_contexts_of_reals_are_hidden_by_nan_and_by_none(shape):
    spec = Spec(shape, REALS, context=(3,) if len(shape) == 1 else shape)
    torch.manual_seed(0)
    model = FIELDS["diffusion"](spec, SMALL, label_dropout=0.5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    x, y, t = normal(3, *shape), normal(3, *spec.context), torch.full((3,), 0.5)
    hidden = y.clone()
    hidden[1] = math.nan
    said, none, some = (model.velocity(x, t, context) for context in (y, None, hidden))
    assert torch.allclose(some[[0, 2]], said[[0, 2]])
    assert torch.allclose(some[1], none[1])
    zero = model.velocity(x, t, torch.zeros_like(y))
    for a, b in ((said, none), (zero, none)):  # a context of zeros is there
        assert not torch.allclose(a, b)
    drawn = hide(model, y.repeat(500, *[1] * (y.dim() - 1)), StepNoise(torch.device("cpu"), 0))
    share = drawn.flatten(1).isnan()
    assert torch.equal(share.any(1), share.all(1))
    assert 0.45 < float(share.any(1).float().mean()) < 0.55


def test_a_context_that_is_never_hidden_is_needed():
    model = FIELDS["diffusion"](Spec((2,), REALS, context=(3,)), SMALL)
    with pytest.raises(ValueError, match="needs y"):
        model.velocity(normal(2, 2), torch.tensor([0.3, 0.6]))


def test_samples_of_a_row_do_not_depend_on_its_neighbours():
    spec, y = Spec((2,), REALS, context=(1, 6, 6)), normal(4, 1, 6, 6)
    model = AffineAutoregressive(spec, conditional=True, context=functools.partial(Pyramid, image={"width": 4}))
    rows = torch.arange(4)
    whole = model.sample(4, y, noise=RowNoise(0, rows))
    assert torch.allclose(model.sample(2, y[2:], noise=RowNoise(0, rows[2:])), whole[2:], atol=1e-6)
