"""What tests of classes share: two normals in the plane as labelled data, their law, and a model of it as a subject."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gencli.core.noise import Noise, RowNoise
from gencli.core.spec import Batch, Bound, Spec, Support
from gencli.data.base import Dataset
from gencli.data.preprocess import Preprocess
from gencli.data.split import TensorSplit
from gencli.models.base import ExactLikelihood
from gencli.models.structure import JointEnergy
from gencli.models.subject import Subject
from gencli.models.trained import Learned

MEANS = torch.tensor([[-1.0, 0.0], [1.0, 0.5]])


def log_normals(x: Tensor, means: Tensor = MEANS) -> Tensor:
    """log N(x; mean_k, I): (n, 2) -> (n, K)."""
    return -0.5 * torch.cdist(x.double(), means.double()).square() - math.log(2 * math.pi)


class TwoNormals(Dataset):
    """x given y is N(mean_y, I); the shares of y differ by split."""

    name = "two_normals"

    def __init__(self, shares: dict[str, float], n: int = 400, classes: int = 2, shape: tuple[int, ...] = (2,)) -> None:
        self.spec = Spec(shape, Support("real"), classes)
        self.splits = {}
        for k, (name, share) in enumerate(shares.items()):
            generator = torch.Generator().manual_seed(k)
            y = (torch.arange(n) >= share * n).long()
            self.splits[name] = TensorSplit(MEANS[y] + torch.randn(n, 2, generator=generator), y)

    def split(self, name):
        return self.splits.get(name)


class GivenClass(ExactLikelihood):
    """p(x | y), the truth."""

    def __init__(self, spec: Spec, means: Tensor = MEANS) -> None:
        super().__init__(spec, conditional=True)
        self.means = means

    def log_prob(self, x, y=None):
        return log_normals(x, self.means).gather(1, y[:, None]).squeeze(1)


class Both(JointEnergy):
    """E(x, y) of the truth, with shares of y, and a constant that no probability knows."""

    def __init__(self, spec: Spec, shares: Tensor) -> None:
        super().__init__(spec)
        self.shares = torch.nn.Parameter(shares, requires_grad=False)

    def joint(self, x):
        return 3.0 - (log_normals(x) + self.shares.double().log()).float()

    def energy(self, x, y=None):
        return -(-self.joint(x)).logsumexp(1)

    def log_classes(self, x):
        return (-self.joint(x)).log_softmax(1)


@dataclass(frozen=True, kw_only=True)
class Known(Subject):
    """A subject whose model has an exact likelihood, or an energy without a normaliser."""

    bounded: Bound = "exact"
    others: dict[str, Dataset] = field(default_factory=dict)

    @property
    def bound(self) -> Bound:
        return self.bounded

    def nll(self, batch: Batch) -> Tensor:
        return -self.model.log_prob(batch.x, batch.y)

    def draw(self, n: int, y: Tensor | None = None, number: int = 0) -> Tensor:
        raise AssertionError("no sample is needed")

    def noise(self, rows: Tensor, number: int = 0) -> Noise:
        return RowNoise(number, rows)

    def data(self, name: str) -> Dataset:
        return self.others[name]


def known(model, dataset: Dataset, split: str = "test", **options) -> Known:
    """A subject on the CPU, with 150 rows at a time."""
    return Known(
        model=model.requires_grad_(False),
        learned=Learned(),
        dataset=dataset,
        preprocess=Preprocess(dataset.spec, ("real",), ("vector",)),
        split=dataset.split(split),
        device=torch.device("cpu"),
        seed=0,
        batch_size=150,
        **options,
    )
