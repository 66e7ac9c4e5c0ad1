"""Completion in the shell: verbs, groups, options, keys and runs, read from the YAML files without Hydra or torch."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import yaml

from gencli.cli import help as helptext
from gencli.config import catalog, compatibility, renamed, sections
from gencli.config.locate import find_run, runs
from gencli.core.errors import GencliError, UsageError, near

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONFIG = 1 << 18
"""Bytes of a run's config.yaml that are read at most."""

_FLAGS = ("--cfg", "--config-dir", "--help", "--hydra-help", "--info", "--multirun", "--package", "--resolve")

_VALUES = {
    "device": ("auto", "cpu", "cuda", "mps"),
    "weights": ("ema", "raw"),
    "checkpoint": ("best", "last", "previous"),
    "split": ("test", "train", "val", "all"),
    "trainer.precision": ("auto", "bf16", "fp16", "fp32"),
    "optimizer.schedule": ("constant", "cosine"),
    "data.dequantization": ("uniform",),
    "data.transform": ("logit", "none", "scale", "standardize"),
    "hydra/launcher": ("basic",),
    "search": ("cmaes", "gp", "grid", "random", "tpe"),
    "search.pruner": ("halving", "hyperband", "median", "none"),
    "sweep.on_fail": ("continue", "stop"),
    "sweep.workers": ("auto",),
}

_BASH = """\
_gencli() {
    local line="${COMP_LINE:0:COMP_POINT}" IFS=$' \\t\\n' words
    read -ra words <<< "$line"
    [[ "$line" == *[[:space:]] ]] && words+=("")
    local whole="${words[-1]}" current="${COMP_WORDS[COMP_CWORD]}"
    [[ "$current" == "=" ]] && current=""
    local before="${whole%"$current"}" IFS=$'\\n'
    COMPREPLY=($("${words[0]}" --complete "${words[@]:1}" 2>/dev/null))
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
    [[ "${COMPREPLY[0]}" == *[=./[] ]] && compopt -o nospace
}
complete -F _gencli gencli
"""

_ZSH = """\
#compdef gencli
_gencli() {
    local -a found
    found=("${(@f)$("${words[1]}" --complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    compadd -Q -S '' -- ${found:#}
}
compdef _gencli gencli
"""

