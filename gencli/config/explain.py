"""Hydra's and OmegaConf's complaints in our words; the regular expressions over their messages are here."""

from __future__ import annotations

import re
from collections.abc import Sequence

import yaml
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from gencli.config import catalog, names, schema
from gencli.config.sections import TrainerOptions
from gencli.config.stored import GROUPS
from gencli.core import options
from gencli.core.errors import near

CONFIG_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError)
"""What Hydra raises over a wrong command line or config file."""


def explain(error: BaseException, verb: str = "train", overrides: Sequence[str] = ()) -> str:
    """Hydra's and OmegaConf's complaints in one or two lines, with the near names.

    Args:
        error: the complaint.
        verb: the command.
        overrides: its words, in which the value of a wrong key stands.
    """
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.removesuffix(".yaml").partition("/")
        if group not in catalog.groups():
            group, _, option = error.missing_cfg_file.removesuffix(".yaml").rpartition("/")
        if group:
            options = error.options or catalog.options(group)
            known = group in catalog.groups()
            meant = names.meant(names.choices_for(option, group, verb)) if known else ""
            more = f" (gencli list {group})" if known else ""
            return f"{group}={option}: there is no such {group}. {meant or near(option, options)}{more}"
    if isinstance(error, OverrideParseException):
        return _unread(str(error.override), verb, overrides)
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.parent_node is not None:
        return _unknown_key(cause, verb, overrides)
    if isinstance(cause, ValidationError):
        value = "" if isinstance(error, ConfigCompositionException) and "override" not in str(error) else str(error)
        overridden = re.search(r"override \+*(\S+)", value)
        where = overridden[1] if overridden else cause.full_key or ""
        untyped = any(said in str(cause.msg) for said in ("incompatible with type hint", "could not be converted"))
        if untyped and (needed := _declared(where, verb)):
            return f"{where}: {needed} is needed"
        return f"{where}: {str(cause.msg or cause).splitlines()[0]}"

    first = [line.strip() for line in str(cause).splitlines() if line.strip()]
    text = " ".join(first[:2]) or type(error).__name__
    unknown = re.match(r"Could not override '([^']+)'\.", text)
    if unknown:
        return _not_here(unknown[1])
    of_recipe = re.match(r"In 'experiment/([^']+)': Could not override '([^']+)'", text)
    if of_recipe:
        given = [word for word in overrides if word.partition("=")[0] in catalog.groups() and "experiment=" not in word]
        beside = f" with {' '.join(given)}" if given else ""
        return (
            f"experiment={of_recipe[1]} chooses {of_recipe[2]}, which there is not{beside}; a recipe holds for the "
            "parts that it names, whose options can be changed"
        )
    if text.startswith("Ambiguous value"):
        return f"{first[0]}: add -m to sweep over it; a list is key=[a,b], text with commas key='a,b'"
    if text.startswith("Sweep parameters"):
        return f"{text}: add -m"
    return f"a config cannot be read: {text}" if isinstance(error, yaml.YAMLError) else text


def _declared(where: str, verb: str) -> str | None:
    """What a key may be whose union of types OmegaConf tells in its own words: of a command or of its trainer."""
    section, _, key = where.partition("=")[0].rpartition(".")
    kinds = {"": {"train": schema.Train, "sample": schema.Sample, "eval": schema.Eval}[verb], "trainer": TrainerOptions}
    hint = options.of_dataclass(kinds[section]).hints.get(key) if section in kinds else None
    return None if hint is None else options.words(hint)


def _not_here(choice: str) -> str:
    """A choice of a group that this command or this part has not."""
    group, _, package = choice.partition("@")
    owner, _, at = package.partition(".")
    having = [name for name, option in catalog.options(owner).items() if option.nested.get(at) == group] if at else []
    if not having and "." in at:  # within an option that is itself within one
        owner, at = group, at.rpartition(".")[2]
        having = [name for name, option in catalog.options(group).items() if option.nested.get(at) == group]
    if having:
        return f"{choice}: a {group} is chosen for {owner}={' or '.join(having)} only; say which"
    if group == "metric" and package:
        return "metrics: only gencli eval compares samples with a split"
    within = sorted(
        f"{group}@{owner}.{at}"
        for owner in GROUPS
        for at in {
            at for option in catalog.options(owner).values() for at, inner in option.nested.items() if inner == group
        }
    )
    if within and not package:
        return f"{group}: a {group} is chosen for a part that has one: {', '.join(f'{key}=...' for key in within)}"
    return f"{choice}: no such group here. {near(choice, [*GROUPS, 'experiment', 'metrics', *within])}"


def _unread(text: str, verb: str, overrides: Sequence[str]) -> str:
    """Words that are no override; a value of other signs than Hydra's grammar knows has to stand within quotes."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        after = overrides[overrides.index(text) + 1 :] if text in overrides else ()
        following = next((word for word in after if word != "="), None)
        return (
            f"cannot read '{text}': an override is key=value. {names.meant(names.bare(text, verb, following))}".rstrip()
        )
    if any(quote in value for quote in "'\""):
        return f"cannot read '{text}': a text with quotes stands within the other ones, as in {key}=\"it's\""
    return f"cannot read '{text}': if it is a text, quote it for gencli and for the shell: '{key}=\"{value}\"'"


def _unknown_key(cause: OmegaConfBaseException, verb: str, overrides: Sequence[str]) -> str:
    """The key that is not there, and those that are."""
    full = str(cause.full_key or cause.key)
    parent, _, key = full.rpartition(".")
    if parent == "metrics" and key in catalog.options("metric"):
        return f"{full}: this metric is not measured here; choose it with metrics=[{key}]"
    siblings = [str(k) for k in getattr(cause.parent_node, "keys", list)() if k != "hydra"]
    if not siblings and parent.endswith((".kernel", ".inner")):
        return f"{full}: {parent} is null: choose it first, kernel@{parent}=NAME"
    if not parent:
        siblings = sorted({*siblings, *GROUPS, "experiment", "hydra/launcher", "hydra/sweeper"})
    given = (text.lstrip("+~").partition("=") for text in overrides)
    value = next((value for name, _, value in given if name == full), "")
    return names.no_such_key(full, value, siblings, verb)
