"""Properties that all models with a density share, over one table of tiny instances."""

from __future__ import annotations

import functools
import importlib
import math
from pathlib import Path

import pytest
import torch
import yaml
from densities import CLASSES, COUPLING, VECTOR, build, labels, noise, rows
from torch import Tensor

from gencli.core.noise import RowNoise
from gencli.core.spec import Spec, Support
from gencli.models.base import DataInitialized, DirectSampling, ExactLikelihood
from gencli.models.flows.coupling import AffineCoupling
from gencli.nn.auto import Auto

CONDITIONAL = ["nice", "realnvp", "glow", "random", "maf", "iaf", "nsf_coupling", "nsf_ar"]


ANY_DIM = ["gaussian-isotropic", "gaussian-full", "gmm-diagonal", "gmm-full", "maf", "iaf", "nsf_ar"]


MASKED = ["maf", "iaf", "nsf_ar"]


IMAGE = ["realnvp", "glow", "random", "nsf_coupling"]


CLOSED = [name for name in VECTOR if name.startswith(("gaussian", "gmm"))]
"""No transform: their density is a closed form."""


CASES = (  # the plane has tests of its own
    [(name, (D,), False) for D in (3, 6) for name in VECTOR]
    + [(name, (1,), False) for name in ANY_DIM]
    + [(name, (3,), True) for name in CONDITIONAL]
    + [(name, shape, False) for name in IMAGE for shape in ((1, 4, 4), (3, 4, 4))]
    + [(name, (1, 8, 8), True) for name in IMAGE]
    + [("realnvp", (1, 16, 16), False)]
)


def boxes(x: Tensor) -> list[tuple[float, float]]:
    """The range of samples in each coordinate, and half as much again on both sides."""
    low, high = x.amin(0), x.amax(0)
    return list(zip((low - (high - low) / 2).tolist(), (high + (high - low) / 2).tolist(), strict=True))


def every(cases: list[tuple[str, tuple[int, ...], bool]]) -> pytest.MarkDecorator:
    ids = [f"{name}-{'x'.join(map(str, shape))}{'-y' if conditional else ''}" for name, shape, conditional in cases]
    return pytest.mark.parametrize(("name", "shape", "conditional"), cases, ids=ids)


table = every(CASES)
transforms = every([case for case in CASES if case[0] not in CLOSED])


@pytest.mark.parametrize("name", ANY_DIM)
def test_integrates_to_one_on_the_line(name):
    model = build(name, (1,))
    grid = torch.linspace(-40, 40, 20_001, dtype=torch.float64)
    with torch.no_grad():
        total = model.log_prob(grid[:, None]).exp().sum() * (grid[1] - grid[0])
    assert total == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", VECTOR)
def test_integrates_to_one_on_the_plane(name):
    model = build(name, (2,))
    with torch.no_grad():
        axes = [torch.linspace(*box, 201, dtype=torch.float64) for box in boxes(model.sample(4000, noise=noise(4000)))]
        cell = math.prod(float(axis[1] - axis[0]) for axis in axes)
        total = model.log_prob(torch.cartesian_prod(*axes)).exp().sum() * cell
    assert total == pytest.approx(1, abs=1e-3)


@transforms
def test_log_det_is_that_of_the_jacobian_and_inverse_inverts(name, shape, conditional):
    model = build(name, shape, conditional)
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


@transforms
def test_temperature_scales_the_base(name, shape, conditional):
    model = build(name, shape, conditional)
    y = labels(4)
    with torch.no_grad():
        hot, cold = (model.sample(4, y, noise=noise(4), temperature=t) for t in (1.0, 0.25))
        context = model.context(y)
        context = None if context is None else context.double()
        z_hot, z_cold = model.transform(hot, context)[0], model.transform(cold, context)[0]
    assert (z_cold - 0.25 * z_hot).abs().max() < 1e-9


@pytest.mark.slow
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
    if module.startswith("gencli.models.flows"):
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
@pytest.mark.parametrize(
    ("name", "layers"), [("realnvp", {"couplings": 2}), ("nsf_coupling", {"couplings": 2}), ("maf", {"transforms": 1})]
)
def test_log_prob_compiles(name, layers):
    model = build(name, (6,), **layers).float()
    x = rows((6,), 32).float()
    compiled = torch.compile(model.log_prob, fullgraph=True, backend="aot_eager")  # one graph; its kernels are torch's
    assert torch.allclose(compiled(x), model.log_prob(x), atol=1e-4)
    compiled(x).mean().backward()
