"""A field's numbers, computed once and of one row where they can be, against the plain formulas in float64."""

from __future__ import annotations

import copy
import functools
import itertools

import pytest
import torch
from fields import PATHS
from networks import build, noise

from gencli.core.spec import Spec, Support
from gencli.core.tensors import shared
from gencli.methods import ode
from gencli.models.diffusion.cnf import CNF
from gencli.models.diffusion.field import RANGE, NetworkField
from gencli.nn.dit import DiT
from gencli.nn.mlp import MLP
from gencli.nn.residual import ResidualMLP
from gencli.nn.unet import UNet
from gencli.objectives.diffusion.denoise import Denoise
from gencli.objectives.diffusion.flow_matching import FlowMatching
from gencli.paths.schedules import VP, Straight
from gencli.samplers.diffusion.ddim import DDIM
from gencli.samplers.diffusion.ode import ODE
from gencli.samplers.diffusion.walk import Guided

NETS = {
    "mlp": ((2,), functools.partial(MLP, hidden=[8, 8])),
    "mlp, norms": ((2,), functools.partial(MLP, hidden=[8], spectral_norm=True)),
    "residual": ((2,), functools.partial(ResidualMLP, width=8, blocks=2)),
    "unet": ((1, 6, 6), functools.partial(UNet, width=4, multipliers=[1, 2], heads=2, groups=2)),
    "dit": ((1, 4, 4), functools.partial(DiT, patch=2, width=8, layers=1, heads=2)),
}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def moved(model):
    """With weights that are not zero."""
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter += 0.2 * normal(*parameter.shape, seed=i)
    return model.eval()


