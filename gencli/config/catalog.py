"""What exists, read without running it: options from the YAML files, classes from their source by ``ast``.

Nothing here imports torch, Hydra, or the class that a config names: ``gencli list``, completion and the gate before a
run's first import need names and declarations only.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from gencli.config.locate import config_dir

GROUPS = (
    *("model", "data", "objective", "sampler", "estimator", "metric", "picture"),
    *("net", "path", "kernel", "optimizer", "trainer", "logger", "experiment"),
)

LISTED = {"metric": "metrics", "logger": "logger"}
"""Groups of which a command takes several options, and the section that holds each under its own name."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Option:
    """One YAML file of a group.

    Args:
        group: the group.
        name: the option's name.
        description: the first comment of the file that is no directive.
        target: the class that it builds, as a dotted name.
        partners: the options of other groups that it brings with it.
        nested: the keys that hold an option of another group, such as ``kernel`` or ``net``, and which group that is.
        held: the option that stands at each of these keys.
        keys: its keys, dotted, with their values; those of nested options among them.
    """

    group: str
    name: str
    description: str = ""
    target: str | None = None
    partners: dict[str, str | None] = field(default_factory=dict)
    nested: dict[str, str] = field(default_factory=dict)
    held: dict[str, str | None] = field(default_factory=dict)
    keys: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ClassInfo:
    """A class as its source declares it.

    Args:
        name: dotted name of its definition.
        bases: dotted names of all its ancestors and itself.
        attributes: literal class attributes, inherited ones included; ``requires`` holds dotted class names, those of
            the type parameter in ``class HMC(Sampler[Unnormalized])`` too.
        whole: whether the source of every ancestor was found.
    """

    name: str
    bases: frozenset[str]
    attributes: dict[str, Any]
    whole: bool


def options(group: str, config_dirs: Sequence[str | Path] = ()) -> dict[str, Option]:
    """The options of a group by name; a user's directory may add options but not replace them, as in Hydra."""
    found: dict[str, Option] = {}
    for folder in (config_dir(), *map(Path, config_dirs)):
        for path in sorted((folder / group).glob("*.yaml")):
            if path.stem not in found:
                found[path.stem] = _kept(group, path, path.stat().st_mtime_ns)
    return found


def primary(verb: str) -> dict[str, Any]:
    """The file from which the config of a command starts, its defaults list included."""
    content: dict[str, Any] = yaml.load((config_dir() / f"{verb}.yaml").read_text(encoding="utf-8"), Loader=_Loader)
    return content  # a safe loader


def groups(config_dirs: Sequence[str | Path] = ()) -> list[str]:
    """The groups that have options, in the order in which they are told."""
    folders = [path for path in (config_dir(), *map(Path, config_dirs)) if path.is_dir()]
    present = {path.name for folder in folders for path in folder.iterdir() if any(path.glob("*.yaml"))}
    return [group for group in GROUPS if group in present] + sorted(present - {*GROUPS})


@cache
def _kept(group: str, path: Path, changed: int) -> Option:
    """An option as it is read once, until its file changes."""
    return _read_option(group, path)


def _read_option(group: str, path: Path) -> Option:
    text = path.read_text(encoding="utf-8")
    comments = [line[1:].strip() for line in text.splitlines() if line.startswith("#")]
    description = next((comment for comment in comments if comment and not comment.startswith("@")), "")
    try:
        content = yaml.load(text, Loader=_Loader)  # a safe loader
    except yaml.YAMLError:
        return Option(group, path.stem, "(this file is no YAML)")
    content = content if isinstance(content, dict) else {}

    partners: dict[str, str | None] = {}
    nested: dict[str, str] = {}
    held: dict[str, str | None] = {}
    target: str | None = None
    keys: dict[str, Any] = {}
    for entry in content.pop("defaults", None) or []:
        if isinstance(entry, dict):
            for key, choice in entry.items():
                if key.startswith("override "):
                    partners[key.removeprefix("override ").strip().lstrip("/").partition("@")[0]] = choice
                elif key.startswith("/") and not key.startswith("/schema/"):
                    inner, _, at = key[1:].partition("@")
                    nested[at], held[at] = inner, choice
                    keys |= {f"{at}.{name}": value for name, value in _keys_of(inner, choice, path).items()}
        elif entry != "_self_" and not entry.startswith("/") and (path.parent / f"{entry}.yaml").is_file():
            parent = _read_option(group, path.parent / f"{entry}.yaml")
            target, keys = parent.target, {**parent.keys, **keys}
            partners, nested = {**parent.partners, **partners}, {**parent.nested, **nested}
            held = {**parent.held, **held}

    if "@package _global_" in "".join(text.splitlines()[:1]) and group != "experiment":
        content = content.get(group) or {}
    if group in LISTED and isinstance(content.get(path.stem), dict):  # metrics=[a,b] holds each under its own name
        content = content[path.stem]
    keys |= dict(flatten(content))
    target = content.get("_target_", target)
    return Option(group, path.stem, description, target, partners, nested, held, keys)


