"""Who fits whom: what objectives, samplers and estimators require against what models offer.

This is the first of three gates, by class alone and before torch is imported. The second looks at the data's
specification (``build``), the third at values (the constructors).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gencli.config import catalog
from gencli.config.catalog import Option
from gencli.core.errors import UsageError, quoted

PARTS = ("objective", "sampler", "estimator", "picture")
"""Groups that require capabilities of the model."""

_VERB = {"objective": "train", "sampler": "draw from", "estimator": "measure", "picture": "show"}


def missing(part: str | None, model: str | None) -> list[str]:
    """Capabilities that a part's class requires and the model's class does not offer; none where a source is unread."""
    needs, offers = (catalog.class_info(target) if target else None for target in (part, model))
    if needs is None or offers is None:
        return []
    required = needs.attributes.get("requires", ())
    if not offers.whole:  # a base class that was not read may offer anything; ``assemble`` asks the built objects again
        return []
    return [name.rpartition(".")[2] for name in required if name not in offers.bases]


def capabilities(model: str) -> list[str]:
    """The capabilities that a model's class offers, without Model itself."""
    info = catalog.class_info(model)
    rooms = ("gencli.models.base.", "gencli.models.structure.")
    names = [name.rpartition(".")[2] for name in sorted(info.bases) if name.startswith(rooms)] if info else []
    return [name for name in names if name != "Model"]


def fitting(group: str, model: str | None, config_dirs: Sequence[str | Path] = ()) -> list[str]:
    """Options of ``objective``, ``sampler`` or ``estimator`` that fit a model's class."""
    return [name for name, option in _classes(group, config_dirs).items() if not missing(option.target, model)]


def fitting_models(part: str | None, config_dirs: Sequence[str | Path] = ()) -> list[str]:
    """Options of ``model`` that a part's class can work with."""
    return [name for name, option in _classes("model", config_dirs).items() if not missing(part, option.target)]


def refusal(group: str, part: str, model: str, lacking: Sequence[str]) -> str:
    """Why a part cannot serve a model that lacks capabilities, in the one sentence of both gates."""
    needs = " and ".join(lacking)
    return f"{group}={part} cannot {_VERB[group]} model={model}: it needs {needs}, which {model} does not offer"


def check(config: Mapping[str, Any], config_dirs: Sequence[str | Path] = ()) -> None:
    """Refuse parts that the model cannot serve.

    Args:
        config: a plain config with ``choices``.
        config_dirs: the user's own directories of options.

    Raises:
        UsageError: says what is missing and what would fit.
    """
    for group in ("model", *PARTS):
        refuse_untrusted(group, _target(config.get(group)) or "gencli", config.get("trust") or [])
    for logger, node in (config.get("logger") or {}).items():
        refuse_untrusted(f"logger.{logger}", _target(node) or "gencli", config.get("trust") or [])
    model = _target(config.get("model"))
    choices = config.get("choices") or {}
    name = choices.get("model") or model
    for group in PARTS:
        part = _target(config.get(group))
        lacking = missing(part, model)
        if lacking:
            raise UsageError(
                f"{refusal(group, str(choices.get(group) or part), str(name), lacking)}. "
                f"{group}s that fit model={name}: {_names(fitting(group, model, config_dirs))}; "
                f"models that fit {group}={choices.get(group) or part}: {_names(fitting_models(part, config_dirs))}."
            )


def refuse_untrusted(group: str, target: str, trust: Sequence[str]) -> None:
    """Refuse a class that lies neither in gencli nor in a package that the user trusts on this command.

    Raises:
        UsageError: says how to trust its package.
    """
    package = target.partition(".")[0]
    if package != "gencli" and package not in trust:
        raise UsageError(
            f"{group}._target_={quoted(target)}: this class is not part of gencli and would run code of its own. "
            f"If you know where it comes from, add trust=[{quoted(package)}]"
        )


def _classes(group: str, config_dirs: Sequence[str | Path]) -> dict[str, Option]:
    return {name: option for name, option in catalog.options(group, config_dirs).items() if option.target}


def _target(node: Any) -> str | None:
    target = node.get("_target_") if isinstance(node, Mapping) else None
    return target if isinstance(target, str) else None


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
