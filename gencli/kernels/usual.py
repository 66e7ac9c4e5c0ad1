"""The kernel that is taken where none is named."""

from __future__ import annotations

from typing import Any

from gencli.core.spec import Spec
from gencli.kernels.base import Kernel
from gencli.kernels.gibbs import Gibbs
from gencli.kernels.graphs import TieNoTie
from gencli.kernels.hmc import HMC


def usual(spec: Spec) -> Kernel[Any]:
    """Tie or no tie of networks, Gibbs sweeps of other discrete x, Hamiltonian Monte Carlo of reals."""
    if spec.graph is not None:
        return TieNoTie()
    return Gibbs() if spec.support.discrete else HMC()
