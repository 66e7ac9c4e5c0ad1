"""Preprocessing against exact answers: what a number means must not depend on the way to model space."""

import math
import re

import pytest
import torch

from gencli.core.noise import RowNoise, StepNoise
from gencli.core.spec import Spec, Support
from gencli.data.preprocess import Preprocess
from gencli.data.sets.crabs import COUNTS, Crabs
from gencli.data.sets.digits import Digits
from gencli.data.split import TensorSplit

VECTORS, BOTH = ("vector",), ("vector", "image")


def spec(support, shape=(6,)):
    return Spec(shape, Support.parse(support))


def noise(n=64, seed=3):
    return RowNoise(seed, torch.arange(n))


class Fixed:
    """Noise that gives the chosen u."""

    def __init__(self, u):
        self.u = torch.as_tensor(u)

    def rand(self, *shape):
        return self.u.expand(shape)


def uniform_nll(z, transform, alpha):
    """-log density of T(v), v ~ U[0, 1): from z alone, by the change of variables backwards."""
    if transform != "logit":
        return torch.zeros(len(z), dtype=z.dtype)
    s, rest = z.sigmoid().log(), (-z).sigmoid().log()
    return -(s + rest - math.log(1 - 2 * alpha)).flatten(1).sum(1)  # p(z) = dv/dz = s (1 - s) / (1 - 2 alpha)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize(
    ("transform", "alpha"), [("none", 0.01), ("scale", 0.01)] + [("logit", a) for a in (1e-6, 0.01, 0.05, 0.3)]
)
def test_uniform_model_on_256_levels_is_8_bits(transform, alpha, dtype, tolerance):
    p = Preprocess(spec("levels:256", (1, 16, 16)), ("real",), BOTH, transform=transform, alpha=alpha).to(dtype)
    x = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(64, 1, 1, 1)
    z, terms = p(x, noise())
    assert z.dtype == dtype
    nll = uniform_nll(z, transform, alpha) + sum(terms.values())
    bits = nll / (256 * math.log(2))
    torch.testing.assert_close(bits, torch.full_like(bits, 8.0), rtol=0, atol=tolerance)


def test_seventeen_levels_are_log2_17_bits():
    p = Preprocess(spec("levels:17"), ("real",), VECTORS).double()
    _, terms = p(torch.zeros(64, 6, dtype=torch.uint8), noise())
    torch.testing.assert_close(terms["bins"], torch.full((64,), 6 * math.log(17)).double())


DISCRETE = ("levels:256", "levels:5", "binary", "categorical:7")
CHAINS = [(s, t) for s in DISCRETE for t in ("none", "scale", "logit", "standardize")]
CHAINS += [("unit", "none"), ("unit", "scale"), ("unit", "logit"), ("real", "none"), ("real", "standardize")]


@pytest.mark.parametrize(("support", "transform"), CHAINS)
def test_log_det_is_the_jacobian(support, transform):
    p = Preprocess(spec(support), ("real",), VECTORS, transform=transform, alpha=0.02).double()
    x = torch.rand(64, 6).double()
    if p.spec.support.discrete:
        x = (x * p.spec.support.levels).floor()
    p.fit(TensorSplit(x.float()))

    for row in x[:3]:
        u = torch.rand(6)
        jacobian = torch.autograd.functional.jacobian(lambda v, u=u: p(v[None], Fixed(u))[0][0], row)
        _, terms = p(row[None], Fixed(u))
        expected = -torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(sum(terms.values(), torch.zeros(1).double())[0], expected)


@pytest.mark.parametrize(
    ("transform", "alpha"), [("none", 0.01), ("scale", 0.01), ("standardize", 0.01), ("logit", 1e-6), ("logit", 0.05)]
)
@pytest.mark.parametrize("u", [0.001, 0.5, 0.999])
def test_inverse_of_forward_is_the_identity_on_all_levels(transform, alpha, u):
    x = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    p = Preprocess(spec("levels:256", (1, 16, 16)), ("real",), BOTH, transform=transform, alpha=alpha)
    p.fit(TensorSplit(torch.randint(0, 256, (100, 1, 16, 16), dtype=torch.uint8)))
    back = p.inverse(p(x, Fixed(u))[0])
    assert back.dtype == torch.uint8
    assert torch.equal(back, x)


def test_logit_with_a_tiny_alpha_stays_finite_and_accurate_in_fp32():
    p = Preprocess(spec("levels:256"), ("real",), VECTORS, transform="logit", alpha=1e-6)
    for x, u in [(0, 0.0), (0, 2.0**-24), (255, 1 - 2.0**-24), (255, 1 - 2.0**-12)]:
        rows = torch.full((1, 6), x, dtype=torch.uint8)
        z, terms = p(rows, Fixed(u))
        z64, terms64 = p.double()(rows, Fixed(u))
        p.float()
        assert z.isfinite().all()
        torch.testing.assert_close(z.double(), z64, rtol=1e-6, atol=0)
        torch.testing.assert_close(terms["logit log|det|"].double(), terms64["logit log|det|"], rtol=1e-6, atol=0)


