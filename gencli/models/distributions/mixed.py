"""Columns of several kinds: a head for each coordinate, and values that may be missing.

    p(x) = prod_d p_d(x_d),    a mass for integers and for the missing value, a density for reals

An optional column has the base measure of its own kind plus one atom, the missing value (NaN in x):

    p(missing) = sigma(l),    p(x) = (1 - sigma(l)) p(x | present)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gencli.core.noise import Noise
from gencli.core.spec import Support
from gencli.models.distributions.base import Conditional, Head
from gencli.models.distributions.categorical import BernoulliHead, Categorical, CategoricalHead
from gencli.models.distributions.logistic import LogisticMixtureHead
from gencli.models.distributions.normal import NormalMixtureHead

Conditionals = Literal["softmax", "logistic"]
"""Of levels: any distribution, or a mixture that knows their order."""


class OptionalValue(Conditional):
    """A value that is missing, NaN, or drawn from the distribution of those that are there.

    Args:
        logit: (n, *) of being missing.
        present: the distribution of the values.
    """

    def __init__(self, logit: Tensor, present: Conditional) -> None:
        self.missing = Categorical(torch.stack([torch.zeros_like(logit), logit], -1))
        self.present = present

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        missing = self.missing.sample(noise, temperature).bool()  # both are drawn: streams do not depend on values
        value = self.present.sample(noise, temperature).to(self.missing.logits.dtype)
        return value.masked_fill(missing, torch.nan)


@dataclass(frozen=True)
class OptionalHead(Head):
    """A value that may be missing: P = 1 + that of the head of the values.

    Args:
        present: the head of values that are there.
    """

    present: Head

    @property
    def n_params(self) -> int:
        return 1 + self.present.n_params

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        missing, logit = x.isnan(), params[..., 0]
        value = self.present.log_prob(x.masked_fill(missing, 0.0), params[..., 1:])
        return torch.where(missing, F.logsigmoid(logit), F.logsigmoid(-logit) + value)

    def conditional(self, params: Tensor) -> OptionalValue:
        return OptionalValue(params[..., 0], self.present.conditional(params[..., 1:]))

    def mean(self, params: Tensor) -> Tensor:
        """The mean of the values that are there."""
        return self.present.mean(params[..., 1:])

    def fit(self, x: Tensor) -> Tensor:
        """As the contract says, with one more example of each of missing and present."""
        rows = []
        for column in x.T:
            there = column[~column.isnan()]
            some = there if len(there) else there.new_zeros(1)
            logit = ((len(column) - len(there) + 1) / column.new_tensor(len(column) + 2)).logit()
            rows.append(torch.cat([logit[None], self.present.fit(some[:, None])[0]]))
        return torch.stack(rows)


class Row(Conditional):
    """All columns of n rows at once, independent of each other.

    Args:
        columns: the distribution of each.
        dtype: of the row.
    """

    def __init__(self, columns: Sequence[Conditional], dtype: torch.dtype) -> None:
        self.columns, self.dtype = columns, dtype

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        return torch.stack([column.sample(noise, temperature).to(self.dtype) for column in self.columns], -1)


@dataclass(frozen=True)
class MixedHead(Head):
    """D columns, each with its head; parameters (*, D, P) are as wide as the widest needs, x (*, D) are floats.

    Args:
        heads: of each column, which reads the first of the parameters.
    """

    heads: tuple[Head, ...]

    @property
    def n_params(self) -> int:
        return max(head.n_params for head in self.heads)

    def column(self, d: int) -> Head:
        return self.heads[d]

    def _groups(self) -> dict[Head, list[int]]:
        """Columns that share a head are scored at once."""
        groups: dict[Head, list[int]] = {}
        for d, head in enumerate(self.heads):
            groups.setdefault(head, []).append(d)
        return groups

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        log_p = torch.empty(params.shape[:-1], dtype=params.dtype, device=params.device)
        x = x.expand(log_p.shape)
        for head, columns in self._groups().items():
            log_p[..., columns] = head.log_prob(x[..., columns], params[..., columns, : head.n_params])
        return log_p

    def conditional(self, params: Tensor) -> Row:
        columns = [head.conditional(params[..., d, : head.n_params]) for d, head in enumerate(self.heads)]
        return Row(columns, params.dtype)

    def mean(self, params: Tensor) -> Tensor:
        means = [head.mean(params[..., d, : head.n_params]) for d, head in enumerate(self.heads)]
        return torch.stack(means, -1)

    def fit(self, x: Tensor) -> Tensor:
        found = x.new_zeros(len(self.heads), self.n_params)
        for d, head in enumerate(self.heads):
            found[d, : head.n_params] = head.fit(x[:, d : d + 1])[0]
        return found


def head_of(support: Support, conditionals: Conditionals | None = None, components: int | None = None) -> Head:
    """The head that a support asks for.

    Args:
        support: of the coordinates; of mixed columns, an option is that of the columns that have it.
        conditionals: of levels; None: logistic for levels, a softmax for categories.
        components: of a mixture of logistics or, for reals, of normals; None: 5 logistics, 1 normal.

    Raises:
        ValueError: an option that this support does not have.
    """
    kinds = {column.kind for column in support.columns or (support,)}
    if conditionals == "logistic" and "levels" not in kinds:
        raise ValueError(f"model.conditionals=logistic needs ordered levels; this data is {support}")
    if conditionals is not None and not kinds & {"levels", "categorical"}:
        raise ValueError(f"model.conditionals={conditionals} is for levels and categories; this data is {support}")
    logistic = "levels" in kinds and conditionals != "softmax"
    if components is not None and not ("real" in kinds or logistic):
        raise ValueError(f"model.components={components} is for reals and for model.conditionals=logistic")
    if support.columns:
        return MixedHead(tuple(_head(column, conditionals, components) for column in support.columns))
    return _head(support, conditionals, components)


def _head(support: Support, conditionals: Conditionals | None, components: int | None) -> Head:
    """The head of one coordinate."""
    head: Head
    if support.kind == "real":
        head = NormalMixtureHead(components or 1)
    elif support.kind == "binary":
        head = BernoulliHead()
    elif support.kind == "levels" and conditionals != "softmax":
        head = LogisticMixtureHead(support.size, components or 5)
    else:
        head = CategoricalHead(support)
    return OptionalHead(head) if support.optional else head
