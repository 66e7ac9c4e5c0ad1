"""Where Optuna keeps the study of a search: SQLite within the folder of a sweep, another database, a journal file.

A storage is data, and may come from a stranger. Nothing in one is code, but SQLite writes while it opens a file:
through a symbolic link; and where a journal is left that names another file, as those of transactions over several
databases do, it removes that file. Views may have no end. A file that holds any of this is not opened.
"""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import URL, NullPool
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from gencli.config.multirun import Search
from gencli.core.errors import RunFailed, UsageError, quoted
from gencli.core.files import named

DATABASE = "search.db"
"""SQLite file within the folder of a sweep."""

PATIENCE = 60.0
"""Seconds for which a process waits while others write to an SQLite file."""

_OTHERS = bytes.fromhex("d9d505f920a163d7")
"""The end of a journal that names another file (https://www.sqlite.org/fileformat.html, The Rollback Journal)."""


def location(search: Search, folder: Path) -> str:
    """Where the storage is: a URL, or a journal file.

    Raises:
        UsageError: it is neither.
    """
    text = search.options.storage
    if text is None:
        return URL.create("sqlite", database=str((folder / DATABASE).absolute())).render_as_string()
    if "://" in text:
        try:
            make_url(text)
        except ArgumentError:
            raise UsageError(f"search.storage={quoted(text)}: this is no URL of a database") from None
        return text
    if not text.endswith(".log"):
        raise UsageError(
            f"search.storage={quoted(text)}: a URL such as sqlite:///FILE or postgresql://HOST/NAME, "
            "or a journal file whose name ends in .log, is needed"
        )
    return str(named(text, "search.storage=").absolute())


def opened(where: str) -> BaseStorage:
    """The storage at a location.

    Raises:
        UsageError: its file is none of Optuna's.
        RunFailed: it is a symbolic link.
    """
    if "://" not in where:
        _plain_file(Path(where))
        return JournalStorage(JournalFileBackend(where))
    options: dict[str, Any] = {"poolclass": NullPool}  # no connection is open when a job is forked
    if where.startswith("sqlite"):
        options["connect_args"] = {"timeout": PATIENCE}
        if database := make_url(where).database:
            _plain_database(Path(database))
    return RDBStorage(where, engine_kwargs=options)


def _plain_file(file: Path) -> bool:
    """Whether a file is there.

    Raises:
        UsageError: it is a pipe, a device, a folder.
        RunFailed: it is a symbolic link.
    """
    if file.is_symlink():
        raise RunFailed(f"{quoted(file, 300)} is a symbolic link: nothing is written through it; name what it leads to")
    if not file.exists():
        return False
    if not stat.S_ISREG(file.stat().st_mode):
        raise UsageError(f"{quoted(file, 300)} is no file")
    return True


def _plain_database(file: Path) -> None:
    journal = file.with_name(f"{file.name}-journal")
    if _plain_file(journal):
        with journal.open("rb") as stream:
            stream.seek(max(0, journal.stat().st_size - len(_OTHERS)))
            if stream.read() == _OTHERS:
                raise UsageError(f"{quoted(journal, 300)} names another file, which SQLite would remove")
    if not _plain_file(file):
        return
    with closing(sqlite3.connect(file, timeout=PATIENCE)) as database:
        odd = database.execute("SELECT type, name FROM sqlite_master WHERE type IN ('view', 'trigger')").fetchone()
    if odd:
        raise UsageError(f"{quoted(file, 300)} holds the {odd[0]} {quoted(odd[1])}; a study has none")
