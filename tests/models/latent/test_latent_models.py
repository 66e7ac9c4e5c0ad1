"""Latent variable models on every kind of data: shapes, codes, options, configs."""

from __future__ import annotations

import functools
import importlib
import re
from pathlib import Path

import pytest
import torch
import yaml
from latents import CLASSES, FLOW, REAL, SMALL, build, data, jitter, labels, noise
from refusals import built

from gencli.core.errors import UsageError
from gencli.core.noise import RowNoise
from gencli.core.spec import Spec
from gencli.models.base import DataInitialized, DirectSampling, ExactLikelihood, LatentVariable
from gencli.models.classical.ppca import PPCA
from gencli.models.latent.hvae import HVAE
from gencli.models.latent.vae import VAE
from gencli.nn.pyramid import Pyramid

KINDS = [("binary", (6,)), ("real", (4,)), ("levels:5", (1, 4, 4)), ("categorical:3", (5,)), ("binary", (1, 12, 10))]
CONFIGS = Path(__file__).parents[3] / "configs"


BAD = [
    ("model.latent=0", VAE, {"latent": 0}),
    ("model.posterior=planar", VAE, {"posterior": "planar"}),
    ("model.prior=cauchy", VAE, {"prior": "cauchy"}),
    ("model.prior_components=0", VAE, {"prior_components": 0}),
    ("model.prior=vamp", VAE, {"prior": "vamp", "conditional": True}),
    ("model.prior=flow", VAE, {"prior": "flow", "latent": 1}),
    ("model.posterior=realnvp", VAE, {"posterior": "realnvp", "latent": 1}),
    ("model.decoder=poisson", VAE, {"decoder": "poisson"}),
    ("model.decoder=logistic", VAE, {"decoder": "logistic"}),
    ("model.components=0", VAE, {"components": 0}),
    ("model.variance=full", VAE, {"variance": "full"}),
    ("model.flow.transforms=-1", VAE, {"flow": {"transforms": -1}}),
    ("model.flow.layers", VAE, {"flow": {"layers": 3}}),
    ("model.latent=[3]", HVAE, {"latent": [3], "hidden": []}),
    ("model.hidden=[]", HVAE, {"latent": [3, 2], "hidden": []}),
    ("model.activation=step", HVAE, {"activation": "step"}),
    ("model.latent=6", PPCA, {"latent": 6}),
    ("model.floor=-1", PPCA, {"floor": -1}),
    ("model.conditional=true", PPCA, {"conditional": True}),
]


@pytest.mark.parametrize(("key", "kind", "options"), BAD)
def test_wrong_options_are_named(key, kind, options):
    net = {} if kind is PPCA else {"net": SMALL}
    with pytest.raises((UsageError, ValueError), match="^" + re.escape(key)):
        built("model", kind, Spec((6,), REAL, CLASSES), **net, **options)


@pytest.mark.parametrize(("support", "shape"), KINDS)
@pytest.mark.parametrize("name", ["vae", "hvae"])
@pytest.mark.parametrize("conditional", [False, True])
def test_every_kind_of_data(name, support, shape, conditional):
    spec, x = data(support, shape, n=12)
    image = {"width": 2, "hidden": 8}
    net = functools.partial(Pyramid, vector={"hidden": [8]}, image=image)
    options = {"latent": (4, 2), "hidden": ((8,),)} if name == "hvae" else {"latent": 3}
    model = (HVAE if name == "hvae" else VAE)(spec, net=net, conditional=conditional, **options)
    y = labels(12)
    model.initialize(x, y)
    jitter(model, 0.1)
    log_w = model.log_weights(x, 3, y, noise=noise(12))
    log_w.sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert log_w.shape == (12, 3)
    with torch.no_grad():
        code = model.encode(x, y)
        assert code.shape == (12, model.latent_dim)
        assert model.decode(code, y).shape == x.shape
        drawn = model.sample(12, y, noise=noise(12))
        alone = torch.cat([model.sample(1, y[i : i + 1], noise=RowNoise(3, torch.tensor([i]))) for i in range(12)])
    assert drawn.shape == x.shape
    assert drawn.dtype == x.dtype
    close = torch.isclose(drawn.double(), alone.double(), atol=1e-5)
    assert close.float().mean() > 0.98  # rounding may tip a discrete draw
    if conditional:
        with pytest.raises(ValueError, match="needs y"):
            model.encode(x)


def test_hvae_codes_go_through_what_was_inferred():
    model, x = build("hvae-3", support="real", shape=(4,))
    with torch.no_grad():
        code = model.encode(x)
        z_1 = model.infer(x)[0]
        assert torch.allclose(model._generate(code), z_1, atol=1e-8)


def test_iaf_posterior_starts_as_its_mean_field_twin():
    spec, x = data("binary", (6,))
    torch.manual_seed(0)
    model = VAE(spec, net=SMALL, latent=3, posterior="iaf", flow=FLOW)
    mean, log_std, _ = model.infer(x)
    z, _ = model._sample_q(model.infer(x), 2, noise(200))
    assert torch.allclose(z.flip(2), mean[:, None] + log_std.exp()[:, None] * noise(200).randn(200, 2, 3))


def test_capabilities():
    for kind in (VAE, HVAE, PPCA):
        assert issubclass(kind, LatentVariable)
        assert issubclass(kind, DirectSampling)
        assert issubclass(kind, DataInitialized)
    assert issubclass(PPCA, ExactLikelihood)


@pytest.mark.parametrize(("side", "levels"), [((28, 28), 2), ((9, 13), 3), ((32, 32), 3)])
def test_pyramids_reach_the_image_they_promise(side, levels):
    shape = (2, *side)
    image = {"width": 2, "levels": levels, "hidden": 8}
    x = torch.zeros(3, 5)
    assert Pyramid((5,), shape, 4, image=image)(x, torch.zeros(3, 4)).shape == (3, *shape)
    assert Pyramid(shape, (7,), 4, image=image)(torch.zeros(3, *shape), torch.zeros(3, 4)).shape == (3, 7)
    with pytest.raises(ValueError, match="activation=step"):
        Pyramid((5,), (4,), 0, vector={"activation": "step"})


@pytest.mark.parametrize("name", ["vae", "hvae", "ppca"])
def test_configs_are_constructor_calls(name):
    options = yaml.safe_load((CONFIGS / "model" / f"{name}.yaml").read_text())
    module, _, target = options.pop("_target_").rpartition(".")
    kind = getattr(importlib.import_module(module), target)
    if {"/net@net": "pyramid"} in options.pop("defaults"):
        net = yaml.safe_load((CONFIGS / "net" / "pyramid.yaml").read_text())
        net.pop("_target_")
        options["net"] = functools.partial(Pyramid, **net)
    if "latent" in options and name == "ppca":
        options["latent"] = 2
    model = kind(Spec((4,), REAL), **options)
    assert model.log_weights(torch.zeros(3, 4), 2, noise=noise(3)).shape == (3, 2)