def test_unit_data_reach_zero_and_one():
    p = Preprocess(spec("unit"), ("real",), VECTORS, transform="logit", alpha=1e-6)
    x = torch.tensor([[0.0, 1.0, 0.5, 0.25, 1e-3, 0.75]])
    z, terms = p(x)
    assert z.isfinite().all()
    torch.testing.assert_close(p.inverse(z), x, rtol=0, atol=1e-6)
    assert list(terms) == ["logit log|det|"]
    assert p.bound == "exact"


def test_discrete_data_pass_untouched_to_a_model_of_their_kind():
    x = torch.randint(0, 17, (64, 1, 8, 8), dtype=torch.uint8)
    p = Preprocess(spec("levels:17", (1, 8, 8)), ("levels", "real"), VECTORS, transform="logit")
    z, terms = p(x)
    assert (z.dtype, tuple(z.shape), terms) == (torch.int64, (64, 64), {})
    assert torch.equal(p.inverse(z), x)
    assert str(p.model_spec.support) == "levels:17"
    assert (p.bound, p.stochastic) == ("exact", False)
    assert p.protocol() == {"support": "levels:17", "dequantization": None, "transform": []}
    bits = Preprocess(spec("binary"), ("binary",), VECTORS)
    assert bits(torch.ones(2, 6, dtype=torch.uint8))[0].dtype == torch.float32


def test_protocol_and_spec_of_dequantized_data():
    p = Preprocess(Spec((1, 8, 8), Support.parse("levels:17"), 10), ("real",), BOTH, transform="logit", alpha=1e-6)
    assert p.protocol() == {"support": "levels:17", "dequantization": "uniform", "transform": ["logit(1e-6)"]}
    assert p.model_spec == Spec((1, 8, 8), Support("real"), 10)
    assert p.bound == "upper"
    assert Preprocess(p.spec, ("real",), BOTH, flatten=True).model_spec.shape == (64,)


def test_dequantization_of_a_row_does_not_depend_on_its_batch():
    p = Preprocess(spec("levels:256"), ("real",), VECTORS, transform="logit")
    x = torch.randint(0, 256, (64, 6), dtype=torch.uint8)
    whole, terms = p(x, noise())
    ids = torch.arange(64)
    parts = [p(x[rows], RowNoise(3, rows)) for rows in ids.flip(0).split(7)]
    assert torch.equal(torch.cat([z for z, _ in parts]).flip(0), whole)
    assert torch.equal(torch.cat([t["logit log|det|"] for _, t in parts]).flip(0), terms["logit log|det|"])


def test_standardize_measures_what_dequantization_gives():
    x = torch.cat([torch.randint(0, 17, (20_000, 1)), torch.zeros(20_000, 1)], 1).to(torch.uint8)
    p = Preprocess(spec("levels:17", (2,)), ("real",), VECTORS, transform="standardize")
    p.fit(TensorSplit(x))
    z, _ = p(x, noise(20_000))
    torch.testing.assert_close(z.mean(0), torch.zeros(2), rtol=0, atol=0.03)
    torch.testing.assert_close(z.std(0), torch.ones(2), rtol=0, atol=0.03)

    copy = Preprocess(spec("levels:17", (2,)), ("real",), VECTORS, transform="standardize")
    copy.load_state_dict(p.state_dict())
    assert torch.equal(copy(x, noise(20_000))[0], z)


def test_standardize_of_reals_far_from_zero():
    x = 1e4 + torch.randn(5000, 3)
    p = Preprocess(spec("real", (3,)), ("real",), VECTORS, transform="standardize")
    p.fit(TensorSplit(x))
    z, terms = p(x)
    torch.testing.assert_close(z.std(0), torch.ones(3), rtol=0, atol=1e-2)
    torch.testing.assert_close(p.inverse(z), x, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        terms["standardize log|det|"][0], x.double().std(0).log().sum().float(), rtol=0, atol=1e-2
    )


def test_crabs_are_ratios_in_model_space():
    p = Preprocess(Crabs().spec, ("real",), VECTORS, unit=Crabs.unit)
    x = Crabs().split("train").x
    z, terms = p(x, Fixed(0.5))
    assert torch.equal(p.inverse(z), x)
    mean = sum(count * (0.5815 + 0.004 * k) for k, (_, count) in enumerate(COUNTS)) / 1000  # of the intervals' centres
    assert z.mean().item() == pytest.approx(mean, abs=1e-6)
    torch.testing.assert_close(terms["bins"][0].item(), -math.log(0.004), rtol=1e-6, atol=0)
    # A density that is uniform over all 29 intervals gives the discrete uniform law.
    assert math.log(29 * 0.004) + terms["bins"][0].item() == pytest.approx(math.log(29), abs=1e-6)


