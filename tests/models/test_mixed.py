"""Models of columns of several kinds: normalised, drawn as they are scored, with masses and densities told apart."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gencli.core.noise import RowNoise
from gencli.core.spec import Batch, Given, Spec, Support
from gencli.estimators.exact import Exact
from gencli.models.autoregressive.made import MADE
from gencli.models.autoregressive.transformer import Transformer
from gencli.models.base import Autoregressive
from gencli.models.classical.independent import Independent
from gencli.models.distributions.scales import MIN_LOG_SCALE

NAN = float("nan")
GRID = torch.linspace(-40, 40, 1201, dtype=torch.float64)


def supports(*texts: str) -> Support:
    """Columns of these supports, with ? where values may be missing."""
    return Support.of_columns([replace(Support.parse(t.removesuffix("?")), optional=t.endswith("?")) for t in texts])


TABLE = supports("categorical:3", "real?", "levels:3?", "binary")
MODELS = {
    "made": lambda spec: MADE(spec, hidden=[12], components=2),
    "made-masks": lambda spec: MADE(spec, hidden=[12], masks=3, conditionals="softmax", encoding="onehot"),
    "made-y": lambda spec: MADE(spec, hidden=[12], conditional=True),
    "transformer": lambda spec: Transformer(spec, layers=1, heads=1, width=8, components=2),
    "transformer-y": lambda spec: Transformer(spec, layers=1, heads=1, width=8, conditional=True),
    "independent": lambda spec: Independent(spec, components=2),
}
every = pytest.mark.parametrize("name", MODELS)


def build(name: str, support: Support = TABLE) -> Autoregressive:
    """A model in fp64, moved off its start by seeded noise."""
    torch.manual_seed(0)
    model = MODELS[name](Spec((len(support.columns),), support, classes=2)).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def whole(reals: Tensor) -> tuple[Tensor, Tensor]:
    """All rows of TABLE with these reals, and the weight of each: a cell's width, or 1 where the real is missing."""
    axes = [
        torch.arange(3.0),
        torch.cat([reals, reals.new_tensor([NAN])]),
        torch.tensor([0.0, 1, 2, NAN]),
        torch.arange(2.0),
    ]
    rows = torch.cartesian_prod(*(axis.double() for axis in axes))
    return rows, torch.where(rows[:, 1].isnan(), 1.0, float(reals[1] - reals[0]))


def drawn(
    model: Autoregressive, n: int, y: Tensor | None = None, given: Given | None = None, cached: bool = True
) -> Tensor:
    noise = RowNoise(3, torch.arange(n))
    with torch.no_grad():
        return model.decode(n, y, pick=lambda law: law.sample(noise), given=given, cached=cached)


@every
@torch.no_grad()
def test_sums_over_integers_and_missing_values_and_the_integral_over_reals_make_one(name):
    model = build(name)
    x, weight = whole(GRID)
    log_p = model.log_prob(x, torch.ones(len(x), dtype=torch.long))
    assert (log_p.exp() * weight).sum() == pytest.approx(1, abs=1e-6)


@every
@torch.no_grad()
def test_samples_follow_the_model(name):
    """Frequencies of what is discrete by chi-squared (0.9999 quantile), and the mean surprise by its standard error."""
    model, n = build(name), 8000
    y = torch.ones(n, dtype=torch.long)
    x = drawn(model, n, y)
    assert x.dtype == torch.float64
    rows, weight = whole(GRID)
    log_p = model.log_prob(rows, torch.ones(len(rows), dtype=torch.long))
    p = log_p.exp() * weight

    def cell(t: Tensor) -> Tensor:
        return ((t[:, 0] * 2 + t[:, 1].isnan()) * 4 + t[:, 2].nan_to_num(3.0)) * 2 + t[:, 3]

    expected = n * torch.zeros(48, dtype=torch.float64).index_add(0, cell(rows).long(), p)
    seen = torch.bincount(cell(x).long(), minlength=48)
    many = expected > 5
    chi2 = ((seen - expected).square() / expected)[many].sum()
    df = int(many.sum())
    assert chi2 < df + 3.8 * math.sqrt(2 * df) + 10
    surprise = -model.log_prob(x, y)
    assert abs(surprise.mean() + (p * log_p).sum()) < 4 * surprise.std() / math.sqrt(n)


@every
def test_steps_equal_whole_passes_and_keep_what_is_given(name):
    model, n = build(name), 50
    y = torch.arange(n) % 2
    x = drawn(model, n, y)
    assert torch.allclose(x, drawn(model, n, y, cached=False), atol=1e-10, equal_nan=True)
    given = Given(x.flip(0), torch.tensor([True, True, False, False]).expand(n, -1))
    assert torch.equal(drawn(model, n, y, given)[:, :2].nan_to_num(-9), x.flip(0)[:, :2].nan_to_num(-9))


