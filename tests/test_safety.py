"""Opening a stranger's run runs none of its code: not its config's classes, not its weights, not its package."""

import os
import pickle
import shutil

import pytest
import torch
import yaml

import gencli
from gencli.cli import main
from gencli.errors import GencliError


@pytest.fixture
def stranger(tiny_run, tmp_path):
    folder = tmp_path / "stranger"
    shutil.copytree(tiny_run, folder)
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil/__init__.py").write_text("open('ran', 'w').close()\nclass Model: pass\n")
    return folder


def poison(folder, path, value):
    file = folder / "config.yaml"
    config = yaml.safe_load(file.read_text())
    node = config
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    file.write_text(yaml.safe_dump(config))


EVIL = [
    {"_target_": "os.system", "command": "touch ran"},
    {"_target_": "torch.hub.load", "repo_or_dir": "a/b", "model": "c"},
    {"_target_": "webbrowser.open", "url": "http://example.org"},
    {"_target_": "evil.Model"},
    {"_target_": "gencli.run.subprocess.run", "args": ["touch", "ran"]},
    {"_target_": "gencli.build.importlib.import_module", "name": "evil"},
    {"_target_": "builtins.exec", "_args_": ["open('ran', 'w')"]},
]
PLACES = [("model",), ("data",), ("sampler",), ("estimator",), ("objective",), ("model", "net")]


@pytest.mark.parametrize("place", PLACES, ids=".".join)
@pytest.mark.parametrize("evil", EVIL, ids=lambda node: node["_target_"])
def test_no_class_of_a_config_runs(stranger, evil, place, monkeypatch, capsys):
    import webbrowser

    monkeypatch.setattr(webbrowser, "open", lambda *_: pytest.fail("a browser was opened"))
    monkeypatch.setattr(torch.hub, "load", lambda *_: pytest.fail("the hub was asked"))
    poison(stranger, place, evil)
    commands = ["sample", "eval", "train"]
    for verb in commands:
        key = "resume" if verb == "train" else "run"
        unused = {"sample": ("estimator",), "eval": ("sampler",)}.get(verb)
        code = main([verb, f"{key}={stranger}", "device=cpu"])
        if place != unused:
            assert code == 2, verb
        message = capsys.readouterr().err
        assert "Traceback" not in message
        assert not os.path.exists("ran")
    with pytest.raises(GencliError):
        gencli.load(stranger, device="cpu").sample(1)
    assert not os.path.exists("ran")


def test_hydra_settings_of_a_run_are_not_taken(stranger):
    poison(stranger, ("hydra",), {"callbacks": {"x": {"_target_": "evil.Model"}}, "searchpath": ["pkg://evil"]})
    poison(stranger, ("trust",), ["evil"])
    poison(stranger, ("model", "_target_"), "evil.Model")
    assert main(["sample", f"run={stranger}"]) == 2  # the folder cannot trust itself
    assert not os.path.exists("ran")


def test_an_interpolation_in_a_run_stays_text(stranger, monkeypatch):
    monkeypatch.setenv("SECRET", "42")
    poison(stranger, ("data", "which"), "${oc.env:SECRET}")
    assert main(["sample", f"run={stranger}"]) == 2


def test_yaml_objects_are_not_made(stranger, capsys):
    with (stranger / "config.yaml").open("a") as file:
        file.write("evil: !!python/object/apply:os.system ['touch ran']\n")
    assert main(["sample", f"run={stranger}"]) == 2
    assert not os.path.exists("ran")
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("protocol", ["pickle", "torch"])
def test_pickled_weights_are_not_opened(stranger, protocol, capsys):
    class Payload:
        def __reduce__(self):
            return os.system, ("touch ran",)

    file = stranger / "checkpoints" / "best.safetensors"
    if protocol == "pickle":
        file.write_bytes(pickle.dumps(Payload()))
    else:
        torch.save({"model": Payload()}, file)
    assert main(["sample", f"run={stranger}", "device=cpu"]) == 1
    error = capsys.readouterr().err
    assert "checkpoint=last" in error  # what still loads
    assert "Traceback" not in error
    assert not os.path.exists("ran")
    assert main(["sample", f"run={stranger}", "device=cpu", "checkpoint=last", "n=4"]) == 0
