"""`gencli card`: a run as a model card."""

from __future__ import annotations

from collections.abc import Sequence

from gencli.cli.help import Parser
from gencli.config.locate import find_run
from gencli.core.errors import UsageError


def main(words: Sequence[str]) -> int:
    """Print the model card of one run.

    Raises:
        UsageError: there is no such run, or it has no number.
    """
    from gencli.report.card import card

    parser = Parser(prog="gencli card", add_help=False)
    parser.add_argument("run", nargs="*")
    args = parser.parse_intermixed_args(list(words))
    if len(args.run) != 1:
        raise UsageError("gencli card needs one run: a folder, or latest")
    print(card(find_run(args.run[0])), end="")
    return 0
