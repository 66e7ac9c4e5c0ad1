"""The model's own normalised density: NLL = -log p(x)."""

from __future__ import annotations

from torch import Tensor

from gencli.interfaces import Estimate, Estimator, ExactLikelihood, Model
from gencli.noise import Noise


class Exact(Estimator):
    """-log p(x given y) in nats, with no error of its own."""

    requires = (ExactLikelihood,)
    bound = "exact"

    def nll(self, model: Model, x: Tensor, y: Tensor | None, noise: Noise) -> Estimate:
        assert isinstance(model, ExactLikelihood)
        return Estimate(-model.log_prob(x, y))
