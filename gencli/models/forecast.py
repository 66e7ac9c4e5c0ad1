"""Ensembles of trajectories of a trained model, and how good they are as forecasts.

From a held-out state each member takes a step of the model after the other, every step given what it drew before. What
is measured is measured at each lead, beside two forecasts that cost nothing: persistence, the state at the start, and
climatology, the states of the training split.

With K members x_i, their mean m and variance s^2 (by K - 1), and the truth o:

- skill is the root mean square of m - o, spread that of s times sqrt((K + 1) / K). A member and the truth that come of
  one law have equal spread and skill ("Why should ensemble spread match the RMSE of the ensemble mean?", Fortin et al.,
  2014).
- the fair CRPS is mean |x_i - o| - sum_(i<j) |x_i - x_j| / (K (K - 1)), whose expectation does not depend on K ("Fair
  scores for ensemble forecasts", Ferro, 2014).
- the anomaly correlation is sum (m - c)(o - c) / sqrt(sum (m - c)^2 sum (o - c)^2), with c the mean of the climatology.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gencli.core.uncertainty import BLOCKS, FEW
from gencli.data.base import Dataset, Split
from gencli.models.subject import Subject

CLIMATE = 200
"""States of the training split, evenly spaced, that are the climatology's ensemble."""


@dataclass(frozen=True)
class Starts:
    """Held-out states to forecast from.

    Args:
        y: (n, *) contexts.
        state: (n, *) the latest state of each.
        truth: (n, T, *) the states after it.
        groups: (n,) trajectory or block of time, which are taken as independent.
    """

    y: Tensor
    state: Tensor
    truth: Tensor
    groups: Tensor


def starts(dataset: Dataset, split: Split, n: int, steps: int) -> Starts:
    """At most n rows of a split after which T = ``steps`` states are known, evenly spaced in time.

    Errors are over trajectories; where there are few of them, over blocks of time that are as long as a forecast.

    Raises:
        ValueError: the data are no states in the order of time, or no trajectory is as long.
    """
    if dataset.follows is None or dataset.spec.context_dim < dataset.spec.dim:
        raise ValueError(f"data={dataset.name} is no series of states, of which each row's y is the one before its x")
    every, far = split.gather(torch.arange(len(split))), dataset.follows
    x, y = every.x.cpu(), every.y
    assert y is not None
    y = y.cpu()
    goes_on = torch.zeros(len(x), dtype=torch.bool)
    after = dataset.following(y[:-far], x[:-far])
    goes_on[:-far] = (after.float() == y[far:].float()).flatten(1).all(1)
    reach = torch.ones(len(x), dtype=torch.long)  # states from a row on that are known
    for row in range(len(x) - far - 1, -1, -1):
        reach[row] = 1 + reach[row + far] if goes_on[row] else 1
    found = (reach >= steps).nonzero().flatten()
    if len(found) == 0:
        raise ValueError(
            f"{int(reach.max())} steps is how far held-out states of data={dataset.name} reach, not {steps}"
        )
    rows = found[torch.linspace(0, len(found) - 1, min(n, len(found))).round().long()]
    groups = _trajectories(goes_on, far)
    if int(groups[-1]) + 1 < FEW:
        groups = groups * len(x) + torch.arange(len(x)) // max(steps * far, len(x) // BLOCKS, 1)
    truth = torch.stack([x[rows + k * far] for k in range(steps)], 1)
    state = y[rows].flatten(1)[:, -dataset.spec.dim :].view(-1, *dataset.spec.shape)
    return Starts(y[rows], state, truth, groups[rows])


def _trajectories(goes_on: Tensor, far: int) -> Tensor:
    """The number of the trajectory that each row is of, (n,).

    Args:
        goes_on: whether the row ``far`` after each one goes on where that one ends.
        far: states that x is after the latest of y: as many rows at the begin of a trajectory go on from none.
    """
    groups, number, fresh = torch.zeros(len(goes_on), dtype=torch.long), -1, 0
    for row in range(len(goes_on)):
        begins = row < far or not bool(goes_on[row - far])
        number += begins and fresh % far == 0
        fresh = fresh + 1 if begins else 0
        groups[row] = number
    return groups


def roll_out(subject: Subject, y: Tensor, steps: int, members: int) -> Tensor:
    """Trajectories (n, K, T, *) of K members each from contexts y (n, *), step after step.

    Raises:
        ValueError: a trajectory leaves all bounds.
    """
    n = len(y)
    y = y.repeat_interleave(members, 0)
    states = []
    for step in range(steps):
        x = subject.draw(len(y), y, number=1 + step).cpu()
        if not bool(x.isfinite().all()):
            raise ValueError(f"a trajectory of the model leaves all bounds at step {step + 1}")
        states.append(x)
        y = subject.dataset.following(y, x)
    return torch.stack(states, 1).unflatten(0, (n, members))


