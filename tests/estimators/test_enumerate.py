"""Z as a sum, and log-likelihoods with it."""

from __future__ import annotations

import pytest
import torch
from discrete import every, law, log_z, vectors
from energies import noise, quadratic

from gencli.core.spec import Batch, Spec, Support
from gencli.estimators.enumerate import Enumerate
from gencli.methods import enumeration
from gencli.methods.enumeration import log_partition, states
from gencli.models.autoregressive.made import MADE
from gencli.models.energy.rbm import RBM
from gencli.models.energy.tabular import Tabular
from gencli.models.trained import Learned


def measured(model):
    examples = Batch(every(model.spec)[:10].to(next(model.parameters()).dtype))
    return Enumerate().prepare(model, examples, noise())


def machine(spec: Spec, hidden: int) -> RBM:
    torch.manual_seed(0)
    model = RBM(spec, hidden=hidden)
    with torch.no_grad():
        for parameter in (model.a, model.c, model.W):
            parameter.add_(torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("support", ["binary", "levels:3", "categorical:4"])
def test_states_are_all_of_them_once(support):
    spec = Spec((1, 2, 2), Support.parse(support))
    x = every(spec)
    assert len(x.unique(dim=0)) == spec.support.size**4
    assert x.flatten(1)[1].tolist() == [0, 0, 0, 1]
    assert states(spec, torch.tensor([0])).dtype == (torch.float32 if support == "binary" else torch.int64)


def test_probabilities_add_up_to_one(monkeypatch):
    """The NLL of every state, in pieces that do not divide their number."""
    monkeypatch.setattr(enumeration, "CELLS", 13)
    model = Tabular(vectors(3, "categorical:3"))
    with torch.no_grad():
        model.theta.normal_(generator=torch.Generator().manual_seed(0))
    shared = measured(model)
    assert shared.bound == "exact"
    assert shared.diagnostics == {"log_z": shared.state, "log_z_se": 0.0, "terms": 27.0}
    x = every(model.spec)
    estimate = Enumerate().nll(model, Batch(x), noise(), shared)
    assert float((-estimate.nll.detach()).exp().sum()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.slow
def test_gradients_of_parts_are_those_of_the_whole(monkeypatch):
    model = machine(vectors(6), 5).double()
    (whole,) = torch.autograd.grad(log_partition(model), model.W)
    monkeypatch.setattr(enumeration, "CELLS", 100)
    (parts,) = torch.autograd.grad(log_partition(model), model.W)
    assert torch.allclose(parts, whole, atol=1e-12)


def test_hidden_units_are_summed_where_they_are_fewer():
    few, many = machine(vectors(7), 3), machine(vectors(4), 6)
    for model, terms in ((few, 8.0), (many, 16.0)):
        shared = measured(model)
        assert shared.diagnostics["terms"] == terms
        assert shared.state == pytest.approx(log_z(model.double()), abs=1e-10)


def test_a_normalised_model_has_z_of_one():
    torch.manual_seed(0)
    model = MADE(vectors(6), hidden=[16])
    for parameter in model.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    assert measured(model.eval()).state == pytest.approx(0.0, abs=1e-10)
    assert float(law(model.double()).sum()) == pytest.approx(1.0)


def test_models_of_too_many_states_are_refused():
    check = Enumerate().check
    check(machine(Spec((1, 28, 28), Support("binary", 2)), 20), Learned())
    with pytest.raises(ValueError, match=r"^estimator=enumerate sums at most 4,194,304 terms; .* has about 10\^150"):
        check(machine(vectors(784), 500), Learned())
    with pytest.raises(ValueError, match=r"^estimator=enumerate sums over states; this model's x is real"):
        check(quadratic(), Learned())
    conditional = MADE(Spec((4,), Support("binary", 2), classes=3), hidden=[8], conditional=True)
    with pytest.raises(ValueError, match=r"^estimator: Z depends on y"):
        check(conditional, Learned())


@pytest.mark.slow
def test_a_quarter_of_a_million_hidden_states():
    """Over eighteen hidden units, in five parts, as over eighteen visible ones."""
    model = machine(Spec((1, 2, 9), Support("binary", 2)), 18).double()
    over_hidden = measured(model).state
    over_visible = -model.units().free_energy(every(vectors(18)))
    assert over_hidden == pytest.approx(float(over_visible.logsumexp(0).detach()), abs=1e-9)
