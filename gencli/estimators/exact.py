"""The model's own normalised density: NLL = -log p(x)."""

from __future__ import annotations

from gencli.interfaces import Batch, Estimate, Estimator, ExactLikelihood, Model, log_likelihood
from gencli.noise import Noise


class Exact(Estimator):
    """-log p(x given y) in nats, with no error of its own."""

    requires = (ExactLikelihood,)
    bound = "exact"

    def nll(self, model: Model, batch: Batch, noise: Noise) -> Estimate:
        assert isinstance(model, ExactLikelihood)
        return Estimate(-log_likelihood(model, batch))
