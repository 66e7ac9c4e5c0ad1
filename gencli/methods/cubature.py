"""The integral of exp(f) over boxes in one or two dimensions, in logarithms, by cells that are halved where needed.

A cell's mass is that of its 2^D halves, each by the product of Gauss-Legendre rules; its error is how far that is from
the rule on the whole cell. A rule knows no more than its nodes have seen. So the cells start from points where mass is
known to lie, such as examples, and the height of f at those points is held against what each cell found.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gencli.core.noise import Noise

LogDensity = Callable[[Tensor], Tensor]
"""f: (n, D) float64 -> (n,) float64."""

NODES = 5
"""Of a rule, a side."""
MOST = 4
"""Points in a cell before f is asked."""
HEIGHT = 4.0
"""A side: the largest ratio, of f at a point to the mean of its cell, that the rule is believed at."""
KNOTS, NEIGHBOUR, WIDE = 512, 8, 0.2
"""Of ``around``: most points that carry a distribution, the neighbour that says how wide, the share of the wide one."""


def grid(centre: Tensor, half: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Centres and half sides (n, D) of equal cells of the box centre +- half, ``cells`` a side."""
    unit = (2 * torch.arange(cells, dtype=torch.float64) + 1) / cells - 1
    centres = torch.cartesian_prod(*[unit] * len(centre)).view(-1, len(centre))
    return centre + half * centres, (half / cells).expand(len(centres), -1)


