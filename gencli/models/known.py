"""The true density of data that were drawn from a known distribution, where a model sees it: in model space."""

from __future__ import annotations

import torch
from torch import Tensor

from gencli.data.base import Dataset
from gencli.data.preprocess import Preprocess
from gencli.models.base import ExactLikelihood


class DataDensity(ExactLikelihood):
    """log p_Z(z) = log p_X(x(z)) + sum of the terms of preprocessing, for reals; differentiable in z.

    Args:
        dataset: whose ``log_density`` is known.
        preprocess: data space <-> model space; asked at each call, so that it may be fitted later.
    """

    def __init__(self, dataset: Dataset, preprocess: Preprocess) -> None:
        super().__init__(preprocess.model_spec)
        self.dataset = dataset
        self.way = (preprocess,)  # a tuple, so that it is not registered

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        (preprocess,) = self.way
        data = preprocess.inverse(x)
        _, terms = preprocess(data)
        log_p = self.dataset.log_density(data.cpu())
        assert log_p is not None
        return log_p.to(x.device) + sum(term.double() for term in terms.values())


def known(dataset: Dataset, preprocess: Preprocess) -> DataDensity | None:
    """The density of the data in model space; None where it is not known, or the data are no reals."""
    if dataset.spec.support.kind != "real" or dataset.spec.context_dim:
        return None
    asked = dataset.log_density(torch.zeros(1, *dataset.spec.shape))
    return None if asked is None else DataDensity(dataset, preprocess)
