"""The optimal permutation, against scipy's solver on the costs as they are."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from gencli.objectives.diffusion.coupling import _potential, assignment


def moons(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    angle = torch.pi * torch.rand(n, generator=generator)
    upper = torch.stack([angle.cos(), angle.sin()], 1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], 1)
    x = torch.where((torch.rand(n, generator=generator) < 0.5)[:, None], upper, lower)
    return x + 0.05 * torch.randn(n, 2, generator=generator)


def normal(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


CASES = {
    "moons": (moons(200), normal(200, 2)),
    "images": (normal(100, 1, 4, 4, seed=2), normal(100, 1, 4, 4)),
    "far": (1e3 + moons(100), normal(100, 2)),
    "near": (1e-4 * moons(100), normal(100, 2)),
    "wide": (torch.cat([moons(90), 1e4 * normal(10, 2, seed=3)]), normal(100, 2)),
    "twins": (moons(20).repeat(5, 1), normal(100, 2)),
    "one value": (torch.ones(50, 2), normal(50, 2)),
    "zeros": (torch.zeros(50, 2), normal(50, 2)),
    "line": (normal(100, 1, seed=4), normal(100, 1)),
    "one": (normal(1, 2, seed=5), normal(1, 2)),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_optimum(name):
    x, eps = CASES[name]
    order = assignment(x, eps)
    assert torch.equal(order.sort().values, torch.arange(len(x)))
    cost = -(x.flatten(1).double() @ eps.flatten(1).double().T)
    rows, columns = linear_sum_assignment(cost.numpy())
    best, found = cost[rows, columns].sum(), cost[torch.arange(len(x)), order].sum()
    assert float(found - best) <= 1e-12 * float(cost.abs().sum())
    if name in ("moons", "images", "far", "near", "line"):  # the optimum is unique
        assert order.tolist() == columns.tolist()


def test_on_a_line_the_order_is_kept():
    x, eps = CASES["line"]
    assert torch.equal(eps[assignment(x, eps), 0].argsort(), x[:, 0].argsort())


def test_the_potential_leaves_little_of_the_costs():
    """What the solver is given: the best permutation costs little beside the mean of the rest."""
    x, eps = CASES["moons"]
    cost = -(x @ eps.T)
    cost = (cost - cost.amin(1, keepdim=True)) / (cost - cost.amin(1, keepdim=True)).mean()
    order = assignment(x, eps)
    left = cost - _potential(cost)
    left = left - left.amin(1, keepdim=True)
    rows = torch.arange(len(x))
    assert left[rows, order].mean() < 0.01 < 0.1 * cost[rows, order].mean()
