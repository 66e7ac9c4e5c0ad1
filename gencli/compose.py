"""From overrides to a plain config: what the command line and the Python API share of Hydra.

``sample``, ``eval`` and ``train resume=RUN`` take their groups from the run: each section of its config.yaml becomes
the option ``from_run`` of its group, so that Hydra checks the overrides of its values like all others. The file is
plain data: only the sections named here are read from it, and nothing in it is interpolated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from gencli import catalog, compatibility, locate, schema
from gencli.errors import UsageError, near

GROUPS = ("model", "data", "objective", "sampler", "estimator", "optimizer", "trainer", "logger")
"""Groups that a run's config.yaml holds, and the only ones that are read back from it."""

CONFIG_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError)
"""What Hydra raises over a wrong command line or config file."""

_RUN_KEY = {"train": "resume", "sample": "run", "eval": "run"}
_FREE = {"sample": ("sampler",), "eval": ("estimator", "sampler"), "train": ("sampler", "estimator", "logger")}
_REMOVABLE = {"objective", "sampler", "estimator", "logger"}
_TOP = {"seed": int, "device": str, "n": int}


@dataclass
class Prepared:
    """What Hydra is called with, and the choices of the run that stand behind the option ``from_run``."""

    config_name: str
    overrides: list[str]
    choices: dict[str, str | None] = field(default_factory=dict)


