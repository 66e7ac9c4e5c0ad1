"""MADE: one masked network gives every conditional of the chain rule.

    log p_m(x | y) = sum_d log p(x_d | parameters_d),    parameters_d a function of y and of what precedes d in order m

    log p(x | y) = logsumexp_m log p_m(x | y) - ln M

With M sets of masks over the same weights the model is the mixture of its M members: a density like any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor

from gencli.core import sizes
from gencli.core.options import Auto, BelowOne, Count, Range
from gencli.core.spec import Given, Spec
from gencli.models.autoregressive.encodings import Kind, encoding_of
from gencli.models.base import Autoregressive, DataInitialized, Ensemble
from gencli.models.distributions import Conditional, Conditionals, Fair, head_of
from gencli.nn.base import NetworkFactory
from gencli.nn.masked import MaskedMLP


class MADE(Ensemble, Autoregressive, DataInitialized):
    """Masked autoencoder: bits, categories, levels, reals, or a table whose columns are several of these.

    In training each batch takes one member, drawn from torch's generator as dropout is: the mean loss bounds the
    mixture's NLL from above. Everything that measures sees the mixture itself.

    Args:
        spec: what one example is.
        conditional: model p(x given y).
        context: network from y to features that all others see; None: they see y itself.
        hidden: width of each hidden layer; auto: one layer of ``sizes.width``.
        activation: of the hidden units: ``relu``, ``elu``, ``silu``, ``softplus`` or ``tanh``.
        dropout: probability that a hidden unit is dropped in training.
        direct: links from the inputs straight to the outputs that they precede.
        masks: M, the number of sets of masks: of orders and of connectivity.
        orderings: ``natural``, x_1 to x_D in every member, or ``random``.
        conditionals: of levels: a ``logistic`` mixture, discretised, or a ``softmax``, which knows no order; None: by
            support, logistic for levels, a softmax for categories.
        components: C, of a mixture of logistics or, for reals, of normals; None: 5 logistics, 1 normal.
        encoding: what the network sees of levels and categories: ``onehot``, ``thermometer`` (1 for every k below x) or
            ``value`` (one number); None: the thermometer for levels up to 32, their value for more, one-hot categories.
            Of a table, these three options are those of the columns that have them.

    Raises:
        ValueError: an option that this support does not have.

    References:
        Germain, Gregor, Murray and Larochelle, "MADE: masked autoencoder for distribution estimation", 2015.
    """

    supports = ("binary", "levels", "categorical", "real", "mixed")
    shapes = ("vector",)

    def __init__(
        self,
        spec: Spec,
        *,
        conditional: bool = False,
        context: NetworkFactory | None = None,
        hidden: Auto[Annotated[Sequence[Count], Range(low=1)]] = "auto",
        activation: Literal["relu", "elu", "silu", "softplus", "tanh"] = "relu",
        dropout: BelowOne = 0.0,
        direct: bool = True,
        masks: Count = 1,
        orderings: Literal["natural", "random"] = "natural",
        conditionals: Conditionals | None = None,
        components: Count | None = None,
        encoding: Kind | None = None,
    ) -> None:
        super().__init__(spec, conditional=conditional, context=context)
        self.distribution = head_of(spec.support, conditionals, components)
        self.encoding = encoding_of(spec.support, encoding)
        self.members = masks
        self.natural = orderings == "natural"
        if spec.support.columns and not self.natural:
            raise ValueError(f"model.orderings={orderings}: columns of several kinds have one order, natural")
        self.net = MaskedMLP(
            spec.dim,
            self.distribution.n_params,
            self.context_dim,
            hidden=sizes.settle(self, "hidden", hidden, [sizes.width(spec.dim)]),
            dropout=dropout,
            inputs=self.encoding.features,
            activation=activation,
            direct=direct,
            members=masks,
            shuffle=not self.natural,
        )

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """Start from independent coordinates: the last bias is that of the marginals, the weights before it are 0."""
        self.net.last.bias.copy_(self.distribution.fit(x).flatten())

    def parameters_of(self, features: Tensor, y: Tensor | None = None, member: int | Tensor = 0) -> Tensor:
        """Every conditional's parameters under one member: features (B, D, I) -> (B, D, P)."""
        weight = self.net.last.weight
        context = self.context(y)
        context = None if context is None else context.to(weight.dtype)
        return self.net(features.to(weight.dtype).flatten(1), context, member).to(weight.dtype)

    def log_conditionals_of(self, member: int | Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        """log p_m of each coordinate given those before it in the order of one member: (B, D) -> (B, D)."""
        return self.distribution.log_prob(x, self.parameters_of(self.encoding(x), y, member))

    def log_prob_of(self, members: int, x: Tensor, y: Tensor | None = None) -> Tensor:
        log_p = torch.stack([self.log_conditionals_of(m, x, y).sum(1) for m in range(members)])
        return log_p.logsumexp(0) - math.log(members)

    def log_conditionals(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """log p of each coordinate given those before it, (B, D), which sum to log p.

        Members of several orders share no chain rule: then it is each coordinate's mean over the members, weighted by
        their posterior r given x, with an equal share of the rest, H(r) - ln M.
        """
        log_p = torch.stack([self.log_conditionals_of(m, x, y) for m in range(self.members)])  # (M, B, D)
        if self.members == 1:
            return log_p[0]
        if self.natural:
            upto = log_p.cumsum(2).logsumexp(0) - math.log(self.members)  # log p(x_1..x_d)
            return upto.diff(dim=1, prepend=upto.new_zeros(len(x), 1))
        whole = log_p.sum(2)
        r = whole.softmax(0)
        rest = whole.logsumexp(0) - math.log(self.members) - (r * whole).sum(0)
        return (r[..., None] * log_p).sum(0) + rest[:, None] / x.shape[1]

    def log_prob(self, x: Tensor, y: Tensor | None = None, given: Tensor | None = None) -> Tensor:
        if given is not None and not self.natural:
            raise ValueError("model.orderings=random cannot score a row whose beginning is given: take natural")
        if self.training and self.members > 1:
            log_p = self.log_conditionals_of(torch.randint(self.members, (1,), device=x.device), x, y)
            if given is not None:
                log_p = log_p.masked_fill(torch.arange(log_p.shape[1], device=x.device) < given[:, None], 0.0)
            return log_p.sum(1)
        if given is not None:
            return super().log_prob(x, y, given)
        return self.log_prob_of(self.members, x, y)

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
        """Samples (n, D). Each row first picks its member, by its posterior given the first coordinates that are kept.

        With random orders what is given has no say in that, and cannot inform coordinates that come before it.
        """
        weight = self.net.last.weight
        member = torch.zeros(n, dtype=torch.long, device=weight.device)
        if self.members > 1:
            member = pick(Fair(self._posterior(n, y, given))).long()
        context = self.context(y)
        walks = []
        for m in member.unique().tolist():
            rows = (member == m).nonzero()[:, 0]
            some = None if context is None else context[rows].to(weight.dtype)
            steps = self.net.steps(len(rows), some, m) if cached else _FullPasses(self, len(rows), some, m)
            walks.append((rows, steps, self.net.order(m)))

        order = torch.empty(n, self.spec.dim, dtype=torch.long, device=weight.device)
        for rows, _, own in walks:
            order[rows] = own
        if given is not None:
            known, kept = given.x.flatten(1).gather(1, order), given.mask.flatten(1).gather(1, order)
        values: list[Tensor] = []
        for t in range(self.spec.dim):
            head = self.distribution.column(t)
            params = weight.new_empty(n, head.n_params)
            for rows, steps, _ in walks:
                params[rows] = steps.params()[:, : head.n_params]
            value = pick(head.conditional(params))
            if self.spec.support.columns:
                value = value.to(weight.dtype)
            if given is not None:
                value = torch.where(kept[:, t], known[:, t], value)
            values.append(value)
            for rows, steps, _ in walks:
                steps.push(self.encoding.of_column(t, value[rows]).to(weight.dtype))
        return torch.stack(values, 1).gather(1, order.argsort(1))

    def _posterior(self, n: int, y: Tensor | None, given: Given | None) -> Tensor:
        """log p(member | the leading coordinates that are given) up to a constant, (n, M)."""
        if given is None or not self.natural:
            return self.net.last.weight.new_zeros(n, self.members)
        leading = given.mask.flatten(1).long().cumprod(1)
        x = given.x.flatten(1)
        return torch.stack([(self.log_conditionals_of(m, x, y) * leading).sum(1) for m in range(self.members)], 1)


class _FullPasses:
    """What ``MaskedSteps`` does, with a whole pass for every coordinate."""

    def __init__(self, model: MADE, n: int, context: Tensor | None, member: int) -> None:
        self.net, self.context, self.member = model.net, context, member
        self.order = model.net.order(member)
        self.features = model.net.last.weight.new_zeros(n, model.spec.dim, model.encoding.features)
        self.d = 0

    def params(self) -> Tensor:
        return self.net(self.features.flatten(1), self.context, self.member)[:, self.order[self.d]]

    def push(self, features: Tensor) -> None:
        self.features[:, self.order[self.d]] = features
        self.d += 1
