"""Where data files lie, and what to say when they do not.

Files are read where they are, compressed ones too: nothing is unpacked, and a root that holds everything is never
written to.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from gencli.core.errors import UsageError, quoted
from gencli.core.files import named, user_cache
from gencli.core.torchvision_compat import torchvision


def data_root(root: str | None) -> Path:
    """The folder of data files: ``data.root``, else $GENCLI_DATA, else the user's cache folder."""
    chosen = root or os.environ.get("GENCLI_DATA")
    if chosen:
        return named(chosen, "data.root=")
    return user_cache() / "data"


def user_path(path: str | None, what: str, key: str = "data.path", typed: Mapping[str, str] | None = None) -> Path:
    """``data.path``, or what another key names, as an existing file or folder.

    Raises:
        UsageError: it is not given, or nothing is there.
    """
    if not path:
        raise UsageError(f"{key} is needed: {what}")
    found = named(path, f"{key}=")
    if not found.is_file() and not found.is_dir():
        said = f"{quoted(typed[path], 200)} ({quoted(path, 200)})" if typed and path in typed else quoted(path, 200)
        raise UsageError(f"{key}={said}: there is no such file or folder; {what} is expected")
    return found


def need(path: Path, instructions: str) -> Path:
    """A file that only the user can fetch.

    Raises:
        UsageError: it is not there.
    """
    if not path.is_file() and not path.is_dir():
        raise UsageError(f"{path} is missing: {instructions} (data.root or GENCLI_DATA says where data lie)")
    return path


def md5(path: Path) -> str:
    """MD5 of a file, in the form in which the data sets publish it."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fetch(path: Path, expected_md5: str, urls: Sequence[str], download: bool = True) -> Path:
    """A published file: the one that lies at path, else downloaded there by torchvision. Its MD5 is checked.

    Raises:
        UsageError: the file is damaged, or it is not there and cannot be downloaded; says how to put it there by hand.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no file: remove it, or change data.root")
    if not path.exists():
        may_download(path, download)
        _download(path, expected_md5, urls)
    elif md5(path) != expected_md5:
        raise UsageError(f"{path} is damaged (its MD5 is not {expected_md5}): remove it, or change data.root")
    return path


def may_download(path: Path, download: bool) -> None:
    """Refuse to write into a folder that a run names: a run may come from anywhere.

    Raises:
        UsageError: says how to name the folder on this command.
    """
    if not download:
        raise UsageError(
            f"{path} is missing, and nothing is downloaded into a folder that a run names: name one with data.root=PATH"
        )


def _download(path: Path, expected_md5: str, urls: Sequence[str]) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")  # two processes do not write into one file
    patience = socket.getdefaulttimeout()
    reason = "no address"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        utils = torchvision("datasets.utils")
        socket.setdefaulttimeout(20)  # torchvision's downloader waits for ever
        for url in urls:
            try:
                utils.download_url(url, str(path.parent), partial.name, expected_md5)
                os.replace(partial, path)
                return
            except (OSError, RuntimeError) as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    except OSError as error:  # a read-only root
        reason = str(error)
    finally:
        socket.setdefaulttimeout(patience)
        with suppress(OSError):
            partial.unlink()
    raise UsageError(
        f"{path} is missing and could not be downloaded ({reason}): fetch {urls[0]} (MD5 {expected_md5}) by hand into "
        f"{path.parent}/, or set data.root (or GENCLI_DATA) to a folder that has it"
    )
