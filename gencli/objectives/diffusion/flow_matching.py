"""Flow matching: regress on the velocity alpha' x_0 + sigma' eps of pairs of data and noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from torch import Tensor

from gencli.core.spec import Spec
from gencli.models.base import TimeField
from gencli.models.trained import Learned
from gencli.objectives.diffusion.coupling import assignment
from gencli.objectives.diffusion.denoise import FreeTimes
from gencli.paths.base import Path, Prediction


class FlowMatching(FreeTimes):
    """E |velocity(x_t, t) - (alpha' x_0 + sigma' eps)|^2, averaged over coordinates.

    ``independent``: eps is drawn for itself. ``optimal``: within each batch the pairs of x_0 and eps are those whose
    squared distances have the least sum, so that the lines cross less and become straighter. The velocity is then still
    valid, while eps has no longer the law given x_t that turns it into a score: samplers that need the score refuse.

    Args:
        spec: what one example is.
        coupling: ``independent`` or ``optimal``. In validation, pairs are those of its batch.
        shared: the options of ``FreeTimes``.

    References:
        Lipman et al., "Flow matching for generative modeling", 2023; Pooladian et al., "Multisample flow matching:
        straightening flows with minibatch couplings", 2023; Tong et al., "Improving and generalizing flow-based
        generative models with minibatch optimal transport", 2024.
    """

    def __init__(
        self,
        spec: Spec,
        coupling: Literal["independent", "optimal"] = "independent",
        **shared: Any,
    ) -> None:
        super().__init__(spec, **shared)
        self.coupling = coupling
        self.static = coupling == "independent"  # optimal pairs are found on the host

    def bind(self, model: TimeField) -> Learned:
        return replace(super().bind(model), score=self.coupling == "independent")

    def factor(self, path: Path, prediction: Prediction) -> Tensor:
        return prediction.level.turn

    def pair(self, x: Tensor, eps: Tensor) -> Tensor:
        return eps if self.coupling == "independent" else eps[assignment(x, eps)]
