"""Convolutions on a ring: networks of vectors whose coordinates are places in a circle, each alike."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from gencli.core.options import Count, Natural
from gencli.nn.base import Network


class RingConv(Network):
    """A circular convolution in, residual blocks (circular, then 1), a convolution of width 1 out.

    What a place gets depends on its neighbours only, up to (kernel - 1) / 2 away for each layer, and is shifted with
    them. The context is a bias of each channel of the first convolution. The last convolution starts at zero.

    Args:
        in_shape: (D,), or several such vectors one after the other: (L D,).
        out_shape: (C, D), or (D,).
        context: dimension of the context; 0: none.
        width: channels inside.
        blocks: number of residual blocks.
        kernel: places that a circular convolution sees, an odd number.

    Raises:
        ValueError: a shape is no ring, or the kernel is even.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        context: int,
        *,
        width: Count = 64,
        blocks: Natural = 2,
        kernel: Count = 5,
    ) -> None:
        super().__init__()
        D = out_shape[-1]
        if len(in_shape) != 1 or len(out_shape) > 2 or in_shape[0] % D:
            raise ValueError(f"net=ring needs vectors of places on a ring: {in_shape} -> {out_shape} needs another net")
        if kernel % 2 == 0:
            raise ValueError(f"model.net.kernel={kernel}: an odd number, as many places on either side")
        self.out_shape, self.places = tuple(out_shape), D
        self.first = _circular(in_shape[0] // D, width, kernel)
        self.context = nn.Linear(context, width, bias=False) if context else None
        self.blocks = nn.ModuleList(_Block(width, kernel) for _ in range(blocks))
        self.last = nn.Conv1d(width, out_shape[0] if len(out_shape) == 2 else 1, 1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.first(x.view(len(x), -1, self.places))
        if self.context is not None and context is not None:
            h = h + self.context(context)[:, :, None]
        for block in self.blocks:
            h = block(h)
        return self.last(F.silu(h)).view(-1, *self.out_shape)


class _Block(nn.Module):
    """h + W_2 silu(W_1 silu(h)), with W_1 circular and W_2 of width 1."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.ring, self.mix = _circular(width, width, kernel), nn.Conv1d(width, width, 1)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.mix(F.silu(self.ring(F.silu(h))))


def _circular(n_in: int, n_out: int, kernel: int) -> nn.Conv1d:
    return nn.Conv1d(n_in, n_out, kernel, padding=kernel // 2, padding_mode="circular")
