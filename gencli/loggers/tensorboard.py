"""TensorBoard's event files, in the run's folder tensorboard/."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from gencli.core.files import inside
from gencli.loggers.base import Logger

METRICS = ("val/nll", "test/nll", "test/bits_per_dim")
"""Numbers beside the parameters in the tab HParams."""


class TensorBoard(Logger):
    """Scalars, sample grids, texts, and parameters in the tab HParams, as TensorBoard shows them.

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

    def parameters(self, values: Mapping[str, bool | int | float | str]) -> None:
        from torch.utils.tensorboard.summary import hparams

        # add_hparams would begin a run of its own below this one, which is then there twice
        self.experiment, begin, self.end = hparams(dict(values), dict.fromkeys(METRICS, 0.0))
        for summary in (self.experiment, begin):
            self.writer._get_file_writer().add_summary(summary)

    def result(self, step: int, record: Mapping[str, Any]) -> None:
        for name in ("bits_per_dim", "perplexity", "se_examples"):
            if isinstance(value := record.get(name), int | float):
                self.writer.add_scalar(f"{record['split']}/{name}", value, step)
        self.writer._get_file_writer().add_summary(self.end)

    def close(self) -> None:
        self.writer.close()
