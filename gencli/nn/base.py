"""The contract of the group ``net``: a network that knows no probability."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from gencli.core.tensors import slope


class Network(nn.Module):
    """A network that knows no probability: in_shape -> out_shape, given an optional context vector (B, C).

    Constructor: ``Network(in_shape, out_shape, context, **options)``; a config's ``net`` node gives the options.
    """

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(B, *in_shape) -> (B, *out_shape)."""

    def slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """f(x) (B,) and its gradient (B, *in_shape) of a network of one output, detached; here by autograd."""
        return slope(lambda at: self(at).flatten(), x)


NetworkFactory = Callable[[tuple[int, ...], tuple[int, ...], int], Network]
"""What a model gets as ``net``: (in_shape, out_shape, context dimension) -> a new network."""
