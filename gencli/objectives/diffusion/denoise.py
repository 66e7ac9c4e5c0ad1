"""Denoising: noise the data, and regress on what was mixed.

x_t = alpha x_0 + sigma eps. All predictions are linear in each other given x_t, so one error of v counts for all:
eps - eps^ = alpha (v - v^), x_0 - x_0^ = -sigma (v - v^), velocity - velocity^ = W (v - v^).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gencli.core.noise import Noise
from gencli.core.options import Count, Positive
from gencli.core.spec import Batch, Spec
from gencli.core.tensors import like
from gencli.models.base import TimeField, VelocityField
from gencli.models.trained import Learned
from gencli.objectives.base import Loss, Objective, Turn
from gencli.objectives.diffusion.times import Distribution, LogitNormal, LogNoise, LogSNR, Times, Uniform, stratified
from gencli.paths.base import Path, Prediction


class Regression(Objective[TimeField]):
    """E over t, x_0, eps of (factor (v - v^))^2, averaged over coordinates; subclasses give the factor.

    Times are stratified: over the rows of a batch in training, over ``passes`` evaluations of each row in
    validation, so that a row's score has little noise and does not depend on its batch.

    Args:
        spec: what one example is.
        times: distribution of t.
        passes: times at which validation scores each row.
    """

    score_name = "loss"

    static: bool = False
    """Whether its turn is (``Turn.static``): each loss promises it for itself."""

    def __init__(self, spec: Spec, times: Times, passes: Count = 4) -> None:
        super().__init__(spec)
        self.times, self.passes = times, passes

    def bind(self, model: TimeField) -> Learned:
        if model.path.interior():
            raise ValueError("model.path is learned, which only the bound knows how to do: objective=vlb")
        return Learned()

    @abstractmethod
    def factor(self, path: Path, prediction: Prediction) -> Tensor:
        """What v - v^ is multiplied with: broadcast to (B, *)."""

    def pair(self, x: Tensor, eps: Tensor) -> Tensor:
        """Noise eps (B, *) in the order in which it meets the examples of a batch."""
        return eps

    def errors(self, model: TimeField, x: Tensor, y: Tensor | None, t: Tensor, eps: Tensor) -> Tensor:
        """(B, *) at times t (B,) with noise eps, whose mean over a row is the loss of that row."""
        path, t = model.path, model.snap(t)
        prediction = model.predict(path.noised(x, eps, t), t, y)
        factor = self.factor(path, prediction)
        return F.mse_loss(factor * prediction.v, factor * prediction.level.v(x, eps), reduction="none")

    def turns(self, model: TimeField) -> list[Turn]:

        def loss(batch: Batch, noise: Noise) -> Loss:
            x = batch.x
            t = self.times.at(model.path, stratified(noise.rand(len(x))))
            y = hide(model, batch.y, noise)
            return Loss(self.errors(model, x, y, t, self.pair(x, noise.randn(*x.shape))).mean())

        return [Turn("model", list(model.parameters()), loss, static=self.static)]

    def score(self, model: TimeField, batch: Batch, noise: Noise) -> Tensor:
        x = batch.x
        return self.passed(model, x, batch.y, noise.rand(len(x)), lambda: self.pair(x, noise.randn(*x.shape)))

    def passed(self, model: TimeField, x: Tensor, y: Tensor | None, start: Tensor, eps: Callable[[], Tensor]) -> Tensor:
        """The loss of each row (B,) over ``passes`` stratified times from start (B,) on, each with noise eps()."""
        total = torch.zeros_like(start)
        for k in range(self.passes):
            t = self.times.at(model.path, (start + k / self.passes) % 1)
            total = total + self.errors(model, x, y, t, eps()).flatten(1).mean(1)
        return total / self.passes


def hide(model: VelocityField, y: Tensor | None, noise: Noise) -> Tensor | None:
    """Labels (B,) or contexts (B, *), each hidden (-1, or NaN) with the model's probability ``label_dropout``."""
    if y is None or not model.label_dropout:
        return y
    hidden = noise.rand(len(y)) < model.label_dropout
    if y.is_floating_point():
        return torch.where(hidden.view(-1, *[1] * (y.dim() - 1)), math.nan, y)
    return torch.where(hidden, -1, y)


