"""From data space to model space and back, with every log-determinant.

For integers x in {0..K-1} and u ~ U[0, 1)^D the chain is v = o + w (x + u), z = T(v), with bins of width w = 1/K from
o = 0 unless the data have a unit of their own. By Jensen's inequality

    -log P(x) <= E_u [ -log p_Z(z) - log|det dz/dv| - D ln w ],

an upper bound however exact p_Z is. For reals v = x: the change of variables is exact and there is no term for bins.
Of columns of several kinds the reals are transformed and the integers stay; a missing value has no volume to change.

Data whose float32 rounding matters come in float64. Then the chain is computed in float64 and z is rounded at its end.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from gencli.core.noise import Noise
from gencli.core.options import Range
from gencli.core.spec import Batch, Bound, Spec, Support
from gencli.data import contexts
from gencli.data.base import Split
from gencli.data.box import Box
from gencli.data.split import storage_dtype
from gencli.data.statistics import TOLERABLE, Repeats, chunks, coordinate, moments, moved, some_rows

_FINE = 4096  # levels of which float32 moves x + u by less than is tolerable, whatever the data

OPTIONAL = ("context_mean", "context_std", "repeats")
"""Statistics that not every run has."""


class Unreachable(ValueError):
    """The data cannot be brought to the model: neither its values nor its shape are those that the model takes."""


class Preprocess(nn.Module):
    """x (B, *) in data space <-> z in model space, and the terms that make the model's NLL that of x.

    Discrete data under a model that supports their kind, and unit data under a model of ``unit`` only, pass through
    untouched: transform and dequantization are the way to a model of reals. Transforms T of v:

    - ``none``: z = v, in [0, 1) for integers.
    - ``scale``: z = v - 1/2, in [-1/2, 1/2); volume-preserving, so it adds no term.
    - ``logit``: z = ln(s / (1 - s)), s = alpha + (1 - 2 alpha) v, the convention of "Masked autoregressive flow for
      density estimation" (Papamakarios, Pavlakou and Murray, 2017); log|dz/dv| = ln(1 - 2 alpha) - ln s - ln(1 - s).
    - ``standardize``: z = (v - mean) / std for each coordinate, with the statistics of the training split.

    Reals within a ``box`` are mapped onto R^D first (``Box.unbounded``), and T is of what they become.

    z has the dtype of the module (``.double()`` for fp64). The chain itself is computed in float64 where x, or the
    statistics of ``standardize``, are of that type.

    A context vector y (B, C) is standardised by the training split, too; classes stay as they are.

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
        box: of reals that lie in one; None: they may lie anywhere.
        names: of the coordinates of x and of those of its context, for messages; None: they have none.

    Raises:
        ValueError: a combination that makes no sense, or a model that cannot be reached from the data.
    """

    mean: Tensor
    std: Tensor
    context_mean: Tensor | None
    context_std: Tensor | None
    repeats: Tensor | None
    working: Tensor

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
        box: Box | None = None,
        names: tuple[Sequence[str] | None, Sequence[str] | None] = (None, None),
    ) -> None:
        super().__init__()
        self.called, self.context_called = (functools.partial(coordinate, names=own) for own in names)
        if flip and spec.kind != "image":
            raise ValueError(f"data.flip=true needs images; this data is of shape {spec.shape}")

        self.spec, self.alpha, self.flip = spec, alpha, flip
        support = spec.support
        # A model of reals and of the unit interval gets the transform that was asked for, and so do columns of reals.
        kept = support.kind in model_supports
        self.untouched = kept and not support.columns and (support.discrete or "real" not in model_supports)
        reached = kept if support.columns else "real" in model_supports and support.kind != "graph"
        if not self.untouched and not reached:
            raise Unreachable(f"the model supports {', '.join(model_supports)}; this data is {support}")

        self.stochastic = support.discrete and not self.untouched
        self.transform = "none" if self.untouched else transform
        self.box = None if self.untouched else box
        self.levels = support.levels or 1
        self.offset, self.width = unit if unit and self.stochastic else (0.0, 1 / self.levels)
        self._refuse(transform, dequantization, unit)

        vectors = flatten or "image" not in model_shapes
        if (spec.kind == "vector" or vectors) and "vector" not in model_shapes:
            raise Unreachable(
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
        for name in OPTIONAL:
            self.register_buffer(name, None)
        self.register_buffer("working", torch.empty(0), persistent=False)  # of the dtype of z

    def _refuse(self, transform: str, dequantization: str, unit: tuple[float, float] | None) -> None:
        """Say which option has no meaning for this data."""
        support = self.spec.support
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

    @property
    def bound(self) -> Bound:
        """What an exact NLL in model space is to the one in data space."""
        return "upper" if self.stochastic else "exact"

    def fit(self, split: Split) -> str | None:
        """Measure the statistics of ``standardize`` and of a context on the training split; see what rounding does.

        Integers count as the uniform density on their bin: the centre, and w^2 / 12 more variance.

        Returns:
            A word about real coordinates that look rounded; ``unbounded`` says of those that are discrete.

        Raises:
            ValueError: a coordinate of real data or of the context is constant, or float32 would change the data.
        """
        if len(split) == 0:
            raise ValueError("the training split is empty")
        if len(split) == 1 and self.model_spec.support.kind in ("real", "unit", "mixed"):
            other = f", or a model whose x is {self.spec.support}" if self.stochastic else ""
            raise ValueError(f"data: one example in training: no density of reals has a limit there; give more{other}")
        first = split.gather(torch.arange(1))
        if self.mean.device.type == "mps" and torch.float64 in (first.x.dtype, first.y is not None and first.y.dtype):
            raise ValueError("device=mps computes in float32, which is too coarse for this data: device=cpu")
        if self.spec.context:
            self._fit_context(split)
        fine = first.x.dtype == torch.float64
        if self.transform == "standardize":
            extra = self.width**2 / 12 if self.stochastic else 0.0
            mean, std = moments(split, self._values, self.spec, extra, self.called)
            self.mean.copy_(mean)
            self.std.copy_(std)
            if fine or self._worst(split, fine)[1] > TOLERABLE:
                self.mean, self.std = mean.to(self.mean.device), std.to(self.std.device)
        column, worst = self._worst(split, fine)
        if worst > TOLERABLE:
            support, far = self.spec.support, f"float32 moves {self.called(column)} of the training data"
            advice = "data.transform=standardize computes in float64"
            if self.transform == "standardize":
                advice = "its values lie too close together beside a few that lie far away: leave those out, or rescale"
            elif support.discrete:
                advice += f"; or fewer levels than {support}"
            raise ValueError(f"data.transform={self.transform}: {far} by {worst:.2g} of its deviation; {advice}")
        if self.spec.support.kind not in ("real", "unit", "mixed"):
            return None
        columns = self.spec.support.columns
        found = Repeats.of(split, torch.tensor([column.continuous for column in columns]) if columns else None)
        if self.spec.kind == "vector" and bool((found.distinct == 1).any()):
            column = int((found.distinct == 1).nonzero()[0])
            value = f"{float(found.commonest[column]):.6g}"
            found_out = f"data: {self.called(column)} is constant ({value}) in training"
            raise ValueError(f"{found_out}: no density has a limit there; leave it out")
        self.repeats = found.packed().to(self.mean.device) if found.unbounded() else None
        return found.rounded(self.called)

    def _values(self, x: Tensor) -> Tensor:
        """The values v in float64, of integers the centre of their bin."""
        x = x.cpu().double()
        if self.box is not None:
            return self.box.unbounded(x)[0]
        return self.offset + self.width * (x + 0.5) if self.stochastic else x

    def _fit_context(self, split: Split) -> None:
        y = torch.cat([batch.y.cpu() for batch in chunks(split) if batch.y is not None])
        mean, std = y.double().mean(0), y.double().std(0, correction=0)
        if len(self.spec.context) > 1:  # an image may have a pixel that never changes
            std = torch.where(std > 0, std, 1.0)
        if (std <= 0).any():
            column = int((std <= 0).nonzero()[0])
            named = self.context_called(column)
            raise ValueError(f"data.context: {named} of the context is constant in training: leave it out")
        # of the dtype of y, as ``standardize`` is of x's: data that float32 would change come in float64
        self.context_mean, self.context_std = (t.to(self.mean.device, y.dtype) for t in (mean, std))
        exact = (y.double() - mean) / std
        far = moved(exact, exact.float())
        if (far > TOLERABLE).any():
            named = self.context_called(int(far.argmax()))
            raise ValueError(
                f"data.context: float32 moves {named} of the context by {float(far.max()):.2g} of its deviation: its "
                "values lie too close together beside a few that lie far away"
            )

    def _worst(self, split: Split, fine: bool) -> tuple[int, float]:
        """The coordinate that float32 moves furthest on its way to the model, and how far, in its deviations."""
        if not (self.levels > _FINE and self.stochastic if self.spec.support.discrete else fine):
            return 0, 0.0
        x = some_rows(split).x.to(self.mean.device)
        u = None
        if self.stochastic:
            u = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).to(x.device)
        exact = self._transform(x.double(), None if u is None else u.double())[0].flatten(1)
        rounded = exact if u is None else self._transform(x.to(self.mean.dtype), u)[0].flatten(1)
        far = moved(exact, rounded.float())
        return int(far.argmax()), float(far.max())

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
        if self.untouched:
            counted = self.spec.support.kind in ("levels", "categorical")  # bits and units are floats for networks
            z = x.long() if counted else x.to(self.working.dtype)
            # vectors stay as they are, here and in inverse: a text may be sampled longer than its model's window
            return z.reshape(len(x), *self.model_spec.shape) if self.spec.kind == "image" else z, {}

        x = x.to(torch.promote_types(self.mean.dtype, x.dtype))
        u = None
        if self.stochastic:
            assert noise is not None, "dequantization needs noise"
            u = noise.rand(*x.shape).to(x.dtype)
        z, terms = self._transform(x, u)
        return z.to(self.working.dtype).reshape(len(x), *self.model_spec.shape), terms

    def _transform(self, x: Tensor, u: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """z = T(v) in the precision of x and of the statistics, and the terms."""
        terms: dict[str, Tensor] = {}
        v = x
        if self.box is not None:
            v, terms["box log|det|"] = self.box.unbounded(x)
        if u is not None:
            v = self.offset + self.width * (x + u)
            terms["bins"] = x.new_full((len(x),), -self.spec.dim * math.log(self.width))

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
        return z, terms

    def batch(self, batch: Batch, noise: Noise | None = None) -> tuple[Batch, dict[str, Tensor]]:
        """``forward`` of a batch's x and ``context`` of its y: the batch in model space, and the terms."""
        z, terms = self(batch.x, noise)
        return replace(batch, x=z, y=self.context(batch.y)), terms

    def context(self, y: Tensor | None) -> Tensor | None:
        """The context y in data space -> what the model is given: reals (B, *) standardised, classes as they are."""
        if y is None or not self.spec.context:
            return y
        if self.context_mean is not None and self.context_std is not None:  # else a run from before they were scaled
            y = (y - self.context_mean) / self.context_std
        return y.to(self.working.dtype)

    def checked_context(self, y: object, n: int) -> Tensor:
        """A context as a user gives it, for n rows in data space; see ``contexts.checked``."""
        return contexts.checked(y, n, self.spec, precise=self.precise_context)

    def values(self, z: Tensor) -> Tensor:
        """v = T^-1(z) of z in model space (B, *), shaped as x and differentiable: reals; of integers o + w (x + u)."""
        v = z.reshape(len(z), *self.spec.shape) if self.spec.kind == "image" else z
        if self.transform == "scale":
            v = v + 0.5
        elif self.transform == "logit":
            v = (v.sigmoid() - self.alpha) / (1 - 2 * self.alpha)
        elif self.transform == "standardize":
            v = v * self.std + self.mean
        return v if self.box is None else self.box.bounded_at(v)

    def centres(self, x: Tensor) -> Tensor:
        """The values v of x in data space: reals as they are, of integers the centre of their bin o + w (x + 1/2)."""
        return self.offset + self.width * (x.to(self.working.dtype) + 0.5) if self.stochastic else x

    def inverse(self, z: Tensor) -> Tensor:
        """Model space (B, *) -> data space, in the dtype in which data are kept; integers by floor and clamp."""
        x = self.values(z)
        support = self.spec.support
        if self.stochastic:
            x = ((x - self.offset) / self.width).floor().clamp(0, self.levels - 1)
        elif support.kind == "unit":
            x = x.clamp(0, 1)
        return x.to(storage_dtype(support)) if support.discrete else x

    @property
    def precise(self) -> bool:
        """Whether x needs float64: it is scaled in it, and samples come back in it."""
        return self.mean.dtype == torch.float64

    @property
    def precise_context(self) -> bool:
        """Whether y needs float64."""
        return self.context_mean is not None and self.context_mean.dtype == torch.float64

    @property
    def unbounded(self) -> str | None:
        """Why the likelihood of the training data has no limit, and what to do; None: it is no wonder."""
        return None if self.repeats is None else Repeats.unpacked(self.repeats).unbounded(self.called)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """Take statistics in the precision, and those of a context if there are any, that the checkpoint has."""
        for name in ("mean", "std", *OPTIONAL):
            kept, own = state_dict.get(prefix + name), getattr(self, name)
            if name in OPTIONAL:
                shape = (self.spec.dim + 1, 3) if name == "repeats" else self.spec.context
                own = None if kept is None else torch.zeros(shape, device=self.mean.device)
            if own is not None and kept is not None and kept.dtype == torch.float64:
                own = own.double()
            setattr(self, name, own)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def protocol(self) -> dict[str, object]:
        """What a record says of preprocessing: only equal protocols are ranked."""
        alpha = f"{self.alpha:g}".replace("e-0", "e-")
        name = f"logit({alpha})" if self.transform == "logit" else self.transform
        return {
            "support": str(self.spec.support),
            "dequantization": "uniform" if self.stochastic else None,
            "transform": ["box"] * (self.box is not None) + ([] if name == "none" else [name]),
        }
