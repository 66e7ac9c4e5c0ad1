"""A job of a sweep, and what chooses jobs while others run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(eq=False)  # each is one of its own, and known by that
class Job:
    """One training of the sweep.

    Args:
        name: its number and its overrides.
        swept: these overrides.
        config: as the command composes it; None: it was refused.
        id: of that config.
        run: its run folder.
        log: what it prints.
        verb: what is done with the config: train, trial or eval.
        state: waiting, running, done, skipped, pruned, failed or interrupted.
        exit_code: of its process; None: it has not run.
        cause: what went wrong.
        seconds: that it took here.
        since: when it was started here, monotonic.
        before: fraction of it that was done by then.
        pruned: why it was asked to end, if others are better.
        place: by which a cluster knows it; empty elsewhere.
    """

    name: str
    swept: tuple[str, ...]
    config: dict[str, Any] | None
    id: str = ""
    run: Path = field(default_factory=Path)
    log: Path = field(default_factory=Path)
    verb: str = "train"
    state: str = "waiting"
    exit_code: int | None = None
    cause: str = ""
    seconds: float = 0.0
    since: float = 0.0
    before: float = 0.0
    pruned: str = ""
    place: dict[str, Any] = field(default_factory=dict)


class Feed(Protocol):
    """What chooses jobs while others run."""

    total: int
    """Jobs that there may be."""

    before: int
    """Those of them that have ended before this start, or run elsewhere."""

    def ask(self) -> Job | None:
        """The next job; None: there is none, before another one ends at least."""

    def watch(self, running: Sequence[Job]) -> list[Job]:
        """Those of the running jobs that are to end, which ``pruned`` says of them."""

    def tell(self, job: Job) -> None:
        """A job is done, pruned or failed."""
