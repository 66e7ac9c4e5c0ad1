"""The parts of a flow that need no network: scaling, permuting, mixing and folding.

All act on dimension 1: the coordinates of a vector (B, D), the channels of an image (B, C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencli.models.flows.flow import Transform
from gencli.models.flows.maps import RationalQuadratic


def _sites(x: Tensor) -> int:
    """How many positions share a channel's parameters: H W, or 1 for vectors."""
    return math.prod(x.shape[2:])


def _column(v: Tensor, x: Tensor) -> Tensor:
    """(C,) shaped to broadcast along dimension 1 of x."""
    return v.view(-1, *[1] * (x.dim() - 2))


class ActNorm(Transform):
    """z = x exp(s) + t, s and t one number a channel; starts so that z has mean 0 and variance 1 on data.

    References:
        Kingma and Dhariwal, "Glow: generative flow with invertible 1x1 convolutions", 2018.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = torch.addcmul(_column(self.shift, x), x, _column(self.log_scale.exp(), x))
        return z, (self.log_scale.sum() * _sites(x)).expand(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return (z - _column(self.shift, z)) * _column((-self.log_scale).exp(), z)

    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        rows = x.transpose(0, 1).flatten(1)
        std, mean = torch.std_mean(rows, 1, correction=0)
        self.log_scale.copy_(-std.clamp(min=1e-4).log())  # a constant channel must not blow up
        self.shift.copy_(-mean * self.log_scale.exp())
        return self(x)[0]


class Permutation(Transform):
    """z_i = x_order[i]: volume is preserved.

    Args:
        order: which channel comes first, second ...
    """

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        index = torch.as_tensor(order)
        self.register_buffer("order", index)
        self.register_buffer("back", index.argsort())

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.index_select(1, self.get_buffer("order")), x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z.index_select(1, self.get_buffer("back"))


class LULinear(Transform):
    """z = P L U x on the channels: on images the invertible 1x1 convolution of Glow.

    P is a fixed permutation, L unit lower triangular, U upper triangular with diagonal sign exp(log_diagonal), so
    log|det| = H W sum(log_diagonal). The product starts as a random rotation.

    Args:
        channels: the number of channels.
        generator: draws the rotation.

    References:
        Kingma and Dhariwal, "Glow", 2018, section 3.2; Oliva et al., "Transformation autoregressive networks", 2018.
    """

    def __init__(self, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels, generator=generator, dtype=torch.float64))[0]
        P, L, U = (t.float() for t in torch.linalg.lu(rotation))
        self.register_buffer("P", P)
        self.register_buffer("sign", U.diagonal().sign())
        self.lower = nn.Parameter(L.tril(-1))
        self.upper = nn.Parameter(U.triu(1))
        self.log_diagonal = nn.Parameter(U.diagonal().abs().log())

    def _factors(self) -> tuple[Tensor, Tensor]:
        eye = torch.eye(len(self.lower), dtype=self.lower.dtype, device=self.lower.device)
        diagonal = self.get_buffer("sign") * self.log_diagonal.exp()
        return self.lower.tril(-1) + eye, self.upper.triu(1) + diagonal.diag()

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):  # a latent rounded to bf16 could not be inverted
            L, U = self._factors()
            W = self.get_buffer("P") @ L @ U
            # On images not conv2d, which CUDA rounds to TF32
            z = F.linear(x, W) if x.dim() == 2 else torch.einsum("oc,bchw->bohw", W, x)
        return z, (self.log_diagonal.sum() * _sites(x)).expand(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        L, U = self._factors()
        flat = self.get_buffer("P").T @ z.transpose(0, 1).flatten(1)
        flat = torch.linalg.solve_triangular(L, flat, upper=False, unitriangular=True)
        flat = torch.linalg.solve_triangular(U, flat, upper=True)
        return flat.view(z.transpose(0, 1).shape).transpose(0, 1)


class Marginal(Transform):
    """A learned spline of each coordinate by itself, z_i = f_i(x_i), which makes the data's marginals more normal.

    It comes before couplings: affine ones change the shape of a marginal only slowly. Outside [-B, B] it is the
    identity, so data are standardised first. It starts near the map from the data's quantiles to normal ones.

    Args:
        shape: the event shape.
        spline: the map.

    References:
        Chen and Gopinath, "Gaussianization", 2000; Meng, Song, Song and Ermon, "Gaussianization flows", 2020.
    """

    def __init__(self, shape: Sequence[int], spline: RationalQuadratic) -> None:
        super().__init__()
        self.spline = spline
        self.params = nn.Parameter(torch.zeros(math.prod(shape), spline.n_params))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        # (D, B): the rows of a batch share the knots of their coordinate, which are thus computed once
        z, log_slope = self.spline.forward(x.flatten(1).T, self.params)
        return z.T.reshape(x.shape), log_slope.sum(0)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return self.spline.inverse(z.flatten(1).T, self.params).T.reshape(z.shape)

    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        K, B, floor = self.spline.bins, self.spline.bound, self.spline.FLOOR
        levels = torch.linspace(-B, B, K + 1, device=x.device)[1:-1]  # knots at equal distances in z
        knots = torch.quantile(x.flatten(1), torch.special.ndtr(levels).to(x), dim=0).T.clamp(-B, B)
        share = F.pad(F.pad(knots, (1, 0), value=-B), (0, 1), value=B).diff() / (2 * B)
        share = 0.9 * share + 0.1 / K  # a tenth of the identity bounds the slopes by 10
        slope = 1 / (K * share)
        inner = (slope[:, 1:] * slope[:, :-1]).sqrt() - floor
        neutral = math.log(math.expm1(1 - floor))
        self.params[:, :K] = (share - floor).clamp(min=1e-4).log()
        self.params[:, 2 * K :] = inner.expm1().log() - neutral
        return self(x)[0]


class Squeeze(Transform):
    """Folds blocks of 2x2 pixels into channels: (B, C, H, W) -> (B, 4C, H/2, W/2)."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return F.pixel_shuffle(z, 2)


class Flatten(Transform):
    """An image (B, C, H, W) as latents (B, C H W)."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.flatten(1), x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z.view(-1, *self.shape)


class FactorOut(Transform):
    """Half the channels go on through another transform, the others are latents already: z = (rest(x_kept), x_out).

    Args:
        shape: (C, H, W) of x; the first C/2 channels are kept.
        rest: the transform of the kept ones, which ends in flat latents.

    References:
        Dinh, Sohl-Dickstein and Bengio, "Density estimation using Real NVP", 2017, section 3.6.
    """

    def __init__(self, shape: Sequence[int], rest: Transform) -> None:
        super().__init__()
        self.kept = shape[0] // 2
        self.out = Flatten((shape[0] - self.kept, *shape[1:]))
        self.rest = rest

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, log_det = self.rest(x[:, : self.kept], context)
        return torch.cat([z, x[:, self.kept :].flatten(1)], 1), log_det

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        n_rest = z.shape[1] - math.prod(self.out.shape)
        return torch.cat([self.rest.inverse(z[:, :n_rest], context), self.out.inverse(z[:, n_rest:])], 1)

    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        z = self.rest.initialize(x[:, : self.kept], context)
        return torch.cat([z, x[:, self.kept :].flatten(1)], 1)
