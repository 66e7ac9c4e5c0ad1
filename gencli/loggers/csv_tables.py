"""Tables for spreadsheets: csv/<split>.csv with a row a step and a column a name."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from gencli.core.files import append, inside, write_whole
from gencli.loggers.base import Logger


class CSVTables(Logger):
    """Numbers as comma-separated values, a file for each split; pictures and texts have no place there.

    Args:
        folder: see ``Logger``.
        start: see ``Logger``.
    """

    def __init__(self, folder: Path, start: int = 0) -> None:
        super().__init__(folder, start)
        self.columns: dict[Path, list[str]] = {}
        for file in sorted((folder / "csv").glob("*.csv")) if (folder / "csv").is_dir() else ():
            own = inside(folder, "csv", file.name)
            rows = [row for row in _read(own) if (row.get("step") or "").isdigit()]
            self._write(own, [row for row in rows if start and int(row["step"]) <= start])

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for split in dict.fromkeys(name.partition("/")[0] for name in values):
            row = {name.partition("/")[2]: value for name, value in values.items() if name.startswith(f"{split}/")}
            self._add(inside(self.folder, "csv", f"{split}.csv"), {"step": step, **row})

    def _add(self, file: Path, row: Mapping[str, float]) -> None:
        known = self.columns.get(file, [])
        if {*row} <= {*known}:
            append(file, _table(known, [row], head=False))
        else:  # a number that there was not before
            self._write(file, [*(_read(file) if known else []), row])

    def _write(self, file: Path, rows: list[Mapping[str, float | str]]) -> None:
        self.columns[file] = list(dict.fromkeys(name for row in rows for name in row))
        write_whole(file, _table(self.columns[file], rows))

    def image(self, step: int, name: str, image: Tensor) -> None:
        pass

    def text(self, name: str, text: str) -> None:
        pass

    def close(self) -> None:
        pass


def _read(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return [{key: value for key, value in row.items() if key and value} for row in csv.DictReader(stream)]


def _table(columns: list[str], rows: list[Mapping[str, float | str]], *, head: bool = True) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if head:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
