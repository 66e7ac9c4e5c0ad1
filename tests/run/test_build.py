"""The one place where a string becomes a class: what is built, and what is never run."""

from pathlib import Path
from types import CodeType

import pytest
import torch

from gencli.config import catalog
from gencli.core.errors import UsageError
from gencli.core.spec import Spec, Support
from gencli.estimators.base import Estimator
from gencli.models.base import Model
from gencli.nn.base import Network
from gencli.run.build import resolve
from gencli.run.opened import builder
from gencli.samplers.base import Sampler

ZOO = Path(__file__).resolve().parents[1] / "zoo"
SPEC = Spec((2,), Support("real"))
LINE = {"_target_": "toyzoo.models.Line", "width": 3}


@pytest.fixture(autouse=True)
def zoo(monkeypatch):
    monkeypatch.syspath_prepend(str(ZOO))
    catalog.class_info.cache_clear()
    catalog._module.cache_clear()


def test_builds_a_component_and_its_network():
    model = builder(["toyzoo"]).component({"_target_": "toyzoo.models.Toy", "scale": 2.0, "net": LINE}, Model, SPEC)
    assert (model.scale, model.net.width) == (2.0, 3)
    estimator = builder([]).component({"_target_": "gencli.estimators.exact.Exact", "draws": 3}, Estimator)
    assert estimator.draws == 3


def test_a_network_section_becomes_a_factory():
    seen = []

    class Probe(Model):
        def __init__(self, spec, net):
            super().__init__(spec)
            seen.append(net)

    Probe.__module__ = "toyzoo.models"
    import toyzoo.models

    toyzoo.models.Probe = Probe
    builder(["toyzoo"]).component({"_target_": "toyzoo.models.Probe", "net": LINE}, Model, SPEC)
    assert callable(seen[0])
    assert isinstance(seen[0]((2,), (4,), 0), Network)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": "toyzoo.models.Toyy"}, "toyzoo.models has no Toyy. Did you mean 'Toy'?"),
        ({"_target_": "toyzoo.model.Toy"}, "No module named 'toyzoo.model'. Did you mean 'models'?"),
        (
            {"_target_": "toyzoo.models.Toy", "scal": 1},
            "model.scal: toyzoo.models.Toy takes no such option. Did you mean",
        ),
        ({"_target_": "toyzoo.models.Toy", "scale": -1}, "model.scale=-1: a scale is positive"),
        ({"_target_": "toyzoo.models.Toy", "conditional": True}, "model.conditional=true needs data with labels"),
        ({"_target_": "toyzoo.models.Toy", "net": {**LINE, "widht": 1}}, "model.net.widht: toyzoo.models.Line takes"),
        ({"_target_": "toyzoo.models.Toy", "spec": 1}, "model.spec: toyzoo.models.Toy takes no such option"),
        ({"_target_": "gencli.models.base.Unnormalized"}, "abstract"),
        ({"_target_": "Toy"}, "the dotted name of a class is needed"),
        ({"_target_": None}, "the dotted name of a class is needed"),
        ({}, "the dotted name of a class is needed"),
    ],
)
def test_what_is_wrong_is_named(node, message):
    with pytest.raises(UsageError) as error:
        builder(["toyzoo"]).component(node, Model, SPEC)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "error", [TypeError("unsupported"), AttributeError("none"), ZeroDivisionError(), NotImplementedError(), KeyError(1)]
)
def test_a_bug_in_a_constructor_is_a_bug(error, monkeypatch):
    """It comes through as it is, with its traceback: no option is to blame."""
    import toyzoo.models

    def broken(self, *args, **options):
        raise error

    monkeypatch.setattr(toyzoo.models.Toy, "__init__", broken)
    with pytest.raises(type(error)) as caught:
        builder(["toyzoo"]).component({"_target_": "toyzoo.models.Toy"}, Model, SPEC)
    assert caught.value is error
    assert caught.traceback[-1].name == "broken"


@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("no"), OSError("no"), MemoryError("no")])
def test_a_value_that_a_constructor_refuses_is_one_line(error, monkeypatch):
    import toyzoo.models

    def refuses(self, *args, **options):
        raise error

    monkeypatch.setattr(toyzoo.models.Toy, "__init__", refuses)
    with pytest.raises(UsageError, match=r"model \(toyzoo.models.Toy\): no"):
        builder(["toyzoo"]).component({"_target_": "toyzoo.models.Toy"}, Model, SPEC)


