"""Distances in the features of a small classifier that gencli trains on the data's own labels, and label agreement.

They are to labelled data of any kind what FID and KID are to photographs, and need no download. They are no
Inception-FID: features differ, so figures compare only where the classifier's settings and data are equal.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencli.core.errors import RunFailed
from gencli.core.files import user_cache, write_whole
from gencli.core.noise import GLOBAL, mix_seed
from gencli.core.options import Count, Seed
from gencli.core.spec import Spec
from gencli.data.base import Dataset, Split
from gencli.metrics.base import Measured, SampleMetric, Samples, scaled
from gencli.metrics.frechet import between, jackknife
from gencli.metrics.mmd import two_sample
from gencli.models.base import Model

_VERSION = 1  # of the network and its training: a change makes cached classifiers old
_FEATURES = 64
_BATCH = 128
_ROWS = 2000  # at a time outside training


class Classifier(nn.Module):
    """Examples of data space (B, *) -> logits (B, classes), by way of 64 features.

    Two strided convolutions and a layer for images, two layers for all else; inputs standardised by the mean and
    deviation of the examples that it was trained on (one pair for all pixels of an image). ``features`` are the last
    hidden layer, centred and divided by one number, so that their variances add up to 64 over those examples.
    """

    mean: Tensor
    std: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        assert spec.classes
        self.spec = spec
        self.image = spec.kind == "image" and spec.support.kind != "categorical" and min(spec.shape[1:]) >= 4
        width = scaled(torch.zeros(1, *spec.shape), spec).shape[1]
        self.register_buffer("mean", torch.zeros(1 if self.image else width))
        self.register_buffer("std", torch.ones(1 if self.image else width))
        if self.image:
            channels, height, side = spec.shape
            self.body = nn.Sequential(
                nn.Conv2d(channels, 32, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Conv2d(32, 64, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(64 * -(-height // 4) * -(-side // 4), _FEATURES),
                nn.ReLU(),
            )
        else:
            self.body = nn.Sequential(nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, _FEATURES), nn.ReLU())
        self.head = nn.Linear(_FEATURES, spec.classes)
        self.register_buffer("centre", torch.zeros(_FEATURES))
        self.register_buffer("spread", torch.ones(()))

    def inputs(self, x: Tensor) -> Tensor:
        """Data space -> what the network sees."""
        z = (scaled(x, self.spec) - self.mean) / self.std
        return z.reshape(len(x), *self.spec.shape) if self.image else z

    def features(self, x: Tensor) -> Tensor:
        """(B, *) in data space -> (B, 64)."""
        return (self.body(self.inputs(x)) - self.centre) / self.spread

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.inputs(x)))


def _untrained(spec: Spec, seed: int) -> Classifier:
    """A classifier with weights of a seed; the global generator is left as it was."""
    with GLOBAL, torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix_seed(seed, 1))
        return Classifier(spec)


@torch.enable_grad()
def fit(spec: Spec, split: Split, steps: int, seed: int, device: torch.device) -> Classifier:
    """Train a classifier on a labelled split: Adam, learning rate 1e-3 falling to 0 by a cosine, batches of 128."""
    model = _untrained(spec, seed)
    some = split.gather(torch.arange(min(len(split), 10_000))).x  # for moments, which only set scales
    x = scaled(some.cpu(), spec)
    x = x.reshape(-1, 1) if model.image else x
    std = x.std(0)
    model.mean.copy_(x.mean(0))
    model.std.copy_(torch.where(std > 0, std, 1.0))
    model.to(device)

    generator = torch.Generator().manual_seed(mix_seed(seed, 2))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    order = torch.empty(0, dtype=torch.long)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.5e-3 * (1 + math.cos(math.pi * step / steps))
        while len(order) < min(_BATCH, len(split)):
            order = torch.cat([order, torch.randperm(len(split), generator=generator)])
        batch = split.gather(order[:_BATCH])
        order = order[_BATCH:]
        assert batch.y is not None
        loss = F.cross_entropy(model(batch.x.to(device)), batch.y.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        features = torch.cat([model.features(x.to(device)) for x in some.split(_ROWS)])
        model.centre.copy_(features.mean(0))
        model.spread.copy_(features.var(0).mean().sqrt())
    return model


def trained(dataset: Dataset, split_name: str, steps: int, seed: int, device: torch.device) -> Classifier:
    """The classifier of a data set: from the user's cache folder, else trained and kept there.

    It is a function of the split's SHA-256 and of the settings, which name the file.

    Raises:
        ValueError: there is no such split.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save

    split = dataset.split(split_name)
    if split is None:
        raise ValueError(f"data={dataset.name} has no split {split_name} to train a classifier on")
    settings: dict[str, Any] = {"version": _VERSION, "split": split.sha256, "steps": steps, "seed": seed}
    settings |= {"shape": dataset.spec.shape, "support": str(dataset.spec.support), "classes": dataset.spec.classes}
    name = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:32]
    path = cache_folder() / f"{name}.safetensors"
    if path.is_file():
        model = _untrained(dataset.spec, seed)
        try:
            model.load_state_dict(load_file(path))
            return model.to(device).eval()
        except (SafetensorError, RuntimeError):  # damaged: it is trained anew
            path.unlink()
    model = fit(dataset.spec, split, steps, seed, device)
    with suppress(RunFailed, OSError):  # a cache that cannot be written costs a training next time, no more
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, save({key: value.cpu().contiguous() for key, value in model.state_dict().items()}))
    return model


