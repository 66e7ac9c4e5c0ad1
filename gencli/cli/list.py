"""`gencli list`: what exists, and what fits what. Reads configs and sources; imports neither torch nor Hydra."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence

from gencli.cli.help import Parser
from gencli.cli.option_page import facts, option_page, wrapped
from gencli.config import catalog, compatibility, names
from gencli.config.catalog import Option
from gencli.config.sections import SearchOptions
from gencli.core import options
from gencli.core.errors import UsageError, near, quoted

FAMILIES = {
    "flows": "Flows: invertible maps of a simple density",
    "autoregressive": "Autoregressive: one coordinate after the other",
    "latent": "Latent variables",
    "diffusion": "Diffusion, flow matching and continuous flows",
    "energy": "Energies: densities up to their constant Z",
    "generator": "Generators: samples without a density",
    "classical": "Closed forms and classical models",
}
"""Families of models by the folder of their class."""

LAYOUTS = {
    "vector": "Points and tables",
    "image": "Images",
    "sequence": "Text and other sequences",
    "network": "Networks",
}
"""Families of data by how their coordinates are laid out."""


SEARCHES = {
    "tpe": "tree-structured Parzen estimators (Bergstra et al., 2011); choices and numbers",
    "cmaes": "evolution of a normal distribution (Hansen and Ostermeier, 2001); numbers, choices at random",
    "gp": "a Gaussian process; choices and numbers",
    "grid": "each combination of values and ranges once",
    "random": "uniform draws",
}
"""What proposes the jobs of a search, which is no group of parts: Optuna's samplers."""


def main(words: Sequence[str]) -> int:
    """Print the groups, one of them, or one option in full.

    Raises:
        UsageError: there is no such group or option.
    """
    parser = Parser(prog="gencli list", add_help=False)
    parser.add_argument("group", nargs="?")
    parser.add_argument("name", nargs="?")
    parser.add_argument("--matrix", action="store_true")
    parser.add_argument("--config-dir", "-cd", action="append", default=[])
    args = parser.parse_intermixed_args(list(words))

    width = max(60, min(shutil.get_terminal_size((100, 24)).columns, 120))
    if args.group is None:
        if args.matrix:
            raise UsageError("--matrix is of one group: gencli list model --matrix")
        lines = overview(args.config_dir, width)
    elif args.group == "search" and args.name is None and not args.matrix:
        lines = search_page(width)
    else:
        found = options_of(args.group, args.config_dir)
        if args.name is not None:
            lines = option_page(one_of(found, args.group, args.name), args.config_dir, width)
        elif args.matrix:
            lines = matrices(args.group, args.config_dir, width)
        else:
            lines = group_page(args.group, args.config_dir, width)
    print("\n".join(lines))
    return 0


def options_of(group: str, config_dirs: Sequence[str]) -> dict[str, Option]:
    """The options of a group.

    Raises:
        UsageError: there is no such group; names the near ones, and the option that is called so.
    """
    known = catalog.groups(config_dirs)
    if group in known:
        return catalog.options(group, config_dirs)
    if (own := names.group_of(names.folded(group))) is not None:
        raise UsageError(f"{quoted(group)!r} is no group. Did you mean gencli list {own}?")
    places = [f"gencli list {name} {group}" for name in known if group in catalog.options(name, config_dirs)]
    places = places or [_listed(choice) for choice in names.choices_for(group) if _listed(choice)]
    raise UsageError(f"{quoted(group)!r} is no group. {names.meant(places) or near(group, known)}")


def _listed(choice: str) -> str:
    """The page of an option that is chosen so; empty for what is no single option."""
    group, _, name = choice.split(" ")[0].partition("=")
    group = "metric" if group == "metrics" else group.partition("@")[0]
    return f"gencli list {group} {name.strip('[]')}" if group in catalog.GROUPS else ""


def one_of(found: Mapping[str, Option], group: str, name: str) -> Option:
    """An option of a group by its name.

    Raises:
        UsageError: there is none.
    """
    if name in found:
        return found[name]
    meant = [page for choice in names.choices_for(name, group) if (page := _listed(choice))]
    raise UsageError(f"{group}={quoted(name)}: there is no such {group}. {names.meant(meant) or near(name, found)}")


def overview(config_dirs: Sequence[str], width: int) -> list[str]:
    """Every group with its options, and what each of them is."""
    lines: list[str] = []
    for group in catalog.groups(config_dirs):
        found = catalog.options(group, config_dirs)
        column = max(map(len, found)) + 2
        lines.append(f"{group}=")
        for name, option in found.items():
            lines += entry(name, option.description, column, width)
        lines.append("")
    return [*lines, *_more(width)]


def _more(width: int) -> list[str]:
    text = (
        "gencli list GROUP tells more of its options, gencli list GROUP NAME all of one, such as: gencli list model maf"
    )
    return wrapped(text, width, 0)


