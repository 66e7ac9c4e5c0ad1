"""Fast ways of flows equal the plain ones: halves kept apart, rows in pieces."""

from __future__ import annotations

import functools

import pytest
import torch
from densities import noise

from gencli.core.spec import Spec, Support
from gencli.models.flows import flow
from gencli.models.flows.coupling import Coupling, CouplingFlow
from gencli.models.flows.flow import Chain
from gencli.models.flows.layers import Permutation
from gencli.models.flows.maps import Additive, Affine, RationalQuadratic
from gencli.nn.auto import Auto

NET = functools.partial(Auto, vector={"hidden": [8]}, tiny={"hidden": [8]}, image={"width": 4})


def built(shape, map, mixing):
    torch.manual_seed(0)
    model = CouplingFlow(Spec(shape, Support("real")), map=map, mixing=mixing, net=NET, couplings=5, steps=4).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def forward(chain, x, context=None):
    log_det = torch.zeros(len(x), dtype=x.dtype)
    for transform in chain.transforms:
        x, change = transform(x, context)
        log_det = log_det + change
    return x, log_det


def inverse(chain, z, context=None):
    for transform in reversed(chain.transforms):
        z = transform.inverse(z, context)
    return z


@pytest.mark.parametrize("map", [Additive(), Affine(), RationalQuadratic(4)], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("mixing", ["masks", "random", "linear"])
@torch.no_grad()
def test_a_chain_of_couplings_equals_its_transforms_one_by_one(map, mixing):
    for shape in [(2,), (3,), (8,), (9,), (3, 8, 8)]:
        chain = built(shape, map, mixing).transform
        x = torch.randn(6, *shape, dtype=torch.double)
        (z, log_det), (z_plain, log_det_plain) = chain(x), forward(chain, x)
        assert (z - z_plain).abs().max() < 1e-12
        assert (log_det - log_det_plain).abs().max() < 1e-12
        assert (chain.inverse(z) - inverse(chain, z)).abs().max() < 1e-12


def test_gradients_and_a_context_pass_through_halves():
    torch.manual_seed(0)
    parts = [Coupling((5,), NET, Affine(), 3), Permutation([4, 3, 2, 1, 0]), Coupling((5,), NET, Affine(), 3)]
    chain = Chain(parts).double()
    for parameter in chain.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, context = torch.randn(6, 5, dtype=torch.double), torch.randn(6, 3, dtype=torch.double)
    grads = []
    for way in (chain, functools.partial(forward, chain)):
        z, log_det = way(x, context)
        grads.append(torch.autograd.grad((z.square().sum(1) + log_det).sum(), list(chain.parameters())))
    assert max((a - b).abs().max() for a, b in zip(*grads, strict=True)) < 1e-12


@pytest.mark.parametrize(
    "order", [[2, 3, 0, 1], [0, 1, 2, 3], [3, 4, 0, 1, 2], [4, 0, 1, 2, 3], [2, 3, 4, 0, 1], [1, 0], [4, 2, 0, 3, 1, 5]]
)
def test_a_permutation_of_halves_is_the_permutation(order):
    x = torch.arange(2.0 * len(order)).view(2, -1)
    permutation = Permutation(order)
    halves, log_det = permutation.halves(*flow.split_halves(x))
    assert log_det is None
    assert torch.equal(torch.cat(halves, 1), x[:, order])
    assert [len(half[0]) for half in halves] == [len(order) // 2, len(order) - len(order) // 2]
    assert torch.equal(torch.cat(permutation.inverse_halves(*halves), 1), x)


def test_fixed_masks_exchange_halves_without_a_copy():
    a, b = torch.randn(3, 4), torch.randn(3, 4)
    permutations = [m for m in built((8,), Affine(), "masks").modules() if isinstance(m, Permutation)]
    for permutation in permutations[1:]:
        halves, _ = permutation.halves(a, b)
        assert halves[0] is b
        assert halves[1] is a


def test_a_permutation_that_is_loaded_is_the_one_of_the_file():
    stored, fresh = Permutation([2, 3, 0, 1]), Permutation([0, 2, 1, 3])
    fresh.load_state_dict(stored.state_dict())
    x = torch.randn(2, 4)
    assert torch.equal(torch.cat(fresh.halves(*flow.split_halves(x))[0], 1), stored(x)[0])


def test_rows_in_pieces_are_the_rows(monkeypatch):
    model = built((5,), RationalQuadratic(4), "masks")
    x = torch.randn(7, 5, dtype=torch.double)
    with torch.no_grad():
        whole, drawn = model.log_prob(x), model.sample(7, noise=noise(7))
        monkeypatch.setattr(flow, "PIECE", 3)
        assert (model.log_prob(x) - whole).abs().max() < 1e-12
        assert (model.sample(7, noise=noise(7)) - drawn).abs().max() < 1e-12
        assert model.log_prob(x[:0]).shape == (0,)
