"""What energies that are a network share: E(x) = f(x) - log q(x), of which f tilts a fixed base density q."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from gencli.core.spec import Spec
from gencli.models.base import DataInitialized, Model, Unnormalized
from gencli.models.energy.reference import Reference


class Tilted(Unnormalized, DataInitialized):
    """E(x) = f(x) - log q(x); without a base E(x) = f(x).

    The energy is in fp32 under autocast too: losses and chains live on differences of energies. The base is fitted to
    the data and then fixed.

    Args:
        spec: what one example is.
        conditional: refused.

    Raises:
        ValueError: conditional.
    """

    shapes = ("vector", "image")
    base: Reference | None

    def __init__(self, spec: Spec, *, conditional: bool = False) -> None:
        super().__init__(spec, conditional=conditional)
        if conditional:
            raise ValueError("model.conditional=true: an energy has another Z for each y; train one model a class")

    @abstractmethod
    def tilt(self, x: Tensor) -> Tensor:
        """f(x): (B, *) -> (B,)."""

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            e = self.tilt(x)
            return e if self.base is None else e + self.base.energy(x)

    def reference(self) -> Model | None:
        return self.base

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        if self.base is not None:
            self.base.initialize(x)

    @torch.no_grad()
    def health(self, x: Tensor, y: Tensor | None = None) -> dict[str, float]:
        """``energy_data``: the mean energy of data, whose drift says that nothing holds the level of E."""
        return {"energy_data": float(self.energy(x).mean())}
