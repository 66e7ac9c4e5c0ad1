"""The contract of the group ``estimator``: a way to measure the held-out NLL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.spec import Batch, Bound
from gencli.models.base import M, Partner


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


@dataclass
class Shared:
    """What an estimator measured once, for all rows alike.

    Args:
        variance: of a term that is common to all rows, such as log Z; it joins the record's ``se_estimator``.
        diagnostics: values for the record.
    """

    variance: float = 0.0
    diagnostics: dict[str, float] = field(default_factory=dict)


class Estimator(Partner[M], ABC):
    """A way to measure the NLL; ``bound`` says what its number is to the true one.

    ``scores_given``: whether it honours ``Batch.given``. ``variant``: added to the name of its records where options
    make it measure another density.
    ``examples``: rows of the validation split (the training split where there is none) that ``prepare`` wants to see.

    Args:
        draws: dequantization draws that are averaged for each example (1 where preprocessing draws nothing); two or
            more give the record its ``se_estimator``.
    """

    continuous: ClassVar[bool] = False
    bound: Bound
    examples: int = 0
    scores_given: bool = False
    variant: str = ""

    def __init__(self, draws: int = 2) -> None:
        if draws < 1:
            raise ValueError(f"estimator.draws={draws}: at least 1")
        self.draws = draws

    def check(self, model: M) -> None:
        """Refuse options that this model cannot honour.

        Raises:
            ValueError: names the key to change.
        """

    def prepare(self, model: M, examples: Batch | None, noise: Noise) -> Shared:
        """Measure what all rows share (log Z, a bandwidth), once before the rows; ``examples`` in model space."""
        return Shared()

    @abstractmethod
    def nll(self, model: M, batch: Batch, noise: Noise) -> Estimate:
        """Score the rows of a batch in model space."""
