"""Objectives of discrete x on energies of which every state is known: each has its minimum at the truth."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from energies import noise, spec
from enumerable import Exact, Pairs, discrete, spread, states
from torch import Tensor

from gencli.core.spec import Batch, Spec
from gencli.models.energy.exponential import Quadratic
from gencli.models.energy.reference import Reference
from gencli.objectives.energy.base import RowObjective
from gencli.objectives.energy.conditionals import changes_at
from gencli.objectives.energy.contrastive_divergence import ContrastiveDivergence, PersistentContrastiveDivergence
from gencli.objectives.energy.energy_discrepancy import EnergyDiscrepancy
from gencli.objectives.energy.mcmc_mle import MonteCarloMLE
from gencli.objectives.energy.nce import NCE
from gencli.objectives.energy.pseudo_likelihood import PseudoLikelihood
from gencli.objectives.energy.ratio_matching import RatioMatching

SPECS = {text: discrete(text, dim) for text, dim in {"binary": 5, "levels:3": 3, "categorical:4": 3}.items()}

EXACT = {"pseudo_likelihood": PseudoLikelihood, "ratio_matching": RatioMatching}


@pytest.mark.parametrize("text", SPECS)
@pytest.mark.parametrize("name", EXACT)
def test_conditionals_have_their_minimum_at_the_truth(name, text):
    """Over the population, by enumeration: no slope at the truth, a positive loss more elsewhere."""
    here = SPECS[text]
    truth, objective = Pairs(here), EXACT[name](here)
    p, batch = truth.log_p().detach().exp(), Batch(states(here))
    value = (p * objective.rows(truth, batch, noise())).sum()
    slopes = torch.autograd.grad(value, list(truth.parameters()))
    assert max(float(slope.abs().max()) for slope in slopes) < 1e-12
    for seed in range(1, 6):
        other = Pairs(here)
        with torch.no_grad():
            for parameter, move in zip(other.parameters(), Pairs(here, 0.1, seed).parameters(), strict=True):
                parameter += move
        assert float((p * objective.score(other, batch, noise())).sum() - value.detach()) > 1e-4


@pytest.mark.parametrize("text", SPECS)
def test_conditionals_are_those_of_the_table(text):
    """-sum_d log p(x_d | rest) and half of its Brier score, from the table of all probabilities."""
    here = SPECS[text]
    model, K = Pairs(here), here.support.size
    table = model.log_p().detach().exp().view(*[K] * here.dim)
    nll, brier = torch.zeros_like(table), torch.zeros_like(table)
    for d in range(here.dim):
        given = (table / table.sum(d, keepdim=True)).movedim(d, -1)
        nll -= given.movedim(-1, d).log()
        score = 0.5 * (given[..., None, :] - torch.eye(K).double()).square().sum(-1)
        brier += score.movedim(-1, d)
    batch = Batch(states(here))
    assert torch.allclose(PseudoLikelihood(here).score(model, batch, noise()), nll.flatten())
    assert torch.allclose(RatioMatching(here).score(model, batch, noise()), brier.flatten())
    if K == 2:
        u = (model.changes(batch.x, torch.arange(here.dim)).detach().sum(2)).exp()  # p(x) / p(flipped)
        assert torch.allclose((1 / (1 + u)).square().sum(1), brier.flatten())


@pytest.mark.parametrize("text", SPECS)
def test_some_coordinates_stand_for_all(text):
    here, copies = SPECS[text], 200
    model, x = Pairs(here), states(here)
    where = torch.stack([torch.randperm(here.dim)[:2] for _ in x])
    some, all_of_them = changes_at(model, Batch(x), where, here.support.size), model.changes(x, torch.arange(here.dim))
    assert torch.allclose(some, all_of_them.gather(1, where[..., None].expand_as(some)))
    slopes = [
        torch.autograd.grad(c.square().sum(), list(model.parameters()))
        for c in (
            changes_at(model, Batch(x), torch.arange(here.dim).expand(len(x), -1), here.support.size),
            all_of_them,
        )
    ]
    assert all(torch.allclose(a, b) for a, b in zip(*slopes, strict=True))

    rows = PseudoLikelihood(here, coordinates=2).score(model, Batch(x.repeat(copies, 1)), noise()).view(copies, -1)
    whole = PseudoLikelihood(here, coordinates=here.dim).score(model, Batch(x), noise())
    assert torch.equal(whole, PseudoLikelihood(here).score(model, Batch(x), noise()))
    error = rows.std(0) / math.sqrt(copies)
    assert ((rows.mean(0) - whole).abs() < 4.5 * error + 1e-9).all()


def nce(here: Spec) -> NCE:
    return NCE(here, noise=lambda s: Reference(s, kind="independent"), ratio=3).double()


NOISY: dict[str, tuple[str, Callable[[Spec], RowObjective]]] = {
    "subset": ("binary", lambda s: PseudoLikelihood(s, coordinates=2)),
    "nce": ("binary", nce),
    "nce_of_categories": ("categorical:4", nce),
    "bernoulli": ("binary", lambda s: EnergyDiscrepancy(s, samples=3)),
    "one_sample": ("binary", lambda s: EnergyDiscrepancy(s, samples=1)),
    "grid": ("binary", lambda s: EnergyDiscrepancy(s, perturbation="grid", samples=2)),
    "grid_of_values": ("levels:3", lambda s: EnergyDiscrepancy(s, perturbation="grid", samples=2)),
    "pooling": ("binary", lambda s: EnergyDiscrepancy(s, perturbation="pooling", samples=2)),
    "uniform": ("categorical:4", lambda s: EnergyDiscrepancy(s, samples=3)),
    "ordinal": ("levels:3", lambda s: EnergyDiscrepancy(s, samples=3, t=0.05)),
    "cyclic": ("categorical:4", lambda s: EnergyDiscrepancy(s, perturbation="cyclic", samples=3, t=0.05)),
}


@pytest.mark.parametrize("name", NOISY)
def test_objectives_with_noise_have_their_minimum_at_the_truth(name):
    """All states with their weights, in 25 draws of 25: slopes within 5 standard errors of 0, a loss more elsewhere.

    The comparison shares its noise. Energy discrepancy has w = 1, for which a few samples are enough.
    """
    text, make = NOISY[name]
    here, draws, copies = SPECS[text], 25, 25
    truth, objective = Pairs(here), make(here)
    p, batch = truth.log_p().detach().exp(), Batch(states(here).repeat(copies, 1))
    parameters = list(truth.parameters())
    if isinstance(objective, NCE):
        objective.start(truth, Batch(states(here)[spread(truth.log_p(), 20_000)]))
        with torch.no_grad():
            objective.c.copy_(truth.log_partition())
        parameters.append(objective.c)
    other = Pairs(here)
    with torch.no_grad():
        for parameter, move in zip(other.parameters(), Pairs(here, 0.5, 8).parameters(), strict=True):
            parameter += move

    def loss(model: Pairs, seed: int) -> Tensor:
        rows = objective.rows(model, batch, noise(seed))
        rows = sum(rows) if isinstance(rows, tuple) else rows
        return (p * rows.view(copies, -1).mean(0)).sum()

    slopes, more = [], []
    for seed in range(draws):
        value = loss(truth, seed)
        slopes.append(torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters)]))
        with torch.no_grad():
            more.append(loss(other, seed) - value.detach())
    for found, holds in ((torch.stack(slopes), "zero"), (torch.stack(more), "positive")):
        mean, error = found.mean(0), found.std(0) / math.sqrt(draws)
        if holds == "zero":
            assert (mean.abs() <= 5 * error + 1e-12).all()
            assert float(error.max()) < 0.02
        else:
            assert float(mean) > 5 * float(error)


@pytest.mark.parametrize("text", SPECS)
@pytest.mark.parametrize("kind", [ContrastiveDivergence, PersistentContrastiveDivergence])
def test_contrastive_divergence_with_exact_chains_is_maximum_likelihood(kind, text):
    here, n = SPECS[text], 20_000
    truth, model = Pairs(here), Pairs(here, seed=1)
    x = states(here)[spread(truth.log_p(), n)]
    buffer = {"buffer": n} if kind is PersistentContrastiveDivergence else {}
    objective = kind(here, kernel=Exact(here), steps=1, **buffer)
    objective.start(model, Batch(x[:100]))
    loss = objective.loss(model, Batch(x), noise())
    likelihood = (model.energy(x) + model.log_partition()).mean()
    for ours, theirs in zip(
        *(torch.autograd.grad(v, list(model.parameters())) for v in (loss.value, likelihood)), strict=True
    ):
        assert torch.allclose(ours, theirs, atol=2e-3)
    assert 0 < float(loss.logs["moved"]) < 1


@pytest.mark.parametrize("text", SPECS)
@pytest.mark.parametrize("kind", [ContrastiveDivergence, PersistentContrastiveDivergence, MonteCarloMLE])
def test_chains_of_the_truth_teach_nothing(kind, text):
    """Gibbs chains from samples of the model leave its expectations: the slope is noise around 0."""
    here, n = SPECS[text], 4000
    model = Pairs(here)
    x = states(here)[spread(model.log_p(), n)]
    size = {PersistentContrastiveDivergence: {"buffer": n, "reinit": 0.0}, MonteCarloMLE: {"samples": n}}.get(kind, {})
    objective = kind(here, steps=2, **size).double()
    objective.bind(model)
    objective.start(model, Batch(x))
    for name in ("chains", "x"):
        if name in dict(objective.named_buffers()):
            getattr(objective, name).copy_(x)
            assert getattr(objective, name).dtype == (torch.float64 if text == "binary" else torch.int64)
    slopes = torch.autograd.grad(objective.loss(model, Batch(x), noise()).value, list(model.parameters()))
    assert all(float(slope.abs().max()) < 5 * math.sqrt(0.25 / n) for slope in slopes)  # a probability's error
    score = objective.score(model, Batch(x), noise())
    assert score.shape == (n,)
    other = objective.score(Pairs(here, seed=1), Batch(x), noise())
    assert float((other - score).mean().detach()) > 0


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (ContrastiveDivergence, {"step": 0.1}, r"^objective\.step: .* binary take no gradient steps"),
        (ContrastiveDivergence, {"temperature": 0.5}, r"^objective\.temperature: .* kernel@objective\.kernel"),
        (ContrastiveDivergence, {"metropolis": True}, r"^objective\.metropolis: "),
        (ContrastiveDivergence, {"kl": 1.0}, r"^objective\.kl: "),
        (PersistentContrastiveDivergence, {"noise": 0.1}, r"^objective\.noise: "),
        (MonteCarloMLE, {"leaps": 3}, r"^objective\.leaps: "),
    ],
)
def test_discrete_chains_take_no_gradient_steps(kind, options, message):
    with pytest.raises(ValueError, match=message) as refused:
        kind(discrete("binary", 4), **options)
    assert "\n" not in str(refused.value)


def test_who_is_of_discrete_x():
    for kind in (PseudoLikelihood, RatioMatching):
        with pytest.raises(ValueError, match=r"this model's x is real; objective=score_matching"):
            kind(spec(2))
    for kind in (ContrastiveDivergence, MonteCarloMLE):
        with pytest.raises(ValueError, match=r"^objective\.kernel: Exact moves x that is binary or .*; .* is real"):
            kind(spec(2), kernel=Exact(discrete("binary", 2))).bind(Quadratic(spec(2)))
