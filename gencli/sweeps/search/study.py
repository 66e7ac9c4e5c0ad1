"""The study of a search: where Optuna keeps it, what it proposes, whom it prunes."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import Trial
from sqlalchemy import URL, NullPool
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError

from gencli.config import sections, spaces
from gencli.config.multirun import Search
from gencli.config.spaces import Choices, Space
from gencli.core.errors import UsageError, quoted
from gencli.core.files import named
from gencli.sweeps.ids import job_id
from gencli.sweeps.search.samplers import sampler

DATABASE = "search.db"
"""SQLite file within the folder of a sweep."""

TRIES = 20
"""Of opening a database in which another process makes the tables."""

PATIENCE = 60.0
"""Seconds for which a process waits while others write to an SQLite file."""


def study_id(search: Search) -> str:
    """The id of a search: of what is fixed, of what may be tried, and of what is to be small."""
    said = [job_id(search.first), spaces.words(search.spaces), search.options.objectives]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:8]


def location(search: Search, folder: Path) -> str:
    """Where the storage is: a URL, or a journal file.

    Raises:
        UsageError: it is neither.
    """
    text = search.options.storage
    if text is None:
        return URL.create("sqlite", database=str((folder / DATABASE).absolute())).render_as_string()
    if "://" in text:
        try:
            make_url(text)
        except ArgumentError:
            raise UsageError(f"search.storage={quoted(text)}: this is no URL of a database") from None
        return text
    if not text.endswith(".log"):
        raise UsageError(
            f"search.storage={quoted(text)}: a URL such as sqlite:///FILE or postgresql://HOST/NAME, "
            "or a journal file whose name ends in .log, is needed"
        )
    return str(named(text, "search.storage=").absolute())


def _opened(search: Search, where: str, name: str, own: BaseSampler) -> tuple[optuna.Study, Any]:
    """The study, and what it says of the search that it belongs to."""
    study = optuna.create_study(
        study_name=name,
        storage=_storage(where),
        sampler=own,
        pruner=_pruner(search),
        directions=["minimize"] * len(search.options.objectives),
        load_if_exists=True,
    )
    known = study.user_attrs.get("search")
    if known is None:
        study.set_user_attr("search", study_id(search))
    return study, known


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
            study, known = _opened(search, where, name, own)
            break
        except Exception as error:  # of whichever database it is
            if left and (isinstance(error, IntegrityError) or "already exists" in str(error)):
                time.sleep(0.5)  # another process makes the tables at this moment
                continue
            first = str(getattr(error, "orig", None) or error).splitlines()[0]
            said = f"search.storage={quoted(search.options.storage or where)}"
            raise UsageError(f"{said}: {quoted(first, 300)}") from error
    if known not in (None, study_id(search)):
        raise UsageError(f"search.study={quoted(name)}: this study searches something else; give another name")
    return study


def _storage(where: str) -> BaseStorage:
    if "://" not in where:
        return JournalStorage(JournalFileBackend(where))
    options: dict[str, Any] = {"poolclass": NullPool}  # no connection is open when a job is forked
    if where.startswith("sqlite"):
        options["connect_args"] = {"timeout": PATIENCE}
    return RDBStorage(where, engine_kwargs=options)


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


def value_of(trial: Trial, space: Space) -> Any:
    """What a trial has for a key; if it has nothing yet, the sampler's proposal.

    Raises:
        UsageError: the storage holds what the search does not offer.
    """
    value: Any
    if isinstance(space, Choices):
        value = trial.suggest_categorical(space.key, space.values)
    elif space.whole:
        value = trial.suggest_int(space.key, int(space.low), int(space.high), step=int(space.step or 1), log=space.log)
    else:
        value = trial.suggest_float(space.key, space.low, space.high, step=space.step, log=space.log)
    if not space.holds(value):
        raise UsageError(f"{space.key}={quoted(value)} of trial {trial.number} is not what this search offers")
    return value
