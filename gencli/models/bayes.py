"""Classes of examples: a model's own p(y | x), or that of Bayes' rule from p(x | y) and the classes' shares.

p(y | x) = p(x | y) p(y) / sum_y' p(x | y') p(y')
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from gencli.core.spec import Batch
from gencli.data.base import Split
from gencli.models.structure import Classifier
from gencli.models.subject import Subject


def shares(split: Split, classes: int, rows: int = 500) -> Tensor:
    """The share of each class in a split, (K,) float64."""
    counts = torch.zeros(classes, dtype=torch.float64)
    for index in torch.arange(len(split)).split(rows):
        y = split.gather(index).y
        assert y is not None
        counts += torch.bincount(y.cpu(), minlength=classes)
    return counts / counts.sum()


def bayes(log_likelihoods: Tensor, prior: Tensor) -> Tensor:
    """log p(y | x) (n, K) from log p(x | y) (n, K) and p(y) (K,).

    Raises:
        ValueError: no class explains some x, all of them have density zero there.
    """
    log_joint = log_likelihoods.double() + prior.double().log()
    level = log_joint.logsumexp(1, keepdim=True)
    lost = int((~level.isfinite()).sum())
    if lost:
        raise ValueError(f"p(x | y) is 0, or no number, for every class at {lost} of {len(level)} examples")
    return log_joint - level


def log_posterior(subject: Subject, x: Tensor, prior: Tensor | None) -> Tensor:
    """log p(y | x) of examples (n, *) of data space: (n, K) float64 on the CPU.

    A model with its own p(y | x) is asked for it, at one draw of the dequantization. Else K likelihoods are measured
    for each x, all with the same noise.

    Args:
        subject: a classifier, or a model of p(x | y).
        x: (n, *).
        prior: p(y) (K,); None: the model's own p(y | x) needs none.
    """
    model, classes = subject.model, subject.dataset.spec.classes
    assert classes
    if isinstance(model, Classifier):
        found = []
        for rows in torch.arange(len(x)).split(subject.batch_size):
            z, _ = subject.preprocess(x[rows].to(subject.device), subject.noise(rows, 20))
            found.append(model.log_classes(z).double().cpu())
        return torch.cat(found)
    assert prior is not None
    nats = [subject.nll(Batch(x, torch.full((len(x),), k))) for k in range(classes)]
    return bayes(-torch.stack(nats, 1), prior)


def prior_of(subject: Subject, kind: Literal["training", "uniform"]) -> Tensor:
    """p(y), (K,): the shares of the training split, or 1 / K.

    Raises:
        ValueError: there is no training split.
    """
    classes = subject.dataset.spec.classes
    assert classes
    if kind == "uniform":
        return torch.full((classes,), 1 / classes, dtype=torch.float64)
    split = subject.dataset.split("train")
    if split is None:
        raise ValueError("prior=training: there is no training split; take prior=uniform")
    return shares(split, classes, subject.batch_size)