def _keys_of(group: str, choice: str | None, beside: Path) -> dict[str, Any]:
    """The keys of an option that another one, in the file ``beside``, holds."""
    files = (folder / group / f"{choice}.yaml" for folder in (beside.parent.parent, config_dir()))
    file = next((file for file in files if file.is_file()), None)
    return {key: value for key, value in _read_option(group, file).keys.items() if key != "_target_"} if file else {}


def flatten(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Keys of nested mappings, dotted, with their values.

    Example:
        >>> dict(flatten({"model": {"net": {"width": 64}, "levels": 3}}))
        {'model.net.width': 64, 'model.levels': 3}
    """
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


# --- classes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Module:
    """The names of a module: its classes, what it imports, and the values that it gives to names of its own."""

    name: str
    classes: dict[str, ast.ClassDef]
    imports: dict[str, str]
    values: dict[str, ast.expr] = field(default_factory=dict)


def package_folder(package: str) -> Path | None:
    """Where a top-level package lies: on Python's path, or else in the current folder; nothing is imported."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is not None and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    if spec is not None and spec.origin:
        return Path(spec.origin)
    here = Path.cwd() / package
    return (
        here
        if (here / "__init__.py").is_file()
        else here.with_suffix(".py")
        if here.with_suffix(".py").is_file()
        else None
    )


@cache
def class_info(target: str) -> ClassInfo | None:
    """Read the class that a ``_target_`` names; None where the source does not show it."""
    found = _find(target, target.partition(".")[0])
    if found is None:
        return None
    module, definition = found
    lineage = list(_lineage(module, definition))
    attributes: dict[str, Any] = {}
    for owner, ancestor in reversed(lineage):  # the nearest definition wins
        attributes |= _attributes(owner, ancestor)
    names = frozenset(f"{owner.name}.{ancestor.name}" for owner, ancestor in lineage)
    whole = not any(_unread(owner, base) for owner, ancestor in lineage for base in ancestor.bases)
    return ClassInfo(f"{module.name}.{definition.name}", names, attributes, whole)


def lineage(target: str) -> list[tuple[Module, ast.ClassDef]]:
    """The class that a ``_target_`` names and its ancestors, as far as their source shows them, the class first."""
    found = _find(target, target.partition(".")[0])
    return list(_lineage(*found)) if found else []


def value(dotted: str) -> tuple[Module, ast.expr] | None:
    """What a module of gencli gives to a name of its own, such as a type with a range, or hands on; unevaluated."""
    owner, _, name = dotted.rpartition(".")
    module = _module(owner) if owner.startswith("gencli.") else None
    if module and name in module.imports:
        return value(module.imports[name])
    return (module, module.values[name]) if module and name in module.values else None


def _unread(module: Module, base: ast.expr) -> bool:
    """Whether a base class may hide capabilities: its source was not found, and it is neither torch's nor Python's."""
    dotted = dotted_name(module, base)
    if dotted is None:
        return True
    known = dotted.partition(".")[0] in ("torch", *sys.stdlib_module_names)
    return not known and _find(dotted, module.name.partition(".")[0]) is None


def _lineage(module: Module, definition: ast.ClassDef) -> Iterator[tuple[Module, ast.ClassDef]]:
    """The class and its ancestors, depth first, as far as they lie in gencli or in the class's own package."""
    yield module, definition
    for base in definition.bases:
        dotted = dotted_name(module, base)
        found = _find(dotted, module.name.partition(".")[0]) if dotted else None
        if found and found[1] is not definition:
            yield from _lineage(*found)


def _find(dotted: str, package: str) -> tuple[Module, ast.ClassDef] | None:
    """Follow a dotted name, through re-exports, to the class it stands for."""
    for _ in range(10):  # re-exports end somewhere; a circle of them does not
        module_name, _, name = dotted.rpartition(".")
        if dotted.partition(".")[0] not in ("gencli", package):
            return None
        module = _module(module_name)
        if module is None:
            return None
        if name in module.classes:
            return module, module.classes[name]
        if name not in module.imports:
            return None
        dotted = module.imports[name]
    return None


@cache
def _module(name: str) -> Module | None:
    top, *rest = name.split(".")
    folder = package_folder(top) if top else None
    if folder is None:
        return None
    base = folder.joinpath(*rest)
    path = next((p for p in (base / "__init__.py", base.with_suffix(".py"), base) if p.is_file()), None)
    if path is None:
        return None
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):
        return None

    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    imports: dict[str, str] = {}
    for node in _statements(tree.body):
        if isinstance(node, ast.Import):
            for alias in node.names:
                imports[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*parent, *([node.module] if node.module else [])])
            for alias in node.names:
                imports[alias.asname or alias.name] = f"{origin}.{alias.name}"
    values = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    return Module(name, {n.name: n for n in tree.body if isinstance(n, ast.ClassDef)}, imports, values)


