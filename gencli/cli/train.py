"""``gencli train``: build, train, measure on held-out data, draw samples."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gencli.run.progress import duration
from gencli.run.record import NLLRecord
from gencli.run.reporter import relative, setting
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
    began = time.monotonic()
    with Session.open(cfg, sweep_dir, test=test) as session:
        before = session.folder.info.get("wall_seconds") or 0.0  # of a run that goes on
        session.fit()
        record = session.finish()
    say = session.reporter.say
    say(f"finished: {relative(session.folder.path)}")
    if record:
        session.reporter.result(record)
    for line in _summary(session, record, before + time.monotonic() - began):
        say(f"  {line}")
    return session.run


def _summary(session: Session, record: NLLRecord | None, seconds: float) -> list[str]:
    """How long it took, which step is the best, where to look, what to type next."""
    state, place, dataset = session.trainer.state, session.folder.path, session.parts.dataset
    run = setting("run", place)
    best = ""
    if state.best:
        at = state.best[1]
        best = (
            f", the best of them {at:,}" if at else ", none of them better on validation than the start, which is kept"
        )
    lines = [
        f"trained for {duration(state.clock.seconds)}, {state.step:,} steps{best}; {duration(seconds)} in all",
        *(f"drawn     {relative(file)}" for file in session.drawn),
    ]
    if session.parts.sampler is not None:
        lines.append(f"samples   gencli sample {run} n=64")
    if record and record.n_split:
        bounded = session.trainer.options.most_examples is not None  # which eval keeps to, unless it is said
        more = f" examples={record.n_split}" if bounded else ""
        lines.append(f"measure   gencli eval {run}{more}   (all {record.n_split:,} examples)")
    others = [s for s in ("val", "train") if dataset.split(s) is not None and record and record.split != s]
    if others:
        lines.append(f"measure   gencli eval {run} split={others[0]}")
    lines.append(f"compare   gencli compare {shlex.quote(relative(place))} ANOTHER_RUN")
    if "tensorboard" in (session.config["logger"] or {}):
        lines.append(f"curves    tensorboard --logdir {shlex.quote(relative(place / 'tensorboard'))}")
    return lines
