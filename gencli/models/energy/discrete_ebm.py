"""Energy-based models of bits, levels and categories: a network tilts independent coordinates."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from gencli.core.spec import Spec
from gencli.models.autoregressive.encodings import Kind, encoding_of
from gencli.models.classical.independent import Independent
from gencli.models.energy.reference import Reference
from gencli.models.energy.tilted import Tilted
from gencli.models.structure import Relaxed
from gencli.nn.base import NetworkFactory


class DiscreteEBM(Tilted, Relaxed):
    """E(x) = f(phi(x)) - log q(x) of discrete x: a network f on features phi of each coordinate; q is independent.

    Z is finite whatever f is. The features are linear in one-hot rows: bits are themselves, levels a thermometer or a
    value, categories one-hot, of which the first layer of a network is an embedding. So E is defined between the values
    too, and its gradient there says what a change of a coordinate does.

    Args:
        spec: what one example is.
        net: builds f, from (D I,), or from (C I, H, W) of images, to (1,); I features a coordinate.
        conditional: refused.
        base: ``independent``: frequencies of the data in each coordinate, fixed; ``none``: uniform.
        encoding: of levels: ``thermometer``, ``onehot`` or ``value``; None: by their number.

    Raises:
        ValueError: conditional, or an encoding that this support does not have.

    References:
        Grathwohl, Swersky, Hashemi, Duvenaud and Maddison, "Oops I took a gradient: scalable sampling for discrete
        distributions", 2021 (such energies, tilting a base).
    """

    supports = ("binary", "levels", "categorical")
    codes: Tensor

    def __init__(
        self,
        spec: Spec,
        *,
        net: NetworkFactory,
        conditional: bool = False,
        base: Literal["independent", "none"] = "independent",
        encoding: Kind | None = None,
    ) -> None:
        super().__init__(spec, conditional=conditional)
        encoder = encoding_of(spec.support, encoding)
        values = torch.arange(spec.support.size)
        self.register_buffer("codes", encoder(values.float()), persistent=False)  # (K, I)
        if spec.kind == "image":
            in_shape = (spec.shape[0] * encoder.features, *spec.shape[1:])
        else:
            in_shape = (spec.dim * encoder.features,)
        self.net = net(in_shape, (1,), 0)
        self.base = None if base == "none" else Reference(spec, kind="independent")
        self.initial_examples = 2048 if self.base is None else self.base.initial_examples

    def _f(self, features: Tensor) -> Tensor:
        """f of features (B, D, I)."""
        if self.spec.kind == "image":
            planes = features.view(-1, *self.spec.shape, features.shape[-1])
            return self.net(planes.permute(0, 1, 4, 2, 3).flatten(1, 2)).squeeze(1)
        return self.net(features.flatten(1)).squeeze(1)

    def tilt(self, x: Tensor) -> Tensor:
        if self.spec.support.kind == "binary":
            return self._f(x.flatten(1)[..., None])
        return self._f(self.codes[x.flatten(1).long()])

    def relaxed(self, p: Tensor, y: Tensor | None = None) -> Tensor:
        with torch.autocast(p.device.type, enabled=False):
            e = self._f(p @ self.codes)
            return e if self.base is None else e - (p * self._log_q(self.base)).sum((1, 2))

    def _log_q(self, base: Reference) -> Tensor:
        """log q of every value of every coordinate, (D, K)."""
        assert isinstance(base.density, Independent)
        values = torch.arange(len(self.codes), device=self.codes.device)
        x = values[:, None].expand(-1, self.spec.dim)
        return base.density.log_conditionals(x.to(self.codes) if self.spec.support.kind == "binary" else x).T
