"""The jobs of a sweep: every combination of what the command line lists, each composed before any of them starts.

Seeds are the innermost loop: of a sweep that was stopped half-way, what is there has all of its seeds.
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
from gencli.config.compose import compose, expand_runs, parse_overrides, quote
from gencli.config.sections import SweepOptions
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
class Multirun:
    """A sweep before it starts.

    Args:
        words: the command after ``gencli train``.
        options: how its jobs are run.
        jobs: in the order in which they start.
        config_dirs: the user's own directories of options.
        cluster: where jobs run; None: on this machine, in processes of the sweep.
    """

    words: tuple[str, ...]
    options: SweepOptions
    jobs: tuple[Planned, ...]
    config_dirs: tuple[str, ...]
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
    own, rest = split_options(overrides)
    jobs: list[Planned] = []
    for texts in expand_runs("train", rest):
        named = [text for text in rest if text not in texts]  # init_from=A,B is one of these for each of its runs
        for swept, job in _combinations(texts, config_dirs):
            told = (*(texts[:1] if named else ()), *swept) or tuple(rest)
            jobs.append(_composed(told, job, config_dirs))
    if not jobs:
        raise UsageError("this sweep expands to no jobs: a glob or a list in it matches nothing")
    return Multirun(tuple(words), own, tuple(jobs), tuple(config_dirs), cluster)


def split_options(overrides: Sequence[str]) -> tuple[SweepOptions, list[str]]:
    """The keys of the sweep itself, and all other overrides; ``hydra.sweep.dir`` is another name of ``sweep.dir``.

    Raises:
        UsageError: there is no such key, or it cannot have this value.
    """
    found: dict[str, Any] = {}
    rest = []
    for text, override in zip(overrides, parse_overrides(overrides), strict=True):
        key = "sweep.dir" if override.key_or_group == "hydra.sweep.dir" else override.key_or_group
        if key == "hydra.mode":
            continue
        if not key.startswith("sweep."):
            rest.append(text)
            continue
        if override.is_sweep_override() or override.is_delete():
            raise UsageError(f"{text}: a key of the sweep has one value")
        value = override.value()
        found[key.removeprefix("sweep.")] = str(value) if key == "sweep.dir" and value is not None else value
    checked = options.check(found, options.of_dataclass(SweepOptions), "sweep", "a sweep")
    return SweepOptions(**checked), rest


class _Options:
    """What Hydra's ``glob`` asks of its loader: the options of a group, those of the user among them."""

    def __init__(self, config_dirs: Sequence[str]) -> None:
        self.config_dirs = config_dirs

    def get_group_options(self, group_name: str, results_filter: Any = None) -> list[str]:
        return sorted(catalog.options(group_name.partition("@")[0], self.config_dirs))


def _combinations(texts: Sequence[str], config_dirs: Sequence[str]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """(what is swept, all overrides) of each job."""
    parser = OverridesParser.create(config_loader=_Options(config_dirs))  # type: ignore[arg-type]
    by_key: dict[str, Override] = {}
    for override in parser.parse_overrides(list(texts)):
        key = override.get_key_element()
        by_key.pop(key, None)
        by_key[key] = override
    ordered = sorted(by_key.items(), key=lambda item: item[1].key_or_group == "seed")  # stable: the rest as it is
    lists = [_values(key, override) for key, override in ordered]
    swept = [override.is_sweep_override() for _, override in ordered]
    return [
        (tuple(word for word, is_swept in zip(job, swept, strict=True) if is_swept), job)
        for job in itertools.product(*lists)
    ]


def _values(key: str, override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if not override.is_discrete_sweep():
        raise UsageError(f"{override.input_line}: a sweep goes through values; list them, or give a range(...)")
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def _composed(swept: tuple[str, ...], job: Sequence[str], config_dirs: Sequence[str]) -> Planned:
    try:
        return Planned(swept, compose("train", job, config_dirs))
    except UsageError as error:
        causes = (error.__cause__, error.__cause__ and error.__cause__.__cause__)
        if any(
            isinstance(cause, MissingConfigException | OverrideParseException | ValidationError) for cause in causes
        ):
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
