"""Diffusion models and flow matching: a network says at every time how mass moves along a path.

x_t = alpha x_0 + sigma eps. The network sees x_t scaled to unit variance, the time and the class, and gives one number
a coordinate, which ``Prediction`` turns into velocity, score, noise and denoised mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencli.core.errors import RunFailed
from gencli.core.options import BelowOne, Count
from gencli.core.spec import Spec
from gencli.core.tensors import shared
from gencli.models.base import DataInitialized, Model, TimeField
from gencli.models.context import beside
from gencli.models.line import least_squares, on_line
from gencli.nn.base import NetworkFactory
from gencli.nn.fourier import Fourier
from gencli.paths.base import Path, Prediction

RANGE = 14.0
"""Log-SNR is given to the network within [-RANGE, RANGE]."""


class NetworkField(TimeField, DataInitialized):
    """A network on a path.

    The mean m and the standard deviation s of every coordinate are measured on training examples. With those,
    V = alpha^2 s^2 + sigma^2 is the variance of x_t, and the network sees (x_t - alpha m) / sqrt(V). A context that is
    an image of the size of x joins that as further channels, unless ``context`` makes features of it.

    ``edm`` derives from the path what "Elucidating the design space of diffusion-based generative models" (Karras et
    al., 2022) has for VE: the best prediction for normal data of independent coordinates, which is linear in x_t, is
    written down, and a network F of unit scale gives the rest:

        v = alpha' m / W + (alpha' alpha s^2 + sigma' sigma) / (W V) (x_t - alpha m) + s / sqrt(V) F.

    With a linear ``location``, m is a line A y + b of the context, which starts at that of least squares and is
    trained, and s the deviation that it leaves at the start: on whatever scales x and y are, the network need not find
    what is linear in y. Where y is an image of the size of x, each pixel has a line of its own place.

    Args:
        spec: what one example is.
        net: network of x_t, time and class.
        path: how data become noise.
        conditional: model p(x given y) as well.
        context: network from y to features that all others see; None: they see y itself.
        beside: whether the network sees a vector y of D numbers, or of several times D, behind those of x at its input,
            where a network of places meets them place by place; an image y of the size of x always stands so.
        location: m, ``constant``, or ``linear`` in y.
        prediction: what the network gives: ``edm`` (above), ``eps``, ``x0`` or ``v`` (velocity / W).
        label_dropout: probability that training hides a label or a context, so that the model knows p(x) too, as
            guidance needs. A context of reals then has a further number, or channel, that says whether it is there.
        timesteps: T, to train and to draw on T discrete times only; None: continuous time.

    Raises:
        ValueError: a prediction that the ends of the path make infinite, hidden labels of an unconditional model, a
            linear location without a context that is always there, or no such y to stand beside x.

    References:
        Ho, Jain and Abbeel, "Denoising diffusion probabilistic models", 2020; Song et al., "Score-based generative
        modeling through stochastic differential equations", 2021; Lipman et al., "Flow matching for generative
        modeling", 2023; Ho and Salimans, "Classifier-free diffusion guidance", 2022.
    """

    initial_examples = 10_000
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        spec: Spec,
        *,
        net: NetworkFactory,
        path: Callable[[], Path],
        conditional: bool = False,
        context: NetworkFactory | None = None,
        beside: bool = False,
        location: Literal["constant", "linear"] = "constant",
        prediction: Literal["edm", "eps", "x0", "v"] = "edm",
        label_dropout: BelowOne = 0.0,
        timesteps: Count | None = None,
    ) -> None:
        super().__init__(spec, conditional=conditional, context=context)
        if label_dropout and not conditional:
            raise ValueError(f"model.label_dropout={label_dropout} needs model.conditional=true")
        if location == "linear" and (label_dropout or not conditional):
            needed = "model.label_dropout=0: it needs y" if conditional else "model.conditional=true"
            raise ValueError(f"model.location=linear needs {needed}")
        reals = conditional and context is None and not label_dropout and not spec.classes and spec.kind == "vector"
        if beside and not (reals and spec.context_dim % spec.dim == 0):
            raise ValueError(
                f"model.beside=true needs a vector of x, and one of {spec.dim} numbers, or several times as "
                "many, as its context, which is never hidden and read by no other network"
            )
        self.beside = beside
        self.path, self.prediction = path(), prediction
        self.label_dropout, self.timesteps = label_dropout, timesteps
        low, high = torch.tensor([self.path.t_min, self.path.t_max], dtype=torch.float64)
        if prediction == "eps" and not self.path.alpha(high) > 0:
            raise ValueError("model.prediction=eps: this path ends in pure noise, where eps tells nothing; edm, v, x0")
        if prediction == "x0" and not self.path.sigma(low) > 0:
            raise ValueError("model.prediction=x0: this path starts without noise; raise model.path.t_min, or edm, v")
        self.time = Fourier()
        self.learned = bool(self.path.interior())
        clock, flag = (1 if self.learned else 2) * self.time.size, int(self.hides_reals)
        shape = (spec.dim + self.context_dim,) if beside else seen(self)
        told = 0 if beside or self.context_channels else self.context_dim + flag
        self.net = net(shape, spec.shape, clock + told)
        self.slope: nn.Parameter | None = None  # A; b is the mean
        if location == "linear":
            first, *places = spec.shape if self.context_channels else (spec.dim,)
            by = self.context_channels or spec.classes or spec.context_dim
            self.mean, self.slope = nn.Parameter(torch.zeros(spec.shape)), nn.Parameter(torch.zeros(first, by, *places))
        else:
            self.register_buffer("mean", torch.zeros(spec.shape))
        self.register_buffer("std", torch.ones(spec.shape))

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        if self.slope is not None:
            after = x.double() if self.context_channels else x.double().flatten(1)
            A, b, residual = least_squares(self._numbers(y).double(), after)
            self.slope.copy_(A)
            self.mean.copy_(b.view(self.spec.shape))
            self.std.copy_(moments(residual.view(x.shape))[1])
            return
        mean, std = moments(x)
        self.mean.copy_(mean)
        self.std.copy_(std)

    def _numbers(self, y: Tensor | None) -> Tensor:
        """y as numbers: (B, channels, H, W) of an image beside x, else (B, C), one-hot of classes."""
        assert y is not None, "a conditional model has a context"
        if self.context_channels:
            return y.reshape(len(y), self.context_channels, *self.spec.shape[1:])
        return F.one_hot(y, self.spec.classes) if self.spec.classes else y.flatten(1)

    def _location(self, x: Tensor, y: Tensor | None) -> Tensor:
        """m of rows x (B, *): (*), or (B, *) on the line."""
        if self.slope is None:
            return self.mean.to(x)
        b = self.mean if self.context_channels else self.mean.flatten()
        return on_line(self.slope, b, self._numbers(y).to(b)).view(-1, *self.spec.shape).to(x)

    def _shown(self, y: Tensor | None, n: int) -> tuple[Tensor | None, Tensor | None]:
        """y (n, *) with zeros for what is hidden, and which rows are there (n, 1); None: nothing is ever hidden."""
        if not self.hides_reals:
            return y, None
        if y is None:
            return self.mean.new_zeros(n, *self.spec.context), self.mean.new_zeros(n, 1)
        there = ~y.flatten(1).isnan().any(1, keepdim=True)
        return torch.where(there.view(-1, *[1] * (y.dim() - 1)), y, 0.0), there.to(self.mean)

    def _context(self, t: Tensor, y: Tensor | None) -> Tensor:
        """Features of t and of log-SNR, both in about [-1, 1], and the label; -1, NaN or None hides it.

        One row (1, C) where all rows share a time and no label tells them apart, else (B, C).

        On a learned path t means another noise every step, so log-SNR alone is given: what the network says of x_t then
        depends on the noise in it and not on when it came, as a bound needs that does not depend on the schedule.
        """
        t = shared(t)
        log_snr = self.path.log_snr(t).clamp(-RANGE, RANGE) / RANGE
        features = self.time(torch.stack([log_snr] if self.learned else [t, log_snr], 1).to(self.mean))
        if not self.conditional or self.context_channels or self.beside:
            return features
        if not self.spec.classes:
            y, there = self._shown(y, len(t))
            found = self.context(y)
            assert found is not None
            context = found if there is None else torch.cat([there * found.to(there), there], 1)
        elif y is None:
            context = features.new_zeros(len(t), self.spec.classes)
        else:
            context = F.one_hot(y.clamp(min=0), self.spec.classes) * (y >= 0)[:, None]
        features = features.expand(len(context), -1)
        return torch.cat([features, context.to(features)], 1)

    def predict(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Prediction:
        if y is None and self.conditional and not self.label_dropout:
            raise ValueError("this model is conditional: it needs y")
        path, mean, std = self.path, self._location(x, y), self.std.to(x)
        level = path.level(t, x)
        alpha, sigma, a, b = level.alpha, level.sigma, level.a, level.b
        spread = alpha * std
        per_root = torch.addcmul(spread.square(), sigma, sigma).rsqrt()  # 1 / sqrt(V); each kernel counts here
        away = torch.addcmul(x, alpha, mean, value=-1) * per_root
        scaled = away.to(self.mean)
        if self.beside:
            scaled = torch.cat([scaled, self._numbers(y).to(scaled)], 1)
        if self.context_channels:
            y, there = self._shown(y, len(x))
            scaled = beside(scaled, y, self.context_channels)
            if there is not None:
                mask = there.view(-1, 1, 1, 1).expand(-1, 1, *scaled.shape[2:])
                scaled = torch.cat([scaled, mask.to(scaled)], 1)
        out = self.net(scaled, self._context(t, y).expand(len(x), -1)).to(x)
        if self.prediction != "edm":
            return Prediction.of(path, x, t, level, **{self.prediction: out})
        scale, slope = std * per_root, torch.addcmul(b * sigma, a * std, spread) * per_root
        v = torch.addcmul(a * mean, slope, away) + scale * out  # not addcmul, whose backward takes more kernels
        return Prediction(path, x, t, v, scale, level)


def seen(model: Model) -> tuple[int, ...]:
    """The shape of what the network of a field sees: that of x, with the channels of an image y behind its own.

    One more says whether y is there, where it may be hidden.
    """
    channels, *grid = model.spec.shape
    flag = model.hides_reals and model.context_channels > 0
    return (channels + model.context_channels + flag, *grid)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (*) of rows x (N, *), in fp64.

    A coordinate that hardly moves (a border pixel) gets a scale that can divide.

    Raises:
        RunFailed: there is one row.
    """
    if len(x) < 2:
        raise RunFailed("this model is scaled by the deviation of the training examples; one example has none")
    std = x.double().std(0)
    return x.double().mean(0), std.clamp(min=max(1e-3 * float(std.max()), 1e-6))
