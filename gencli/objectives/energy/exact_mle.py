"""Maximum likelihood where Z is a sum that can be taken at every step."""

from __future__ import annotations

from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.spec import Batch
from gencli.methods.enumeration import log_partition, require_few
from gencli.models.base import Unnormalized
from gencli.models.trained import Learned
from gencli.objectives.energy.base import RowObjective


class ExactMLE(RowObjective):
    """L = E(x) + log Z, with Z by enumeration: the negative log-likelihood itself, against which others are held.

    Args:
        spec: of model space.
        shared: the options of ``EnergyObjective``.

    Raises:
        ValueError: Z has more than 2^22 terms, or the model is conditional.
    """

    score_name = "nll"
    supports = ("binary", "levels", "categorical")

    def bind(self, model: Unnormalized) -> Learned:
        if model.conditional:
            raise ValueError("objective=exact_mle: Z depends on y; model.conditional=false")
        require_few(model, "objective=exact_mle", "take objective=pcd")
        return super().bind(model)

    def rows(self, model: Unnormalized, batch: Batch, noise: Noise) -> Tensor:
        return model.energy(batch.x) + log_partition(model)
