"""Disks that are full, read-only or broken, and how a child meets them at a moment that is chosen.

A disk is a tmpfs of a few pages in mounts that end with this process; a broken one is a filter of system calls
(seccomp), which needs no rights. Linux only.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Callable
from pathlib import Path

PAGE = 4096
FILLER = ".filler"
_NEW_MOUNTS, _PRIVATE, _READ_ONLY, _REMOUNT = 0x20000, 0x44000, 1, 32
_libc = ctypes.CDLL(None, use_errno=True)


def own_mounts() -> str:
    """Give this process and its children mounts of their own; why that cannot be, or nothing."""
    if _libc.unshare(_NEW_MOUNTS) or _libc.mount(b"none", b"/", None, ctypes.c_ulong(_PRIVATE), None):
        return os.strerror(ctypes.get_errno())
    return ""


class Disk:
    """A small disk.

    Args:
        path: an empty folder where it is mounted.
        pages: of 4 KiB that it has.
        inodes: files and folders that it has; 0: no limit.
    """

    def __init__(self, path: Path, pages: int, inodes: int = 0) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        self._mount(0, pages, inodes)
        path.chmod(0o777)

    def _mount(self, flags: int, pages: int, inodes: int) -> None:
        told = f"size={pages * PAGE},nr_inodes={inodes}".encode()
        if _libc.mount(b"tmpfs", bytes(self.path), b"tmpfs", ctypes.c_ulong(flags), told):
            raise OSError(ctypes.get_errno(), "no disk can be mounted")

    def grow(self) -> None:
        """Give it all the room that is needed, and let it be written."""
        self._mount(_REMOUNT, 4096, 0)
        (self.path / FILLER).unlink(missing_ok=True)

    def read_only(self) -> None:
        """Let nothing be written; no file may be open for writing."""
        self._mount(_REMOUNT | _READ_ONLY, 4096, 0)

    def end(self) -> None:
        """Take it away, with what lies on it, as soon as nobody uses it."""
        _libc.umount2(bytes(self.path), 2)


def fill(disk: Path, pages: int) -> None:
    """Leave so many pages of a disk free."""
    found = os.statvfs(disk)
    wanted = found.f_bavail * found.f_frsize - pages * PAGE
    if wanted > 0:
        with open(disk / FILLER, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, wanted)


# --- system calls that fail ------------------------------------------------------------------------------------------

_CALLS = {"write": (1, 18, 20), "make": (257, 83, 258), "sync": (74, 75), "rename": (82, 264, 316), "link": (86, 265)}
"""Numbers of x86-64. ``make`` opens a new file or makes a folder."""
_LOAD, _EQUAL, _MORE, _ANY_OF, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000


def filters() -> bool:
    """Whether system calls can be made to fail here."""
    return platform.machine() == "x86_64"


def refuse(what: str, error: int) -> None:
    """Let all system calls of a kind fail from now on, in this process: writing but to what it says, and others.

    Args:
        what: a key of the numbers above.
        error: ``errno`` that they set.
    """
    code: list[tuple[int, int, int, int]] = []
    for number in _CALLS[what]:
        asked = {1: (_MORE, 2, 16), 18: (_MORE, 2, 16), 20: (_MORE, 2, 16), 257: (_ANY_OF, os.O_CREAT, 32)}.get(number)
        refused = [(_RETURN, 0, 0, _ERROR | error)]
        if asked:  # of an argument: a descriptor above 2, a flag
            how, value, place = asked
            refused = [(_LOAD, 0, 0, place), (how, 0, 1, value), *refused]
        code += [(_LOAD, 0, 0, 0), (_EQUAL, 0, len(refused), number), *refused]
    code += [(_RETURN, 0, 0, _ALLOW)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    told = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(program)))
    if _libc.prctl(38, 1, 0, 0, 0) or _libc.prctl(22, 2, told, 0, 0):  # no new privileges; the filter
        raise OSError(ctypes.get_errno(), "no filter of system calls can be set")


# --- moments ---------------------------------------------------------------------------------------------------------


def at_step(step: int, act: Callable[[Path], object]) -> None:
    """Have the training of this process act once it has taken so many steps; it gets the run folder."""
    from gencli.training.loop import Trainer

    own = Trainer._step

    def one(trainer: Trainer) -> None:
        if trainer.state.step == step:
            assert trainer.reporter.folder is not None
            act(trainer.reporter.folder.path)
        own(trainer)

    Trainer._step = one  # type: ignore[method-assign]


def before(module: str, name: str, act: Callable[[], object]) -> None:
    """Have this process act before each call of a function of gencli."""
    import importlib

    place = importlib.import_module(module)
    owner, _, last = name.rpartition(".")
    holder = getattr(place, owner) if owner else place
    own = getattr(holder, last)

    def one(*args: object, **named: object) -> object:
        act()
        return own(*args, **named)

    setattr(holder, last, one)