@every
@torch.no_grad()
def test_a_column_depends_on_those_before_it_only(name):
    model = build(name)
    x = torch.tensor([[2.0, 0.3, 1.0, 1.0]], dtype=torch.float64)
    y = torch.ones(1, dtype=torch.long)
    others = torch.tensor([0.0, NAN, 2.0, 0.0], dtype=torch.float64)
    base = model.log_conditionals(x, y)[0]
    for d in range(4):
        changed = x.clone()
        changed[0, d] = others[d]
        same = model.log_conditionals(changed, y)[0] == base
        assert same[:d].all()
        assert not same[d]
        assert same[d + 1 :].all() == (name == "independent" or d == 3)


@every
def test_gradients_are_finite_where_values_are_missing(name):
    model = build(name).train()
    x = torch.tensor([[0.0, NAN, NAN, 0.0], [1.0, 0.5, 2.0, 1.0]], dtype=torch.float64)
    model.log_prob(x, torch.tensor([0, 1])).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@torch.no_grad()
def test_independent_columns_have_the_closed_form():
    spec = Spec((4,), supports("categorical:3", "real", "real?", "categorical:2?"))
    model = Independent(spec).double()
    p, q = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), torch.tensor([0.9, 0.1], dtype=torch.float64)
    raw = [MIN_LOG_SCALE + math.log(math.expm1(math.log(s) - MIN_LOG_SCALE)) for s in (2.0, 1.0)]  # under the floor
    for row, values in enumerate(([*p.log()], [1.0, raw[0]], [-math.log(3.0), -1.0, raw[1]], [0.0, *q.log()])):
        model.marginals[row, : len(values)] = torch.tensor(values)
    normal = torch.distributions.Normal(torch.tensor(1.0).double(), 2.0)
    other = torch.distributions.Normal(torch.tensor(-1.0).double(), 1.0)
    x = torch.tensor([[0, 1.5, NAN, 1], [2, -4.0, 0.5, NAN]], dtype=torch.float64)
    first = math.log(0.5) + normal.log_prob(x[0, 1]) + math.log(0.25) + math.log(0.5 * 0.1)
    second = math.log(0.2) + normal.log_prob(x[1, 1]) + math.log(0.75) + other.log_prob(x[1, 2]) + math.log(0.5)
    assert torch.allclose(model.log_prob(x), torch.stack([first, second]))

    estimate = Exact().nll(
        model, Batch(x), RowNoise(0, torch.arange(2)), Exact().prepare(model, None, RowNoise(0, torch.arange(1)))
    )
    dense = torch.stack([normal.log_prob(x[0, 1]), normal.log_prob(x[1, 1]) + math.log(0.75) + other.log_prob(x[1, 2])])
    assert torch.allclose(-estimate.parts["continuous"], dense)
    assert torch.allclose(estimate.parts["discrete"] + estimate.parts["continuous"], estimate.nll)


@torch.no_grad()
def test_a_fit_has_the_frequencies_and_moments_of_the_data():
    generator = torch.Generator().manual_seed(0)
    n = 5000
    x = torch.stack(
        [
            torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), n, replacement=True, generator=generator).double(),
            3 + 2 * torch.randn(n, generator=generator).double(),
        ],
        1,
    )
    x[: n // 4, 1] = NAN
    model = Independent(Spec((2,), supports("categorical:3", "real?"))).double()
    model.initialize(x)
    seen = torch.bincount(x[:, 0].long()) / n
    entropy = -(seen * seen.log()).sum() - 0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    entropy += 0.75 * (0.5 * math.log(2 * math.pi * math.e) + x[n // 4 :, 1].std(correction=0).log())
    assert -model.log_prob(x).mean() == pytest.approx(float(entropy), abs=2e-3)


@pytest.mark.parametrize(
    ("model", "options", "text"),
    [
        (MADE, {"orderings": "random"}, "model.orderings=random: columns of several kinds have one order, natural"),
        (Independent, {"conditional": True}, "model.conditional=true: independent coordinates have no network"),
    ],
)
def test_refusals(model, options, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        model(Spec((4,), TABLE, classes=2), **options)
    with pytest.raises(ValueError, match=r"model\.components=2 is for columns of several kinds, not binary"):
        Transformer(Spec((4,), Support.parse("binary")), layers=1, heads=1, width=8, components=2)


def test_supports_of_columns():
    assert str(TABLE) == "mixed(categorical:3, real?, levels:3?, binary)"
    assert str(supports("real", "real")) == "real"
    assert str(supports("real?", "real?")) == "mixed(2 real?)"
    assert str(supports("categorical:3", "categorical:4")) == "mixed(categorical:3, categorical:4)"
    assert not Spec((4,), TABLE).alike
