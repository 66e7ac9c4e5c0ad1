"""The standard output as a run needs it: whoever reads it may lack characters, or leave."""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import IO, Any, cast

_SPELLED = {"±": "+-", "↑": "^", "↓": "v", "⏎": "\\n"}


def _spell(error: UnicodeError) -> tuple[str, int]:
    """Signs that we print, as an encoding without them can say them; all others as their numbers."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(_SPELLED.get(c) or c.encode("unicode_escape").decode() for c in lacking), error.end


codecs.register_error("gencli", _spell)


def spell_what_is_lacking() -> None:
    """Let the standard streams of a command spell the characters that their encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="gencli")


def output() -> IO[str]:
    """``sys.stdout``, as it is at each call, which never fails: training needs no reader.

    Once the reader has gone (`gencli train | head -1`, a terminal that was closed) all goes nowhere.
    """
    return cast("IO[str]", _Output())


LOST: list[OSError] = []
"""Why something that was printed is lost, if it is, for another reason than that its reader has left."""


class _Output(io.TextIOBase):
    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def _stream(self) -> Any:
        """The stream itself, behind what a progress bar puts before it; None where a process has none."""
        return getattr(sys.stdout, "rich_proxied_file", sys.stdout)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        return int(self._stream.fileno())

    def write(self, text: str) -> int:
        if self._stream is not None:
            try:
                self._stream.write(text.encode(self.encoding, "gencli").decode(self.encoding))
            except OSError as error:
                self._leave(error)
        return len(text)

    def flush(self) -> None:
        if self._stream is not None:
            try:
                self._stream.flush()
            except OSError as error:
                self._leave(error)

    def _leave(self, why: OSError) -> None:
        """Nothing more is said, and what is buffered is not told at exit either."""
        if not isinstance(why, BrokenPipeError):
            LOST.append(why)
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
