"""What the source of a class says of it: its documentation and its options. Nothing is imported to learn it."""

from __future__ import annotations

import ast
import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

from gencli.config import catalog, sections
from gencli.config.catalog import Module, Option
from gencli.core import options

_PREPROCESS = "gencli.data.preprocess.Preprocess"
"""Whose options stand in the section ``data`` too."""

_HEADING = re.compile(r"^(Args|Raises|References|Returns|Yields|Example|Examples|Attributes):\s*$")


@dataclass(frozen=True)
class Declared:
    """One option of a class.

    Args:
        words: its type and range as people say them; empty where the source does not tell.
        default: as the source writes it; None: it has none.
        about: what the documentation of the class says of it.
    """

    words: str
    default: str | None
    about: str


def documentation(target: str) -> dict[str, str]:
    """The documentation of a class by section: ``""`` what it is, ``Args``, ``Raises``, ``References`` ..."""
    lineage = catalog.lineage(target)
    text = (ast.get_docstring(lineage[0][1]) if lineage else None) or ""
    found: dict[str, list[str]] = {"": []}
    heading = ""
    for line in text.splitlines():
        match = _HEADING.match(line)
        heading = match[1] if match else heading
        found.setdefault(heading, []).extend([] if match else [line])
    return {name: inspect.cleandoc("\n".join(lines)).strip() for name, lines in found.items()}


def declared(option: Option) -> dict[str, Declared]:
    """The options of a part by name, those of its ancestors too; of a trainer and an optimizer those of its section."""
    if option.target is None:
        if option.group not in ("trainer", "optimizer"):
            return {}
        kind = sections.TrainerOptions if option.group == "trainer" else sections.optimizer_kind(option.keys["name"])
        known = options.of_dataclass(kind)
        return {
            name: Declared(options.words(hint), repr(known.defaults[name]) if name in known.defaults else None, "")
            for name, hint in known.hints.items()
        }
    found: dict[str, Declared] = {}
    own = catalog.lineage(option.target)
    way = catalog.lineage(_PREPROCESS) if option.group == "data" else []
    for module, definition in (*own, *way):
        about = _arguments(ast.get_docstring(definition) or "")
        for name, annotation, default in _options(definition):
            said = about.get(name, "")
            if name not in found:
                found[name] = Declared(_words(module, annotation), default, said)
            elif not found[name].about and said:
                found[name] = Declared(found[name].words, found[name].default, said)
    return found


def _arguments(docstring: str) -> dict[str, str]:
    """What a docstring says under ``Args:``, by name."""
    found: dict[str, list[str]] = {}
    name = None
    inside = False
    for line in docstring.splitlines():
        if match := _HEADING.match(line):
            inside = match[1] == "Args"
        elif inside and (start := re.match(r"^    (\w+): (.*)$", line)):
            name = start[1]
            found[name] = [start[2]]
        elif inside and name and line.startswith("        "):
            found[name].append(line.strip())
    return {name: " ".join(lines) for name, lines in found.items()}


def _options(definition: ast.ClassDef) -> list[tuple[str, ast.expr | None, str | None]]:
    """Name, annotation and default of what a config may give: fields of a dataclass, else arguments by keyword."""
    init = next((n for n in definition.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if init is not None:
        own = init.args
        early = [None] * (len(own.args) - len(own.defaults))
        pairs = [
            *zip(own.args, [*early, *own.defaults], strict=True),
            *zip(own.kwonlyargs, own.kw_defaults, strict=True),
        ]
        return [(a.arg, a.annotation, ast.unparse(d) if d is not None else None) for a, d in pairs]
    if not any("dataclass" in ast.unparse(decorator) for decorator in definition.decorator_list):
        return []
    fields = [n for n in definition.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
    return [
        (n.target.id, n.annotation, ast.unparse(n.value) if n.value is not None else None)
        for n in fields
        if isinstance(n.target, ast.Name) and not ast.unparse(n.annotation).startswith("ClassVar")
    ]


# --- types -----------------------------------------------------------------------------------------------------------

_TYPES: Mapping[str, Any] = {
    **{"int": int, "float": float, "bool": bool, "str": str, "None": None, "list": list, "dict": dict, "tuple": tuple},
    **{"Any": Any, "Sequence": Sequence, "Mapping": Mapping, "Callable": Callable},
    **{"Literal": Literal, "Annotated": Annotated, "Optional": typing.Optional},
    **{name: value for name, value in vars(options).items() if not name.startswith("_")},
}


def _words(module: Module, annotation: ast.expr | None) -> str:
    """A type as people say it; empty where nothing is to be said of it."""
    if annotation is None:
        return ""
    try:
        hint = _hint(module, annotation)
        return "" if hint is Any else options.words(hint).rstrip(",")
    except (TypeError, ValueError, AttributeError, KeyError):
        return ""


def _hint(module: Module, node: ast.expr) -> Any:
    """The type that an annotation stands for. Classes that are not imported are known by their name only."""
    if isinstance(node, ast.Constant):
        return _hint(module, ast.parse(node.value, mode="eval").body) if isinstance(node.value, str) else node.value
    if isinstance(node, ast.Name) and (node.id in _TYPES or node.id in module.values):
        return _TYPES[node.id] if node.id in _TYPES else _hint(module, module.values[node.id])
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return Union[_hint(module, node.left), _hint(module, node.right)]  # noqa: UP007
    if isinstance(node, ast.Call):
        made = _hint(module, node.func)
        values = {entry.arg: ast.literal_eval(entry.value) for entry in node.keywords if entry.arg}
        return made(*map(ast.literal_eval, node.args), **values)
    if isinstance(node, ast.Subscript):
        origin = _hint(module, node.value)
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if origin is Literal:
            return Literal[tuple(ast.literal_eval(item) for item in inner)]
        if not _is_type(origin):
            return origin  # Kernel[Any]
        if origin is Callable:
            return Callable
        return (
            origin[tuple(_hint(module, item) for item in inner)] if len(inner) > 1 else origin[_hint(module, inner[0])]
        )
    return _unread(module, node)


def _is_type(origin: Any) -> bool:
    return any(origin is known for known in _TYPES.values())


def _unread(module: Module, node: ast.expr) -> Any:
    """A stand-in for a class: it has its name, and the ``words`` that its source declares."""
    dotted = catalog.dotted_name(module, node) or ast.unparse(node)
    if dotted.startswith("gencli.core.options.") and hasattr(options, dotted.rpartition(".")[2]):
        return getattr(options, dotted.rpartition(".")[2])
    if alias := catalog.value(dotted):
        return _hint(*alias)
    name, info = dotted.rpartition(".")[2], catalog.class_info(dotted)
    return type(name, (), {"words": info.attributes.get("words", name) if info else name})
