"""Names of files that a run keeps of itself: what differs from its own protocol stands in the name.

``eval/test-exact.json`` is the number of a run, of its own weights, checkpoint, settings and data. Another measurement
is ``eval/test-exact-examples=50-raw.json``, so that it never takes the place of that number.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gencli.config import catalog
from gencli.core import options
from gencli.run.checkpoint import file_sha256

LONGEST = 60
"""Characters of what differs; more are told by their hash."""


def joined(*parts: str, differing: Sequence[str] = ()) -> str:
    """A file's name without its ending: its parts, and what differs.

    Example:
        >>> joined("test", "iwae", differing=["estimator.k=10", "raw"])
        'test-iwae-estimator.k=10-raw'
    """
    told = "-".join(re.sub(r"[^\w.+=,-]+", "_", text) for text in differing)
    if len(told) > LONGEST:
        told = hashlib.sha256("\n".join(differing).encode()).hexdigest()[:8]
    return "-".join([*parts, *([told] if told else [])])


def changed(section: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """The settings of a section that are not those of ``own`` (dotted keys), as ``key=value``."""
    return [
        f"{key}={'null' if value is None else str(value).lower() if isinstance(value, bool) else value}"
        for key, value in catalog.flatten(section)
        if key.rpartition(".")[2] != "_target_" and value != own.get(key)
    ]


def usual(group: str, name: str, trained: Mapping[str, Any], part: object) -> dict[str, Any]:
    """What an option's settings are unless a command changes them: those of the run, else of its YAML or its class."""
    if trained["choices"].get(group) == name and trained.get(group):
        return dict(catalog.flatten(trained[group]))
    known = catalog.options(group).get(name)
    return dict(known.keys if known is not None else options.of_class(type(part)).defaults)


def drawn(config: Mapping[str, Any], trained: Mapping[str, Any], part: object) -> list[str]:
    """How a sampler differs from what its name says in this run: the kernel of chains, settings."""
    section, choices = config["sampler"], config["choices"]
    base = usual("sampler", str(choices.get("sampler")), trained, part)
    kernel = section.get("kernel")
    if not isinstance(kernel, Mapping) or base.get("kernel._target_") == kernel["_target_"]:
        return changed(section, base)
    known = catalog.options("kernel").get(str(choices.get("kernel")))
    if known is None or known.target != kernel["_target_"]:
        return [f"kernel={kernel['_target_'].rpartition('.')[2]}", *changed(section, base)]
    return [f"kernel={known.name}", *changed(section, base | {f"kernel.{key}": v for key, v in known.keys.items()})]


def state(weights: str, checkpoint: Path | None, run: Path, trained: Mapping[str, Any]) -> list[str]:
    """How weights and checkpoint differ from those by which a run measures itself."""
    found = ["raw"] if weights == "raw" and trained["trainer"]["ema_decay"] else []
    folder = run / "checkpoints"
    own = next((f for name in ("best", "last") if (f := folder / f"{name}.safetensors").exists()), None)
    if checkpoint is not None and own is not None and not checkpoint.samefile(own):
        elsewhere = [] if checkpoint.parent.samefile(folder) else [file_sha256(checkpoint)[:8]]
        found += [checkpoint.stem, *elsewhere]
    return found
