"""The jobs of a sweep: every combination of what the command line lists, each composed before any of them starts.

Seeds are the innermost loop: of a sweep that was stopped half-way, what is there has all of its seeds. A search
composes its jobs one by one; before it starts, the ends of all intervals and each of its choices are composed.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import ValidationError

from gencli.config import catalog, clusters
from gencli.config.compose import Bases, compose, expand_runs, parse_overrides, quote
from gencli.config.sections import SearchOptions, SweepOptions
from gencli.config.spaces import Interval, Space, from_file, space
from gencli.core import options
from gencli.core.errors import UsageError


@dataclass(frozen=True)
class Planned:
    """One job of a sweep.

    Args:
        swept: those of its overrides in which it may differ from the others; all of them if there are none.
        config: plain data; None: it was refused.
        refusal: why.
    """

    swept: tuple[str, ...]
    config: dict[str, Any] | None
    refusal: str = ""


@dataclass(frozen=True)
class Search:
    """What a search may try.

    Args:
        options: how it is done.
        spaces: of the keys that trials differ in.
        fixed: overrides of all trials.
        first: config of one trial, by which to know the others.
        config_dirs: the user's own directories of options.
    """

    options: SearchOptions
    spaces: tuple[Space, ...]
    fixed: tuple[str, ...]
    first: dict[str, Any]
    config_dirs: tuple[str, ...]

    def trial(self, values: Mapping[str, Any]) -> Planned:
        """The job of one trial, by the values of its keys."""
        return _trial(values, self.fixed, self.config_dirs)


@dataclass(frozen=True)
class Multirun:
    """A sweep before it starts.

    Args:
        words: the command after ``gencli train``.
        options: how its jobs are run.
        jobs: in the order in which they start; of a search none is known yet.
        config_dirs: the user's own directories of options.
        search: what chooses the jobs; None: every combination is one.
        cluster: where jobs run; None: on this machine, in processes of the sweep.
    """

    words: tuple[str, ...]
    options: SweepOptions
    jobs: tuple[Planned, ...]
    config_dirs: tuple[str, ...]
    search: Search | None = None
    cluster: clusters.Cluster | None = None


def multirun(words: Sequence[str], overrides: Sequence[str], config_dirs: Sequence[str]) -> Multirun:
    """Expand and compose the jobs of ``gencli train -m``.

    A key that some jobs lack, or parts that do not fit each other, refuse the jobs that they concern. What no job could
    run with, such as an option that there is not, refuses the sweep.

    Args:
        words: the whole command after the verb.
        overrides: those of its words that are no flags.
        config_dirs: the user's own directories of options.

    Raises:
        UsageError: an override or a key of the sweep is wrong, or there are no jobs.
    """
    cluster, overrides = clusters.split(overrides)
    own, search, rest = split_options(overrides)
    if search is not None:
        if cluster is not None and own.workers == "auto":
            raise UsageError(
                f"search={search.sampler} {clusters.GROUP}={cluster.name}: sweep.workers=N says how many trials run at "
                "a time; each is chosen by what those before it have shown"
            )
        found = _search(search, rest, config_dirs)
        return Multirun(tuple(words), own, (), tuple(config_dirs), search=found, cluster=cluster)
    jobs: list[Planned] = []
    bases: Bases = {}
    for texts in expand_runs("train", rest):
        named = [text for text in rest if text not in texts]  # init_from=A,B is one of these for each of its runs
        for swept, job in _combinations(texts, config_dirs):
            told = (*(texts[:1] if named else ()), *swept) or tuple(rest)
            jobs.append(_composed(told, job, config_dirs, bases))
    if not jobs:
        raise UsageError("this sweep expands to no jobs: a glob or a list in it matches nothing")
    return Multirun(tuple(words), own, tuple(jobs), tuple(config_dirs), cluster=cluster)


_ALIASES = {"hydra.sweep.dir": "sweep.dir", "search": "search.sampler"}
_OPTIONS: dict[str, type[SweepOptions | SearchOptions]] = {"sweep": SweepOptions, "search": SearchOptions}
_TEXTS = ("dir", "storage", "study", "params")
"""Keys whose values are texts, whatever they look like."""


def split_options(overrides: Sequence[str]) -> tuple[SweepOptions, SearchOptions | None, list[str]]:
    """The keys of the sweep itself, those of a search if there are any, and all other overrides.

    ``hydra.sweep.dir`` is another name of ``sweep.dir``, and ``search`` of ``search.sampler``.

    Raises:
        UsageError: there is no such key, or it cannot have this value.
    """
    found: dict[str, dict[str, Any]] = {"sweep": {}, "search": {}}
    rest = []
    for text, override in zip(overrides, parse_overrides(overrides), strict=True):
        key = _ALIASES.get(override.key_or_group, override.key_or_group)
        if key == "hydra.mode":
            continue
        kind, _, name = key.partition(".")
        if kind not in found or not name:
            rest.append(text)
            continue
        if override.is_sweep_override() or override.is_delete():
            raise UsageError(f"{text}: a key of the {kind} has one value")
        value = override.value()
        found[kind][name] = str(value) if name in _TEXTS and value is not None else value
    sweep, search = (_checked(kind, values) for kind, values in found.items())
    assert isinstance(sweep, SweepOptions)
    assert isinstance(search, SearchOptions)
    return sweep, search if found["search"] else None, rest


def _checked(kind: str, values: Mapping[str, Any]) -> SweepOptions | SearchOptions:
    checked = options.check(values, options.of_dataclass(_OPTIONS[kind]), kind, f"a {kind}")
    try:
        return _OPTIONS[kind](**checked)
    except ValueError as error:
        raise UsageError(str(error)) from error


class _Options:
    """What Hydra's ``glob`` asks of its loader: the options of a group, those of the user among them."""

    def __init__(self, config_dirs: Sequence[str]) -> None:
        self.config_dirs = config_dirs

    def get_group_options(self, group_name: str, results_filter: Any = None) -> list[str]:
        return sorted(catalog.options(group_name.partition("@")[0], self.config_dirs))


