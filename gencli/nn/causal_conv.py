"""Causal convolutions on images: the features of a pixel see only the pixels before it, row by row.

Two stacks go through the image: the vertical one sees the rows above, the horizontal one its own row to the left and,
at each layer, the vertical one; together they see everything before a pixel, without a blind spot. Kernels are cut to
the part that a mask would leave, so that no multiplication is wasted on zeros.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PixelSteps(ABC):
    """Features of one pixel after another, each computed from what the newest pixel changed."""

    @abstractmethod
    def features(self, i: int, j: int) -> Tensor:
        """Features (n, width) of pixel (i, j), after all earlier pixels were ``put``."""

    @abstractmethod
    def put(self, i: int, j: int, x: Tensor) -> None:
        """Set pixel (i, j) of the input to x (n, C)."""


class CausalNet(nn.Module, ABC):
    """x (B, C, H, W) -> features (B, width, H, W), where those of pixel (i, j) see only the pixels before it."""

    width: int

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Features (B, width, H, W) of all pixels at once; context (B, *) or None."""

    @abstractmethod
    def steps(self, n: int, context: Tensor | None = None) -> PixelSteps:
        """The features of n images, one pixel after the other; dropout is off."""


def _gate(x: Tensor, dim: int = 1) -> Tensor:
    """tanh(a) sigma(b) of the two halves of x."""
    a, b = x.chunk(2, dim)
    return a.tanh() * b.sigmoid()


