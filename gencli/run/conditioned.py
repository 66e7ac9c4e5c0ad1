"""The density p(x given y) of a run at one y: the Python side of a posterior, or of a forecast from one state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from gencli.core.errors import UsageError, near, quoted
from gencli.core.spec import Bound
from gencli.models.base import ExactLikelihood
from gencli.run import sampling
from gencli.run.assembly import Parts
from gencli.run.rows import checked_rows, log_prob
from gencli.run.subject import subject

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Nats:
    """What an estimator says of each row.

    Args:
        values: (B,) nats of -log p(x given y).
        bound: what they are to it: ``exact``, an ``upper`` or ``lower`` bound, or an ``estimate``.
    """

    values: Tensor
    bound: Bound


@dataclass(frozen=True, repr=False)
class Conditioned:
    """The density p(x given y) of a trained model at one y; made by ``Run.condition``.

    As a posterior of a simulator's parameters::

        posterior = gencli.load(run).condition({"s1": 0.3, "s2": 1.2})
        theta = posterior.sample(1000)
        entropy = -posterior.log_prob(theta).mean()  # nats

    Args:
        parts: of the run.
        y: (1,) or (1, *), in the units of the data.
        batch_size: rows that are scored at a time.
    """

    parts: Parts
    y: Tensor
    batch_size: int

    def __repr__(self) -> str:
        y = self.y[0]
        told = str(y.tolist()) if y.numel() <= 8 else f"of shape {tuple(y.shape)}"
        return f"p(x given y) at y {told}, x of shape {self.parts.dataset.spec.shape}"

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """N samples (n, *) in data units, by the sampler of the run; the first ones are the same whatever n."""
        return sampling.draw(self.parts, n, seed, self._repeated(n)).x.cpu()

    def log_prob(self, x: ArrayLike, seed: int = 0) -> Tensor:
        """Log p(x given y), (B,) nats; of integer data under a model of reals, a lower bound.

        Args:
            x: (B, *) in data units.
            seed: of the dequantization.

        Raises:
            UsageError: the model has no normalised density, or x is none of this data.
        """
        if not isinstance(self.parts.model, ExactLikelihood):
            raise UsageError("this model has no exact likelihood: nll(x) gives what its estimator says, with its bound")
        rows = sampling.as_rows(self.parts.dataset, x)
        return log_prob(
            self.parts, checked_rows(self.parts, rows, self._repeated(len(rows))), seed, None, self.batch_size
        )

    def nll(self, x: ArrayLike, seed: int = 0) -> Nats:
        """-log p(x given y) of each row in nats by the estimator of the run, and what that is to the truth.

        What the estimator measures once for all rows, it measures on examples of the run's data.

        Args:
            x: (B, *) in data units.
            seed: of the dequantization and of the estimator.

        Raises:
            UsageError: the model has no estimator, x is none of this data, or the data cannot be read.
        """
        parts = self.parts
        rows = sampling.as_rows(parts.dataset, x)
        batch = checked_rows(parts, rows, self._repeated(len(rows)))
        name = next((name for name in ("val", "train") if parts.dataset.split(name) is not None), "test")
        asked = subject(parts, name, seed, self.batch_size)
        return Nats(asked.nll(batch), asked.bound)

    def _repeated(self, n: int) -> Tensor:
        return self.y.expand(n, *self.y.shape[1:])


def one(parts: Parts, y: Any) -> Tensor:
    """One y as a user gives it, checked: (1,) classes or (1, *) reals of data space.

    Raises:
        UsageError: the model takes none, there is no such class or column, or it has another shape.
    """
    if isinstance(y, Mapping):
        y = _by_name(parts, y)
    scalar = isinstance(y, str | int | float) or np.ndim(y) == 0
    if not scalar and parts.dataset.spec.classes:
        raise UsageError(f"condition(y): one class, by name or number, is needed, not {quoted(y)}")
    return sampling.checked_context(parts, [y] if scalar else np.asarray(y)[None], 1)


def _by_name(parts: Parts, y: Mapping[str, Any]) -> list[Any]:
    """Values of the context in the order of its columns."""
    names = parts.dataset.context_names()
    if not names or parts.dataset.spec.classes:
        raise UsageError("condition(y): the context of this data has no names: give its numbers")
    for name in y:
        if name not in names:
            raise UsageError(f"condition(y): '{quoted(name)}' is no column of the context. {near(name, names)}")
    for name in names:
        if name not in y:
            raise UsageError(f"condition(y): a value of '{quoted(name)}' is lacking")
    return [y[name] for name in names]
