"""What a network sees of the coordinates before the one that it predicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gencli.core.spec import Support

THERMOMETER_UP_TO = 32
"""Levels of which a network may see every one; of more it sees the value, or its first layer would be all it has."""

Kind = Literal["onehot", "thermometer", "value"]


@dataclass(frozen=True)
class Encoding:
    """Features of one coordinate.

    Args:
        kind: ``identity`` (x itself), ``value`` (2 x / (K - 1) - 1), ``onehot``, or ``thermometer`` (1 for every k
            below x, so that near levels look alike).
        levels: K; 0: x is a real.
        optional: x may be missing, NaN, which is 0 in all features but one more.
    """

    kind: Literal["identity", "value", "onehot", "thermometer"]
    levels: int = 0
    optional: bool = False

    @property
    def features(self) -> int:
        """I, their number."""
        return {"onehot": self.levels, "thermometer": self.levels - 1}.get(self.kind, 1) + self.optional

    def of_column(self, d: int, x: Tensor) -> Tensor:
        """Features (n, I) of values x (n,) of coordinate d: the same for all, but in a table of mixed columns."""
        return self(x)

    def __call__(self, x: Tensor) -> Tensor:
        """(*) -> (*, I), floats."""
        if not self.optional:
            return self._of_values(x)
        missing = x.isnan()[..., None]
        features = self._of_values(x.nan_to_num(0.0))
        return torch.cat([features.masked_fill(missing, 0.0), missing.to(features.dtype)], -1)

    def _of_values(self, x: Tensor) -> Tensor:
        if self.kind == "identity":
            return x[..., None]
        if self.kind == "onehot":
            return F.one_hot(x.long(), self.levels).float()
        if self.kind == "thermometer":
            return (x[..., None] > torch.arange(self.levels - 1, device=x.device)).float()
        return 2 * x[..., None].float() / (self.levels - 1) - 1


@dataclass(frozen=True)
class MixedEncoding:
    """Features of D columns of several kinds, as many of each as the one with most has: what is left is 0.

    Args:
        columns: the encoding of each.
    """

    columns: tuple[Encoding, ...]

    @property
    def features(self) -> int:
        """I, their number for each column."""
        return max(column.features for column in self.columns)

    def of_column(self, d: int, x: Tensor) -> Tensor:
        """Features (n, I) of values x (n,) of column d."""
        own = self.columns[d]
        return F.pad(own(x), (0, self.features - own.features))

    def __call__(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, D, I), floats."""
        return torch.stack([self.of_column(d, x[:, d]) for d in range(len(self.columns))], 1)


def encoding_of(support: Support, kind: Kind | None = None) -> Encoding | MixedEncoding:
    """What a network sees of coordinates of this support.

    Args:
        support: of the coordinates; of mixed columns, an option is that of the columns that have it.
        kind: of levels and categories; None: by support.

    Raises:
        ValueError: this support has no such encoding.
    """
    kinds = {column.kind for column in support.columns or (support,)}
    if kind is not None and not kinds & {"levels", "categorical"}:
        raise ValueError(f"model.encoding={kind} is for levels and categories; this data is {support}")
    if kind in ("thermometer", "value") and "levels" not in kinds:
        raise ValueError(f"model.encoding={kind} needs ordered levels; this data is {support}")
    if support.columns:
        return MixedEncoding(tuple(_encoding(column, kind) for column in support.columns))
    return _encoding(support, kind)


def _encoding(support: Support, kind: Kind | None) -> Encoding:
    """The encoding of one coordinate."""
    if support.kind in ("real", "binary"):
        return Encoding("identity", optional=support.optional)
    if support.kind == "categorical":
        kind = "onehot"
    return Encoding(
        kind or ("thermometer" if support.size <= THERMOMETER_UP_TO else "value"), support.size, support.optional
    )