class GatedStacks(CausalNet):
    """Gated vertical and horizontal stacks.

    Other than in the paper the vertical stack is residual too, the horizontal one sees it behind its gate (half as many
    channels), and both begin with a learned bias of each pixel, which tells where on the image a window lies.

    Args:
        in_shape: (C, H, W) of the input.
        context: dimension of the context, a bias of every gate; 0: none.
        width: channels of each stack.
        layers: number of gated layers.
        kernel: side of their (masked) windows, odd.
        first: side of the first window, odd.
        dropout: probability that a gated feature of the horizontal stack is dropped in training.

    References:
        van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves and Kavukcuoglu, "Conditional image generation with
        PixelCNN decoders", 2016.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        context: int,
        *,
        width: int = 32,
        layers: int = 5,
        kernel: int = 3,
        first: int = 7,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        C, height, w = in_shape
        self.in_shape, self.width, self.reach = in_shape, width, first // 2
        self.vertical = nn.Conv2d(C, width, (self.reach, first), bias=False)
        self.horizontal = nn.Conv2d(C, width, (1, self.reach), bias=False)
        self.place = nn.Parameter(torch.zeros(2 * width, height, w))
        self.layers = nn.ModuleList(_Gated(width, context, kernel, dropout) for _ in range(layers))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        r = self.reach
        place_v, place_h = self.place.chunk(2)
        v = self.vertical(F.pad(x[:, :, :-1], (r, r, r, 0))) + place_v
        h = self.horizontal(F.pad(x[..., :-1], (r, 0, 0, 0))) + place_h
        for layer in self.layers:
            v, h = layer(v, h, context)
        return h

    def steps(self, n: int, context: Tensor | None = None) -> PixelSteps:
        return _GatedSteps(self, n, context)


class _Gated(nn.Module):
    """v <- v + gate(A * v),  h <- h + U gate(B * h + V v); * is a causal convolution, gates see the context too."""

    def __init__(self, width: int, context: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.reach = kernel // 2
        self.vertical = nn.Conv2d(width, 2 * width, (self.reach + 1, kernel))
        self.horizontal = nn.Conv2d(width, 2 * width, (1, self.reach + 1), bias=False)
        self.across = nn.Conv2d(width, 2 * width, 1)
        self.mix = nn.Conv2d(width, width, 1)
        self.context = nn.Linear(context, 4 * width, bias=False) if context else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, v: Tensor, h: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        r = self.reach
        a, b = self.vertical(F.pad(v, (r, r, r, 0))), self.horizontal(F.pad(h, (r, 0, 0, 0)))
        if self.context is not None and context is not None:
            shift_a, shift_b = self.context(context)[..., None, None].chunk(2, 1)
            a, b = a + shift_a, b + shift_b
        v = v + _gate(a)
        return v, h + self.mix(self.dropout(_gate(b + self.across(v))))


class _GatedSteps(PixelSteps):
    """Row by row for the vertical stack, pixel by pixel for the horizontal one.

    Maps of the vertical stack are kept whole, of the horizontal one only the current row, channels last: a window of
    it is then a view, and its convolution one matrix product.
    """

    def __init__(self, net: GatedStacks, n: int, context: Tensor | None) -> None:
        C, height, width = net.in_shape
        new = net.place.new_zeros
        r = net.reach
        self.net, self.x = net, new(n, C, height + r, width + 2 * r)
        self.layers = cast(list[_Gated], list(net.layers))
        k = self.layers[0].reach
        self.v = [new(n, net.width, height + k, width + 2 * k) for _ in self.layers]
        self.rows = [new(n, width + k, net.width) for _ in self.layers]
        self.first = net.horizontal.weight.flatten(1).T
        self.kernels = [layer.horizontal.weight.squeeze(2).permute(2, 1, 0).flatten(0, 1) for layer in self.layers]
        self.mixes = [(layer.mix.weight.flatten(1), layer.mix.bias) for layer in self.layers]
        nothing = new(n, 4 * net.width)
        shifts = [nothing if layer.context is None else layer.context(context) for layer in self.layers]
        self.shifts = [shift[..., None, None].chunk(2, 1) for shift in shifts]
        self.across: list[Tensor] = []

    def _row(self, i: int) -> None:
        """Everything in row i that depends on the rows above alone."""
        net, r = self.net, self.net.reach
        v = F.conv2d(self.x[:, :, i : i + r], net.vertical.weight) + net.place[: net.width, i : i + 1]
        self.across = []
        for layer, maps, (shift_v, shift_h) in zip(self.layers, self.v, self.shifts, strict=True):
            k = layer.reach
            maps[:, :, i + k, k : maps.shape[3] - k] = v[:, :, 0]
            v = v + _gate(layer.vertical(maps[:, :, i : i + k + 1]) + shift_v)
            self.across.append((layer.across(v) + shift_h)[:, :, 0].permute(2, 0, 1).contiguous())

    def features(self, i: int, j: int) -> Tensor:
        net, r = self.net, self.net.reach
        if j == 0:
            self._row(i)
        seen = self.x[:, :, i + r, j : j + r].flatten(1)
        h = torch.addmm(net.place[net.width :, i, j], seen, self.first)
        for number, layer in enumerate(self.layers):
            k, row = layer.reach, self.rows[number]
            row[:, j + k] = h
            window = row[:, j : j + k + 1].flatten(1)
            gates = torch.addmm(self.across[number][j], window, self.kernels[number])
            weight, bias = self.mixes[number]
            h = h + F.linear(_gate(gates), weight, bias)
        return h

    def put(self, i: int, j: int, x: Tensor) -> None:
        self.x[:, :, i + self.net.reach, j + self.net.reach] = x


class ShiftedResNet(CausalNet):
    """Gated residual blocks on two streams: rows above, and rows above with the pixels to the left.

    Windows are 2x3 in the first stream and 2x2, down and to the right, in the second, which sees the first one at
    each block.

    Args:
        in_shape: (C, H, W) of the input.
        context: dimension of the context, a bias of every gate; 0: none.
        width: channels of each stream.
        blocks: number of blocks, of two convolutions each.
        dropout: probability that a feature within a block is dropped in training.

    References:
        Salimans, Karpathy, Chen and Kingma, "PixelCNN++: improving the PixelCNN with discretized logistic mixture
        likelihood and other modifications", 2017.
    """

    def __init__(
        self, in_shape: tuple[int, ...], context: int, *, width: int = 32, blocks: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        C, height, w = in_shape
        self.in_shape, self.width = in_shape, width
        self.above = nn.Conv2d(C, width, (2, 5), bias=False)  # two rows above, for both streams
        self.left = nn.Conv2d(C, width, (1, 2), bias=False)
        self.place = nn.Parameter(torch.zeros(2 * width, height, w))
        self.down = nn.ModuleList(_Block(width, (2, 3), (1, 1), context, dropout) for _ in range(blocks))
        self.right = nn.ModuleList(_Block(width, (2, 2), (1, 0), context, dropout, aside=True) for _ in range(blocks))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        place_u, place_ul = self.place.chunk(2)
        above = self.above(F.pad(x[:, :, :-1], (2, 2, 2, 0)))
        u = above + place_u
        ul = above + self.left(F.pad(x[..., :-1], (2, 0, 0, 0))) + place_ul
        for down, right in zip(self.down, self.right, strict=True):
            u = down(u, context)
            ul = right(ul, context, u)
        return ul

    def steps(self, n: int, context: Tensor | None = None) -> PixelSteps:
        return _ResNetSteps(self, n, context)


def _elu2(x: Tensor, dim: int = 1) -> Tensor:
    """elu of x and of -x, side by side."""
    return F.elu(torch.cat([x, -x], dim))


class _Block(nn.Module):
    """x + a sigma(b), where (a, b) = B * elu2(A * elu2(x) + V elu2(aside)) and the context; * is causal.

    Args:
        width: channels.
        window: height and width of the convolutions.
        sides: columns that their windows reach to the left and to the right; up they reach one row.
        context: its dimension.
        dropout: between the convolutions.
        aside: whether another stream is seen.
    """

    def __init__(
        self,
        width: int,
        window: tuple[int, int],
        sides: tuple[int, int],
        context: int,
        dropout: float,
        aside: bool = False,
    ) -> None:
        super().__init__()
        self.pad = (*sides, window[0] - 1, 0)
        self.first = nn.Conv2d(2 * width, width, window)
        self.aside = nn.Conv2d(2 * width, width, 1, bias=False) if aside else None
        self.second = nn.Conv2d(2 * width, 2 * width, window)
        nn.init.normal_(self.second.weight, std=0.1 / (2 * width) ** 0.5)
        self.context = nn.Linear(context, 2 * width, bias=False) if context else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, context: Tensor | None, aside: Tensor | None = None) -> Tensor:
        h = self.first(F.pad(_elu2(x), self.pad))
        if self.aside is not None and aside is not None:
            h = h + self.aside(_elu2(aside))
        h = self.second(F.pad(self.dropout(_elu2(h)), self.pad))
        if self.context is not None and context is not None:
            h = h + self.context(context)[..., None, None]
        a, b = h.chunk(2, 1)
        return x + a * b.sigmoid()


class _ResNetSteps(PixelSteps):
    """As ``_GatedSteps``; the share of the row above in the second stream is computed when a row begins."""

    def __init__(self, net: ShiftedResNet, n: int, context: Tensor | None) -> None:
        C, height, side = net.in_shape
        w, new = net.width, net.place.new_zeros
        self.net, self.x = net, new(n, C, height + 2, side + 4)
        self.blocks = cast(list[tuple[_Block, _Block]], list(zip(net.down, net.right, strict=True)))
        self.shifts = [
            tuple(b.context(context) if b.context is not None else new(n, 2 * w) for b in pair) for pair in self.blocks
        ]
        # elu2 of what enters the two convolutions of a block: the row above and this one; this one, channels last
        self.u = [(new(n, 2 * w, 2, side + 2), new(n, 2 * w, 2, side + 2)) for _ in self.blocks]
        self.ul = [(new(n, side + 1, 2 * w), new(n, side + 1, 2 * w)) for _ in self.blocks]
        self.left = net.left.weight.flatten(1).T
        self.kernels = [
            [conv.weight.permute(2, 3, 1, 0).flatten(1, 2) for conv in (right.first, right.second)]
            for _, right in self.blocks
        ]  # for each row of the window, (2 columns x channels in, channels out)
        self.start = new(0)
        self.above: list[tuple[Tensor, Tensor]] = []

    def _row(self, i: int) -> None:
        net, w = self.net, self.net.width
        above = F.conv2d(self.x[:, :, i : i + 2], net.above.weight)
        u = above + net.place[:w, i : i + 1]
        self.start = (above + net.place[w:, i : i + 1])[:, :, 0].permute(2, 0, 1).contiguous()
        self.above = []
        for number, (down, right) in enumerate(self.blocks):
            shift_u, shift_ul = self.shifts[number]
            h = down.first(_push(self.u[number][0], _elu2(u)))
            h = down.second(_push(self.u[number][1], _elu2(h))) + shift_u[..., None, None]
            a, b = h.chunk(2, 1)
            u = u + a * b.sigmoid()
            from_above = [
                F.linear(torch.cat([row[:, :-1], row[:, 1:]], 2), kernel[0].T, conv.bias)
                for row, kernel, conv in zip(
                    self.ul[number], self.kernels[number], (right.first, right.second), strict=True
                )
            ]
            assert right.aside is not None
            aside = right.aside(_elu2(u))[:, :, 0].transpose(1, 2)
            first, second = from_above[0] + aside, from_above[1] + shift_ul[:, None]
            self.above.append((first.transpose(0, 1).contiguous(), second.transpose(0, 1).contiguous()))

    def features(self, i: int, j: int) -> Tensor:
        if j == 0:
            self._row(i)
        ul = torch.addmm(self.start[j], self.x[:, :, i + 2, j : j + 2].flatten(1), self.left)
        for (first, second), rows, kernels in zip(self.above, self.ul, self.kernels, strict=True):
            rows[0][:, j + 1] = _elu2(ul)
            h = torch.addmm(first[j], rows[0][:, j : j + 2].flatten(1), kernels[0][1])
            rows[1][:, j + 1] = _elu2(h)
            h = torch.addmm(second[j], rows[1][:, j : j + 2].flatten(1), kernels[1][1])
            a, b = h.chunk(2, 1)
            ul = ul + a * b.sigmoid()
        return ul

    def put(self, i: int, j: int, x: Tensor) -> None:
        self.x[:, :, i + 2, j + 2] = x


def _push(rows: Tensor, newest: Tensor) -> Tensor:
    """Rows (n, C, 2, W + 2), the lower one moved up and the newest (n, C, 1, W) set below it."""
    rows[:, :, 0] = rows[:, :, 1]
    rows[:, :, 1, 1:-1] = newest[:, :, 0]
    return rows
