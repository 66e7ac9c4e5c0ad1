"""MADE and its ensembles against exact answers."""

from __future__ import annotations

import math

import pytest
import torch
from masks import CLASSES, DISCRETE, REAL, discrete, labels, moved, noise, real, states

from gencli.core.spec import Spec, Support
from gencli.models.autoregressive.made import MADE


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
        axis = torch.linspace(-25, 25, 301, dtype=torch.float64)
        points = torch.cartesian_prod(axis, axis)
        plane = real(name, 2).log_prob(points, torch.ones(len(points), dtype=torch.long)).exp().sum()
    assert plane * (axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("model", [*DISCRETE, *REAL])
def test_no_conditional_sees_itself_or_what_comes_after(model):
    """The derivative of coordinate o(t)'s parameters by the features of o(s) is exactly 0 for s >= t."""
    model = discrete(model) if model in DISCRETE else real(model, 6)
    D = model.spec.dim
    y = labels(1)
    features = torch.randn(1, D, model.encoding.features, dtype=torch.float64)
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
