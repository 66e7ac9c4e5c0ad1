"""MADE and its ensembles against exact answers, and ancestral sampling."""

from __future__ import annotations

import itertools
import json
import math
import re

import pytest
import torch
from torch import Tensor

import gencli
from gencli.cli import main as cli
from gencli.core import options
from gencli.core.errors import UsageError
from gencli.core.noise import RowNoise
from gencli.core.spec import Batch, Given, Spec, Support
from gencli.estimators.exact import Exact
from gencli.models.autoregressive.made import MADE
from gencli.models.base import Ensemble
from gencli.models.classical.gaussian import Gaussian
from gencli.models.distributions import Fair
from gencli.samplers.ancestral import Ancestral

CLASSES = 3
RANDOM = {"masks": 4, "orderings": "random"}
DISCRETE = {
    "bits": ("binary", 8, {}),
    "bits-deep": ("binary", 7, {"hidden": [20, 9], "direct": False, "activation": "tanh"}),
    "bits-masks": ("binary", 8, {"masks": 5}),
    "bits-random": ("binary", 12, {"hidden": [20, 9], **RANDOM}),
    "bits-y": ("binary", 5, {"conditional": True, **RANDOM}),
    "one-bit": ("binary", 1, {}),
    "categories": ("categorical:3", 5, {}),
    "categories-random": ("categorical:3", 4, RANDOM),
    "levels": ("levels:17", 2, {"conditionals": "softmax"}),
    "levels-onehot": ("levels:17", 2, {"conditionals": "softmax", "encoding": "onehot", "direct": False}),
    "levels-logistic": ("levels:17", 2, {"masks": 2}),
    "levels-value": ("levels:300", 1, {"components": 2}),
    "levels-random-y": ("levels:4", 4, {"conditionals": "softmax", "conditional": True, **RANDOM}),
}
REAL = {
    "normal": {},
    "mixture": {"components": 3},
    "mixture-random": {"components": 2, **RANDOM},
    "mixture-y": {"components": 2, "conditional": True, "activation": "silu"},
}


def moved(model: MADE, scale: float = 0.5) -> MADE:
    """The model with every parameter moved by seeded noise, in eval mode and fp64."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return model.eval().double()


def discrete(name: str, scale: float = 0.5) -> MADE:
    support, dim, options = DISCRETE[name]
    torch.manual_seed(0)
    return moved(MADE(Spec((dim,), Support.parse(support), CLASSES), **{"hidden": [16], **options}), scale)


def real(name: str, dim: int = 2) -> MADE:
    torch.manual_seed(0)
    return moved(MADE(Spec((dim,), Support("real"), CLASSES), **{"hidden": [16], **REAL[name]}), 0.2)


def states(model: MADE) -> Tensor:
    """All values of x, (K^D, D), as preprocessing gives them."""
    x = torch.tensor(list(itertools.product(range(model.spec.support.levels), repeat=model.spec.dim)))
    return x.double() if model.spec.support.kind == "binary" else x


def labels(n: int) -> Tensor:
    return torch.arange(n) % CLASSES


def noise(n: int, seed: int = 3) -> RowNoise:
    return RowNoise(seed, torch.arange(n))


# --- densities -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DISCRETE)
def test_probabilities_of_all_states_sum_to_one(name):
    model = discrete(name)
    x = states(model)
    with torch.no_grad():
        for label in range(CLASSES if model.conditional else 1):
            y = torch.full((len(x),), label)
            assert model.log_prob(x, y).exp().sum().item() == pytest.approx(1, abs=1e-6)
            for member in range(model.members):
                assert model.log_conditionals_of(member, x, y).sum(1).exp().sum().item() == pytest.approx(1, abs=1e-6)
            if model.members > 2:
                assert model.log_prob_of(2, x, y).exp().sum().item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", REAL)
def test_real_densities_integrate_to_one(name):
    grid = torch.linspace(-30, 30, 10_001, dtype=torch.float64)
    with torch.no_grad():
        line = real(name, 1).log_prob(grid[:, None], torch.ones(len(grid), dtype=torch.long)).exp().sum()
        assert line * (grid[1] - grid[0]) == pytest.approx(1, abs=1e-4)
        axis = torch.linspace(-25, 25, 501, dtype=torch.float64)
        points = torch.cartesian_prod(axis, axis)
        plane = real(name, 2).log_prob(points, torch.ones(len(points), dtype=torch.long)).exp().sum()
    assert plane * (axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("model", [*DISCRETE, *REAL])
def test_no_conditional_sees_itself_or_what_comes_after(model):
    """The derivative of coordinate o(t)'s parameters by the features of o(s) is exactly 0 for s >= t."""
    model = discrete(model) if model in DISCRETE else real(model, 6)
    D = model.spec.dim
    y = labels(1)
    features = torch.randn(1, D, model.coordinate.features, dtype=torch.float64)
    for member in range(model.members):
        jacobian = torch.autograd.functional.jacobian(
            lambda f, m=member: model.parameters_of(f, y, m)[0].abs().sum(1), features
        )
        seen = jacobian[:, 0].abs().sum(2)  # (D, D): which coordinates see which
        order = model.net.order(member)
        assert sorted(order.tolist()) == list(range(D))
        if model.natural:
            assert torch.equal(order, torch.arange(D))
        assert seen[order][:, order].triu().abs().max() == 0
        if model.net.direct is not None and D > 1:
            assert (seen[order][:, order].tril(-1).sum(1)[1:] > 0).all()


