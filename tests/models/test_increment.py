"""The normal step from state to state: its density, samples, start, and what it refuses."""

import math

import pytest
import torch

from gencli.core.noise import RowNoise
from gencli.core.spec import Spec, Support
from gencli.data.sets.dynamics import Advection
from gencli.models.increment import Increment
from gencli.nn.mlp import MLP
from gencli.nn.resnet import ResidualConv
from gencli.nn.ring import RingConv

COVARIANCES = ["diagonal", "low_rank", "full", "shared"]
every = pytest.mark.parametrize(
    ("covariance", "center"),
    [*((covariance, "network") for covariance in COVARIANCES), *((c, "linear") for c in COVARIANCES)],
)


def net(in_shape, out_shape, context):
    return MLP(in_shape, out_shape, context, hidden=[8]) if len(in_shape) == 1 else ResidualConv(in_shape, out_shape, 0)


def model(shape, covariance, center, context=None, rank=2):
    """An increment with random weights everywhere, in float64."""
    torch.manual_seed(0)
    spec = Spec(shape, Support("real"), context=context or shape)
    made = Increment(spec, net=net, covariance=covariance, rank=rank, mean=center)
    made.unit.copy_(0.5 + torch.rand(shape))
    with torch.no_grad():
        for tensor in (*made.parameters(), *((made.slope, made.offset) if center == "linear" else ())):
            tensor.add_(0.2 * torch.randn(tensor.shape))
    return made.double().requires_grad_(False)


def covariance_of(model, y):
    """Mean (D,) and covariance (D, D) of one row, by their definition."""
    mean, rest = model._outputs(y)
    r = model.unit.flatten()
    if model.covariance in ("full", "shared"):
        L = model._factor(rest)
        L = L if L.ndim == 2 else L[0]
        S = L @ L.T
    else:
        log_s, W = model._columns(rest)
        S = torch.diag((2 * log_s[0]).exp()) + W[0] @ W[0].T
    return mean[0], S * r.outer(r)


@every
@pytest.mark.parametrize(("shape", "context"), [((3,), (3,)), ((3,), (6,)), ((1, 2, 3), (4, 2, 3))])
def test_log_prob_is_that_of_the_normal_distribution(covariance, center, shape, context):
    if covariance == "full" and len(shape) == 3:
        pytest.skip("full is for vectors")
    step = model(shape, covariance, center, context)
    y, x = torch.randn(4, *context).double(), torch.randn(4, *shape).double()
    for k in range(4):
        mean, S = covariance_of(step, y[k : k + 1])
        wanted = torch.distributions.MultivariateNormal(mean, S).log_prob(x[k].flatten())
        assert torch.allclose(step.log_prob(x, y)[k], wanted)


@every
def test_the_density_integrates_to_one(covariance, center):
    step = model((2,), covariance, center)
    y = torch.tensor([[0.3, -0.7]]).double()
    mean, S = covariance_of(step, y)
    reach = 8 * S.diagonal().sqrt()
    side = torch.linspace(-1, 1, 161, dtype=torch.float64)
    grid = mean + torch.cartesian_prod(side, side) * reach
    cell = (2 / 160) ** 2 * reach.prod()
    assert abs(float((step.log_prob(grid, y.expand(len(grid), -1)).exp() * cell).sum()) - 1) < 1e-3


@every
def test_samples_have_the_mean_and_covariance(covariance, center):
    step, n = model((3,), covariance, center), 20_000
    y = torch.randn(1, 3).double()
    mean, S = covariance_of(step, y)
    with torch.no_grad():
        x = step.sample(n, y.expand(n, -1), noise=RowNoise(0, torch.arange(n)))
        cold = step.sample(4, y.expand(4, -1), noise=RowNoise(0, torch.arange(4)), temperature=0.0)
    assert ((x.mean(0) - mean) / (S.diagonal() / n).sqrt()).abs().max() < 4
    error = ((S.diagonal().outer(S.diagonal()) + S.square()) / n).sqrt()
    assert ((torch.cov(x.T) - S) / error).abs().max() < 4
    assert torch.allclose(cold, mean.expand(4, -1))


