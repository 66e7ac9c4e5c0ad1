"""The import rules of docs/architecture.md, read from the sources."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "gencli"
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]

ALLOWED = {
    "nn": {"interfaces", "path", "nn"},
    "models": {"interfaces", "path", "nn", "noise", "models"},
    "objectives": {"interfaces", "path", "noise", "errors", "mcmc", "ode", "volume", "vlb", "objectives"},
    "samplers": {"interfaces", "path", "noise", "errors", "mcmc", "ode", "samplers"},
    "estimators": {"interfaces", "path", "noise", "errors", "mcmc", "ode", "volume", "vlb", "estimators"},
    "metrics": {"interfaces", "noise", "errors", "files", "torchvision_compat", "metrics"},
    "ode.py": {"errors"},
    "volume.py": {"interfaces", "noise", "ode"},
    "vlb.py": {"interfaces", "noise"},
    "mcmc.py": {"interfaces", "noise", "errors"},
    "data": {"interfaces", "noise", "data", "errors", "files", "torchvision_compat"},
    "interfaces.py": {"noise", "path"},
    "path.py": set(),
    "noise.py": set(),
    "errors.py": set(),
}
"""Parts of gencli that a layer may import; layers not named here may import what they like."""

HYDRA = {"cli.py", "compose.py", "schema.py"}
LIGHT = {
    "__init__.py",
    "__main__.py",
    "catalog.py",
    "cli.py",
    "commands/__init__.py",
    "commands/compare.py",
    "commands/list.py",
    "compatibility.py",
    "completion.py",
    "errors.py",
    "helptext.py",
    "locate.py",
    "files.py",
    "stored.py",
}


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


def parts(names):
    """The parts of gencli among dotted names."""
    return {name.split(".")[1] for name in names if name.startswith("gencli.")}


@pytest.mark.parametrize("name", NAMES)
def test_layers(name):
    layer = Path(name).parts[0]
    if layer in ALLOWED:
        assert parts(imported(PACKAGE / name, module_level=False)) <= ALLOWED[layer]


@pytest.mark.parametrize("name", NAMES)
def test_hydra_is_known_to_three_files(name):
    roots = {dotted.split(".")[0] for dotted in imported(PACKAGE / name, module_level=False)}
    assert name in HYDRA or not roots & {"hydra", "omegaconf"}


@pytest.mark.parametrize("name", sorted(LIGHT))
def test_light_files_import_nothing_heavy(name):
    names = imported(PACKAGE / name, module_level=True)
    assert not {dotted.split(".")[0] for dotted in names} & {
        "torch",
        "torchvision",
        "hydra",
        "omegaconf",
        "numpy",
        "rich",
    }
    assert {f"{part}.py" for part in parts(names)} <= LIGHT | {"__version__.py", "commands.py"}


def test_the_rules_can_fail(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    (tmp_path / "objectives").mkdir()
    bad = tmp_path / "objectives" / "bad.py"
    bad.write_text("from ..models import flow\ndef f():\n    import gencli.trainer\n")
    assert parts(imported(bad, module_level=False)) == {"models", "trainer"}
    assert parts(imported(bad, module_level=True)) == {"models"}
