"""A run that goes on: what it keeps, and how its data are known again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gencli.config import stored
from gencli.config.locate import find_run
from gencli.core import distributed
from gencli.core.errors import UsageError, quoted
from gencli.data.split import StreamSplit
from gencli.run import checkpoint as checkpoints
from gencli.run.assembly import Parts
from gencli.run.folder import RunFolder
from gencli.run.reporter import setting
from gencli.run.run import Run, refuse_changes


@dataclass(frozen=True)
class Resumed:
    """Where a run goes on.

    Args:
        folder: the run folder, held.
        checkpoint: the file to go on from; None: the run was killed before it wrote one, and begins anew.
        step: its step.
        trained: the config that it was trained with.
        data_sha256: of the training split that it was trained on, where it kept it.
        threads: of the CPU, by which it rounds, where it kept them.
        finished: whether it had come to its end.
    """

    folder: RunFolder
    checkpoint: Path | None
    step: int
    trained: Mapping[str, Any]
    data_sha256: str | None
    threads: int | None
    finished: bool

    @classmethod
    def of(cls, cfg: Mapping[str, Any], world: distributed.World, undo: ExitStack) -> Resumed:
        """The run to go on with, held; what is damaged in it is refused before anything is written.

        Raises:
            UsageError: the command changes what a run keeps, or another process trains it.
            RunFailed: the folder is damaged.
        """
        folder = RunFolder(find_run(cfg["resume"]), writes=world.main)
        trained = Run(folder.path).trained
        RunFolder.check(folder.path)
        refuse_changes(trained, cfg, ("model", "data", "objective"))
        if cfg["seed"] != trained["seed"]:
            raise UsageError(
                f"seed={cfg['seed']}: a resumed run keeps its seed ({trained['seed']}), its order of batches"
            )
        undo.callback(folder.release)
        distributed.by_main(folder.hold)
        anew = cfg["checkpoint"] == "last" and _has_not_begun(folder.path)
        checkpoint = None if anew else checkpoints.path_of(folder.path, cfg["checkpoint"])
        meta = checkpoints.read(checkpoint)[1] if checkpoint else {}
        if checkpoint and "optimizers" not in meta:
            raise UsageError(
                f"checkpoint={quoted(cfg['checkpoint'])}: it has no state of the optimizer to go on with, as last and "
                f"previous have; {setting('init_from', folder.path)} begins a run with its weights"
            )
        kept: dict[str, Any] = {}
        with suppress(UsageError):  # a damaged run.json is written anew
            kept = stored.info(folder.path)
        finished = kept.get("status") == "finished"
        return cls(
            folder, checkpoint, meta.get("step", 0), trained, kept.get("data_sha256"), kept.get("threads"), finished
        )

    def check_data(self, cfg: Mapping[str, Any], parts: Parts) -> None:
        """A resumed run keeps its data, wherever the file lies now.

        Raises:
            UsageError: the training split is another one; or the file has another name, and there is no hash of it.
        """
        path, own = (each["data"].get("path") for each in (cfg, self.trained))
        why = f"data.path={path}: a resumed run keeps its data"
        if self.data_sha256 is None:
            if path != own:
                raise UsageError(f"{why} ({own}), and this one cannot tell whether these are the same")
        elif data_sha256(parts) != self.data_sha256:
            raise UsageError(
                f"{why}, and this is not what it was trained on{f' ({own})' if path != own else ''}; "
                f"{setting('init_from', self.folder.path)} begins a run anew"
            )


def _has_not_begun(run: Path) -> bool:
    """Whether a run was killed before its first checkpoint, which is that of step 0; else it has lost them."""
    if any((run / "checkpoints" / f"{name}.safetensors").exists() for name in ("last", "previous")):
        return False
    return not (run / "metrics.jsonl").exists() or all(line["step"] == 0 for line in stored.metrics(run, []))


def data_sha256(parts: Parts) -> str | None:
    """Hash of the training split; None where it streams from files, all of which would have to be read for it."""
    train = parts.dataset.split("train")
    return None if train is None or isinstance(train, StreamSplit) else train.sha256


def may_download(cfg: Mapping[str, Any], trained: Mapping[str, Any]) -> bool:
    """Whether missing data files may be fetched: not into a folder that a run names, and not the user."""
    root = cfg["data"].get("root")
    return root is None or root != trained["data"].get("root")
