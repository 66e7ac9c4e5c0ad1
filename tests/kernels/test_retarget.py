"""What annealed chains ask of a kernel: settings that follow an energy and then stay, and its reversal in time."""

from __future__ import annotations

import pytest
import torch
from energies import noise, normal, quadratic
from torch import Tensor

from gencli.core.spec import Support
from gencli.kernels.base import Energy
from gencli.kernels.gibbs import Gibbs
from gencli.kernels.hmc import HMC

BITS = 4


def states() -> Tensor:
    """(2^4, 4)."""
    return torch.cartesian_prod(*[torch.arange(2.0)] * BITS)


def couplings() -> Energy:
    """Random fields and couplings of four bits."""
    b, w = normal(BITS, 1)[:, 0], 2 * normal(BITS, BITS, 1).triu(1)
    return Energy(lambda x: -(x.double() @ b) - ((x.double() @ w) * x).sum(1), Support("binary", 2))


def transitions(kernel: Gibbs, energy: Energy) -> Tensor:
    """T(x' | x) of a sweep, (16, 16), as the product of what each coordinate does."""
    x, matrix = states(), torch.eye(2**BITS, dtype=torch.float64)
    order = range(BITS) if not kernel.backwards else reversed(range(BITS))
    for w in order:
        p = (-energy.changes(x, torch.tensor([w])))[:, 0].softmax(1)
        step = torch.zeros_like(matrix)
        for k in range(2):
            to = x.clone()
            to[:, w] = k
            step[torch.arange(len(x)), (to @ torch.tensor([8.0, 4.0, 2.0, 1.0])).long()] += p[:, k]
        matrix = matrix @ step
    return matrix


def test_a_sweep_and_its_reversal_are_one_chain_in_both_directions_of_time():
    """pi(x) T(x' | x) = pi(x') T~(x | x'); drawn sweeps have these matrices, within four standard errors."""
    energy, n = couplings(), 4000
    pi = (-energy(states())).softmax(0)
    back = Gibbs().reversal()
    assert back.reversal() == Gibbs()
    forth, away = (transitions(kernel, energy) for kernel in (Gibbs(), back))
    assert torch.allclose(pi[:, None] * forth, (pi[:, None] * away).T, atol=1e-12)
    assert not torch.allclose(forth, away, atol=1e-2)
    for kernel, matrix in ((Gibbs(), forth), (back, away)):
        start = states()[5].expand(n, -1)
        ends = kernel.step(energy, kernel.init(energy, start), noise(3))[0].x @ torch.tensor([8.0, 4.0, 2.0, 1.0])
        share = torch.bincount(ends.long(), minlength=2**BITS) / n
        assert ((share - matrix[5]).abs() <= 4 * (matrix[5] * (1 - matrix[5]) / n).sqrt() + 1e-9).all()


@pytest.mark.parametrize("step_size", [0.05, 3.0])
def test_settings_follow_an_energy_that_changes_and_are_frozen_afterwards(step_size):
    """Scales that fall by 5 percent a step: acceptance stays near its target, by the one step size of all chains."""
    energy, x, source = Energy(quadratic().energy), normal(100, 2), noise()
    kernel = HMC(leaps=3, step_size=step_size, target=0.7, jitter=0.0)
    state, rates = kernel.init(energy, x), []
    for i in range(60):
        at = energy.scaled(1.05 ** (2 * max(0, i - 20)))
        state = kernel.retarget(at, state.x, state)
        assert len(state.size.unique()) == 1
        state, info = kernel.step(at, state, source)
        state = kernel.adapt(state, info)
        rates.append(float(info.accept.mean()))
    assert sum(rates[30:]) / 30 == pytest.approx(0.7, abs=0.12)
    few = kernel.retarget(at, state.x[:3], state)
    again = kernel.retarget(at, kernel.step(at, few, source)[0].x, state)
    assert torch.equal(few.size, again.size)