def fair_crps(members: Tensor, truth: Tensor) -> Tensor:
    """The fair CRPS of ensembles (n, K, *), K at least 2, beside truth (n, *): (n, *), in the unit of x."""
    K = members.shape[1]
    off = (members - truth[:, None]).abs().mean(1)
    rank = torch.arange(1, K + 1, dtype=members.dtype, device=members.device) * 2 - K - 1
    ordered = members.sort(1).values
    return off - (ordered * rank.view(1, K, *[1] * (truth.ndim - 1))).sum(1) / (K * (K - 1))


@dataclass(frozen=True)
class Climate:
    """The climatology of the training split: its mean c (*), deviation (*), and some states (M, *)."""

    mean: Tensor
    deviation: Tensor
    states: Tensor


def climate(dataset: Dataset) -> Climate:
    """The climatology of a data set.

    Raises:
        ValueError: it has no training split.
    """
    split = dataset.split("train")
    if split is None:
        raise ValueError(f"data={dataset.name} has no training split, of which the climatology is made")
    x = split.gather(torch.arange(len(split))).x.cpu()
    some = x[torch.linspace(0, len(x) - 1, min(CLIMATE, len(x))).round().long()]
    return Climate(x.double().mean(0).to(x), x.double().std(0, correction=0).to(x), some)


@dataclass(frozen=True)
class Number:
    """A number and its standard error; None: none is known."""

    value: float
    se: float | None


def measures(members: Tensor, begun: Starts, known: Climate, lead: int) -> dict[str, Number]:
    """What ensembles (n, K, T, *) are worth at a lead of so many steps.

    Returns:
        ``rmse``, ``crps`` and ``acc`` of the ensemble, ``spread/skill``, and ``rmse`` and ``crps`` of persistence and
        climatology, in the unit of x.
    """
    x, o = members[:, :, lead - 1].double().flatten(2), begun.truth[:, lead - 1].double().flatten(1)
    K, c, s = x.shape[1], known.mean.double().flatten(), begun.state.double().flatten(1)
    m = x.mean(1)
    many = known.states.double().flatten(1)
    rows = {
        "square": (m - o).square(),
        "persistence": (s - o).square(),
        "climatology": (c - o).square(),
        "variance": x.var(1) * (K + 1) / K,
        "crps": fair_crps(x, o),
        "crps_persistence": (s - o).abs(),
        "crps_climatology": torch.cat([fair_crps(many[None], row[None]) for row in o]),
        "cross": (m - c) * (o - c),
        "forecast": (m - c).square(),
        "truth": (o - c).square(),
    }
    means = {name: values.mean(1) for name, values in rows.items()}
    asked: dict[str, Callable[[Mapping[str, float]], float]] = {
        "rmse": lambda e: math.sqrt(e["square"]),
        "rmse_persistence": lambda e: math.sqrt(e["persistence"]),
        "rmse_climatology": lambda e: math.sqrt(e["climatology"]),
        "crps": lambda e: e["crps"],
        "crps_persistence": lambda e: e["crps_persistence"],
        "crps_climatology": lambda e: e["crps_climatology"],
        "acc": lambda e: e["cross"] / math.sqrt(e["forecast"] * e["truth"]),
        "spread/skill": lambda e: math.sqrt(e["variance"] / e["square"]),
    }
    return {name: _jackknifed(means, begun.groups, of) for name, of in asked.items()}


def _jackknifed(
    rows: Mapping[str, Tensor], groups: Tensor, statistic: Callable[[Mapping[str, float]], float]
) -> Number:
    """A function of means over rows (n,), with the error that leaving out a group of rows at a time gives."""
    value = statistic({name: float(values.mean()) for name, values in rows.items()})
    of = torch.unique(groups, return_inverse=True)[1]
    G = int(of.max()) + 1
    if G < 2:
        return Number(value, None)
    counts = torch.bincount(of).double()
    sums = {name: torch.zeros(G, dtype=torch.float64).index_add_(0, of, values) for name, values in rows.items()}
    left = counts.sum() - counts
    without = [
        statistic({name: float((total.sum() - total[g]) / left[g]) for name, total in sums.items()}) for g in range(G)
    ]
    away = torch.tensor(without, dtype=torch.float64)
    return Number(value, float(((G - 1) / G * (away - away.mean()).square().sum()).sqrt()))
