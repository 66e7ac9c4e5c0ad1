"""The masked network of MADE, whose output d sees only the inputs before d.

Hidden units carry degrees: a unit of degree m sees x_1..x_m, output d sees units of degree below d. In the order of
their degrees every mask is a staircase, so that a new x_d completes one slice of each layer.

References:
    Germain, Gregor, Murray and Larochelle, "MADE: masked autoencoder for distribution estimation", 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "elu": F.elu,
    "silu": F.silu,
    "softplus": F.softplus,
    "tanh": torch.tanh,
}


class MaskedLinear(nn.Linear):
    """A linear layer whose weight is zero wherever mask (out, in) is."""

    mask: Tensor

    def __init__(self, mask: Tensor, bias: bool = True) -> None:
        super().__init__(mask.shape[1], mask.shape[0], bias)
        self.register_buffer("mask", mask.float(), persistent=False)

    def masked(self, ranks: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """The masked weight; ranks: the row and column of ``mask`` that each output and input takes."""
        if ranks is None:
            return self.weight * self.mask
        return self.weight * self.mask.index_select(0, ranks[0]).index_select(1, ranks[1])

    def forward(self, x: Tensor, ranks: tuple[Tensor, Tensor] | None = None) -> Tensor:
        return F.linear(x, self.masked(ranks), self.bias)


class MaskedMLP(nn.Module):
    """x (B, D * I) -> parameters (B, D, P), where those of coordinate d depend on what comes before it and the context.

    With several members, the same weights serve several sets of masks: member m has an order of the coordinates and,
    in each hidden layer, a permutation of the degrees. These are drawn at construction from torch's generator and
    travel with the state.

    Args:
        dim: D, the number of coordinates.
        n_params: P, the number of parameters of each coordinate.
        context: dimension of the context, which every unit may see; 0: none.
        hidden: width of each hidden layer.
        dropout: probability that a hidden unit is dropped in training.
        inputs: I, the number of features of each coordinate, which lie side by side.
        activation: of the hidden units, one of ``ACTIVATIONS``.
        direct: links from the features and the context straight to the parameters.
        members: M, the number of sets of masks.
        shuffle: random orders of the coordinates; False: x_1..x_D for every member.
    """

    def __init__(
        self,
        dim: int,
        n_params: int,
        context: int = 0,
        *,
        hidden: Sequence[int] = (512, 512),
        dropout: float = 0.0,
        inputs: int = 1,
        activation: str = "relu",
        direct: bool = False,
        members: int = 1,
        shuffle: bool = False,
    ) -> None:
        super().__init__()
        self.dim, self.n_params, self.inputs, self.members = dim, n_params, inputs, members
        # Units of degree 0 see the context alone; without one they would be constants.
        lowest = 0 if context or dim == 1 else 1
        coordinates = torch.arange(1, dim + 1)
        degrees = [coordinates] + [lowest + torch.arange(h) * (dim - lowest) // h for h in hidden]
        # ends[l][d]: how many units of layer l are complete once x_1..x_d are known
        self.ends = [[int((degree <= d).sum()) for d in range(dim)] for degree in degrees]

        masks = [b[:, None] >= a for a, b in pairwise(degrees)]
        self.hidden = nn.ModuleList(
            MaskedLinear(mask if i else mask.repeat_interleave(inputs, 1)) for i, mask in enumerate(masks)
        )
        seen = coordinates[:, None] > degrees[-1]
        self.last = MaskedLinear(seen.repeat_interleave(n_params, 0))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.context = nn.Linear(context, len(degrees[1]), bias=False) if context else None
        self.direct: MaskedLinear | None = None
        self.direct_context: nn.Linear | None = None
        if direct:
            before = coordinates[:, None] > coordinates
            self.direct = MaskedLinear(before.repeat_interleave(n_params, 0).repeat_interleave(inputs, 1), bias=False)
            nn.init.zeros_(self.direct.weight)
            if context:
                self.direct_context = nn.Linear(context, dim * n_params, bias=False)
                nn.init.zeros_(self.direct_context.weight)
        self.dropout = nn.Dropout(dropout)
        self.activation = ACTIVATIONS[activation]

        # ranks[l][m, i]: the place of unit i of layer l (of coordinate i for l = 0) among the degrees of member m
        self.permuted = members > 1 or shuffle
        if self.permuted:
            for layer, width in enumerate([dim, *hidden]):
                ranks = [torch.randperm(width) if layer or shuffle else torch.arange(width) for _ in range(members)]
                self.register_buffer(f"ranks{layer}", torch.stack(ranks))

    def order(self, member: int = 0) -> Tensor:
        """The coordinates (D,) in the order in which a member takes them."""
        if not self.permuted:
            return torch.arange(self.dim, device=self.last.weight.device)
        return self._ranks(0, member).argsort()

    def _ranks(self, layer: int, member: int | Tensor) -> Tensor:
        ranks = self.get_buffer(f"ranks{layer}")
        return ranks[member] if isinstance(member, int) else ranks.index_select(0, member)[0]

    def _widened(self, ranks: Tensor, width: int) -> Tensor:
        """Ranks of coordinates -> those of their ``width`` features or parameters."""
        if width == 1:
            return ranks
        return (ranks[:, None] * width + torch.arange(width, device=ranks.device)).flatten()

    def _places(self, member: int | Tensor) -> list[Tensor]:
        """Ranks of the features, of every hidden layer and of the parameters."""
        first = self._ranks(0, member)
        hidden = [self._ranks(i + 1, member) for i in range(len(self.hidden))]
        return [self._widened(first, self.inputs), *hidden, self._widened(first, self.n_params)]

    def forward(self, x: Tensor, context: Tensor | None = None, member: int | Tensor = 0) -> Tensor:
        places = self._places(member) if self.permuted else None
        h = x
        for i, layer in enumerate(self.hidden):
            h = layer(h, (places[i + 1], places[i]) if places else None)
            if i == 0 and self.context is not None:
                h = h + self.context(context)
            h = self.dropout(self.activation(h))
        out = self.last(h, (places[-1], places[-2]) if places else None)
        if self.direct is not None:
            out = out + self.direct(x, (places[-1], places[0]) if places else None)
        if self.direct_context is not None:
            out = out + self.direct_context(context)
        return out.view(-1, self.dim, self.n_params)

    def steps(self, n: int, context: Tensor | None = None, member: int = 0) -> MaskedSteps:
        """The parameters of n rows, one coordinate after the other in a member's order."""
        return MaskedSteps(self, n, context, member)

    @torch.no_grad()
    def solve(self, invert: Callable[[int, Tensor], Tensor], n: int, context: Tensor | None = None) -> Tensor:
        """Find x (n, D) with x_d = invert(d, parameters of coordinate d given x_1..x_{d-1}), for d = 0..D-1.

        All D steps together cost about one forward pass. Dropout is off and no gradient flows.
        """
        steps = self.steps(n, context)
        for d in range(self.dim):
            steps.push(invert(d, steps.params()))
        return steps.values[0]


