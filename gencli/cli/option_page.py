"""`gencli list GROUP NAME`: all that there is to say of one option, read from its YAML, its class and the recipes."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from gencli.config import catalog, compatibility, names, notes
from gencli.config.catalog import Option
from gencli.config.declared import declared, documentation

_ALTERNATIVES = re.compile(r"[\w:.]+( \| [\w:.]+)+")
"""A comment that says no more than the type does."""

RECIPES = 8
"""Recipes that a page names; the others are in the list of the group."""


def option_page(option: Option, config_dirs: Sequence[str], width: int) -> list[str]:
    """Documentation, example, options, what fits, recipes and references of an option, in lines of a width."""
    recipes = notes.recipes(config_dirs)
    said = documentation(option.target) if option.target else {"": ""}
    lines = [names.chosen(option.group, option.name), *wrapped(option.description, width, 2), ""]
    for paragraph in said[""].split("\n\n"):
        lines += [*_paragraph(paragraph, width), ""] if paragraph else []
    for command in _examples(option, config_dirs, recipes):
        lines += wrapped(command, width, 2, 4)
    seen = "Seen" if option.group == "experiment" else "Recipes, with the figure reached"
    for title, body in (
        ("Options", list(_options(option, config_dirs, width))),
        ("What fits", [line for label, text in facts(option, config_dirs) for line in _fact(label, text, width)]),
        (seen, list(_recipes(option, recipes, width))),
        ("References", wrapped_lines(said.get("References", ""), width)),
    ):
        lines += ["", title, *body] if body else []
    return lines


def wrapped(text: str, width: int, indent: int, hang: int = 0, long: bool = False) -> list[str]:
    """Text in lines of a width, the first indented and the others ``hang`` more; ``long``: words may be cut, too."""
    text = " ".join(text.replace("``", "`").split())
    first, others = " " * indent, " " * (indent + hang)
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=others, break_on_hyphens=False, break_long_words=long
    )


def wrapped_lines(text: str, width: int) -> list[str]:
    """A list whose entries go on in deeper lines, as references in a docstring do."""
    entries: list[str] = []
    for line in text.splitlines():
        if line.startswith(" ") and entries:
            entries[-1] += f" {line.strip()}"
        elif line.strip():
            entries.append(line)
    return [line for entry in entries for line in wrapped(entry, width, 2, 4)]


def _paragraph(text: str, width: int) -> list[str]:
    """A paragraph of a docstring; equations and lists, which are indented or begin with a dash, keep their lines."""
    lines = text.splitlines()
    if any(line.startswith((" ", "- ")) for line in lines):
        return [part for line in lines for part in wrapped(line, width, len(line) - len(line.lstrip()), 2)]
    return wrapped(text, width, 0)


def _fact(label: str, text: str, width: int) -> list[str]:
    return wrapped(f"{label}: {text}", width, 2, 4)


# --- options ---------------------------------------------------------------------------------------------------------


def _options(option: Option, config_dirs: Sequence[str], width: int) -> Iterator[str]:
    """Each key with its default, what it may be, and what it does."""
    if option.group == "experiment":
        chosen = [(names.chosen(group, ""), name) for group, name in option.partners.items() if name is not None]
        for text in (*map("".join, chosen), *(f"{key}={_plain(value)}" for key, value in option.keys.items())):
            yield from wrapped(text, width, 2, 4, long=True)
        return
    known, beside = declared(option), notes.comments(option, config_dirs)
    section = _section(option)
    for key, value in option.keys.items():
        top, *inner = key.split(".")
        if key.endswith("_target_") or top in option.nested or (option.group == "optimizer" and key == "name"):
            continue
        own = known.get(top) if not inner else None
        yield from wrapped(f"{section}.{key}={_plain(value)}", width, 2, 4)
        about = beside.get(key) or (own.about if own else "") or (beside.get(top, "") if inner else "")
        about = "" if _ALTERNATIVES.fullmatch(about) and own and own.words else re.sub(r"\bNone\b", "null", about)
        told = "; ".join(text for text in (own.words if own else "", about) if text)
        yield from wrapped(told, width, 6)
    for at, group in option.nested.items():
        yield from wrapped(f"{group}@{section}.{at}=NAME", width, 2, 4)
        what = f"its {group}" if option.held.get(at) or at not in known else known[at].about.rstrip(".")
        held = f", {option.held[at]} by itself" if option.held.get(at) else ""
        yield from wrapped(f"{what}{held}; gencli list {group} tells which there are", width, 6)


def _section(option: Option) -> str:
    """Where the keys of an option stand."""
    nested = {"net": "model.net", "path": "model.path", "kernel": "sampler.kernel"}
    listed = {"metric": f"metrics.{option.name}", "logger": f"logger.{option.name}"}
    return {**nested, **listed}.get(option.group, option.group)


def _plain(value: Any) -> str:
    """A value as the command line takes it.

    Example:
        >>> _plain([512, None, True])
        '[512,null,true]'
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(_plain, value))}]"
    return str(value)


