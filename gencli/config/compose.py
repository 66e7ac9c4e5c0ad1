"""From overrides to a plain config: what the command line and the Python API share of Hydra.

``sample``, ``eval``, ``train resume=RUN`` and ``train init_from=RUN`` take their sections from the run. A run's
config.yaml is data, which may come from a stranger: Hydra never sees any of it. Hydra composes the command with these
sections empty and collects there what the command line changes; the changes are made in the run's own section
afterwards, where nothing is looked up, interpolated or built.
"""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, QuotedString
from omegaconf import DictConfig, OmegaConf, open_dict

from gencli.config import catalog, compatibility, locate, recipes, schema, sections, stored
from gencli.config.explain import CONFIG_ERRORS, explain
from gencli.config.names import no_such_key
from gencli.config.stored import GROUPS
from gencli.core.errors import UsageError, near, quoted

_HYDRA = threading.Lock()
"""Hydra keeps one state for the whole process, which one thread at a time may use."""

_RUN_KEYS = {"train": ("resume", "init_from"), "sample": ("run",), "eval": ("run",)}
_FREE = {
    "sample": ("sampler",),
    "eval": ("estimator", "sampler"),
    "resume": ("sampler", "estimator", "logger"),
    "init_from": tuple(group for group in GROUPS if group != "model"),
}
"""Groups of which a command about a run may choose another option."""

_REMOVABLE = {"objective", "sampler", "estimator", "logger"}
_OWN_TOP = ("seed", "device", "n")
"""Keys besides the sections that a resumed run goes on with."""


@dataclass
class Prepared:
    """What Hydra is called with; and, if the command is about a run, the run's own config, which Hydra does not get."""

    config_name: str
    overrides: list[str]
    run_config: dict[str, Any] | None = None


Bases = dict[tuple[str, ...], tuple[DictConfig, dict[str, Any]]]
"""Configs without the values that a command gives to single keys, and their choices, by all other overrides."""


def compose(
    verb: str, overrides: Sequence[str], config_dirs: Sequence[str] = (), bases: Bases | None = None
) -> dict[str, Any]:
    """The plain config of one command, as ``gencli VERB OVERRIDES`` would have it.

    Args:
        verb: train, sample or eval.
        overrides: of the command.
        config_dirs: the user's own directories of options.
        bases: what the jobs of one sweep share: those that make the same choices are composed once.

    Raises:
        UsageError: an override or a config is wrong.
    """
    try:
        prepared = prepare(verb, overrides, config_dirs)
        with _HYDRA, initialized(config_dirs) as search:
            cfg, choices = (bases is not None and _by_base(prepared, search, bases)) or _by_hydra(
                prepared.config_name, prepared.overrides + search
            )
        return to_plain(cfg, choices, prepared.overrides, prepared.run_config, config_dirs)
    except CONFIG_ERRORS as error:
        raise UsageError(explain(error, verb, overrides)) from error


def _by_hydra(name: str, overrides: Sequence[str]) -> tuple[DictConfig, dict[str, Any]]:
    """What Hydra composes, and the choices in it."""
    cfg = hydra_compose(name, [*overrides], return_hydra_config=True)
    choices = chosen(cfg.hydra)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, choices


def _by_base(prepared: Prepared, search: Sequence[str], bases: Bases) -> tuple[DictConfig, dict[str, Any]] | None:
    """The same from what an earlier job made, if they differ in values of keys only; as Hydra puts these in at its end.

    Returns:
        None: some override says more than that, or is refused, which Hydra explains.
    """
    parsed = parse_overrides(prepared.overrides)
    values = [each for each in parsed if "." in each.key_or_group or each.key_or_group == "seed"]
    others = [each for each in parsed if each not in values]
    plain = all(each.type == OverrideType.CHANGE and each.package is None for each in values)
    if not plain or any(isinstance(each.value(), dict | list) or each.is_delete() for each in others):
        return None
    key = (prepared.config_name, *(str(each.input_line) for each in others), *search)
    try:
        if key not in bases:
            bases[key] = _by_hydra(prepared.config_name, key[1:])
        cfg, choices = copy.deepcopy(bases[key])
        ConfigLoaderImpl._apply_overrides_to_config(values, cfg)
    except CONFIG_ERRORS:
        return None
    return cfg, choices