@pytest.mark.parametrize("covariance", ["diagonal", "low_rank", pytest.param("shared", marks=pytest.mark.slow)])
def test_it_starts_at_the_least_squares_forecast_on_any_scale(covariance):
    dataset = Advection(dimension=6, train=40, test=20)
    train, test = dataset.split("train"), dataset.split("test")
    step = Increment(dataset.spec, net=net, covariance=covariance)
    scale, shift = torch.linspace(0.1, 10, 6), torch.linspace(-5, 5, 6)
    step.initialize(100 * train.x + 3, (train.y - shift) / scale)
    with torch.no_grad():
        nll = -step.log_prob(100 * test.x + 3, (test.y - shift) / scale).mean()
    # in a linear system that is all; 6 x 7 + 6 parameters of 4,000 rows cost about 0.006 nats
    assert abs(float(nll) - 6 * math.log(100) - dataset.entropy) < 0.1


def test_each_pixel_starts_at_its_own_least_squares_forecast():
    torch.manual_seed(1)
    y = torch.randn(500, 2, 3, 3)
    a = torch.rand(3, 3)
    x = (2 * y[:, 1:] - a * y[:, :1]) + 0.01 * torch.randn(500, 1, 3, 3) + 5
    step = Increment(Spec((1, 3, 3), Support("real"), context=(2, 3, 3)), net=net)
    step.initialize(x, y)
    assert torch.allclose(step.slope[0, 0], -a, atol=0.01)
    assert torch.allclose(step.slope[0, 1], torch.full((3, 3), 2.0), atol=0.01)
    assert (step.mean(y) - x).std() < 0.02


@pytest.mark.parametrize("covariance", ["diagonal", "low_rank", "full", "shared"])
def test_a_linear_mean_stays_the_least_squares_forecast(covariance):
    dataset = Advection(dimension=6, train=40, test=20)
    train = dataset.split("train")
    step = Increment(dataset.spec, net=net, covariance=covariance, mean="linear")
    step.initialize(train.x, train.y)
    before = step.mean(train.y).detach()
    optimizer = torch.optim.Adam(step.parameters(), 0.01)
    nll = []
    for _ in range(20):
        loss = -step.log_prob(train.x, train.y).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        nll.append(loss.item())
    assert torch.equal(step.mean(train.y), before)
    assert nll[-1] < nll[0]
    line = torch.linalg.lstsq(torch.cat([train.y, torch.ones(len(train.y), 1)], 1).double(), train.x.double()).solution
    forecast = torch.cat([train.y, torch.ones(len(train.y), 1)], 1).double() @ line
    assert (before - forecast).abs().max() < 1e-3 * train.x.std()
    assert (step.net is None) == (covariance == "shared")


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (Spec((2,), Support("real"), context=(2,)), {"conditional": False}, "model.conditional=false"),
        (Spec((2,), Support("real"), context=(3,)), {}, "needs the state before x as context, of shape"),
        (Spec((2,), Support("real"), classes=3), {}, "this data has classes"),
        (Spec((1, 4, 4), Support("real"), context=(1, 4, 5)), {}, "needs the state before x"),
        (Spec((1, 4, 4), Support("real"), context=(1, 4, 4)), {"covariance": "full"}, "model.covariance=full"),
    ],
)
def test_what_is_no_step_is_refused_in_a_line(spec, options, message):
    with pytest.raises(ValueError, match=message):
        Increment(spec, net=net, **options)


def test_a_ring_has_no_beginning():
    torch.manual_seed(0)
    ring = RingConv((16,), (2, 8), 3, width=4)
    with torch.no_grad():
        for parameter in ring.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
        x, context = torch.randn(5, 2, 8), torch.randn(5, 3)
        turned = ring(x.roll(3, 2).flatten(1), context)
        assert torch.allclose(turned, ring(x.flatten(1), context).roll(3, 2), atol=1e-5)
        assert not torch.allclose(ring(x.flatten(1), context), ring(x.flatten(1), context + 1))
        assert RingConv((8,), (8,), 0)(x[:, 0]).shape == (5, 8)
    with pytest.raises(ValueError, match=r"model\.net\.kernel=4"):
        RingConv((8,), (8,), 0, kernel=4)
    with pytest.raises(ValueError, match="net=ring needs vectors"):
        RingConv((1, 4, 4), (1, 4, 4), 0)
