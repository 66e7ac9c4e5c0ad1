"""``gencli train``: build, train, measure on held-out data, draw samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gencli.run.reporter import relative
from gencli.run.run import Run
from gencli.training.session import Session


def train(cfg: Mapping[str, Any], sweep_dir: Path | None = None, *, test: bool = True) -> Run:
    """Run a config to the end, or go on with ``resume``; say what to do next; returns the run.

    Args:
        cfg: a plain config of ``gencli train``.
        sweep_dir: the folder of a sweep's job.
        test: whether the test split is measured; of a search's trial it stays closed.

    Raises:
        UsageError: the config is wrong; nothing was written.
        Interrupted: a signal came; the run is saved.
        RunFailed: training could not go on.
    """
    with Session.open(cfg, sweep_dir, test=test) as session:
        session.fit()
        record = session.finish()
    place, say, dataset = relative(session.folder.path), session.reporter.say, session.parts.dataset
    say(f"finished: {place}")
    if record:
        session.reporter.result(record)
    if session.parts.sampler is not None:
        say(f"  samples   gencli sample run={place} n=64")
    others = [s for s in ("val", "train") if dataset.split(s) is not None and record and record.split != s]
    if others:
        say(f"  measure   gencli eval run={place} split={others[0]}")
    say(f"  compare   gencli compare {place} ANOTHER_RUN")
    return session.run
