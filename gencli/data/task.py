"""What inference without a likelihood is about: a prior p(theta), a simulator x ~ p(x given theta), observations.

Everything is float64 and on the CPU. n rows, D parameters, C coordinates of an observation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from gencli.core.spec import Support
from gencli.data.box import Box

Target: TypeAlias = Literal["parameters", "observations", "joint"]
"""What x of a data set is: theta, whose context is an observation; an observation, whose context is theta; or both,
theta first, without a context."""


class Prior(ABC):
    """A distribution of parameters.

    ``box``: outside of which its density is 0.
    """

    box: Box

    @property
    def dim(self) -> int:
        """D."""
        return len(self.box.low)

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Theta (n, D)."""

    @abstractmethod
    def log_prob(self, theta: Tensor) -> Tensor:
        """log p(theta) of rows (n, D), (n,) nats; -inf outside of the box. Gradients pass."""


class Task(ABC):
    """A prior and a simulator, and what is known of them.

    ``name``: of the data set that it makes. ``prior``: of theta. ``observed``: C. ``names``: of the parameters, none:
    theta 1, theta 2, ... ``support``: of an observation's coordinates. ``box``: in which observations lie, where they
    are real; None: everywhere. ``singular``: whether real observations have no density, because they take few values.
    """

    words: ClassVar[str] = "package.module:name of a class or function of yours that gives a Task"

    name: str
    prior: Prior
    observed: int
    names: tuple[str, ...] = ()
    support: Support = Support("real")
    box: Box | None = None
    singular: bool = False

    @property
    def parameter_names(self) -> list[str]:
        """Of theta's coordinates."""
        return list(self.names) or [f"theta_{k + 1}" for k in range(self.prior.dim)]

    @abstractmethod
    def simulate(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        """An observation (n, C) for each row of theta (n, D); all randomness is the generator's.

        A real number that has none is refused, unless the task is ``singular``: no density has a limit there.
        """

    def log_likelihood(self, x: Tensor, theta: Tensor) -> Tensor | None:
        """log p(x given theta) of rows x (n, C), theta (n, D): (n,) nats; None: it is not known."""
        return None

    def log_posterior(self, theta: Tensor, x: Tensor) -> Tensor | None:
        """log p(theta given x), normalised, of rows: (n,) nats; None: it has no closed form."""
        return None

    def posterior(self, x: Tensor, n: int, generator: torch.Generator) -> Tensor | None:
        """n independent exact draws (n, D) of the posterior given one x (C,); None: there is no way to have them."""
        return None
