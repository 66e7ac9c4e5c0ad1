"""What the comments of our YAML files say: of each key, and of each recipe the figure that it has reached."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gencli.config import catalog
from gencli.config.catalog import Option
from gencli.config.locate import config_dir

_PARTS = ("model", "data", "objective", "sampler", "estimator")
"""Groups of which a recipe always takes an option, chosen or not."""

_LINE = re.compile(r"^(?P<indent> *)(?P<key>\w+):(?P<value>.*?)(?:\s#\s(?P<comment>.*))?$")


@dataclass(frozen=True)
class Recipe:
    """An option of the group ``experiment``.

    Args:
        name: of the recipe.
        about: what it is, in one line.
        choices: the options that it takes, by group; those that its model brings are among them.
        commands: the commands on top of its file.
        seen: the figure that was reached, as the file tells it; empty where it tells none.
    """

    name: str
    about: str
    choices: dict[str, str | None]
    commands: tuple[str, ...]
    seen: str

    @property
    def figure(self) -> str:
        """``seen`` up to how it was come by."""
        return re.split(r", seeds? \d|; ", self.seen)[0].removeprefix("test ").strip()


def file_of(group: str, name: str, config_dirs: Sequence[str | Path] = ()) -> Path | None:
    """The YAML file of an option; ours before the user's own."""
    files = (Path(folder) / group / f"{name}.yaml" for folder in (config_dir(), *config_dirs))
    return next((file for file in files if file.is_file()), None)


def comments(option: Option, config_dirs: Sequence[str | Path] = ()) -> dict[str, str]:
    """The comment beside each key of an option, by dotted key; those of the option that it inherits too."""
    file = file_of(option.group, option.name, config_dirs)
    if file is None:
        return {}
    text = file.read_text(encoding="utf-8")
    found = dict(_beside(text.splitlines()))
    for parent in re.findall(r"^  - (\w+)\s*$", text, re.MULTILINE):
        if parent != "_self_" and parent in (known := catalog.options(option.group, config_dirs)):
            found = {**comments(known[parent], config_dirs), **found}
    return found


def _beside(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    path: list[tuple[int, str]] = []
    told: list[str] = []  # of the key at the end of the path, with the lines below that go on in the same column
    column = -1
    for line in [*lines, "end:"]:
        match = _LINE.match(line)
        if match is None:
            if told and line.strip().startswith("#") and line.index("#") == column:
                told.append(line.strip().removeprefix("#").strip())
            continue
        if told:
            yield ".".join(key for _, key in path), " ".join(told)
        indent = len(match["indent"])
        path = [(at, key) for at, key in path if at < indent] + [(indent, match["key"])]
        told = [match["comment"].strip()] if match["comment"] else []
        column = match.start("comment") - 2


def recipes(config_dirs: Sequence[str | Path] = ()) -> list[Recipe]:
    """Every recipe, with the options that it takes."""
    defaults = catalog.primary("train")["defaults"]
    usual = {key: value for entry in defaults if isinstance(entry, dict) for key, value in entry.items()}
    models = catalog.options("model", config_dirs)
    found = []
    for name, option in catalog.options("experiment", config_dirs).items():
        own = {group: choice for group, choice in option.partners.items() if choice is not None}
        model = models.get(str(own.get("model") or usual["model"]))
        choices = {group: choice for group, choice in usual.items() if group in _PARTS}
        choices |= {**(model.partners if model else {}), **own}
        file = file_of("experiment", name, config_dirs)
        head = _head(file.read_text(encoding="utf-8")) if file else []
        commands = tuple(line.strip() for line in head if line.strip().startswith(("gencli ", "python ")))
        found.append(Recipe(name, option.description, choices, commands, _seen(head)))
    return found


def _head(text: str) -> list[str]:
    lines = text.splitlines()
    end = next((k for k, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return [line[1:].removeprefix(" ") for line in lines[:end]]


def _seen(head: Sequence[str]) -> str:
    """The paragraph that begins with ``Seen:``."""
    start = next((k for k, line in enumerate(head) if line.startswith("Seen: ")), None)
    if start is None:
        return ""
    rest = []
    for line in head[start + 1 :]:
        if not line.startswith("  "):
            break
        rest.append(line.strip())
    text = " ".join([head[start].removeprefix("Seen: "), *rest])
    return "" if text.startswith("not measured") else text