@pytest.mark.parametrize("name", PATHS)
def test_numbers_are_their_definitions(name):
    path = PATHS[name]()
    t = torch.linspace(max(path.t_min, 1e-3), min(path.t_max, 0.999), 50, dtype=torch.float64)
    W = path.alpha(t) * path.d_sigma(t) - path.d_alpha(t) * path.sigma(t)
    for found, plain in zip(
        path.numbers(t), (path.alpha(t), path.sigma(t), path.d_alpha(t) / W, path.d_sigma(t) / W, W), strict=True
    ):
        assert torch.allclose(found, plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", PATHS)
def test_the_networks_log_snr_needs_no_float64(name):
    path = PATHS[name]()
    t = torch.linspace(path.t_min, path.t_max, 2001)
    clock = [path.log_snr(s).clamp(-RANGE, RANGE) / RANGE for s in (t, t.double())]
    assert (clock[0] - clock[1]).abs().max() < 2e-6


def plain_v(model, x, t):
    """What the model says of x at times t (B,) in float64, as its docstring has it."""
    path, net = model.path, copy.deepcopy(model.net).double()
    at = t[:, None]
    alpha, sigma, W = path.alpha(at), path.sigma(at), path.turn(at)
    a, b, mean, std = path.d_alpha(at) / W, path.d_sigma(at) / W, model.mean.double(), model.std.double()
    V = (alpha * std) ** 2 + sigma**2
    log_snr = path.log_snr(t).clamp(-RANGE, RANGE) / RANGE
    clock = torch.stack([log_snr] if model.learned else [t, log_snr], 1)
    out = net((x - alpha * mean) / V.sqrt(), copy.deepcopy(model.time).double()(clock))
    v = {
        "edm": a * mean + (a * alpha * std**2 + b * sigma) / V * (x - alpha * mean) + std / V.sqrt() * out,
        "eps": (out + a * x) / alpha,
        "x0": (b * x - out) / sigma,
        "v": out,
    }[model.prediction]
    unit = {"edm": std / V.sqrt(), "eps": 1 / alpha, "x0": -1 / sigma, "v": torch.ones_like(W)}[model.prediction]
    return v, unit, alpha, sigma, a, b, W


@pytest.mark.parametrize(
    ("path", "prediction"),
    [
        (path, prediction)
        for path in PATHS
        for prediction in ("edm", "eps", "x0", "v")
        if prediction in ("edm", "v") or path not in ("straight", "trigonometric")  # whose ends make others infinite
    ],
)
def test_the_loss_of_a_step_is_the_plain_formula(path, prediction):
    model = build(path, prediction=prediction)
    x, eps = normal(20, 2), normal(20, 2, seed=1)
    t = torch.linspace(0.05, 0.95, 20)
    at = t.double()[:, None]
    x_t = (model.path.alpha(at) * x + model.path.sigma(at) * eps).detach()
    v, unit, alpha, sigma, a, b, W = plain_v(model, x_t, t.double())
    error = (v - (a * x + b * eps)) ** 2
    weights = {
        FlowMatching(model.spec): W**2,
        Denoise(model.spec, "simple"): 1 / unit**2,
        Denoise(model.spec, "snr"): alpha**2,
        Denoise(model.spec, "min_snr", gamma=2.0): torch.minimum(alpha**2, 2 * sigma**2),
    }
    for objective, weight in weights.items():
        found = objective.errors(model, x, None, t, eps)
        assert found.dtype == torch.float32
        assert torch.allclose(found.double(), weight * error, rtol=1e-3, atol=1e-5)


def test_one_row_stands_for_all_only_where_all_are_one():
    t = torch.tensor(0.3).expand(5)
    assert shared(t).shape == (1,)
    for rows in (torch.full((5,), 0.3), torch.rand(5), torch.rand(1), torch.rand(1, 3).expand(1, 3)):
        assert shared(rows) is rows


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_a_time_that_all_rows_share_says_the_same_as_a_time_for_each(name, conditional):
    shape, net = NETS[name]
    spec = Spec(shape, Support("real"), classes=3)
    torch.manual_seed(0)
    options = {"conditional": conditional, "label_dropout": 0.1 if conditional else 0.0}
    model = moved(NetworkField(spec, net=net, path=VP, **options))
    x, t = normal(4, *shape), torch.tensor(0.37, dtype=torch.float64)
    for y in (None, torch.tensor([0, 1, -1, 2])) if conditional else (None,):
        one, each = model.predict(x, t.expand(4), y), model.predict(x, t.repeat(4), y)
        for what in ("v", "velocity", "x0", "eps", "score"):
            found = getattr(one, what)
            assert found.shape == x.shape
            assert torch.allclose(found, getattr(each, what), rtol=1e-4, atol=1e-5), what
    if not conditional and len(shape) == 1:
        flow = moved(CNF(spec, net=net))
        assert torch.allclose(flow.velocity(x, t.expand(4)), flow.velocity(x, t.repeat(4)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "residual"])
def test_gradients_go_through_a_shared_time(name):
    """Of weights, and of the time itself."""
    model = moved(NetworkField(Spec((2,), Support("real")), net=NETS[name][1], path=Straight))
    x, found = normal(6, 2), []
    for spread in (torch.Tensor.expand, torch.Tensor.repeat):
        t = torch.tensor(0.4, requires_grad=True)
        loss = model.velocity(x, spread(t, 6)).square().sum()
        found.append(torch.autograd.grad(loss, [t, *model.parameters()]))
    for one, each in zip(*found, strict=True):
        assert torch.allclose(one, each, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("method", "stages"), [("euler", 1), ("heun", 2)])
def test_fixed_steps_are_the_plain_loop(method, stages):
    model, seen = build("straight"), []
    with torch.no_grad():
        found = ODE(method=method, steps=7).sample(model, 5, None, noise(5))
        watched = ODE(method=method, steps=7).run(model, 5, None, noise(5), lambda x, t: seen.append((x, float(t))))
        x, grid = noise(5).randn(5, 2), torch.linspace(1, 0, 8).tolist()
        for t, s in itertools.pairwise(grid):
            k = model.velocity(x, torch.full((5,), t))
            if stages == 2:
                k = (k + model.velocity(x + (s - t) * k, torch.full((5,), s))) / 2
            x = x + (s - t) * k
    assert torch.allclose(found.x, x, atol=1e-5)
    assert torch.allclose(watched.x, x, atol=1e-5)
    assert found.diagnostics["nfe"] == watched.diagnostics["nfe"] == 7 * stages
    assert len(seen) == 8
    assert [t for _, t in seen] == pytest.approx(grid)


def test_guidance_is_its_formula_and_asks_no_more_than_it_must():
    model = build("vp", conditional=True, label_dropout=0.1)
    x, y, t, rows = normal(4, 2), torch.tensor([0, 1, 2, 0]), torch.tensor(0.4).double(), torch.tensor([2, 0, 1, 3])
    at = t.repeat(4)
    with torch.no_grad():
        for w, cost in ((0.0, 1), (1.0, 1), (2.5, 2)):
            field = Guided(model, y, w)
            said = field(x, t)
            assert field.nfe == cost
            for what in ("v", "x0", "eps", "velocity"):
                without, label = (getattr(model.predict(x, at, c), what) for c in (None, y))
                assert torch.allclose(getattr(said, what), without + w * (label - without), rtol=1e-4, atol=1e-4)
            without, label = model.velocity(x, at, None), model.velocity(x, at, y[rows])
            assert torch.allclose(field.velocity(x, at, rows), without + w * (label - without), rtol=1e-4, atol=1e-4)
        one = DDIM(steps=5, guidance=2.5).sample(model, 4, y, noise(4)).x
        alone = DDIM(steps=5, guidance=2.5).sample(model, 1, y[:1], noise(1)).x
    assert torch.allclose(one[:1], alone, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("weights", [[], [0, 1], [1], [0.5, 0, 0.25, 2]])
def test_slopes_are_combined_by_their_weights(weights):
    slopes, x = list(normal(len(weights), 3, 2).unbind()), normal(3, 2, seed=1)
    plain = x + 0.3 * sum((w * k for w, k in zip(weights, slopes, strict=True)), torch.zeros(3, 2))
    assert torch.allclose(ode._combine(x, torch.tensor(0.3), weights, slopes), plain)
