"""Tasks that are differential equations: an epidemic, and predators and their prey."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gencli.core.spec import Support
from gencli.data.box import Box
from gencli.data.priors import LogNormalPrior
from gencli.data.task import Task


def runge_kutta(slope: Callable[[Tensor], Tensor], u: Tensor, step: float, steps: int, every: int) -> Tensor:
    """The states of u' = slope(u) after every so many steps of order 4, that at the start first.

    Args:
        slope: of rows.
        u: (n, k) the start.
        step: length of a step.
        steps: their number.
        every: steps from one kept state to the next.

    Returns:
        (n, 1 + steps // every, k)
    """
    kept = [u]
    for i in range(steps):
        a = slope(u)
        b = slope(u + 0.5 * step * a)
        c = slope(u + 0.5 * step * b)
        d = slope(u + step * c)
        u = u + step / 6 * (a + 2 * b + 2 * c + d)
        if (i + 1) % every == 0:
            kept.append(u)
    return torch.stack(kept, 1)


class SIR(Task):
    """S' = -beta S I / N, I' = beta S I / N - gamma I of N = 10^6, one of whom is infected on day 0.

    log beta ~ N(log 0.4, 0.5^2), log gamma ~ N(log 0.125, 0.2^2). On the days 17, 34, ..., 153 a thousand people are
    tested: x_k ~ Binomial(1000, I / N), nine counts. The count of day 0, which the benchmark has too, is 0 always.
    """

    name = "sir"
    observed = 9
    names = ("beta", "gamma")
    TESTED, PEOPLE, GAP, STEP = 1000, 1e6, 17, 0.5
    support = Support("levels", TESTED + 1)

    def __init__(self) -> None:
        self.prior = LogNormalPrior([math.log(0.4), math.log(0.125)], [0.5, 0.2])

    def infected(self, theta: Tensor) -> Tensor:
        """I / N on the nine days, (n, 9); the equations are solved for log S and log I."""
        beta, gamma = theta.T

        def slope(u: Tensor) -> Tensor:
            s, i = u.exp().T
            return torch.stack([-beta * i, beta * s - gamma], 1)

        start = torch.tensor([1 - 1 / self.PEOPLE, 1 / self.PEOPLE], dtype=torch.float64).log().to(theta)
        every = round(self.GAP / self.STEP)
        states = runge_kutta(slope, start.expand(len(theta), 2), self.STEP, self.observed * every, every)
        return states[:, 1:, 1].exp()

    def simulate(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        return torch.binomial(
            torch.full((), float(self.TESTED), dtype=torch.float64).expand(len(theta), 9).clone(),
            self.infected(theta).clamp(0, 1),
            generator=generator,
        )

    def log_likelihood(self, x: Tensor, theta: Tensor) -> Tensor:
        p = self.infected(theta).clamp(1e-300, 1 - 1e-15)
        ways = math.lgamma(self.TESTED + 1) - torch.lgamma(x + 1) - torch.lgamma(self.TESTED - x + 1)
        return (ways + x * p.log() + (self.TESTED - x) * torch.log1p(-p)).sum(1)


class LotkaVolterra(Task):
    """X' = alpha X - beta X Y, Y' = delta X Y - gamma Y from (30, 1).

    log alpha, log gamma ~ N(-0.125, 0.5^2), log beta, log delta ~ N(-3, 0.5^2). x is the prey X at the times 0, 2.1,
    ..., 18.9, then the predators Y, each times exp(0.1 z) with z ~ N(0, 1).
    """

    name = "lotka_volterra"
    observed = 20
    names = ("alpha", "beta", "gamma", "delta")
    NOISE, GAP, STEP = 0.1, 2.1, 0.035

    def __init__(self) -> None:
        self.prior = LogNormalPrior([-0.125, -3.0, -0.125, -3.0], [0.5] * 4)
        self.box = Box(torch.zeros(20, dtype=torch.float64), torch.full((20,), torch.inf, dtype=torch.float64))

    def log_states(self, theta: Tensor) -> Tensor:
        """log of what is seen without noise, (n, 20)."""
        alpha, beta, gamma, delta = theta.T

        def slope(u: Tensor) -> Tensor:
            prey, predators = u.exp().T
            return torch.stack([alpha - beta * predators, delta * prey - gamma], 1)

        start = torch.tensor([30.0, 1.0], dtype=torch.float64).log().to(theta)
        every = round(self.GAP / self.STEP)
        states = runge_kutta(slope, start.expand(len(theta), 2), self.STEP, 9 * every, every)
        # the benchmark keeps what is seen within these limits
        return states.transpose(1, 2).flatten(1).clamp(math.log(1e-10), math.log(1e4))

    def simulate(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        z = torch.randn(len(theta), 20, generator=generator, dtype=torch.float64)
        return (self.log_states(theta) + self.NOISE * z).exp()

    def log_likelihood(self, x: Tensor, theta: Tensor) -> Tensor:
        log_x = x.log()
        z = (log_x - self.log_states(theta)) / self.NOISE
        return (-0.5 * z.square() - math.log(self.NOISE * math.sqrt(2 * math.pi)) - log_x).sum(1)
