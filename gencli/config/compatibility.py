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

LAYOUTS = ("vector", "image", "sequence", "network")
"""How the coordinates of x may be laid out."""

MOST = 12
"""Names of others that a refusal of model and data gives."""

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


def fitting(
    group: str, model: str | None, config_dirs: Sequence[str | Path] = (), data: str | None = None
) -> list[str]:
    """Options of ``objective``, ``sampler``, ``estimator`` or ``picture`` that fit a model's class, and its data's."""
    found = {name: option for name, option in _classes(group, config_dirs).items() if fits(option, model)}
    return [name for name, option in found.items() if not data or layout(data) in (laid_out(option) or LAYOUTS)]


def fitting_models(part: Option | str | None, config_dirs: Sequence[str | Path] = ()) -> list[str]:
    """Options of ``model`` that a part can work with: an option, or the class of one."""
    option = part if isinstance(part, Option) else Option("", "", target=part)
    return [name for name, model in _classes("model", config_dirs).items() if fits(option, model.target)]


def fits(part: Option, model: str | None) -> bool:
    """Whether a part can serve a model, as far as their classes tell: capabilities, values of x, and their layout.

    What depends on options or on the data is not known yet: a part that fits here may still refuse.
    """
    if missing(part.target, model):
        return False
    needs, offers = (catalog.class_info(target) if target else None for target in (part.target, model))
    if needs is None or offers is None or model is None or not offers.whole:
        return True
    moved, kinds = values(part), offers.attributes.get("supports", ())
    wanted = laid_out(part)
    return not (moved and not {*moved} & {*kinds}) and not (wanted and not {*wanted} & layouts(model))


def values(part: Option) -> tuple[str, ...]:
    """The kinds of x that a part is for, by its class or by the kernel that it holds; none: what its models have."""
    own, kernel = _declared(part)
    found: tuple[str, ...] = own.get("supports", ()) or kernel.get("moves", ())
    return found or (("real", "unit") if own.get("continuous") is True else ())


def laid_out(part: Option) -> tuple[str, ...]:
    """How the data are laid out that a part is for; none: as those of its models."""
    own, kernel = _declared(part)
    found: tuple[str, ...] = own.get("layouts", ()) or kernel.get("layouts", ())
    return found


def _declared(part: Option) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What the class of a part declares, and that of the kernel that it holds."""
    kernel_name = part.held.get("kernel")  # few parts hold one: the group is not read for the others
    held = catalog.options("kernel").get(kernel_name) if kernel_name else None
    infos = [catalog.class_info(target) if target else None for target in (part.target, held.target if held else None)]
    own, kernel = (info.attributes if info else {} for info in infos)
    return own, kernel


def layouts(model: str) -> frozenset[str]:
    """How the coordinates of data may be laid out that a model's class takes; images become vectors where they must.

    ``vector``, ``image``, ``sequence`` (in nats per symbol, for ``Autoregressive``), ``network`` (a bit a dyad).
    """
    info = catalog.class_info(model)
    if info is None:
        return frozenset(LAYOUTS)
    if own := info.attributes.get("layouts"):
        return frozenset(own)
    if "vector" not in info.attributes.get("shapes", ("vector",)):
        return frozenset({"image"})
    lacking = {"sequence"} - ({"sequence"} if "gencli.models.base.Autoregressive" in info.bases else set())
    lacking |= set() if "binary" in info.attributes.get("supports", ()) else {"network"}
    return frozenset(LAYOUTS) - lacking


def layout(data: str | None) -> str:
    """How the coordinates of a data set are laid out, by its class."""
    info = catalog.class_info(data) if data else None
    own = info.attributes if info else {}
    return str(own.get("layout") or own.get("shape_kind") or "vector")


def models_for(data: Option, config_dirs: Sequence[str | Path] = ()) -> list[str]:
    """Options of ``model`` whose class takes the data, as they come by default."""
    kind, place = _kind(data), layout(data.target)
    return [name for name, model in _classes("model", config_dirs).items() if takes(model.target, kind, place)]


def data_for(model: Option, config_dirs: Sequence[str | Path] = ()) -> list[str]:
    """Options of ``data`` that a model's class takes, as they come by default."""
    found = _classes("data", config_dirs)
    return [name for name, data in found.items() if takes(model.target, _kind(data), layout(data.target))]


def takes(model: str | None, kind: str, place: str) -> bool:
    """Whether a model's class takes x of a kind, or can be given reals in its place, and its layout."""
    info = catalog.class_info(model) if model else None
    if model is None or info is None:
        return False
    supports = info.attributes.get("supports", ("real",))
    reached = kind in supports or ("real" in supports and kind not in ("graph", "mixed"))
    return reached and place in layouts(model)


def others(config: Mapping[str, Any], kind: str, place: str) -> str:
    """Models that take this data, and data that this model takes, for a refusal of the two together.

    Args:
        config: with ``choices`` and ``model``.
        kind: of the data's support.
        place: how the data are laid out.
    """
    choices = config.get("choices") or {}
    models = [name for name, model in _classes("model", ()).items() if takes(model.target, kind, place)]
    data = data_for(Option("model", "", target=_target(config.get("model"))))
    return (
        f"models that take data={choices.get('data')}: {_names(models, MOST)}; "
        f"data that model={choices.get('model')} takes: {_names(data, MOST)}"
    )


def _kind(data: Option) -> str:
    """The kind of support that a class of data declares; reals where its options or files decide."""
    info = catalog.class_info(data.target) if data.target else None
    return str((info.attributes.get("support") if info else None) or "real").partition(":")[0]


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
            own = _option(group, choices, part)
            raise UsageError(
                f"{refusal(group, str(choices.get(group) or part), str(name), lacking)}. "
                f"{group}s that fit model={name}: {_names(fitting(group, model, config_dirs))}; "
                f"models that fit {group}={choices.get(group) or part}: {_names(fitting_models(own, config_dirs))}."
            )


def refuse_untrusted(group: str, target: str, trust: Sequence[str], *, option: bool = False) -> None:
    """Refuse a class that lies neither in gencli nor in a package that the user trusts on this command.

    Args:
        group: where it is named: a section, or the key of an option.
        target: the dotted name.
        trust: packages.
        option: whether ``group`` is a key whose value is the name.

    Raises:
        UsageError: says how to trust its package.
    """
    package = target.partition(".")[0]
    if package != "gencli" and package not in trust:
        key = group if option else f"{group}._target_"
        raise UsageError(
            f"{key}={quoted(target)}: this class is not part of gencli and would run code of its own. "
            f"If you know where it comes from, add trust=[{quoted(package)}]"
        )


def _classes(group: str, config_dirs: Sequence[str | Path]) -> dict[str, Option]:
    return {name: option for name, option in catalog.options(group, config_dirs).items() if option.target}


def _option(group: str, choices: Mapping[str, Any], part: str | None) -> Option | str | None:
    """The option that was chosen, where it has the class that stands in the config; else that class."""
    chosen = catalog.options(group).get(str(choices.get(group)))
    return chosen if chosen is not None and chosen.target == part else part


def _target(node: Any) -> str | None:
    target = node.get("_target_") if isinstance(node, Mapping) else None
    return target if isinstance(target, str) else None


def _names(names: Sequence[str], most: int | None = None) -> str:
    shown = names[:most] if most else names
    more = f" and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
    return (", ".join(shown) or "none") + more