def test_members_differ_in_orders_and_in_connections():
    model = discrete("bits-random")
    assert len({tuple(model.net.order(m).tolist()) for m in range(4)}) == 4
    same = discrete("bits-masks")
    x = states(same)[:50]
    with torch.no_grad():
        assert not torch.allclose(same.log_conditionals_of(0, x), same.log_conditionals_of(1, x))


@pytest.mark.parametrize("name", [*DISCRETE, *REAL])
def test_conditionals_sum_to_the_log_probability(name):
    model = discrete(name) if name in DISCRETE else real(name, 4)
    with torch.no_grad():
        x = model.sample(20, labels(20), noise=noise(20))
        summed = model.log_conditionals(x, labels(20)).sum(1)
        assert (summed - model.log_prob(x, labels(20))).abs().max() < 1e-9


def test_conditionals_of_an_ensemble_in_one_order_are_those_of_the_mixture():
    model = discrete("bits-masks")
    x = states(model)
    with torch.no_grad():
        p = model.log_prob(x).exp()
        found = model.log_conditionals(x)
    for row in (3, 100, 255):
        prefix = [p[(x[:, :d] == x[row, :d]).all(1)].sum() for d in range(9)]
        expected = torch.stack([(prefix[d + 1] / prefix[d]).log() for d in range(8)])
        assert (found[row] - expected).abs().max() < 1e-9


def test_a_given_beginning_is_conditioned_on():
    for name in ("bits", "bits-masks"):
        model = discrete(name)
        x = states(model)
        with torch.no_grad():
            p = model.log_prob(x).exp()
            found = model.log_prob(x[[77]], given=torch.tensor([3]))
        assert found.item() == pytest.approx((p[77] / p[(x[:, :3] == x[77, :3]).all(1)].sum()).log().item(), abs=1e-9)
    with pytest.raises(ValueError, match=r"^model.orderings=random cannot score a row whose beginning is given"):
        discrete("bits-random").log_prob(torch.zeros(1, 12).double(), given=torch.tensor([3]))


def test_the_loss_of_one_member_bounds_the_mixture_from_above():
    model = discrete("bits-random")
    x = states(model)[::37]
    with torch.no_grad():
        whole = model.log_prob(x)
        members = torch.stack([model.log_conditionals_of(m, x).sum(1) for m in range(4)])
        model.train()
        seen = set()
        for step in range(40):
            torch.manual_seed(step)
            first = model.log_prob(x)
            torch.manual_seed(step)
            assert torch.equal(model.log_prob(x), first)
            seen |= {m for m in range(4) if torch.allclose(first, members[m])}
    assert seen == {0, 1, 2, 3}
    assert (whole >= members.mean(0)).all()
    assert (members.logsumexp(0) - math.log(4) - whole).abs().max() < 1e-12


