"""Annealed importance sampling and sequential Monte Carlo: from a base with known Z to the model, by small steps.

Path E_beta = (1 - beta) E_0 + beta E_1 with E_0 = -log q. Each step of a chain adds -(beta_k - beta_k-1)(E_1 - E_0)(x)
to its log weight, then moves x by a transition that leaves exp(-E_beta_k) invariant; E[w] = Z exactly.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gencli.estimators.partition import Density, PartitionEstimator, fitted
from gencli.interfaces import Bound, DirectSampling, Model, ModelFactory, Unnormalized
from gencli.mcmc import Energy, Point, ess, frozen, hmc, log_mean_exp
from gencli.noise import Noise


class Path:
    """The way from a base q to the model, with step sizes and betas that a pilot run has chosen.

    What the main run uses is fixed before it starts, so that its weights stay unbiased.

    Args:
        model: E_1.
        q: the base.
        betas: number of intermediate steps K.
        leaps: leapfrog steps a transition.
        target: acceptance to reach.
        adapt: choose betas by how fast the weights spread; False: evenly spaced.
    """

    PILOT_CHAINS, PILOT_BETAS, GAIN = 64, 200, 0.3

    def __init__(self, model: Unnormalized, q: Density, betas: int, leaps: int, target: float, adapt: bool) -> None:
        self.model, self.q, self.leaps, self.target, self.adapt = model, q, leaps, target, adapt
        self.betas = torch.linspace(0, 1, betas + 1, dtype=torch.float64)
        self.sizes = torch.ones(betas + 1, dtype=torch.float64)

    def at(self, beta: float) -> Energy:
        """E_beta."""
        if beta >= 1:
            return self.model.energy
        return lambda x: (1 - beta) * self.q.energy(x) + beta * self.model.energy(x)

    @torch.no_grad()
    def rise(self, x: Tensor) -> Tensor:
        """E_1 - E_0, (n,) in fp64: what a step of beta adds to an energy."""
        return (self.model.energy(x) - self.q.energy(x)).double()

    def move(self, x: Tensor, k: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """One transition at beta_k; returns x and the mean acceptance."""
        energy = self.at(float(self.betas[k]))
        size = x.new_full((len(x),), float(self.sizes[k]))
        point, accept = hmc(energy, Point.at(energy, x), noise, step=size, leaps=self.leaps)
        return point.x, accept.mean()

    def pilot(self, noise: Noise) -> None:
        """Run a few chains along even betas; learn step sizes, and betas along which log weights spread evenly.

        A step size follows the acceptance of all chains as beta goes on. The density of betas is the mean of an even
        one and one in proportion to the deviation of E_1 - E_0.
        """
        K = min(len(self.betas) - 1, self.PILOT_BETAS)
        grid = torch.linspace(0, 1, K + 1, dtype=torch.float64)
        x = self.q.sample(self.PILOT_CHAINS, noise=noise)
        log_size = math.log(0.5 * float(x.std()))
        sizes, spread = [], []
        for i, beta in enumerate(grid.tolist()):
            energy = self.at(beta)
            point = Point.at(energy, x)
            for _ in range(20 if i == 0 else 1):  # the first step size is a guess
                point, accept = hmc(
                    energy, point, noise, step=x.new_full((len(x),), math.exp(log_size)), leaps=self.leaps
                )
                log_size += self.GAIN * (float(accept.mean()) - self.target)
            x = point.x
            sizes.append(log_size)
            spread.append(float(self.rise(x).std()))
        if self.adapt:
            deviation = torch.tensor(spread, dtype=torch.float64)
            step = (deviation[1:] + deviation[:-1]) / 2
            density = step / step.sum().clamp(min=1e-30) + 1 / K
            reached = torch.cat([grid.new_zeros(1), density.cumsum(0)]) / density.sum()
            self.betas = _interpolate(torch.linspace(0, 1, len(self.betas), dtype=torch.float64), reached, grid)
            self.betas[-1] = 1.0
        self.sizes = _interpolate(self.betas, grid, torch.tensor(sizes, dtype=torch.float64)).exp()


def _interpolate(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Piecewise linear y(x) at points, x increasing."""
    right = torch.searchsorted(x, at).clamp(1, len(x) - 1)
    share = ((at - x[right - 1]) / (x[right] - x[right - 1]).clamp(min=1e-30)).clamp(0, 1)
    return y[right - 1] + share * (y[right] - y[right - 1])


