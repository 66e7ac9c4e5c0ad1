"""Independent samples, straight from the model."""

from __future__ import annotations

from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.spec import Given
from gencli.models.base import DirectSampling
from gencli.samplers.base import Sampler


class Direct(Sampler[DirectSampling]):
    """x ~ p_theta in the model's own sequential passes.

    Args:
        temperature: scales the standard deviation of the base noise; 1 is the model itself, less is safer and duller.
        classes: labels of a conditional model, dealt in turn; None: all classes.

    Raises:
        ValueError: the temperature is negative.
    """

    def __init__(self, temperature: float = 1.0, classes: list[int] | None = None) -> None:
        super().__init__(classes)
        if temperature < 0:
            raise ValueError(f"sampler.temperature={temperature}: a scale is not negative")
        self.temperature = temperature

    def sample(
        self, model: DirectSampling, n: int, y: Tensor | None, noise: Noise, given: Given | None = None
    ) -> Tensor:
        return model.sample(n, y, noise=noise, temperature=self.temperature)