@contextmanager
def initialized(config_dirs: Sequence[str]) -> Iterator[list[str]]:
    """Hydra over gencli's options; gives the override by which it looks into the user's own directories too."""
    outer = GlobalHydra.instance().hydra  # of a command that composes a section while it runs
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(locate.config_dir()), job_name="gencli", version_base="1.3"):
            places = [quote(f"file://{Path(folder).resolve()}") for folder in config_dirs]
            yield [f"hydra.searchpath=[{','.join(places)}]"] if places else []
    finally:
        GlobalHydra.instance().hydra = outer


def chosen(hydra: Any) -> dict[str, Any]:
    """Which option each group took; Hydra keeps no record of groups of which several were taken."""
    listed = {
        o.key_or_group: o.value() for o in parse_overrides(overrides_of(hydra)) if o.key_or_group in catalog.LISTED
    }
    several = {group: [*map(str, options)] for group, options in listed.items() if isinstance(options, list)}
    return {**hydra.runtime.choices, **several}


def overrides_of(hydra: Any) -> list[str]:
    """The overrides that Hydra was given; what a ``${...}`` in them stands for is no word of the user."""
    return cast(list[str], OmegaConf.to_container(hydra.overrides.task, resolve=False))


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """The overrides as Hydra's grammar reads them."""
    return OverridesParser.create().parse_overrides(list(overrides))