def test_flip_mirrors_half_of_the_rows():
    p = Preprocess(spec("levels:256", (1, 2, 3)), ("real",), BOTH, flip=True)
    x = torch.arange(6, dtype=torch.uint8).view(1, 1, 2, 3).repeat(1000, 1, 1, 1)
    y = p.augment(x, StepNoise(torch.device("cpu"), 0, 1))
    mirrored = (y == x.flip(-1)).flatten(1).all(1)
    assert ((y == x).flatten(1).all(1) ^ mirrored).all()
    assert 400 < mirrored.sum() < 600


def test_inverse_clamps_what_a_model_may_draw():
    p = Preprocess(spec("levels:5", (2,)), ("real",), VECTORS)
    assert p.inverse(torch.tensor([[-3.0, 7.0]])).tolist() == [[0, 4]]


REFUSALS = [
    ("real", {"transform": "logit"}, "data.transform=logit needs data in [0, 1]; this data is real"),
    ("real", {"transform": "scale"}, "data.transform=scale needs data in [0, 1]; this data is real"),
    ("unit", {"transform": "standardize"}, "data.transform=standardize: none, scale or logit for data in [0, 1]"),
    ("real", {"flip": True}, "data.flip=true needs images; this data is of shape (2,)"),
    (
        "levels:4",
        {"dequantization": "none"},
        "data.dequantization=none: 'uniform' is needed, because a model of reals gives integers no probability; "
        "this data is levels:4",
    ),
    (
        "levels:4",
        {"transform": "logit", "unit": (0.5, 0.1)},
        "data.transform=logit needs data in [0, 1]; this data has a unit of its own",
    ),
]


@pytest.mark.parametrize(("support", "options", "text"), REFUSALS)
def test_options_that_make_no_sense_are_refused(support, options, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        Preprocess(spec(support, (2,)), ("real",), VECTORS, **options)


UNREACHABLE = [
    ("real", (2,), ("binary",), VECTORS, False, "the model supports binary; this data is real"),
    ("levels:17", (2,), ("binary", "unit"), VECTORS, False, "the model supports binary, unit; this data is levels:17"),
    ("graph", (2,), ("real",), VECTORS, False, "the model supports real; this data is graph"),
    ("real", (2,), ("real",), ("image",), False, "the model supports shapes image; this data is of shape (2,)"),
    (
        "real",
        (1, 2, 2),
        ("real",),
        ("image",),
        True,
        "the model supports shapes image; this data is of shape (1, 2, 2) flattened by data.flatten=true",
    ),
]


@pytest.mark.parametrize(("support", "shape", "supports", "shapes", "flatten", "text"), UNREACHABLE)
def test_a_model_out_of_reach_is_refused(support, shape, supports, shapes, flatten, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        Preprocess(spec(support, shape), supports, shapes, flatten=flatten)


def test_standardize_refuses_a_constant_coordinate():
    p = Preprocess(spec("real", (2,)), ("real",), VECTORS, transform="standardize")
    with pytest.raises(ValueError, match="coordinate 1 of the training data is constant"):
        p.fit(TensorSplit(torch.cat([torch.randn(50, 1), torch.ones(50, 1)], 1)))


def test_digits_entropy_of_pixels_survives_the_chain():
    """Independent histograms on dequantized pixels give the independent categorical NLL of digits."""
    data = Digits()
    train, test = data.split("train").x.flatten(1).long(), data.split("test").x.flatten(1).long()
    p = (torch.nn.functional.one_hot(train, 17).double().sum(0) + 1) / (len(train) + 17)
    chain = Preprocess(data.spec, ("real",), VECTORS, transform="scale").double()
    z, terms = chain(data.split("test").x, noise(300))
    bins = ((z + 0.5) * 17).long()
    density = p.gather(1, bins.T).T * 17  # piecewise constant in [0, 1)
    nll = -density.log().sum(1) + sum(terms.values())
    torch.testing.assert_close(nll, -p.gather(1, test.T).T.log().sum(1))


@pytest.mark.parametrize(("support", "transform"), [c for c in CHAINS if c[0] != "categorical:7"])
def test_values_are_the_way_back_without_rounding_and_their_slope_is_what_the_terms_say(support, transform):
    p = Preprocess(spec(support), ("real",), VECTORS, transform=transform, alpha=0.05).double()
    if transform == "standardize":
        p.mean.copy_(torch.linspace(0, 1, 6))
        p.std.copy_(torch.linspace(0.5, 2, 6))
    K = p.levels
    x = torch.rand(5, 6, generator=torch.Generator().manual_seed(1)).double()
    x = (K * x).floor() if p.stochastic else x
    z, terms = p(x, Fixed(torch.full((1, 1), 0.5)))
    torch.testing.assert_close(p.values(z), p.centres(x))  # u = 1/2 is the centre of a bin
    told = sum((term for name, term in terms.items() if name != "bins"), torch.zeros(5).double())
    exact = torch.autograd.functional.jacobian(p.values, z[:1]).squeeze()  # dv/dz
    torch.testing.assert_close(torch.linalg.slogdet(exact.squeeze(1))[1], told[0])
