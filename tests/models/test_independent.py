"""Independent coordinates as a density, as an energy of discrete x, and as the base that others start from."""

from __future__ import annotations

import pytest
import torch
from energies import noise

from gencli.core.spec import Given, Spec, Support
from gencli.kernels.energy import brute_force
from gencli.methods.chains import energy_of
from gencli.models.classical.independent import Independent
from gencli.models.energy.reference import Reference


def space(kind, shape):
    return Spec(shape, Support.parse(kind))


def rows(of, n=400, seed=0):
    """Rows whose coordinates lean to their last value, in the dtype that models have."""
    u = torch.rand(n, *of.shape, generator=torch.Generator().manual_seed(seed))
    x = (of.support.size * u.sqrt()).floor()
    return x if of.support.kind == "binary" else x.long()


SPACES = [space("binary", (1, 3, 2)), space("binary", (5,)), space("categorical:3", (4,)), space("levels:5", (1, 2, 2))]


@pytest.mark.parametrize("of", SPACES, ids=str)
def test_changes_are_those_of_the_energy(of):
    x = rows(of)
    for model in (Independent(of), Reference(of), Reference(of, widen=1.5)):
        model.initialize(x)
        energy, where = energy_of(model), torch.tensor([3, 0])
        torch.testing.assert_close(
            energy.changes(x[:7], where), brute_force(energy.of, x[:7], where, of.support.size), atol=2e-5, rtol=1e-5
        )
        assert [block.tolist() for block in energy.blocks] == [list(range(of.dim))]


@pytest.mark.parametrize("of", SPACES, ids=str)
def test_samples_and_decoded_rows_have_the_probabilities_of_the_model(of):
    x = rows(of, 20_000)
    model = Independent(of)
    model.initialize(x)
    drawn = model.sample(20_000, noise=noise())
    decoded = model.decode(20_000, pick=lambda conditional: conditional.sample(noise(1)))
    assert drawn.dtype == decoded.dtype == x.dtype
    for some in (drawn, decoded):
        assert some.shape == x.shape
        for k in range(of.support.size):
            p = model.log_conditionals(torch.full_like(x[:1], k))[0].detach().double().exp()
            error = (p * (1 - p) / len(some)).sqrt()
            assert float((((some == k).double().mean(0) - p) / error).abs().max()) < 4.5
    kept = Given(1 - x if of.support.kind == "binary" else x, torch.ones(x.shape, dtype=torch.bool))
    assert torch.equal(model.decode(len(x), pick=lambda c: c.sample(noise()), given=kept), kept.x)


def test_a_reference_of_discrete_x_is_normalised_and_widens_as_a_power():
    of = space("categorical:3", (3,))
    every = torch.cartesian_prod(*[torch.arange(3)] * 3)
    base, wide = Reference(of), Reference(of, widen=2.0)
    for q in (base, wide):
        q.initialize(rows(of))
        assert float(q.log_prob(every).double().exp().sum()) == pytest.approx(1, abs=1e-6)
    narrow = base.log_prob(every).double() / 4
    torch.testing.assert_close(wide.log_prob(every).double(), narrow - narrow.logsumexp(0), atol=1e-6, rtol=0)


def test_a_reference_is_of_its_support():
    with pytest.raises(ValueError, match=r"^kind=gmm: x is binary here, which needs independent or run$"):
        Reference(space("binary", (4,)), kind="gmm")
    with pytest.raises(ValueError, match=r"^kind=independent: x is real here, which needs gaussian, gmm or run$"):
        Reference(space("real", (4,)), kind="independent")