def expand_runs(verb: str, overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of a sweep, once for each run in ``run=A,B`` (or ``resume=A,B``); all others as they are."""
    swept = [o for o in parse_overrides(overrides) if o.key_or_group in _RUN_KEYS[verb] and o.is_sweep_override()]
    if not swept:
        return [list(overrides)]
    others = [text for text in overrides if text != swept[-1].input_line]
    return [[f"{swept[-1].key_or_group}={value}", *others] for value in swept[-1].sweep_string_iterator()]


def prepare(verb: str, overrides: Sequence[str], config_dirs: Sequence[str] = (), need_run: bool = True) -> Prepared:
    """Find the run that a command is about, read its config, and what of the overrides Hydra is to be given.

    Raises:
        UsageError: there is no such run, its config is no plain data, or the overrides contradict it.
    """
    schema.register()
    overrides = [_in_hydras_words(text) for text in overrides]
    parsed = parse_overrides(overrides)
    for override in parsed:
        _check_choice(override)
    named = {o.key_or_group: o for o in parsed if o.key_or_group in _RUN_KEYS[verb] and not o.is_delete()}
    for override in named.values():
        if override.is_sweep_override():
            raise UsageError(f"{override.input_line}: add -m to go through several runs")
    named = {key: override for key, override in named.items() if override.value() is not None}
    if len(named) > 1:
        raise UsageError("init_from= begins a new run and resume= goes on with one: leave one of them away")
    if not named:
        if verb == "train":
            return Prepared("train", list(overrides))
        if need_run:
            raise UsageError(f"gencli {verb} needs run=RUN: a run folder, a checkpoint in it, or latest")
        return Prepared(verb, list(overrides))

    ((key, override),) = named.items()
    text = str(override.value())
    run = locate.find_run(text)
    config = stored.config(run)
    name = key if verb == "train" else verb
    kept = [f"{key}={quote(str(run))}"]
    checkpoint = locate.checkpoint_in(text)
    if checkpoint and not any(override.key_or_group == "checkpoint" for override in parsed):
        kept.append(f"checkpoint={quote(checkpoint)}")
    chosen = {o.key_or_group: o for o in parsed if o.key_or_group in _FREE[name]}
    for override in parsed:
        if override.key_or_group not in _RUN_KEYS[verb] and _differs(override, _FREE[name], run, config["choices"]):
            _check_change(verb, override, schema.OF_RUN[name], config, chosen, config_dirs)
            kept.append(str(override.input_line))
    return Prepared(name, kept, config)


def _check_choice(override: Override) -> None:
    """Refuse a choice of a group that is no name, over which Hydra stumbles; some groups take a list of them."""
    group, several = override.key_or_group, (*catalog.LISTED, "experiment")
    if not group:
        raise UsageError(f"cannot read '{quoted(override.input_line)}': an override is key=value")
    if group not in (*GROUPS, *several, "picture", "net", "path", "kernel"):
        return
    value = override.value() if not override.is_sweep_override() else None
    names = group in several and isinstance(value, list) and all(isinstance(name, str | QuotedString) for name in value)
    if isinstance(value, list | dict) and not names:
        raise UsageError(f"{quoted(override.input_line)}: the name of an option is needed (gencli list {group})")


def _check_change(
    verb: str,
    override: Override,
    groups: Sequence[str],
    config: Mapping[str, Any],
    chosen: Mapping[str, Override],
    config_dirs: Sequence[str],
) -> None:
    """Refuse a change of a key that the section has not, where Hydra sees an open one; ``+key=`` is for the builder."""
    group, *path = override.key_or_group.split(".")
    if group not in groups or not path or override.is_add() or override.is_force_add():
        return
    if override.is_delete():
        raise UsageError(f"{override.input_line}: an option of a run cannot be removed; give it another value")
    if group not in chosen:
        keys = dict(catalog.flatten(config.get(group) or {}))
        own = catalog.options(group, config_dirs).get(str(config["choices"].get(group)))
        keys |= own.keys if own else {}  # those of today, which an older run does not name
    elif chosen[group].is_delete():
        keys = {}
    else:
        options = catalog.options(group, config_dirs)
        value = chosen[group].value()
        wanted = {*map(str, value if isinstance(value, list) else [value])} & {*options} or {*options}  # a sweep: any
        under = {name: f"{name}." if group in catalog.LISTED else "" for name in wanted}
        keys = {under[name] + key: None for name in wanted for key in options[name].keys}
        keys |= dict.fromkeys(sections.PREPROCESSING if group == "data" else ())
        for at, inner in {pair for name in wanted for pair in options[name].nested.items()}:
            # the command may choose any of them; the builder knows which it has chosen
            keys |= {
                f"{at}.{key}": None for option in catalog.options(inner, config_dirs).values() for key in option.keys
            }
    full, names = ".".join(path), {".".join(key.split(".")[: len(path)]) for key in keys}
    if full not in names and not any(full.startswith(f"{name}.") and not keys.get(name) for name in names):
        beside = [name.rpartition(".") for name in names]
        others = [last for start, _, last in beside if start == ".".join(path[:-1]) and last != "_target_"]
        value = str(override.input_line).partition("=")[2]
        raise UsageError(no_such_key(override.key_or_group, value, others, verb))


def _in_hydras_words(text: str) -> str:
    """``metrics=[a,b]`` as a group's choice, which lands in the section ``metrics``; ``estimator=null`` as ``~``."""
    key, sign, value = text.partition("=")
    if key == "trust" and re.fullmatch(r"[\w.]+", value) and value != "null":
        return f"trust=[{value}]"
    if value == "null" and key in _REMOVABLE - {"objective"}:
        return f"~{key}"
    if key.lstrip("+") != "metrics" or not sign:
        return text
    if re.fullmatch(r"[\w.-]*", value):  # metrics=mmd
        value = "[]" if value in ("", "null") else f"[{value}]"
    return f"metric@metrics={value}"


def quote(text: str) -> str:
    """A value that Hydra's grammar reads back as this text; a `${...}` in it, as a folder may be named, stays text."""
    text = re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text)
    return "'" + re.sub(r"\\+(?='|$)", lambda m: m[0] * 2, text).replace("'", "\\'") + "'"


def _text_keys(node: Any) -> Any:
    """The same with keys that are texts, as files of a run hold them: Hydra reads that of ``{0: real}`` as a number."""
    if isinstance(node, dict):
        return {str(key): _text_keys(value) for key, value in node.items()}
    return [_text_keys(item) for item in node] if isinstance(node, list) else node