def search_page(width: int) -> list[str]:
    """What ``search=`` may be, and its keys; a search is a sweep, and no group of parts."""
    lines = wrapped(
        "search=NAME has Optuna choose the jobs of a sweep: gencli train -m search=tpe search.trials=30", width, 0
    )
    column = max(map(len, SEARCHES)) + 2
    for name, text in SEARCHES.items():
        lines += entry(name, text, column, width)
    declared = options.of_dataclass(SearchOptions)
    for name, hint in declared.hints.items():
        if name != "sampler":
            lines += wrapped(f"search.{name}: {options.words(hint)}".rstrip(","), width, 2, 4)
    return lines


def group_page(group: str, config_dirs: Sequence[str], width: int) -> list[str]:
    """One group, by families where there are some: each option with what it declares."""
    found = options_of(group, config_dirs)
    column = max(map(len, found)) + 2
    lines: list[str] = []
    for title, members in families(group, found).items():
        lines += [title] if title else []
        for name in members:
            lines += entry(name, found[name].description, column, width)
            for label, text in _declared(found[name], config_dirs):
                lines += wrapped(f"{label}: {text}", width, column + 2, 2)
        lines.append("")
    if group == "model" or group in compatibility.PARTS:
        lines += wrapped(f"gencli list {group} --matrix tells which models and parts fit each other", width, 0)
    return [*lines, *wrapped(f"gencli list {group} NAME tells all of one", width, 0)]


def families(group: str, found: Mapping[str, Option]) -> dict[str, list[str]]:
    """The names of options under the title of their family; one family without a title where there are none."""
    if group not in ("model", "data"):
        return {"": [*found]}
    titles = FAMILIES if group == "model" else LAYOUTS
    members: dict[str, list[str]] = {title: [] for title in [*titles.values(), "Others"]}
    for name, option in found.items():
        room = (option.target or "").split(".")
        key = room[2] if group == "model" and room[:2] == ["gencli", "models"] and len(room) > 2 else ""
        members[titles.get(compatibility.layout(option.target) if group == "data" else key, "Others")].append(name)
    return {title: names_ for title, names_ in members.items() if names_}


_SHORT = {
    "model": ("values of x", "brings"),
    "objective": ("requires", "values of x"),
    "sampler": ("requires", "values of x"),
    "estimator": ("requires", "values of x", "the number is"),
    "picture": ("requires", "data laid out as"),
    "data": ("is",),
    "metric": ("needs", "better"),
    "kernel": ("moves x that is",),
}
"""What the page of a group tells of each option, of all that the page of the option tells."""


def _declared(option: Option, config_dirs: Sequence[str]) -> list[tuple[str, str]]:
    shown = _SHORT.get(option.group)
    if shown is None:
        keys = ", ".join(key for key in option.keys if not key.endswith("_target_"))
        return [("keys", keys)] if keys and option.group != "experiment" else []
    return [(label, text) for label, text in facts(option, config_dirs, shown) if text != "nothing"]


def matrices(group: str, config_dirs: Sequence[str], width: int) -> list[str]:
    """Models down, the options of each group that works with them across.

    Raises:
        UsageError: nothing of this group has to fit a model.
    """
    if group != "model" and group not in compatibility.PARTS:
        raise UsageError(
            f"--matrix is of model, {', '.join(compatibility.PARTS)}; {group} fits them all or by its keys"
        )
    parts = compatibility.PARTS if group == "model" else (group,)
    lines = [line for part in parts for line in _matrix(part, config_dirs, width)]
    return lines[1:]


def _matrix(part: str, config_dirs: Sequence[str], width: int) -> list[str]:
    """Models down, the options of one group across, in blocks that fit the width."""
    parts = [name for name, option in catalog.options(part, config_dirs).items() if option.target]
    models = {name: option.target for name, option in catalog.options("model", config_dirs).items() if option.target}
    if not parts or not models:
        return []
    fits = {name: compatibility.fitting(part, target, config_dirs) for name, target in models.items()}
    column = max(map(len, [*models, part])) + 2

    lines: list[str] = []
    while parts:
        block: list[str] = []
        while (parts and column + sum(len(name) + 2 for name in [*block, parts[0]]) <= width) or not block:
            block.append(parts.pop(0))
        lines += ["", part.ljust(column) + "  ".join(block)]
        for name, fitting in fits.items():
            marks = "  ".join(("x" if choice in fitting else ".").ljust(len(choice)) for choice in block)
            lines.append(f"{name.ljust(column)}{marks}".rstrip())
    return lines


def entry(name: str, description: str, column: int, width: int) -> list[str]:
    """A name and, beside it, what it is, in as many lines as that takes."""
    lines = wrapped(description, width - column - 2, 0) or [""]
    return [f"  {(name if k == 0 else '').ljust(column)}{line}".rstrip() for k, line in enumerate(lines)]
