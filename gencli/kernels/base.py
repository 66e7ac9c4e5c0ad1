"""The contract of the group ``kernel``: a transition of Markov chains on an energy E, of density exp(-E(x)) / Z.

Every function works on n chains at once, x (n, *), whose energies do not depend on each other. A temperature T is the
energy E / T. Energies are in fp32 even under autocast: a chain lives on differences. Discrete x are as models have
them: bits as floats 0 and 1, levels and categories as integers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from gencli.core import tensors
from gencli.core.errors import RunFailed
from gencli.core.noise import Noise
from gencli.core.spec import Support
from gencli.kernels.energy import Energy as Energy
from gencli.kernels.energy import Of as Of


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
        x: (n, *) the point whose energy this step knows: the new one, or the old one where steps are not accepted or
            refused.
        of: its energy (n,) where the step has worked it out; else the energy of the chains, which is asked when
            ``energy`` is first read: a sweep needs no energies, and most of those who take one do not either.
        accept: probability of acceptance of every proposal, to adapt to; None: nothing is refused.
        rates: what is averaged over the steps of a chain, by name, such as the ``acceptance``.
    """

    x: Tensor
    of: Tensor | Of
    accept: Tensor | None = None
    rates: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def energy(self) -> Tensor:
        """E(x), (n,) nats."""
        if isinstance(self.of, Tensor):
            return self.of
        with torch.no_grad(), torch.autocast(self.x.device.type, enabled=False):
            return self.of(self.x)


class Kernel(ABC, Generic[S]):
    """A transition of Markov chains; its options are its fields.

    ``init`` makes a state of points, ``step`` takes a chain from state to state. During a warm-up ``adapt`` follows
    each step and ``settle`` ends it; a chain that has settled has one and the same transition at every step. All of
    them return what they find and leave their arguments as they are. Chain i is the same whatever n is.

    moves: kinds of support whose x it can move, as ``Support.kind`` names them; ``moved`` where options narrow them.
    layouts: of the data that it is for, as models name them; none: of any.
    over_pairs: whether it asks an energy for its ``pairs``.
    in_blocks: whether it draws all of x by the energy's ``resample``, of any support, where there is one.

    References:
        Cabezas et al., "BlackJAX: composable Bayesian inference in JAX", 2024 (init and step).
    """

    words: ClassVar[str] = "a section of the group kernel"
    moves: ClassVar[tuple[str, ...]] = ("real",)
    layouts: ClassVar[tuple[str, ...]] = ()
    over_pairs: ClassVar[bool] = False
    in_blocks: ClassVar[bool] = False

    @property
    def moved(self) -> tuple[str, ...]:
        """``moves``, or those of them that it moves with its options."""
        return self.moves

    @property
    def invariant(self) -> bool:
        """Whether a step from a fresh state leaves exp(-E) of x as it is, which weights of annealed chains need."""
        return True

    @property
    def adapts(self) -> bool:
        """Whether a warm-up teaches it anything."""
        return type(self).adapt is not Kernel.adapt

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

    def exchange(self, energy: Energy, state: S, index: Tensor, ratio: Tensor) -> S:
        """Chains that change places: chain i goes on from where chain ``index[i]`` is, with what it has learned itself.

        Here they begin anew; a kernel that adapts, or that keeps more than x, says better.

        Args:
            energy: of the chains, as for ``step``.
            state: before.
            index: (n,) a permutation.
            ratio: (n,) the energy of chain i at its new place, as a multiple of what it was there for the other.
        """
        return self.init(energy, state.x[index])

    def warmed(self, energy: Energy, x: Tensor, steps: int, noise: Noise) -> S:
        """Chains from x (n, *) after a warm-up of so many steps."""
        return self.settle(self._adapted(energy, self.init(energy, x), steps, noise))

    def followed(self, energy: Energy, x: Tensor, learned: S, steps: int, noise: Noise) -> S:
        """Chains from x (n, *) after so many steps in which what another energy has taught them follows this one.

        All have the same settings then: those of a chain's own would depend on where it is.
        """
        state = self._adapted(energy, self.retarget(energy, x, learned), steps, noise)
        return self.retarget(energy, state.x, self.settle(state)) if self.adapts and steps else state

    def _adapted(self, energy: Energy, state: S, steps: int, noise: Noise) -> S:
        for _ in range(steps):
            state, info = self.step(energy, state, noise)
            state = self.adapt(state, info)
        return state

    def summary(self, state: S) -> dict[str, float]:
        """What is to be said of the chains at their end."""
        return {}


def slope(energy: Of, x: Tensor) -> tuple[Tensor, Tensor]:
    """E(x) (n,) and its gradient (n, *), detached; by autograd, where the energy has no better way."""
    if isinstance(energy, Energy) and energy.slope is not None:
        return energy.slope(x)
    return tensors.slope(energy, x)


MOVERS = {
    "real": ("hmc", "mala", "langevin", "tempering"),
    **dict.fromkeys(("binary", "levels", "categorical"), ("gibbs", "gibbs_with_gradients", "dmala", "tempering")),
}
"""Options of the group that move x of a kind, those to try first at the front."""


def require_moves(kernel: Kernel[Any], support: Support, what: str) -> None:
    """Refuse a kernel that cannot move such x: what whoever takes a kernel asks when it meets its model.

    Args:
        kernel: of the chains.
        support: where a coordinate of x lies.
        what: the key that holds the kernel and its name, ``sampler.kernel: HMC``.

    Raises:
        ValueError: it does not move the support's kind; names kernels that do.
    """
    if support.kind not in kernel.moved:
        others = MOVERS.get(support.kind)
        near = f", which kernel={', '.join(others[:-1])} or {others[-1]} moves" if others else ""
        raise ValueError(f"{what} moves x that is {' or '.join(kernel.moved)}; this model's x is {support}{near}")


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
