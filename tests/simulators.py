"""Subjects whose model is the true posterior, or the true likelihood, of a task; nothing is trained."""

from dataclasses import dataclass
from types import SimpleNamespace

import torch

from gencli.core.noise import RowNoise
from gencli.data.sets.simulator import Simulator
from gencli.models.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Exact(Subject):
    """The truth; ``shift`` is added to draws of parameters, ``wide`` scales them around their mean."""

    shift: float = 0.0
    wide: float = 1.0
    offset: float = 0.0

    @property
    def bound(self):
        return "exact"

    def nll(self, batch):
        log_p = self.dataset.log_density(batch.x, batch.y)
        return self.offset - log_p

    def draw(self, n, y=None, number=0):
        generator = torch.Generator().manual_seed(number)
        observed, index = y.double().unique(dim=0, return_inverse=True)
        found = torch.empty(n, self.dataset.task.prior.dim, dtype=torch.float64)
        for k, x in enumerate(observed):
            rows = index == k
            theta = self.dataset.task.posterior(x, int(rows.sum()), generator)
            found[rows] = theta.mean(0) + self.wide * (theta - theta.mean(0)) + self.shift
        return found

    def noise(self, rows, number=0):
        return RowNoise(number, rows)

    def data(self, name):
        raise AssertionError(name)


def exact(task, target="parameters", **options):
    """A subject that knows the truth of a task, at its test split."""
    dataset = Simulator(task, target, test=options.pop("test", 300))
    return Exact(
        model=SimpleNamespace(conditional=target != "joint"),
        learned=None,
        dataset=dataset,
        preprocess=None,
        split=dataset.split("test"),
        device=torch.device("cpu"),
        seed=0,
        batch_size=1000,
        **options,
    )
