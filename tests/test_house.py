"""What a newcomer sees: few rooms, and files and functions that hold one idea and can be read in one go."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = 22
"""At most, directly under gencli."""
FILE, FUNCTION = 400, 60
"""Lines of the longest file, and of the longest function without its docstring."""

FILES = sorted(path for folder in ("gencli", "benchmarks", "tests") for path in (ROOT / folder).rglob("*.py"))
LISTS = {f"tests/hostile/{name}.py" for name in ("files", "records", "weights")}
"""Where one function is a long list of cases."""


def test_there_are_few_rooms():
    mark = "py.typed"  # an empty file, by which type checkers know the package
    rooms = [path.name for path in (ROOT / "gencli").iterdir() if path.name not in ("__pycache__", mark)]
    assert len(rooms) <= ROOMS, sorted(rooms)


def longest(source):
    """(lines, name) of the longest function."""
    found = [(0, "")]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            said = node.body[0] if ast.get_docstring(node) else None
            lines = node.end_lineno - node.lineno + 1 - (said.end_lineno - said.lineno + 1 if said else 0)
            found.append((lines, node.name))
    return max(found)


@pytest.mark.parametrize("folder", ["gencli", "benchmarks", "tests"])
def test_files_and_functions_can_be_read_in_one_go(folder):
    for path in FILES:
        name = str(path.relative_to(ROOT))
        if name.startswith(folder):
            source = path.read_text(encoding="utf-8")
            assert source.count("\n") <= FILE, name
            assert name in LISTS or longest(source)[0] <= FUNCTION, (name, longest(source))
