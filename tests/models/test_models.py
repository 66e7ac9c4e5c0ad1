"""Every property of a density, over one table of tiny instances of all models."""

from __future__ import annotations

import functools
import importlib
import math
import time
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from gencli.core.noise import RowNoise, StepNoise
from gencli.core.spec import Spec, Support
from gencli.models.base import DataInitialized, DirectSampling, ExactLikelihood, Model
from gencli.models.classical.gaussian import Gaussian
from gencli.models.classical.gmm import GMM
from gencli.models.flows.autoregressive import AffineAutoregressive, Autoregressive, SplineAutoregressive
from gencli.models.flows.coupling import NICE, AffineCoupling, SplineCoupling
from gencli.models.flows.maps import Affine, RationalQuadratic
from gencli.nn.auto import Auto

SMALL = {"vector": {"hidden": [16]}, "tiny": {"hidden": [16]}, "image": {"width": 8, "blocks": 1}}
MADE = {"transforms": 2, "hidden": [16, 16]}


def net(in_shape: tuple[int, ...], out_shape: tuple[int, ...], context: int) -> Auto:
    return Auto(in_shape, out_shape, context, **SMALL)


COUPLING = {"net": net, "couplings": 4, "steps": 2}
VECTOR = {
    "gaussian-isotropic": (Gaussian, {"covariance": "isotropic"}),
    "gaussian-diagonal": (Gaussian, {"covariance": "diagonal"}),
    "gaussian-full": (Gaussian, {"covariance": "full"}),
    "gmm-isotropic": (GMM, {"components": 3, "covariance": "isotropic"}),
    "gmm-diagonal": (GMM, {"components": 3, "covariance": "diagonal"}),
    "gmm-full": (GMM, {"components": 3, "covariance": "full"}),
    "nice": (NICE, {"net": net, "couplings": 3}),
    "realnvp": (AffineCoupling, {"mixing": "masks", **COUPLING}),
    "glow": (AffineCoupling, {"mixing": "linear", **COUPLING}),
    "random": (AffineCoupling, {"mixing": "random", "marginal": 5, **COUPLING}),
    "maf": (AffineAutoregressive, {"marginal": 5, **MADE}),
    "iaf": (AffineAutoregressive, {"inverse": True, **MADE}),
    "nsf_coupling": (SplineCoupling, {"mixing": "linear", "bins": 5, **COUPLING}),
    "nsf_ar": (SplineAutoregressive, {"bins": 5, **MADE}),
}
CONDITIONAL = ["nice", "realnvp", "glow", "random", "maf", "iaf", "nsf_coupling", "nsf_ar"]
ANY_DIM = ["gaussian-isotropic", "gaussian-full", "gmm-diagonal", "gmm-full", "maf", "iaf", "nsf_ar"]
MASKED = ["maf", "iaf", "nsf_ar"]
IMAGE = ["realnvp", "glow", "random", "nsf_coupling"]

CASES = (
    [(name, (D,), False) for D in (2, 3, 6) for name in VECTOR]
    + [(name, (1,), False) for name in ANY_DIM]
    + [(name, (3,), True) for name in CONDITIONAL]
    + [(name, shape, False) for name in IMAGE for shape in ((1, 4, 4), (3, 4, 4))]
    + [(name, (1, 8, 8), True) for name in IMAGE]
    + [("realnvp", (1, 16, 16), False)]
)
IDS = [f"{name}-{'x'.join(map(str, shape))}{'-y' if conditional else ''}" for name, shape, conditional in CASES]
CLASSES = 3


def build(name: str, shape: tuple[int, ...], conditional: bool = False, scale: float = 0.1) -> Model:
    """A model started from data, then moved off its start by seeded noise; in eval mode and fp64."""
    kind, options = VECTOR[name]
    torch.manual_seed(0)
    model = kind(Spec(shape, Support("real"), CLASSES), conditional=conditional, **options)
    generator = torch.Generator().manual_seed(1)
    x = 1.5 * torch.randn(200, *shape, generator=generator) + 0.3
    model.initialize(x, labels(200))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return model.eval().double()


def labels(n: int) -> Tensor:
    return torch.arange(n) % CLASSES


def rows(shape: tuple[int, ...], n: int, seed: int = 2) -> Tensor:
    return 1.5 * torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def noise(n: int, seed: int = 3) -> RowNoise:
    return RowNoise(seed, torch.arange(n))


def boxes(x: Tensor) -> list[tuple[float, float]]:
    """The range of samples in each coordinate, and half as much again on both sides."""
    low, high = x.amin(0), x.amax(0)
    return list(zip((low - (high - low) / 2).tolist(), (high + (high - low) / 2).tolist(), strict=True))


table = pytest.mark.parametrize(("name", "shape", "conditional"), CASES, ids=IDS)


