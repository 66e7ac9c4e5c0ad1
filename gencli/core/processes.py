"""Who this process is, and whether another one is still there: what a run says of who trains it."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SHARED = "GENCLI_SHARED"
"""Variable of a sweep's job: ``OMP_NUM_THREADS`` is its share of the machine, and no word of the user."""


def this() -> dict[str, Any]:
    """This process as a run folder names it: number, host, and when it started, as its system tells that."""
    return numbered(os.getpid())


def numbered(pid: int) -> dict[str, Any]:
    """A process of this host, as ``this`` describes the own one."""
    return {"pid": pid, "host": platform.node(), "start": _start(pid)}


def alive(process: Mapping[str, Any]) -> bool | None:
    """Whether a process that ``this`` described is there; None: that cannot be known, as of another host.

    A number alone would not do: systems give it to another process in time.
    """
    pid, start = process.get("pid"), process.get("start")
    if process.get("host") != platform.node() or not isinstance(pid, int) or not isinstance(start, str) or pid < 1:
        return None
    return _start(pid) == start


def _start(pid: int) -> str | None:
    """When a process of this host started; None: there is none, or it has ended."""
    if os.path.isdir("/proc/self"):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:
            return None
        return None if fields[0] in "ZX" else f"{boot} {fields[19]}"  # field 22 of proc(5), in ticks since the boot
    found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
