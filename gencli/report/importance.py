"""Which hyper-parameters of a sweep matter: how much worse a forest predicts runs once one of them is shuffled.

A random forest predicts the ranks of runs from their hyper-parameters: ranks, so that a run which went astray does not
outweigh all others. It is asked about configurations that it has not seen (cross-validation, all seeds of one in the
same fold). The importance of a key is how much its squared error grows there when the values of the key are permuted,
as a share of the variance of the ranks: 0 for a key that tells nothing, about 2 for one that tells all. Interactions
count for every key of theirs, so that importances do not add up to anything.

References:
    Breiman, "Random forests", 2001.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gencli.core.errors import UsageError
from gencli.report.collect import Row
from gencli.report.seeds import Flat, swept
from gencli.report.sheet import Sheet

if TYPE_CHECKING:
    import numpy as np

LEAST = 20
"""Configurations below which importances are noise."""

FOLDS, TREES, REPEATS = 5, 50, 5


@dataclass(frozen=True)
class Importance:
    """Of one key: its importance, and the standard error of that over folds."""

    key: str
    value: float
    se: float


@dataclass(frozen=True)
class Importances:
    """Of all keys that were swept, the greatest first.

    Args:
        keys: the importances.
        explained: share of the variance of ranks that the forest explains in configurations that it has not seen.
        runs: how many there were.
        configurations: likewise.
    """

    keys: Sequence[Importance]
    explained: float
    runs: int
    configurations: int

    @property
    def note(self) -> str:
        """What the numbers mean, and whether they mean anything."""
        doubt = "" if self.explained > 0.3 else " (too little to trust any of this)"
        return (
            f"{self.runs} runs of {self.configurations} configurations. A random forest explains {self.explained:.0%} "
            f"of the\nvariance of their ranks where it has not seen the configuration{doubt}.\n"
            "Importance: how much its squared error grows, in that variance, once the values of a key are shuffled."
        )


def importances(rows: Sequence[Row], configs: Sequence[Flat]) -> Importances:
    """The importances of what comparable runs differ in.

    Args:
        rows: of one group.
        configs: of their runs (``seeds.flat``).

    Raises:
        UsageError: there are too few configurations, or nothing was swept.
    """
    import numpy as np

    keys = swept(configs)
    same = np.unique([repr([config.get(key) for key in keys]) for config in configs], return_inverse=True)[1]
    count = int(same.max()) + 1
    if not keys or count < LEAST:
        raise UsageError(
            f"--importance: at least {LEAST} configurations that differ in some key are needed, not {count}"
        )
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import GroupKFold

    x = np.stack([_numbers([config.get(key) for config in configs]) for key in keys], axis=1)
    ranks = np.unique([row.cost for row in rows], return_inverse=True)[1].astype(float)  # infinite ones are the last
    error, grown = 0.0, []
    for train, test in GroupKFold(FOLDS).split(x, ranks, same):
        forest = RandomForestRegressor(TREES, random_state=0).fit(x[train], ranks[train])
        error += float(((forest.predict(x[test]) - ranks[test]) ** 2).sum())
        score = "neg_mean_squared_error"
        found = permutation_importance(forest, x[test], ranks[test], scoring=score, n_repeats=REPEATS, random_state=0)
        grown.append(found.importances_mean / ranks.var())
    mean, se = np.mean(grown, axis=0), np.std(grown, axis=0, ddof=1) / FOLDS**0.5
    order = np.argsort(-mean)
    told = [Importance(keys[k], float(mean[k]), float(se[k])) for k in order]
    return Importances(told, 1 - error / len(rows) / float(ranks.var()), len(rows), count)


def _numbers(values: Sequence[object]) -> np.ndarray:
    """Values of a key as numbers: themselves, else the place of each among the names, (N,)."""
    import numpy as np

    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return np.asarray(values, dtype=float)
    return np.unique([str(value) for value in values], return_inverse=True)[1].astype(float)


def sheet_of(found: Importances, caption: str) -> Sheet:
    """A row a key."""
    lines = [[one.key, f"{one.value:.3f} ±{one.se:.3f}"] for one in found.keys]
    return Sheet(caption, [("key", "left"), ("importance", "right")], lines)
