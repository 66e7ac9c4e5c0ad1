"""From data space to model space and back, with every log-determinant.

For integers x in {0..K-1} and u ~ U[0, 1)^D the chain is v = o + w (x + u), z = T(v), with bins of width w = 1/K from
o = 0 unless the data have a unit of their own. By Jensen's inequality

    -log P(x) <= E_u [ -log p_Z(z) - log|det dz/dv| - D ln w ],

an upper bound however exact p_Z is. For reals v = x: the change of variables is exact and there is no term for bins.
Of columns of several kinds the reals are transformed and the integers stay; a missing value has no volume to change.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from gencli.core.noise import Noise
from gencli.core.options import Range
from gencli.core.spec import Bound, Spec, Support
from gencli.data.base import Split
from gencli.data.split import storage_dtype

_CHUNK = 4096  # rows a step of ``fit``


class Preprocess(nn.Module):
    """x (B, *) in data space <-> z in model space, and the terms that make the model's NLL that of x.

    Discrete data under a model that supports their kind, and unit data under a model of ``unit`` only, pass through
    untouched: transform and dequantization are the way to a model of reals. Transforms T of v:

    - ``none``: z = v, in [0, 1) for integers.
    - ``scale``: z = v - 1/2, in [-1/2, 1/2); volume-preserving, so it adds no term.
    - ``logit``: z = ln(s / (1 - s)), s = alpha + (1 - 2 alpha) v, the convention of "Masked autoregressive flow for
      density estimation" (Papamakarios, Pavlakou and Murray, 2017); log|dz/dv| = ln(1 - 2 alpha) - ln s - ln(1 - s).
    - ``standardize``: z = (v - mean) / std for each coordinate, with the statistics of the training split.

    It computes in the dtype that the module has (``.double()`` for fp64).

    Args:
        spec: of the data.
        model_supports: kinds that the model's class supports.
        model_shapes: event shapes that it supports: ``vector``, ``image``.
        dequantization: ``uniform``, which integers under a model of reals need; ``none`` where nothing needs it.
        transform: one of the above.
        alpha: of ``logit``.
        flatten: images as vectors; done anyhow where the model supports only vectors.
        flip: mirror training images left-right with probability 1/2.
        unit: (o, w) of the data's own bins; None: (0, 1/K).

    Raises:
        ValueError: a combination that makes no sense, or a model that cannot be reached from the data.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        spec: Spec,
        model_supports: tuple[str, ...],
        model_shapes: tuple[str, ...],
        *,
        dequantization: Literal["uniform", "none"] = "uniform",
        transform: Literal["none", "scale", "logit", "standardize"] = "none",
        alpha: Annotated[float, Range(above=0, below=0.5)] = 0.01,
        flatten: bool = False,
        flip: bool = False,
        unit: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        if flip and spec.kind != "image":
            raise ValueError(f"data.flip=true needs images; this data is of shape {spec.shape}")

        self.spec, self.alpha, self.flip = spec, alpha, flip
        support = spec.support
        # A model of reals and of the unit interval gets the transform that was asked for, and so do columns of reals.
        kept = support.kind in model_supports
        self.untouched = kept and not support.columns and (support.discrete or "real" not in model_supports)
        reached = kept if support.columns else "real" in model_supports and support.kind != "graph"
        if not self.untouched and not reached:
            raise ValueError(f"the model supports {', '.join(model_supports)}; this data is {support}")

        self.stochastic = support.discrete and not self.untouched
        self.transform = "none" if self.untouched else transform
        self.levels = support.levels or 1
        self.offset, self.width = unit if unit and self.stochastic else (0.0, 1 / self.levels)
        if self.stochastic and dequantization != "uniform":
            raise ValueError(
                f"data.dequantization={dequantization}: 'uniform' is needed, because a model of reals gives integers "
                f"no probability; this data is {support}"
            )
        if self.transform in ("logit", "scale"):
            if support.kind in ("real", "mixed"):
                raise ValueError(f"data.transform={transform} needs data in [0, 1]; this data is {support}")
            if unit:
                raise ValueError(f"data.transform={transform} needs data in [0, 1]; this data has a unit of its own")
        if self.transform == "standardize" and support.kind == "unit":
            raise ValueError("data.transform=standardize: none, scale or logit for data in [0, 1]")

        vectors = flatten or "image" not in model_shapes
        if (spec.kind == "vector" or vectors) and "vector" not in model_shapes:
            raise ValueError(
                f"the model supports shapes {', '.join(model_shapes)}; this data is of shape {spec.shape}"
                + (" flattened by data.flatten=true" if spec.kind == "image" else "")
            )
        shape = (spec.dim,) if vectors else spec.shape
        stays = self.untouched or support.columns
        self.model_spec = replace(spec, shape=shape, support=support if stays else Support("real"))

        # Buffers travel with state_dict, device and dtype; without standardize they are empty.
        statistics = spec.shape if self.transform == "standardize" else (0,)
        self.register_buffer("mean", torch.zeros(statistics))
        self.register_buffer("std", torch.ones(statistics))

    @property
    def bound(self) -> Bound:
        """What an exact NLL in model space is to the one in data space."""
        return "upper" if self.stochastic else "exact"

    def fit(self, split: Split) -> None:
        """Measure mean and standard deviation for ``standardize``; anything else has nothing to fit.

        Integers count as the uniform density on their bin: the centre, and w^2 / 12 more variance.

        Raises:
            ValueError: a coordinate of real data is constant.
        """
        if self.transform != "standardize":
            return
        total = torch.zeros(self.spec.shape, dtype=torch.float64)
        squares, n = torch.zeros_like(total), torch.zeros_like(total)
        # Two passes, because E v^2 - (E v)^2 cancels where the mean is large. Missing values of a column do not count.
        for x in self._chunks(split):
            total += x.masked_fill(x.isnan(), 0.0).sum(0)
            n += (~x.isnan()).sum(0)
        mean = total / n
        for x in self._chunks(split):
            squares += (x - mean).square().masked_fill(x.isnan(), 0.0).sum(0)
        variance = squares / n
        for d, support in enumerate(self.spec.support.columns):
            if not support.continuous:
                mean[d], variance[d] = 0.0, 1.0
        if self.stochastic:
            variance += self.width**2 / 12
        constant = ~(variance > 0).flatten()
        if constant.any():
            column = int(constant.nonzero()[0])
            raise ValueError(f"data.transform=standardize: coordinate {column} of the training data is constant")
        self.mean.copy_(mean)
        self.std.copy_(variance.sqrt())

    def _chunks(self, split: Split) -> Iterator[Tensor]:
        """The training values v in fp64."""
        for index in torch.arange(len(split)).split(_CHUNK):
            x = split.gather(index).x.cpu().double()
            yield self.offset + self.width * (x + 0.5) if self.stochastic else x

    def augment(self, x: Tensor, noise: Noise) -> Tensor:
        """Training only: rows of x (B, C, H, W) mirrored left-right with probability 1/2."""
        if not self.flip:
            return x
        mirrored = noise.rand(len(x)) < 0.5
        return torch.where(mirrored[:, None, None, None], x.flip(-1), x)

    def forward(self, x: Tensor, noise: Noise | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Rows x (B, *) -> (z, terms).

        Args:
            x: data space.
            noise: the source of u; only where ``stochastic``.

        Returns:
            z in model space, and for each term its (B,) nats, to be added to the model's NLL.
        """
        terms: dict[str, Tensor] = {}
        if self.untouched:
            counted = self.spec.support.kind in ("levels", "categorical")  # bits and units are floats for networks
            z = x.long() if counted else x.to(self.mean.dtype)
            # vectors stay as they are, here and in inverse: a text may be sampled longer than its model's window
            return z.reshape(len(x), *self.model_spec.shape) if self.spec.kind == "image" else z, terms

        x = x.to(self.mean.dtype)
        if self.stochastic:
            assert noise is not None, "dequantization needs noise"
            u = noise.rand(*x.shape).to(x.dtype)
            v = self.offset + self.width * (x + u)
            terms["bins"] = x.new_full((len(x),), -self.spec.dim * math.log(self.width))
        else:
            u, v = None, x

        z = v
        if self.transform == "scale":
            z = v - 0.5
        elif self.transform == "logit":
            # 1 - v from its parts: alpha = 1e-6 leaves no room for the rounding of v near 1.
            rest = 1 - v if u is None else self.width * ((self.levels - 1 - x) + (1 - u))
            scale = 1 - 2 * self.alpha
            log_s, log_rest = (self.alpha + scale * v).log(), (self.alpha + scale * rest).log()
            z = log_s - log_rest
            terms["logit log|det|"] = (log_s + log_rest).flatten(1).sum(1) - self.spec.dim * math.log(scale)
        elif self.transform == "standardize":
            z = (v - self.mean) / self.std
            log_det = self.std.log()
            if self.spec.support.columns:
                terms["standardize log|det|"] = log_det.expand(len(x), -1).masked_fill(z.isnan(), 0.0).sum(1)
            else:
                terms["standardize log|det|"] = log_det.sum().expand(len(x))
        return z.reshape(len(x), *self.model_spec.shape), terms

    def inverse(self, z: Tensor) -> Tensor:
        """Model space (B, *) -> data space, in the dtype in which data are kept; integers by floor and clamp."""
        x = z.reshape(len(z), *self.spec.shape) if self.spec.kind == "image" else z
        if self.transform == "scale":
            x = x + 0.5
        elif self.transform == "logit":
            x = (x.sigmoid() - self.alpha) / (1 - 2 * self.alpha)
        elif self.transform == "standardize":
            x = x * self.std + self.mean

        support = self.spec.support
        if self.stochastic:
            x = ((x - self.offset) / self.width).floor().clamp(0, self.levels - 1)
        elif support.kind == "unit":
            x = x.clamp(0, 1)
        return x.to(storage_dtype(support)) if support.discrete else x

    def protocol(self) -> dict[str, object]:
        """What a record says of preprocessing: only equal protocols are ranked."""
        alpha = f"{self.alpha:g}".replace("e-0", "e-")
        name = f"logit({alpha})" if self.transform == "logit" else self.transform
        return {
            "support": str(self.spec.support),
            "dequantization": "uniform" if self.stochastic else None,
            "transform": [] if name == "none" else [name],
        }
