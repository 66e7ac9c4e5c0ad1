"""What flows and closed forms do by themselves: how they start, invert and train."""

from __future__ import annotations

import functools
import time

import pytest
import torch
from densities import CLASSES, COUPLING, build, labels, net, noise, rows

from gencli.core.noise import StepNoise
from gencli.core.spec import Spec, Support
from gencli.models.classical.gaussian import Gaussian
from gencli.models.classical.gmm import GMM
from gencli.models.flows.autoregressive import AffineAutoregressive, Autoregressive, SplineAutoregressive
from gencli.models.flows.coupling import AffineCoupling, Coupling, SplineCoupling
from gencli.models.flows.maps import Affine, RationalQuadratic
from gencli.nn.auto import Auto


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((1,), {}, "at least 2"),
        ((1, 7, 7), {}, "halved"),
        ((1, 8, 8), {"levels": 4}, "halved"),
    ],
)
def test_refusals(shape, options, message):
    with pytest.raises(ValueError, match=message):
        AffineCoupling(Spec(shape, Support("real")), **{"mixing": "masks", **COUPLING, **options})


@pytest.mark.parametrize(
    ("shape", "bound", "largest"), [((4,), "auto", 2.0), ((1, 4, 4), "auto", 3.0), ((4,), 0.7, 0.7)]
)
def test_no_coupling_stretches_beyond_its_bound(shape, bound, largest):
    model = AffineCoupling(Spec(shape, Support("real")), mixing="masks", bound=bound, **COUPLING)
    couplings = [part for part in model.modules() if isinstance(part, Coupling)]
    assert couplings
    raw = torch.tensor([[-1e3, 0.0], [1e3, 0.0]]).double()  # what a wild network says: scale, shift
    for part in couplings:
        _, log_slope = part.map.forward(torch.ones(2).double(), raw)
        assert log_slope.abs().tolist() == pytest.approx([largest] * 2)


def test_gaussian_is_the_maximum_likelihood_estimate():
    x = rows((3,), 500) @ torch.tensor([[1.0, 0, 0], [0.5, 2, 0], [0.1, 0.2, 0.3]]).double() + 4
    model = Gaussian(Spec((3,), Support("real")), covariance="full", ridge=0).double()
    model.initialize(x)
    exact = torch.distributions.MultivariateNormal(x.mean(0), torch.cov(x.T, correction=0))
    assert torch.allclose(model.log_prob(x), exact.log_prob(x))


def test_gmm_starts_from_em():
    centres = torch.tensor([[-4.0, 0], [4, 1]]).double()
    x = centres[torch.arange(1000) % 2] + 0.5 * rows((2,), 1000) / 1.5
    one, two = (GMM(Spec((2,), Support("real")), components=k).double() for k in (1, 2))
    one.initialize(x)
    two.initialize(x)
    assert (two.normals.mean.sort(0).values - centres.sort(0).values).abs().max() < 0.1
    assert two.log_prob(x).mean() > one.log_prob(x).mean() + 0.6


def test_initialize_standardises():
    model = AffineCoupling(Spec((1, 8, 8), Support("real")), mixing="masks", **COUPLING)
    x = (5 + 3 * rows((1, 8, 8), 500)).float()
    model.initialize(x)
    with torch.no_grad():
        z = model.transform(x)[0]
    assert z.mean().abs() < 1e-3
    assert (z.std() - 1).abs() < 1e-2


def test_marginals_start_from_quantiles():
    """Uniform data become nearly normal before any training: kurtosis 1.8 goes half the way to 3 and more."""
    x = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0))
    model = AffineCoupling(Spec((3,), Support("real")), mixing="masks", net=net, marginal=32)
    model.initialize(x)
    with torch.no_grad():
        z = model.transform(x)[0]
    assert (((z - z.mean(0)) / z.std(0)).pow(4).mean(0) - 3).abs().max() < 0.65


def test_bf16_networks_leave_latents_in_fp32():
    for name in ("realnvp", "glow", "maf", "nsf_coupling"):
        model = build(name, (6,)).float()
        x = rows((6,), 16).float()
        with torch.no_grad():
            full = model.log_prob(x)
            with torch.autocast("cpu", torch.bfloat16):
                half = model.log_prob(x)
        assert half.dtype == torch.float32
        assert (half - full).abs().max() < 0.3


@pytest.mark.parametrize("map", [Affine(), RationalQuadratic(6)])
@pytest.mark.parametrize("conditional", [False, True])
def test_fast_autoregressive_inverse_equals_the_naive_one(map, conditional):
    kind = AffineAutoregressive if isinstance(map, Affine) else SplineAutoregressive
    torch.manual_seed(0)
    model = kind(Spec((9,), Support("real"), CLASSES), conditional=conditional, transforms=1, hidden=[20, 7]).eval()
    step = next(m for m in model.modules() if isinstance(m, Autoregressive))
    for parameter in step.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    z = rows((9,), 5).float()
    context = model.context(labels(5))
    with torch.no_grad():
        assert (step.inverse(z, context) - step.iterate(z, context)).abs().max() < 1e-5


@pytest.mark.slow
def test_maf_samples_in_the_time_of_a_few_passes():
    """16 rows of D=784 through 5 transforms of 2x512: 0.3 s on a quiet core, where D full passes take 10 to 20.

    The test compares with the time of one full pass, since machines differ.
    """
    model = AffineAutoregressive(Spec((784,), Support("real")))
    assert model.passes == 5 * 784
    times = []
    with torch.no_grad():
        for work in (lambda: model.log_prob(torch.zeros(16, 784)), lambda: model.sample(16, noise=noise(16))):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
    assert times[1] < 784 / 3 * times[0]


@pytest.mark.slow
def test_training_a_spline_flow_reaches_the_entropy_of_a_mixture():
    """Two separate Gaussians of known entropy: NLL - H below 0.03 nats after 200 steps."""
    torch.manual_seed(0)
    wide = functools.partial(Auto, vector={"hidden": [64, 64]})
    truth = GMM(Spec((2,), Support("real")), components=2, covariance="isotropic")
    truth.normals.set(torch.tensor([[-2.0, 0], [2, 0]]), torch.tensor([0.25, 0.25]))
    model = SplineCoupling(Spec((2,), Support("real")), mixing="linear", net=wide, couplings=2)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
    for step in range(200):
        with torch.no_grad():
            x = truth.sample(256, noise=StepNoise(torch.device("cpu"), step))
        if step == 0:
            model.initialize(x)
        loss = -model.log_prob(x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        x = truth.sample(20_000, noise=noise(20_000))
        gap = (truth.log_prob(x) - model.log_prob(x)).mean()
    assert gap < 0.03
