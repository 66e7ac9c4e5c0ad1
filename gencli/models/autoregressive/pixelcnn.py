"""PixelCNN: images pixel by pixel, row by row, and within a pixel channel by channel.

    p(x | y) = prod_{i,j} prod_c p(x_cij | x_<c,ij, all pixels before (i, j), y)

A network of causal convolutions gives features of each pixel that see only the pixels before it; a head turns these
and the channels before c of the pixel itself into the distribution of channel c.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencli.core.spec import Given, Spec
from gencli.models.base import Autoregressive
from gencli.models.distributions import Categorical, Conditional
from gencli.models.likelihoods import LogisticMixture
from gencli.nn.causal_conv import CausalNet, GatedStacks, ShiftedResNet


def _precise(x: Tensor) -> Tensor:
    """At least fp32, also under autocast."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Raster(Autoregressive):
    """What the two PixelCNNs share: the order of the coordinates and its decoding.

    A subclass sets ``net``, of which it uses features (B, width, H, W), and says with ``logits`` what they mean.
    """

    shapes = ("image",)
    net: CausalNet

    def __init__(self, spec: Spec, *, conditional: bool = False) -> None:
        super().__init__(spec, conditional=conditional)
        self.natural = spec.shape[0] == 1  # else x lies channel by channel, and is drawn pixel by pixel

    def encode(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) as the network sees it: values in [-1, 1]."""
        return 2 * x.to(self.net.dtype) / ((self.spec.support.levels or 2) - 1) - 1

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
        decoder = self.net.decoder(n, context) if cached else None
        for i in range(height):
            for j in range(width):
                if decoder is not None:
                    features = decoder.features(i, j)[..., None, None]
                else:
                    features = self.net(self.encode(x), context)[:, :, i : i + 1, j : j + 1]
                for c in range(channels):
                    logits = self.logits(features, x[:, :, i : i + 1, j : j + 1])[:, c, 0, 0]
                    value = pick(Categorical(logits)).to(dtype)
                    if given is not None:
                        value = torch.where(given.mask[:, c, i, j], given.x[:, c, i, j].to(dtype), value)
                    x[:, c, i, j] = value
                if decoder is not None:
                    decoder.put(i, j, self.encode(x[:, :, i : i + 1, j : j + 1])[..., 0, 0])
        return x


class PixelCNN(Raster):
    """Gated PixelCNN: a softmax over the K values of each coordinate.

    Args:
        spec: what one example is.
        conditional: model p(x given y).
        width: channels of each stack.
        layers: number of gated layers.
        kernel: side of their windows, odd.
        first: side of the first window, odd.
        hidden: units of the head, for each channel of the image.
        dropout: probability that a feature is dropped in training.

    Raises:
        ValueError: a size is not positive, or a window no odd number.

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
        width: int = 32,
        layers: int = 5,
        kernel: int = 3,
        first: int = 7,
        hidden: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(spec, conditional=conditional)
        channels, height, side = spec.shape
        assert spec.support.levels is not None
        self.one_hot = spec.support.kind == "categorical"
        seen = channels * (spec.support.levels if self.one_hot else 1)
        self.net = GatedStacks(
            (seen, height, side),
            self.context_dim,
            width=width,
            layers=layers,
            kernel=kernel,
            first=first,
            dropout=dropout,
        )
        self.head = _Head(channels, seen // channels, spec.support.levels, width, hidden, dropout)

    def encode(self, x: Tensor) -> Tensor:
        if not self.one_hot:
            return super().encode(x)
        one_hot = F.one_hot(x, self.spec.support.levels)  # type: ignore[arg-type]
        return one_hot.movedim(-1, 2).flatten(1, 2).to(self.net.dtype)

    def logits(self, features: Tensor, x: Tensor) -> Tensor:
        return self.head(features, self.encode(x))

    def log_conditionals(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        seen = self.encode(x)
        logits = _precise(self.head(self.net(seen, self.context(y)), seen))
        return logits.log_softmax(-1).gather(-1, x.long()[..., None]).squeeze(-1)


class _Head(nn.Module):
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

    A pixel has M mixture weights. Within component m, the mean of channel c moves with the channels before it,
    mu_c + sum_{d<c} a_cd v_d, and given m the channels are independent but for that. The probability of channel c alone
    follows from that of the first c channels divided by that of the first c - 1.

    The network keeps the resolution: down-sampling pays only on larger images.

    Args:
        spec: what one example is.
        conditional: model p(x given y).
        width: channels of each stream.
        blocks: residual blocks, of two convolutions each.
        components: M.
        dropout: probability that a feature is dropped in training.

    Raises:
        ValueError: a size is not positive.

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
        width: int = 32,
        blocks: int = 4,
        components: int = 5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(spec, conditional=conditional)
        channels = spec.shape[0]
        if components < 1:
            raise ValueError(f"model.components={components}: at least 1")
        self.components = components
        self.net = ShiftedResNet(spec.shape, self.context_dim, width=width, blocks=blocks, dropout=dropout)
        self.pairs = channels * (channels - 1) // 2
        self.last = nn.Conv2d(width, components * (1 + 2 * channels + self.pairs), 1)
        with torch.no_grad():
            assert self.last.bias is not None
            self.last.weight.mul_(0.1)
            self.last.bias.zero_()
            # means spread over [-1, 1], scales to match
            means = self.last.bias[components : components * (1 + channels)].view(channels, components)
            means.copy_(torch.linspace(-1, 1, components + 2)[1:-1].expand(channels, -1))
            self.last.bias[components * (1 + channels) : components * (1 + 2 * channels)].fill_(-1.0)

    def mixture(self, features: Tensor, x: Tensor) -> tuple[Tensor, LogisticMixture]:
        """ln w (B, H, W, M) and, with those weights for all channels, the mixtures of the channels (B, C, H, W, M)."""
        channels, M = self.spec.shape[0], self.components
        params = _precise(self.last(F.elu(features))).movedim(1, -1)
        log_weights = params[..., :M].log_softmax(-1)
        mean, log_scale, coupling = params[..., M:].split((channels * M, channels * M, self.pairs * M), -1)
        means = list(mean.unflatten(-1, (channels, M)).unbind(-2))
        v = Raster.encode(self, x).to(params.dtype)[..., None]
        a = iter(coupling.unflatten(-1, (self.pairs, M)).tanh().unbind(-2)) if self.pairs else iter(())
        for c in range(1, channels):
            for d in range(c):
                means[c] = means[c] + next(a) * v[:, d]
        scales = log_scale.unflatten(-1, (channels, M)).movedim(-2, 1).clamp(min=-7.0)
        levels = self.spec.support.levels
        assert levels is not None
        return log_weights, LogisticMixture(levels, log_weights[:, None], torch.stack(means, 1), scales)

    def log_conditionals(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        log_weights, mixture = self.mixture(self.net(self.encode(x), self.context(y)), x)
        joint = (log_weights[:, None] + mixture.log_components(x).cumsum(1)).logsumexp(-1)  # of the first c channels
        return torch.cat([joint[:, :1], joint[:, 1:] - joint[:, :-1]], 1)

    def logits(self, features: Tensor, x: Tensor) -> Tensor:
        log_weights, mixture = self.mixture(features, x)
        seen = mixture.log_components(x).cumsum(1)[:, :-1]
        weights = torch.cat([log_weights[:, None], log_weights[:, None] + seen], 1).log_softmax(-1)
        return LogisticMixture(mixture.levels, weights, mixture.mean, mixture.log_scale).logits()
