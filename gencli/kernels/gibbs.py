"""Gibbs sampling of discrete x: each coordinate is drawn given all others."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.kernels.base import Energy, Info, Kernel


@dataclass(frozen=True)
class Sites:
    """State of chains on discrete x that need to remember nothing else.

    Args:
        x: (n, *).
    """

    x: Tensor


def inverse(log_p: Tensor, u: Tensor) -> Tensor:
    """The values of coordinates (n, W), bits or integers, by the inverse of the distribution function.

    Args:
        log_p: (n, W, K) logarithms of probabilities, up to a constant for each coordinate.
        u: (n, W) uniform on [0, 1).
    """
    if log_p.shape[-1] == 2:
        return u < (log_p[..., 1] - log_p[..., 0]).sigmoid()
    return (u[..., None] >= log_p.softmax(-1).cumsum(-1)[..., :-1]).sum(-1)


def draw_block(energy: Energy, x: Tensor, where: Tensor, noise: Noise) -> Tensor:
    """x (n, *) with the coordinates where (W,), which do not interact, drawn given the rest."""
    log_p = -energy.changes(x, where)
    value = inverse(log_p, noise.rand(len(x), len(where)).to(log_p))
    return x.flatten(1).index_copy(1, where, value.to(x.dtype)).view_as(x)


@dataclass(frozen=True, kw_only=True)
class Gibbs(Kernel[Sites]):
    """A sweep: p(x_w | rest) for every coordinate in turn, or for all of a block at once where they do not interact.

    A model with auxiliary variables, such as an RBM, draws them and then all of x. Coordinates are visited in one fixed
    order, which leaves exp(-E) invariant and is not reversible.

    Args:
        backwards: from the last to the first, which is the sweep backwards in time.

    References:
        Geman and Geman, "Stochastic relaxation, Gibbs distributions, and the Bayesian restoration of images", 1984.
    """

    moves = ("binary", "levels", "categorical")

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
            for where in reversed(blocks) if self.backwards else blocks:
                x = draw_block(energy, x, where, noise)
        return Sites(x), Info(x, energy)

    def reversal(self) -> Gibbs:
        return replace(self, backwards=not self.backwards)
