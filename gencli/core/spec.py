"""What one example is, and what a batch of them holds.

Shapes: B rows in a batch, ``*`` the event shape, C the context's dimension.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import ClassVar, Literal

import torch
from torch import Tensor

Bound = Literal["exact", "upper", "lower", "estimate"]
"""What a reported number is to the NLL: the number itself, a bound from above or below, or neither."""


@dataclass(frozen=True)
class Support:
    """The set in which one coordinate of x lies, or each of them where they differ.

    kind: ``real``, ``unit`` (floats in [0, 1]), ``binary``, ``levels`` (ordered integers 0..K-1), ``categorical``
    (unordered ones), ``graph``; ``mixed``: each of ``columns`` has a support of its own, and x holds floats.
    levels: K for ``levels`` and ``categorical``, 2 for ``binary``, else None.
    columns: of ``mixed``, one a coordinate.
    optional: of a column, whether its value may be missing, which is a value too: NaN in x. The base measure of a
    column is the counting measure on integers and on the missing value, and the Lebesgue measure on reals.
    """

    kind: str
    levels: int | None = None
    columns: tuple[Support, ...] = ()
    optional: bool = False

    KINDS: ClassVar[tuple[str, ...]] = ("real", "unit", "binary", "levels", "categorical", "graph")

    @classmethod
    def parse(cls, text: str) -> Support:
        """Read ``real``, ``binary``, ``levels:256`` ...

        Raises:
            ValueError: the text names no support.

        Example:
            >>> Support.parse("levels:256").size
            256
            >>> Support.parse("binary").levels, Support.parse("real").discrete
            (2, False)
        """
        kind, _, levels = text.partition(":")
        counted = kind in ("levels", "categorical")
        if kind not in cls.KINDS or counted != levels.isdecimal() or (levels and not counted):
            raise ValueError(f"'{text}' is no support: real, unit, binary, levels:K, categorical:K or graph")
        if counted and not 2 <= (int(levels) if len(levels) < 20 else math.inf) <= 2**53:  # as float64 counts
            raise ValueError(f"'{text[:40]}': 2 to 2^53 values")
        return cls(kind, int(levels) if counted else 2 if kind == "binary" else None)

    @classmethod
    def of_columns(cls, columns: Sequence[Support]) -> Support:
        """The support of a table: the one that all columns share, where they do and no value is missing, else mixed.

        Example:
            >>> str(Support.of_columns([Support("real"), Support("categorical", 3)]))
            'mixed(real, categorical:3)'
            >>> str(Support.of_columns([Support("real"), Support("real")]))
            'real'
        """
        if len(set(columns)) == 1 and not columns[0].optional:
            return columns[0]
        return cls("mixed", columns=tuple(columns))

    @property
    def discrete(self) -> bool:
        """Whether x is an integer."""
        return self.levels is not None

    @property
    def continuous(self) -> bool:
        """Whether all of x has a density, so that it can be moved in R^D."""
        return self.kind in ("real", "unit")

    @property
    def size(self) -> int:
        """K, the number of values.

        Raises:
            ValueError: x is no integer.
        """
        if self.levels is None:
            raise ValueError(f"{self} has no number of values")
        return self.levels

    def __str__(self) -> str:
        if self.columns:
            alike = [(str(column), len([*same])) for column, same in groupby(self.columns)]
            return f"mixed({', '.join(name if n == 1 else f'{n} {name}' for name, n in alike)})"
        name = f"{self.kind}:{self.levels}" if self.kind in ("levels", "categorical") else self.kind
        return name + "?" * self.optional


@dataclass(frozen=True)
class Graph:
    """The nodes of networks: x has one bit for each dyad, in the order of ``dyads``.

    Args:
        nodes: n.
        directed: whether i -> j and j -> i are two dyads.
        names: of the nodes; none: they have no names.
        attributes: of the nodes by name, n numbers or n texts each.
        covariates: of the dyads by name, n rows of n numbers each.

    Example:
        >>> Graph(3).dyads, Graph(3, directed=True).size
        (((0, 1), (0, 2), (1, 2)), 6)
    """

    nodes: int
    directed: bool = False
    names: tuple[str, ...] = ()
    attributes: tuple[tuple[str, tuple[float | str, ...]], ...] = ()
    covariates: tuple[tuple[str, tuple[tuple[float, ...], ...]], ...] = ()

    @property
    def size(self) -> int:
        """D, the number of dyads."""
        return self.nodes * (self.nodes - 1) // (1 if self.directed else 2)

    @property
    def dyads(self) -> tuple[tuple[int, int], ...]:
        """(i, j) of each coordinate of x, row after row; i < j where networks are undirected."""
        every = range(self.nodes)
        return tuple((i, j) for i in every for j in every if (i != j if self.directed else i < j))


@dataclass(frozen=True)
class Spec:
    """What one example is.

    Args:
        shape: the event shape: (D,) for vectors, (C, H, W) for images.
        support: where a coordinate lies.
        classes: number of classes if examples have labels y in 0..classes-1.
        context: the shape of y where y is real: (C,) for vectors, (C, H, W) for images; a number C means (C,), and 0,
            as the empty shape, that y is not real.
        graph: the nodes, where x is a network; its coordinates are then the dyads, bits of a vector.

    Example:
        >>> images = Spec((1, 28, 28), Support.parse("levels:256"), classes=10)
        >>> images.dim, images.kind
        (784, 'image')
    """

    shape: tuple[int, ...]
    support: Support
    classes: int | None = None
    context: tuple[int, ...] = ()
    graph: Graph | None = None

    def __post_init__(self) -> None:
        if isinstance(self.context, int):
            object.__setattr__(self, "context", (self.context,) if self.context else ())

    @property
    def context_dim(self) -> int:
        """The number of coordinates of a real y; 0: y is not real."""
        return math.prod(self.context) if self.context else 0

    @property
    def context_kind(self) -> str:
        """What y is: ``labels``, or a ``vector``, ``sequence`` (T, C) or ``image`` of reals."""
        return "labels" if self.classes else {2: "sequence", 3: "image"}.get(len(self.context), "vector")

    @property
    def dim(self) -> int:
        """D, the number of coordinates."""
        return math.prod(self.shape)

    @property
    def alike(self) -> bool:
        """Whether all coordinates are of one kind, so that nats may be divided by their number."""
        return not self.support.columns

    @property
    def kind(self) -> str:
        """``image`` for three dimensions, else ``vector``."""
        return "image" if len(self.shape) == 3 else "vector"


@dataclass
class Batch:
    """Examples, in data space or in model space.

    Args:
        x: (B, *).
        y: the context: None, (B,) classes or (B, *) reals, *: ``Spec.context``.
        given: (B,) number of leading coordinates of x that are given and not scored, as in a window of text whose
            beginning is context: what is measured is p(x_given.. | x_..given). None: all of x is scored.
        progress: the fraction of the training budget that is used, in [0, 1]; 1 outside training.
    """

    x: Tensor
    y: Tensor | None = None
    given: Tensor | None = None
    progress: float = 1.0

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        y, given = (None if t is None else t.to(device) for t in (self.y, self.given))
        return replace(self, x=self.x.to(device), y=y, given=given)

    def rows(self, index: Tensor) -> Batch:
        """Some rows, by position."""
        y, given = (None if t is None else t[index] for t in (self.y, self.given))
        return replace(self, x=self.x[index], y=y, given=given)


@dataclass
class Given:
    """What a sampler must keep: values x (n, *) in model space where mask (n, *) is True; elsewhere x is ignored."""

    x: Tensor
    mask: Tensor
