"""Trackio: a project in its local store, or on the Space that TRACKIO_SPACE_ID names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from gencli.loggers.base import Logger, pixels
from gencli.loggers.mark import Mark


class Trackio(Logger):
    """A run of Trackio. It stays on this machine unless TRACKIO_SPACE_ID or TRACKIO_SERVER_URL says otherwise.

    Args:
        folder: see ``Logger``.
        start: see ``Logger``.
        project: its name there.

    Raises:
        ValueError: Trackio cannot begin the run.
    """

    package = "trackio"

    def __init__(self, folder: Path, start: int = 0, *, project: str = "gencli") -> None:
        super().__init__(folder, start)
        for name, value in (("GRADIO_ANALYTICS_ENABLED", "False"), ("HF_HUB_DISABLE_TELEMETRY", "1")):
            os.environ.setdefault(name, value)
        import trackio

        self.mark = Mark(folder, "trackio")
        try:
            self.run = trackio.init(
                project=project,
                name=f"{folder.name}-{self.mark.id}",
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        except Exception as error:
            raise ValueError(f"trackio cannot begin: {error}") from error
        self.mark.save()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if self.mark.new(step):
            self.run.log(dict(values), step=step)

    def image(self, step: int, name: str, image: Tensor) -> None:
        import trackio

        if self.mark.new(step):
            self.run.log({name: trackio.Image(pixels(image))}, step=step)

    def text(self, name: str, text: str) -> None:
        import trackio

        if not self.mark.known:
            self.run.log({name: trackio.Markdown("    " + text.replace("\n", "\n    "))}, step=0)

    def parameters(self, values: Mapping[str, bool | int | float | str]) -> None:
        self.run.config.update(values)  # goes with the first numbers

    def result(self, step: int, record: Mapping[str, Any]) -> None:
        numbers = {key: value for key, value in record.items() if isinstance(value, int | float)}
        self.run.log({f"{record['split']}/{key}": value for key, value in numbers.items()}, step=step)

    def close(self) -> None:
        self.run.finish()
