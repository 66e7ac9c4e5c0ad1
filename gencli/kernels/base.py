"""The contract of the group ``kernel``: a transition of Markov chains on an energy E, of density exp(-E(x)) / Z.

Every function works on n chains at once, x (n, *), whose energies do not depend on each other. A temperature T is the
energy E / T. Energies are in fp32 even under autocast: a chain lives on differences. Discrete x are as models have
them: bits as floats 0 and 1, levels and categories as integers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from gencli.core.errors import RunFailed
from gencli.core.noise import Noise
from gencli.core.spec import Support
from gencli.kernels.energy import Energy as Energy
from gencli.kernels.energy import Of


class State(Protocol):
    """All that a chain remembers: where it is, and what its kernel keeps beside that. A state is never changed."""

    @property
    def x(self) -> Tensor:
        """Where n chains are, (n, *)."""


S = TypeVar("S", bound=State)


@dataclass(frozen=True)
class Info:
    """What a kernel tells of one step.

    Args:
        x: (n, *) the point whose energy this step has worked out: the new one, or the old one where steps are not
            accepted or refused.
        energy: (n,) its energy.
        accept: probability of acceptance of every proposal, to adapt to; None: nothing is refused.
        rates: what is averaged over the steps of a chain, by name, such as the ``acceptance``.
    """

    x: Tensor
    energy: Tensor
    accept: Tensor | None = None
    rates: Mapping[str, Tensor] = field(default_factory=dict)


class Kernel(ABC, Generic[S]):
    """A transition of Markov chains; its options are its fields.

    ``init`` makes a state of points, ``step`` takes a chain from state to state. During a warm-up ``adapt`` follows
    each step and ``settle`` ends it; a chain that has settled has one and the same transition at every step. All of
    them return what they find and leave their arguments as they are. Chain i is the same whatever n is.

    moves: kinds of support whose x it can move, as ``Support.kind`` names them.
    invariant: whether a step from a fresh state leaves exp(-E) of x as it is, which weights of annealed chains need.

    References:
        Cabezas et al., "BlackJAX: composable Bayesian inference in JAX", 2024 (init and step).
    """

    words: ClassVar[str] = "a section of the group kernel"
    moves: ClassVar[tuple[str, ...]] = ("real",)
    invariant: ClassVar[bool] = True

    @abstractmethod
    def init(self, energy: Energy, x: Tensor) -> S:
        """Chains that start at x (n, *)."""

    @abstractmethod
    def step(self, energy: Energy, state: S, noise: Noise) -> tuple[S, Info]:
        """One transition of every chain."""

    def adapt(self, state: S, info: Info) -> S:
        """Learn from a step of the warm-up."""
        return state

    def settle(self, state: S) -> S:
        """End the warm-up: keep what was learned."""
        return state

    def retarget(self, energy: Energy, x: Tensor, learned: S) -> S:
        """Chains at x (m, *) in an energy, all with what those of another state have learned, on average, in theirs.

        Where energies change from step to step, ``retarget`` and ``adapt`` in turn follow them; ``retarget`` alone,
        from one and the same state, is frozen. Here nothing is learned.
        """
        return self.init(energy, x)

    def reversal(self) -> Kernel[S]:
        """T~(x | x') = T(x' | x) exp(-E(x)) / exp(-E(x')): the chain backwards in time, here itself."""
        return self

    def summary(self, state: S) -> dict[str, float]:
        """What is to be said of the chains at their end."""
        return {}


def slope(energy: Of, x: Tensor) -> tuple[Tensor, Tensor]:
    """E(x) (n,) and its gradient (n, *), detached."""
    with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        x = x.detach().requires_grad_()
        e = energy(x)
        (gradient,) = torch.autograd.grad(e.sum(), x)
    return e.detach(), gradient


def require_moves(kernel: Kernel[Any], support: Support, what: str) -> None:
    """Refuse a kernel that cannot move such x.

    Args:
        kernel: of the chains.
        support: where a coordinate of x lies.
        what: the part that has the kernel, for the message.

    Raises:
        ValueError: its ``moves`` do not name the support's kind.
    """
    if support.kind not in kernel.moves:
        raise ValueError(f"{what} moves x that is {' or '.join(kernel.moves)}; this model's x is {support}")


def require_finite(x: Tensor, norms: Tensor, what: str) -> None:
    """Stop where a chain has left for infinity.

    Args:
        x: (n, *) where chains have ended.
        norms: (steps,) the largest norm among the chains at each step so far.
        what: the options that lead there.

    Raises:
        RunFailed: says which step size, how large the chains had become, and when.
    """
    bad = int((~torch.isfinite(x.flatten(1)).all(1)).sum())
    if bad:
        kept = norms[: int(torch.isfinite(norms).long().cumprod(0).sum())]
        grown = (
            f"the largest norm was {float(kept[-1]):.3g} at step {len(kept)}"
            if len(kept)
            else "they were so at the start"
        )
        raise RunFailed(
            f"{bad} of {len(x)} chains diverged with {what}: {grown} of {len(norms)}. Take a smaller step, or an "
            "accepted chain (mala, hmc), whose step adapts"
        )
