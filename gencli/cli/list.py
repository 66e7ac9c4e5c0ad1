"""`gencli list`: what exists, and what fits what. Reads configs and sources; imports neither torch nor Hydra."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

from gencli.cli.help import Parser
from gencli.config import catalog, compatibility
from gencli.config.catalog import Option
from gencli.core.errors import UsageError, near


def main(words: Sequence[str]) -> int:
    """Print the groups, or one of them in full.

    Raises:
        UsageError: there is no such group.
    """
    parser = Parser(prog="gencli list", add_help=False)
    parser.add_argument("group", nargs="?")
    parser.add_argument("--config-dir", "-cd", action="append", default=[])
    args = parser.parse_args(list(words))

    width = max(60, min(shutil.get_terminal_size((100, 24)).columns, 120))
    lines = group_page(args.group, args.config_dir, width) if args.group else overview(args.config_dir, width)
    print("\n".join(lines))
    return 0


def overview(config_dirs: Sequence[str], width: int) -> list[str]:
    """Every group with its options, one line each."""
    lines: list[str] = []
    for group in catalog.groups(config_dirs):
        found = catalog.options(group, config_dirs)
        column = max(map(len, found)) + 2
        lines += [f"{group}=", *(_entry(name, option.description, column, width) for name, option in found.items()), ""]
    return [*lines, "gencli list GROUP tells more, and what fits what."]


def group_page(group: str, config_dirs: Sequence[str], width: int) -> list[str]:
    """One group: each option with what it declares, then who fits whom."""
    known = catalog.groups(config_dirs)
    if group not in known:
        raise UsageError(f"'{group}' is no group. {near(group, known)}")

    found = catalog.options(group, config_dirs)
    column = max(map(len, found)) + 2
    lines: list[str] = []
    for name, option in found.items():
        lines.append(_entry(name, option.description, column, width))
        for label, text in _declared(option, config_dirs):
            lines += textwrap.wrap(
                f"{label} {text}", width, initial_indent=" " * (column + 2), subsequent_indent=" " * (column + 4)
            )
    if group == "model":
        for part in compatibility.PARTS:
            lines += _matrix(part, config_dirs, width)
    elif group in compatibility.PARTS:
        lines += _matrix(group, config_dirs, width)
    return lines


def _declared(option: Option, config_dirs: Sequence[str]) -> list[tuple[str, str]]:
    """What an option's class says of itself, as pairs of a label and a text."""
    info = catalog.class_info(option.target) if option.target else None
    told: list[tuple[str, str]] = []
    if option.group == "model" and option.target:
        told.append(("offers:", ", ".join(compatibility.capabilities(option.target))))
        if info:
            told.append(
                ("data:", ", ".join((*info.attributes.get("supports", ()), *info.attributes.get("shapes", ()))))
            )
        told.append(("brings:", ", ".join(f"{g}={c}" if c else f"no {g}" for g, c in option.partners.items())))
    elif option.group in compatibility.PARTS and info:
        requires = info.attributes.get("requires", ())
        told.append(("requires:", ", ".join(name.rpartition(".")[2] for name in requires) or "nothing"))
        told.append(("the number is:", _BOUNDS.get(info.attributes.get("bound", ""), "")))
        told.append(("models:", ", ".join(compatibility.fitting_models(option.target, config_dirs)) or "none"))
    elif option.group == "data" and info:
        keys = ("support", "shape_kind", "shape", "classes")
        told.append(("is:", ", ".join(str(info.attributes[key]) for key in keys if info.attributes.get(key))))
    elif option.group == "metric" and info:
        told.append(("needs:", str(info.attributes.get("needs", ""))))
        told.append(("better:", str(info.attributes.get("better", ""))))
        told.append(("keys:", ", ".join(key for key in option.keys if key != "_target_")))
    elif option.group == "kernel" and info:
        told.append(("moves x that is:", ", ".join(info.attributes.get("moves", ()))))
        told.append(("keys:", ", ".join(key for key in option.keys if key != "_target_")))
    elif option.group in ("optimizer", "trainer", "net", "path", "kernel", "logger"):
        told.append(("keys:", ", ".join(key for key in option.keys if key != "_target_")))
    return [(label, text) for label, text in told if text]


_BOUNDS = {
    "exact": "the NLL itself",
    "upper": "an upper bound on the NLL",
    "lower": "a lower bound on the NLL",
    "estimate": "an estimate of the NLL, no bound",
}


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


def _entry(name: str, description: str, column: int, width: int) -> str:
    room = width - column - 2
    return f"  {name.ljust(column)}{textwrap.shorten(description, room, placeholder=' ...')}".rstrip()
