"""The importance-weighted bound: -log p(x) <= -E log 1/k sum_i w_i,  w_i = p(x, z_i) / q(z_i | x)."""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Count
from gencli.core.spec import Batch, Spec
from gencli.models.base import LatentVariable
from gencli.models.trained import Learned
from gencli.objectives.base import Loss, Turn
from gencli.objectives.latent import LatentObjective


class IWAE(LatentObjective):
    """-log 1/k sum_i w_i from k samples a row, averaged over the batch, in nats; k = 1 is the ELBO.

    The gradient is that of the bound (``plain``), or for the parameters of q the doubly reparameterised one (``dreg``),
    of the same expectation and less variance, the more so the larger k: with v_i = w_i / sum_j w_j,

        sum_i v_i^2 (d log w_i / d z_i) (d z_i / d phi)   instead of   sum_i v_i (d log w_i / d phi).

    Args:
        spec: what one example is.
        k: samples a row.
        gradient: ``plain`` or ``dreg``.
        prior: the options of ``LatentObjective``, of a prior that is an energy.

    References:
        Burda, Grosse and Salakhutdinov, "Importance weighted autoencoders", 2016.
        Tucker, Lawson, Gu and Maddison, "Doubly reparameterized gradient estimators for Monte Carlo objectives", 2019.
    """

    def __init__(self, spec: Spec, k: Count = 5, gradient: Literal["plain", "dreg"] = "plain", **prior: Any) -> None:
        super().__init__(spec, **prior)
        self.k, self.gradient = k, gradient

    def bind(self, model: LatentVariable) -> Learned:
        if self.gradient == "dreg" and not model.stoppable:
            raise ValueError("objective.gradient=dreg: this model's q has no parameters of its own; take plain")
        return super().bind(model)

    def _bound(self, log_w: Tensor) -> Tensor:
        return log_w.logsumexp(1) - math.log(self.k)

    def turns(self, model: LatentVariable) -> list[Turn]:

        def plain(batch: Batch, noise: Noise) -> Tensor:
            return -self._bound(model.log_weights(batch.x, self.k, batch.y, noise=noise)).mean()

        def dreg(batch: Batch, noise: Noise) -> Tensor:
            share: list[Tensor] = []  # v (B, k), known once all the weights are

            def through(z: Tensor) -> Tensor:
                used = z.view_as(z)
                used.register_hook(lambda gradient: gradient * share[0][..., None])
                return used

            log_w = model.log_weights(batch.x, self.k, batch.y, noise=noise, through=through)
            share.append(log_w.detach().softmax(1))
            return -self._bound(
                log_w
            ).mean()  # its gradient in log w_i is v_i; the hook multiplies what goes on through z_i by v_i

        def loss(batch: Batch, noise: Noise) -> Loss:
            with self.bounding(model):
                value = (dreg if self.gradient == "dreg" else plain)(batch, noise)
            return Loss(value + sum(self.learning(model, batch, noise)))

        return [self.turn(model, loss, static=True)]

    def score(self, model: LatentVariable, batch: Batch, noise: Noise) -> Tensor:
        log_w = model.log_weights(batch.x, self.k, batch.y, noise=noise)
        return self.log_z(model, len(batch.x), noise) - self._bound(log_w)