class FreeTimes(Regression):
    """A regression at times whose distribution is an option.

    Args:
        spec: what one example is.
        times: ``uniform``, ``logit_normal`` or ``log_snr``.
        location: of ``logit_normal``.
        spread: of ``logit_normal``.
        passes: times at which validation scores each row.
    """

    times: Distribution

    def __init__(
        self,
        spec: Spec,
        *,
        times: Literal["uniform", "logit_normal", "log_snr"] = "uniform",
        location: float = 0.0,
        spread: Positive = 1.0,
        passes: Count = 4,
    ) -> None:
        super().__init__(
            spec,
            {"uniform": Uniform(), "logit_normal": LogitNormal(location, spread), "log_snr": LogSNR()}[times],
            passes,
        )


class Denoise(FreeTimes):
    """The losses of diffusion models.

    ``simple``: squared error of what the network gives, in its own units (of eps: "L_simple"). ``snr``: SNR times the
    squared error of x_0, which is that of eps whatever the network gives. ``min_snr``: min(SNR, gamma) times the
    squared error of x_0. ``likelihood``: -1/2 (d log-SNR/dt) / p(t) times the squared error of eps, the diffusion part
    of the bound on -log p(x) in nats a dimension; its variance is least under ``times=log_snr``. The other weightings
    leave the distribution of times as part of the loss.

    Args:
        spec: what one example is.
        weighting: one of the above.
        gamma: of ``min_snr``.
        shared: the options of ``FreeTimes``.

    References:
        simple: Ho, Jain and Abbeel, "Denoising diffusion probabilistic models", 2020. min_snr: Hang et al., "Efficient
        diffusion training via min-SNR weighting strategy", 2023. likelihood: Song, Durkan, Murray and Ermon, "Maximum
        likelihood training of score-based diffusion models", 2021; Kingma et al., "Variational diffusion models", 2021.
    """

    static = True

    def __init__(
        self,
        spec: Spec,
        weighting: Literal["simple", "snr", "min_snr", "likelihood"] = "simple",
        gamma: Positive = 5.0,
        **shared: Any,
    ) -> None:
        super().__init__(spec, **shared)
        self.weighting, self.gamma = weighting, gamma

    def bind(self, model: TimeField) -> Learned:
        if self.weighting == "likelihood" and model.timesteps:
            raise ValueError("objective.weighting=likelihood is of continuous time; model.timesteps=null")
        return super().bind(model)

    def factor(self, path: Path, prediction: Prediction) -> Tensor:
        if self.weighting == "simple":
            return 1 / prediction.scale
        level = prediction.level
        if self.weighting == "snr":
            return level.alpha
        if self.weighting == "min_snr":
            return torch.minimum(level.alpha, math.sqrt(self.gamma) * level.sigma)
        t = prediction.t
        return like((-0.5 * path.d_log_snr(t) / self.times.density(path, t)).sqrt() * path.alpha(t), prediction.x)


class DSM(Regression):
    """Denoising score matching over a range of noise: E sigma^2 |score + eps / sigma|^2, which is that of eps.

    ln(sigma/alpha) is uniform between the logarithms of ``low`` and ``high``.

    Args:
        spec: what one example is.
        low: least noise sigma/alpha, in units of model space.
        high: most noise.
        passes: times at which validation scores each row.

    Raises:
        ValueError: low is not below high, or a range beyond the path's own.

    References:
        Vincent, "A connection between score matching and denoising autoencoders", 2011; Song and Ermon, "Generative
        modeling by estimating gradients of the data distribution", 2019.
    """

    static = True

    def __init__(self, spec: Spec, low: Positive = 0.01, high: Positive = 50.0, passes: Count = 4) -> None:
        if not low < high:
            raise ValueError(f"objective.low={low}: below objective.high={high}")
        super().__init__(spec, LogNoise(low, high), passes)
        self.low, self.high = low, high

    def bind(self, model: TimeField) -> Learned:
        learned, path = super().bind(model), model.path
        ends = (-0.5 * path.log_snr(torch.tensor([path.t_min, path.t_max], dtype=torch.float64))).exp().tolist()
        for name, value in (("low", self.low), ("high", self.high)):
            if not ends[0] * (1 - 1e-6) <= value <= ends[1] * (1 + 1e-6):
                raise ValueError(
                    f"objective.{name}={value}: sigma/alpha of this path goes from {ends[0]:.3g} to {ends[1]:.3g}"
                )
        return learned

    def factor(self, path: Path, prediction: Prediction) -> Tensor:
        return prediction.level.alpha
