"""Two-sided bridge sampling over annealed chains of both directions: one number between the two bounds."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Natural
from gencli.core.tensors import frozen
from gencli.estimators.annealed import Annealed
from gencli.estimators.base import Shared
from gencli.methods.bennett import bridged
from gencli.methods.weights import least, weighed
from gencli.models.base import Unnormalized


@dataclass(frozen=True, kw_only=True)
class Bridge(Annealed):
    """log Z by Bennett's acceptance ratio, from weights of annealed chains that go up and of others that come down.

    A forward chain's weight is the ratio of the laws of a trajectory in reverse and forward, times Z; a reverse one's
    is drawn under the other law (Crooks). The best use of both is far less biased than either, which are the bounds
    ``log_z_forward`` and ``log_z_reverse`` beside it. Reverse chains begin at exact samples where the model has them,
    else at the ends of forward chains, as in ``ais``; then its error has each chain and its heirs together. Where few
    chains of one direction reach what those of the other do (``overlap``), the error is told as a lower limit.

    Args:
        refresh: transitions before reverse chains start, where there are no exact samples.
        collapse: as for ``ais``, which is published without it.

    References:
        Bennett, "Efficient estimation of free energy differences from Monte Carlo data", 1976; Meng and Wong,
        "Simulating ratios of normalizing constants via a simple identity", 1996; Crooks, "Path-ensemble averages in
        systems driven far from equilibrium", 2000; Shirts and Chodera, "Statistically optimal analysis of samples from
        multiple equilibrium states", 2008, of which this is the case of two states.
    """

    refresh: Natural = 200
    collapse: bool = True

    bound = "estimate"

    def measure(self, model: Unnormalized, x: Tensor, noise: Noise) -> Shared:
        with frozen(model):
            annealing = self.annealing(model, x, noise)
            ends, log_w, rates = self.forward(annealing, noise)
            start, ancestors = self.starts(model, annealing, ends, log_w, self.refresh, noise)
            log_v = self.backward(annealing, start, noise)
        up, down, found = weighed(log_w), weighed(log_v), bridged(log_w, -log_v, ancestors)
        few = least(log_w)
        collapsed = found.overlap * annealing.chains < few or (ancestors is not None and up.ess < few)
        said = {"log_z_forward": up.log_mean, "log_z_reverse": -down.log_mean, "ess": up.ess}
        said |= {"log_z_gap": -down.log_mean - up.log_mean, "overlap": found.overlap, **rates}
        return self.settled(annealing, Shared(self.bound, found.log_z, found.variance, collapsed, said))
