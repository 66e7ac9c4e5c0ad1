"""What a recipe says of a part that the command leaves out, or has changed for another one.

A recipe's numbers were found for its own parts. Options of two classes may share a name and mean different things by
it, so that what was said of the one is never handed on to the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gencli.config import catalog
from gencli.config.catalog import Option
from gencli.config.compatibility import PARTS
from gencli.core.errors import UsageError


@dataclass(frozen=True)
class Replaced:
    """A part that the command has chosen in place of the recipe's.

    Args:
        at: where its keys lie, with a dot at the end.
        before: the recipe's choice, as it is typed.
        now: the command's.
        keys: what the option says itself.
    """

    at: str
    before: str
    now: str
    keys: Mapping[str, Any]


def left_out(
    config: Mapping[str, Any],
    named: Mapping[str, Any],
    groups: Set[str],
    config_dirs: Sequence[str | Path] = (),
) -> dict[str, None]:
    """Sections that the command leaves out (``estimator=null``): what a recipe says of them goes with them.

    Args:
        config: with the sections as they were composed.
        named: the options that were chosen, by group.
        groups: those that may be left out.
        config_dirs: the user's own directories of options.

    Raises:
        UsageError: the command says something of such a section, too.
    """
    recipe = _recipe(named, config_dirs)
    if recipe is None:
        return {}
    gone = (groups & config.keys()) - named.keys()
    for group in sorted(gone):
        for key, value in catalog.flatten(config[group] or {}):
            if (f"{group}.{key}", value) not in recipe.keys.items():
                raise UsageError(f"{group}.{key}: there is no {group}, which {group}=null leaves out")
    return dict.fromkeys(gone)


def refuse_keys_of_others(
    config: Mapping[str, Any],
    named: Mapping[str, Any],
    typed: Sequence[tuple[str, Any]],
    config_dirs: Sequence[str | Path] = (),
) -> None:
    """Refuse what a recipe says of a part that the command has changed for one of another class.

    Args:
        config: with the sections as they were composed.
        named: the options that were chosen, by group.
        typed: what the command itself says: keys, or groups, with values; these are the user's own.
        config_dirs: the user's own directories of options.

    Raises:
        UsageError: names the keys, and how to go on without them.
    """
    recipe = _recipe(named, config_dirs)
    if recipe is None:
        return
    there = dict(catalog.flatten({group: config.get(group) or {} for group in ("model", *PARTS)}))
    own = {key for one, value in typed for key, _ in catalog.flatten({one: value})}
    said = {key: value for key, value in recipe.keys.items() if key in there and key not in own}
    for group in ("model", *PARTS):
        for part in _replaced(recipe, group, named, config_dirs):
            keys = [
                key
                for key, value in said.items()
                if key.startswith(part.at) and not (key in part.keys and part.keys[key] == value)
            ]
            if keys:
                raise UsageError(_refusal(named["experiment"], keys, part))


def _refusal(recipe: str, keys: Sequence[str], part: Replaced) -> str:
    none = " ".join(f"~{key}" for key in keys)
    if part.keys.keys() & {*keys}:
        why, instead = f"was said of {part.before}, not of {part.now}", " or give values of your own"
    else:
        why, instead = f"{part.now} has not", ""
    return (
        f"experiment={recipe} sets {', '.join(keys)}, which {why}. To take the rest of the recipe with it, "
        f"add {none}{instead}"
    )


def _recipe(named: Mapping[str, Any], config_dirs: Sequence[str | Path]) -> Option | None:
    name = named.get("experiment")
    return catalog.options("experiment", config_dirs).get(str(name)) if name else None


def _replaced(
    recipe: Option, group: str, named: Mapping[str, Any], config_dirs: Sequence[str | Path]
) -> Iterator[Replaced]:
    """The part of a group, or those within it, that are of other classes than the recipe's."""
    option, own = catalog.options(group, config_dirs).get(str(named.get(group))), choice(recipe, group, config_dirs)
    if option is None:
        return
    nested = {at: (inner, named.get(at.rpartition(".")[2])) for at, inner in option.nested.items()}
    keys = {key: value for key, value in option.keys.items() if not key.startswith(tuple(f"{at}." for at in nested))}
    for at, (inner, now) in nested.items():  # what stands there, in place of what the option holds by itself
        held = catalog.options(inner, config_dirs).get(str(now))
        keys |= {f"{at}.{key}": value for key, value in (held.keys if held else {}).items()}
    keys = {f"{group}.{key}": value for key, value in keys.items()}
    if own is not None and _differ(group, own, option.name, config_dirs):
        yield Replaced(f"{group}.", f"{group}={own}", f"{group}={option.name}", keys)
        return
    for at, (inner, now) in nested.items():
        chosen = recipe.partners.get(inner, option.held.get(at))
        if _differ(inner, chosen, now, config_dirs):
            where = f"{inner}@{group}.{at}"
            yield Replaced(f"{group}.{at}.", f"{where}={chosen}", f"{where}={now}", keys)


def choice(recipe: Option, group: str, config_dirs: Sequence[str | Path]) -> str | None:
    """The option of a group that a recipe chooses, itself or by its model; None: it is for any."""
    if group in recipe.partners or "model" not in recipe.partners:
        return recipe.partners.get(group)
    model = catalog.options("model", config_dirs).get(str(recipe.partners["model"]))
    if model is not None and group in model.partners:
        return model.partners[group]
    return next((entry[group] for entry in catalog.primary("train")["defaults"] if group in {*entry}), None)


def _differ(group: str, one: str | None, other: str | None, config_dirs: Sequence[str | Path]) -> bool:
    """Whether two options are of two classes: those of one, such as mala and hmc, take each other's keys."""
    options = catalog.options(group, config_dirs)
    found = [options[str(name)].target if str(name) in options else None for name in (one, other)]
    return one != other and (None in found or found[0] != found[1])
