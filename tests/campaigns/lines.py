"""Command lines drawn from what gencli declares: its groups, options, their types and ranges, and Hydra's grammar."""

from __future__ import annotations

import inspect
import pydoc
import random
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from gencli.config import catalog, compatibility, sections
from gencli.core import options
from gencli.core.options import Natural, Range, Seed

TINY = (
    *("trainer.max_steps=2", "trainer.eval_every=1", "trainer.log_every=1", "trainer.batch_size=8"),
    *("trainer.eval_examples=8", "trainer.workers=0", "logger=none", "n=2", "device=cpu", "threads=1"),
)
"""What bounds a training."""

FEW = {"train": 60, "val": 16, "test": 16, "simulations": 60, "length": 12}
"""Sizes of data sets that are made from a seed."""

SMALL = {"width": 8, "hidden": 8, "dim": 2}
"""Sizes of networks; other counts of more than 8 become 3 (``small``)."""

_AS_THEY_ARE = (
    "size",
    "dimension",
    "levels",
    "bins",
    "window",
    "max_nfe",
    "degree",
    "seed",
    "image",
    "given",
    "buffer",
)
DATA = {
    "real": ("moons", "digits", "gaussian", "circles", "potential", "simulator", "pendulum", "kepler", "lorenz63"),
    "levels": ("digits",),
    "binary": ("gray_toys", "ising"),
    "categorical": ("categorical_toys", "hmm"),
    "graph": ("karate", "florentine", "lazega"),
    "mixed": ("synthetic_tabular", "crabs"),
    "unit": ("digits",),
}
"""Embedded data sets by the values that a model supports."""


@dataclass(frozen=True)
class Key:
    """A key of the command line and what it may be."""

    path: str
    hint: Any


# --- keys ------------------------------------------------------------------------------------------------------------


@cache
def keys_of(group: str, name: str, section: str) -> tuple[Key, ...]:
    """Every declared key of an option of a group, below a section; those of nested sections too."""
    option = catalog.options(group)[name]
    if group in ("trainer", "optimizer"):
        kind = sections.TrainerOptions if group == "trainer" else sections.optimizer_kind(option.keys["name"])
        return tuple(Key(f"{section}.{key}", hint) for key, hint in options.of_dataclass(kind).hints.items())
    found = [*_below(option.target, section)] if option.target else []
    for prefix in sorted({key.rpartition(".")[0] for key in option.keys if key.endswith("._target_")}):
        found += _below(option.keys[f"{prefix}._target_"], f"{section}.{prefix}")
    return tuple(found)


def _below(target: Any, prefix: str) -> Iterator[Key]:
    kind = pydoc.locate(target) if isinstance(target, str) else target
    if not inspect.isclass(kind):
        return
    declared = options.of_class(kind)
    for key, hint in declared.hints.items():
        if key in ("spec", "in_shape", "out_shape"):
            continue
        yield Key(f"{prefix}.{key}", hint)
        if key in declared.nested:
            yield from _below(declared.nested[key].owner, f"{prefix}.{key}")


def top_keys(verb: str) -> list[Key]:
    """Keys beside the sections."""
    texts = {
        "train": ("run_dir", "resume", "init_from", "device", "data.root", "data.transform", "data.dequantization"),
        "sample": ("weights", "checkpoint", "device", "context", "name", "format"),
        "eval": ("split", "weights", "checkpoint", "device", "scores", "metrics"),
    }[verb]
    flags = {"train": ("data.flatten", "data.flip")}.get(verb, ())
    own = {"train": {}, "sample": {"batch_size": options.Count}, "eval": {"examples": options.Count}}[verb]
    numbers = {"seed": Seed, "n": Natural, "threads": sections.NUMBERS["threads"], **own}
    keys = [Key(key, hint) for key, hint in numbers.items()]
    if verb == "sample":
        keys += [Key(f"style.{key}", hint) for key, hint in options.of_dataclass(sections.StyleOptions).hints.items()]
    return [*keys, *(Key(key, Any) for key in (*texts, "trust")), *(Key(key, bool) for key in flags)]


def keys_of_sweeps() -> Iterator[Key]:
    """Keys ``sweep.*`` and ``search.*``."""
    for prefix, kind in (("sweep", sections.SweepOptions), ("search", sections.SearchOptions)):
        for key, hint in options.of_dataclass(kind).hints.items():
            yield Key(f"{prefix}.{key}", hint)


# --- values ----------------------------------------------------------------------------------------------------------

