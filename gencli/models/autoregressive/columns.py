"""Tokens of a table: each column has weights of its own into the body of a transformer, and out of it.

h_d = sum_i f_i(x_d) E_(d,i) + b_d,    parameters_d = W_d h + c_d,    f the features of column d
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gencli.core.spec import Support
from gencli.models.autoregressive.encodings import encoding_of
from gencli.models.distributions import Head


class Columns(nn.Module):
    """The two ends of a transformer over D columns of several kinds.

    Args:
        support: of the columns.
        head: the distributions whose parameters are read off.
        width: of a token.
    """

    def __init__(self, support: Support, head: Head, width: int) -> None:
        super().__init__()
        D = len(support.columns)
        self.encoding = encoding_of(support)
        self.into = nn.Parameter(torch.empty(D, self.encoding.features, width))
        self.places = nn.Parameter(torch.empty(D, width))
        self.out = nn.Parameter(torch.empty(D, width, head.n_params))
        self.bias = nn.Parameter(torch.empty(D, head.n_params))

    def embed(self, x: Tensor, first: int = 0) -> Tensor:
        """Tokens (B, t, width) of the columns first .. first + t - 1, whose values are x (B, t)."""
        columns = range(first, first + x.shape[1])
        if not columns:
            return self.places.new_zeros(len(x), 0, self.places.shape[1])
        seen = torch.stack([self.encoding.of_column(d, x[:, d - first]) for d in columns], 1)
        rows = slice(first, columns.stop)
        return torch.einsum("btf,tfw->btw", seen.to(self.into.dtype), self.into[rows]) + self.places[rows]

    def read(self, h: Tensor, first: int = 0) -> Tensor:
        """Parameters (B, t, P) of the columns first .. first + t - 1 from h (B, t, width)."""
        rows = slice(first, first + h.shape[1])
        return torch.einsum("btw,twp->btp", h, self.out[rows].to(h.dtype)) + self.bias[rows]
