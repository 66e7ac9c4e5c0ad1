"""What estimators of Z by annealed chains share: from a base with known Z to the model, by small steps.

Along a path of energies E_beta from a normalised one at beta = 0 to the model's at beta = 1 (``methods/annealing``),
each step of a chain adds E_beta_k-1(x) - E_beta_k(x) to its log weight, then moves x by a transition that leaves
exp(-E_beta_k) invariant; E[w] = Z exactly.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Auto, Count, ProperFraction, Range
from gencli.core.progress import counted
from gencli.core.sizes import rounded
from gencli.core.spec import Bound
from gencli.estimators.base import Shared
from gencli.estimators.partition import PartitionEstimator, check_density, fitted
from gencli.kernels.base import Kernel, require_moves
from gencli.kernels.hmc import HMC
from gencli.methods.annealing import Annealing, AnnealingPath, GeometricPath, MomentsPath, OwnPath, pilot
from gencli.methods.chains import require_kernel, usual
from gencli.methods.weights import softened
from gencli.models.base import DirectSampling, ModelFactory, Unnormalized
from gencli.models.structure import Annealable, BlockGibbs
from gencli.models.trained import Learned

FEWEST, FEWEST_CHAINS = 10, 20
"""Steps and chains of a measurement whose time is short."""


@dataclass(frozen=True, kw_only=True)
class Annealed(PartitionEstimator):
    """A base, a path, a kernel, and their options.

    Args:
        base: builds q, fitted to examples; None: the model's own base.
        kernel: the transition at each step; None: Hamiltonian Monte Carlo by the two options below for reals, the
            usual one of the model for discrete x (``methods/chains.py``).
        chains: number of chains; with ``betas=auto`` fewer where time does not suffice for 10 steps of so many.
        betas: K, steps from base to model; ``auto``: ``USUAL``, and fewer where the measurement that training ends with
            would take longer than it may.
        leaps: leapfrog steps of the Hamiltonian transition; 1 is MALA.
        target: acceptance that its step size aims at.
        adapt: choose betas by a pilot run; False: evenly spaced.
        path: ``geometric``; ``moments``: from the normal with the base's mean and covariance, whose moments go over to
            those of the examples; ``model``: the model's own, which needs no base; None: the model's own where it has
            one, else geometric.
        collapse: on a geometric path of discrete x, sum the largest block of coordinates that do not interact out of
            the weights.
    """

    base: ModelFactory | None = None
    kernel: Kernel[Any] | None = None
    chains: Annotated[int, Range(low=2)] = 256
    betas: Auto[Annotated[int, Range(low=2)]] = "auto"
    leaps: Count = 3
    target: ProperFraction = 0.7
    adapt: bool = True
    path: Literal["geometric", "moments", "model"] | None = None
    collapse: bool = False
    _seconds: float | None = field(default=None, init=False, repr=False)

    USUAL: ClassVar[int] = 500
    PASSES: ClassVar[int] = 3  # from base to model, moved on, and back

    bound: ClassVar[Bound] = "lower"
    DRAWN: ClassVar[int] = 4096  # of the base, for its moments

    def check(self, model: Unnormalized, learned: Learned) -> None:
        super().check(model, learned)
        support, own = model.spec.support, self.follows(model)
        if own == "model" and not isinstance(model, Annealable):
            raise ValueError("estimator.path=model: this model has no path of its own; leave estimator.path=null")
        if own == "moments" and not support.continuous:
            raise ValueError(f"estimator.path=moments is for reals, this model's x is {support}; estimator.path=null")
        if own != "model":
            check_density(self.base, model, "estimator.base")
        if self.kernel is None:
            if not support.continuous and not support.discrete:
                raise ValueError(f"estimator: no kernel moves x that is {support}")
            return
        named = f"estimator.kernel: {type(self.kernel).__name__}"
        if own == "model":
            require_kernel(self.kernel, model, named)
        else:  # the energies between are weighted sums, which no auxiliary variables draw
            require_moves(self.kernel, support, named)
        if not self.kernel.invariant:
            raise ValueError(f"{named} leaves exp(-E) as it is only nearly, so that weights would be biased; take hmc")
        for key, value, default in (("leaps", self.leaps, 3), ("target", self.target, 0.7)):
            if value != default:
                raise ValueError(f"estimator.{key}={value}: estimator.kernel says this itself; leave it as it is")

    def follows(self, model: Unnormalized) -> str:
        """The path, by name."""
        return self.path or ("model" if isinstance(model, Annealable) else "geometric")

    def within(self, seconds: float | None) -> Annealed:
        bounded = copy.copy(self)
        object.__setattr__(bounded, "_seconds", seconds if self.betas == "auto" else None)
        return bounded

    def _fitting(self, pace: float, spent: float) -> tuple[int, int]:
        """Steps from base to model that the time allows, and chains: 1, 2 or 5 times a power of ten; all if they fit.

        Of steps 10 at least; where that many do not fit, fewer chains.

        Args:
            pace: seconds of a transition of one chain.
            spent: seconds that went by.
        """
        if self._seconds is None:
            return self.most, self.chains
        moves = max(self._seconds - spent, self._seconds / 2) / (pace * self.PASSES)
        steps = moves / self.chains
        if steps >= self.most:
            return self.most, self.chains
        if steps >= FEWEST:
            return min(self.most, rounded(steps)), self.chains
        few = min(self.most, FEWEST)
        return few, min(self.chains, self.whole(max(FEWEST_CHAINS, rounded(moves / few))))

    def whole(self, chains: int) -> int:
        """So many chains, or about, as there may be."""
        return chains

    @property
    def most(self) -> int:
        """K, if time allows."""
        return self.USUAL if self.betas == "auto" else self.betas

    def settled(self, annealing: Annealing, found: Shared) -> Shared:
        """With what ``betas=auto`` became."""
        if self.betas != "auto":
            return found
        fewer = [f"{annealing.steps} of {self.most} betas"] if annealing.steps < self.most else []
        fewer += [f"{annealing.chains} of {self.chains} chains"] if annealing.chains < self.chains else []
        settled = {"betas": annealing.steps, "chains": annealing.chains}
        return replace(found, settled=settled, flags=tuple(fewer))

    def annealing(self, model: Unnormalized, x: Tensor, noise: Noise) -> Annealing:
        """From the base to the model, with the pilot run done."""
        path: AnnealingPath
        if self.follows(model) == "model":
            assert isinstance(model, Annealable)
            path = OwnPath(model)
        else:
            q = fitted(self.base, model, x, "estimator.base")
            if self.follows(model) == "geometric":
                path = GeometricPath(model, q, self.collapse)
            else:
                path = MomentsPath(model, q.sample(self.DRAWN, noise=noise), x)
        longest = None if self._seconds is None else self._seconds / 4
        return pilot(
            path, lambda start: self._kernel(model, start), self.most, self.adapt, noise, self._fitting, longest
        )

    def _kernel(self, model: Unnormalized, x: Tensor) -> Kernel[Any]:
        if self.kernel is not None:
            return self.kernel
        drawn = isinstance(model, BlockGibbs) and self.follows(model) == "model"
        if drawn or model.spec.support.discrete:
            return usual(model)
        return HMC(leaps=self.leaps, target=self.target, step_size=0.5 * float(x.std()), jitter=0.0)

    def forward(self, annealing: Annealing, noise: Noise) -> tuple[Tensor, Tensor, dict[str, float]]:
        """Chains from base to model: their ends, log weights (n,), and the mean ``acceptance`` if any is refused."""
        x = annealing.path.sample(annealing.chains, noise)
        log_w, rates = x.new_zeros(len(x), dtype=torch.float64), []
        for k in counted("chains from the base", range(1, annealing.steps + 1)):
            log_w -= annealing.rise(x, k)
            x, accept = annealing.move(x, k, noise)
            rates.append(accept)
        return x, log_w, acceptance(rates)

    def backward(self, annealing: Annealing, x: Tensor, noise: Noise) -> Tensor:
        """Chains from samples x of the model to the base, in the forward ones' reversal: log weights (n,) of 1 / Z."""
        log_w = x.new_zeros(len(x), dtype=torch.float64)
        for k in counted("chains to the base", range(annealing.steps, 0, -1)):
            x, _ = annealing.move(x, k, noise, back=True)
            log_w += annealing.rise(x, k)
        return log_w

    def starts(
        self, model: Unnormalized, annealing: Annealing, ends: Tensor, log_w: Tensor, refresh: int, noise: Noise
    ) -> tuple[Tensor, Tensor | None]:
        """Where reverse chains begin (n, *): exact samples where the model has them.

        Else the ends of forward chains, resampled by weight and moved on; then the chain that each comes from, (n,),
        is returned too. Weights that have collapsed are softened first: copies of one chain would know one mode.
        """
        if isinstance(model, DirectSampling):
            with torch.no_grad():
                return model.sample(annealing.chains, noise=noise), None
        chosen = systematic(softened(log_w), noise)
        x = ends[chosen]
        if annealing.steps < self.most:  # for want of time
            refresh = min(refresh, annealing.steps)
        for _ in counted("chains moved on", range(refresh)):
            x, _ = annealing.move(x, annealing.steps, noise)
        return x, chosen


def acceptance(rates: list[Tensor | None]) -> dict[str, float]:
    """The mean of rates, for the record; nothing where no step is refused."""
    kept = [rate for rate in rates if rate is not None]
    return {"acceptance": float(torch.stack(kept).mean())} if kept else {}


def systematic(log_w: Tensor, noise: Noise) -> Tensor:
    """Indices (n,) by systematic resampling: one uniform number, n evenly spaced places."""
    n = len(log_w)
    u = (noise.rand(1).to(log_w) + torch.arange(n, device=log_w.device)) / n
    return torch.searchsorted(log_w.softmax(0).cumsum(0), u).clamp(max=n - 1)