@pytest.mark.parametrize("name", [*DISCRETE, *REAL])
def test_starts_from_the_marginals_and_every_parameter_gets_a_gradient(name):
    support, dim, options = DISCRETE.get(name, ("real", 4, REAL.get(name, {})))
    torch.manual_seed(0)
    kind = Support.parse(support)
    model = MADE(Spec((dim,), kind, CLASSES), **{"hidden": [16], **options}).eval()
    generator = torch.Generator().manual_seed(0)
    if kind.discrete:
        p = torch.rand(dim, kind.levels, generator=generator)
        x = torch.multinomial(p, 2000, replacement=True, generator=generator).T
        expected = sum(
            (x == k).float().mean(0) * (x == k).float().mean(0).clamp(min=1e-9).log() for k in range(kind.levels)
        )
        x = x.float() if kind.kind == "binary" else x
    else:
        x = 3 * torch.randn(2000, dim, generator=generator) + 5
        expected = torch.full((dim,), -0.5 * math.log(2 * math.pi * math.e * 9))
    model.initialize(x, labels(2000))
    with torch.no_grad():
        start = model.log_prob(x, labels(2000)).mean()
    logistic = kind.kind == "levels" and "conditionals" not in options
    slack = 0.5 if logistic or options.get("components", 1) > 1 else 0.02
    assert start == pytest.approx(expected.sum().item(), abs=dim * slack)

    moved(model).train()
    x = x.double() if kind.kind in ("binary", "real") else x
    total = sum(model.log_conditionals_of(m, x, labels(2000)).mean() for m in range(model.members))
    total.backward()
    for key, parameter in model.named_parameters():
        if dim > 1:
            assert parameter.grad.isfinite().all(), key
            assert parameter.grad.abs().max() > 0, key


def test_state_holds_the_masks():
    model = discrete("bits-random")
    support, dim, options = DISCRETE["bits-random"]
    torch.manual_seed(9)
    other = MADE(Spec((dim,), Support.parse(support), CLASSES), **{"hidden": [16], **options}).double().eval()
    assert not torch.equal(other.net.order(0), model.net.order(0))
    other.load_state_dict(model.state_dict())
    x = states(model)[::99]
    with torch.no_grad():
        assert torch.equal(other.log_prob(x), model.log_prob(x))


@pytest.mark.parametrize("name", ["bits-y", "levels-random-y"])
def test_conditional_models_listen(name):
    model = discrete(name)
    x = states(model)[:1].expand(CLASSES, -1)
    with torch.no_grad():
        assert len(model.log_conditionals(x, labels(CLASSES))[:, 0].unique()) == CLASSES
    with pytest.raises(ValueError, match="needs y"):
        model.log_prob(x)


def test_half_precision_networks_give_full_precision_probabilities():
    for name in ("bits", "levels-logistic"):
        model = discrete(name).float()
        x = states(model)[::9]
        x = x.float() if x.is_floating_point() else x
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            half = model.log_prob(x)
        assert half.dtype == torch.float32
        with torch.no_grad():
            assert (half - model.log_prob(x)).abs().max() < 0.3


# --- sampling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*DISCRETE, *REAL])
def test_cached_samples_are_the_naive_ones(name):
    model = discrete(name) if name in DISCRETE else real(name, 6)
    n = 40
    draw = [Ancestral(cached=cached).sample(model, n, labels(n), noise(n)).x for cached in (True, False)]
    assert draw[0].shape == (n, model.spec.dim)
    if name in DISCRETE:
        assert torch.equal(*draw)
        assert draw[0].is_floating_point() == (model.spec.support.kind == "binary")
    assert (draw[0] - draw[1]).abs().max() < 1e-9
    some = torch.tensor([7, 8, 30])
    part = Ancestral().sample(model, 3, labels(n)[some], RowNoise(3, some)).x
    assert (part - draw[0][some]).abs().max() < 1e-9


@pytest.mark.parametrize("name", ["bits-deep", "bits-random", "bits-masks", "categories-random", "levels-logistic"])
def test_samples_match_the_probabilities(name):
    """Chi-squared over the states that 20,000 samples should meet 5 times or more, below its 0.9999 quantile."""
    model, n = discrete(name), 20_000
    x = states(model)
    with torch.no_grad():
        p = model.log_prob(x).exp()
    draws = Ancestral().sample(model, n, None, noise(n)).x
    radix = model.spec.support.levels ** torch.arange(model.spec.dim - 1, -1, -1)
    seen = torch.bincount((draws.long() * radix).sum(1), minlength=len(x)).double()
    keep = n * p >= 5
    seen, expected = torch.cat([seen[keep], seen[~keep].sum()[None]]), n * torch.cat([p[keep], p[~keep].sum()[None]])
    statistic = ((seen - expected).square() / expected.clamp(min=1)).sum()
    df = len(seen) - 1
    assert statistic < df + 3.8 * math.sqrt(2 * df) + 10


