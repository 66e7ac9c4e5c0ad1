"""Markov chains on an energy: transitions, adaptation and diagnostics that samplers, objectives and estimators share.

Every function works on n chains at once, x (n, *), whose energies do not depend on each other. The density is
exp(-E(x)); a temperature T is the energy E / T. Energies are in fp32 even under autocast: a chain lives on differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gencli.errors import RunFailed
from gencli.noise import Noise

Energy = Callable[[Tensor], Tensor]
"""(n, *) -> (n,) nats."""


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No parameter collects a gradient meanwhile, which makes a chain's backward passes about a third cheaper."""
    free = [p for p in module.parameters() if p.requires_grad]
    for p in free:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in free:
            p.requires_grad_(True)


def slope(energy: Energy, x: Tensor) -> tuple[Tensor, Tensor]:
    """E(x) (n,) and its gradient (n, *), detached."""
    with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        x = x.detach().requires_grad_()
        e = energy(x)
        (gradient,) = torch.autograd.grad(e.sum(), x)
    return e.detach(), gradient


def rows(value: Tensor, like: Tensor) -> Tensor:
    """(n,) -> (n, 1, ...), to be multiplied with x (n, *)."""
    return value.view(-1, *[1] * (like.ndim - 1))


def langevin(
    energy: Energy, x: Tensor, noise: Noise, *, step: float, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """One unadjusted Langevin step, x - step grad E + sqrt(2 step T) xi: its stationary law is p^(1/T) up to O(step).

    Returns:
        the new x, and E (n,) of the old one.

    References:
        Roberts and Tweedie, "Exponential convergence of Langevin distributions and their discrete
        approximations", 1996.
    """
    e, gradient = slope(energy, x)
    x = x.add(gradient, alpha=-step)
    if temperature:
        x = x.add(noise.randn(*x.shape).to(x), alpha=math.sqrt(2 * step * temperature))
    return x, e


@dataclass
class Point:
    """Where chains are: x (n, *), its energy (n,) and gradient (n, *)."""

    x: Tensor
    energy: Tensor
    gradient: Tensor

    @classmethod
    def at(cls, energy: Energy, x: Tensor) -> Point:
        """x, looked at."""
        return cls(x.detach(), *slope(energy, x))

    def where(self, condition: Tensor, other: Point) -> Point:
        """This point in rows where the condition (n,) holds, the other elsewhere."""
        wide = rows(condition, self.x)
        return Point(
            torch.where(wide, self.x, other.x),
            torch.where(condition, self.energy, other.energy),
            torch.where(wide, self.gradient, other.gradient),
        )


def leapfrog(energy: Energy, point: Point, momentum: Tensor, step: Tensor, leaps: int) -> tuple[Point, Tensor]:
    """Hamilton's equations for H = E(x) + |p|^2 / 2 by ``leaps`` leapfrog steps: error O(step^2), volume kept.

    Args:
        energy: E.
        point: where to start.
        momentum: p (n, *).
        step: (n,) step size of each chain.
        leaps: number of steps.

    Returns:
        the end and its momentum.
    """
    h = rows(step, point.x)
    x, gradient, e = point.x, point.gradient, point.energy
    p = momentum - 0.5 * h * gradient
    for i in range(leaps):
        x = x + h * p
        e, gradient = slope(energy, x)
        p = p - (0.5 if i == leaps - 1 else 1.0) * h * gradient
    return Point(x, e, gradient), p


def hmc(energy: Energy, point: Point, noise: Noise, *, step: Tensor, leaps: int) -> tuple[Point, Tensor]:
    """One Hamiltonian Monte Carlo transition, which leaves exp(-E) invariant; one leap is MALA with step^2 / 2.

    A proposal whose energy is not finite is refused.

    Returns:
        the new point, and the probability of acceptance (n,).

    References:
        Duane, Kennedy, Pendleton and Roweth, "Hybrid Monte Carlo", 1987; Neal, "MCMC using Hamiltonian dynamics", 2011.
        Besag, comment on "Representations of knowledge in complex systems", 1994 (MALA).
    """
    momentum = noise.randn(*point.x.shape).to(point.x)
    u = noise.rand(len(point.x)).to(point.x)
    proposed, end = leapfrog(energy, point, momentum, step, leaps)
    rise = proposed.energy - point.energy + 0.5 * (end.square() - momentum.square()).flatten(1).sum(1)
    accept = torch.nan_to_num((-rise).clamp(max=0).exp(), nan=0.0)
    return proposed.where(u < accept, point), accept


class DualAveraging:
    """Step sizes, one a chain, that reach a target acceptance.

    Each chain adapts alone, so that sample i does not depend on the other chains of its batch.

    Args:
        step: (n,) first step sizes.
        target: mean probability of acceptance to reach.

    References:
        Hoffman and Gelman, "The No-U-Turn sampler: adaptively setting path lengths in Hamiltonian Monte Carlo", 2014.
    """

    GAMMA, T0, KAPPA = (
        0.1,
        10.0,
        0.75,
    )  # the paper's gamma of 0.05 leaves a chain of 200 transitions 0.1 above its target

    def __init__(self, step: Tensor, target: float) -> None:
        self.target, self.t = target, 0
        self.mu = (10 * step).log()
        self.error = torch.zeros_like(step)
        self.log_step = step.log()
        self.log_average = torch.zeros_like(step)

    def update(self, accept: Tensor) -> None:
        """Learn from the probabilities of acceptance (n,) of a transition."""
        self.t += 1
        rate = 1 / (self.t + self.T0)
        self.error = (1 - rate) * self.error + rate * (self.target - accept)
        self.log_step = self.mu - math.sqrt(self.t) / self.GAMMA * self.error
        weight = self.t**-self.KAPPA
        self.log_average = weight * self.log_step + (1 - weight) * self.log_average

    @property
    def step(self) -> Tensor:
        """To explore with, while adapting."""
        return self.log_step.exp()

    @property
    def average(self) -> Tensor:
        """To stay with, afterwards."""
        return self.log_average.exp() if self.t else self.step


def split_r_hat(trace: Tensor) -> float:
    """Split R-hat of a quantity over chains: sqrt of the variance of all over that within half-chains; near 1 is good.

    Args:
        trace: (chains, draws), at least 4 draws.

    References:
        Gelman et al., "Bayesian data analysis", 3rd edition, 2013, section 11.4.
    """
    half = trace.shape[1] // 2
    if half < 2:
        return math.nan
    halves = torch.cat([trace[:, :half], trace[:, -half:]]).double()
    within = halves.var(1).mean()
    between = half * halves.mean(1).var()
    return float((((half - 1) * within + between) / (half * within)).sqrt())


def effective_draws(trace: Tensor) -> float:
    """Effective sample size of a quantity over all chains, by Geyer's initial monotone sequence.

    Args:
        trace: (chains, draws), at least 4 draws.

    References:
        Geyer, "Practical Markov chain Monte Carlo", 1992; Vehtari, Gelman, Simpson, Carpenter and Bürkner,
        "Rank-normalization, folding, and localization: an improved R-hat", 2021 (section 3.2).
    """
    m, n = trace.shape
    if n < 4:
        return math.nan
    trace = trace.double()
    away = trace - trace.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(away, 2 * n)
    covariance = torch.fft.irfft(spectrum * spectrum.conj(), 2 * n)[:, :n].mean(0) / n
    within = covariance[0] * n / (n - 1)
    total = within * (n - 1) / n + (trace.mean(1).var() if m > 1 else 0.0)
    if not total > 0:
        return math.nan
    rho = 1 - (within - covariance) / total
    pairs = rho[0 : n - n % 2 : 2] + rho[1 : n - n % 2 : 2]
    negative = (pairs < 0).nonzero()
    pairs = pairs[: int(negative[0])] if len(negative) else pairs
    tau = -1 + 2 * float(pairs.cummin(0).values.sum()) if len(pairs) else 1.0
    return m * n / max(tau, 1 / math.log10(max(m * n, 10)))


def ess(log_weights: Tensor) -> Tensor:
    """Kish's effective sample size of importance weights, (sum w)^2 / sum w^2, over the last dimension."""
    return (2 * log_weights.logsumexp(-1) - (2 * log_weights).logsumexp(-1)).exp()


def log_mean_exp(log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """log of the mean weight over (n,), and the variance of that logarithm by the delta method (inf for n = 1)."""
    n = len(log_weights)
    value = log_weights.logsumexp(0) - math.log(n)
    relative = (log_weights - value).exp()
    return value, relative.var() / n if n > 1 else torch.full_like(value, math.inf)


def require_finite(x: Tensor, norms: Tensor, what: str) -> None:
    """Stop where a chain has left for infinity.

    Args:
        x: (n, *) where chains have ended.
        norms: (steps,) the largest norm among the chains at each step so far.
        what: the options that lead there.

    Raises:
        RunFailed: says which step size, how large the chains had become, and when.
    """
    bad = int((~torch.isfinite(x.flatten(1)).all(1)).sum())
    if bad:
        kept = norms[: int(torch.isfinite(norms).long().cumprod(0).sum())]
        grown = (
            f"the largest norm was {float(kept[-1]):.3g} at step {len(kept)}"
            if len(kept)
            else "they were so at the start"
        )
        raise RunFailed(
            f"{bad} of {len(x)} chains diverged with {what}: {grown} of {len(norms)}. Take a smaller step, or an "
            "accepted chain (mala, hmc), whose step adapts"
        )
