"""Tables of energies: every answer is a sum that can be written down."""

from __future__ import annotations

import pytest
import torch
from discrete import every, law, vectors
from energies import noise

from gencli.core.spec import Batch
from gencli.kernels.energy import brute_force
from gencli.methods.chains import energy_of
from gencli.models.energy.tabular import Tabular
from gencli.objectives.energy.exact_mle import ExactMLE


def table(dim: int = 3, support: str = "categorical:3") -> Tabular:
    model = Tabular(vectors(dim, support))
    with torch.no_grad():
        model.theta.copy_(torch.randn(len(model.theta), generator=torch.Generator().manual_seed(0)))
    return model.double()


@pytest.mark.parametrize("support", ["binary", "levels:4", "categorical:3"])
def test_every_state_has_its_own_number(support):
    model = table(2, support)
    assert torch.equal(model.energy(every(model.spec)), model.theta)


@pytest.mark.parametrize("support", ["binary", "categorical:3"])
def test_changes_are_those_of_the_energy(support):
    model = table(3, support)
    x, where = every(model.spec), torch.tensor([2, 0])
    exact = brute_force(model.energy, x, where, model.spec.support.size)
    assert torch.allclose(model.changes(x, where), exact, atol=1e-12)
    assert torch.allclose(energy_of(model).changes(x, where), exact, atol=1e-12)


def test_it_starts_at_the_frequencies():
    model = Tabular(vectors(1, "categorical:3"))
    model.initialize(torch.tensor([[0], [0], [0], [2]]))
    assert torch.allclose(law(model), torch.tensor([4, 1, 2]).double() / 7, atol=1e-6)


def test_maximum_likelihood_is_the_frequencies():
    """The gradient of E + log Z is p - q, and vanishes where every seen state has its share."""
    x = torch.randint(3, (200, 2), generator=torch.Generator().manual_seed(0))
    shares = torch.bincount(3 * x[:, 0] + x[:, 1], minlength=9).double() / 200
    model = table(2).double()
    objective = ExactMLE(model.spec)
    objective.bind(model)
    loss = objective.loss(model, Batch(x), noise()).value
    (gradient,) = torch.autograd.grad(loss, model.theta)
    assert torch.allclose(gradient, shares - law(model), atol=1e-12)
    for _ in range(60):  # Newton's steps with the diagonal of the Fisher information
        (gradient,) = torch.autograd.grad(objective.loss(model, Batch(x), noise()).value, model.theta)
        with torch.no_grad():
            model.theta.sub_(gradient / law(model).clamp(min=1e-3) * 0.5)
    assert torch.allclose(law(model), shares, atol=1e-6)
    score = objective.score(model, Batch(x), noise()).mean()
    assert float(score) == pytest.approx(-float((shares * shares.log()).sum()), abs=1e-6)


def test_a_table_too_large_is_refused():
    with pytest.raises(ValueError, match=r"^model=tabular: 2\^21 states; a table holds 1,048,576 at most"):
        Tabular(vectors(21))
    with pytest.raises(ValueError, match=r"^objective=exact_mle sums at most"):
        ExactMLE(vectors(30)).bind(_Wide(vectors(30)))


class _Wide(Tabular):
    """A model of more states than a table has."""

    def __init__(self, spec) -> None:
        super(Tabular, self).__init__(spec)
        self.theta = torch.nn.Parameter(torch.zeros(1))