@pytest.mark.parametrize("name", ANY_DIM)
def test_integrates_to_one_on_the_line(name):
    model = build(name, (1,))
    grid = torch.linspace(-40, 40, 200_001, dtype=torch.float64)
    with torch.no_grad():
        total = model.log_prob(grid[:, None]).exp().sum() * (grid[1] - grid[0])
    assert total == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", VECTOR)
def test_integrates_to_one_on_the_plane(name):
    model = build(name, (2,))
    with torch.no_grad():
        axes = [torch.linspace(*box, 601, dtype=torch.float64) for box in boxes(model.sample(4000, noise=noise(4000)))]
        cell = math.prod(float(axis[1] - axis[0]) for axis in axes)
        total = model.log_prob(torch.cartesian_prod(*axes)).exp().sum() * cell
    assert total == pytest.approx(1, abs=1e-3)


@table
def test_log_det_is_that_of_the_jacobian_and_inverse_inverts(name, shape, conditional):
    model = build(name, shape, conditional)
    if not hasattr(model, "transform"):
        pytest.skip("no transform: its density is a closed form")
    n = 8
    x = rows(shape, n)
    context = model.context(labels(n))
    context = None if context is None else context.double()
    with torch.no_grad():
        z, log_det = model.transform(x, context)
        assert (model.transform.inverse(z, context) - x).abs().max() < 1e-10

    def one(v: Tensor) -> Tensor:
        return model.transform(v.view(1, *shape), None if context is None else context[:1])[0].flatten()

    if x[0].numel() <= 64:
        jacobian = torch.autograd.functional.jacobian(one, x[0].flatten())
        assert log_det[0] == pytest.approx(torch.linalg.slogdet(jacobian).logabsdet.item(), abs=1e-8)

    model.float()
    context = None if context is None else context.float()
    with torch.no_grad():
        z, _ = model.transform(x.float(), context)
        back = model.transform.inverse(z, context)
    assert (back - x.float()).abs().max() < 1e-5 * max(1, x.abs().max())


@table
def test_every_parameter_gets_a_gradient(name, shape, conditional):
    if shape == (1,) and name in MASKED:
        pytest.skip("one coordinate: the masks leave no weight of the first layer")
    model = build(name, shape, conditional)
    model.log_prob(rows(shape, 64), labels(64)).mean().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key


@table
def test_state_round_trip_and_mode(name, shape, conditional):
    model = build(name, shape, conditional)
    x, y = rows(shape, 8), labels(8)
    kind, options = VECTOR[name]
    torch.manual_seed(7)
    other = kind(model.spec, conditional=conditional, **options).double()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(other.eval().log_prob(x, y), model.log_prob(x, y))
        assert torch.equal(other.train().log_prob(x, y), model.log_prob(x, y))


@table
def test_a_sample_does_not_depend_on_its_batch(name, shape, conditional):
    model = build(name, shape, conditional)
    y = labels(6)
    with torch.no_grad():
        whole = model.sample(6, y, noise=noise(6))
        assert whole.shape == (6, *shape)
        part = model.sample(2, y[3:5], noise=RowNoise(3, torch.tensor([3, 4])))
    assert (whole[3:5] - part).abs().max() < 1e-9


@table
def test_temperature_scales_the_base(name, shape, conditional):
    model = build(name, shape, conditional)
    y = labels(4)
    if not hasattr(model, "transform"):
        pytest.skip("no transform")
    with torch.no_grad():
        hot, cold = (model.sample(4, y, noise=noise(4), temperature=t) for t in (1.0, 0.25))
        context = model.context(y)
        context = None if context is None else context.double()
        z_hot, z_cold = model.transform(hot, context)[0], model.transform(cold, context)[0]
    assert (z_cold - 0.25 * z_hot).abs().max() < 1e-9