# --- examples and recipes --------------------------------------------------------------------------------------------


def _examples(option: Option, config_dirs: Sequence[str], recipes: Sequence[notes.Recipe]) -> list[str]:
    """A command that uses it."""
    group, choice = option.group, names.chosen(option.group, option.name)
    if group == "experiment":
        return [command for recipe in recipes if recipe.name == option.name for command in recipe.commands]
    if group in ("estimator", "metric"):
        return [f"gencli eval run=latest {choice}{_asking(option)}"]
    if group in ("sampler", "picture"):
        return [f"gencli sample run=latest {choice}{_asking(option)}"]
    if group == "kernel":
        return [f"gencli sample run=latest sampler=chain {choice}"]
    if group in ("model", "data"):
        model, data = _pair(option, config_dirs, recipes)
        return [f"gencli train model={model} data={data}"] if model and data else []
    if group in ("objective", "net", "path"):
        model = _model_for(option, config_dirs)
        return [f"gencli train model={model} {choice}"] if model else []
    return [f"gencli train {choice}"]


def _asking(option: Option) -> str:
    """What a picture or a metric needs beside it; of an answer the question, in place of a sampler."""
    info = catalog.class_info(option.target) if option.target else None
    if info is None:
        return ""
    if "question" in info.attributes:
        return f" sampler={info.attributes['question'] or info.attributes['option']}"
    return f" {info.attributes['example_keys']}" if info.attributes.get("example_keys") else ""


def _pair(option: Option, config_dirs: Sequence[str], recipes: Sequence[notes.Recipe]) -> tuple[str | None, str | None]:
    """A model and data that go together, one of which is the option; a recipe's where there is one."""
    other = "data" if option.group == "model" else "model"
    used = [recipe.choices.get(other) for recipe in recipes if recipe.choices.get(option.group) == option.name]
    fitting = compatibility.data_for if option.group == "model" else compatibility.models_for
    fits = fitting(option, config_dirs)
    usual = _USUAL[other]
    told = option.keys.get("conditional") is True  # by default: not every data set has what it is told
    reals = ["moons"] if other == "data" and "binary" not in _supports(option) and not told else []
    tried = [*(name for name in usual if name in used), *(reals if other == "data" else usual), *used, *usual, *fits]
    found = next((name for name in tried if name in fits), None)
    return (option.name, found) if other == "data" else (found, option.name)


def _supports(option: Option) -> Sequence[str]:
    info = catalog.class_info(option.target) if option.target else None
    return info.attributes.get("supports", ()) if info else ()


_USUAL = {
    "data": ("moons", "digits", "karate", "tinyshakespeare", "ising", "lorenz96"),
    "model": ("ergm", "realnvp", "transformer", "made"),
}
"""What examples take where it fits."""


def _model_for(option: Option, config_dirs: Sequence[str]) -> str | None:
    """A model that uses an objective, network or path by itself, else one that can."""
    models = catalog.options("model", config_dirs)
    if option.group == "objective":
        brings = [name for name, model in models.items() if model.partners.get("objective") == option.name]
        return next(iter([*brings, *compatibility.fitting_models(option.target, config_dirs)]), None)
    return next((name for name, model in models.items() if model.nested.get(option.group) == option.group), None)