def to_plain(
    cfg: DictConfig,
    choices: Mapping[str, Any],
    overrides: Sequence[str],
    run_config: Mapping[str, Any] | None = None,
    config_dirs: Sequence[str] = (),
) -> dict[str, Any]:
    """Resolve a composed config to plain data, with ``choices``: which option each group took; refuse what cannot be.

    Args:
        cfg: without its ``hydra`` section.
        choices: Hydra's own record of them.
        overrides: from which it was composed.
        run_config: of the run that the command is about; its sections are taken where the command chooses no others.
        config_dirs: the user's own directories of options, which a refusal may suggest.

    Raises:
        UsageError: a value is missing or makes no sense, or the parts do not fit each other.
    """
    # "net@model.net" is told as "net", "net@objective.critic" as "critic"; schema/... and hydra/... are no choices.
    told = {group: choice for group, choice in choices.items() if "/" not in group and (choice or "@" not in group)}
    named = {group.rpartition(".")[2]: choice for group, choice in told.items()}

    _check_keys(cfg)
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        wants = " and ".join(f"{key}=..." for key in missing)
        group = missing[0].partition(".")[0]
        raise UsageError(f"{group}={named[group]} needs {wants}" if named.get(group) else f"{wants} is missing")

    plain = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    assert isinstance(plain, dict)
    config: dict[str, Any] = _text_keys(plain)
    if run_config is not None:
        config, named = _with_run(config, named, run_config)
    config = {key: None if key in GROUPS and value == {} else value for key, value in config.items()}
    config |= recipes.left_out(config, named, _REMOVABLE, config_dirs)
    kind = OmegaConf.get_type(cfg)
    assert is_dataclass(kind)
    for group in _REMOVABLE & {entry.name for entry in fields_of(kind)}:  # `~logger`: this command goes without
        config.setdefault(group, None)
    config["choices"] = named
    schema.check_values(config, kind)
    sections.check_values(config)
    if run_config is None:  # else a recipe has been taken already
        typed = [(override.key_or_group, override.value()) for override in parse_overrides(overrides)]
        recipes.refuse_keys_of_others(config, named, typed, config_dirs)
    compatibility.check(config, config_dirs)
    return config


def _with_run(
    config: Mapping[str, Any], named: Mapping[str, Any], run_config: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config and its choices with what the command takes from its run, changed as the command says.

    A section is the run's own unless the command chose an option of its group (it stands in ``named``) or removed it
    (it stands there no longer).
    """
    whole, names = dict(config), {**run_config["choices"], **named}
    for group in (group for group in GROUPS if group in whole):
        if group in _REMOVABLE - {"objective"} and group not in named:
            whole[group] = names[group] = None
            continue
        if named.get(group) is None:
            names[group] = run_config["choices"].get(group)
            whole[group] = _changed(run_config.get(group) or {}, whole[group] or {})
        elif group == "data":
            own = run_config["data"]
            whole[group] = {
                "root": None,
                **{key: own[key] for key in sections.PREPROCESSING if key in own},
                **whole[group],
            }
        if group in ("trainer", "optimizer") and whole[group]:
            whole[group] = sections.plain(group, whole[group])
    for key in _OWN_TOP if whole.get("resume") else ():
        if whole[key] is None:
            whole[key] = run_config[key]
    return whole, names


def _changed(section: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A section with changed values, key by key in mappings within it."""
    result = dict(section)
    for key, value in changes.items():
        own = result.get(key)
        result[key] = _changed(own, value) if isinstance(own, Mapping) and isinstance(value, Mapping) else value
    return result


def _check_keys(cfg: DictConfig) -> None:
    """Refuse keys that ``+key=`` added to a typed section, and ``~key`` of what no command can do without."""
    for prefix, node in (("", cfg), ("trainer.", cfg.get("trainer")), ("optimizer.", cfg.get("optimizer"))):
        kind = OmegaConf.get_type(node) if node is not None else None
        if not is_dataclass(kind):
            continue
        known = {entry.name for entry in fields_of(kind)}
        for key in sorted({str(key) for key in node} - known):
            raise UsageError(f"{prefix}{key}: there is no such key. {near(key, known)}")
        for key in sorted(known - {str(key) for key in node} - (_REMOVABLE if not prefix else set())):
            raise UsageError(f"~{prefix}{key}: this key cannot be removed")


def _differs(override: Override, free: Sequence[str], run: Path, choices: Mapping[str, str | None]) -> bool:
    """Whether an override is to be handed on: the run's own option named again is not, another one is refused."""
    group = override.key_or_group
    if group not in (*GROUPS, "experiment", "net", "path", "kernel") or group in free:
        return True
    if (override.package or "").partition(".")[0] in (*free, "picture"):
        return True  # of an option that the command chooses
    own, wanted = choices.get(group), override.value()
    if str(wanted) == str(own) and group in GROUPS:
        return False
    settled = f"{run} is a run of {group}={own}" if own else f"{run} has no {group} to choose"
    raise UsageError(f"{override.input_line}: {settled}; leave {group}= away, it is taken from the run")
