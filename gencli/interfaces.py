"""Every contract between the parts of gencli: specifications, capabilities, objectives, samplers, estimators.

Shapes: B rows in a batch, ``*`` the event shape, C the context's dimension. Likelihoods and energies are in nats.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencli.noise import Noise

Bound = Literal["exact", "upper", "lower", "estimate"]
"""What a reported number is to the NLL: the number itself, a bound from above or below, or neither."""


@dataclass(frozen=True)
class Support:
    """The set in which one coordinate of x lies.

    kind: ``real``, ``unit`` (floats in [0, 1]), ``binary``, ``levels`` (ordered integers 0..K-1), ``categorical``
    (unordered ones), ``graph``. levels: K for ``levels`` and ``categorical``, 2 for ``binary``, else None.
    """

    kind: str
    levels: int | None = None

    KINDS: ClassVar[tuple[str, ...]] = ("real", "unit", "binary", "levels", "categorical", "graph")

    @classmethod
    def parse(cls, text: str) -> Support:
        """Read ``real``, ``binary``, ``levels:256`` ...

        Raises:
            ValueError: the text names no support.
        """
        kind, _, levels = text.partition(":")
        counted = kind in ("levels", "categorical")
        if kind not in cls.KINDS or counted != levels.isdecimal() or (levels and not counted):
            raise ValueError(f"'{text}' is no support: real, unit, binary, levels:K, categorical:K or graph")
        if counted and int(levels) < 2:
            raise ValueError(f"'{text}' needs at least 2 values")
        return cls(kind, int(levels) if counted else 2 if kind == "binary" else None)

    @property
    def discrete(self) -> bool:
        """Whether x is an integer."""
        return self.levels is not None

    def __str__(self) -> str:
        return f"{self.kind}:{self.levels}" if self.kind in ("levels", "categorical") else self.kind


@dataclass(frozen=True)
class Spec:
    """What one example is.

    Args:
        shape: the event shape: (D,) for vectors, (C, H, W) for images.
        support: where a coordinate lies.
        classes: number of classes if examples have labels y in 0..classes-1.
        context: dimension of y where y is a vector of reals (0: it is not).
    """

    shape: tuple[int, ...]
    support: Support
    classes: int | None = None
    context: int = 0

    @property
    def dim(self) -> int:
        """D, the number of coordinates."""
        return math.prod(self.shape)

    @property
    def kind(self) -> str:
        """``image`` for three dimensions, else ``vector``."""
        return "image" if len(self.shape) == 3 else "vector"


@dataclass
class Batch:
    """Training examples in model space: x (B, *) and the context y: None, (B,) classes or (B, C) reals."""

    x: Tensor
    y: Tensor | None = None


class Network(nn.Module):
    """A network that knows no probability: in_shape -> out_shape, given an optional context vector (B, C).

    Constructor: ``Network(in_shape, out_shape, context, **options)``; a config's ``net`` node gives the options.
    """

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(B, *in_shape) -> (B, *out_shape)."""


NetworkFactory = Callable[[tuple[int, ...], tuple[int, ...], int], Network]
"""What a model gets as ``net``: (in_shape, out_shape, context dimension) -> a new network."""


# --- models ----------------------------------------------------------------------------------------------------------


class Model(nn.Module, ABC):
    """A generative model in model space; it inherits the capabilities that it offers.

    Args:
        spec: shape and support of what it models.
        conditional: model p(x given y) instead of p(x).

    Raises:
        ValueError: conditional on data without labels or context.
    """

    supports: ClassVar[tuple[str, ...]] = ("real",)
    shapes: ClassVar[tuple[str, ...]] = ("vector",)

    def __init__(self, spec: Spec, *, conditional: bool = False) -> None:
        super().__init__()
        if conditional and not (spec.classes or spec.context):
            raise ValueError("model.conditional=true needs data with labels or a context; this data has neither")
        self.spec = spec
        self.conditional = conditional

    @property
    def context_dim(self) -> int:
        """Dimension of the context vector that the networks get; 0 for an unconditional model."""
        return (self.spec.classes or self.spec.context) if self.conditional else 0

    def context(self, y: Tensor | None) -> Tensor | None:
        """y as a vector: one-hot classes (B, classes) or the reals (B, C) themselves; None if unconditional."""
        if not self.conditional:
            return None
        if y is None:
            raise ValueError("this model is conditional: it needs y")
        if self.spec.classes:
            return F.one_hot(y, self.spec.classes).float()
        return y

    def health(self, x: Tensor, y: Tensor | None = None) -> dict[str, float]:
        """Warning signs that are measured on a few validation examples and logged; a flow's round-trip error."""
        return {}


class Unnormalized(Model):
    """log p(x) = -E(x) - log Z, with Z unknown."""

    @abstractmethod
    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """E(x) in nats: (B, *) -> (B,)."""


class ExactLikelihood(Unnormalized):
    """A normalised density or mass function: log Z = 0."""

    @abstractmethod
    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """log p(x) in nats: (B, *) -> (B,)."""

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return -self.log_prob(x, y)


