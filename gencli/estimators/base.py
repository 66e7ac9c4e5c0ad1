"""The contract of the group ``estimator``: a way to measure the held-out NLL.

An estimator is its options and nothing else. What it finds out before the rows it returns as ``Shared``, which it is
given again for each batch; so two measurements with one estimator know nothing of each other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Count
from gencli.core.spec import Batch, Bound
from gencli.models.base import M, Partner
from gencli.models.trained import Learned


@dataclass(frozen=True)
class Estimate:
    """NLL of each row in model space.

    Args:
        nll: (B,) nats.
        variance: (B,) variance of the estimator itself for each row; None: it has none.
        diagnostics: (B,) values, averaged into the record; ``collapsed``: 1 where few importance weights hold all the
            weight of a row, so that its variance is a lower limit only.
        parts: (B,) nats that add up to nll, for the ledger; none: nll itself is one term, ``model``.
    """

    nll: Tensor
    variance: Tensor | None = None
    diagnostics: dict[str, Tensor] = field(default_factory=dict)
    parts: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Shared:
    """What an estimator measured once, for all rows alike.

    Args:
        bound: what the NLL of this measurement is to the true one.
        state: what ``nll`` needs of it, such as log Z.
        variance: of a term that is common to all rows, such as log Z; it joins the record's ``se_estimator``.
        collapsed: few importance weights hold all the weight, so that ``variance`` is a lower limit only.
        diagnostics: values for the record.
        settled: what options that say ``auto`` became.
        flags: of the record.
    """

    bound: Bound
    state: Any = None
    variance: float = 0.0
    collapsed: bool = False
    diagnostics: dict[str, float] = field(default_factory=dict)
    settled: dict[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Estimator(Partner[M], ABC):
    """A way to measure the NLL of a model with the capability M.

    ``bound``: what its number is to the true one, unless ``prepare`` finds another. ``examples``: rows of the
    validation split (the training split where there is none) that ``prepare`` wants to see. ``scores_given``: whether
    it honours ``Batch.given``. ``variant``: added to the name of its records where options make it measure another
    density.

    Args:
        draws: dequantization draws that are averaged for each example (1 where preprocessing draws nothing); two or
            more give the record its ``se_estimator``.
    """

    draws: Count = 2

    continuous: ClassVar[bool] = False
    bound: ClassVar[Bound]
    # Without annotations, so that they are no options; an estimator may make them depend on its own.
    examples = 0
    scores_given = False
    variant = ""

    def check(self, model: M, learned: Learned) -> None:
        """Refuse options that this model cannot honour.

        Raises:
            ValueError: names the key to change.
        """

    def prepare(self, model: M, examples: Batch | None, noise: Noise) -> Shared:
        """Measure what all rows share (log Z, a bandwidth), once before the rows.

        Args:
            model: in evaluation mode.
            examples: as many as ``examples`` says, in model space; None: it asks for none.
            noise: one stream for the whole measurement.
        """
        return Shared(self.bound)

    def within(self, seconds: float | None) -> Estimator[M]:
        """The same, whose ``prepare`` takes no longer than that, about, where it can choose; by default itself.

        Args:
            seconds: None: no bound.
        """
        return self

    def idle(self, model: M) -> tuple[str, ...]:
        """Options that change nothing for this model, which its records therefore leave out."""
        return ()

    def coarse(self) -> Estimator[M]:
        """The same quantity at a cost that the thousands of points of a picture allow; by default itself."""
        return self

    @abstractmethod
    def nll(self, model: M, batch: Batch, noise: Noise, shared: Shared) -> Estimate:
        """Score the rows of a batch in model space.

        Args:
            model: in evaluation mode.
            batch: B rows.
            noise: a stream for each row.
            shared: what ``prepare`` returned.
        """
