"""How a model is told its context y: as it is, as features that a network finds in it, or as further channels of x."""

from __future__ import annotations

import math
from abc import ABC
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencli.core import sizes
from gencli.core.errors import UsageError
from gencli.core.spec import Spec
from gencli.nn.base import Network, NetworkFactory


class Contextual(nn.Module, ABC):
    """What a model does with its context before any network of its own sees it.

    label_dropout: probability that training hides y, for models that also know p(x).

    Args:
        spec: what one example is.
        conditional: model p(x given y) instead of p(x).
        context: makes a network from y to ``sizes.features`` numbers; None: y as it is.

    Raises:
        ValueError: conditional on data without labels or context, or a network for classes, or for no context.
    """

    spec: Spec
    context_net: Network | None
    label_dropout: float = 0.0

    def __init__(self, spec: Spec, *, conditional: bool = False, context: NetworkFactory | None = None) -> None:
        super().__init__()
        if conditional and not (spec.classes or spec.context):
            raise ValueError(
                "model.conditional=true needs data with labels or a context; this data has neither (digits, simulator "
                "and lorenz63 have; of data=csv data.label or data.context names columns)"
            )
        if context is not None and not conditional:
            raise ValueError("model.context: a network of the context needs model.conditional=true")
        if context is not None and spec.classes:
            raise ValueError("model.context: classes are told as they are; a network reads a context of reals")
        self.spec, self.conditional = spec, conditional
        self.context_net = None if context is None else _network(spec, context)

    @property
    def context_dim(self) -> int:
        """Dimension of the context vector that the networks get; 0 for an unconditional model."""
        if not self.conditional:
            return 0
        if self.context_net is not None:
            return sizes.features(self.spec.context_dim)
        return self.spec.classes or self.spec.context_dim

    @property
    def hides_reals(self) -> bool:
        """Whether y may be absent and is not a class: networks are then told whether it is there."""
        return bool(self.conditional and self.label_dropout and not self.spec.classes)

    def context(self, y: Tensor | None) -> Tensor | None:
        """y as a vector (B, C): one-hot classes, features of a network, or the reals, flat; None if unconditional."""
        if not self.conditional:
            return None
        if y is None:
            raise ValueError("this model is conditional: it needs y")
        if self.spec.classes:
            return F.one_hot(y, self.spec.classes).float()
        if self.context_net is None:
            return y.flatten(1)
        weight = next(self.context_net.parameters())
        return cast(Tensor, self.context_net(y.reshape(len(y), *_read_as(self.spec)).to(weight)))

    @property
    def context_channels(self) -> int:
        """Channels of an image y of the size of x, which a network of images sees beside x; 0: y is none.

        An image that goes through a network of its own counts as none.
        """
        context, spec = self.spec.context, self.spec
        if not self.conditional or self.context_net is not None or spec.kind != "image":
            return 0
        return math.prod(context[:-2]) if len(context) in (2, 3) and context[-2:] == spec.shape[1:] else 0


def beside(x: Tensor, y: Tensor | None, channels: int) -> Tensor:
    """x (B, C, H, W) with the channels of an image y behind its own: (B, C + channels, H, W)."""
    if y is None:
        raise ValueError("this model is conditional: it needs y")
    return torch.cat([x, y.reshape(len(x), channels, *x.shape[2:]).to(x)], 1)


def _read_as(spec: Spec) -> tuple[int, ...]:
    """The shape in which a network reads y: a sequence (T, C) is an image of one channel."""
    return (1, *spec.context) if len(spec.context) == 2 else spec.context


def _network(spec: Spec, make: NetworkFactory) -> Network:
    """The network of a context.

    Raises:
        UsageError: it reads none of this shape, or gives no vector.
    """
    shape = _read_as(spec)
    try:
        return make(shape, (sizes.features(spec.context_dim),), 0)
    except (UsageError, ValueError) as error:
        fitting = "mlp or residual" if len(shape) == 1 else "pyramid, critic or mlp"
        hint = f"for features of a context of shape {spec.context} take net@model.context={fitting}"
        raise UsageError(f"{error}; {hint}") from error
