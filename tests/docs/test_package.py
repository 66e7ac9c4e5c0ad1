"""What is said of the package in several files is the same in each."""

from importlib.util import find_spec

import pytest
import yaml
from pages import text

import gencli

tomllib = pytest.importorskip("tomllib", reason="Python 3.11")
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


@pytest.fixture
def project():
    return tomllib.loads(text("pyproject.toml"))["project"]


@pytest.fixture
def recipe():
    lines = text("recipe/meta.yaml").replace("{{ version }}", gencli.__version__).replace("{{ PYTHON }}", "python")
    return yaml.safe_load("\n".join(line for line in lines.splitlines() if not line.startswith("{%")))


def test_the_distribution_has_a_name_of_its_own_and_the_command_keeps_its(project, recipe):
    assert project["name"] == recipe["package"]["name"] == "gencli-nll"
    assert project["scripts"] == {"gencli": "gencli.cli.main:main"}
    assert find_spec("gencli") is not None


def test_one_version_everywhere():
    cited = yaml.safe_load(text("CITATION.cff"))
    assert cited["version"] == gencli.__version__
    assert f'version = "{gencli.__version__}"' in text("recipe/meta.yaml")


def test_the_conda_recipe_has_the_dependencies_of_the_package(project, recipe):
    def plain(name):
        for ours, theirs in CONDA.items():
            name = theirs + name.removeprefix(ours) if name.startswith(f"{ours}>") else name
        return name.replace(" ", "")

    python, *needed = recipe["requirements"]["run"]
    assert python.split()[1] == project["requires-python"]
    assert sorted(map(plain, needed)) == sorted(map(plain, project["dependencies"]))