class Annealed(PartitionEstimator):
    """What AIS and SMC share: a base, a path, and its options.

    Args:
        base: builds q, fitted to examples; None: the model's own base.
        chains: number of chains.
        betas: K, steps from base to model.
        leaps: leapfrog steps of the Hamiltonian transition at each; 1 is MALA.
        target: acceptance that its step size aims at.
        adapt: choose betas by a pilot run; False: evenly spaced.
        draws: of the dequantization.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        base: ModelFactory | None = None,
        chains: int = 256,
        betas: int = 500,
        leaps: int = 3,
        target: float = 0.7,
        adapt: bool = True,
        draws: int = 2,
    ) -> None:
        super().__init__(draws)
        for name, value, least in (("chains", chains, 2), ("betas", betas, 2), ("leaps", leaps, 1)):
            if value < least:
                raise ValueError(f"estimator.{name}={value}: at least {least}")
        if not 0 < target < 1:
            raise ValueError(f"estimator.target={target}: a probability")
        self.base, self.chains, self.betas = base, chains, betas
        self.leaps, self.target, self.adapt = leaps, target, adapt

    def check(self, model: Model) -> None:
        super().check(model)
        assert isinstance(model, Unnormalized)
        if self.base is None and model.reference() is None:
            raise ValueError("estimator.base=null: this model has no base of its own")

    def path(self, model: Unnormalized, x: Tensor, noise: Noise) -> Path:
        """Base and path, with the pilot run done."""
        q = fitted(self.base, model, x, "estimator.base")
        path = Path(model, q, self.betas, self.leaps, self.target, self.adapt)
        path.pilot(noise)
        return path


class AIS(Annealed):
    """Annealed importance sampling: log Z^ = log 1/n sum_i w_i, whose expectation is at most log Z.

    With ``reverse``, as many chains go from the model to the base: from exact samples where the model has them
    (``log_z_reverse`` is then in expectation at least log Z: bidirectional Monte Carlo), else from the ends of forward
    chains, resampled by weight and moved on by ``refresh`` transitions, which makes it an estimate. ``log_z_gap`` is
    reverse minus forward.

    Args:
        report: ``forward``, or ``reverse``: which one the NLL takes.
        reverse: measure in both directions.
        refresh: transitions before reverse chains start, where there are no exact samples.
        options: those of ``Annealed``.

    Raises:
        ValueError: an option out of range.

    References:
        Neal, "Annealed importance sampling", 2001; Grosse, Ghahramani and Adams, "Sandwiching the marginal likelihood
        using bidirectional Monte Carlo", 2015; Burda, Grosse and Salakhutdinov, "Accurate and conservative estimates of
        MRF log-likelihood using reverse annealing", 2015.
    """

    bound: Bound = "lower"

    def __init__(
        self,
        base: ModelFactory | None = None,
        chains: int = 256,
        betas: int = 500,
        leaps: int = 3,
        target: float = 0.7,
        adapt: bool = True,
        reverse: bool = True,
        report: str = "forward",
        refresh: int = 200,
        draws: int = 2,
    ) -> None:
        super().__init__(base, chains, betas, leaps, target, adapt, draws)
        if report not in ("forward", "reverse"):
            raise ValueError(f"estimator.report={report}: forward or reverse")
        if report == "reverse" and not reverse:
            raise ValueError("estimator.report=reverse needs estimator.reverse=true")
        if refresh < 0:
            raise ValueError(f"estimator.refresh={refresh}: at least 0")
        self.reverse, self.report, self.refresh = reverse, report, refresh

    def check(self, model: Model) -> None:
        super().check(model)
        if self.report == "reverse":
            self.bound = "upper" if isinstance(model, DirectSampling) else "estimate"

    def forward(self, path: Path, noise: Noise) -> tuple[Tensor, Tensor, float]:
        """Chains from base to model: their ends, log weights (n,) and mean acceptance."""
        x = path.q.sample(self.chains, noise=noise)
        log_w, accepted = x.new_zeros(len(x), dtype=torch.float64), x.new_zeros(())
        for k in range(1, len(path.betas)):
            log_w -= float(path.betas[k] - path.betas[k - 1]) * path.rise(x)
            x, accept = path.move(x, k, noise)
            accepted += accept
        return x, log_w, float(accepted) / (len(path.betas) - 1)

    def backward(self, path: Path, x: Tensor, noise: Noise) -> Tensor:
        """Chains from samples x of the model to the base: the log weights (n,) of 1 / Z."""
        log_w = x.new_zeros(len(x), dtype=torch.float64)
        for k in range(len(path.betas) - 1, 0, -1):
            x, _ = path.move(x, k, noise)
            log_w += float(path.betas[k] - path.betas[k - 1]) * path.rise(x)
        return log_w

    def measure(self, model: Unnormalized, x: Tensor, noise: Noise) -> tuple[float, float, dict[str, float]]:
        with frozen(model):
            path = self.path(model, x, noise)
            ends, log_w, acceptance = self.forward(path, noise)
            value, variance = log_mean_exp(log_w)
            found = {"ess": float(ess(log_w)), "acceptance": acceptance}
            if self.reverse:
                back, back_variance = log_mean_exp(self.backward(path, self._samples(path, ends, log_w, noise), noise))
                found |= {"log_z_forward": float(value), "log_z_reverse": -float(back)}
                found |= {"log_z_gap": -float(back) - float(value), "log_z_reverse_se": float(back_variance) ** 0.5}
                if self.report == "reverse":
                    value, variance = -back, back_variance
        return float(value), float(variance), found

    def _samples(self, path: Path, ends: Tensor, log_w: Tensor, noise: Noise) -> Tensor:
        """Samples of the model to go back from."""
        if isinstance(path.model, DirectSampling):
            with torch.no_grad():
                return path.model.sample(self.chains, noise=noise)
        x = ends[systematic(log_w, noise)]
        for _ in range(self.refresh):
            x, _ = path.move(x, len(path.betas) - 1, noise)
        return x


class SMC(Annealed):
    """Sequential Monte Carlo: annealed chains that are resampled when their weights get uneven.

    Chains are dealt to populations that know nothing of each other; each gives an unbiased Z^ and their spread the
    standard error.

    Args:
        populations: number of populations.
        threshold: resample when the effective sample size falls below this share of a population.
        options: those of ``Annealed``; ``chains`` counts all populations.

    Raises:
        ValueError: an option out of range.

    References:
        Del Moral, Doucet and Jasra, "Sequential Monte Carlo samplers", 2006.
    """

    bound = "lower"

    def __init__(
        self,
        base: ModelFactory | None = None,
        chains: int = 512,
        betas: int = 200,
        leaps: int = 3,
        target: float = 0.7,
        adapt: bool = True,
        populations: int = 8,
        threshold: float = 0.5,
        draws: int = 2,
    ) -> None:
        super().__init__(base, chains, betas, leaps, target, adapt, draws)
        if populations < 2 or chains % populations or chains == populations:
            raise ValueError(
                f"estimator.populations={populations}: at least 2, and a divisor of estimator.chains={chains} that "
                "leaves 2 chains or more to each"
            )
        if not 0 < threshold <= 1:
            raise ValueError(f"estimator.threshold={threshold}: a share")
        self.populations, self.threshold = populations, threshold

    def measure(self, model: Unnormalized, x: Tensor, noise: Noise) -> tuple[float, float, dict[str, float]]:
        R, size = self.populations, self.chains // self.populations
        with frozen(model):
            path = self.path(model, x, noise)
            at = path.q.sample(self.chains, noise=noise)
            log_w = at.new_zeros(R, size, dtype=torch.float64)
            log_z = log_w.new_zeros(R)
            accepted, resampled = at.new_zeros(()), 0.0
            for k in range(1, len(path.betas)):
                log_w -= float(path.betas[k] - path.betas[k - 1]) * path.rise(at).view(R, size)
                uneven = ess(log_w) < self.threshold * size
                index = torch.arange(self.chains, device=at.device).view(R, size)
                for r in uneven.nonzero().flatten().tolist():
                    log_z[r] += log_w[r].logsumexp(0) - math.log(size)
                    index[r] = r * size + systematic(log_w[r], noise)
                    log_w[r] = 0.0
                    resampled += 1
                at, accept = path.move(at[index.flatten()], k, noise)
                accepted += accept
            log_z += log_w.logsumexp(1) - math.log(size)
            value, variance = log_mean_exp(log_z)
        found = {"acceptance": float(accepted) / (len(path.betas) - 1), "resampled": resampled / R}
        return float(value), float(variance), found


def systematic(log_w: Tensor, noise: Noise) -> Tensor:
    """Indices (n,) by systematic resampling: one uniform number, n evenly spaced places."""
    n = len(log_w)
    u = (noise.rand(1).to(log_w) + torch.arange(n, device=log_w.device)) / n
    return torch.searchsorted(log_w.softmax(0).cumsum(0), u).clamp(max=n - 1)
