"""PixelCNN: images pixel by pixel, row by row, and within a pixel channel by channel.

    p(x | y) = prod_{i,j} prod_c p(x_cij | x_<c,ij, all pixels before (i, j), y)

A network of causal convolutions gives features of each pixel that see only the pixels before it; the last layers turn
these and the channels before c of the pixel itself into the parameters of the distribution of channel c.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencli.core.options import BelowOne, Count, Range
from gencli.core.spec import Given, Spec
from gencli.models.autoregressive.encodings import Encoding
from gencli.models.base import Autoregressive
from gencli.models.distributions import Categorical, CategoricalHead, Conditional, PixelMixtureHead
from gencli.nn.base import NetworkFactory
from gencli.nn.causal_conv import CausalNet, GatedStacks, ShiftedResNet

Window = Annotated[int, Range(low=3)]
"""Side of a window, odd."""


def _precise(x: Tensor) -> Tensor:
    """At least fp32, also under autocast."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Raster(Autoregressive):
    """What the two PixelCNNs share: the order of the coordinates and its decoding.

    A subclass sets ``net``, which gives features (B, width, H, W), and turns them into ``logits``.
    """

    shapes = ("image",)
    net: CausalNet

    def __init__(self, spec: Spec, *, conditional: bool = False, context: NetworkFactory | None = None) -> None:
        super().__init__(spec, conditional=conditional, context=context)
        self.natural = spec.shape[0] == 1  # else x lies channel by channel, and is drawn pixel by pixel
        self.encoding = Encoding("onehot" if spec.support.kind == "categorical" else "value", spec.support.size)

    def encode(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) as the network sees it, (B, C I, H, W): values in [-1, 1], or one-hot categories."""
        return self.encoding(x.long()).movedim(-1, 2).flatten(1, 2).to(self.net.dtype)

    def context(self, y: Tensor | None) -> Tensor | None:
        context = super().context(y)
        return None if context is None else context.to(self.net.dtype)

    @abstractmethod
    def logits(self, features: Tensor, x: Tensor) -> Tensor:
        """Unnormalised log-probabilities (B, C, H, W, K) of every value of every coordinate, given x (B, C, H, W).

        Those of channel c of a pixel see its features (B, width, H, W) and, of x, its channels before c.
        """

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
        channels, height, width = self.spec.shape
        context = self.context(y)
        dtype = self.net.dtype if self.spec.support.kind == "binary" else torch.long
        x = torch.zeros(n, *self.spec.shape, dtype=dtype, device=self.net.device)
        steps = self.net.steps(n, context) if cached else None
        for i in range(height):
            for j in range(width):
                if steps is not None:
                    features = steps.features(i, j)[..., None, None]
                else:
                    features = self.net(self.encode(x), context)[:, :, i : i + 1, j : j + 1]
                for c in range(channels):
                    logits = self.logits(features, x[:, :, i : i + 1, j : j + 1])[:, c, 0, 0]
                    value = pick(Categorical(logits)).to(dtype)
                    if given is not None:
                        value = torch.where(given.mask[:, c, i, j], given.x[:, c, i, j].to(dtype), value)
                    x[:, c, i, j] = value
                if steps is not None:
                    steps.put(i, j, self.encode(x[:, :, i : i + 1, j : j + 1])[..., 0, 0])
        return x


class PixelCNN(Raster):
    """Gated PixelCNN: a softmax over the K values of each coordinate.

    Args:
        spec: what one example is.
        conditional: model p(x given y).
        context: network from y to features that all others see; None: they see y itself.
        width: channels of each stack.
        layers: number of gated layers.
        kernel: side of their windows, odd.
        first: side of the first window, odd.
        hidden: units of the last hidden layer, for each channel of the image.
        dropout: probability that a feature is dropped in training.

    Raises:
        ValueError: a window is no odd number.

    References:
        van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves and Kavukcuoglu, "Conditional image generation with
        PixelCNN decoders", 2016.
    """

    supports = ("binary", "levels", "categorical")

    def __init__(
        self,
        spec: Spec,
        *,
        conditional: bool = False,
        context: NetworkFactory | None = None,
        width: Count = 32,
        layers: Count = 5,
        kernel: Window = 3,
        first: Window = 7,
        hidden: Count = 64,
        dropout: BelowOne = 0.0,
    ) -> None:
        super().__init__(spec, conditional=conditional, context=context)
        for name, side in (("kernel", kernel), ("first", first)):
            if side % 2 == 0:
                raise ValueError(f"model.{name}={side}: an odd number is needed")
        channels, height, side = spec.shape
        seen, K = self.encoding.features, spec.support.size
        self.distribution = CategoricalHead(spec.support)
        self.net = GatedStacks(
            (channels * seen, height, side),
            self.context_dim,
            width=width,
            layers=layers,
            kernel=kernel,
            first=first,
            dropout=dropout,
        )
        self.head = _LastLayers(channels, seen, K, width, hidden, dropout)

    def logits(self, features: Tensor, x: Tensor) -> Tensor:
        return self.head(features, self.encode(x))

    def log_conditionals(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        seen = self.encode(x)
        logits = _precise(self.head(self.net(seen, self.context(y)), seen))
        return self.distribution.log_prob(x, logits)


class _LastLayers(nn.Module):
    """Logits of every channel of a pixel from the features before it and the channels before it.

    Args:
        channels: C of the image.
        seen: numbers that encode one channel.
        levels: K.
        width: channels of the features.
        hidden: units for each of the C.
        dropout: of hidden units in training.
    """

    mask: Tensor

    def __init__(self, channels: int, seen: int, levels: int, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.channels = channels
        self.before = nn.Conv2d(width, channels * hidden, 1)
        self.within = nn.Conv2d(channels * seen, channels * hidden, 1, bias=False) if channels > 1 else None
        c = torch.arange(channels)
        mask = c.repeat_interleave(hidden)[:, None] > c.repeat_interleave(seen)
        self.register_buffer("mask", mask.float()[..., None, None], persistent=False)
        self.last = nn.Conv2d(channels * hidden, channels * levels, 1, groups=channels)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, x: Tensor) -> Tensor:
        h = self.before(F.relu(features))
        if self.within is not None:
            h = h + F.conv2d(x, self.within.weight * self.mask)
        logits = self.last(self.dropout(F.relu(h)))
        return logits.unflatten(1, (self.channels, -1)).movedim(2, -1)


class PixelCNNPP(Raster):
    """PixelCNN++: levels as a mixture of discretised logistics, channels of a pixel coupled linearly.

    The network keeps the resolution: down-sampling pays only on larger images.

    Args:
        spec: what one example is.
        conditional: model p(x given y).
        context: network from y to features that all others see; None: they see y itself.
        width: channels of each stream.
        blocks: residual blocks, of two convolutions each.
        components: M, of the mixture of ``PixelMixtureHead``.
        dropout: probability that a feature is dropped in training.

    References:
        Salimans, Karpathy, Chen and Kingma, "PixelCNN++: improving the PixelCNN with discretized logistic mixture
        likelihood and other modifications", 2017.
    """

    supports = ("levels",)

    def __init__(
        self,
        spec: Spec,
        *,
        conditional: bool = False,
        context: NetworkFactory | None = None,
        width: Count = 32,
        blocks: Count = 4,
        components: Count = 5,
        dropout: BelowOne = 0.0,
    ) -> None:
        super().__init__(spec, conditional=conditional, context=context)
        self.distribution = PixelMixtureHead(spec.support.size, spec.shape[0], components)
        self.net = ShiftedResNet(spec.shape, self.context_dim, width=width, blocks=blocks, dropout=dropout)
        self.last = nn.Conv2d(width, self.distribution.n_params, 1)
        with torch.no_grad():
            assert self.last.bias is not None
            self.last.weight.mul_(0.1)
            self.last.bias.copy_(self.distribution.start())

    def _params(self, features: Tensor) -> Tensor:
        """Of every pixel: (B, width, H, W) -> (B, H, W, P)."""
        return _precise(self.last(F.elu(features))).movedim(1, -1)

    def log_conditionals(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.distribution.log_conditionals(x, self._params(self.net(self.encode(x), self.context(y))))

    def logits(self, features: Tensor, x: Tensor) -> Tensor:
        return self.distribution.logits(x, self._params(features))
