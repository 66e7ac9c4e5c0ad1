"""gencli: train deep generative models and compare them by held-out likelihood."""

from __future__ import annotations

import os
import shlex
import sys

if sys.path[0] in ("", os.getcwd()) and {("-m", "gencli"), ("-m", "gencli.cli.job")} & {
    *zip(sys.orig_argv, sys.orig_argv[1:], strict=False)
}:
    del sys.path[0]  # python -m puts the current folder first: a torch.py that lies there would be taken for torch

if "OMP_WAIT_POLICY" not in os.environ:  # threads that spin while they wait take the cores from those that compute
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    for _name in ("GOMP_SPINCOUNT", "KMP_BLOCKTIME"):  # read once, when torch is imported
        os.environ.setdefault(_name, "0")

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame

    from gencli.run.run import Run

__all__ = ["Run", "__version__", "compare", "load", "train"]
__version__ = "0.1.0"


def train(overrides: Sequence[str] | str = (), config_dirs: Sequence[str] = ()) -> Run:
    """Train a model: the same as ``gencli train OVERRIDES``.

    Args:
        overrides: as on the command line, such as ``["model=maf", "data=moons", "seed=1"]``, or as one text.
        config_dirs: directories with options of your own, as ``--config-dir``.

    Returns:
        The finished run.

    Raises:
        UsageError: an override is wrong, or the parts do not fit.
        RunFailed: the run started and could not go on.
    """
    from gencli.config.compose import compose

    words = shlex.split(overrides) if isinstance(overrides, str) else overrides
    config = compose("train", words, config_dirs)

    from gencli.cli.train import train as run_train

    return run_train(config, None)


def load(path: str | Path = "latest", **options: Any) -> Run:
    """Open a run.

    Args:
        path: a run folder, a checkpoint inside it, or ``latest``.
        options: trust, device, weights, checkpoint: see ``gencli.Run``.
    """
    from gencli.run.run import load as load_run

    return load_run(path, **options)


def compare(*runs: Run | str | Path | Sequence[Run | str | Path], split: str = "test", all: bool = False) -> DataFrame:
    """Runs side by side: the same as ``gencli compare RUN ... --csv``, as a pandas table.

    Rows of one ``group`` are comparable, and ranked in it; ``apart`` says what sets a group apart from the first.

    Args:
        runs: runs, run folders, folders of runs such as a sweep's, patterns, or ``latest``; or lists of these.
        split: of the records.
        all: other measurements too, not only each run's own NLL.

    Raises:
        UsageError: a name leads to no run, or no run has a number.
    """
    import pandas

    from gencli.report.collect import expand
    from gencli.report.compare import compared
    from gencli.report.render import plain

    flat = [one for each in runs for one in (each if isinstance(each, list | tuple) else [each])]
    names = [name if isinstance(name, str) else str(getattr(name, "path", name)) for name in flat]
    found = plain(compared(expand(names), split, further=all))
    return pandas.DataFrame([row | {"apart": group["apart"]} for group in found["groups"] for row in group["rows"]])


def __getattr__(name: str) -> Any:
    if name == "Run":  # on demand: it brings torch along
        from gencli.run.run import Run

        return Run
    raise AttributeError(f"module 'gencli' has no attribute '{name}'")
