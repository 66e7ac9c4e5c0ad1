"""Independent coordinates, each with its own distribution: what a model that sees them together must beat.

    log p(x) = sum_d log p_d(x_d)

The NLL of a better model, taken from this one's, is how much it knows of one coordinate from the others.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gencli.core.noise import Noise
from gencli.core.options import Count
from gencli.core.spec import Given, Spec
from gencli.models.base import Autoregressive, DataInitialized
from gencli.models.distributions import Conditional, Conditionals, head_of


class Independent(Autoregressive, DataInitialized):
    """A table of marginal distributions, which starts at those of the data: frequencies, means and deviations.

    As an energy of discrete x it is the simplest: a change of one coordinate depends on no other.

    Args:
        spec: what one example is.
        conditional: refused.
        conditionals: of levels: a ``logistic`` mixture, discretised, or a ``softmax``, which knows no order; None: by
            support, logistic for levels, a softmax for categories.
        components: C, of a mixture of logistics or, for reals, of normals; None: 5 logistics, 1 normal.

    Raises:
        ValueError: conditional, or an option that this support does not have.
    """

    supports = ("binary", "levels", "categorical", "real", "mixed")
    shapes = ("vector", "image")
    initial_examples = 1_000_000

    def __init__(
        self,
        spec: Spec,
        *,
        conditional: bool = False,
        conditionals: Conditionals | None = None,
        components: Count | None = None,
    ) -> None:
        super().__init__(spec, conditional=conditional)
        if conditional:
            raise ValueError("model.conditional=true: independent coordinates have no network to condition; take made")
        self.distribution = head_of(spec.support, conditionals, components)
        self.marginals = nn.Parameter(torch.zeros(spec.dim, self.distribution.n_params))

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        self.marginals.copy_(self.distribution.fit(x.flatten(1)))

    def log_conditionals(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.distribution.log_prob(x.flatten(1), self.marginals.expand(len(x), -1, -1)).view(x.shape)

    @torch.no_grad()
    def sample(self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0) -> Tensor:
        """All coordinates at once: other draws than ``decode`` has of the same noise, of the same distribution."""
        drawn = self.distribution.sample(self.marginals.expand(n, -1, -1), noise, temperature)
        return drawn.view(n, *self.spec.shape)

    def changes(self, x: Tensor, where: Tensor, y: Tensor | None = None) -> Tensor:
        """log p_w(x_w) - log p_w(k), from a table of all D K values."""
        values = torch.arange(self.spec.support.size, device=x.device)
        log_p = self.distribution.log_prob(values.to(x.dtype)[:, None], self.marginals.expand(len(values), -1, -1)).T
        return log_p[where].gather(1, x.flatten(1)[:, where].long().T).T[..., None] - log_p[where]

    def blocks(self) -> tuple[Tensor, ...]:
        return (torch.arange(self.spec.dim, device=self.marginals.device),)

    @torch.no_grad()
    def decode(
        self,
        n: int,
        y: Tensor | None = None,
        *,
        pick: Callable[[Conditional], Tensor],
        given: Given | None = None,
        cached: bool = True,
    ) -> Tensor:
        values: list[Tensor] = []
        for d, marginal in enumerate(self.marginals):
            head = self.distribution.column(d)
            value = pick(head.conditional(marginal[: head.n_params].expand(n, -1)))
            if self.spec.support.columns:
                value = value.to(marginal.dtype)
            if given is not None:
                value = torch.where(given.mask.flatten(1)[:, d], given.x.flatten(1)[:, d], value)
            values.append(value)
        return torch.stack(values, 1).view(n, *self.spec.shape)
