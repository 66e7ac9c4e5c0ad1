"""Unadjusted Langevin dynamics, and its short-run form."""

from __future__ import annotations

from torch import Tensor

from gencli.core.noise import Noise
from gencli.kernels.base import Energy
from gencli.kernels.langevin import langevin
from gencli.samplers.chain import Chain, Visit


class Langevin(Chain):
    """x <- x - step grad E + sqrt(2 step T) xi, all steps alike: a bias of order ``step``, no step is refused.

    The temperature falls geometrically from ``hot`` to ``temperature`` over the first half of the steps.

    Args:
        step: step size.
        steps: number of steps.
        temperature: T at the end; 1 is the model itself.
        hot: T at the beginning; ``temperature`` or more.
        options: those of ``Chain``.

    Raises:
        ValueError: an option out of range.

    References:
        Roberts and Tweedie, "Exponential convergence of Langevin distributions and their discrete
        approximations", 1996.
    """

    def __init__(
        self,
        step: float = 0.01,
        steps: int = 500,
        temperature: float = 1.0,
        hot: float = 1.0,
        init: str = "model",
        init_scale: float = 1.0,
        classes: list[int] | None = None,
    ) -> None:
        super().__init__(steps=steps, init=init, init_scale=init_scale, classes=classes)
        if step <= 0:
            raise ValueError(f"sampler.step={step}: positive")
        if temperature < 0:
            raise ValueError(f"sampler.temperature={temperature}: at least 0")
        if hot != temperature and not hot > temperature > 0:
            raise ValueError(f"sampler.hot={hot}: at least sampler.temperature={temperature}, which is then positive")
        self.step, self.temperature, self.hot = step, temperature, hot

    @property
    def named(self) -> str:
        return f"sampler.step={self.step}"

    def heat(self, i: int) -> float:
        """T at step i."""
        if self.hot == self.temperature:
            return self.temperature
        done = min(1.0, 2 * i / self.steps)
        return self.hot ** (1 - done) * self.temperature**done

    def walk(self, energy: Energy, x: Tensor, noise: Noise, visit: Visit) -> tuple[Tensor, dict[str, float]]:
        for i in range(self.steps):
            before = x
            x, e = langevin(energy, x, noise, step=self.step, temperature=self.heat(i))
            visit(before, e)
        return x, {}


class ShortRun(Chain):
    """x <- x - step grad E + sigma xi for a few steps: the sampler that papers on images call SGLD.

    It is Langevin dynamics of temperature sigma^2 / (2 step), which is often far below 1 and stands in ``diagnostics``
    as ``effective_temperature``: the samples are those of p^(1/T) at best, and of the initial distribution in part.

    Args:
        step: alpha, on the gradient.
        sigma: deviation of the noise.
        steps: number of steps.
        options: those of ``Chain``.

    Raises:
        ValueError: an option out of range.

    References:
        Nijkamp, Hill, Zhu and Wu, "Learning non-convergent non-persistent short-run MCMC toward energy-based model",
        2019.
    """

    def __init__(
        self,
        step: float = 1.0,
        sigma: float = 0.01,
        steps: int = 100,
        init: str = "model",
        init_scale: float = 1.0,
        classes: list[int] | None = None,
    ) -> None:
        super().__init__(steps=steps, init=init, init_scale=init_scale, classes=classes)
        if step <= 0:
            raise ValueError(f"sampler.step={step}: positive")
        if sigma < 0:
            raise ValueError(f"sampler.sigma={sigma}: at least 0")
        self.step, self.sigma = step, sigma

    @property
    def temperature(self) -> float:
        """T = sigma^2 / (2 step)."""
        return self.sigma**2 / (2 * self.step)

    @property
    def named(self) -> str:
        return f"sampler.step={self.step}, sampler.sigma={self.sigma} (effective temperature {self.temperature:.3g})"

    def walk(self, energy: Energy, x: Tensor, noise: Noise, visit: Visit) -> tuple[Tensor, dict[str, float]]:
        for _ in range(self.steps):
            before = x
            x, e = langevin(energy, x, noise, step=self.step, temperature=self.temperature)
            visit(before, e)
        return x, {"effective_temperature": self.temperature}
