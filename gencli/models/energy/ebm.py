"""Energy-based models of reals: a network gives every x an energy, p(x) = exp(-E(x)) / Z."""

from __future__ import annotations

import torch
from torch import Tensor

from gencli.core.tensors import rows
from gencli.models.energy.tilted import TiltedReals
from gencli.models.structure import Sloped


class EBM(TiltedReals, Sloped):
    """E(x) = f(x) - log q(x): a network f, which tilts a base density q exponentially; without one E(x) = f(x).

    Under a Gaussian base Z is finite whatever the parameters are, because f grows no faster than |x|; under the model
    of a run it is where f is bounded. Without a base nothing but training makes E grow away from the data, and an
    energy that does not has no Z and no NLL.

    References:
        LeCun, Chopra, Hadsell, Ranzato and Huang, "A tutorial on energy-based learning", 2006.
        Arbel, Zhou and Gretton, "Generalized energy based models", 2021 (tilting a base).
    """

    def tilt(self, x: Tensor) -> Tensor:
        return self.bounded(x).squeeze(1)

    def slope(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            e, gradient = self.net.slope(x)
            if self.bound is not None:
                t = torch.tanh(e / self.bound)
                e, gradient = self.bound * t, gradient * rows(1 - t.square(), gradient)
            if self.base is not None:
                of_base, gradient_of_base = self.base.slope(x)
                e, gradient = e + of_base, gradient + gradient_of_base
        return e, gradient
