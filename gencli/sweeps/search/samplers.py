"""Optuna's samplers with a generator of their own for each trial.

What is proposed for trial k is a function of (seed, k, the trials that have ended), so that neither a second start of a
search nor another process that shares it repeats what the first has proposed.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, GridSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from gencli.config.multirun import Search
from gencli.core.errors import UsageError, quoted

_HARMLESS = {
    *(("cmaes._cma", "CMA"), ("numpy", "ndarray"), ("numpy", "dtype")),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
}
"""What the state of CMA-ES is made of."""


class PerTrial(BaseSampler):
    """A sampler that is made anew for each trial.

    Args:
        make: a sampler by its seed.
        seed: of the search.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self.make, self.seed = make, seed
        self._made: tuple[int, BaseSampler] = (-1, make(seed))

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if self._made[0] != trial.number:
            digest = hashlib.sha256(f"{self.seed}/{trial.number}".encode()).digest()
            self._made = (trial.number, self.make(int.from_bytes(digest[:4], "big")))
        return self._made[1]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._of(trial).before_trial(study, trial)


class SafeCMA(CmaEsSampler):
    """CMA-ES, whose state Optuna keeps in the storage as a pickle: one that could run foreign code is not read."""

    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> Any:
        for trial in completed_trials:
            parts = {key: str(part) for key, part in trial.system_attrs.items() if key.startswith("cma:optimizer")}
            if parts:
                check_state(parts)
        return super()._restore_optimizer(completed_trials)


def check_state(parts: Mapping[str, str]) -> None:
    """Refuse what is no state of CMA-ES, or holds anything else.

    Args:
        parts: of its pickle in hexadecimal digits, as Optuna keeps them.

    Raises:
        UsageError: it does.
    """
    try:
        data = bytes.fromhex("".join(parts[f"cma:optimizer:{k}"] for k in range(len(parts))))
        found = _Checked(io.BytesIO(data)).load()
        if type(found).__name__ != "CMA":
            raise TypeError(f"it is a {type(found).__name__}")
    except Exception as error:  # a damaged pickle raises errors of any kind
        said = quoted(str(error), 200)
        raise UsageError(f"search.storage: the state of search=cmaes in it cannot be trusted ({said})") from error


class _Checked(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)


def sampler(search: Search) -> BaseSampler:
    """The sampler that a search asks for.

    Raises:
        UsageError: a package that it needs is missing.
    """
    options = search.options
    grid: Mapping[str, Sequence[Any]] = {space.key: space.listed or [] for space in search.spaces}
    make: dict[str, Callable[[int], BaseSampler]] = {
        "tpe": lambda seed: TPESampler(multivariate=True, constant_liar=True, seed=seed),
        "cmaes": lambda seed: SafeCMA(seed=seed, warn_independent_sampling=False),
        "gp": lambda seed: GPSampler(seed=seed, deterministic_objective=False),
        "grid": lambda seed: GridSampler(grid, seed=options.seed),  # one order for all
        "random": lambda seed: RandomSampler(seed=seed),
    }

    def quiet(seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return make[options.sampler](seed)

    try:
        return PerTrial(quiet, options.seed)
    except ImportError as error:
        wanted = "pip install 'gencli-nll[search]'"
        raise UsageError(f"search={options.sampler}: {error.name} is missing: {wanted}") from error
