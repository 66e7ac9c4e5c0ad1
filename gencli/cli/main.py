"""The command line: a verb, and what comes after it.

Help, version, list, compare and completion import neither torch nor Hydra.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gencli import __version__
from gencli.cli import help as helptext
from gencli.core.errors import GencliError, Interrupted, UsageError, quoted
from gencli.core.output import LOST, spell_what_is_lacking
from gencli.training.signals import ending

if TYPE_CHECKING:
    from gencli.config.command import Report, Work
    from gencli.config.multirun import Multirun


TABLES = ("compare", "list", "ls")
"""Verbs that are there for what they print, and print it as training does, which goes on where it cannot."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after ``gencli``; None: those of this process.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    spell_what_is_lacking()
    LOST.clear()
    try:
        with ending():
            code = _dispatch(words)
        if sys.stdout is not None:
            sys.stdout.flush()
        if code == 0 and words and words[0] in TABLES and LOST:
            return _tell_of_output(LOST[0])
        return code
    except BrokenPipeError:  # `gencli list | head`: the reader has seen enough
        _leave_output()
        return 0
    except BaseException as error:
        return _report(error)


def _leave_output() -> None:
    """What is still to be printed goes nowhere: Python would try it once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _output_failed(error: OSError) -> bool:
    """Whether it was the standard output that could not be written; errors of files name these."""
    if error.filename is not None:
        return False
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        return True
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _dispatch(words: list[str]) -> int:
    verb, rest = (words[0], words[1:]) if words else ("--help", [])
    if verb in ("--help", "-h", "help"):
        print(helptext.PAGES.get(rest[0], helptext.MAIN) if rest else helptext.MAIN, end="")
        return 0
    if verb == "--version":
        print(f"gencli {__version__}")
        return 0
    if verb in ("--completion", "--complete"):
        from gencli.cli import completion

        print(completion.script(rest) if verb == "--completion" else "\n".join(completion.candidates(rest)))
        return 0
    if verb not in helptext.PAGES:
        from gencli.config.names import no_such_verb

        raise UsageError(no_such_verb(quoted(verb), helptext.PAGES))
    if "--help" in rest or "-h" in rest:
        print(helptext.PAGES[verb], end="")
        return 0

    if verb == "list":
        from gencli.cli.list import main as list_main

        return list_main(rest)
    if verb == "ls":
        from gencli.cli.ls import main as ls_main

        return ls_main(rest)
    if verb == "report":
        from gencli.cli.report import main as report_main

        return report_main(rest)
    if verb == "card":
        from gencli.cli.card import main as card_main

        return card_main(rest)
    if verb == "compare":
        from gencli.cli.compare import main as compare_main

        return compare_main(rest)
    from gencli.config import command

    # Windows knows no process groups, and leaves sweeps to Hydra
    return command.call(verb, rest, _run_verb, _report, _launch if os.name == "posix" else None)


def _report(error: BaseException) -> int:
    """Tell a failure to the user; the exit code. With GENCLI_TRACEBACK=1 a refusal has its traceback too."""
    if os.environ.get("GENCLI_TRACEBACK", "0") not in ("", "0") and not isinstance(error, SystemExit):
        traceback.print_exception(error)
        if not isinstance(error, GencliError | OSError | KeyboardInterrupt):
            return 1
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0 if error.code is None else 2
    if isinstance(error, KeyboardInterrupt):
        _tell("interrupted")
        return 128 + int(getattr(error, "number", signal.SIGINT))
    if isinstance(error, GencliError):
        if not isinstance(error, Interrupted):  # the run has said how to go on
            _tell(f"error: {quoted(error, 10_000)}")
        return error.exit_code
    if isinstance(error, OSError) and error.filename is not None:  # a full disk, a permission, a file that went away
        _tell(f"error: {quoted(error.filename, 300)}: {error.strerror}")
        return 1
    if isinstance(error, OSError) and _output_failed(error):
        _leave_output()
        return _tell_of_output(error)
    traceback.print_exception(error)
    return 1


def _tell_of_output(error: OSError) -> int:
    _tell(f"error: the standard output cannot be written: {error.strerror}")
    return 1


def _tell(text: str) -> None:
    with suppress(OSError):  # nobody reads it: a closed terminal
        print(text, file=sys.stderr)


def _launch(sweep: Multirun, work: Work, report: Report) -> int:
    if sweep.search is not None:
        from gencli.sweeps.search.launch import search

        return search(sweep, work, report)
    from gencli.sweeps.launcher import launch

    return launch(sweep, work, report)


def _run_verb(verb: str, config: dict[str, Any], sweep_dir: Path | None) -> None:
    if verb in ("train", "trial"):
        from gencli.cli.train import train

        train(config, sweep_dir, test=verb == "train")
        return
    from gencli.run.device import threads

    with threads(config["threads"]):
        if verb == "sample":
            from gencli.cli.sample import sample

            sample(config)
        else:
            from gencli.cli.eval import evaluate_run

            evaluate_run(config)
