"""Coupling flows: one half of the channels moves as the other half says, then they change places.

    z_a = x_a,    z_b = f(x_b; net(x_a, y)),    log|det dz/dx| = sum log f'(x_b)

NICE, Real NVP, Glow and neural spline flows differ in the map f and in how channels are mixed between couplings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from gencli.core.options import Auto, Count, Positive
from gencli.core.spec import Spec
from gencli.models.flows import maps
from gencli.models.flows.flow import Chain, Flow, HalvesTransform, Transform, split_halves
from gencli.models.flows.layers import ActNorm, FactorOut, Flatten, LULinear, Marginal, Permutation, Squeeze
from gencli.models.flows.maps import Additive, Affine, Bins, Map, RationalQuadratic
from gencli.nn.base import NetworkFactory

Mixing = Literal["masks", "random", "linear"]
BOUND = {1: 2.0, 3: 3.0}
"""Largest absolute log-scale of an affine coupling, by the axes of x."""


class Coupling(HalvesTransform):
    """The first half of the channels conditions, the others move; the network sees the first half only.

    Args:
        shape: event shape (D,) or (C, H, W).
        net: makes the network that gives the map's parameters.
        map: the monotone map of one coordinate.
        context: dimension of the context.
    """

    couples = True

    def __init__(self, shape: Sequence[int], net: NetworkFactory, map: Map, context: int) -> None:
        super().__init__()
        channels, *sites = shape
        self.kept, self.moved = channels // 2, channels - channels // 2
        self.map = map
        self.net = net((self.kept, *sites), (self.moved * map.n_params, *sites), context)

    def _params(self, kept: Tensor, context: Tensor | None) -> Tensor:
        """(B, moved, *sites, P), in the precision of x though autocast may have run the network in less."""
        out = self.net(kept, context).to(kept.dtype).unflatten(1, (self.moved, self.map.n_params))
        return out if out.dim() == 3 else out.movedim(2, -1)

    def halves(self, a: Tensor, b: Tensor, context: Tensor | None = None) -> tuple[tuple[Tensor, Tensor], Tensor]:
        z, log_slope = self.map.forward(b, self._params(a, context))
        return (a, z), log_slope.flatten(1).sum(1)

    def inverse_halves(self, a: Tensor, b: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return a, self.map.inverse(b, self._params(a, context))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        halves, log_det = self.halves(*split_halves(x), context)
        return torch.cat(halves, 1), log_det

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return torch.cat(self.inverse_halves(*split_halves(z), context), 1)


@dataclass
class _Builder:
    """Puts the transforms of a coupling flow together; the arguments are those of ``CouplingFlow``."""

    net: NetworkFactory
    map: Map
    mixing: Mixing
    context: int

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)  # what is random but fixed belongs to the architecture

    def steps(self, shape: Sequence[int], n: int) -> list[Transform]:
        """n times ActNorm, mixing, coupling."""
        mixers = (
            [LULinear(shape[0], self.generator) for _ in range(n)] if self.mixing == "linear" else self._masks(shape, n)
        )
        transforms: list[Transform] = []
        for mixer in mixers:
            transforms += [ActNorm(shape[0]), mixer, self.coupling(shape)]
        return transforms

    def coupling(self, shape: Sequence[int]) -> Coupling:
        return Coupling(shape, self.net, self.map, self.context)

    def _masks(self, shape: Sequence[int], n: int) -> list[Permutation]:
        """Even against odd coordinates of a vector; on folded images checkerboards, then rows against rows.

        Channel c of a folded image holds pixel c mod 4 of a 2x2 block: 0 and 3 against 1 and 2 is the checkerboard of
        the unfolded image, at no cost for the masked half.
        """
        C = shape[0]
        if self.mixing == "random":
            return [Permutation(torch.randperm(C, generator=self.generator).tolist()) for _ in range(n)]
        permutations, now = [], list(range(C))
        for i in range(n):
            one = {1, 3} if len(shape) == 1 else {0, 3} if 2 * i < n else {0, 1}
            sides = [c for c in range(C) if c % 4 in one], [c for c in range(C) if c % 4 not in one]
            target = sides[i % 2] + sides[1 - i % 2]
            permutations.append(Permutation([now.index(c) for c in target]))
            now = target
        return permutations

    def level(self, shape: Sequence[int], levels: int, steps: int) -> list[Transform]:
        """Fold, steps, and half of the channels on to the next level."""
        C, H, W = shape
        if H % 2 or W % 2:
            raise ValueError(
                f"model.levels: an image of {H}x{W} cannot be halved; take fewer levels or data.flatten=true"
            )
        shape = (4 * C, H // 2, W // 2)
        transforms: list[Transform] = [Squeeze(), *self.steps(shape, steps)]
        if levels == 1:
            return [*transforms, ActNorm(shape[0]), Flatten(shape)]
        rest = Chain(self.level((2 * C, *shape[1:]), levels - 1, steps))
        return [*transforms, ActNorm(shape[0]), self.coupling(shape), FactorOut(shape, rest)]


class CouplingFlow(Flow):
    """Couplings on vectors; on images folded 2x2 and repeated at several scales.

    A step is ActNorm, mixing of the channels, coupling. On images each level folds 2x2 pixels into channels first, so
    that networks run at half the resolution and below, and gives half of its channels, after one more coupling that
    scales them given the kept half, straight to the latents.

    Args:
        spec: what one example is.
        map: the monotone map of one coordinate.
        mixing: what comes before each coupling: ``masks`` (fixed alternating masks), ``random`` (fixed
            permutations), ``linear`` (learned LU-decomposed maps: 1x1 convolutions on images).
        conditional: model p(x given y).
        context: network from y to features that all others see; None: they see y itself.
        net: makes the networks.
        couplings: number of couplings of a vector flow.
        levels: scales of an image flow; None: halve while height and width are even and above 4.
        steps: couplings at each scale of an image flow.
        marginal: bins of a learned spline of each coordinate in front of the flow; 0: none.

    Raises:
        ValueError: fewer than two coordinates, or an image that cannot be halved as often.
    """

    shapes: ClassVar[tuple[str, ...]] = ("vector", "image")

    def __init__(
        self,
        spec: Spec,
        *,
        map: Map,
        mixing: Mixing,
        net: NetworkFactory,
        conditional: bool = False,
        context: NetworkFactory | None = None,
        couplings: Count = 8,
        levels: Count | None = None,
        steps: Count = 6,
        marginal: maps.Marginal = 0,
    ) -> None:
        super().__init__(spec, conditional=conditional, context=context)
        if spec.dim < 2:
            raise ValueError("a coupling flow needs at least 2 coordinates: model=maf or model=nsf_ar takes one")
        front: list[Transform] = [ActNorm(spec.shape[0])]
        if marginal:
            front.append(Marginal(spec.shape, RationalQuadratic(marginal)))

        build = _Builder(net, map, mixing, self.context_dim)
        if spec.kind == "image":
            body = build.level(spec.shape, _halvings(*spec.shape[1:]) if levels is None else levels, steps)
        else:
            body = [*build.steps(spec.shape, couplings), ActNorm(spec.dim)]
        self.transform = Chain(front + body)


def _halvings(height: int, width: int) -> int:
    """How often an image can be halved while it is even and larger than 4, and at least once."""
    n = 0
    while not (height % 2 or width % 2) and min(height, width) > 4:
        height, width, n = height // 2, width // 2, n + 1
    return max(n, 1)


class NICE(CouplingFlow):
    """Additive couplings; only the diagonal scalings change volume, by the same amount everywhere.

    References:
        Dinh, Krueger and Bengio, "NICE: non-linear independent components estimation", 2015.
    """

    shapes = ("vector",)

    def __init__(
        self,
        spec: Spec,
        *,
        net: NetworkFactory,
        conditional: bool = False,
        context: NetworkFactory | None = None,
        couplings: Count = 6,
    ) -> None:
        super().__init__(
            spec, map=Additive(), mixing="masks", net=net, conditional=conditional, context=context, couplings=couplings
        )


class AffineCoupling(CouplingFlow):
    """Real NVP (fixed masks) and Glow (learned 1x1 convolutions): affine couplings.

    Args:
        bound: largest absolute log-scale of a coupling; auto: 3 of images, 2 of vectors, of whose rows a few would else
            lie where the flow has no density to speak of (by validation on toys).
        structure: the arguments of ``CouplingFlow`` but its map.

    References:
        Dinh, Sohl-Dickstein and Bengio, "Density estimation using Real NVP", 2017.
        Kingma and Dhariwal, "Glow: generative flow with invertible 1x1 convolutions", 2018.
    """

    def __init__(self, spec: Spec, *, bound: Auto[Positive] = "auto", **structure: Any) -> None:
        super().__init__(spec, map=Affine(BOUND[len(spec.shape)] if bound == "auto" else bound), **structure)


class SplineCoupling(CouplingFlow):
    """Neural spline flow with couplings.

    Args:
        bins: K, the number of pieces of a spline.
        bound: B; the spline is the identity outside [-B, B].
        structure: the arguments of ``CouplingFlow`` but its map.

    References:
        Durkan, Bekasov, Murray and Papamakarios, "Neural spline flows", 2019.
    """

    def __init__(self, spec: Spec, *, bins: Bins = 8, bound: Positive = 4.0, **structure: Any) -> None:
        super().__init__(spec, map=RationalQuadratic(bins, bound), **structure)