def _by_key(texts: Sequence[str], config_dirs: Sequence[str]) -> dict[str, Override]:
    """The overrides, the last of each key, seeds at the end."""
    parser = OverridesParser.create(config_loader=_Options(config_dirs))  # type: ignore[arg-type]
    by_key: dict[str, Override] = {}
    for override in parser.parse_overrides(list(texts)):
        key = override.get_key_element()
        by_key.pop(key, None)
        by_key[key] = override
    return dict(sorted(by_key.items(), key=lambda item: item[1].key_or_group == "seed"))  # stable: the rest as it is


def _combinations(texts: Sequence[str], config_dirs: Sequence[str]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """(what is swept, all overrides) of each job."""
    by_key = _by_key(texts, config_dirs)
    lists = [_values(key, override) for key, override in by_key.items()]
    swept = [override.is_sweep_override() for override in by_key.values()]
    return [
        (tuple(word for word, is_swept in zip(job, swept, strict=True) if is_swept), job)
        for job in itertools.product(*lists)
    ]


def _values(key: str, override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if not override.is_discrete_sweep():
        raise UsageError(
            f"{override.input_line}: a sweep goes through values; list them, or give a range(...); search=tpe searches"
        )
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def _search(options: SearchOptions, texts: Sequence[str], config_dirs: Sequence[str]) -> Search:
    """A search over what the command and its file leave open.

    Raises:
        UsageError: nothing is open, or some value of it can be in no job.
    """
    texts = [*(from_file(options.params) if options.params is not None else ()), *texts]
    by_key = _by_key(texts, config_dirs)
    spaces = tuple(space(override) for override in by_key.values() if override.is_sweep_override())
    fixed = tuple(str(override.input_line) for override in by_key.values() if not override.is_sweep_override())
    if not spaces:
        open_key = "optimizer.lr='tag(log,interval(1e-4,1e-2))'"
        raise UsageError(f"search={options.sampler}: nothing to search; leave a key open, such as {open_key}")
    for one in spaces:
        if options.sampler == "grid" and one.listed is None:
            raise UsageError(f"{one.key}: search=grid goes through values; list them, or give a range(...)")
    first: dict[str, Any] | None = None
    refusals: list[str] = []
    start = {one.key: one.ends[0] for one in spaces}
    for one in spaces:
        jobs = [_trial({**start, one.key: end}, fixed, config_dirs, strict=True) for end in one.ends]
        refused = [job.refusal for job in jobs if job.config is None]
        if isinstance(one, Interval) and len(refused) == 1:  # both: some choice has no such key
            raise UsageError(refused[0])
        refusals += refused
        first = first or next((job.config for job in jobs if job.config is not None), None)
    if first is None:
        raise UsageError(refusals[0])
    if "sampling_seconds" in options.objectives and (first.get("sampler") is None or not first["n"]):
        raise UsageError("search.objectives=[...,sampling_seconds]: nothing is drawn; a sampler and n=64 are needed")
    return Search(options, spaces, fixed, first, tuple(config_dirs))


def _trial(
    values: Mapping[str, Any], fixed: Sequence[str], config_dirs: Sequence[str], strict: bool = False
) -> Planned:
    swept = tuple(f"{key}={value}" for key, value in values.items())
    try:
        return _composed(swept, (*fixed, *swept), config_dirs)
    except UsageError as error:
        if strict:
            raise
        return Planned(swept, None, str(error))


FOR_ALL = ("trainer.", "optimizer.")
"""Beginnings of keys that mean the same in every job: what one of them refuses, no job could run with."""


def _composed(
    swept: tuple[str, ...], job: Sequence[str], config_dirs: Sequence[str], bases: Bases | None = None
) -> Planned:
    try:
        return Planned(swept, compose("train", job, config_dirs, bases))
    except UsageError as error:
        causes = (error.__cause__, error.__cause__ and error.__cause__.__cause__)
        if any(
            isinstance(cause, MissingConfigException | OverrideParseException | ValidationError) for cause in causes
        ) or any(word.startswith(FOR_ALL) and str(error).startswith(f"{word}:") for word in job):
            raise
        return Planned(swept, None, str(error))


def resumed(run: str, config: Mapping[str, Any], config_dirs: Sequence[str]) -> dict[str, Any]:
    """The config by which a job goes on in its folder: the run's own, with device and loggers of ``config``.

    Raises:
        UsageError: the folder holds no run that can go on.
    """
    trust = [f"trust=[{','.join(map(quote, config['trust']))}]"] if config["trust"] else []
    found = compose("train", [f"resume={quote(run)}", *trust], config_dirs)
    found |= {key: config[key] for key in ("device", "logger")}
    found["trainer"] |= {"workers": config["trainer"]["workers"]}
    found["choices"] |= {"logger": config["choices"].get("logger")}
    return found


def measured(run: str, config: Mapping[str, Any], config_dirs: Sequence[str]) -> dict[str, Any]:
    """The config by which a run is measured on the test split, on the device of ``config``.

    Raises:
        UsageError: the folder holds no run that can be measured.
    """
    trust = [f"trust=[{','.join(map(quote, config['trust']))}]"] if config["trust"] else []
    return compose("eval", [f"run={quote(run)}", f"device={quote(config['device'])}", *trust], config_dirs)