def test_samples_of_reals_match_the_density():
    """By the probability integral transform: the first coordinate's marginal, 20,000 samples, Kolmogorov-Smirnov."""
    model, n = real("mixture", 1), 20_000
    with torch.no_grad():
        grid = torch.linspace(-30, 30, 200_001, dtype=torch.float64)
        cdf = model.log_prob(grid[:, None]).exp().cumsum(0) * (grid[1] - grid[0])
    x = Ancestral().sample(model, n, None, noise(n)).x[:, 0].sort().values
    gap = (cdf[torch.searchsorted(grid, x).clamp(max=len(grid) - 1)] - (torch.arange(n) + 0.5) / n).abs().max()
    assert gap < 2.2 / math.sqrt(n)  # its 0.9999 quantile


def test_truncation_and_temperature():
    model = discrete("categories")
    n = 200
    greedy = Ancestral(temperature=0).sample(model, n, None, noise(n)).x
    assert len(greedy.unique(dim=0)) == 1
    assert torch.equal(Ancestral(top_k=1).sample(model, n, None, noise(n)).x, greedy)
    assert torch.equal(Ancestral(top_p=1e-6).sample(model, n, None, noise(n)).x, greedy)
    step, x = [], greedy[:1]
    for d in range(5):  # the likeliest value at every step, by enumeration
        options = torch.stack([torch.cat([x[0, :d], torch.tensor([k]), x[0, d + 1 :]]) for k in range(3)])
        with torch.no_grad():
            step.append(int(model.log_conditionals(options)[:, d].argmax()))
    assert step == x[0].tolist()
    whole = Ancestral().sample(model, n, None, noise(n)).x
    assert torch.equal(Ancestral(top_k=3, top_p=1.0).sample(model, n, None, noise(n)).x, whole)
    two = Ancestral(top_k=2).sample(model, n, None, noise(n)).x
    with torch.no_grad():
        least = torch.stack([model.log_conditionals(torch.full((1, 5), k))[0, 0] for k in range(3)]).argmin()
    assert not (two[:, 0] == least).any()
    narrow = Ancestral(temperature=0.0).sample(real("normal", 3), 5, None, noise(5)).x
    assert (narrow - narrow[0]).abs().max() < 1e-12


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("name", ["bits", "bits-random", "levels"])
def test_what_is_given_is_kept_and_noise_stays(name, cached):
    model = discrete(name)
    n, D = 30, model.spec.dim
    free = Ancestral().sample(model, n, None, noise(n)).x
    x = (free + 1) % model.spec.support.levels
    mask = torch.zeros(n, D, dtype=torch.bool)
    mask[:, : D // 2] = True
    found = Ancestral(given="top_half", cached=cached).sample(model, n, None, noise(n), given=Given(x, mask)).x
    assert torch.equal(found[mask], x[mask])
    nothing = Given(x, torch.zeros_like(mask))
    assert torch.equal(Ancestral(cached=cached).sample(model, n, None, noise(n), given=nothing).x, free)


def test_completions_follow_the_conditional():
    model, n = discrete("bits"), 20_000
    x = states(model)
    with torch.no_grad():
        p = model.log_prob(x).exp()
    begin = torch.tensor([1.0, 0, 1, 0, 0, 0, 0, 0]).double().expand(n, -1)
    mask = (torch.arange(8) < 3).expand(n, -1)
    draws = Ancestral().sample(model, n, None, noise(n), given=Given(begin, mask)).x
    match = (x[:, :3] == begin[0, :3]).all(1)
    expected = (p[match, None] * x[match]).sum(0) / p[match].sum()
    error = (expected * (1 - expected) / n).sqrt()
    assert ((draws.mean(0) - expected).abs() <= 4 * error + 1e-12).all()


def test_cached_sampling_is_fast():
    """16 rows of 784 bits, 32 masks: the cached walk against the time of a few full passes."""
    import time

    model = MADE(Spec((784,), Support.parse("binary")), masks=8, orderings="random").eval()
    times = []
    with torch.no_grad():
        for work in (
            lambda: [model.log_conditionals_of(m, torch.zeros(2, 784)) for m in range(8)],
            lambda: Ancestral().sample(model, 16, None, noise(16)).x,
        ):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
    assert times[1] < 784 / 3 * times[0]


# --- options ---------------------------------------------------------------------------------------------------------

BAD = [
    ("binary", {"masks": 0}, "model.masks=0: a whole number, at least 1"),
    ("binary", {"orderings": "reversed"}, "model.orderings=reversed: one of natural, random"),
    ("levels:4", {"conditionals": "normal"}, "model.conditionals=normal: one of null, softmax, logistic"),
    ("levels:4", {"encoding": "bits"}, "model.encoding=bits: one of null, onehot, thermometer, value"),
    ("binary", {"activation": "step"}, "model.activation=step: one of relu, elu, silu, softplus, tanh"),
    ("binary", {"hidden": []}, "model.hidden=[]: widths of one hidden layer or more"),
    ("binary", {"dropout": 1.0}, "model.dropout=1.0: a probability below 1"),
    ("binary", {"conditionals": "logistic"}, "model.conditionals=logistic needs ordered levels; this data is binary"),
    ("categorical:3", {"conditionals": "logistic"}, "model.conditionals=logistic needs ordered levels"),
    ("real", {"conditionals": "softmax"}, "model.conditionals=softmax is for levels and categories; this data is real"),
    ("levels:4", {"components": 0}, "model.components=0: a whole number, at least 1"),
    (
        "levels:4",
        {"conditionals": "softmax", "components": 3},
        "model.components=3 is for reals and for model.conditionals=logistic",
    ),
    ("real", {"encoding": "value"}, "model.encoding=value is for levels and categories; this data is real"),
    ("categorical:3", {"encoding": "thermometer"}, "model.encoding=thermometer needs ordered levels"),
    ("binary", {"conditional": True}, "model.conditional=true needs data with labels"),
]


@pytest.mark.parametrize(("support", "options", "message"), BAD)
def test_wrong_options_of_the_model(support, options, message):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        MADE(Spec((4,), Support.parse(support)), **options)


@pytest.mark.parametrize(
    ("key", "value"),
    [("temperature", -1), ("top_k", 0), ("top_k", 1.5), ("top_p", 0.0), ("top_p", 1.2), ("length", 0), ("classes", [])],
)
def test_wrong_options_of_the_sampler(key, value):
    with pytest.raises(UsageError, match=rf"^sampler\.{key}="):
        options.check({key: value}, options.of_class(Ancestral), "sampler", "Ancestral")


@pytest.mark.parametrize("options", [{"top_k": 3}, {"top_p": 0.9}])
def test_truncation_needs_discrete_data(options):
    (key,) = options
    with pytest.raises(ValueError, match=rf"^sampler\.{key}=.* needs discrete data; this model's is real$"):
        Ancestral(**options).check(real("normal"))
    Ancestral(**options).check(discrete("levels"))


def test_masks_of_the_estimator():
    model = discrete("bits-random")
    batch = Batch(states(model)[::37])
    assert isinstance(model, Ensemble)
    with torch.no_grad():
        found = {k: Exact(masks=k).nll(model, batch, noise(1)).nll for k in (1, 2, 4, None)}
        assert torch.equal(found[4], found[None])
        assert torch.allclose(found[1], -model.log_conditionals_of(0, batch.x).sum(1))
        assert torch.equal(found[2], -model.log_prob_of(2, batch.x))
    Exact(masks=4).check(model)
    with pytest.raises(ValueError, match=r"^estimator.masks=5: this model has 4 \(model.masks\)$"):
        Exact(masks=5).check(model)
    with pytest.raises(ValueError, match=r"^estimator.masks=2 needs a model that is an ensemble"):
        Exact(masks=2).check(Gaussian(Spec((2,), Support("real"))))
    with pytest.raises(ValueError, match=r"^estimator.masks=0: a number of members"):
        Exact(masks=0)


# --- runs ------------------------------------------------------------------------------------------------------------

RUN = ["model=made", "trainer.max_steps=40", "trainer.eval_every=20", "logger=none", "n=16", "device=cpu"]


def test_a_run_of_an_ensemble(tmp_path):
    options = ["data=digits", "model.hidden=[16]", "model.direct=false", "model.masks=3", "model.orderings=random"]
    folder = tmp_path / "run"
    run = gencli.train([*RUN, *options, "model.conditional=true", "sampler.top_p=0.9", f"run_dir={folder}"])
    whole = json.loads((folder / "eval" / "test-exact.json").read_text())
    assert (whole["bound"], whole["estimator"], whole["settings"]["masks"]) == ("exact", "exact", None)
    assert (whole["protocol"]["support"], whole["protocol"]["context"]) == ("levels:17", "labels")
    assert cli.main(["eval", f"run={folder}", "split=test", "estimator.masks=1"]) == 0
    first = json.loads((folder / "eval" / "test-exact-masks1.json").read_text())
    assert (first["settings"]["masks"], first["se_estimator"]) == (1, 0)
    assert first["value"] > whole["value"]
    assert cli.main(["eval", f"run={folder}", "estimator.masks=4"]) == 2
    x = run.sample(4)
    assert x.shape == (4, 1, 8, 8)
    assert x.max() <= 16


def test_other_models_refuse_masks_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match=r"^estimator.masks=2 needs a model that is an ensemble"):
        gencli.train(["data=moons", "model=gaussian", "estimator.masks=2", f"run_dir={tmp_path}/run"])
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match=r"^sampler.top_k=3 needs discrete data"):
        gencli.train(["data=moons", "model=made", "sampler.top_k=3", f"run_dir={tmp_path}/run"])


