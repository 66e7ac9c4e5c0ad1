"""Data sets and samples for the tests of metrics."""

import torch

from gencli.core.spec import Batch, Spec, Support
from gencli.data.base import Dataset
from gencli.metrics.base import Samples

REAL = Spec((2,), Support.parse("real"))


class Data(Dataset):
    """Held-out examples only: to ask for the training split is an error."""

    name = "data"

    def __init__(self, spec, test=None, modes=None, train=None):
        self.spec, self.test, self.modes, self.train = spec, test, modes, train

    def split(self, name):
        if name == "train" and self.train is None:
            raise AssertionError("a metric opened the training split")
        return {"train": self.train, "test": self.test}.get(name)

    def to_image(self, x):
        return x.float() / (self.spec.support.levels - 1) if self.spec.kind == "image" else None


def draw(n, seed, shift=0.0, scale=1.0, dim=2):
    return shift + scale * torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def samples(x, reference, seed=0, spec=None, **data):
    return Samples(x, None, Batch(reference), Data(spec or Spec(x.shape[1:], REAL.support), **data), seed)
