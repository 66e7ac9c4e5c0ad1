"""What made a job fail, in a line."""

from __future__ import annotations

import re
import signal

_MEMORY = re.compile(
    r"MemoryError|out of memory|can't allocate memory|cannot allocate memory|bad_alloc|unable to allocate", re.I
)


def cause(code: int, said: str, *, minutes: float | None = None, memory: float | None = None) -> str:
    """Why a job ended as it did; empty for one that is done.

    Args:
        code: exit code; -N: signal N ended it.
        said: its own last words.
        minutes: the limit that it passed.
        memory: the limit of its memory, in GiB.

    Example:
        >>> cause(-11, "")
        'ended by SIGSEGV'
        >>> cause(1, "RuntimeError: can't allocate memory: you tried to allocate 8 bytes", memory=2)
        "out of memory (sweep.memory=2): RuntimeError: can't allocate memory: you tried to allocate 8 bytes"
    """
    if code == 0:
        return ""
    if minutes is not None:
        kept = "its checkpoint is saved" if code > 128 else "it did not stop when asked and was killed"
        return f"took longer than sweep.minutes={minutes:g}: {kept}"
    if code == -signal.SIGKILL:
        return "killed by SIGKILL: by the system for want of memory, or by someone"
    if code < 0:
        return f"ended by {_name(-code)}"
    if _MEMORY.search(said):
        limit = f" (sweep.memory={memory:g})" if memory is not None else ""
        return f"out of memory{limit}: {said}"
    return said or f"exit code {code}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
