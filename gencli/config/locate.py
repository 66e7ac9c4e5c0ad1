"""Where configs and runs lie on disk. Imports nothing heavy: completion and `compare` start from here."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path

from gencli.core.errors import UsageError, near, quoted
from gencli.core.files import named


@cache
def config_dir() -> Path:
    """The shipped configs: inside an installed package, beside it in a source tree."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def runs(outputs: Path) -> list[Path]:
    """Run folders below a folder, the newest last."""
    records = [record for record in outputs.glob("**/run.json") if record.is_file()]
    return [record.parent for record in sorted(records, key=lambda record: (record.stat().st_mtime_ns, str(record)))]


def find_run(text: str) -> Path:
    """The run folder that ``run=`` or ``resume=`` names: a folder, a checkpoint inside it, or ``latest``.

    Raises:
        UsageError: there is none.
    """
    if text == "latest":
        found = runs(Path("outputs"))
        if not found:
            raise UsageError("latest: there is no run under outputs/ in this folder yet; gencli train makes one")
        return found[-1]

    path = named(text, "")
    if not path.exists():
        known = [str(run) for run in runs(Path("outputs"))]
        close = difflib.get_close_matches(text.rstrip("/"), known, n=3, cutoff=0.5) or known[-3:]
        raise UsageError(f"{quoted(text, 200)}: no such run folder. {near(text, close)}".rstrip())
    folder = path if path.is_dir() else path.parent
    for candidate in (folder, *folder.parents[:1]):
        if (candidate / "config.yaml").is_file() and any((candidate / name).exists() for name in _RUN):
            return candidate
    raise UsageError(f"{quoted(text, 200)}: no run folder (a run has run.json and config.yaml)")


_RUN = ("run.json", "checkpoints")
"""What a run has besides its config.yaml; run.json can be made anew."""


def checkpoint_in(text: str) -> str | None:
    """The checkpoint's path where ``run=`` names a file instead of a folder."""
    path = named(text, "")
    return str(path.resolve()) if path.is_file() else None
