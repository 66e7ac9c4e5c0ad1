"""What estimators of latent variables share: log Z of a prior that is an energy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from gencli.core.noise import Noise
from gencli.core.options import Range
from gencli.core.spec import Batch
from gencli.estimators.base import Estimator, Shared
from gencli.estimators.bridge import Bridge
from gencli.estimators.partition import Quadrature
from gencli.models.base import LatentVariable

FEW = 2
"""Dimensions of codes that quadrature can do."""
CODES = 512
"""Draws of the prior: where quadrature looks first."""


@dataclass(frozen=True, kw_only=True)
class LatentEstimator(Estimator[LatentVariable]):
    """NLL <= -E log weight + log Z of the prior, with log Z = 0 where the prior is normalised.

    Of an energy of one or two codes log Z is that of ``estimator=quadrature``: where it is exact the number stays an
    upper bound. Of more codes it comes from annealed chains between N(0, I) and the prior, up and down, joined as by
    ``estimator=bridge``. Forward chains understate log Z on average (``log_z_forward``). The reverse ones would
    overstate it if they began at exact samples of the prior, which an energy does not have (``log_z_reverse``). So
    neither side makes the number an upper bound, and it is called an estimate; the two sides and their gap are told.

    Args:
        chains: annealed chains of each direction.
        betas: their steps between N(0, I) and the prior.
    """

    chains: Annotated[int, Range(low=2)] = 256
    betas: Annotated[int, Range(low=2)] = 500

    bound = "upper"

    def idle(self, model: LatentVariable) -> tuple[str, ...]:
        energy = model.latent_energy
        return () if energy is not None and energy.spec.dim > FEW else ("chains", "betas")

    def measure_prior(self, model: LatentVariable, noise: Noise) -> Shared:
        """log Z as the state, its variance, and what the NLL of all rows is with it."""
        energy = model.latent_energy
        if energy is None:
            return Shared(self.bound)
        found: Shared
        if energy.spec.dim <= FEW:
            found = Quadrature().prepare(energy, Batch(model.codes(CODES, noise)), noise)
        else:
            start = energy.start(CODES, noise=noise)  # its spread is the scale of the first steps
            found = Bridge(chains=self.chains, betas=self.betas).prepare(energy, Batch(start), noise)
        said = {key if key.startswith("log_z") else f"log_z_{key}": v for key, v in found.diagnostics.items()}
        return replace(found, bound="upper" if found.bound in ("exact", "upper") else "estimate", diagnostics=said)


def log_z_of(model: LatentVariable, shared: Shared) -> float:
    """What ``measure_prior`` found, which the NLL of every row has beside the bound."""
    if model.latent_energy is None:
        return 0.0
    found: float = shared.state
    return found
