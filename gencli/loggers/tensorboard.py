"""TensorBoard's event files, in the run's folder tensorboard/."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from gencli.core.files import inside
from gencli.loggers.base import Logger


class TensorBoard(Logger):
    """Scalars, sample grids and texts as TensorBoard shows them.

    Args:
        folder: see ``Logger``.
        start: see ``Logger``.
    """

    def __init__(self, folder: Path, start: int = 0) -> None:
        super().__init__(folder, start)
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(inside(folder, "tensorboard")), purge_step=start + 1 if start else None)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def image(self, step: int, name: str, image: Tensor) -> None:
        self.writer.add_image(name, image, step)

    def text(self, name: str, text: str) -> None:
        self.writer.add_text(name, "    " + text.replace("\n", "\n    "))  # verbatim, in its Markdown

    def close(self) -> None:
        self.writer.close()