_FISH = """\
complete -c gencli -f -a '(gencli --complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def script(words: Sequence[str]) -> str:
    """The completion script of a shell, to be evaluated in its start-up file.

    Raises:
        UsageError: there is none for this shell.
    """
    shell = words[0] if words else ""
    if shell not in SCRIPTS:
        raise UsageError(f'--completion {shell}: {near(shell, SCRIPTS)} For bash: eval "$(gencli --completion bash)"')
    return SCRIPTS[shell]


_SAFE = re.compile(r"[\w./+@%:,=~^\[\]-]*")
"""Words that a shell takes as they are. A folder may be named `$(command)`: shells put in what they are offered."""


def candidates(words: Sequence[str]) -> list[str]:
    """What the last of the words after ``gencli`` may become; names that a shell would interpret are left out."""
    return [word for word in _candidates(words) if _SAFE.fullmatch(word)]


def _candidates(words: Sequence[str]) -> list[str]:
    current = words[-1] if words else ""
    if len(words) <= 1:
        return _starting(current, [*helptext.PAGES, "--help", "--version", "--completion"])
    verb, given = words[0], words[1:-1]
    config_dirs = [given[i + 1] for i, word in enumerate(given[:-1]) if word in ("--config-dir", "-cd")]
    if given and given[-1] in ("--config-dir", "-cd"):
        return _paths(current)
    if verb == "list":
        groups = [word for word in given if word in catalog.groups(config_dirs)]
        names = catalog.options(groups[0], config_dirs) if groups else catalog.groups(config_dirs)
        return _starting(current, [*names, "--matrix"] if current.startswith("-") else names)
    if verb == "compare":
        return _starting(current, ["--all", "--csv", "--json", "--split", *map(str, runs(Path("outputs")))])
    if verb not in helptext.PAGES:
        return []
    if current.startswith("-"):
        return _starting(current, _FLAGS)
    if "=" in current:
        return _values(current, given, config_dirs)
    return _starting(current, _keys(verb, given, current, config_dirs))


def _values(current: str, given: Sequence[str], config_dirs: Sequence[str]) -> list[str]:
    """``key=VALUE``, or the last of ``key=VALUE,VALUE``."""
    key, _, value = current.partition("=")
    if key in ("run", "resume", "init_from"):
        return [f"{key}={path}" for path in _starting(value, ["latest", *map(str, runs(Path("outputs")))])]
    if key in ("data.root", "data.path", "data.val_path", "data.test_path", "run_dir"):
        return [f"{key}={path}" for path in _paths(value)]
    done, comma, last = value.rpartition(",")
    group = key.partition("@")[0]
    if key in catalog.LISTED.values() and (key == "metrics" or value.startswith("[")):
        group = "metric" if key == "metrics" else key
        done, comma, last = (done, comma, last) if comma else ("", "[", last.removeprefix("["))
    choices: Iterable[str] = _VALUES.get(key, ())
    if group in catalog.GROUPS:
        choices = _fitting(group, given, config_dirs) or catalog.options(group, config_dirs)
    return [f"{key}={done}{comma}{choice}" for choice in _starting(last, choices)]


def _fitting(group: str, given: Sequence[str], config_dirs: Sequence[str]) -> list[str]:
    """Options that fit the run on the line, or the model on it; none where that cannot be told."""
    if group not in compatibility.PARTS:
        return []
    named = dict(word.split("=", 1) for word in given if word.startswith(("run=", "resume=", "model=")))
    option = catalog.options("model", config_dirs).get(named.get("model", ""))
    target, data = option.target if option else None, None
    try:
        if "run" in named or "resume" in named:
            with (find_run(named.get("run") or named["resume"]) / "config.yaml").open("rb") as file:
                config = yaml.load(file.read(_CONFIG), Loader=_Loader)
            target, data = (renamed.current(str(config[group]["_target_"])) for group in ("model", "data"))
    except (GencliError, OSError, yaml.YAMLError, KeyError, TypeError):
        return []
    if target is None or catalog.class_info(target) is None:
        return []
    return compatibility.fitting(group, target, config_dirs, data if data and catalog.class_info(data) else None)


def _keys(verb: str, given: Sequence[str], current: str, config_dirs: Sequence[str]) -> Iterator[str]:
    """Groups and top-level keys; after ``group.`` the keys of the option that is chosen."""
    primary = catalog.primary(verb)
    chosen: dict[str, str] = {}
    listed = False
    for entry in primary.pop("defaults"):
        if isinstance(entry, dict):
            for name, choice in entry.items():
                group = name.removeprefix("optional ")
                if group in catalog.GROUPS:
                    chosen[group] = str(choice)
                listed |= group == "metric@metrics"
    chosen |= {key: value for key, _, value in (word.partition("=") for word in given) if key in chosen}

    group = current.partition(".")[0]
    if "." not in current:
        yield from ("metrics=[", "metrics.") if listed else ()
        yield from (f"{name}=" for name in chosen)
        yield from (f"{name}." for name in chosen if name != "experiment")
        yield from (f"{name}=" for name, value in primary.items() if not isinstance(value, dict))
        for name, choice in chosen.items():
            option = catalog.options(name, config_dirs).get(choice)
            yield from (f"{inner}@{name}.{at}=" for at, inner in option.nested.items()) if option else ()
        yield "hydra/launcher="
        if verb == "train":
            yield from ("sweep.", "search=", "search.")
        return
    if group in ("sweep", "search"):
        kind = sections.SweepOptions if group == "sweep" else sections.SearchOptions
        yield from (f"{group}.{entry.name}=" for entry in fields(kind))
        return
    if listed and group == "metrics":
        for name, option in catalog.options("metric", config_dirs).items():
            yield from (f"metrics.{name}.{key}=" for key in option.keys if key != "_target_")
        return
    options = catalog.options(group, config_dirs) if group in chosen else {}
    which = [options[chosen[group]]] if chosen.get(group) in options else options.values()  # a run's own: all of them
    shared = primary.get(group)
    names = [*(shared if isinstance(shared, dict) else ()), *(name for option in which for name in option.keys)]
    yield from (f"{group}.{name}=" for name in dict.fromkeys(names) if name != "_target_")


def _starting(prefix: str, names: Iterable[str]) -> list[str]:
    return sorted({name for name in names if name.startswith(prefix)})


def _paths(prefix: str) -> list[str]:
    found = (Path(path) for path in glob.glob(f"{glob.escape(prefix)}*"))
    return sorted(f"{path}/" if path.is_dir() else str(path) for path in found)
