"""The kernel of chains where none is named: what it costs, and that objectives, samplers and estimators agree."""

from __future__ import annotations

import pytest
import torch
from energies import noise

from gencli.core.spec import Spec, Support
from gencli.estimators.ais import AIS
from gencli.kernels.gibbs import Gibbs
from gencli.kernels.hmc import HMC
from gencli.kernels.informed import SWEPT, DiscreteMALA
from gencli.kernels.tempering import Tempering
from gencli.methods.chains import energy_of, usual
from gencli.models.energy.discrete_ebm import DiscreteEBM
from gencli.models.energy.ebm import EBM
from gencli.models.energy.rbm import RBM
from gencli.nn.energy import EnergyNet
from gencli.objectives.energy.contrastive_divergence import ContrastiveDivergence
from gencli.objectives.energy.mcmc_mle import MonteCarloMLE
from gencli.samplers.chain import Chain


def net(i, o, c):
    return EnergyNet(i, o, c, vector={"hidden": [4]}, image={"width": [2]})


def network_of(dim: int, support: str = "binary") -> DiscreteEBM:
    spec = Spec((dim,), Support.parse(support))
    return DiscreteEBM(spec, net=net).eval()


@pytest.mark.parametrize(
    ("model", "kernel"),
    [
        (network_of(SWEPT), Gibbs),
        (network_of(SWEPT + 1), DiscreteMALA),
        (network_of(SWEPT // 2 + 1, "categorical:3"), DiscreteMALA),
        (RBM(Spec((SWEPT + 1,), Support.parse("binary")), hidden=2), Gibbs),  # it resamples blocks
        (EBM(Spec((SWEPT + 1,), Support.parse("real")), net=net), HMC),
    ],
)
def test_every_part_takes_the_same_kernel(model, kernel):
    assert type(usual(model)) is kernel
    assert type(Chain().transition(model)) is kernel
    if model.spec.support.discrete:
        x = model.start(2, noise=noise())
        assert type(Tempering(replicas=2).init(energy_of(model), x).kernel) is kernel
        assert type(AIS()._kernel(model, torch.zeros(2, *model.spec.shape))) is kernel
        for objective in (ContrastiveDivergence(model.spec), MonteCarloMLE(model.spec)):
            objective.bind(model)
            assert type(objective.kernel) is kernel


def test_no_transition_asks_a_network_for_every_coordinate():
    """A sweep of Gibbs sampling over 784 bits took 784 passes a chain, which is what a default must never cost."""
    model, rows = network_of(784), 0

    def count(module, inputs):
        nonlocal rows
        rows += len(inputs[0])

    model.net.register_forward_pre_hook(count)
    kernel, energy = usual(model), energy_of(model)
    x = model.start(3, noise=noise())
    state = kernel.init(energy, x)
    kernel.step(energy, state, noise())
    assert 0 < rows <= 3 * 4
