"""Sweeps on clusters: the launchers ``hydra/launcher=NAME`` that are gencli's own, and their keys ``hydra.launcher.*``.

The keys have the names that they have in Hydra's launcher of submitit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hydra.core.override_parser.types import Override

from gencli.config.compose import parse_overrides
from gencli.core import options
from gencli.core.errors import UsageError
from gencli.core.options import Count, Natural, NonNegative, Positive

GROUP, KEYS = "hydra/launcher", "hydra.launcher."


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """Keys of ``submitit_slurm``: each job of a sweep is a job of Slurm.

    Args:
        timeout_min: minutes that a job may run before it saves and is queued again.
        signal_delay_s: seconds before that at which it is told.
        max_num_timeout: how often it may be queued again for that.
        partition: sbatch --partition; null: the cluster's default. The next ones likewise.
        account: sbatch --account.
        qos: sbatch --qos.
        constraint: sbatch --constraint.
        exclude: sbatch --exclude, nodes to stay away from.
        cpus_per_task: cores of a job, which are its threads.
        gpus_per_node: GPUs of a job.
        mem_gb: memory of a job; null: the cluster's default.
        setup: lines of a shell before the job, such as ``module load``.
        additional_parameters: other options of sbatch by name.
    """

    name: ClassVar[str] = "submitit_slurm"
    package: ClassVar[str] = "submitit"

    timeout_min: Count = 60
    signal_delay_s: Count = 90
    max_num_timeout: Natural = 100
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    cpus_per_task: Count = 1
    gpus_per_node: Natural = 0
    mem_gb: Positive | None = None
    setup: list[str] | None = None
    additional_parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Local:
    """Keys of ``submitit_local``: the same on this machine, as a rehearsal.

    Args:
        timeout_min: minutes that a job may run before it saves and begins again.
        signal_delay_s: seconds before that at which it is told.
        max_num_timeout: how often it may begin again for that; submitit itself ends a job after the sixth time.
        gpus_per_node: GPUs that a job sees, the first ones of the machine.
    """

    name: ClassVar[str] = "submitit_local"
    package: ClassVar[str] = "submitit"

    timeout_min: Positive = 1440
    signal_delay_s: Count = 30
    max_num_timeout: Natural = 5
    gpus_per_node: Natural = 0


@dataclass(frozen=True, kw_only=True)
class Ray:
    """Keys of ``ray``: each job of a sweep is a task of Ray.

    Args:
        address: of a cluster; null: RAY_ADDRESS, or a Ray of this machine for this sweep.
        num_cpus: cores of a job, which are its threads.
        num_gpus: GPUs of a job; a part of one is shared.
    """

    name: ClassVar[str] = "ray"
    package: ClassVar[str] = "ray"

    address: str | None = None
    num_cpus: Count = 1
    num_gpus: NonNegative = 0


Cluster = Slurm | Local | Ray
LAUNCHERS: dict[str, type[Cluster]] = {kind.name: kind for kind in (Slurm, Local, Ray)}


def ours(parsed: Iterable[Override]) -> str | None:
    """The launcher of gencli's own that a command chooses, if it does."""
    chosen = [override for override in parsed if override.key_or_group == GROUP and not override.is_sweep_override()]
    name = str(chosen[-1].value()) if chosen else None
    return name if name in LAUNCHERS else None


def split(overrides: Sequence[str]) -> tuple[Cluster | None, list[str]]:
    """The launcher with its keys, and all other overrides.

    Raises:
        UsageError: a launcher of gencli's has no such key, or it cannot have this value.
    """
    parsed = parse_overrides(overrides)
    name = ours(parsed)
    if name is None:
        return None, list(overrides)
    found: dict[str, Any] = {}
    rest = []
    for text, override in zip(overrides, parsed, strict=True):
        key = override.key_or_group
        if not key.startswith(KEYS):
            rest += [] if key == GROUP else [text]
        elif override.is_sweep_override() or override.is_delete():
            raise UsageError(f"{text}: a key of the launcher has one value")
        else:
            found[key.removeprefix(KEYS)] = override.value()
    kind = LAUNCHERS[name]
    checked = options.check(found, options.of_dataclass(kind), KEYS.rstrip("."), f"{GROUP}={name}")
    return kind(**checked), rest
