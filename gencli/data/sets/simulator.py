"""Pairs of a prior's parameters and a simulator's observations: data for inference without a likelihood."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from gencli.core.noise import mix_seed
from gencli.core.options import Count, ProperFraction, Range, Seed
from gencli.core.spec import Spec, Support
from gencli.data.box import Box
from gencli.data.lazy import Lazy
from gencli.data.simulators.dynamics import SIR, LotkaVolterra
from gencli.data.simulators.gaussians import GaussianLinear, GaussianLinearUniform, GaussianMixture
from gencli.data.simulators.glm import BernoulliGLM
from gencli.data.simulators.slcp import SLCP
from gencli.data.simulators.two_moons import TwoMoons
from gencli.data.split import TensorSplit, storage_dtype
from gencli.data.task import Target, Task

TASKS: dict[str, type[Task]] = {
    kind.name: kind
    for kind in (
        GaussianLinear,
        GaussianLinearUniform,
        GaussianMixture,
        TwoMoons,
        SLCP,
        SIR,
        LotkaVolterra,
        BernoulliGLM,
    )
}

Embedded: TypeAlias = Literal[
    "gaussian_linear", "gaussian_linear_uniform", "gaussian_mixture", "two_moons", "slcp", "sir", "lotka_volterra",
    "bernoulli_glm",
]  # fmt: skip

_DRAWS = 10_000  # of the Monte Carlo entropy


class Simulator(Lazy):
    """theta ~ prior, observation ~ simulator(theta); x is one of the two, and the other is its context, or x is both.

    ``target=parameters`` is for posteriors p(theta given x), ``observations`` for likelihoods p(x given theta).
    ``joint`` is for p(theta, x), of which an energy is enough: what it lacks is one constant, the same at every theta.
    All ``simulations`` are training and validation examples, the test split has others.

    Bounded parameters reach a model of reals by a map of the prior's box onto R^D, whose log-determinant is part of the
    NLL, so that no probability leaks; ``unbounded=false`` leaves them as they are.

    ``entropy`` is H of x given its context where the density is known: the mean over 10,000 own draws, with
    ``entropy_error``.

    Args:
        task: a name, or ``package.module:name`` of a Task of yours, whose package is trusted.
        target: what x is.
        simulations: the budget.
        val: share of the budget that is validation.
        test: number of test examples.
        unbounded: map bounded x onto R^D.
        seed: of the examples; the ten observations do not depend on it.

    Raises:
        ValueError: the budget leaves no training or no validation example; ``joint`` of a task whose observations are
            discrete, so that no density of reals has them beside parameters. In ``split``, too: what is simulated is of
            another shape, not finite, or a real number without noise.
    """

    shape_kind: ClassVar[str] = "vector"
    support: ClassVar[str] = "real"
    OBSERVATIONS = 10
    task: Task
    target: Target

    def __init__(
        self,
        task: Embedded | Task = "two_moons",
        target: Target = "parameters",
        simulations: Annotated[int, Range(low=2)] = 1000,
        val: ProperFraction = 0.1,
        test: Count = 1000,
        unbounded: bool = True,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.task = task if isinstance(task, Task) else TASKS[task]()
        self.target, self.seed, self.name = target, seed, f"simulator_{self.task.name}"
        held = max(1, round(val * simulations))
        if held >= simulations:
            raise ValueError(f"val={val}: nothing of {simulations} simulations is left for training")
        self.sizes, self.unbounded = {"train": simulations - held, "val": held, "test": test}, unbounded
        prior, task_ = self.task.prior, self.task
        if target == "parameters":
            self.spec = Spec((prior.dim,), Support("real"), context=(task_.observed,))
        elif target == "joint":
            if task_.support.discrete:
                raise ValueError(
                    f"target=joint: observations of this task are {task_.support}, its parameters real; take "
                    "target=parameters or target=observations"
                )
            self.spec = Spec((prior.dim + task_.observed,), Support("real"))
        else:
            self.spec = Spec((task_.observed,), task_.support, context=(prior.dim,))

    @property
    def _support(self) -> Box:
        """Where x lies, if it is real."""
        theta, x = self.task.prior.box, self.task.box or Box.everywhere(self.task.observed)
        if self.target == "joint":
            return Box(torch.cat([theta.low, x.low]), torch.cat([theta.high, x.high]))
        return theta if self.target == "parameters" else x

    @property
    def box(self) -> Box | None:  # type: ignore[override]
        return self._support if self.unbounded and self._support.bounded and not self.spec.support.discrete else None

    def protocol(self) -> dict[str, object]:
        return {"target": self.target}

    def context_names(self) -> list[str] | None:
        if self.target == "joint":
            return None
        if self.target == "observations":
            return self.task.parameter_names
        return [f"x_{k + 1}" for k in range(self.task.observed)]

    def _generator(self, *parts: int) -> torch.Generator:
        return torch.Generator().manual_seed(mix_seed(*parts))

    def _pairs(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Theta (n, D) and observations (n, C)."""
        theta = self.task.prior.sample(n, generator)
        return theta, self._simulated(theta, generator)

    def _simulated(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        """Observations (n, C) of theta (n, D).

        Raises:
            ValueError: the simulator gives something else.
        """
        n, x = len(theta), self.task.simulate(theta, generator)
        if tuple(x.shape) != (n, self.task.observed):
            raise ValueError(f"data.task: simulate gave shape {tuple(x.shape)}, ({n}, {self.task.observed}) is needed")
        if not bool(x.isfinite().all()):
            raise ValueError(f"data.task: {int((~x.isfinite()).any(1).sum())} of {n} simulations are not finite")
        return x

    @cached_property
    def observations(self) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """The ten parameters (10, D) and what was observed of them (10, C), the same for every seed."""
        return self._pairs(self.OBSERVATIONS, self._generator(0, 1))

    def _refuse_certain(self) -> None:
        """Refuse a simulator that gives a real number of its observations without noise.

        The likelihood has no density then, and posteriors lie on less than the parameters' space.

        Raises:
            ValueError: it gives the same of ten parameters by two generators.
        """
        if self.task.support.discrete or self.task.singular:
            return
        theta = self.task.prior.sample(10, self._generator(0, 5))
        first, again = (self._simulated(theta.clone(), self._generator(0, 5, k)) for k in (1, 2))
        certain = (first == again).all(0).nonzero()
        if len(certain):
            raise ValueError(
                f"data.task: simulate gives x_{int(certain[0]) + 1} of the same parameters without noise: no density "
                "has a limit there; leave it out (singular = True says that it takes few values)"
            )

    def load(self, name: str) -> TensorSplit:
        if name == "train":
            self._refuse_certain()
        if name == "test":
            theta, x = self._pairs(self.sizes["test"], self._generator(self.seed, 3))
        else:  # one stream, so that a larger budget begins with the smaller one's parameters
            theta, x = self._pairs(self.sizes["train"] + self.sizes["val"], self._generator(self.seed, 2))
            rows = slice(self.sizes["val"], None) if name == "train" else slice(self.sizes["val"])
            theta, x = theta[rows], x[rows]
        if not self.task.support.discrete and self.task.box is not None:
            x = self.task.box.within(x)
        if self.target == "parameters":
            return TensorSplit(self.task.prior.box.within(theta.float()), x)
        if self.target == "joint":
            return TensorSplit(self._support.within(torch.cat([theta, x], 1).float()))
        return TensorSplit(x.to(storage_dtype(self.spec.support)) if self.spec.support.discrete else x, theta)

    def log_density(self, x: Tensor, y: Tensor | None = None) -> Tensor | None:
        if (y is None and self.target != "joint") or (self.target != "parameters" and self.task.singular):
            return None
        rows = x.cpu().double()
        if self.target == "joint":
            theta, seen = rows.tensor_split([self.task.prior.dim], 1)
            log_likelihood = self.task.log_likelihood(seen, theta)
            return None if log_likelihood is None else self.task.prior.log_prob(theta) + log_likelihood
        assert y is not None
        given = y.cpu().double()
        log_p = self.task.log_posterior if self.target == "parameters" else self.task.log_likelihood
        return log_p(rows, given)

    @cached_property
    def _surprise(self) -> Tensor | None:
        """-log p of each of own draws; None: it is not known."""
        theta, x = self._pairs(_DRAWS, self._generator(0, 4))
        if self.target == "joint":
            log_p = self.log_density(torch.cat([theta, x], 1))
        else:
            log_p = self.log_density(*((theta, x) if self.target == "parameters" else (x, theta)))
        return None if log_p is None else -log_p

    @property
    def entropy(self) -> float | None:  # type: ignore[override]
        return None if self._surprise is None else float(self._surprise.mean())

    @property
    def entropy_error(self) -> float | None:
        """Standard error of ``entropy``."""
        return None if self._surprise is None else float(self._surprise.std()) / math.sqrt(_DRAWS)
