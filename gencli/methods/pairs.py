"""Variational bounds on log Z of energies over pairs: mean field from below, tree-reweighted beliefs from above.

    E(x) = sum_i u_i(x_i) + sum_e t_e(x_i, x_j),    e = (i, j)

Everything is in fp64 and deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.kernels.energy import Pairs


@dataclass(frozen=True)
class Field:
    """Such an energy with every edge once, and both of its directions: edge e goes from i to j, edge E + e back.

    Args:
        u: (D, K).
        source, target: (2E,) ends of directed edges.
        t: (2E, K, K), by the value at the source, then at the target.
    """

    u: Tensor
    source: Tensor
    target: Tensor
    t: Tensor

    @classmethod
    def of(cls, pairs: Pairs) -> Field:
        """Of a model, no two edges of which join the same two coordinates."""
        i, j = pairs.edges.unbind(1)
        t = pairs.tables.detach().double()
        return cls(pairs.unary.detach().double(), torch.cat([i, j]), torch.cat([j, i]), torch.cat([t, t.mT]))

    @property
    def edges(self) -> int:
        """E."""
        return len(self.source) // 2

    def gathered(self, values: Tensor) -> Tensor:
        """Sums of values (..., 2E, K) of directed edges over those that arrive at each coordinate: (..., D, K)."""
        total = values.new_zeros(*values.shape[:-2], *self.u.shape)
        return total.index_add(-2, self.target, values)

    def colours(self) -> list[Tensor]:
        """Sets of coordinates none of which are neighbours, by the greedy colouring."""
        near: list[set[int]] = [set() for _ in self.u]
        for i, j in zip(self.source.tolist(), self.target.tolist(), strict=True):
            near[i].add(j)
        colour: list[int] = []
        for i in range(len(near)):
            taken = {colour[j] for j in near[i] if j < i}
            colour.append(next(c for c in range(len(taken) + 1) if c not in taken))
        label = torch.tensor(colour, device=self.u.device)
        return [(label == c).nonzero().flatten() for c in range(max(colour) + 1)]


@dataclass(frozen=True)
class Found:
    """What an iteration has found.

    Args:
        log_z: nats.
        left: what is left open: how far the last sweep moved a lower bound, or how far an upper one had to be raised.
        sweeps: how many there were.
    """

    log_z: float
    left: float
    sweeps: int


def mean_field(field: Field, noise: Noise, restarts: int, sweeps: int, tolerance: float) -> tuple[Found, Tensor]:
    """max_q H(q) - E_q[E] <= log Z over products q of the coordinates' own distributions, by coordinate ascent.

    Each coordinate in turn takes the softmax of minus its mean energy, which never lowers the bound; coordinates that
    are no neighbours do so at once. One start is uniform, the others are random; the best end counts.

    Returns:
        the bound, and its q (D, K).

    References:
        Jordan, Ghahramani, Jaakkola and Saul, "An introduction to variational methods for graphical models", 1999.
    """
    (D, K), sets = field.u.shape, field.colours()
    arrive = [torch.isin(field.target, where).nonzero().flatten() for where in sets]
    start = noise.rand(1, restarts, D, K)[0].to(field.u).clamp(min=1e-3)
    start[0] = 1.0
    q = start / start.sum(-1, keepdim=True)

    def bound() -> Tensor:
        entropy = torch.special.entr(q).sum((1, 2))
        pairs = torch.einsum("ekl,rek,rel->r", field.t, q[:, field.source], q[:, field.target])
        return entropy - (q * field.u).sum((1, 2)) - 0.5 * pairs

    value, left, sweep = bound(), float("inf"), 0
    while sweep < sweeps and left > tolerance:
        for where, edges in zip(sets, arrive, strict=True):
            seen = torch.einsum("ekl,rek->rel", field.t[edges], q[:, field.source[edges]])
            pull = field.u.expand(restarts, D, K).index_add(1, field.target[edges], seen)
            q[:, where] = (-pull[:, where]).softmax(-1)
        before, value, sweep = value, bound(), sweep + 1
        left = float((value - before).max())
    return Found(float(value.max()), left, sweep), q[value.argmax()]


def tree_shares(field: Field) -> Tensor:
    """rho (E,): the share of spanning trees (of forests, where parts are apart) that have each edge.

    It is the effective resistance of the edge in the graph of unit resistors (Kirchhoff, 1847).
    """
    D, i, j = len(field.u), field.source[: field.edges], field.target[: field.edges]
    laplacian = field.u.new_zeros(D, D)
    ones = field.u.new_ones(field.edges)
    laplacian.index_put_((i, j), -ones, accumulate=True)
    laplacian = laplacian + laplacian.T
    laplacian = laplacian - torch.diag(laplacian.sum(1))
    inverse = torch.linalg.pinv(laplacian, hermitian=True)
    apart = inverse.diagonal()[i] + inverse.diagonal()[j] - 2 * inverse[i, j]
    return apart.clamp(max=1.0)


def beliefs(field: Field, rho: Tensor, sweeps: int, tolerance: float, q: Tensor | None = None) -> Found:
    """log Z by beliefs T_i and T_ij that messages m between neighbours agree on, with edges counted rho times.

        m_ij(x_j) = log sum_x_i exp(-t_ij / rho_ij + b_i(x_i) - m_ji(x_i)),    b_i = -u_i + sum_k rho_ki m_ki
        T_i ~ exp(b_i),    T_ij ~ exp(-t_ij / rho_ij + b_i - m_ji + b_j - m_ij)

    Whatever the messages are, exp(-E(x)) = e^c prod_i T_i prod_e (T_ij / T_i T_j)^rho_e. At a fixed point c is the
    value: Bethe's approximation where rho = 1; where rho is the share of spanning trees an upper bound. Away from it
    the sums over trees are not 1, and c + left is still an upper bound, with

        left = sum_e rho_e max log sum_x_i T_ij(x_i, x_j) / T_j(x_j),

    the maximum over x_j and both directions, because a tree is summed from its leaves. Messages start even, or as those
    of coordinates with distributions q (D, K): a symmetry of E that q breaks is one that even messages keep.

    References:
        Yedidia, Freeman and Weiss, "Constructing free-energy approximations and generalized belief propagation
        algorithms", 2005. Wainwright, Jaakkola and Willsky, "A new class of upper bounds on the log partition
        function", 2005.
    """
    E, K = field.edges, field.u.shape[1]
    both = torch.cat([rho, rho])
    scaled = -field.t / both[:, None, None]
    m = field.u.new_zeros(2 * E, K)
    if q is not None:
        m = (scaled + q.log()[field.source, :, None]).logsumexp(1)
    keep, best, found = 0.5, float("inf"), Found(float("nan"), float("inf"), 0)
    for sweep in range(1, sweeps + 1):
        b = -field.u + field.gathered(both[:, None] * m)
        cavity = b[field.source] - torch.cat([m[E:], m[:E]])  # what i says of itself without j
        found = _value(field, rho, scaled, b, cavity, sweep)
        if found.left <= tolerance:
            break
        if found.left < best:
            best = found.left
        elif sweep % 50 == 0:
            keep = min(0.95, 0.5 * (1 + keep))  # messages that turn in circles are to take smaller steps
        new = (scaled + cavity[:, :, None]).logsumexp(1)
        m = keep * m + (1 - keep) * (new - new.logsumexp(1, keepdim=True))
    return found


def _value(field: Field, rho: Tensor, scaled: Tensor, b: Tensor, cavity: Tensor, sweep: int) -> Found:
    E = field.edges
    T = b.log_softmax(1)
    joint = scaled[:E] + cavity[:E, :, None] + cavity[E:, None, :]
    joint = joint - joint.logsumexp((1, 2), keepdim=True)
    i, j = field.source[:E], field.target[:E]
    x = b.argmax(1)
    at = (torch.arange(E, device=x.device), x[i], x[j])
    node = -field.u.gather(1, x[:, None])[:, 0] - T.gather(1, x[:, None])[:, 0]
    edge = -field.t[at] - rho * (joint[at] - T[i, x[i]] - T[j, x[j]])
    c = float(node.sum() + edge.sum())
    off = torch.stack([joint.logsumexp(1) - T[j], joint.logsumexp(2) - T[i]]).amax((0, 2)) if E else rho
    return Found(c, float((rho * off.clamp(min=0)).sum()), sweep)
