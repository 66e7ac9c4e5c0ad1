"""Posteriors of a simulator's parameters theta given an observation x.

A model of p(theta given x) is drawn from; what lies outside of the prior's box is refused and drawn again. A model of
p(x given theta), or a likelihood that is known, has chains on prior x likelihood: a population is carried from the
prior to the posterior through p(theta) p(x given theta)^beta, and goes on from there. So has a model of p(theta, x), in
which p(theta, x) / p(theta) takes the place of the likelihood: the posterior is the model's own, whatever the constant
that an energy lacks.

References:
    Glaser, Arbel, Hromadka, Doucet and Gretton, "Maximum likelihood learning of unnormalized models for
    simulation-based inference", 2022 (energies of theta and x).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gencli.core.noise import Purpose, stream
from gencli.core.spec import Batch
from gencli.data.task import Prior, Task
from gencli.kernels.diagnostics import effective_draws
from gencli.models.subject import Subject

LogLikelihood = Callable[[Tensor], Tensor]
"""Theta (n, D) -> log p(x given theta) (n,), up to a constant."""

MOVES = 5
"""Steps of every chain at each temperature."""
POPULATIONS, LEAST = 4, 100
"""Populations of chains, and chains of each at least: proposals are made of the population."""
_ROUNDS = 50  # of drawing again what leaked
_LEVELS = 200


@dataclass(frozen=True)
class Drawn:
    """Draws of posteriors.

    Args:
        theta: (K, n, D), n of each of K observations, float64 on the CPU.
        diagnostics: ``leakage`` of direct draws; ``acceptance``, ``r_hat``, ``ess`` and ``levels`` of chains, the worst
            of all parameters and observations.
    """

    theta: Tensor
    diagnostics: dict[str, float] = field(default_factory=dict)


def posteriors(subject: Subject, x: Tensor, n: int, *, number: int = 0, steps: int = 50) -> Drawn:
    """n draws for each of the observations x (K, C) by the trained model.

    Args:
        subject: a model of data that have a ``task``.
        x: observations in data space.
        n: draws of each.
        number: of the noise.
        steps: recorded steps of chains, of which the last points are the draws.

    Raises:
        ValueError: nearly all draws leave the prior, or the likelihood is 0 all over it.
    """
    task = task_of(subject)
    if subject.dataset.target == "parameters":
        return _direct(subject, task, x, n, number)
    found = []
    for k, one in enumerate(x):
        generator = torch.Generator().manual_seed(stream(subject.seed, Purpose.METRICS, number, k))
        found.append(tempered(task.prior, likelihood(subject, one), n, generator, steps))
    worst = {"acceptance": min, "r_hat": max, "ess": min, "levels": max}
    said = {key: of(draws.diagnostics[key] for draws in found) for key, of in worst.items()}
    return Drawn(torch.cat([draws.theta for draws in found]), said)


def task_of(subject: Subject) -> Task:
    """What the data of a model are simulations of.

    Raises:
        ValueError: they are none, or the model has no context where x is only one of the two.
    """
    if subject.dataset.task is None or subject.dataset.target is None:
        raise ValueError(f"data={subject.dataset.name} has no prior and no simulator: data=simulator has them")
    if subject.dataset.target != "joint" and not subject.model.conditional:
        raise ValueError("this model does not depend on its context: model.conditional=true")
    return subject.dataset.task


def pairs(subject: Subject, n: int) -> tuple[Tensor, Tensor]:
    """Theta (n, D) and x (n, C) of the first n examples of a subject's split, float64.

    Raises:
        ValueError: there are fewer.
    """
    task_of(subject)
    if n > len(subject.split):
        raise ValueError(f"examples={n}: the split has {len(subject.split)}")
    batch = subject.split.gather(torch.arange(n))
    x = batch.x.cpu().double()
    if subject.dataset.target == "joint":
        theta, seen = x.tensor_split([task_of(subject).prior.dim], 1)
        return theta, seen
    assert batch.y is not None
    y = batch.y.cpu().double()
    return (x, y) if subject.dataset.target == "parameters" else (y, x)


def _direct(subject: Subject, task: Task, x: Tensor, n: int, number: int) -> Drawn:
    first = subject.split.gather(torch.zeros(1, dtype=torch.long))
    assert first.y is not None
    context = x.to(first.y.dtype).cpu()
    found = torch.empty(len(x), n, task.prior.dim, dtype=torch.float64)
    there, refused, total = torch.zeros(len(x), dtype=torch.long), 0, 0
    for round_ in range(_ROUNDS):
        kept_share = max(1 - refused / total, 0.02) if total else 1.0
        rows = torch.arange(len(x)).repeat_interleave(((n - there) / kept_share).ceil().long())
        theta = subject.draw(len(rows), context[rows], number * _ROUNDS + round_).cpu().double()
        inside = task.prior.box.contains(theta)
        total, refused = total + len(rows), refused + int((~inside).sum())
        for k in rows[inside].unique().tolist():
            kept = theta[inside & (rows == k)][: n - there[k]]
            found[k, there[k] : there[k] + len(kept)] = kept
            there[k] += len(kept)
        if bool((there == n).all()):
            return Drawn(found, {"leakage": refused / total})
    advice = "data.unbounded=true keeps them in" if subject.dataset.box is None else "the model is far off"
    raise ValueError(f"sampler: {refused / total:.1%} of draws lie outside of the prior: {advice}")


def likelihood(subject: Subject, x: Tensor) -> LogLikelihood:
    """log p(x given theta) of one x (C,) by a model of observations; by a joint one log p(theta, x) - log p(theta)."""
    first = subject.split.gather(torch.zeros(1, dtype=torch.long))
    observed = x.to(first.x.dtype)

    def log_p(theta: Tensor) -> Tensor:
        seen = observed.expand(len(theta), -1).contiguous()
        if subject.dataset.target == "joint":
            joint = Batch(torch.cat([theta.to(seen), seen], 1))
            return -subject.nll(joint).cpu().double() - task_of(subject).prior.log_prob(theta)
        assert first.y is not None
        return -subject.nll(Batch(seen, theta.to(first.y.dtype))).cpu().double()

    return log_p


def reference(task: Task, x: Tensor, n: int, generator: torch.Generator, steps: int = 100) -> Tensor | None:
    """n draws (n, D) of the true posterior given x (C,): exact ones, or chains on its likelihood; None: not known."""
    exact = task.posterior(x, n, generator)
    if exact is not None:
        return exact
    if task.log_likelihood(x[None], task.prior.sample(1, generator)) is None:
        return None

    def log_p(theta: Tensor) -> Tensor:
        found = task.log_likelihood(x.expand(len(theta), -1), theta)
        assert found is not None
        return found

    return tempered(task.prior, log_p, n, generator, steps).theta[0]


def tempered(prior: Prior, log_likelihood: LogLikelihood, n: int, generator: torch.Generator, steps: int) -> Drawn:
    """Chains on p(theta) exp(log_likelihood(theta)), begun by populations that are led there from the prior.

    The last points of n chains are the draws. Chains belong to four populations that know nothing of each other;
    ``r_hat`` compares these (nested R-hat: sqrt(1 + B / W) of the variances of their means and within them), because
    each chain alone is short. ``ess`` counts the recorded steps of all chains.

    References:
        Margossian, Hoffman, Sountsov, Riou-Durand, Vehtari and Gelman, "Nested R-hat: assessing the convergence of
        Markov chain Monte Carlo when running many short chains", 2024.
    """
    size = max(-(-n // POPULATIONS), LEAST)
    found = [_population(prior, log_likelihood, size, generator, steps) for _ in range(POPULATIONS)]
    traces = [trace for trace, _ in found]  # each (chains, steps, D)
    last = torch.stack([trace[:, -1] for trace in traces])  # (populations, chains, D)
    between, within = last.mean(1).var(0), last.var(1).mean(0)
    # means of so many chains differ by chance too
    said = {"r_hat": float((1 + (between - within / size).clamp(min=0) / within).sqrt().max())}
    together = torch.cat(traces)
    said["ess"] = min(effective_draws(together[..., d]) for d in range(prior.dim))
    for key in found[0][1]:
        said[key] = sum(one[key] for _, one in found) / POPULATIONS
    theta = prior.box.bounded_at(last.transpose(0, 1).flatten(0, 1))
    return Drawn(theta[None, :n], said)


def _population(
    prior: Prior, log_likelihood: LogLikelihood, chains: int, generator: torch.Generator, steps: int
) -> tuple[Tensor, dict[str, float]]:
    """Recorded steps (chains, steps, D) of one population, in the space of v, and what it says of itself.

    From beta = 0 each temperature is as far as weights p(x given theta)^(beta' - beta) keep half of their effective
    number; chains are resampled by them and moved. Proposals are v + gamma (a - b), with a and b of the population as
    it was when the temperature began, so that each chain is a Markov chain of its own with a symmetric proposal. v is
    theta, mapped from the prior's box onto R^D. Gamma = 1 leads from mode to mode.

    References:
        Del Moral, Doucet and Jasra, "Sequential Monte Carlo samplers", 2006; ter Braak and Vrugt, "Differential
        evolution Markov chain with snooker updater and fewer chains", 2008.

    Raises:
        ValueError: the likelihood is 0 at every draw of the prior.
    """
    v = prior.box.unbounded(prior.sample(chains, generator))[0]
    walkers = _Walkers(prior, log_likelihood, generator, v)
    beta, level = 0.0, 0
    while beta < 1 and level < _LEVELS:
        beta = walkers.warmer(beta)
        walkers.settle()
        for _ in range(MOVES):
            walkers.step(beta)
        level += 1
    walkers.settle()
    trace, accepted = [], []
    for _ in range(steps):
        accepted.append(walkers.step(1.0))
        trace.append(walkers.v)
    return torch.stack(trace, 1), {"acceptance": float(torch.stack(accepted).double().mean()), "levels": float(level)}


class _Walkers:
    """Chains, where they are and what they know of the place."""

    def __init__(self, prior: Prior, log_likelihood: LogLikelihood, generator: torch.Generator, v: Tensor) -> None:
        self.prior, self.log_likelihood, self.generator = prior, log_likelihood, generator
        self.v = self.population = v
        self.log_p, self.log_l = self._look(v)
        if not bool(self.log_l.isfinite().any()):
            raise ValueError(f"sampler: the likelihood of this observation is 0 at all of {len(v)} draws of the prior")

    def _look(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """log of the prior's density of v, and log-likelihood; where a rounding has left the box both are -inf."""
        theta = self.prior.box.bounded_at(v)
        nats = self.prior.box.unbounded(theta)[1]
        log_p = (self.prior.log_prob(theta) + nats).nan_to_num(-torch.inf, -torch.inf)
        return log_p, self.log_likelihood(theta).nan_to_num(-torch.inf, -torch.inf, -torch.inf)

    def warmer(self, beta: float) -> float:
        """The next beta, at which the chains have been resampled."""
        finite = self.log_l.isfinite()
        relative = self.log_l - self.log_l[finite].max()

        def effective(step: float) -> float:
            w = (step * relative).exp().where(finite, torch.zeros_like(relative))
            return float(w.sum().square() / w.square().sum())

        goal, low, high = 0.5 * float(finite.sum()), 0.0, 1 - beta
        if effective(high) < goal:
            for _ in range(50):
                middle = (low + high) / 2
                low, high = (middle, high) if effective(middle) >= goal else (low, middle)
            high = max(low, 1e-9)
        weights = (high * relative).exp().where(finite, torch.zeros_like(relative)).cumsum(0)
        places = torch.arange(len(self.v)) + torch.rand(1, generator=self.generator)  # systematic
        index = torch.searchsorted(weights, places.double() / len(self.v) * weights[-1]).clamp(max=len(self.v) - 1)
        self.v, self.log_p, self.log_l = self.v[index], self.log_p[index], self.log_l[index]
        return 1.0 if high >= 1 - beta else beta + high

    def settle(self) -> None:
        """Make proposals of where the chains are now, from here on."""
        self.population = self.v

    def step(self, beta: float) -> Tensor:
        """One transition of every chain; returns which have moved."""
        n, dim = self.v.shape
        a, b = torch.randint(n, (2, n), generator=self.generator)
        u = torch.rand(3, n, 1, generator=self.generator, dtype=torch.float64)
        gamma = torch.where(u[0] < 0.1, 1.0, 2.38 / (2 * dim) ** 0.5 * (0.2 + u[1]))
        jitter = 1e-3 * self.population.std(0) * torch.randn(n, dim, generator=self.generator, dtype=torch.float64)
        v = self.v + gamma * (self.population[a] - self.population[b]) + jitter
        log_p, log_l = self._look(v)
        rise = log_p + beta * log_l - self.log_p - beta * self.log_l
        moves = u[2, :, 0].log() < rise.nan_to_num(-torch.inf, torch.inf)
        self.v = torch.where(moves[:, None], v, self.v)
        self.log_p, self.log_l = torch.where(moves, log_p, self.log_p), torch.where(moves, log_l, self.log_l)
        return moves
