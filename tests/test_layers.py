"""The import rules of docs/architecture.md, read from the sources."""

import ast
import functools
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "gencli"
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]

ROOMS = {
    "core": set(),
    "paths": {"core"},
    "nn": {"core"},
    "data": {"core"},
    "config": {"core"},
    "loggers": {"core"},
    "report": {"core", "config"},
    "kernels": {"core"},
    "models": {"core", "paths", "nn", "kernels", "data"},
    "methods": {"core", "paths", "models", "kernels", "data"},
    "objectives": {"core", "paths", "nn", "models", "kernels", "methods"},
    "samplers": {"core", "paths", "models", "kernels", "methods", "data"},
    "estimators": {"core", "paths", "models", "kernels", "methods"},
    "metrics": {"core", "data", "kernels", "methods", "models", "samplers"},
    "interfaces.py": {
        *("core", "paths", "nn", "kernels", "models", "objectives", "samplers", "estimators", "loggers", "data")
    },
    "run": {
        "core",
        "config",
        "paths",
        "nn",
        "kernels",
        "models",
        "objectives",
        "samplers",
        "estimators",
        "metrics",
        "data",
        "loggers",
        "interfaces",
    },
    "pictures": {"core", "config", "data", "kernels", "methods", "metrics", "models", "samplers", "run"},
    "training": {"core", "config", "data", "loggers", "nn", "models", "objectives", "pictures", "run"},
    "sweeps": {"core", "config", "report", "training"},
    "cli": {"core", "config", "models", "pictures", "report", "run", "samplers", "sweeps", "training"},
    "__init__.py": {"config", "cli", "report", "run"},
    "__main__.py": {"cli"},
}
"""Every room of gencli, from the ground upwards, and the rooms that it may see; each sees itself."""

CONTRACT_ONLY = {"models", "objectives", "samplers", "estimators", "paths", "data", "metrics", "pictures", "loggers"}
"""Rooms of options, of which other rooms see the contract: ``base.py``."""

BESIDES = {
    "models": {"bayes", "distributions", "forecast", "known", "structure", "subject", "trained"},
    "data": {
        "preprocess",
        "split",
        "loading",
        "tables",
        "table_files",
        "networks",
        "box",
        "priors",
        "task",
        "images",
    },  # the way of the examples, which is no option
    "samplers": {"chain", "diffusion.walk"},  # what the pictures of chains and of paths watch
    "pictures": {"samples", "files", "export", "style"},  # what training and the command sample write
    "loggers": {"params"},  # what of a config they are told
}
"""What else they see of such a room."""

HYDRA = {f"config/{name}.py" for name in ("clusters", "command", "compose", "explain", "multirun", "schema", "spaces")}
LIGHT = {
    "__init__.py",
    "__main__.py",
    "cli/__init__.py",
    "cli/compare.py",
    "cli/completion.py",
    "cli/help.py",
    "core/bounds.py",
    "core/seals.py",
    "cli/list.py",
    "cli/option_page.py",
    "cli/ls.py",
    "cli/main.py",
    "config/__init__.py",
    "config/catalog.py",
    "config/compatibility.py",
    "config/declared.py",
    "config/locate.py",
    "config/names.py",
    "config/notes.py",
    "config/plain.py",
    "config/recipes.py",
    "config/renamed.py",
    "config/sections.py",
    "config/stored.py",
    "training/__init__.py",
    "training/signals.py",
    "core/__init__.py",
    "core/errors.py",
    "core/files.py",
    "core/options.py",
    "core/output.py",
    "core/processes.py",
    "core/uncertainty.py",
    "report/__init__.py",
    "report/collect.py",
    "cli/card.py",
    "cli/report.py",
    "report/page.py",
    "report/plots.py",
    "report/card.py",
    "report/words.py",
    "report/compare.py",
    "report/forms.py",
    "report/importance.py",
    "report/listing.py",
    "report/render.py",
    "report/sheet.py",
    "report/seeds.py",
}


@functools.cache
def imported(path, module_level):
    """Dotted names that a file imports; module_level: only what importing it runs."""
    found = set()

    def visit(node):
        for child in ast.iter_child_nodes(node):
            if module_level and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test) and module_level:
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                origin = child.module or ""
                if child.level:
                    package = ("gencli", *path.relative_to(PACKAGE).parts[: -child.level])
                    origin = ".".join([*package, *([child.module] if child.module else [])])
                found.update(f"{origin}.{alias.name}" for alias in child.names)
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in FILES}


def modules(names):
    """The modules of gencli among dotted names, without ``gencli.``."""
    inner = {name.removeprefix("gencli.") for name in names if name.startswith("gencli.")}
    return {name if name in MODULES else name.rpartition(".")[0] or name for name in inner}


def room_of(name):
    return name.partition(".")[0]


def test_every_room_is_known():
    assert {Path(name).parts[0] for name in NAMES} == {*ROOMS}
    assert len(ROOMS) <= 23


def test_rooms_lie_on_floors():
    floors = [*ROOMS]
    for room, seen in ROOMS.items():
        assert all(floors.index(other if other in ROOMS else f"{other}.py") < floors.index(room) for other in seen)


def test_a_room_sees_what_lies_below_it():
    for name in NAMES:
        room = Path(name).parts[0]
        for module in modules(imported(PACKAGE / name, module_level=False)):
            other, _, rest = module.partition(".")
            if other in (room, "__version__"):
                continue
            assert other in ROOMS[room], f"{name} imports {module}"
            contract = {"base", *BESIDES.get(other, ())}
            assert other not in CONTRACT_ONLY or rest in contract, f"{name} imports {module}"


def test_no_circle_of_imports():
    graph = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): modules(imported(path, module_level=False))
        for path in FILES
    }
    state = {}

    def visit(module, way):
        if state.get(module) == "done" or module not in graph:
            return
        assert state.get(module) != "open", " -> ".join([*way, module])
        state[module] = "open"
        for other in graph[module]:
            visit(other, [*way, module])
        state[module] = "done"

    for module in graph:
        visit(module, [])


def test_hydra_is_known_to_the_room_config_only():
    for name in {*NAMES} - HYDRA:
        roots = {dotted.split(".")[0] for dotted in imported(PACKAGE / name, module_level=False)}
        assert not roots & {"hydra", "omegaconf"}, name


@pytest.mark.parametrize("name", sorted(LIGHT))
def test_light_files_import_nothing_heavy(name):
    names = imported(PACKAGE / name, module_level=True)
    heavy = {"torch", "torchvision", "hydra", "omegaconf", "numpy", "rich"}
    assert not {dotted.split(".")[0] for dotted in names} & heavy
    files = {module.replace(".", "/") for module in modules(names)} - {"__version__"}
    assert {f"{file}/__init__.py" if (PACKAGE / file).is_dir() else f"{file}.py" for file in files} <= LIGHT


def test_the_rules_can_fail(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    (tmp_path / "objectives").mkdir()
    bad = tmp_path / "objectives" / "bad.py"
    bad.write_text("from ..models import flow\ndef f():\n    import gencli.trainer\n")
    assert modules(imported(bad, module_level=False)) == {"models", "trainer"}
    assert modules(imported(bad, module_level=True)) == {"models"}