class MaskedSteps:
    """A pass that is drawn out over the coordinates: ``params`` then ``push``, D times, under ``torch.no_grad()``.

    Step d computes only the units that the newest coordinate completes. Dropout is off.

    Args:
        net: the network.
        n: rows.
        context: (n, C), if the network has one.
        member: which masks.
    """

    def __init__(self, net: MaskedMLP, n: int, context: Tensor | None, member: int) -> None:
        self.net, self.d = net, 0
        layers = cast(list[MaskedLinear], [*net.hidden, net.last])
        places = net._places(member) if net.permuted else []
        orders = [place.argsort() for place in places]  # in this order of its units every mask is a staircase

        def staircase(weight: Tensor, out: int, into: int) -> Tensor:
            return weight.index_select(0, orders[out]).index_select(1, orders[into]) if orders else weight

        def sorted_rows(rows: Tensor, layer: int) -> Tensor:
            return rows.index_select(0, orders[layer]) if orders else rows

        pairs = list(zip(layers, pairwise(places), strict=True)) if places else [(layer, None) for layer in layers]
        masked = [layer.masked((pair[1], pair[0]) if pair else None) for layer, pair in pairs]
        self.weights = [staircase(weight, i + 1, i) for i, weight in enumerate(masked)]
        self.bias = [sorted_rows(layer.bias, i + 1) for i, layer in enumerate(layers)]
        self.values = [net.last.weight.new_zeros(n, weight.shape[1]) for weight in self.weights]
        self.shift = net.context(context)[:, orders[1] if orders else slice(None)] if net.context is not None else None
        self.direct: Tensor | None = None
        if net.direct is not None:
            self.direct = staircase(net.direct.masked((places[-1], places[0]) if places else None), -1, 0)
        self.direct_shift: Tensor | None = None
        if net.direct_context is not None:
            self.direct_shift = net.direct_context(context)[:, orders[-1] if orders else slice(None)]

    def params(self) -> Tensor:
        """Those of the next coordinate: (n, P)."""
        net, d = self.net, self.d
        for i, weight in enumerate(self.weights[:-1]):
            start = net.ends[i + 1][d - 1] if d else 0
            stop, seen = net.ends[i + 1][d], net.ends[i][d] * (1 if i else net.inputs)
            if start == stop:
                continue
            new = F.linear(self.values[i][:, :seen], weight[start:stop, :seen], self.bias[i][start:stop])
            if i == 0 and self.shift is not None:
                new = new + self.shift[:, start:stop]
            self.values[i + 1][:, start:stop] = net.activation(new)
        rows, seen = slice(d * net.n_params, (d + 1) * net.n_params), net.ends[-1][d]
        out = F.linear(self.values[-1][:, :seen], self.weights[-1][rows, :seen], self.bias[-1][rows])
        if self.direct is not None:
            seen = d * net.inputs
            out = out + F.linear(self.values[0][:, :seen], self.direct[rows, :seen])
        if self.direct_shift is not None:
            out = out + self.direct_shift[:, rows]
        return out

    def push(self, features: Tensor) -> None:
        """Say what the coordinate is: its features (n, I), or (n,) where there is one."""
        width = self.net.inputs
        if width == 1:
            self.values[0][:, self.d] = features.reshape(-1)
        else:
            self.values[0][:, self.d * width : (self.d + 1) * width] = features
        self.d += 1
