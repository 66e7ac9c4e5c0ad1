"""Gibbs sampling: each coordinate of discrete x is drawn given all others, or all of x given auxiliary variables."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.kernels.base import Energy, Info, Kernel
from gencli.kernels.energy import Sweep


@dataclass(frozen=True)
class Sites:
    """State of chains on discrete x that need to remember nothing else.

    Args:
        x: (n, *).
    """

    x: Tensor


def inverse(rise: Tensor, u: Tensor) -> Tensor:
    """The values of coordinates (n, W), bits or integers, by the inverse of the distribution function.

    Args:
        rise: (n, W, K) energies of the values, up to a constant for each coordinate: p is the softmax of -rise.
        u: (n, W) uniform on [0, 1).
    """
    if rise.shape[-1] == 2:
        return u < (rise[..., 0] - rise[..., 1]).sigmoid()
    return (u[..., None] >= (-rise).softmax(-1).cumsum(-1)[..., :-1]).sum(-1)


def draw_block(sweep: Sweep, where: Tensor, noise: Noise) -> None:
    """Draw the coordinates where (W,), which do not interact, given the rest."""
    rise = sweep.changes(where)
    sweep.put(where, inverse(rise, noise.rand(len(rise), len(where)).to(rise)), rise)


@dataclass(frozen=True, kw_only=True)
class Gibbs(Kernel[Sites]):
    """A sweep: p(x_w | rest) for every coordinate in turn, or for all of a block at once where they do not interact.

    A model with auxiliary variables, such as an RBM, draws them and then all of x, which may be reals. Coordinates are
    visited in one fixed order, which leaves exp(-E) invariant and is not reversible.

    Args:
        backwards: from the last to the first, which is the sweep backwards in time.

    References:
        Geman and Geman, "Stochastic relaxation, Gibbs distributions, and the Bayesian restoration of images", 1984.
    """

    moves = ("binary", "levels", "categorical")
    in_blocks = True

    backwards: bool = False

    def init(self, energy: Energy, x: Tensor) -> Sites:
        return Sites(x.detach())

    def exchange(self, energy: Energy, state: Sites, index: Tensor, ratio: Tensor) -> Sites:
        return Sites(state.x[index])

    @torch.no_grad()
    def step(self, energy: Energy, state: Sites, noise: Noise) -> tuple[Sites, Info]:
        x = state.x
        if energy.resample is not None:
            x = energy.resample(x, noise)
        else:
            blocks = energy.blocks
            if blocks is None:
                blocks = tuple(torch.arange(x[0].numel(), device=x.device).split(1))
            sweep = energy.sweep(x)
            for where in reversed(blocks) if self.backwards else blocks:
                draw_block(sweep, where, noise)
            x = sweep.x
        return Sites(x), Info(x, energy)

    def reversal(self) -> Gibbs:
        return replace(self, backwards=not self.backwards)
