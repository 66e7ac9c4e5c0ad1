"""Several runs in one picture: each is opened as any run is, with the command's own trust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gencli.core.errors import UsageError, quoted
from gencli.pictures.caption import number_of
from gencli.run.assembly import Parts
from gencli.run.run import Run, load

MOST = 12
"""Runs in a picture: there is no room for more."""


def opened(parts: Parts, names: Sequence[str], picture: str) -> list[Run]:
    """The run that the command is about, and those that it names besides.

    Args:
        parts: of the first run.
        names: run folders, or ``latest``.
        picture: its name, for messages.

    Raises:
        UsageError: there is no such run, or there are too many.
    """
    if parts.run is None:
        raise UsageError(f"picture={picture} needs a run folder")
    if len(names) >= MOST:
        raise UsageError(f"picture.runs: {len(names) + 1} runs; at most {MOST} have room")
    found = [Run(parts.run, trust=parts.trust, device=str(parts.device), parts=parts)]
    for name in names:
        try:
            found.append(load(name, trust=parts.trust, device=str(parts.device)))
        except UsageError as error:
            raise UsageError(f"picture.runs: {error}") from error
    return found


def labels_of(runs: Sequence[Run]) -> list[str]:
    """What runs are called: their models, where data differ these too, and where two are the same their folders."""
    models = [quoted(run.config["choices"].get("model"), 24) for run in runs]
    if len(set(data_of(runs))) > 1:
        models = [f"{model} on {data}" for model, data in zip(models, data_of(runs), strict=True)]
    folders = [quoted(run.path.resolve().name, 24) for run in runs]
    return [
        model if models.count(model) == 1 else f"{model}, {folder}"
        for model, folder in zip(models, folders, strict=True)
    ]


def data_of(runs: Sequence[Run]) -> list[str]:
    """The data that each run was trained on, by the name that chose them."""
    return [quoted(run.config["choices"].get("data"), 24) for run in runs]


def numbers_of(records: Sequence[Mapping[str, Any] | None]) -> list[str]:
    """The number of each run in a few short lines; it is said where one cannot be compared with the first."""
    first = next((record for record in records if record is not None), None)
    found = []
    for record in records:
        if record is None:
            found.append("no NLL")
            continue
        number, _, words = number_of(dict(record)).partition(" (")
        lines = [number, *words.removesuffix(")").split(", ")]
        gap = (record.get("diagnostics") or {}).get("nll_minus_entropy")
        lines += [f"NLL - H = {gap:.4f}"] if gap is not None else []
        lines += [] if _comparable(first, record) else ["not comparable with the first"]
        found.append("\n".join(lines))
    return found


def _comparable(first: Mapping[str, Any] | None, record: Mapping[str, Any]) -> bool:
    """Whether two numbers are of the same examples, in the same unit and by the same protocol."""
    keys = ("unit", "split", "split_sha256", "protocol")
    return first is None or all(first.get(key) == record.get(key) for key in keys)
