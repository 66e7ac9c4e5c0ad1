"""``python -m gencli.cli.job FD``: one job of a sweep in a Python of its own, where none can be forked.

The request is read from the standard input, the answer goes to the descriptor.
"""

from __future__ import annotations

import json
import sys


def main() -> int:
    """Run the job; returns the exit code."""
    from gencli.cli.main import _report, _run_verb
    from gencli.sweeps.child import Request, run

    request = Request(**json.loads(sys.stdin.read()))
    return run(request, _run_verb, _report, int(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