@pytest.mark.parametrize("name", VECTOR)
def test_samples_match_the_density(name):
    """Chi-squared over 8x8 cells: how many of 10,000 samples fall into each against the density's quadrature.

    Cells lie between octiles of the samples; those that expect fewer than 5 are joined. The threshold is above the
    0.9999 quantile for every number of cells up to 64, and the seed is fixed.
    """
    model, n = build(name, (2,)), 10_000
    with torch.no_grad():
        x = model.sample(n, noise=noise(n))
        octiles = torch.quantile(x, torch.linspace(0.125, 0.875, 7, dtype=x.dtype), dim=0).T.contiguous()
        points, weights, strips = [], [], []
        for inner, (low, high) in zip(octiles, boxes(x), strict=True):
            edges = [low, *inner.tolist(), high]
            counts = [200, *[24] * 6, 200]  # midpoints in each strip; the outer two are wide
            width = [(b - a) / m for a, b, m in zip(edges, edges[1:], counts, strict=False)]
            points.append(
                torch.cat(
                    [a + w * (torch.arange(m) + 0.5).double() for a, w, m in zip(edges, width, counts, strict=False)]
                )
            )
            weights.append(torch.cat([torch.full((m,), w).double() for w, m in zip(width, counts, strict=True)]))
            strips.append(torch.cat([torch.full((m,), i) for i, m in enumerate(counts)]))
        mass = model.log_prob(torch.cartesian_prod(*points)).exp() * (weights[0][:, None] * weights[1]).flatten()
        cells = (8 * strips[0][:, None] + strips[1]).flatten()
        expected = torch.zeros(64, dtype=torch.float64).index_add(0, cells, mass)
    assert expected.sum() == pytest.approx(1, abs=2e-3)

    cell = [torch.bucketize(v.contiguous(), inner) for v, inner in zip(x.T, octiles, strict=True)]
    seen = torch.bincount(8 * cell[0] + cell[1], minlength=64).double()
    expected = n * expected / expected.sum()
    keep = expected >= 5
    statistic = ((seen - expected)[keep].square() / expected[keep]).sum()
    statistic += (seen[~keep].sum() - expected[~keep].sum()) ** 2 / expected[~keep].sum().clamp(min=5)
    df = int(keep.sum())
    assert statistic < df + 3.7 * math.sqrt(2 * df) + 10


@pytest.mark.parametrize("name", CONDITIONAL)
def test_conditional_models_listen(name):
    model = build(name, (3,), conditional=True)
    x = rows((3,), 1).expand(CLASSES, 3)
    with torch.no_grad():
        assert len(model.log_prob(x, labels(CLASSES)).unique()) == CLASSES
    with pytest.raises(ValueError, match="needs y"):
        model.log_prob(x)


@pytest.mark.parametrize("name", ["gaussian-full", "gmm-full"])
def test_closed_forms_refuse_conditions(name):
    kind, options = VECTOR[name]
    with pytest.raises(ValueError, match=r"model\.conditional"):
        kind(Spec((2,), Support("real"), CLASSES), conditional=True, **options)


def test_vector_context():
    model = AffineCoupling(Spec((2,), Support("real"), context=4), conditional=True, mixing="masks", **COUPLING)
    assert model.log_prob(torch.zeros(5, 2), torch.randn(5, 4)).shape == (5,)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((1,), {}, "at least 2"),
        ((1, 7, 7), {}, "halved"),
        ((1, 8, 8), {"levels": 4}, "halved"),
        ((2,), {"mixing": "lu"}, "masks, random or linear"),
    ],
)
def test_refusals(shape, options, message):
    with pytest.raises(ValueError, match=message):
        AffineCoupling(Spec(shape, Support("real")), **{"mixing": "masks", **COUPLING, **options})


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


def test_capabilities_are_declared():
    for kind, _ in VECTOR.values():
        assert issubclass(kind, ExactLikelihood)
        assert issubclass(kind, DirectSampling)
        assert issubclass(kind, DataInitialized)
        assert kind.supports == ("real",)


CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("path", sorted((CONFIGS / "model").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_config_is_one_constructor_call(path):
    """Every option of the YAML is an argument of its class, for every event shape that the class declares."""
    text = path.read_text()
    assert text.startswith("# ")
    options = yaml.safe_load(text)
    module, _, target = options.pop("_target_").rpartition(".")
    if module.startswith("gencli.models.transform"):
        kind = getattr(importlib.import_module(module), target)
        if {"/net@net": "auto"} in options.pop("defaults"):
            auto = yaml.safe_load((CONFIGS / "net" / "auto.yaml").read_text())
            assert auto.pop("_target_") == "gencli.nn.auto.Auto"
            options["net"] = functools.partial(Auto, **auto)
        for shape in kind.shapes:
            size = {"vector": (4,), "image": (1, 8, 8)}[shape]
            model = kind(Spec(size, Support("real")), **options).eval()
            assert model.log_prob(torch.zeros(3, *size)).shape == (3,)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["realnvp", "nsf_coupling", "maf"])
def test_log_prob_compiles(name):
    model = build(name, (6,)).float()
    x = rows((6,), 32).float()
    compiled = torch.compile(model.log_prob, fullgraph=True)
    assert torch.allclose(compiled(x), model.log_prob(x), atol=1e-4)
    compiled(x).mean().backward()


@pytest.mark.slow
def test_training_a_spline_flow_reaches_the_entropy_of_a_mixture():
    """Two separate Gaussians of known entropy: NLL - H below 0.03 nats after 500 steps."""
    torch.manual_seed(0)
    wide = functools.partial(Auto, vector={"hidden": [64, 64]})
    truth = GMM(Spec((2,), Support("real")), components=2, covariance="isotropic")
    truth.normals.set(torch.tensor([[-2.0, 0], [2, 0]]), torch.tensor([0.25, 0.25]))
    model = SplineCoupling(Spec((2,), Support("real")), mixing="linear", net=wide, couplings=4)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 500)
    for step in range(500):
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
