"""The parts of a flow that need no network: scaling, permuting, mixing and folding.

All act on dimension 1: the coordinates of a vector (B, D), the channels of an image (B, C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencli.models.flows.flow import HalvesTransform, Transform, split_halves
from gencli.models.flows.maps import RationalQuadratic


def _every_site(log_det: Tensor, x: Tensor) -> Tensor:
    """The log-determinant () of one position, for all that share a channel's parameters: H W, or 1 for vectors."""
    sites = math.prod(x.shape[2:])
    return log_det if sites == 1 else log_det * sites


def _column(v: Tensor, x: Tensor) -> Tensor:
    """(C,) shaped to broadcast along dimension 1 of x."""
    return v.view(-1, *[1] * (x.dim() - 2)) if x.dim() > 2 else v


class ActNorm(HalvesTransform):
    """z = x exp(s) + t, s and t one number a channel; starts so that z has mean 0 and variance 1 on data.

    References:
        Kingma and Dhariwal, "Glow: generative flow with invertible 1x1 convolutions", 2018.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = x * _column(self.log_scale.exp(), x) + _column(self.shift, x)
        return z, _every_site(self.log_scale.sum(), x).expand(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return (z - _column(self.shift, z)) * _column((-self.log_scale).exp(), z)

    def halves(self, a: Tensor, b: Tensor, context: Tensor | None = None) -> tuple[tuple[Tensor, Tensor], Tensor]:
        (s_a, s_b), (t_a, t_b) = self._of_halves(self.log_scale.exp(), a), self._of_halves(self.shift, a)
        return (a * s_a + t_a, b * s_b + t_b), _every_site(self.log_scale.sum(), a)

    def inverse_halves(self, a: Tensor, b: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        (s_a, s_b), (t_a, t_b) = self._of_halves((-self.log_scale).exp(), a), self._of_halves(self.shift, a)
        return (a - t_a) * s_a, (b - t_b) * s_b

    @staticmethod
    def _of_halves(v: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        """(C,) as what broadcasts over the first half a, and over the other."""
        of_a, of_b = v.split([a.shape[1], len(v) - a.shape[1]])
        return _column(of_a, a), _column(of_b, a)

    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        rows = x.transpose(0, 1).flatten(1)
        std, mean = torch.std_mean(rows, 1, correction=0)
        self.log_scale.copy_(-std.clamp(min=1e-4).log())  # a constant channel must not blow up
        self.shift.copy_(-mean * self.log_scale.exp())
        return self(x)[0]


@dataclass(frozen=True)
class _Cuts:
    """A permutation of pieces: each half is cut, and those of the result are joined from the pieces.

    Fixed alternating masks exchange the halves, which is one piece each and no copy.

    Args:
        sizes: channels of the pieces of each half.
        halves: the numbers of the pieces that make up each half of the result.
    """

    sizes: tuple[list[int], list[int]]
    halves: tuple[list[int], list[int]]

    def __call__(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        pieces = [
            p for x, sizes in zip((a, b), self.sizes, strict=True) for p in (x.split(sizes, 1) if sizes[1:] else [x])
        ]
        first, second = ([pieces[k] for k in half] for half in self.halves)
        return _joined(first), _joined(second)


def _joined(pieces: list[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)


MOST_PIECES = 4
"""Above, a gather is cheaper than to cut and to join."""


def _cuts(order: list[int]) -> _Cuts | None:
    """The pieces of a permutation, or None if they are many."""
    half = len(order) // 2
    starts = [i for i in range(len(order)) if i in (0, half) or order[i] != order[i - 1] + 1 or order[i] == half]
    if len(starts) > MOST_PIECES:
        return None
    lengths = {order[i]: j - i for i, j in pairwise([*starts, len(order)])}  # by where a piece begins in x
    places = sorted(lengths)
    return _Cuts(
        ([lengths[at] for at in places if at < half], [lengths[at] for at in places if at >= half]),
        ([places.index(order[i]) for i in starts if i < half], [places.index(order[i]) for i in starts if i >= half]),
    )


class Permutation(HalvesTransform):
    """z_i = x_order[i]: volume is preserved.

    Args:
        order: which channel comes first, second ...
    """

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        index = torch.as_tensor(order)
        self.register_buffer("order", index)
        self.register_buffer("back", index.argsort())
        self._find_cuts()

    def _find_cuts(self) -> None:
        self._cuts, self._back_cuts = (_cuts(self.get_buffer(name).tolist()) for name in ("order", "back"))

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._find_cuts()

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.index_select(1, self.get_buffer("order")), x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z.index_select(1, self.get_buffer("back"))

    def halves(self, a: Tensor, b: Tensor, context: Tensor | None = None) -> tuple[tuple[Tensor, Tensor], None]:
        if self._cuts is None:
            return split_halves(self(torch.cat([a, b], 1))[0]), None
        return self._cuts(a, b), None

    def inverse_halves(self, a: Tensor, b: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self._back_cuts is None:
            return split_halves(self.inverse(torch.cat([a, b], 1)))
        return self._back_cuts(a, b)


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
        return z, _every_site(self.log_diagonal.sum(), x).expand(len(x))

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
