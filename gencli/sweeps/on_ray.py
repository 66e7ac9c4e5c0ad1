"""A cluster of Ray, or one of this machine for the time of the sweep."""

from __future__ import annotations

import os
from typing import Any

from gencli.config.clusters import Ray
from gencli.sweeps.backend import Backend
from gencli.sweeps.node import NodeJob


class OnRay(Backend):
    """Tasks of Ray. They end with the sweep, so nothing has to be found again."""

    forwards = True

    def __init__(self, cluster: Ray) -> None:
        import ray

        self.ray = ray
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if not ray.is_initialized():
            ray.init(address=cluster.address, include_dashboard=False, log_to_driver=False, logging_level="error")
        self.run = ray.remote(num_cpus=cluster.num_cpus, num_gpus=cluster.num_gpus, max_retries=3)(_run)

    def submit(self, job: NodeJob) -> Any:
        return self.run.remote(job)

    def done(self, handle: Any) -> bool:
        return bool(self.ray.wait([handle], timeout=0)[0])

    def result(self, handle: Any) -> dict[str, Any] | str:
        try:
            return dict(self.ray.get(handle))
        except self.ray.exceptions.TaskCancelledError:
            return {"exit_code": 130, "cause": "stopped, saved", "seconds": 0.0, "interrupted": True}
        except self.ray.exceptions.RayError as error:
            return str(error).splitlines()[0]

    def stop(self, handle: Any) -> None:
        self.ray.cancel(handle)

    def kill(self, handle: Any) -> None:
        self.ray.cancel(handle, force=True)


def _run(job: NodeJob) -> dict[str, Any]:
    return job()
