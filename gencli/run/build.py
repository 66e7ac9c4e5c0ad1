"""From config to objects. A ``Builder`` is the one place where a string becomes a class.

A run folder may come from a stranger, so a name is followed only into gencli, or into a package that the user trusts on
this command, and only to a class of the kind that stands at this place of the config. Nothing is imported before.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gencli import interfaces
from gencli.config import catalog, renamed
from gencli.config.compatibility import refuse_untrusted
from gencli.config.stored import TARGET
from gencli.core import options
from gencli.core.errors import UsageError, near, quoted
from gencli.data.base import Dataset
from gencli.data.task import Task
from gencli.kernels.base import Kernel
from gencli.models.base import Model
from gencli.models.trained import TrainedRun
from gencli.nn.base import Network
from gencli.objectives.base import Drift
from gencli.paths.base import Path as ProbabilityPath
from gencli.samplers.base import Procedure

T = TypeVar("T")

_NESTED: dict[type, int] = {Network: 3, Model: 1, ProbabilityPath: 0}
"""What a section within a section may be, and how many arguments its owner gives it."""

_NAMED: tuple[type, ...] = (Task, Drift)
"""What a word ``package.module:name`` may lead to, where a constructor declares it."""


@dataclass(frozen=True)
class Builder:
    """Builds the components that config sections describe.

    Args:
        trust: packages other than gencli whose classes may be built.
        opener: what becomes of a path where a constructor declares a ``TrainedRun``.
    """

    trust: Sequence[str]
    opener: Callable[[str, Sequence[str]], TrainedRun]

    def component(self, node: Mapping[str, Any], kind: type[T], *args: Any, group: str | None = None) -> T:
        """Build the component that a config section describes: ``factory`` and a call of it.

        Args:
            node: ``_target_`` and the constructor's keyword arguments.
            kind: the contract that the class must inherit: Model, Dataset, Objective, Sampler, Estimator ...
            args: positional arguments, before the config's own.
            group: where the section stands in the config, for messages; None: the contract's own group.

        Raises:
            UsageError: the name leads to no such class, or its arguments are wrong.
        """
        return self.factory(node, kind, given=len(args), group=group)(*args)

    def factory(
        self, node: Mapping[str, Any], kind: type[T], *, given: int = 0, group: str | None = None
    ) -> Callable[..., T]:
        """What builds the component of a config section; the section has been checked, nothing is built yet.

        A nested section with a ``_target_`` becomes a factory: of a Network (``net``), of a Path, or of a Model (noise,
        a base). Where a ``Kernel`` is declared it becomes one, and so does a path where a ``TrainedRun`` is.

        Args:
            node: ``_target_`` and the constructor's keyword arguments.
            kind: the contract that the class must inherit.
            given: number of positional arguments that the caller will give.
            group: where the section stands in the config, for messages; None: the contract's own group.

        Raises:
            UsageError: the name leads to no such class, a key is not declared by it, or a value is of the wrong type. A
                call of the factory raises it where the constructor refuses a value.
        """
        where = group or group_of(kind)
        owner = resolve(node, kind, self.trust, where)
        declared = _declared(owner, given)  # type: ignore[arg-type]  # a class of T is hashable, too
        values: dict[str, Any] = {}
        for key, value in node.items():
            if _is_section(value) and _admits(declared.hints.get(key), Kernel):
                values[key] = self.component(value, Kernel, group=f"{where}.{key}")
            elif _is_section(value):
                values[key] = self._nested(value, f"{where}.{key}")
            elif (
                isinstance(value, str)
                and _admits(declared.hints.get(key), TrainedRun)
                and value not in options.choices(declared.hints[key])
            ):
                values[key] = self.opener(value, self.trust)
            elif isinstance(value, str) and ":" in value and (named := _of_name(declared.hints.get(key))):
                values[key] = self._named(value, named, f"{where}.{key}")
            elif key != "_target_":
                values[key] = value

        values = options.check(values, declared, where, node["_target_"])
        for name in declared.needed:
            if name not in values:
                raise UsageError(f"{where}.{name}: {node['_target_']} needs a value for it")

        def build(*args: Any) -> T:
            try:
                return owner(*args, **values)
            except TypeError as error:
                if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                    raise  # within the constructor: a bug, not a wrong option
                raise _refusal(error, where, node["_target_"], declared) from error
            except (NotImplementedError, RecursionError):
                raise
            except (ValueError, RuntimeError, OverflowError, MemoryError, OSError) as error:
                # torch's own too, over a senseless size; files that a data set could not read
                raise _refusal(error, where, node["_target_"], declared) from error

        return build

    def _named(self, text: str, kind: type[T], key: str) -> T:
        """What a class or function ``package.module:name`` of a trusted package gives when it is called.

        Raises:
            UsageError: its package is not trusted, there is no such name, or it gives something else.
        """
        module_name, _, name = text.partition(":")
        if not re.fullmatch(TARGET, target := f"{module_name}.{name}"):
            raise UsageError(f"{key}={quoted(text)}: {getattr(kind, 'words', kind.__name__)} is needed")
        if target.partition(".")[0] == "gencli":  # a run folder may name it, and it would be called
            raise UsageError(
                f"{key}={quoted(text)}: a class or function of a package of yours; gencli's own have names"
            )
        refuse_untrusted(key, target, self.trust, option=True)
        try:
            module = _import(module_name, target.partition(".")[0])
        except ImportError as error:
            raise UsageError(f"{key}={quoted(text)}: {error}. {_near_modules(module_name)}".rstrip()) from error
        make = getattr(module, name, None)
        if not callable(make):
            named = [found for found, value in vars(module).items() if callable(value)]
            raise UsageError(f"{key}={quoted(text)}: {module_name} has no {name}. {near(name, named)}".rstrip())
        made = make()
        if not isinstance(made, kind):
            raise UsageError(f"{key}={quoted(text)}: this gives {type(made).__name__}, no {kind.__name__}")
        return made

    def _nested(self, node: Mapping[str, Any], group: str) -> Callable[..., Any]:
        """The factory of a section within a section, of whichever kind its class is."""
        owner = resolve(node, object, self.trust, group)
        for kind, given in _NESTED.items():
            if issubclass(owner, kind):
                return self.factory(node, kind, given=given, group=group)
        kinds = " or ".join(kind.__name__ for kind in _NESTED)
        raise UsageError(f"{group}._target_={node['_target_']}: {kinds} is needed")


def resolve(node: Mapping[str, Any], kind: type[T], trust: Sequence[str], group: str | None = None) -> type[T]:
    """The class that a config section's ``_target_`` names.

    Raises:
        UsageError: it is not in gencli or a trusted package, is not there, or is no component of this kind.
    """
    group, target = group or group_of(kind), node.get("_target_")
    if not isinstance(target, str) or not re.fullmatch(TARGET, target):
        raise UsageError(f"{group}._target_={quoted(target)}: the dotted name of a class is needed")
    if (now := renamed.current(target)) != target:
        raise UsageError(f"{group}._target_={target}: this class is {now} now")
    module_name, _, name = target.rpartition(".")
    refuse_untrusted(group, target, trust)
    package = target.partition(".")[0]

    try:
        module = _import(module_name, package)
    except ImportError as error:
        raise UsageError(f"{group}._target_={target}: {error}. {_near_modules(module_name)}".rstrip()) from error
    found = getattr(module, name, None)
    if found is None:
        names = [key for key, value in vars(module).items() if inspect.isclass(value) and issubclass(value, kind)]
        raise UsageError(f"{group}._target_={target}: {module_name} has no {name}. {near(name, names)}".rstrip())
    own = inspect.isclass(found) and found.__module__.partition(".")[0] == package
    if not own or not issubclass(found, kind):
        what = "Sampler" if kind is Procedure else kind.__name__
        raise UsageError(f"{group}._target_={target}: this is no {what} of {package}")
    return found


def group_of(kind: type) -> str:
    """The config group of a contract."""
    names: dict[type, str] = {Dataset: "data", Procedure: "sampler"}
    return names.get(kind, kind.__name__.lower())


@functools.cache
def _declared(owner: type, given: int) -> options.Options:
    """What a class declares; to read it takes longer than to build most parts."""
    return options.of_class(owner, given, vars(interfaces))


def _refusal(error: BaseException, where: str, target: str, declared: options.Options) -> UsageError:
    """What a constructor says of a value, with the key or the section in front."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if text.partition("=")[0] in declared.hints:  # an option, by the name that its class knows
        text = f"{where}.{text}"
    return UsageError(text if text.startswith(f"{where}.") else f"{where} ({target}): {text}")


def _admits(hint: Any, kind: type) -> bool:
    own = typing.get_origin(hint) or hint
    return own is kind or any(_admits(inner, kind) for inner in typing.get_args(hint))


def _of_name(hint: Any) -> type | None:
    """What a word ``package.module:name`` leads to where this type is declared; None: it is a plain word."""
    return next((kind for kind in _NAMED if _admits(hint, kind)), None)


def _is_section(value: object) -> bool:
    return isinstance(value, Mapping) and "_target_" in value


def _import(module_name: str, package: str) -> Any:
    """Import a module of gencli or of a trusted package; the latter may lie in the current folder."""
    folder = catalog.package_folder(package)
    if folder is not None and folder.parent == Path.cwd() and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # last: nothing there can stand in for an installed package
    return importlib.import_module(module_name)


def _near_modules(module_name: str) -> str:
    """Modules beside the one that was not found."""
    parent, _, name = module_name.rpartition(".")
    folder = catalog.package_folder(parent.partition(".")[0]) if parent else None
    if folder is None:
        return ""
    beside = folder.joinpath(*parent.split(".")[1:])
    names = [path.stem for path in beside.glob("*.py") if path.stem != "__init__"] if beside.is_dir() else []
    return near(name, names)