def _statements(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Statements and those within them; expressions, most of a source, are not gone through."""
    for node in body:
        yield node
        for block in ("body", "orelse", "handlers", "finalbody", "cases"):
            yield from _statements(getattr(node, block, ()))


def dotted_name(module: Module, node: ast.expr) -> str | None:
    """The dotted name that an expression such as ``interfaces.Model`` or ``Base[T]`` stands for."""
    if isinstance(node, ast.Subscript):
        return dotted_name(module, node.value)
    if isinstance(node, ast.Attribute):
        owner = dotted_name(module, node.value)
        return f"{owner}.{node.attr}" if owner else None
    if isinstance(node, ast.Name):
        return f"{module.name}.{node.id}" if node.id in module.classes else module.imports.get(node.id)
    return None


def _attributes(module: Module, definition: ast.ClassDef) -> dict[str, Any]:
    """Class attributes with literal values, and ``requires`` as dotted names of the classes' definitions."""
    named = _parameters(module, definition)
    found: dict[str, Any] = {"requires": named} if named else {}
    for statement in definition.body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target, value = statement.targets[0], statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            target, value = statement.target, statement.value
        else:
            continue
        if not isinstance(target, ast.Name):
            continue
        if target.id == "requires" and isinstance(value, ast.Tuple):
            found["requires"] = tuple(_canonical(module, item) for item in value.elts)
        else:
            try:
                found[target.id] = ast.literal_eval(value)
            except ValueError:
                continue
    return found


def _parameters(module: Module, definition: ast.ClassDef) -> tuple[str, ...]:
    """The models among the type parameters of its bases, as ``models.base.Partner`` finds them at run time."""
    subscripts = [base.slice for base in definition.bases if isinstance(base, ast.Subscript)]
    names = [node for at in subscripts for node in (at.elts if isinstance(at, ast.Tuple) else [at])]
    found = [_find(dotted_name(module, node) or "", module.name.partition(".")[0]) for node in names]
    return tuple(
        f"{owner.name}.{kind.name}"
        for owner, kind in filter(None, found)
        if any((at.name, model.name) == ("gencli.models.base", "Model") for at, model in _lineage(owner, kind))
    )


def _canonical(module: Module, node: ast.expr) -> str:
    dotted = dotted_name(module, node) or ast.unparse(node)
    found = _find(dotted, module.name.partition(".")[0])
    return f"{found[0].name}.{found[1].name}" if found else dotted
