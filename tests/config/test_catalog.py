"""`gencli list`, and the static reading behind it: no class of the package is imported."""

import importlib
import sys
from pathlib import Path

import pytest

from gencli.cli import main as cli
from gencli.cli.list import group_page, matrices, overview
from gencli.cli.option_page import option_page
from gencli.config import catalog, compatibility

ZOO = Path(__file__).resolve().parents[1] / "zoo"
CONF = [str(ZOO / "conf")]


@pytest.fixture(autouse=True)
def zoo(monkeypatch):
    monkeypatch.syspath_prepend(str(ZOO))
    catalog.class_info.cache_clear()
    catalog._module.cache_clear()
    for name in [name for name in sys.modules if name.startswith("toyzoo")]:
        monkeypatch.delitem(sys.modules, name)


def test_classes_are_read_and_not_imported():
    info = catalog.class_info("toyzoo.models.Heir")
    assert info.name == "toyzoo.models.Heir"
    assert {"toyzoo.models.Toy", "gencli.models.base.ExactLikelihood", "gencli.models.base.Model"} <= info.bases
    assert info.attributes["shapes"] == ("vector", "image")
    assert catalog.class_info("toyzoo.models.Chained").attributes["requires"] == ("gencli.models.base.Unnormalized",)
    assert catalog.class_info("toyzoo.models.Model").name == "gencli.models.base.Model"  # through an import
    assert catalog.class_info("toyzoo.models.Nothing") is None
    assert catalog.class_info("os.PathLike") is None or "toyzoo" not in sys.modules
    assert not any(name.startswith("toyzoo") for name in sys.modules)


def test_what_a_part_requires_is_its_type_parameter():
    base = "gencli.models.base."
    required = {name: catalog.class_info(f"toyzoo.models.{name}").attributes["requires"] for name in ("Typed", "Told")}
    assert required["Typed"] == (base + "DirectSampling",)
    assert required["Told"] == (base + "ExactLikelihood", base + "DirectSampling")


def test_the_source_says_what_the_built_class_says():
    for group in compatibility.PARTS:
        for option in catalog.options(group, CONF).values():
            module, _, name = option.target.rpartition(".")
            built = getattr(importlib.import_module(module), name)
            read = catalog.class_info(option.target).attributes.get("requires", ())
            assert read == tuple(f"{kind.__module__}.{kind.__qualname__}" for kind in built.requires), option.target
            for name in ("supports", "layouts"):
                assert catalog.class_info(option.target).attributes.get(name, ()) == getattr(built, name, ())
    models = importlib.import_module("toyzoo.models")
    assert [kind.__name__ for kind in models.Typed.requires] == ["DirectSampling"]
    assert [kind.__name__ for kind in models.Told.requires] == ["ExactLikelihood", "DirectSampling"]


def test_an_odd_source_is_left_unread(tmp_path, monkeypatch):
    (tmp_path / "odd.py").write_text("class Model(:")
    (tmp_path / "circle.py").write_text("from circle import A\nclass B(B): pass")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert catalog.class_info("odd.Model") is None
    assert catalog.class_info("circle.A") is None
    assert catalog.class_info("circle.B").bases == {"circle.B"}


def test_relative_imports_and_re_exports(tmp_path, monkeypatch):
    package = tmp_path / "far"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("from .deep.leaf import Leaf as Public")
    (package / "deep" / "__init__.py").touch()
    (package / "base.py").write_text("import gencli.interfaces as i\nclass Base(i.ExactLikelihood): pass")
    (package / "deep" / "leaf.py").write_text("from ..base import Base\nclass Leaf(Base): supports = ('unit',)")
    monkeypatch.syspath_prepend(str(tmp_path))
    info = catalog.class_info("far.Public")
    assert info.name == "far.deep.leaf.Leaf"
    assert "gencli.models.base.Unnormalized" in info.bases
    assert info.attributes["supports"] == ("unit",)


def test_options_are_read_from_yaml():
    models = catalog.options("model", CONF)
    assert models["energy"].description == "An energy with its own objective"
    assert models["energy"].target == "toyzoo.models.Energy"
    assert models["energy"].partners == {"objective": "gap", "sampler": None, "estimator": None}
    assert catalog.options("trainer")["quick"].keys["batch_size"] == "auto"  # inherited
    assert catalog.options("trainer")["quick"].keys["auto_steps"] == 300
    assert all(option.description for group in catalog.groups() for option in catalog.options(group).values())


