"""What a table is understood to mean, as a run keeps it in data.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gencli.core.errors import UsageError, quoted
from gencli.data.columns import Column


@dataclass(frozen=True)
class Meaning:
    """What was understood of the training file.

    Args:
        columns: of x, in order.
        classes: names of the classes 0, 1, ..., or None.
        header: whether the file names its columns; else they are called 0, 1, ...
        width: number of columns of a file without names; they have no other mark.
        separator: of a text file.
        decimal: of a text file.
        kinds: of each column where each has a support of its own, else None.
    """

    columns: list[str]
    classes: list[str] | None
    header: bool
    width: int
    separator: str | None
    decimal: str | None
    kinds: list[Column] | None = None

    @classmethod
    def parse(cls, schema: Mapping[str, Any], labelled: bool) -> Meaning:
        """Read a schema.

        Raises:
            UsageError: it is damaged.
        """
        kinds: dict[str, Any] = {"columns": list, "classes": list | None, "header": bool, "width": int}
        kinds |= {"separator": str | None, "decimal": str | None}
        for key, kind in kinds.items():
            value = schema.get(key)
            names = value if isinstance(value, list) else []
            twice = len({*map(str, names)}) < len(names) or not all(isinstance(name, str) for name in names)
            if key not in schema or not isinstance(value, kind) or twice or value == []:
                raise UsageError(f"data.json is damaged: {key}={quoted(value)}")
        if (schema["classes"] is not None) != labelled:
            has = "no classes" if schema["classes"] is None else "classes"
            raise UsageError(f"data.label: the run's data.json has {has}")
        columns = schema.get("kinds")
        if columns is not None and not (isinstance(columns, list) and len(columns) == len(schema["columns"])):
            raise UsageError(f"data.json is damaged: kinds={quoted(columns)}")
        own = None if columns is None else [Column.kept(column) for column in columns]
        return cls(**{key: schema[key] for key in kinds}, kinds=own)
