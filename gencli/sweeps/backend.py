"""The contract of a cluster that runs the jobs of a sweep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from gencli.sweeps.node import NodeJob


class Backend(ABC):
    """A cluster's own way with jobs, each of which it knows by a handle of its own."""

    forwards: bool
    """Whether its signals reach the first process of a job only."""

    @abstractmethod
    def submit(self, job: NodeJob) -> Any:
        """Hand a job over; returns its handle."""

    @abstractmethod
    def done(self, handle: Any) -> bool:
        """Whether it has ended."""

    @abstractmethod
    def result(self, handle: Any) -> dict[str, Any] | str:
        """What an ended job returned, or in words why it did not return."""

    @abstractmethod
    def stop(self, handle: Any) -> None:
        """Let it save and end; one that waits in the queue goes."""

    @abstractmethod
    def kill(self, handle: Any) -> None:
        """End it."""

    def place(self, handle: Any) -> dict[str, Any]:
        """By what another process finds a job that outlives the sweep; empty: it does not."""
        return {}

    def find(self, place: Mapping[str, Any]) -> Any:
        """The handle of such a job, if it has not ended."""
        return None