def cache_folder() -> Path:
    """Where trained classifiers are kept."""
    return user_cache() / "classifiers"


@dataclass(frozen=True, kw_only=True)
class Classified(SampleMetric):
    """What the metrics of this module share: a classifier.

    Args:
        fit: split whose labels it learns; the training split plays no other part.
        steps: of its training.
        fit_seed: of its training, apart from the seed of the measurement.
    """

    needs = "labelled data"
    name: ClassVar[str]
    fit: Literal["train", "val", "test"] = "train"
    steps: Count = 1500
    fit_seed: Seed = 0

    def check(self, dataset: Dataset, model: Model) -> None:
        if not dataset.spec.classes:
            raise ValueError(f"metrics=[{self.name}] needs {self.needs}; data={dataset.name} has no labels")

    def classifier(self, samples: Samples) -> tuple[Classifier, dict[str, float]]:
        """The classifier, and its accuracy on the reference."""
        model = trained(samples.dataset, self.fit, self.steps, self.fit_seed, samples.x.device)
        assert samples.reference.y is not None
        told = torch.cat([model(x).argmax(1) for x in samples.reference.x.split(_ROWS)])
        return model, {"classifier_accuracy": float((told == samples.reference.y).float().mean())}

    def facts(self, samples: Samples) -> dict[str, str]:
        """What the classifier learnt from: figures of another one do not compare."""
        split = samples.dataset.split(self.fit)
        assert split is not None
        return {"fit_sha256": split.sha256}


@dataclass(frozen=True, kw_only=True)
class _Distance(Classified):
    @torch.no_grad()
    def measure(self, samples: Samples) -> Measured:
        model, accuracy = self.classifier(samples)
        f, g = (torch.cat([model.features(x) for x in xs.split(_ROWS)]) for xs in (samples.x, samples.reference.x))
        if min(len(f), len(g)) < 50:
            raise ValueError(f"n={len(f)} samples and {len(g)} reference examples: at least 50 of each")
        value, se, own = self.distance(f, g, samples)
        return Measured(value, se, own | accuracy, self.facts(samples))

    @abstractmethod
    def distance(self, f: Tensor, g: Tensor, samples: Samples) -> tuple[float, float, dict[str, float]]:
        """Value, standard error and diagnostics of features f (n, 64) of samples and g (m, 64) of the reference."""


@dataclass(frozen=True, kw_only=True)
class ClassifierFrechet(_Distance):
    """The Fréchet distance of Gaussians in the classifier's 64 features, whose variances add up to about 64.

    Biased upwards as FID is, by about 1/n + 1/m: ``floor`` is the value between disjoint halves of the reference scaled
    to these numbers. The standard error is a jackknife over 20 groups.
    """

    name = "classifier_frechet"

    def distance(self, f: Tensor, g: Tensor, samples: Samples) -> tuple[float, float, dict[str, float]]:
        f, g = f.cpu(), g.cpu()
        order, half = torch.randperm(len(g), generator=samples.generator(5)), len(g) // 2
        floor = between(g[order[:half]], g[order[half:]]) * (1 / len(f) + 1 / len(g)) / (4 / len(g))
        return between(f, g), jackknife(f, g), {"floor": floor}


@dataclass(frozen=True, kw_only=True)
class ClassifierMMD(_Distance):
    """MMD^2 with the cubic kernel k(f, g) = (f.g / 64 + 1)^3 in the classifier's features, unbiased.

    The kernel of KID: "Demystifying MMD GANs" (Binkowski, Sutherland, Arbel and Gretton, 2018).

    Args:
        permutations: of the p-value.
    """

    name = "classifier_mmd"
    permutations: Count = 200

    def distance(self, f: Tensor, g: Tensor, samples: Samples) -> tuple[float, float, dict[str, float]]:
        def cubic(a: Tensor, b: Tensor) -> Tensor:
            return (a @ b.T / a.shape[1] + 1) ** 3

        found = two_sample(f, g, cubic, self.permutations, samples.generator(6))
        return found.value, found.se, {"p_value": found.p_value}


@dataclass(frozen=True, kw_only=True)
class LabelAccuracy(Classified):
    """The share of class-conditional samples that the classifier puts into the class that they were drawn for.

    ``classifier_accuracy``, the same share of held-out examples, is what exact samples reach. More guidance can score
    higher: this says nothing of diversity. The standard error is binomial.
    """

    name = "label_accuracy"
    better = "higher"
    needs = "labelled data and a model with model.conditional=true"

    def check(self, dataset: Dataset, model: Model) -> None:
        super().check(dataset, model)
        if not model.conditional:
            raise ValueError(f"metrics=[{self.name}] needs {self.needs}; this model was trained without labels")

    @torch.no_grad()
    def measure(self, samples: Samples) -> Measured:
        model, accuracy = self.classifier(samples)
        assert samples.y is not None
        told = torch.cat([model(x).argmax(1) for x in samples.x.split(_ROWS)])
        share = float((told == samples.y.to(told.device)).float().mean())
        return Measured(share, math.sqrt(share * (1 - share) / len(told)), accuracy, self.facts(samples))
