"""MADE: a masked network whose output d sees only the inputs before d.

Hidden units carry degrees, sorted within each layer: a unit of degree m sees x_1..x_m, output d sees units of degree
below d. Sorted degrees make every mask a staircase, so that a new x_d completes one slice of each layer.

References:
    Germain, Gregor, Murray and Larochelle, "MADE: masked autoencoder for distribution estimation", 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MaskedLinear(nn.Linear):
    """A linear layer whose weight is zero wherever mask (out, in) is."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.float(), persistent=False)

    def masked(self) -> Tensor:
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.masked(), self.bias)


class MADE(nn.Module):
    """x (B, D) -> parameters (B, D, P), where those of coordinate d depend on x_1..x_{d-1} and the context only.

    Args:
        dim: D, the number of coordinates.
        n_params: P, the number of parameters of each coordinate.
        context: dimension of the context, which every unit may see; 0: none.
        hidden: width of each hidden layer.
        dropout: probability that a hidden unit is dropped in training.
    """

    def __init__(
        self, dim: int, n_params: int, context: int = 0, *, hidden: Sequence[int] = (512, 512), dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dim, self.n_params = dim, n_params
        # Units of degree 0 see the context alone; without one they would be constants.
        lowest = 0 if context or dim == 1 else 1
        coordinates = torch.arange(1, dim + 1)
        degrees = [coordinates] + [lowest + torch.arange(h) * (dim - lowest) // h for h in hidden]
        # ends[l][d]: how many units of layer l are complete once x_1..x_d are known
        self.ends = [[int((degree <= d).sum()) for d in range(dim)] for degree in degrees]

        self.hidden = nn.ModuleList(MaskedLinear(b[:, None] >= a) for a, b in pairwise(degrees))
        seen = coordinates[:, None] > degrees[-1]
        self.last = MaskedLinear(seen.repeat_interleave(n_params, 0))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.context = nn.Linear(context, len(degrees[1]), bias=False) if context else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = x
        for i, layer in enumerate(self.hidden):
            h = layer(h)
            if i == 0 and self.context is not None:
                h = h + self.context(context)
            h = self.dropout(F.relu(h))
        return self.last(h).view(-1, self.dim, self.n_params)

    @torch.no_grad()
    def solve(self, invert: Callable[[int, Tensor], Tensor], n: int, context: Tensor | None = None) -> Tensor:
        """Find x (n, D) with x_d = invert(d, parameters of coordinate d given x_1..x_{d-1}), for d = 0..D-1.

        Step d computes only the units that x_d completes: all D steps together cost about one forward pass.
        Dropout is off and no gradient flows.
        """
        layers = [layer for layer in self.hidden if isinstance(layer, MaskedLinear)]
        hidden, bias = [layer.masked() for layer in layers], [layer.bias for layer in layers]
        last = self.last.masked()
        values = [last.new_zeros(n, self.dim)] + [last.new_zeros(n, len(b)) for b in bias]
        x = values[0]
        shift = self.context(context) if self.context is not None else None

        for d in range(self.dim):
            for i, weight in enumerate(hidden):
                start = self.ends[i + 1][d - 1] if d else 0
                stop, seen = self.ends[i + 1][d], self.ends[i][d]
                if start == stop:
                    continue
                new = F.linear(values[i][:, :seen], weight[start:stop, :seen], bias[i][start:stop])
                if i == 0 and shift is not None:
                    new = new + shift[:, start:stop]
                values[i + 1][:, start:stop] = new.relu_()
            rows, seen = slice(d * self.n_params, (d + 1) * self.n_params), self.ends[-1][d]
            params = F.linear(values[-1][:, :seen], last[rows, :seen], self.last.bias[rows])
            x[:, d] = invert(d, params)
        return x
