"""Weights & Biases: online, or offline in the run's folder wandb/ for ``wandb sync``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from gencli.core.files import inside
from gencli.loggers.base import Logger, pixels
from gencli.loggers.mark import Mark


class Wandb(Logger):
    """A run of Weights & Biases. Nothing is sent unless WANDB_MODE=online, which no run folder can say.

    The service gets numbers, pictures, the config, the model's layers and the final record. It gets no console
    output, code, command line, host name or git remote. Account and server are those of wandb's own settings.

    Args:
        folder: see ``Logger``.
        start: see ``Logger``.
        project: its name there.
        group: name of several runs that belong together; None: none.
        mode: None is WANDB_MODE, or offline where that is not set.

    Raises:
        ValueError: wandb cannot begin the run, as without a key.
    """

    package = "wandb"

    def __init__(
        self,
        folder: Path,
        start: int = 0,
        *,
        project: str = "gencli",
        group: str | None = None,
        mode: Literal["offline", "disabled"] | None = None,
    ) -> None:
        super().__init__(folder, start)
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # reports of wandb's own errors go over the network
        import wandb

        self.mark = Mark(folder, "wandb")
        inside(folder, "wandb", "any")  # wandb writes below this folder, which has to be ours
        settings = wandb.Settings(
            console="off",
            silent=True,
            save_code=False,
            disable_git=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
        )
        wanted: Any = mode or os.environ.get("WANDB_MODE") or "offline"
        try:
            self.run: Any = wandb.init(
                project=project,
                group=group,
                name=folder.name,
                id=self.mark.id,
                dir=str(folder),
                mode=wanted,
                resume="allow",
                settings=settings,
            )
        except Exception as error:
            raise ValueError(f"wandb cannot begin: {error}") from error
        self.mark.save()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if self.mark.new(step):
            self.run.log(dict(values), step=step)

    def image(self, step: int, name: str, image: Tensor) -> None:
        import wandb

        if self.mark.new(step):
            self.run.log({name: wandb.Image(pixels(image))}, step=step)

    def text(self, name: str, text: str) -> None:
        Path(self.run.dir, f"{name}.txt").write_text(text, encoding="utf-8")  # wandb takes what lies there

    def parameters(self, values: Mapping[str, bool | int | float | str]) -> None:
        self.run.config.update(dict(values), allow_val_change=True)

    def result(self, step: int, record: Mapping[str, Any]) -> None:
        for key, value in record.items():
            if isinstance(value, int | float | str):
                self.run.summary[f"{record['split']}/{key}"] = value

    def close(self) -> None:
        self.run.finish()
