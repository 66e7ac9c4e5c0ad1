"""Independent samples, straight from the model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import NonNegative
from gencli.core.spec import Given
from gencli.models.base import DirectSampling
from gencli.samplers.base import Sampler, Samples


@dataclass(frozen=True, kw_only=True)
class Direct(Sampler[DirectSampling]):
    """x ~ p_theta in the model's own sequential passes.

    Args:
        temperature: scales the standard deviation of the base noise; 1 is the model itself, less is safer and duller.
    """

    temperature: NonNegative = 1.0

    def sample(
        self, model: DirectSampling, n: int, y: Tensor | None, noise: Noise, given: Given | None = None
    ) -> Samples:
        return Samples(*model.draw(n, y, noise=noise, temperature=self.temperature))
