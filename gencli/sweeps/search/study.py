"""The study of a search: what Optuna knows of its trials, what it proposes, whom it prunes."""

from __future__ import annotations

import hashlib
import json
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.exceptions import OptunaError
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler
from optuna.trial import Trial, TrialState
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from gencli.config import sections, spaces
from gencli.config.multirun import Search
from gencli.config.spaces import Choices, Space
from gencli.core.errors import GencliError, UsageError, quoted
from gencli.sweeps.ids import job_id
from gencli.sweeps.search import storage
from gencli.sweeps.search.samplers import sampler

ERRORS = (OptunaError, SQLAlchemyError)
"""What a storage raises that cannot be read or written."""

TRIES = 20
"""Of opening a database in which another process makes the tables."""


def study_id(search: Search) -> str:
    """The id of a search: of what is fixed, of what may be tried, and of what is to be small."""
    said = [job_id(search.first), spaces.words(search.spaces), search.options.objectives]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:8]


def _opened(search: Search, where: str, name: str, own: BaseSampler) -> tuple[optuna.Study, Any]:
    """The study, and what it says of the search that it belongs to."""
    study = optuna.create_study(
        study_name=name,
        storage=storage.opened(where),
        sampler=own,
        pruner=_pruner(search),
        directions=["minimize"] * len(search.options.objectives),
        load_if_exists=True,
    )
    known = study.user_attrs.get("search")
    if known is None:
        study.set_user_attr("search", study_id(search))
    elif known == study_id(search):
        _check(study, search)
    return study, known


def _check(study: optuna.Study, search: Search) -> None:
    """Refuse a study that holds trials of another search than it says.

    Raises:
        ValueError: names the first one.
    """
    for number, trial in enumerate(study.get_trials(deepcopy=False)):
        fits = trial.number == number and isinstance(trial.user_attrs, dict)
        if fits and trial.state == TrialState.COMPLETE:
            values = trial.values or []
            fits = len(values) == len(search.options.objectives)
            fits &= all(isinstance(value, float) and math.isfinite(value) for value in values)
            fits &= all(space.holds(trial.params.get(space.key)) for space in search.spaces)
        if not fits:
            raise ValueError(f"trial {number} is damaged, or of another search")


def open_study(search: Search, where: str) -> optuna.Study:
    """The study, begun or gone on with.

    Args:
        search: what it is about.
        where: its storage, as ``location`` gives it.

    Raises:
        UsageError: the storage cannot be opened, or its study of this name is another search.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    name = search.options.study or f"gencli-{study_id(search)}"
    own = sampler(search)
    for left in reversed(range(TRIES)):
        try:
            with _quiet():
                study, known = _opened(search, where, name, own)
            break
        except GencliError:
            raise
        except Exception as error:  # of whichever database it is
            if left and (isinstance(error, IntegrityError) or "already exists" in str(error)):
                time.sleep(0.5)  # another process makes the tables at this moment
                continue
            raise UsageError(failure(search, where, error)) from error
    if known not in (None, study_id(search)):
        raise UsageError(f"search.study={quoted(name)}: this study searches something else; give another name")
    return study


def _pruner(search: Search) -> BasePruner:
    """Resources are training steps, of which the trainer tells every ``trainer.eval_every``."""
    trainer = sections.trainer(search.first["trainer"])
    every, most = trainer.eval_every, None if trainer.max_epochs is not None else trainer.steps(0.0)
    if search.options.pruner == "median":
        return MedianPruner()
    if search.options.pruner == "halving":
        return SuccessiveHalvingPruner(min_resource=every)
    if search.options.pruner == "hyperband":
        return HyperbandPruner(min_resource=every, max_resource=most or "auto")
    return NopPruner()


def ask(study: optuna.Study) -> Trial:
    """The next trial.

    Raises:
        UsageError: the storage holds what Optuna cannot read.
    """
    with _proposing("the next trial"):
        return study.ask()


def value_of(trial: Trial, space: Space) -> Any:
    """What a trial has for a key; if it has nothing yet, the sampler's proposal.

    Raises:
        UsageError: the storage holds what the search does not offer, or what Optuna cannot read.
    """
    value: Any
    with _proposing(f"{space.key} of trial {trial.number}"):
        if isinstance(space, Choices):
            value = trial.suggest_categorical(space.key, space.values)
        elif space.whole:
            value = trial.suggest_int(
                space.key, int(space.low), int(space.high), step=int(space.step or 1), log=space.log
            )
        else:
            value = trial.suggest_float(space.key, space.low, space.high, step=space.step, log=space.log)
    if not space.holds(value):
        raise UsageError(f"{space.key}={quoted(value)} of trial {trial.number} is not what this search offers")
    return value


@contextmanager
def _proposing(what: str) -> Iterator[None]:
    """Within, samplers read a storage, where anything may stand."""
    try:
        with _quiet():
            yield
    except GencliError:
        raise
    except Exception as error:
        raise UsageError(f"search.storage: {what} cannot be proposed: {_first_line(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Within, Optuna does not warn of what it finds in a storage: it is used, or refused in a line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def failure(search: Search, where: str, error: Exception) -> str:
    """What to say of a storage that fails."""
    return f"search.storage={quoted(search.options.storage or where, 300)}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    own = next((found.orig for found in (error, error.__cause__) if isinstance(found, DBAPIError)), None)
    return quoted((str(own or error) or type(error).__name__).splitlines()[0], 300)