def test_who_fits_whom():
    assert compatibility.missing("gencli.objectives.likelihood.NLL", "toyzoo.models.Energy") == ["ExactLikelihood"]
    assert compatibility.missing("gencli.objectives.likelihood.NLL", "toyzoo.models.Heir") == []
    assert compatibility.missing("gencli.objectives.likelihood.NLL", "unread.Class") == []
    assert {"nll", "gap"} <= set(compatibility.fitting("objective", "toyzoo.models.Toy", CONF))
    assert "nll" not in compatibility.fitting("objective", "toyzoo.models.Energy", CONF)
    fitting = compatibility.fitting_models("gencli.estimators.exact.Exact", CONF)
    assert "toy" in fitting
    assert "energy" not in fitting


@pytest.mark.slow
def test_pages():
    text = "\n".join(overview(CONF, 80))
    assert "  toy" in text
    assert "Maximum likelihood" in text
    for group in catalog.groups(CONF):
        assert all(len(line) <= 80 for line in group_page(group, CONF, 80))
    model = group_page("model", CONF, 80)
    assert "  toy" in "\n".join(model[model.index("Others") :])  # of no family of ours
    assert any("brings: objective=gap, no sampler, no estimator" in line for line in model)
    assert not any(line.startswith("objective ") for line in model)
    matrix = matrices("model", CONF, 80)
    for objective, mark in (("nll", "."), ("gap", "x")):  # the matrix comes in blocks that fit the width
        header = next(line for line in matrix if line.startswith("objective ") and objective in line.split())
        row = next(line for line in matrix[matrix.index(header) :] if line.startswith("energy "))
        assert row[header.index(f"  {objective}") + 2] == mark
    assert any("requires: ExactLikelihood" in line for line in group_page("estimator", CONF, 80))
    page = option_page(catalog.options("model", CONF)["toy"], CONF, 80)
    assert "  offers: DirectSampling, ExactLikelihood, Unnormalized" in page


@pytest.mark.slow
def test_what_fits_by_values_and_layouts():
    targets = {name: option.target for name, option in catalog.options("model").items()}

    def fits(group, model):
        return compatibility.fitting(group, targets[model])

    assert "kac_ward" in fits("estimator", "ising")
    assert "kac_ward" not in fits("estimator", "potts")
    assert "enumerate" not in fits("estimator", "maf")
    assert not {"networks", "goodness_of_fit"} & {*fits("picture", "ising")}
    assert {"networks", "goodness_of_fit"} <= {*fits("picture", "ergm")}
    assert "surprise_text" not in fits("picture", "pixelcnn")
    assert compatibility.fitting_models(catalog.options("picture")["posterior"]) == [
        "ergm",
        "ising",
        "polynomial",
        "potts",
        "quadratic",
    ]
    assert not {"langevin", "hmc", "mala"} & {*fits("sampler", "ising")}
    assert not {"gibbs", "tie_no_tie"} & {*fits("sampler", "maf")}
    assert "score_matching" not in fits("objective", "pixelcnn")


def test_models_for_data_and_data_for_models():
    data, models = catalog.options("data"), catalog.options("model")
    assert compatibility.data_for(models["ergm"]) == ["florentine", "graph", "karate", "lazega"]
    assert "ngram" not in compatibility.models_for(data["digits"])
    assert {"ngram", "transformer"} <= {*compatibility.models_for(data["text8"])}
    assert "realnvp" not in compatibility.models_for(data["text8"])
    assert "pixelcnn" not in compatibility.models_for(data["moons"])
    assert "independent" in compatibility.models_for(data["synthetic_tabular"])


def test_command(capsys):
    assert cli.main(["list", "objective", "--config-dir", *CONF]) == 0
    assert "Energy gap" in capsys.readouterr().out
    assert cli.main(["list", "objectiv"]) == 2
    assert "Did you mean 'objective'?" in capsys.readouterr().err
    assert cli.main(["list", "--nope"]) == 2