NUMBERS = (
    *("0", "1", "-1", "2", "0.5", "-0.0", "1e-3", "1e308", "1e400", "-1e400", "5e-324", "nan", "inf", "-inf", "NaN"),
    *("99999999999999999999", "1_000", "0x10", "1e3", ".5", "5.", "007", "1e-400", "1.0", "2.5", "1e5"),
)
NONSENSE = (
    *("true", "false", "null", "abc", "auto", "[]", "[[]]", "[[1]]", "[1,[2]]", "{}", "{a:1}", "{a:{b:[1]}}", "''"),
    *("' '", '"x"', "[null]", "[true]", "[nan]", "[1,2,3,4,5,6,7,8,9]", "[-1]", "['']", "[a,b]", "'1'"),
    *("[0.5]", "[0]"),
    *(
        "none",
        "None",
        "True",
        "on",
        "a b",
        "a/b",
        "../x",
        "-",
        "--",
        "~",
        "*",
        "é",
        "数",
        "💥",
        "a=b",
        "[a=b]",
        "%",
        "$",
    ),
)
NASTY = (
    *("${oc.env:HOME}", "${seed}", "${model}", "${nothing.here}", "${", "$", "${now:%Y}", "'${seed}'", "???", "'???'"),
    *("\x1b[31mred", "a\nb", "a\tb", "\x00", "\u202etxt", "\u2028", "a\rb", "\x7f", "'\x1b]0;x\x07'", "\ud800", "ﬀ"),
    *("'", '"', "\\", "a'b", 'a"b', "'a", '"a', "[", "]", "{", "}", "(", ")", "a,b", ",", ":", "a:b", "@", "!", "#x"),
    *(
        "x" * 300,
        "x/" * 150,
        "/",
        "/dev/null",
        "/dev/zero",
        "/proc/self/mem",
        "~",
        "~root",
        "~nobody9",
        ".",
        "..",
        "-x",
    ),
    *("latest", "nothing", "*", "[a-z]*", "**", "{a,b}", "$(id)", "`id`", ";id", "|id", "a b", " a", "a ", "\u00a0"),
)
GRAMMAR = (
    *("1,2", "range(3)", "range(0)", "range(1,0)", "range(1,2,0)", "glob(*)", "glob(x*)", "glob([a,b],exclude=a)"),
    *("choice(1,2)", "choice()", "interval(0,1)", "interval(1,0)", "tag(log,interval(1e-4,1e-2))", "shuffle(1,2)"),
    *("sort(2,1)", "int(3.5)", "float(1)", "str(1)", "bool(2)", "json_str([1])", "extend_list(1)", "cast(1)", "f(1)"),
    *("int(abc)", "range(1,1e9)", "sort(1,a)", "shuffle(range(3))", "choice(a,b),c", "glob(", "range(a)", "int([1,x])"),
)
SWEEPS = ("1,2", "choice(1,2)", "range(2)", "shuffle(1,2)", "sort(2,1)")
"""Of GRAMMAR what is a sweep of few jobs."""


