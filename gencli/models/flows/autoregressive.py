"""Autoregressive flows: coordinate d moves as the coordinates before it say.

    z_d = f(x_d; parameters(x_1..x_{d-1}, y)),    log|det dz/dx| = sum_d log f'(x_d)

The network is a MADE, so the density takes one pass and a sample D (MAF); read backwards, a sample takes one pass and
the density D (IAF). The map f is affine or a spline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gencli.core import sizes
from gencli.core.options import Auto, BelowOne, Count, Positive
from gencli.core.spec import Spec
from gencli.models.flows import maps
from gencli.models.flows.flow import Chain, Flow, Inverse, Transform
from gencli.models.flows.layers import ActNorm, Marginal, Permutation
from gencli.models.flows.maps import Affine, Bins, Map, RationalQuadratic
from gencli.models.structure import SequentialDensity
from gencli.nn.base import NetworkFactory
from gencli.nn.masked import MaskedMLP


class Autoregressive(Transform):
    """One autoregressive transform.

    Args:
        made: gives the parameters of coordinate d from those before it.
        map: the monotone map of one coordinate.
    """

    def __init__(self, made: MaskedMLP, map: Map) -> None:
        super().__init__()
        self.made, self.map = made, map

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, log_slope = self.map.forward(x, self.made(x, context).to(x.dtype))
        return z, log_slope.sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        if torch.is_grad_enabled():
            return self.iterate(z, context)
        return self.made.solve(lambda d, params: self.map.inverse(z[:, d], params.to(z.dtype)), len(z), context)

    def iterate(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """D full passes, differentiable: after pass d the first d coordinates are final."""
        x = z
        for _ in range(z.shape[1]):
            x = self.map.inverse(z, self.made(x, context).to(z.dtype))
        return x


class AutoregressiveFlow(SequentialDensity, Flow):
    """A stack of autoregressive transforms, the order of the coordinates reversed from one to the next.

    Args:
        spec: what one example is.
        map: the monotone map of one coordinate.
        conditional: model p(x given y).
        context: network from y to features that all others see; None: they see y itself.
        transforms: number of transforms.
        hidden: width of each hidden layer of a MADE; auto: two layers of ``sizes.width``, half of it
            where a coordinate has more than two parameters, as those of a spline.
        dropout: probability that a hidden unit is dropped in training.
        inverse: read every transform backwards (IAF).
        marginal: bins of a learned spline of each coordinate in front of the flow; 0: none.
    """

    shapes = ("vector",)

    def __init__(
        self,
        spec: Spec,
        *,
        map: Map,
        conditional: bool = False,
        context: NetworkFactory | None = None,
        transforms: Count = 5,
        hidden: Auto[Sequence[Count]] = "auto",
        dropout: BelowOne = 0.0,
        inverse: bool = False,
        marginal: maps.Marginal = 0,
    ) -> None:
        super().__init__(spec, conditional=conditional, context=context)
        D = spec.dim
        own = sizes.width(D, 0.5 if map.n_params > 2 else 1.0)
        widths = sizes.settle(self, "hidden", hidden, [own] * 2)
        parts: list[Transform] = [ActNorm(D), Marginal((D,), RationalQuadratic(marginal))] if marginal else []
        for i in range(transforms):
            made = MaskedMLP(D, map.n_params, self.context_dim, hidden=widths, dropout=dropout)
            step = Autoregressive(made, map)
            parts += [ActNorm(D), Inverse(step) if inverse else step]
            if i < transforms - 1:
                parts.append(Permutation(range(D - 1, -1, -1)))
        self.transform = Chain([*parts, ActNorm(D)])
        self._passes = transforms * (1 if inverse else D)
        self.density_passes = transforms * (D if inverse else 1)

    @property
    def passes(self) -> int:
        return self._passes


class AffineAutoregressive(AutoregressiveFlow):
    """MAF, and IAF with ``inverse``: affine maps.

    Args:
        bound: largest absolute log-scale of a transform.
        structure: the arguments of ``AutoregressiveFlow`` but its map.

    References:
        Papamakarios, Pavlakou and Murray, "Masked autoregressive flow for density estimation", 2017.
        Kingma et al., "Improved variational inference with inverse autoregressive flow", 2016.
    """

    def __init__(self, spec: Spec, *, bound: Positive = 3.0, **structure: Any) -> None:
        super().__init__(spec, map=Affine(bound), **structure)


class SplineAutoregressive(AutoregressiveFlow):
    """Neural spline flow, autoregressive.

    Args:
        bins: K, the number of pieces of a spline.
        bound: B; the spline is the identity outside [-B, B].
        structure: the arguments of ``AutoregressiveFlow`` but its map.

    References:
        Durkan, Bekasov, Murray and Papamakarios, "Neural spline flows", 2019.
    """

    def __init__(self, spec: Spec, *, bins: Bins = 8, bound: Positive = 4.0, **structure: Any) -> None:
        super().__init__(spec, map=RationalQuadratic(bins, bound), **structure)
