"""Hydra's defaults lists in a run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hostile.base import ALL, SECTIONS, Case, both, merging, setting, text, verbs_of

COMMAND = {"_target_": "torch.utils.collect_env.run", "command": "touch ran"}

DEFAULTS: dict[str, object] = {
    "callback": [{"/logger@_global_.hydra.callbacks.evil": "from_run"}, "_self_"],
    "hidden": [{"/estimator@_global_.hydra.callbacks.evil": "from_run"}, "_self_"],
    "deeper": ["_self_", {"optional /objective@_global_.hydra.callbacks.evil": "from_run"}],
    "launcher": ["_self_", {"override /hydra/launcher": "joblib"}],
    "sweeper": [{"/logger@_global_.hydra.sweeper": "from_run"}, {"override hydra/sweeper": "evil"}],
    "job_logging": [{"override hydra/job_logging": "default"}, {"override /hydra/hydra_logging": "colorlog"}],
    "global": [{"/data@_global_": "from_run"}, {"optional /model@_global_.hydra.run": "from_run"}],
    "text": "_self_",
    "plain": ["/hydra/callbacks/evil", "evil"],
}
"""Shapes of a key ``defaults``; the first three make a section a callback of Hydra, which runs a command."""

CARRIERS = {"callback": "logger", "hidden": "estimator", "deeper": "objective"}
"""The section that holds the command."""


def cases() -> Iterator[Case]:
    for where, (shape, entries) in itertools.product([*SECTIONS, "", "model.net"], DEFAULTS.items()):
        if shape in ("text", "plain") and where in ("optimizer", "choices", "objective"):
            continue
        attack, carrier = merging(where, {"defaults": entries}), CARRIERS.get(shape, "logger")
        if where != carrier:
            attack = both(attack, setting(carrier, COMMAND))
        yield Case(f"defaults/{where or 'top'}-{shape}", attack, verbs_of(where) if where else ALL)
    for section, base in (
        ("objective.noise", "tilted"),
        ("estimator.base", "tilted"),
        ("objective.teacher", "student"),
    ):
        attack = both(
            merging(section, {"defaults": DEFAULTS["callback"], "_target_": "evil.Model"}), setting("logger", COMMAND)
        )
        yield Case(f"defaults/{section}", attack, ("resume", "eval"), base)
    package = text(lambda t: "# @package _global_.hydra.callbacks.evil\n" + t)
    yield Case("defaults/package-comment", package)
    for key, value in {
        "hydra": {"callbacks": {"x": {"_target_": "evil.Callback"}}, "searchpath": ["pkg://evil", "file:///tmp"]},
        "hydra/launcher": "joblib",
        "override hydra/job_logging": "default",
        "searchpath": ["pkg://evil"],
        "experiment": "evil",
        "hydra.run.dir": "/tmp/evil",
        "schema/of_run@_global_": "evil",
        "_self_": None,
        "metrics": {"evil": {"_target_": "evil.Model"}},
        "picture": {"_target_": "evil.Model"},
        "resume": "/etc",
        "checkpoint": "/dev/zero",
        "weights": "ema",
    }.items():
        yield Case(f"defaults/top-key-{word(key)}", merging("", {key: value}))


def word(text_: object) -> str:
    """A text as a part of a case's name."""
    return "".join(c if c.isalnum() else "_" for c in str(text_)).strip("_")[:40] or "empty"
