"""MLflow: a run of the tracking store that MLFLOW_TRACKING_URI names, or of MLflow's own default."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from gencli.loggers.base import Logger, pixels
from gencli.loggers.mark import Mark

MOST = 100
"""Parameters that MLflow takes at a time."""

LONGEST = 6000
"""Characters of a parameter."""


class MLflow(Logger):
    """A run of MLflow. Its store is MLFLOW_TRACKING_URI, which no run folder can change.

    Args:
        folder: see ``Logger``.
        start: see ``Logger``.
        experiment: its name there.

    Raises:
        ValueError: the store is not to be had.
    """

    package = "mlflow"

    def __init__(self, folder: Path, start: int = 0, *, experiment: str = "gencli") -> None:
        super().__init__(folder, start)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # a new store tells of its tables
        self.mark = Mark(folder, "mlflow")
        try:
            self.client = MlflowClient()
            found = self.client.get_experiment_by_name(experiment)
            where = found.experiment_id if found else self.client.create_experiment(experiment)
            if self.mark.known:
                self.client.update_run(self.mark.id, status="RUNNING")
            else:
                self.mark.save(self.client.create_run(where, run_name=folder.name).info.run_id)
        except MlflowException as error:
            raise ValueError(f"MLflow cannot begin: {str(error).splitlines()[0]}") from error

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        if self.mark.new(step):
            now = int(time.time() * 1000)
            self.client.log_batch(self.mark.id, [Metric(name, value, now, step) for name, value in values.items()])

    def image(self, step: int, name: str, image: Tensor) -> None:
        if self.mark.new(step):
            self.client.log_image(self.mark.id, pixels(image), key=name, step=step, synchronous=True)

    def text(self, name: str, text: str) -> None:
        self.client.log_text(self.mark.id, text, f"{name}.txt")

    def parameters(self, values: Mapping[str, bool | int | float | str]) -> None:
        from mlflow.entities import Param

        known = self.client.get_run(self.mark.id).data.params  # a parameter has one value for ever
        new = iter([Param(key, str(value)[:LONGEST]) for key, value in values.items() if key not in known])
        while some := [*islice(new, MOST)]:
            self.client.log_batch(self.mark.id, params=some)

    def result(self, step: int, record: Mapping[str, Any]) -> None:
        self.client.log_dict(self.mark.id, dict(record), f"{record['split']}-{record['metric']}.json")
        self.client.set_tag(self.mark.id, "bound", str(record.get("bound")))
        self.client.set_tag(self.mark.id, "finished", "true")

    def close(self) -> None:
        done = self.client.get_run(self.mark.id).data.tags.get("finished") == "true"
        self.client.set_terminated(self.mark.id, "FINISHED" if done else "KILLED")
