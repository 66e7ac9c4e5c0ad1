"""A new run that begins with the weights of another: what must agree, and what it takes over.

Taken over are the model's weights, the statistics of ``data.transform=standardize``, in whose units they were trained,
and the meaning of files (``Dataset.schema``). The objective's own state and the optimizer's begin anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from gencli.config import stored
from gencli.config.locate import find_run
from gencli.config.sections import PREPROCESSING
from gencli.core.errors import UsageError, quoted
from gencli.core.spec import Spec
from gencli.run import checkpoint as checkpoints
from gencli.run.assembly import Parts, chosen_weights, data_factory
from gencli.run.seen import by_origin

NAMED = ("init_from", "weights", "checkpoint")
"""Keys of a config that say what a run began with."""


SAID = ("columns", "support", "level")
"""Options of data sets that a run's schema has made use of: other values would change nothing any more."""


@dataclass(frozen=True)
class Origin:
    """The run that a new one begins with.

    Args:
        folder: its folder.
        trained: its config.
        schema: what the new data set is given of the meaning of its files; None: it works it out.
        doubt: why the meaning of files cannot be compared; empty: it can.
    """

    folder: Path
    trained: Mapping[str, Any]
    schema: Mapping[str, Any] | None
    doubt: str

    @classmethod
    def of(cls, cfg: Mapping[str, Any]) -> Origin:
        """The run that ``init_from`` names; its files are read as data, as those of ``run=``.

        Raises:
            UsageError: there is none, or the model or the way into its space is another one than its.
        """
        folder = find_run(cfg["init_from"]).resolve()
        trained = stored.config(folder)
        schema, same = stored.schema(folder), trained["data"]["_target_"] == cfg["data"]["_target_"]
        kept = {*PREPROCESSING} - {"flip"} | ({*SAID} if schema and same else set())
        way = ({key: each["data"].get(key) for key in kept} for each in (trained, cfg))
        differences = [*_differences("model", trained["model"], cfg["model"]), *_differences("data", *way)]
        for key, own, asked in differences:
            raise UsageError(
                f"{key}={quoted(asked)}: the weights of init_from={folder} were trained with {quoted(own)}"
            )
        if (cfg["objective"] or {}).get("teacher") is not None:
            raise UsageError("init_from and objective.teacher exclude each other: a student starts from its teacher")
        names = [each["choices"].get("data") for each in (trained, cfg)]
        doubt = (
            f"data={names[1]} is not read as the run's data={names[0]} was: whether both mean the same is not checked"
        )
        return cls(folder, trained, schema if same and schema else None, doubt if schema and not same else "")

    def named(self, cfg: Mapping[str, Any]) -> dict[str, Any]:
        """What the new run's config says of it, with absolute paths."""
        which = cfg["checkpoint"]
        if which not in checkpoints.NAMES:
            which = str(checkpoints.path_of(self.folder, which).resolve())
        return {"init_from": str(self.folder), "weights": cfg["weights"], "checkpoint": which}

    def load(self, parts: Parts, cfg: Mapping[str, Any], test: bool) -> dict[str, Any]:
        """Load its weights and statistics into parts; returns what run.json says of it.

        Args:
            parts: of the new run.
            cfg: its config.
            test: whether its test split will be measured; else nothing opens it.

        Raises:
            UsageError: its data is of another specification, or its weights do not fit.
        """
        where = f"init_from={self.folder}"
        there = self._spec(cfg["trust"])
        for entry in fields(Spec) if there is not None else ():
            own, asked = getattr(there, entry.name), getattr(parts.dataset.spec, entry.name)
            if own != asked:
                raise UsageError(
                    f"{where}: {entry.name} of its data is {_shown(own)}, of data={parts.dataset.name} {_shown(asked)}"
                )
        path, weights, tensors = chosen_weights(self.folder, cfg["weights"], cfg["checkpoint"])
        try:
            parts.model.load_state_dict(checkpoints.under("ema" if weights == "ema" else "model", tensors))
            parts.preprocess.load_state_dict(checkpoints.under("preprocess", tensors))
        except RuntimeError as error:
            raise UsageError(f"{where}: its weights do not fit: {str(error).splitlines()[-1].strip()}") from error
        names = ["val", "test"] if test and parts.estimator is not None else ["val"]
        known = by_origin(self.folder, parts.dataset, cfg["data"], names, cfg["trust"])
        return {
            "run": str(self.folder),
            "checkpoint": path.stem,
            "weights": weights,
            "checkpoint_sha256": checkpoints.file_sha256(path),
            "seen": {name: asdict(seen) for name, seen in known.items()},
            **({"warning": self.doubt} if self.doubt else {}),
        }

    def _spec(self, trust: list[str]) -> Spec | None:
        """The specification of its data; None where an older run did not keep it and its files are gone."""
        make = data_factory(self.trained["data"], trust, download=False, schema=stored.schema(self.folder))
        try:
            return make().spec
        except (UsageError, ValueError):
            return None


def _differences(where: str, own: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Full key and both values, wherever two sections differ."""
    for key in sorted({*own, *asked}):
        one, other = own.get(key), asked.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _differences(f"{where}.{key}", one, other)
        elif one != other:
            yield f"{where}.{key}", one, other


def _shown(value: Any) -> str:
    return "none" if value is None else quoted(value, 200)