def _recipes(option: Option, recipes: Sequence[notes.Recipe], width: int) -> Iterator[str]:
    if option.group == "experiment":
        found = [recipe for recipe in recipes if recipe.name == option.name]
        yield from (line for recipe in found if recipe.seen for line in wrapped(recipe.seen, width, 2))
        return
    found = [recipe for recipe in recipes if recipe.choices.get(option.group) == option.name]
    found.sort(key=lambda recipe: not recipe.figure)
    for recipe in found[:RECIPES]:
        yield f"  experiment={recipe.name}"
        yield from wrapped(recipe.about, width, 6)
        yield from wrapped(recipe.figure or "not measured yet", width, 6)
    if len(found) > RECIPES:
        yield f"  and {len(found) - RECIPES} more: gencli list experiment"


# --- what fits -------------------------------------------------------------------------------------------------------

BOUNDS = {
    "exact": "the NLL itself",
    "upper": "an upper bound on the NLL",
    "lower": "a lower bound on the NLL",
    "estimate": "an estimate of the NLL, no bound",
}


def facts(
    option: Option, config_dirs: Sequence[str] = (), labels: Sequence[str] | None = None
) -> Iterator[tuple[str, str]]:
    """What an option's class says of itself and what fits it, as pairs of a label and a text that is not empty.

    Args:
        option: the option.
        config_dirs: the user's own directories of options.
        labels: those that are wanted; None: all, of which who fits whom takes a while.
    """
    told = [*_declared(option)]
    told += _fitting(option, config_dirs) if labels is None else []
    return ((label, text) for label, text in told if text and (labels is None or label in labels))


def _declared(option: Option) -> Iterator[tuple[str, str]]:
    """What the class says of itself."""
    info = catalog.class_info(option.target) if option.target else None
    attributes = info.attributes if info else {}
    if option.group == "model" and option.target:
        yield "offers", ", ".join(compatibility.capabilities(option.target))
        own = compatibility.layouts(option.target)
        yield "values of x", ", ".join(attributes.get("supports", ()))
        yield "data laid out as", ", ".join(name for name in compatibility.LAYOUTS if name in own)
        yield "brings", ", ".join(f"{g}={c}" if c else f"no {g}" for g, c in option.partners.items())
    elif option.group in compatibility.PARTS and info:
        requires = attributes.get("requires", ())
        yield "requires", ", ".join(name.rpartition(".")[2] for name in requires) or "nothing"
        yield "values of x", ", ".join(compatibility.values(option))
        yield "data laid out as", ", ".join(compatibility.laid_out(option))
        yield "the number is", BOUNDS.get(attributes.get("bound", ""), "")
    elif option.group == "data" and info:
        known = [str(attributes[key]) for key in ("support", "shape") if attributes.get(key)]
        yield "is", ", ".join([*known, compatibility.layout(option.target)])
        yield "classes", str(attributes.get("classes") or "")
    elif option.group == "metric" and info:
        yield "needs", str(attributes.get("needs", ""))
        yield "better", str(attributes.get("better", ""))
    elif option.group == "kernel" and info:
        yield "moves x that is", ", ".join(attributes.get("moves", ()))


def _fitting(option: Option, config_dirs: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Who fits whom."""
    if option.group == "model" and option.target:
        for part in compatibility.PARTS:
            yield f"{part}s", ", ".join(compatibility.fitting(part, option.target, config_dirs))
        yield "data", ", ".join(compatibility.data_for(option, config_dirs))
    elif option.group in compatibility.PARTS:
        yield "models", ", ".join(compatibility.fitting_models(option, config_dirs)) or "none"
    elif option.group == "data":
        yield "models", ", ".join(compatibility.models_for(option, config_dirs))
    elif option.group in ("net", "path", "kernel"):
        holders = {
            f"{group}={name} ({option.group}@{group}.{at})"
            for group in ("model", "objective", "sampler", "picture")
            for name, other in catalog.options(group, config_dirs).items()
            for at, inner in other.nested.items()
            if inner == option.group
        }
        yield "stands in", ", ".join(sorted(holders))
