"""An audit hook that writes down what a command asked Python to do and must not have."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from hostile.base import Place

ROOT = Path(__file__).resolve().parents[2]
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PATHS = {
    **dict.fromkeys(("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.chown", "os.utime"), (0,)),
    **{"os.rename": (0, 1), "os.link": (1,), "os.symlink": (1,), "shutil.rmtree": (0,), "os.mkfifo": (0,)},
    **{"os.setxattr": (0,), "os.removexattr": (0,), "shutil.move": (0, 1), "sqlite3.connect": (0,)},
}
_FOLLOW = ("os.truncate", "os.chmod", "os.chown", "os.utime", "os.setxattr", "os.removexattr", "sqlite3.connect")
_NEVER = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn", "os.startfile"),
    *("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"),
    *("urllib.Request", "http.client.connect", "ftplib.connect", "smtplib.connect", "webbrowser.open"),
    *("pickle.find_class", "ctypes.dlopen", "code.__new__", "os.kill", "os.putenv", "os.unsetenv"),
)
_ALLOWED_ENVIRONMENT = ("HYDRA_", "KMP_", "TORCH", "OMP_", "OPENBLAS_", "PYTORCH", "TF_", "MPL", "CUDA", "TRITON")
_MARKERS = ("evil", "payload", "hydra_plugins")


class Hook:
    """Records what a hostile run must not make Python do.

    Args:
        place: of the case.
        log: gets a line for each breach, at once: a child may not live to tell.
        allowed: folders that may be written to.
    """

    def __init__(self, place: Place, log: int, allowed: Iterable[Path]) -> None:
        self.place, self.log = place, log
        self.allowed = tuple(os.path.realpath(path) for path in allowed)
        self.scratch = os.path.realpath(place.scratch)
        self.inside = False

    def __call__(self, event: str, args: tuple) -> None:
        if self.inside:
            return
        self.inside = True
        try:
            breach = self._breach(event, args)
            if breach:
                os.write(self.log, f"{event}: {breach}".replace("\n", "\\n")[:300].encode(errors="replace") + b"\n")
        finally:
            self.inside = False

    def _breach(self, event: str, args: tuple) -> str | None:
        if event == "open":
            path, _, flags = args
            return None if not isinstance(flags, int) or not flags & _WRITES else self._beyond(path)
        if event == "os.mkdir" and os.path.isdir(args[0]):
            return None  # Hydra makes the working directory, which is there
        if event in _PATHS:
            follows = event in _FOLLOW
            return next(filter(None, (self._beyond(args[k], follows) for k in _PATHS[event])), None)
        if event == "subprocess.Popen":
            return None if _is_git(args[1]) else repr(args[1])
        if event in ("os.putenv", "os.unsetenv"):
            name = os.fsdecode(args[0])
            return None if name.startswith(_ALLOWED_ENVIRONMENT) else name
        if event == "ctypes.dlopen":
            return self._within(args[0])
        if event in _NEVER:
            return repr(args)
        if event == "import":
            return args[0] if args[0].partition(".")[0] in _MARKERS and args[1] else self._within(args[1])
        if event == "exec":
            return self._within(getattr(args[0], "co_filename", None))
        return None

    def _beyond(self, path: object, follows: bool = True) -> str | None:
        """A path that is written to, if that lies where nothing may be written; some calls change a link itself."""
        if not isinstance(path, str | bytes | os.PathLike):
            return None
        head, tail = os.path.split(os.path.abspath(os.fsdecode(path)))
        found = os.path.realpath(os.path.join(head, tail)) if follows else os.path.join(os.path.realpath(head), tail)
        if found == "/dev/null" or any(found == a or found.startswith(a + "/") for a in self.allowed):
            return None
        return found

    def _within(self, path: object) -> str | None:
        """A file of code, if it lies among what belongs to the case."""
        if not isinstance(path, str | bytes) or not path or os.fsdecode(path).startswith("<"):
            return None
        found = os.path.realpath(os.fsdecode(path))
        return found if found.startswith(self.scratch + "/") else None


def _is_git(words: object) -> bool:
    """The two questions by which a run records the commit of the source tree."""
    found = [os.fspath(word) for word in words] if isinstance(words, list | tuple) else []
    tails = (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])
    return found[:2] == ["git", "-C"] and found[2] == str(ROOT) and found[3:] in tails
