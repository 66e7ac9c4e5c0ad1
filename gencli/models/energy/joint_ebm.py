"""A classifier that is a density, too: the logits of a network are the energies of x with each class.

With a base density q of x, E(x, y) = -f(x)[y] - log q(x) and p(y | x) = softmax f(x).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gencli.core.spec import Spec
from gencli.models.energy.tilted import TiltedReals
from gencli.models.structure import JointEnergy


class JointEBM(TiltedReals, JointEnergy):
    """p(x, y) = exp(f(x)[y]) q(x) / Z: a network f with an output a class, which tilts a base density q of x.

    So E(x) = -log sum_y exp(f(x)[y]) - log q(x), whose Z every estimator of an energy measures, and p(y | x) is the
    softmax of f(x), in which neither Z nor q has a part.

    Args:
        spec: what one example is; it has classes.
        shared: the options of ``TiltedReals``.

    Raises:
        ValueError: data without labels, or what ``TiltedReals`` refuses.

    References:
        Grathwohl, Wang, Jacobsen, Duvenaud, Norouzi and Swersky, "Your classifier is secretly an energy based model and
        you should treat it like one", 2020 (without a base).
    """

    def __init__(self, spec: Spec, **shared: Any) -> None:
        if not spec.classes:
            raise ValueError("model=joint_ebm is a density of x and its class: this data has no labels; take model=ebm")
        super().__init__(spec, **shared)

    @property
    def outputs(self) -> int:
        assert self.spec.classes
        return self.spec.classes

    def _logits(self, x: Tensor) -> Tensor:
        """f(x) (B, K), in fp32 as all that energies are made of."""
        with torch.autocast(x.device.type, enabled=False):
            return self.bounded(x)

    def tilt(self, x: Tensor) -> Tensor:
        return -self._logits(x).logsumexp(1)

    def joint(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            e = -self._logits(x)
            return e if self.base is None else e + self.base.energy(x)[:, None]

    def log_classes(self, x: Tensor) -> Tensor:
        return self._logits(x).log_softmax(1)

    @torch.no_grad()
    def health(self, x: Tensor, y: Tensor | None = None) -> dict[str, float]:
        """``energy_data``, and the ``accuracy`` on these examples."""
        found = super().health(x, y)
        if y is not None:
            found["accuracy"] = float((self.log_classes(x).argmax(1) == y).float().mean())
        return found
