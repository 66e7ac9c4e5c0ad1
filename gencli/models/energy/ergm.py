"""Exponential random graphs: networks y on fixed nodes with p(y) = exp(theta . s(y)) / Z.

Z is a sum over 2^D networks. What a chain needs is less: a tie's conditional log-odds are theta times its change
statistics, and those look at the neighbourhood of its two nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gencli.core.errors import quoted
from gencli.core.spec import Spec
from gencli.kernels.energy import CELLS
from gencli.models.base import DataInitialized, Model
from gencli.models.classical.independent import Independent
from gencli.models.energy.ergm_parse import parse
from gencli.models.energy.ergm_start import pseudo_likelihood
from gencli.models.energy.ergm_terms import Dyads, Neighbourhoods, Networks, Term, matchings
from gencli.models.structure import ExponentialFamily


class ERGM(ExponentialFamily, DataInitialized):
    """E(y) = -theta . s(y), with theta = theta_0 + S phi, of which phi is trained.

    theta_0 is the maximum pseudo-likelihood estimate and S S^T the inverse of its information for all networks
    together, so that a step of phi is a step of standard errors, whatever the scales of the statistics are and however
    much they depend on each other. Where all terms are independent of other dyads, theta_0 is the MLE.

    The reference has independent dyads: the fit of those terms alone that look at no other dyad, or else ties with
    probability 1/2.

    Args:
        spec: of networks.
        conditional: refused.
        terms: s, by statnet's names: ``edges``, ``mutual``, ``triangles``, ``kstar(k)``, ``gwesp(decay)``,
            ``gwdegree(decay)``, ``nodecov(attribute)``, ``nodefactor(attribute)``, ``nodematch(attribute)``,
            ``absdiff(attribute)``, ``edgecov(covariate)``; decays are fixed. A text may be a sum of them, as statnet's
            formulas are: ``edges + gwesp(0.5)``.

    Raises:
        ValueError: conditional, data that are no networks, or a term that they do not have.

    References:
        Wasserman and Pattison, "Logit models and logistic regressions for social networks", 1996.
        Hunter and Handcock, "Inference in curved exponential family models for networks", 2006.
    """

    supports = ("binary",)
    layouts = ("network",)
    initial_examples = 1_000_000
    theta_0: Tensor
    scale: Tensor
    mean: Tensor
    count: Tensor

    ROWS = 1 << 20  # dyads of a batch, at most, whose change statistics are laid out at once

    def __init__(self, spec: Spec, *, conditional: bool = False, terms: Sequence[str] = ("edges",)) -> None:
        super().__init__(spec, conditional=conditional)
        if conditional:
            raise ValueError("model.conditional=true: an exponential random graph has another Z for each y")
        if spec.graph is None:
            raise ValueError("model=ergm needs networks: data=karate, florentine, lazega or graph")
        if not terms:
            raise ValueError("model.terms=[]: one term or more")
        self.dyads = Dyads(spec.graph)
        self.terms = nn.ModuleList([parse(text, spec.graph) for sum_ in terms for text in sum_.split("+")])
        self.names = tuple(name for term in self._terms for name in term.names)
        for name in self.names:
            if self.names.count(name) > 1:
                raise ValueError(f"model.terms: {quoted(name)} is there twice")
        K = len(self.names)
        self.phi = nn.Parameter(torch.zeros(K))
        self.register_buffer("theta_0", torch.zeros(K))
        self.register_buffer("scale", torch.eye(K))
        self.register_buffer("mean", torch.zeros(K))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.base = Independent(spec).requires_grad_(False)

    @property
    def _terms(self) -> list[Term]:
        return [term for term in self.terms if isinstance(term, Term)]

    @property
    def theta(self) -> Tensor:
        return self.theta_0 + (self.scale * self.phi).sum(1)

    @property
    def observed(self) -> tuple[Tensor, int]:
        return self.mean.double(), int(self.count)

    def statistics(self, x: Tensor) -> Tensor:
        networks = Networks(x, self.dyads)
        return torch.cat([term.statistic(networks) for term in self._terms], 1)

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return -self.statistics(x) @ self.theta

    def change_statistics(self, x: Tensor, where: Tensor) -> Tensor:
        """s(y with the tie) - s(y without it) of dyads (B, W), W of each network: (B, W, K)."""
        with torch.autocast(x.device.type, enabled=False):  # counts beyond 256 are none in bf16
            at = Neighbourhoods(Networks(x, self.dyads), where)
            return torch.cat([term.change(at) for term in self._terms], 2)

    def changes(self, x: Tensor, where: Tensor, y: Tensor | None = None) -> Tensor:
        n, N, theta, found = len(x), self.dyads.graph.nodes, self.theta, []
        for part in where.split(max(1, CELLS // max(1, n * N))):
            rise = -(self.change_statistics(x, part.expand(n, -1)) * theta).sum(2)
            found.append(torch.stack([-rise, rise], 2) * torch.stack([x[:, part], 1 - x[:, part]], 2))
        return torch.cat(found, 1)

    def toggles(self, x: Tensor, where: Tensor, y: Tensor | None = None) -> Tensor:
        at = where[:, None]
        return (self.change_statistics(x, at)[:, 0] * self.theta).sum(1) * (2 * x.gather(1, at)[:, 0] - 1)

    def blocks(self) -> tuple[Tensor, ...] | None:
        reaches, device = {term.reach for term in self._terms}, self.dyads.i.device
        if "any" in reaches:
            return None
        every = torch.arange(self.spec.dim, device=device)
        if reaches == {"dyad"}:
            return (every,)
        if "node" not in reaches:
            one_way = self.dyads.i < self.dyads.j
            return every[one_way], every[~one_way]
        return tuple(torch.tensor(block, device=device) for block in matchings(self.dyads.graph))

    def reference(self) -> Model | None:
        return self.base

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """theta_0, S and the reference, from networks x (N, D).

        Raises:
            ValueError: the pseudo-likelihood has no maximum, or terms depend on each other.
        """
        every = torch.arange(self.spec.dim, device=x.device)
        rows = x.split(max(1, self.ROWS // (self.spec.dim * self.dyads.graph.nodes)))
        C = torch.cat([self.change_statistics(part, every.expand(len(part), -1)).flatten(0, 1) for part in rows])
        ties = x.flatten()
        theta, information = pseudo_likelihood(C, ties, self.names)
        self.theta_0.copy_(theta)
        self.scale.copy_(torch.linalg.inv(torch.linalg.cholesky(information)).T)
        self.phi.zero_()
        self.mean.copy_(self.statistics(x).double().mean(0))
        self.count.fill_(len(x))
        own = [term.reach == "dyad" for term in self._terms for _ in term.names]
        if any(own):
            columns = torch.tensor(own, device=x.device).nonzero().flatten()
            theta, _ = pseudo_likelihood(C[:, columns], ties, [self.names[k] for k in columns.tolist()])
            self.base.marginals.copy_((C[: self.spec.dim, columns].double() @ theta)[:, None])
