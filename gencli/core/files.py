"""Files written whole or not at all, and never outside of the folder that they belong to."""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gencli.core import seals
from gencli.core.errors import RunFailed, UsageError, quoted


def named(text: str, key: str) -> Path:
    """A path as a person or a run names it; ~ is the home folder. Nothing need be there.

    Raises:
        UsageError: it cannot be a path.

    Example:
        >>> named("~/table.csv", "data.path=") == Path.home() / "table.csv"
        True
    """
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # too long; no such user; a NUL byte
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"{key}{quoted(text)}: {reason}") from error
    return path


def user_cache() -> Path:
    """Where gencli keeps for the user what can be had again: data, classifiers, numbers of large tables."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("gencli"))


_held: dict[Path, tuple[int, int]] = {}


def hold(folder: Path) -> None:
    """Write below a folder from now on only while it is the one that it is now: ``inside`` sees to it."""
    _held[folder] = _identity(folder)


def let_go(folder: Path) -> None:
    """Undo ``hold``."""
    _held.pop(folder, None)


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def inside(folder: Path, *names: str) -> Path:
    """The path folder/name/... of a file that may be written; folders between are made.

    A run folder may hold symbolic links, which lead to whatever its maker wished; nothing is written through one.

    Raises:
        UsageError: a name is no plain file name.
        RunFailed: the folder is gone, or another one than that which is held; a part below it is a symbolic link, or
            what should be a folder is none.
    """
    if not folder.is_dir():
        raise RunFailed(f"{folder} is no folder any more")
    if folder in _held and _held[folder] != _identity(folder):
        raise RunFailed(f"{folder} is another folder than the one that was held: it was moved or removed")
    path = folder
    for position, name in enumerate(names):
        if name in ("", ".", "..") or "/" in name or os.sep in name or not name.isprintable():
            raise UsageError(f"{quoted(name)}: a file name without / is needed")
        path = path / name
        last = position == len(names) - 1
        try:
            link = path.is_symlink()
        except OSError as error:  # too long, no permission
            raise RunFailed(f"{quoted(path, 300)} cannot be written: {error.strerror or error}") from error
        if link:
            raise RunFailed(f"{path} is a symbolic link: nothing is written through it; remove it")
        if not last and not path.is_dir():
            try:
                path.mkdir()
            except OSError as error:
                raise RunFailed(f"{path} cannot be made: {error.strerror or error}") from error
    return path


def write_whole(path: Path, data: bytes | str) -> None:
    """Write a file whole or not at all; its folder has to be there.

    Raises:
        RunFailed: the disk is full, the folder gone or read-only, something else is in its place.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new, empty file to write to, which takes the place of a path at the end: fsync, rename, fsync of the folder.

    Raises:
        RunFailed: as for ``write_whole``.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            temporary.open("xb").close()  # a new file, for sure
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(path.parent)
    except OSError as error:
        raise RunFailed(f"{path} cannot be written: {error.strerror or error}") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a new folder of files whole or not at all.

    Raises:
        RunFailed: as ``write_whole``; or it is there already.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir(parents=True)
        for name, data in files.items():
            (temporary / name).write_bytes(data)
        os.rename(temporary, path)
    except OSError as error:
        raise RunFailed(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people and programs, whole."""
    write_whole(path, json.dumps(value, indent=2) + "\n")


def standard_json(value: Any, indent: int | None = None) -> str:
    """JSON for other programs: numbers that are not finite, which JSON has not, as texts.

    Files of a run have them as Python writes and reads them, bare.

    Example:
        >>> standard_json({"value": math.inf, "se": [math.nan, 0.5]})
        '{"value": "Infinity", "se": ["NaN", 0.5]}'
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    """The same with texts in the place of numbers that are not finite."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return json.dumps(value) if isinstance(value, float) and not math.isfinite(value) else value


def write_sealed(path: Path, value: Mapping[str, Any], **about: str | None) -> None:
    """Write JSON with a seal, by which damage shows (``seals``)."""
    write_json(path, seals.sealed(value, **about))


def append(path: Path, text: str) -> None:
    """Add to the end of a file, which is made if it is not there.

    Raises:
        RunFailed: a link or something else is in its place.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with open(os.open(path, flags, 0o666), "a", encoding="utf-8") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise RunFailed(f"{path} cannot be written: it is no file")
            if found.st_nlink == 1:
                file.write(text)
                return
    except OSError as error:  # on closing too: a full disk
        raise RunFailed(f"{path} cannot be written: {error.strerror or error}") from error
    write_whole(path, path.read_bytes() + text.encode())  # a file of two names: the other one keeps what it had