def fitting(hint: Any, draw: random.Random) -> str:
    """A value that an option may have: small, or at an end of its range."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        found = next((extra for extra in inner[1:] if isinstance(extra, Range)), None)
        if typing.get_origin(inner[0]) in (list, tuple, Sequence):
            length = int(found.low or 1) if found else 1
            return f"[{','.join(fitting(typing.get_args(inner[0])[0], draw) for _ in range(length))}]"
        return _within(inner[0], found or Range(), draw)
    if origin is Literal:
        return str(draw.choice(inner)).lower() if isinstance(inner[0], bool) else str(draw.choice(inner))
    if origin in (list, tuple, Sequence) and inner:
        return f"[{','.join(fitting(inner[0], draw) for _ in range(draw.randint(0, 3)))}]"
    if inner and origin is not Mapping:
        return fitting(draw.choice(inner), draw)
    if hint is bool:
        return draw.choice(["true", "false"])
    if hint is None or hint is type(None):
        return "null"
    if hint in (int, float):
        return draw.choice(["0", "1", "2"])
    return draw.choice(["a", "null", "1", "gaussian"])


def _within(kind: Any, found: Range, draw: random.Random) -> str:
    low = found.low if found.low is not None else found.above if found.above is not None else -2
    high = found.high if found.high is not None else found.below
    if kind is int:
        high = min(int(high), int(low) + 3) if high is not None else int(low) + 3
        return str(draw.randint(int(low), high))
    inside = [value for value in (low, high, 0.5, 1.0, 0.1, 0.9, 1e-3, low + 1e-6) if value is not None]
    return repr(float(draw.choice([value for value in inside if found.holds(value)] or [low])))


def beyond(hint: Any, draw: random.Random) -> str:
    """A value at or just outside of an end of a range."""
    ranges = [*_ranges(hint)]
    if not ranges:
        return draw.choice(NUMBERS)
    found = draw.choice(ranges)
    ends = [end for end in (found.low, found.high, found.above, found.below) if end is not None] or [0]
    end = draw.choice(ends)
    values = [end, end - 1, end - 1e-9, end + 1e-9, -end, float(end)] + ([end + 1] if abs(end) < 1000 else [])
    value = draw.choice(values)
    text = repr(value) if isinstance(value, float) else str(value)
    return f"[{text}]" if draw.random() < 0.1 else text


def _ranges(hint: Any) -> Iterator[Range]:
    for extra in getattr(hint, "__metadata__", ()):
        if isinstance(extra, Range):
            yield extra
    for kind in typing.get_args(hint):
        yield from _ranges(kind)


def value(hint: Any, draw: random.Random) -> str:
    """Any value for a key."""
    kinds: list[Callable[[], str]] = [
        lambda: fitting(hint, draw),
        lambda: beyond(hint, draw),
        lambda: draw.choice(NUMBERS),
        lambda: draw.choice(NONSENSE),
        lambda: draw.choice(NASTY),
        lambda: draw.choice(GRAMMAR),
    ]
    return draw.choices(kinds, weights=(3, 4, 3, 3, 1, 1))[0]()


# --- parts -----------------------------------------------------------------------------------------------------------


def small(group: str, name: str, section: str) -> list[str]:
    """Words by which an option asks for little."""
    hints = {key.path: key.hint for key in keys_of(group, name, section)}
    found = []
    for key, default in catalog.options(group)[name].keys.items():
        path, last = f"{section}.{key}", key.rpartition(".")[2]
        wanted: list[Any] = []
        if last in _AS_THEY_ARE or isinstance(default, bool):
            continue
        if group == "data":
            wanted = [FEW[last]] if last in FEW else []
        elif last in SMALL and (default == "auto" or (isinstance(default, int) and default > 8)):
            wanted = [SMALL[last], [SMALL[last]]]
        elif last in SMALL and isinstance(default, list):
            wanted = [[8] * min(len(default), 3)]
        elif (isinstance(default, int) and default > 8) or (last == "steps" and default is None):
            wanted = [3, 8, 19]
        if fit := [each for each in wanted if options.fits(each, hints.get(path, Any))]:
            found.append(f"{path}={str(fit[0]).replace(' ', '')}")
    return found


@cache
def names(group: str) -> tuple[str, ...]:
    """The options of a group."""
    return tuple(catalog.options(group))


@cache
def partners(group: str, model: str) -> tuple[str, ...]:
    """The options of a group that fit a model's class."""
    return tuple(compatibility.fitting(group, catalog.options("model")[model].target))


def data_for(model: str, draw: random.Random) -> str:
    """A data set that a model may take."""
    kind = pydoc.locate(catalog.options("model")[model].target or "")
    supports = [name for name in getattr(kind, "supports", ()) if name in DATA] or ["real"]
    return draw.choice(DATA[draw.choice(supports)])


def parts(draw: random.Random, *, fit: bool) -> dict[str, str]:
    """A model, data and perhaps what goes with them; of those that fit, or any."""
    model = draw.choice(names("model"))
    embedded = sorted({name for some in DATA.values() for name in some})
    found = {"model": model, "data": data_for(model, draw) if fit else draw.choice(embedded)}
    for group in ("objective", "sampler", "estimator"):
        if draw.random() < (0.4 if fit else 0.6):
            of_model = partners(group, model) if fit else ()
            found[group] = draw.choice(of_model or names(group))
    if draw.random() < 0.2:
        found["optimizer"] = draw.choice(names("optimizer"))
    return found


def of_parts(found: Mapping[str, str]) -> list[str]:
    """The words that choose parts, and keep them small."""
    words = [f"{group}={name}" for group, name in found.items()]
    for group, name in found.items():
        words += small(group, name, group)
    for group in ("objective", "sampler", "estimator"):  # those that the model brings
        brought = catalog.options("model")[found["model"]].partners.get(group)
        if group not in found and brought:
            words += small(group, brought, group)
    return words
