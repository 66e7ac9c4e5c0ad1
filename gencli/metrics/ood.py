"""How well a density tells held-out examples from those of another data set."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gencli.core.bounds import WORDS
from gencli.core.errors import UsageError, quoted
from gencli.core.options import Count
from gencli.core.spec import Batch
from gencli.data.base import Dataset, Split
from gencli.data.split import at_most
from gencli.metrics.base import Measured, ModelMetric
from gencli.models.base import ExactLikelihood, Model, Unnormalized
from gencli.models.subject import Subject
from gencli.models.trained import TrainedRun


def auroc(inside: np.ndarray, outside: np.ndarray) -> tuple[float, float]:
    """P(score of an example inside > outside) + P(equal) / 2, and its standard error by DeLong's method.

    DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
    characteristic curves: a nonparametric approach", 1988.

    Args:
        inside: (m,) scores, which should be higher.
        outside: (n,) scores.
    """
    from scipy.stats import rankdata

    m, n = len(inside), len(outside)
    ranks = rankdata(np.concatenate([inside, outside]))
    over = (ranks[:m] - rankdata(inside)) / n  # of each example inside: the share of those outside below it
    under = 1 - (ranks[m:] - rankdata(outside)) / m
    return float(over.mean()), math.sqrt(over.var(ddof=1) / m + under.var(ddof=1) / n)


@dataclass(frozen=True, kw_only=True)
class OutOfDistribution(ModelMetric):
    """The area under the ROC curve of log p(x): held-out examples should have more of it than another data set's.

    0.5 is chance, and less says that the other data are *likelier*. Beside it, ``typicality``: by -| -log p(x) - its
    mean over training examples |; and where a background model is given, ``ratio``: by log p(x) - log p_background(x).
    The errors are DeLong's. An unnormalised density is enough, because log Z moves no rank.

    Args:
        against: the other data set, by its option of the group ``data``, with its defaults; its test split is taken.
        background: a run in the same model space (same data and preprocessing), such as one trained on data with noise.
        examples: random ones of each data set, and of the training split for ``typicality``.

    References:
        Nalisnick et al., "Do deep generative models know what they don't know?", 2019; Nalisnick et al., "Detecting
        out-of-distribution inputs to deep generative models using typicality", 2019; Ren et al., "Likelihood ratios for
        out-of-distribution detection", 2019.
    """

    better = "higher"
    needs = "a model of p(x), and another data set of the same shape"
    example_keys = "metrics.ood.against=fashion_mnist"

    against: str | None = None
    background: TrainedRun | None = None
    examples: Count = 1000

    def check(self, dataset: Dataset, model: Model) -> None:
        if self.against is None:
            raise ValueError("metrics=[ood] needs another data set: metrics.ood.against=NAME, such as fashion_mnist")
        if model.conditional:
            raise ValueError("metrics=[ood] needs a model of p(x); this one is of p(x given y) (model.conditional)")

    def measure(self, subject: Subject) -> Measured:
        splits = [subject.split, self._other(subject)]
        training = subject.dataset.split("train")
        splits += [] if training is None else [training]
        some = [at_most(split, self.examples) for split in splits]
        sizes = [len(split) for split in some]
        if min(sizes) < 2:
            raise ValueError(f"metrics=[ood]: {min(sizes)} examples of a data set; at least 2 of each")
        x = torch.cat([split.gather(torch.arange(len(split))).x.cpu() for split in some])
        log_p, above = _scores(subject, x, self._background(subject))
        inside, outside, *usual = log_p.split(sizes)
        value, se = auroc(inside.numpy(), outside.numpy())
        told: dict[str, float] = {}
        for centre in (part.mean() for part in usual):
            away = [-(part - centre).abs().numpy() for part in (inside, outside)]
            told["typicality"], told["se_typicality"] = auroc(*away)
        if above is not None:
            told["ratio"], told["se_ratio"] = auroc(*(part.numpy() for part in above.split(sizes)[:2]))
        told["nats_apart"] = float(inside.mean() - outside.mean())
        facts = {"says": f"by {_words(subject)}", "outside": f"{sizes[1]} examples"}
        return Measured(value, se, told, facts, examples=sizes[0])

    def _other(self, subject: Subject) -> Split:
        """The test split of the other data set, which must be of the kind that the model knows."""
        name = quoted(str(self.against), 60)
        try:
            other = subject.data(str(self.against))
            split = other.split("test") or other.split("val")
        except (UsageError, ValueError) as error:
            raise ValueError(f"metrics.ood.against={name}: {error}") from error
        own = subject.dataset.spec
        if (other.spec.shape, other.spec.support) != (own.shape, own.support):
            raise ValueError(
                f"metrics.ood.against={name}: its examples are {other.spec.support} of shape {other.spec.shape}; this "
                f"model's are {own.support} of {own.shape}"
            )
        if split is None:
            raise ValueError(f"metrics.ood.against={name}: it has no held-out split")
        return split

    def _background(self, subject: Subject) -> Unnormalized | None:
        if self.background is None:
            return None
        model = self.background.open(subject.model.spec).model
        if not isinstance(model, Unnormalized) or model.conditional:
            raise ValueError("metrics.ood.background: a run is needed that has a density p(x) or an energy")
        return model.to(subject.device)


def _energy(model: Model) -> Unnormalized | None:
    """The model, where it has an energy and its Z is not known."""
    return model if isinstance(model, Unnormalized) and not isinstance(model, ExactLikelihood) else None


def _words(subject: Subject) -> str:
    """What log p(x) is."""
    if _energy(subject.model) is not None:
        return "-E(x), which is log p(x) but for log Z"
    return f"-NLL ({WORDS[subject.bound]})"


def _scores(subject: Subject, x: Tensor, background: Unnormalized | None) -> tuple[Tensor, Tensor | None]:
    """log p(x) up to a constant, and how far it is above that of a background: (n,) float64 on the CPU.

    Raises:
        ValueError: some are not finite.
    """
    energies = [model for model in (_energy(subject.model), background) if model is not None]
    found: list[list[Tensor]] = [[] for _ in energies]
    for rows in torch.arange(len(x)).split(subject.batch_size) if energies else ():
        z, terms = subject.preprocess(x[rows].to(subject.device), subject.noise(rows, 30))
        volume = sum(terms.values(), torch.zeros(len(rows), device=subject.device))
        for model, parts in zip(energies, found, strict=True):
            parts.append((-model.energy(z) - volume).double().cpu())
    scores = [torch.cat(parts) for parts in found]
    if _energy(subject.model) is None:
        scores.insert(0, -subject.nll(Batch(x)).double())
    lost = sum(int((~score.isfinite()).sum()) for score in scores)
    if lost:
        raise ValueError(f"metrics=[ood]: log p(x) is not finite at {lost} examples")
    return scores[0], None if background is None else scores[0] - scores[1]
