"""What the cases of all kinds are made of: places, cases, changes of a good run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

SECRET = "correct-horse-battery-staple"
"""In the environment of every command: a config that is interpolated shows it."""

ESCAPE = "\x1b]0;pwn\x07"
MARKUP = "[link=file:///x]click[/link][/]"
HUGE = 10**400


@dataclass(frozen=True)
class Place:
    """Where a case happens: everything below ``scratch`` is its own.

    Args:
        scratch: the whole.
        work: the working directory of the command.
        run: the run folder, below ``work/outputs``.
        outside: a folder that is none of the command's business.
        path: a folder on Python's path.
        good: the good runs, by name; to be read only.
    """

    scratch: Path
    work: Path
    run: Path
    outside: Path
    path: Path
    good: Path

    @property
    def mark(self) -> str:
        """The file that code of the stranger would write."""
        return str(self.scratch / "ran")


@dataclass(frozen=True)
class Case:
    """One hostile run.

    Args:
        name: ``group/what``, unique.
        change: makes the copy of a good run hostile.
        verbs: what to try, see ``opening.COMMANDS``.
        base: the good run that is copied.
        extra: further words of train, sample and eval.
        name_of_run: the last part of the run's path, if it matters.
    """

    name: str
    change: Callable[[Place], None]
    verbs: tuple[str, ...] = ("sample", "eval", "resume")
    base: str = "flow"
    extra: tuple[str, ...] = ()
    name_of_run: str = "run"

    @property
    def group(self) -> str:
        return self.name.partition("/")[0]


ALL = ("sample", "eval", "resume")
OPENING = ("sample", "eval", "resume", "load")
READING = ("compare", "compare-json", "compare-csv", "load")
SECTIONS = ("model", "data", "objective", "sampler", "estimator", "optimizer", "trainer", "logger", "choices")
VERBS = {
    "sampler": ("sample", "resume"),
    "estimator": ("eval", "resume"),
    "optimizer": ("sample", "again"),
    "trainer": ("sample", "again"),
    "logger": ("eval", "again"),
    "choices": ("eval", "again"),
}
"""Verbs that read a section; all of them the others."""


def verbs_of(section: str, turn: int | None = None) -> tuple[str, ...]:
    """The verbs that read a section; of three of them two in turn, where there are many cases of one kind."""
    found = VERBS.get(section.partition(".")[0], ALL)
    return found if turn is None or len(found) < 3 else tuple(v for k, v in enumerate(found) if k != turn % 3)


def edit(place: Place, path: str, value: object, folder: Path | None = None) -> None:
    """Set a dotted key of config.yaml; "" is all of it."""
    file = (folder or place.run) / "config.yaml"
    config = yaml.safe_load(file.read_text())
    if path:
        *parents, last = path.split(".")
        node = config
        for key in parents:
            if not isinstance(node.get(key), dict):
                node[key] = {}
            node = node[key]
        node[last] = value
    else:
        config = value
    file.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=False))


def merge(place: Place, section: str, values: dict) -> None:
    """Add keys to a section of config.yaml ("" is the top level)."""
    file = place.run / "config.yaml"
    config = yaml.safe_load(file.read_text())
    node = config
    for key in section.split(".") if section else ():
        if not isinstance(node.get(key), dict):
            node[key] = {}
        node = node[key]
    own = dict(node)
    node.clear()
    node.update({**values, **own, **values})  # first, where Hydra looks for a defaults list
    file.write_text(yaml.safe_dump(config, sort_keys=False))


def setting(path: str, value: object) -> Callable[[Place], None]:
    return lambda place: edit(place, path, value)


def merging(section: str, values: dict) -> Callable[[Place], None]:
    return lambda place: merge(place, section, values)


def both(*changes: Callable[[Place], None]) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        for each in changes:
            each(place)

    return change


def text(function: Callable[[str], str | bytes]) -> Callable[[Place], None]:
    """Change config.yaml as a text."""

    def change(place: Place) -> None:
        file = place.run / "config.yaml"
        found = function(file.read_text())
        file.write_bytes(found if isinstance(found, bytes) else found.encode("utf-8", "surrogatepass"))

    return change


def of_json(name: str, path: Sequence[str | int], value: object) -> Callable[[Place], None]:
    """Set a key of a JSON file of the run; values that are no JSON are written as Python does."""

    def change(place: Place) -> None:
        file = place.run / name
        content = json.loads(file.read_text())
        node = content
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value
        file.write_text(json.dumps(content))

    return change


def content(name: str, data: bytes | str | Callable[[Place], bytes]) -> Callable[[Place], None]:
    """Replace a file of the run."""

    def change(place: Place) -> None:
        found = data(place) if callable(data) else data
        (place.run / name).parent.mkdir(exist_ok=True, parents=True)
        (place.run / name).write_bytes(found if isinstance(found, bytes) else found.encode("utf-8", "surrogatepass"))

    return change


def sparse(name: str, size: int = 40 * 2**30) -> Callable[[Place], None]:
    """A file that is large and holds nothing: it takes no room on the disk."""

    def change(place: Place) -> None:
        with (place.run / name).open("wb") as file:
            file.truncate(size)

    return change


def fifo(name: str) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        (place.run / name).unlink(missing_ok=True)
        os.mkfifo(place.run / name)

    return change


def device(name: str) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        (place.run / name).unlink(missing_ok=True)
        (place.run / name).symlink_to("/dev/zero")

    return change


def folder(name: str) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        (place.run / name).unlink(missing_ok=True)
        (place.run / name).mkdir()

    return change


def evil_package(where: Path, mark: str, name: str = "evil") -> None:
    """A package whose import is seen."""
    (where / name).mkdir(parents=True)
    (where / name / "__init__.py").write_text(
        f"open({mark!r}, 'w').close()\nopen('ran', 'w').close()\nclass Model: pass\nclass Callback: pass\n"
    )


class Payload:
    """A pickle of it runs a command where it is opened."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.mark}",)


def other_run(place: Place, name: str, base: str = "flow") -> Path:
    """Another run of the stranger, beside the first."""
    found = place.run.parent / name
    shutil.copytree(place.good / base, found)
    return found


def unseal(run: Path) -> None:
    """Take the seals out of a run's files, so that what is changed in them is read."""
    config = run / "config.yaml"
    config.write_text("".join(line for line in config.read_text().splitlines(keepends=True) if line[:2] != "# "))
    for file in (run / "run.json", *(run / "eval").glob("*.json")):
        found = json.loads(file.read_text())
        found.pop("seal", None)
        file.write_text(json.dumps(found, indent=2) + "\n")
