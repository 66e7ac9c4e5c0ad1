"""What can go wrong, and the exit code that says so."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GencliError(Exception):
    """A failure that is told to the user in one message, without a traceback."""

    exit_code = 1


class UsageError(GencliError):
    """The command or the config is wrong: nothing was started and nothing written."""

    exit_code = 2


class RunFailed(GencliError):
    """The run started and could not go on (a non-finite loss, a damaged file)."""


class Interrupted(GencliError):
    """Stopped by a signal after saving; the exit code is 128 + the signal's number."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def shown(text: str) -> str:
    """A text from anywhere as a terminal may be given it: control characters are written out, lines stay."""
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def quoted(value: object, most: int = 60) -> str:
    r"""A value from anywhere within a message: on one line, and not longer than that.

    Example:
        >>> print(quoted("two\nlines\x1b[31m"))
        two\nlines\x1b[31m
    """
    text = shown(str(value)).replace("\n", "\\n")
    return text if len(text) <= most else f"{text[: most - 3]}..."


def near(name: str, options: Iterable[str]) -> str:
    """A sentence with the options nearest to a mistyped name, or with all of them.

    Example:
        >>> near("mfa", ["glow", "maf", "nice"])
        "Did you mean 'maf'?"
        >>> near("vdm", ["glow", "maf"])
        'There is: glow, maf.'
    """
    options = sorted(options)
    lower = {option.lower(): option for option in options}
    close = [lower[found] for found in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
    if close:
        return "Did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "There is: " + ", ".join(options) + "." if options else ""