def compose(verb: str, overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> dict[str, Any]:
    """The plain config of one command, as ``gencli VERB OVERRIDES`` would have it.

    Raises:
        UsageError: an override or a config is wrong.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    try:
        prepared = prepare(verb, overrides)
        search = [f"hydra.searchpath=[{','.join(quote(f'file://{Path(d).resolve()}') for d in config_dirs)}]"]
        with initialize_config_dir(str(locate.config_dir()), job_name="gencli", version_base="1.3"):
            cfg = hydra_compose(
                prepared.config_name, prepared.overrides + (search if config_dirs else []), return_hydra_config=True
            )
        choices = {**cfg.hydra.runtime.choices}
        with open_dict(cfg):
            del cfg["hydra"]
        return to_plain(cfg, choices, prepared.choices, config_dirs)
    except CONFIG_ERRORS as error:
        raise UsageError(explain(error)) from error


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """The overrides as Hydra's grammar reads them."""
    return OverridesParser.create().parse_overrides(list(overrides))


def expand_runs(verb: str, overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of a sweep, once for each run in ``run=A,B`` (or ``resume=A,B``); all others as they are."""
    key = _RUN_KEY[verb]
    swept = [o for o in parse_overrides(overrides) if o.key_or_group == key and o.is_sweep_override()]
    if not swept:
        return [list(overrides)]
    others = [text for text in overrides if text != swept[-1].input_line]
    return [[f"{key}={value}", *others] for value in swept[-1].sweep_string_iterator()]


def prepare(verb: str, overrides: Sequence[str], need_run: bool = True) -> Prepared:
    """Find the run that a command is about, and offer its sections to Hydra as the options ``from_run``.

    Raises:
        UsageError: there is no such run, or the overrides contradict it.
    """
    schema.register()
    overrides = [_in_hydras_words(text) for text in overrides]
    key = _RUN_KEY[verb]
    parsed = parse_overrides(overrides)
    named = [override for override in parsed if override.key_or_group == key and not override.is_delete()]
    if named and named[-1].is_sweep_override():
        raise UsageError(f"{named[-1].input_line}: add -m to go through several runs")
    text = named[-1].value() if named else None
    if text is None:
        _offer({} if verb != "train" else None)
        if verb == "train":
            return Prepared("train", list(overrides))
        if need_run:
            raise UsageError(f"gencli {verb} needs run=RUN: a run folder, a checkpoint in it, or latest")
        return Prepared(verb, list(overrides))

    run = locate.find_run(str(text))
    config = read_config(run)
    choices = {str(k): v for k, v in (config.get("choices") or {}).items()}
    _offer(config)

    kept = [f"{key}={quote(str(run))}"]
    checkpoint = locate.checkpoint_in(str(text))
    if checkpoint and not any(override.key_or_group == "checkpoint" for override in parsed):
        kept.append(f"checkpoint={quote(checkpoint)}")
    for override in parsed:
        if override.key_or_group != key and _differs(override, verb, run, choices):
            kept.append(str(override.input_line))
    return Prepared("resume" if verb == "train" else verb, kept, choices)


def _in_hydras_words(text: str) -> str:
    """``metrics=[a,b]`` as a group's choice, which lands in the section ``metrics``; ``estimator=null`` as ``~``."""
    key, sign, value = text.partition("=")
    if value == "null" and key in _REMOVABLE - {"objective"}:
        return f"~{key}"
    if key.lstrip("+") != "metrics" or not sign:
        return text
    if re.fullmatch(r"[\w.-]*", value):  # metrics=mmd
        value = "[]" if value in ("", "null") else f"[{value}]"
    return f"metric@metrics={value}"


def read_config(run: Path) -> dict[str, Any]:
    """A run's config.yaml as plain data.

    Raises:
        UsageError: the file is damaged.
    """
    try:
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{run}/config.yaml is damaged: {str(error).splitlines()[0]}") from error
    if not isinstance(config, dict) or not all(isinstance(config.get(g) or {}, dict) for g in (*GROUPS, "choices")):
        raise UsageError(f"{run}/config.yaml is damaged: it is no mapping of sections")
    return config


def quote(text: str) -> str:
    """A value that Hydra's grammar reads back as this text."""
    return "'" + re.sub(r"\\+(?='|$)", lambda m: m[0] * 2, text).replace("'", "\\'") + "'"


def to_plain(
    cfg: DictConfig,
    choices: Mapping[str, Any],
    run_choices: Mapping[str, str | None] | None = None,
    config_dirs: Sequence[str] = (),
) -> dict[str, Any]:
    """Resolve a composed config to plain data, with ``choices``: which option each group took; refuse what cannot be.

    Args:
        cfg: without its ``hydra`` section.
        choices: Hydra's own record of them.
        run_choices: those of the run that stand behind ``from_run``.
        config_dirs: the user's own directories of options, which a refusal may suggest.

    Raises:
        UsageError: a value is missing or makes no sense, or the parts do not fit each other.
    """
    # "net@model.net" is told as "net", "net@objective.critic" as "critic"; schema/... and hydra/... are no choices.
    named = {group.rpartition(".")[2]: choice for group, choice in choices.items() if "/" not in group}
    behind = run_choices or {}
    named = {**behind, **{g: behind.get(g) if choice == "from_run" else choice for g, choice in named.items()}}

    _check_keys(cfg)
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        wants = " and ".join(f"{key}=..." for key in missing)
        group = missing[0].partition(".")[0]
        raise UsageError(f"{group}={named[group]} needs {wants}" if named.get(group) else f"{wants} is missing")

    plain = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    assert isinstance(plain, dict)
    config: dict[str, Any] = {
        str(key): None if key in GROUPS and value == {} else value for key, value in plain.items()
    }
    kind = OmegaConf.get_type(cfg)
    assert is_dataclass(kind)
    for group in _REMOVABLE & {entry.name for entry in fields(kind)}:  # `~logger`: this command goes without
        config.setdefault(group, None)
    config["choices"] = named
    schema.check_values(config)
    compatibility.check(config, config_dirs)
    return config


def _check_keys(cfg: DictConfig) -> None:
    """Refuse keys that ``+key=`` added to a typed section, and ``~key`` of what no command can do without."""
    for prefix, node in (("", cfg), ("trainer.", cfg.get("trainer")), ("optimizer.", cfg.get("optimizer"))):
        kind = OmegaConf.get_type(node) if node is not None else None
        if not is_dataclass(kind):
            continue
        known = {entry.name for entry in fields(kind)}
        for key in sorted({str(key) for key in node} - known):
            raise UsageError(f"{prefix}{key}: there is no such key. {near(key, known)}")
        for key in sorted(known - {str(key) for key in node} - (_REMOVABLE if not prefix else set())):
            raise UsageError(f"~{prefix}{key}: this key cannot be removed")


def explain(error: BaseException) -> str:
    """Hydra's and OmegaConf's complaints in one or two lines, with the near names."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.removesuffix(".yaml").rpartition("/")
        if group:
            options = [name for name in error.options or catalog.options(group) if name != "from_run"]
            return f"{group}={option}: there is no such {group}. {near(option, options)} (gencli list {group})"
    if isinstance(error, OverrideParseException):
        reason = error.message.splitlines()[0]
        return f"cannot read '{error.override}': {reason}\nAn override is key=value; quote what has spaces, = or ,"
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.parent_node is not None:
        return _unknown_key(cause)
    if isinstance(cause, ValidationError):
        value = "" if isinstance(error, ConfigCompositionException) and "override" not in str(error) else str(error)
        overridden = re.search(r"override \+*(\S+)", value)
        where = overridden[1] if overridden else cause.full_key or ""
        return f"{where}: {str(cause.msg or cause).splitlines()[0]}"

    first = [line.strip() for line in str(cause).splitlines() if line.strip()]
    text = " ".join(first[:2]) or type(error).__name__
    unknown = re.match(r"Could not override '([^']+)'\. No match in the defaults list", text)
    if unknown:
        return (
            f"{unknown[1]}: no such group here. {near(unknown[1], [*GROUPS, 'experiment', 'metrics', 'net@model.net'])}"
        )
    if text.startswith("Ambiguous value"):
        return f"{first[0]}: add -m to sweep over it; a list is key=[a,b], text with commas key='a,b'"
    if text.startswith("Sweep parameters"):
        return f"{text}: add -m"
    return f"a config cannot be read: {text}" if isinstance(error, yaml.YAMLError) else text


def _unknown_key(cause: OmegaConfBaseException) -> str:
    """The key that is not there, and those that are."""
    full = str(cause.full_key or cause.key)
    parent, _, key = full.rpartition(".")
    if parent == "metrics" and key in catalog.options("metric"):
        return f"{full}: this metric is not measured here; choose it with metrics=[{key}]"
    siblings = [str(k) for k in getattr(cause.parent_node, "keys", list)() if k != "hydra"]
    if not parent:
        siblings = sorted({*siblings, *GROUPS, "experiment", "hydra/launcher", "hydra/sweeper"})
    return f"{full}: there is no such key{f' in {parent}' if parent else ''}. {near(key, siblings)}"


def _offer(config: Mapping[str, Any] | None) -> None:
    """Store a run's sections as options ``from_run``, and of its other keys the few that a resumed run goes on with.

    None: this command is about no run, and the options of an earlier one in this process go away.
    """
    store = ConfigStore.instance()
    if config is None:
        for group in GROUPS:
            store.repo.get(group, {}).pop("from_run.yaml", None)
        return

    for group in GROUPS:
        section = config.get(group) or {}
        node: Any = OmegaConf.create(_escape(section))
        typed = {"trainer": schema.Trainer, "optimizer": schema.optimizer_type(section.get("name"))}.get(group)
        if typed and section:
            try:
                node = OmegaConf.merge(OmegaConf.structured(typed), node)
            except OmegaConfBaseException as error:
                raise UsageError(f"the run's {group}: {str(error).splitlines()[0]}") from error
        store.store(group=group, name="from_run", node=node)
    kept = {key: config[key] for key, kind in _TOP.items() if isinstance(config.get(key), kind)}
    store.store(group="schema/run", name="from_run", node=_escape(kept))


def _escape(value: Any) -> Any:
    """The same data with every ``${`` written so that OmegaConf leaves it alone."""
    if isinstance(value, dict):
        return {key: _escape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escape(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", value)
    return value


def _differs(override: Override, verb: str, run: Path, choices: Mapping[str, str | None]) -> bool:
    """Whether an override is to be handed on: the run's own option named again is not, another one is refused."""
    group = override.key_or_group
    if group not in (*GROUPS, "experiment", "net", "path") or group in _FREE[verb]:
        return True
    own, wanted = choices.get(group), override.value()
    if str(wanted) == str(own) and group in GROUPS:
        return False
    settled = f"{run} is a run of {group}={own}" if own else f"{run} has no {group} to choose"
    raise UsageError(f"{override.input_line}: {settled}; leave {group}= away, it is taken from the run")
