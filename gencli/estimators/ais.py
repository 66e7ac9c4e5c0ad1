"""Annealed importance sampling, log Z^ = log 1/n sum_i w_i, in one direction or both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Natural
from gencli.core.spec import Bound
from gencli.core.tensors import frozen
from gencli.estimators.annealed import Annealed
from gencli.estimators.base import Shared
from gencli.methods.weights import weighed
from gencli.models.base import DirectSampling, Unnormalized


@dataclass(frozen=True, kw_only=True)
class AIS(Annealed):
    """Annealed importance sampling: log Z^ = log 1/n sum_i w_i, whose expectation is at most log Z.

    With ``reverse``, as many chains go from the model to the base: from exact samples where the model has them
    (``log_z_reverse`` is then in expectation at least log Z: bidirectional Monte Carlo), else from the ends of forward
    chains, resampled by weight and moved on by ``refresh`` transitions, which makes it an estimate: where ``ess`` is
    small few ancestors are left, and ``log_z_reverse_se`` does not know it. ``log_z_gap`` is reverse minus forward; if
    it is more than four standard errors, or the weights themselves say so, the error is told as a lower limit.

    Args:
        report: ``forward``, or ``reverse``: which one the NLL takes.
        reverse: measure in both directions.
        refresh: transitions before reverse chains start, where there are no exact samples.

    Raises:
        ValueError: ``report=reverse`` without ``reverse``.

    References:
        Neal, "Annealed importance sampling", 2001; Grosse, Ghahramani and Adams, "Sandwiching the marginal likelihood
        using bidirectional Monte Carlo", 2015; Burda, Grosse and Salakhutdinov, "Accurate and conservative estimates of
        MRF log-likelihood using reverse annealing", 2015.
    """

    APART: ClassVar[float] = 4.0

    reverse: bool = True
    report: Literal["forward", "reverse"] = "forward"
    refresh: Natural = 200

    def __post_init__(self) -> None:
        if self.report == "reverse" and not self.reverse:
            raise ValueError("estimator.report=reverse needs estimator.reverse=true")

    def measure(self, model: Unnormalized, x: Tensor, noise: Noise) -> Shared:
        bound: Bound = self.bound
        with frozen(model):
            annealing = self.annealing(model, x, noise)
            ends, log_w, rates = self.forward(annealing, noise)
            forward = weighed(log_w)
            value, variance, collapsed = forward.log_mean, forward.variance, forward.collapsed
            found = {**forward.diagnostics, **rates}
            if self.reverse:
                start, _ = self.starts(model, annealing, ends, log_w, self.refresh, noise)
                back = weighed(self.backward(annealing, start, noise))
                gap = -back.log_mean - value
                found |= {"log_z_forward": value, "log_z_reverse": -back.log_mean, "log_z_gap": gap}
                found |= {"log_z_reverse_se": back.variance**0.5}
                if self.report == "reverse":
                    value, variance, collapsed = -back.log_mean, back.variance, back.collapsed
                    bound = "upper" if isinstance(model, DirectSampling) else "estimate"
                collapsed |= abs(gap) > self.APART * (forward.variance + back.variance) ** 0.5
        return self.settled(annealing, Shared(bound, value, variance, collapsed, found))