class Mesh:
    """Cells, and what was found in each.

    Args:
        f: the logarithm of what is integrated.
        points: (P, D) float64, where mass is known to lie.
        finest: half a side of the smallest cells, as a share of the distance from 0: what the precision of f resolves.
    """

    def __init__(self, f: LogDensity, points: Tensor, finest: float) -> None:
        self.f, self.points, self.finest = f, points, finest
        D = points.shape[1]
        x, w = (torch.from_numpy(values) for values in np.polynomial.legendre.leggauss(NODES))
        self.nodes = torch.cartesian_prod(*[x] * D).view(-1, D)
        self.log_w = torch.cartesian_prod(*[w.log()] * D).view(-1, D).sum(1)
        self.corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * D).view(-1, D)
        self.heights = f(points)
        self.at = torch.full((len(points),), -1)  # the cell of each point
        self.centre = self.half = points.new_zeros(0, D)
        self.halves = points.new_zeros(0, len(self.corners))  # log masses
        self.log_error = points.new_zeros(0)
        self.evaluations = len(points)

    @property
    def log_mass(self) -> Tensor:
        """log of the integral, ()."""
        return self.halves.flatten().logsumexp(0)

    @property
    def error(self) -> float:
        """Of ``log_mass``, in nats."""
        return float((self.log_error.logsumexp(0) - self.log_mass).exp())

    def add(self, centre: Tensor, half: Tensor) -> Tensor:
        """Take in cells (n, D) apart from those that are there, split until none holds many points; their log mass."""
        free = (self.at < 0).nonzero().flatten()
        inside = torch.ones(len(free), len(centre), dtype=torch.bool)
        for points, middle, side in zip(self.points[free].T, centre.T, half.T, strict=True):  # no (P, n, D) at once
            inside &= (points[:, None] - middle).abs() <= side
        at = torch.full_like(self.at, -1)
        at[free] = torch.where(inside.any(1), inside.int().argmax(1), -1)
        while True:
            crowded = torch.bincount(at[at >= 0], minlength=len(centre)) > MOST
            crowded &= self._divisible(centre, half)
            if not crowded.any():
                break
            centre, half, at = self._split(centre, half, at, crowded)
        halves = self._halves(centre, half)
        log_error = self._log_error(centre, half, at, self._rule(centre, half), halves)
        self.at = torch.where(at >= 0, at + len(self.centre), self.at)
        self.centre, self.half = torch.cat([self.centre, centre]), torch.cat([self.half, half])
        self.halves, self.log_error = torch.cat([self.halves, halves]), torch.cat([self.log_error, log_error])
        return halves.flatten().logsumexp(0)

    def refine(self, tolerance: float, evaluations: int) -> None:
        """Split cells until the error is at most ``tolerance``, as far as precision and evaluations of f go."""
        each = len(self.corners) ** 2 * len(self.nodes)
        while self.error > tolerance and self.evaluations + each <= evaluations:
            share, order = (self.log_error - self.log_mass).exp().nan_to_num(nan=math.inf).sort()
            split = torch.zeros(len(order), dtype=torch.bool)
            split[order[share.cumsum(0) > tolerance / 2]] = True
            split &= self._divisible(self.centre, self.half)
            room = (evaluations - self.evaluations) // each
            if split.sum() > room:
                worst = torch.where(split, self.log_error, -math.inf).topk(room).indices
                split = torch.zeros_like(split).index_fill_(0, worst, True)
            if not split.any():
                return
            whole, kept = self.halves[split].flatten(), ~split
            self.centre, self.half, self.at = self._split(self.centre, self.half, self.at, split)
            new = slice(int(kept.sum()), None)
            centre, half = self.centre[new], self.half[new]
            halves = self._halves(centre, half)
            at = torch.where(self.at >= new.start, self.at - new.start, -1)
            log_error = self._log_error(centre, half, at, whole, halves)
            self.halves = torch.cat([self.halves[kept], halves])
            self.log_error = torch.cat([self.log_error[kept], log_error])

    def _divisible(self, centre: Tensor, half: Tensor) -> Tensor:
        return (half > self.finest * centre.abs()).all(1)

    def _split(self, centre: Tensor, half: Tensor, at: Tensor, which: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cells that stay, then the children of those that do not; and the cells of the points."""
        kept, many = ~which, len(self.corners)
        place = torch.where(kept, kept.cumsum(0) - 1, kept.sum() + many * (which.cumsum(0) - 1))
        held = at >= 0
        old = at[held]
        corner = (self.points[held] > centre[old]).long() @ (2 ** torch.arange(centre.shape[1]).flip(0))
        at = at.clone()
        at[held] = place[old] + torch.where(which[old], corner, 0)
        children = (centre[which][:, None] + self.corners * half[which][:, None] / 2).flatten(0, 1)
        halves = (half[which] / 2).repeat_interleave(many, 0)
        return torch.cat([centre[kept], children]), torch.cat([half[kept], halves]), at

    def _rule(self, centre: Tensor, half: Tensor) -> Tensor:
        """log masses (n,) by one rule a cell."""
        nodes = centre[:, None] + half[:, None] * self.nodes
        self.evaluations += nodes.shape[0] * nodes.shape[1]
        values = self.f(nodes.flatten(0, 1)).view(nodes.shape[:2])
        return (values + self.log_w).logsumexp(1) + half.log().sum(1)

    def _halves(self, centre: Tensor, half: Tensor) -> Tensor:
        """log masses (n, 2^D) of the halves of cells."""
        inner = centre[:, None] + self.corners * half[:, None] / 2
        return self._rule(inner.flatten(0, 1), (half / 2).repeat_interleave(len(self.corners), 0)).view(len(centre), -1)

    def _log_error(self, centre: Tensor, half: Tensor, at: Tensor, whole: Tensor, halves: Tensor) -> Tensor:
        """log of the error (n,): the change from a whole cell to its halves, or what a point says is missing."""
        mass = halves.logsumexp(1)
        high, low = torch.maximum(whole, mass), torch.minimum(whole, mass)
        change = torch.where(high > -math.inf, high + torch.log1p(-(low - high).exp()), -math.inf)
        held = at >= 0
        height = torch.full_like(mass, -math.inf)
        height = height.scatter_reduce(0, at[held], self.heights[held], "amax")
        claimed = height + (2 * half).log().sum(1)
        believed = mass + centre.shape[1] * math.log(HEIGHT)
        return torch.maximum(change, torch.where(claimed > believed, claimed, -math.inf))


def around(points: Tensor, noise: Noise, draws: int) -> tuple[Tensor, Tensor]:
    """Draws (n, D) from a mixture around points (P, D), and their log density (n,).

    At some of the points lie Cauchy distributions as wide as the distance to the ``NEIGHBOUR``-th neighbour, a
    coordinate each; another one is as wide as all of them. Their tails leave no gap between a narrow part and what is
    around it, and bound importance weights far out.
    """
    D, low, high = points.shape[1], points.amin(0), points.amax(0)
    half = ((high - low) / 2).clamp(min=1e-9)
    centres = (points[:: -(-len(points) // KNOTS)] - (low + high) / 2) / half
    distances = torch.cdist(centres, centres, compute_mode="donot_use_mm_for_euclid_dist")
    width = distances.sort(1).values[:, min(NEIGHBOUR, len(centres) - 1)].clamp(min=1e-12)
    u = noise.rand(draws, D + 2).cpu().double()
    k, t = (u[:, 0] * len(centres)).long(), torch.tan(math.pi * (u[:, 2:] - 0.5))
    z = torch.where(u[:, 1:2] < WIDE, t, centres[k] + width[k, None] * t)

    def log_cauchy(of: Tensor, scale: Tensor) -> Tensor:
        """Of the draws, (n, P): a coordinate at a time, so that there is no (n, P, D)."""
        parts = [
            -(math.pi * scale * (1 + ((x[:, None] - c) / scale).square())).log() for x, c in zip(z.T, of.T, strict=True)
        ]
        return parts[0] if D == 1 else parts[0] + parts[1]

    close = log_cauchy(centres, width).logsumexp(1) - math.log(len(centres))
    wide = log_cauchy(torch.zeros_like(centres[:1]), torch.ones_like(width[:1]))[:, 0]
    log_q = torch.logaddexp(math.log(1 - WIDE) + close, math.log(WIDE) + wide)
    return (low + high) / 2 + half * z, log_q - half.log().sum()
