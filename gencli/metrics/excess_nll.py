"""What a model loses to the distribution that the data were drawn from, row by row."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gencli.core.bounds import WORDS
from gencli.core.options import Count
from gencli.core.spec import Batch
from gencli.data.base import Dataset
from gencli.data.split import at_most
from gencli.metrics.base import Measured, ModelMetric
from gencli.models.base import Model
from gencli.models.subject import Subject


@dataclass(frozen=True, kw_only=True)
class ExcessNLL(ModelMetric):
    """The mean of log p(x given y) - log p_model(x given y) over held-out examples, in nats: an estimate of the KL.

    Both are of the same examples, so that what these have of chance cancels, as it does not in NLL - H. A model that
    is measured by a bound has a bound here.

    Args:
        examples: so many of the split at random; None: all.
    """

    needs = "data whose density is known, such as simulators and toys"
    examples: Count | None = None

    def check(self, dataset: Dataset, model: Model) -> None:
        conditional = model.conditional and dataset.spec.context
        split = dataset.split("test") or dataset.split("val")
        some = split.gather(torch.zeros(1, dtype=torch.long)) if split is not None else None
        if some is None or dataset.log_density(some.x, some.y if conditional else None) is None:
            raise ValueError(f"metrics=[excess_nll] needs {self.needs}; that of data={dataset.name} is not known")

    def measure(self, subject: Subject) -> Measured:
        split = at_most(subject.split, self.examples)
        n = len(split)
        if n < 2:
            raise ValueError("metrics.excess_nll.examples: 2 at least")
        batch = split.gather(torch.arange(n))
        y = batch.y if subject.model.conditional else None
        nll = subject.nll(Batch(batch.x, y)).cpu().double()
        exact = subject.dataset.log_density(batch.x.cpu(), None if y is None else y.cpu())
        assert exact is not None
        excess = nll + exact
        said = {"nll": float(nll.mean()), "true_nll": float(-exact.mean())}
        facts: dict[str, str] = {"bound": subject.bound, "says": f"nats, {WORDS[subject.bound]}"}
        return Measured(float(excess.mean()), float(excess.std()) / n**0.5, said, facts, examples=n)