def test_arguments_that_a_constructor_does_not_take_are_refused(monkeypatch):
    """Where its declaration ends nowhere, Python is the first to say so."""
    import toyzoo.models

    monkeypatch.setattr(toyzoo.models.Toy, "__new__", lambda cls, spec: object.__new__(cls))
    with pytest.raises(UsageError, match=r"model \(toyzoo.models.Toy\): .*unexpected keyword argument 'scale'"):
        builder(["toyzoo"]).component({"_target_": "toyzoo.models.Toy", "scale": 1.0}, Model, SPEC)


def test_a_missing_argument_is_named():
    with pytest.raises(UsageError, match=r"model\.spec: .* needs a value"):
        builder(["toyzoo"]).component({"_target_": "toyzoo.models.Toy"}, Model)


@pytest.mark.parametrize(
    ("target", "trust"),
    [
        ("os.system", []),
        ("os.system", ["os"]),
        ("subprocess.Popen", ["subprocess"]),
        ("torch.hub.load", []),
        ("torch.hub.load", ["torch"]),
        ("torch.nn.Linear", ["torch"]),
        ("webbrowser.open", []),
        ("builtins.exec", ["builtins"]),
        ("gencli.run.build.importlib.import_module", []),
        ("gencli.run.build.importlib", []),
        ("gencli.run.build.component", []),
        ("gencli.run.build.Path", []),
        ("gencli.interfaces.F", []),
        ("gencli.core.spec.Spec", []),
        ("gencli.estimators.exact.Exact", []),
        ("toyzoo.models.NoComponent", ["toyzoo"]),
        ("toyzoo.models.Model", ["toyzoo"]),
        ("toyzoo.models.Toy", []),
        ("toyzoo.models.Toy", ["toy"]),
        ("gencli_evil.models.Toy", []),
        (".os.system", []),
        ("gencli..build.component", []),
    ],
)
def test_nothing_else_is_built(monkeypatch, tmp_path, target, trust):
    """Neither as a component nor as its network; the arguments are those that would do harm."""
    marker = tmp_path / "ran"
    for name in ("os.system", "subprocess.Popen", "torch.hub.load", "webbrowser.open"):
        monkeypatch.setattr(name, lambda *a, **k: marker.touch())
    own = exec
    # modules that are imported meanwhile are code, and dataclasses texts; a builder would hand on a spec
    ours = lambda *a, **k: own(*a, **k) if a and isinstance(a[0], str | CodeType) else marker.touch()  # noqa: E731
    monkeypatch.setattr("builtins.exec", ours)
    for node in ({"_target_": target}, {"_target_": "toyzoo.models.Toy", "net": {"_target_": target}}):
        trusted = [*trust, "toyzoo"] if "net" in node and "toyzoo" not in target else trust
        with pytest.raises(UsageError):
            builder(trusted).component(node, Model, SPEC)
    assert not marker.exists()


def test_an_untrusted_package_is_not_even_imported(monkeypatch, tmp_path):
    (tmp_path / "stranger.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match=r"add trust=\[stranger\]"):
        builder([]).component({"_target_": "stranger.Model"}, Model, SPEC)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(UsageError, match="stranger has no Model"):
        builder(["stranger"]).component({"_target_": "stranger.Model"}, Model, SPEC)
    assert (tmp_path / "ran").exists()  # the trap works


def test_a_missing_import_of_a_users_package_is_shown(monkeypatch, tmp_path):
    (tmp_path / "needy.py").write_text("import not_installed_here")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match="No module named 'not_installed_here'"):
        resolve({"_target_": "needy.Model"}, Model, ["needy"])


def test_a_trusted_package_in_the_current_folder(monkeypatch, tmp_path):
    package = tmp_path / "homemade"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "s.py").write_text(
        "from gencli.interfaces import Sampler\n"
        "class S(Sampler):\n"
        "    def sample(self, model, n, y, noise): return None\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in __import__("sys").path if entry not in ("", str(tmp_path))])
    sampler = builder(["homemade"]).component({"_target_": "homemade.s.S", "classes": [1]}, Sampler)
    assert sampler.classes == [1]
    assert torch.is_tensor(torch.zeros(1))