class DirectSampling(Model):
    """Independent samples without a chain."""

    @property
    def passes(self) -> int:
        """Sequential network passes that a batch of samples costs."""
        return 1

    @abstractmethod
    def sample(self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0) -> Tensor:
        """n samples (n, *) in model space; temperature scales the standard deviation of the base noise."""


class DataInitialized(Model):
    """A model that starts from the data: actnorm, EM, closed forms.

    ``initial_examples``: the most training examples that it wants to see.
    """

    initial_examples: int = 2048

    @abstractmethod
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """Set parameters from training examples x (N, *) in model space; called once, before the first step."""


# --- objectives, samplers, estimators --------------------------------------------------------------------------------


@dataclass
class Loss:
    """value: the scalar to minimise; logs: scalars to log, as detached tensors."""

    value: Tensor
    logs: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Turn:
    """One player's move within a training step.

    Args:
        name: names its optimizer and its loss in the logs.
        parameters: what this turn's optimizer moves.
        loss: a batch and noise -> Loss.
        repeats: moves a step, each on a batch of its own.
    """

    name: str
    parameters: list[nn.Parameter]
    loss: Callable[[Batch, Noise], Loss]
    repeats: int = 1


class Objective(nn.Module, ABC):
    """What training minimises. Critics, teachers and buffers are its own state.

    score_name: what ``score`` measures: ``nll`` (nats a row in model space, to which the caller adds the terms of
    preprocessing) or another name that is logged as it is. Lower is better.
    """

    requires: ClassVar[tuple[type[Model], ...]] = ()
    score_name: ClassVar[str] = "nll"

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec

    @abstractmethod
    def turns(self, model: Model) -> list[Turn]:
        """The players, in order."""

    @abstractmethod
    def score(self, model: Model, x: Tensor, y: Tensor | None, noise: Noise) -> Tensor:
        """The validation score of each row: (B,)."""


class Sampler(ABC):
    """A way to draw from a model; its options are constructor arguments.

    Args:
        classes: labels to draw from a conditional model, dealt in turn; None: all of them.
    """

    requires: ClassVar[tuple[type[Model], ...]] = ()

    def __init__(self, classes: list[int] | None = None) -> None:
        if classes is not None and (
            not isinstance(classes, list) or not classes or not all(isinstance(c, int) for c in classes)
        ):
            raise ValueError(f"sampler.classes={classes}: a list of labels, such as [3,5]")
        self.classes = classes

    @abstractmethod
    def sample(self, model: Model, n: int, y: Tensor | None, noise: Noise) -> Tensor:
        """n samples (n, *) in model space."""


@dataclass
class Estimate:
    """NLL of each row in model space.

    Args:
        nll: (B,) nats.
        variance: (B,) variance of the estimator itself for each row; None: it has none.
        diagnostics: (B,) values, averaged into the record.
    """

    nll: Tensor
    variance: Tensor | None = None
    diagnostics: dict[str, Tensor] = field(default_factory=dict)


class Estimator(ABC):
    """A way to measure the NLL; ``bound`` says what its number is to the true one.

    Args:
        draws: dequantization draws that are averaged for each example (1 where preprocessing draws nothing); two or
            more give the record its ``se_estimator``.
    """

    requires: ClassVar[tuple[type[Model], ...]] = ()
    bound: ClassVar[Bound]

    def __init__(self, draws: int = 2) -> None:
        if draws < 1:
            raise ValueError(f"estimator.draws={draws}: at least 1")
        self.draws = draws

    @abstractmethod
    def nll(self, model: Model, x: Tensor, y: Tensor | None, noise: Noise) -> Estimate:
        """Score rows x (B, *) of model space."""


# --- data ------------------------------------------------------------------------------------------------------------


class Split(ABC):
    """Examples of one split, in a fixed order."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def gather(self, index: Tensor) -> Batch:
        """Examples by position, in data space, on the device of the split."""

    @property
    @abstractmethod
    def sha256(self) -> str:
        """Hash of the examples and labels in order: two records compare only if it is the same."""


class Dataset(ABC):
    """Named examples with a specification and fixed splits.

    ``entropy``: H of the true distribution in nats where it is known, so that a record can show NLL - H.
    ``binarization``: the named protocol that made grey data binary, or None. ``train_on``: what training reads.
    ``unit``: (low, width) of integer data whose k stands for the interval low + width [k, k+1) of a real quantity.
    """

    name: str
    spec: Spec
    entropy: float | None = None
    binarization: str | None = None
    train_on: str = "train"
    unit: tuple[float, float] | None = None

    @abstractmethod
    def split(self, name: str) -> Split | None:
        """``train``, ``val`` or ``test``, read at the first call; None where this data has no such split."""

    def to_image(self, x: Tensor) -> Tensor | None:
        """Examples of data space as images (n, 1 or 3, H, W) in [0, 1]; None where there is nothing to look at."""
        return None


def resolve_device(name: str) -> torch.device:
    """``auto`` is the first CUDA device, else MPS, else the CPU.

    Raises:
        ValueError: the device is not to be had on this machine.
    """
    if name == "auto":
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device={name} is not to be had here: {str(error).splitlines()[0]}") from error
    return device
