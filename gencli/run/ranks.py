"""Every row of a file beside the held-out rows of a run: its nats, and how many of them are likelier than it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd

from gencli.config import stored
from gencli.core.bounds import nats
from gencli.core.errors import RunFailed, UsageError
from gencli.core.files import named, write_whole
from gencli.run.record import NLLRecord

ENDINGS = (".csv", ".parquet")
WORST = 5
"""Rows that are told in the terminal."""


def target(text: str) -> Path:
    """The file that ``scores`` names, which may be written.

    Raises:
        UsageError: it is there already, its folder is not, or its ending is none of ``ENDINGS``.
    """
    path = named(text, "scores=")
    if path.suffix not in ENDINGS:
        raise UsageError(f"scores={path}: a file that ends in {' or '.join(ENDINGS)} is needed")
    if path.exists():
        raise UsageError(f"scores={path} is there already: remove it, or choose another name")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"scores={path}: there is no folder {path.parent}")
    return path


def ranked(run: Path, file: Path, record: NLLRecord) -> tuple[pd.DataFrame, str | None]:
    """A table of the rows of a record in their order: ``row`` from 0, ``nats``, ``percentile``.

    Nats of a window of text are those of a symbol of it. The percentile of a row is the share of the run's held-out
    rows that are likelier than it: 100 is less likely than all of them.

    Args:
        run: the run folder.
        file: of the record; beside it are the nats.
        record: as it was measured.

    Returns:
        The table, and the split that its percentiles are of; None: nothing held out was measured in the same way, and
        there is no percentile.
    """
    nats = _nats(file)
    table = pd.DataFrame({"row": np.arange(len(nats)), "nats": nats})
    for split in ("test", "val"):
        known = run / "eval" / f"{split}-{record.name}.json"
        if known.exists() and _alike(stored.record(known), record):
            held_out = np.sort(_nats(known))
            return table.assign(percentile=100 * np.searchsorted(held_out, nats) / len(held_out)), split
    return table, None


def _nats(file: Path) -> np.ndarray:
    scores = stored.scores(file.with_suffix(".npz"))
    if scores is None:
        raise RunFailed(f"{file.with_suffix('.npz')} is not there: measure again")
    return scores["nll"] / scores["counts"] if "counts" in scores else scores["nll"]


def _alike(known: dict[str, object], record: NLLRecord) -> bool:
    return all(known.get(key) == getattr(record, key) for key in ("settings", "weights", "checkpoint_sha256", "seed"))


def write(path: Path, table: pd.DataFrame) -> None:
    """The table as CSV or Parquet, by the ending."""
    if path.suffix == ".csv":
        write_whole(path, table.to_csv(index=False))
        return
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_whole(path, buffer.getvalue())


def worst(table: pd.DataFrame, split: str | None) -> list[str]:
    """Lines of the least likely rows, the worst first."""
    rows = table.sort_values("nats", ascending=False, kind="stable").head(WORST).to_dict("records")
    beside = f", and the share of {split} rows that are likelier" if split else ""
    lines = [f"least likely rows, counted from 0{beside}"]
    return lines + [
        f"  row {row['row']}  {nats(row['nats'])} nats" + (f"  {row['percentile']:.1f} %" if split else "")
        for row in rows
    ]
