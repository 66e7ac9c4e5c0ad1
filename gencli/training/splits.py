"""Which splits a training opens, and which it measures in the end."""

from __future__ import annotations

from gencli.core.errors import UsageError
from gencli.data.base import Dataset
from gencli.models.known import known
from gencli.run.assembly import Parts


def prepare(parts: Parts, test: bool) -> str | None:
    """Open all that training needs, and fit the preprocessing to the training split; returns what that says.

    Args:
        parts: of the run.
        test: whether the test split will be measured; else nothing opens it.

    Raises:
        UsageError: a teacher, a split or a statistic cannot be had.
    """
    try:
        parts.objective.tell(known(parts.dataset, parts.preprocess))
        parts.objective.open(parts.model)
        whole = parts.dataset.split("train")
        assert whole is not None
        parts.dataset.training()
        if parts.dataset.split("val") is None and not test:
            raise UsageError(f"data={parts.dataset.name} has no validation split, by which a search chooses")
        if parts.estimator is not None and test:
            parts.dataset.split("test")  # a missing file is found out now, not after training; nothing looks at it
        return parts.preprocess.fit(whole)
    except ValueError as error:
        raise UsageError(str(error)) from error


def measured(dataset: Dataset, test: bool) -> str:
    """The split of a run's final record: of test, val and train the first that there is; without ``test``, val."""
    if not test:
        return "val"
    return next((split for split in ("test", "val", "train") if dataset.split(split) is not None), "train")