@pytest.mark.slow
def test_training_finds_a_distribution_of_bits():
    """Eight bits, of which each is the parity of two before it but for noise: NLL - H below 0.05 nats."""
    torch.manual_seed(0)
    n, flip = 4000, 0.1
    x = (torch.rand(2 * n, 8) < 0.5).float()
    for d in range(2, 8):
        x[:, d] = ((x[:, d - 1] != x[:, d - 2]) ^ (torch.rand(2 * n) < flip)).float()
    entropy = 2 * math.log(2) - 6 * (flip * math.log(flip) + (1 - flip) * math.log(1 - flip))
    model = MADE(Spec((8,), Support.parse("binary")), hidden=[64])
    model.initialize(x[:n])
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(600):
        loss = -model.log_prob(x[:n][torch.randint(n, (256,), generator=torch.Generator().manual_seed(step))]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        gap = -model.eval().log_prob(x[n:]).mean().item() - entropy
    assert -0.05 < gap < 0.05


def test_a_mixture_completes_by_its_own_conditional():
    """Members are drawn by their posterior given the beginning, else completions do not follow p(rest | given)."""
    model = MADE(Spec((5,), Support("binary", 2)), hidden=[8], masks=3).eval().double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p += 1.5 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
    start = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    both = torch.stack([torch.cat([start, torch.tensor([b]).double()]) for b in (0.0, 1.0)])
    wanted = float(model.log_prob(both).softmax(0)[1])
    n = 20_000
    noise = RowNoise(1, torch.arange(n))
    given = Given(both[:1].expand(n, -1), (torch.arange(5) < 4).expand(n, -1))
    x = model.decode(n, pick=lambda conditional: conditional.sample(noise, 1.0), given=given)
    assert float(x[:, 4].double().mean()) == pytest.approx(wanted, abs=4 * (wanted * (1 - wanted) / n) ** 0.5)


def test_truncation_leaves_the_choice_of_a_member_alone():
    logits = torch.zeros(10_000, 4)
    drawn = Fair(logits).truncated(top_k=1, top_p=0.1).sample(RowNoise(0, torch.arange(10_000)), temperature=0)
    assert (torch.bincount(drawn, minlength=4) / 10_000 - 0.25).abs().max() < 0.02


def test_python_passes_the_same_gates_as_the_command_line(tmp_path):
    run = gencli.train([*RUN, "data=digits", "model.hidden=[8]", f"run_dir={tmp_path}/run"])
    with pytest.raises(UsageError, match=r"^estimator: AIS moves x continuously; this model's x is levels:17"):
        run.nll(estimator="ais")
    assert [record["estimator"] for record in run.results] == ["exact"]
