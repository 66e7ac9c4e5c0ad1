"""Opening a stranger's run runs none of its code: not its config's classes, not its weights, not its package."""

import os
import pickle
import shutil

import pytest
import torch
import yaml
from strangers import Payload, poison, refused

import gencli
from gencli.cli.main import main
from gencli.core.errors import GencliError

EVIL = [
    {"_target_": "os.system", "command": "touch ran"},
    {"_target_": "torch.hub.load", "repo_or_dir": "a/b", "model": "c"},
    {"_target_": "webbrowser.open", "url": "http://example.org"},
    {"_target_": "evil.Model"},
    {"_target_": "gencli.run.folder.subprocess.run", "args": ["touch", "ran"]},
    {"_target_": "gencli.run.build.importlib.import_module", "name": "evil"},
    {"_target_": "builtins.exec", "_args_": ["open('ran', 'w')"]},
]
PLACES = [("model",), ("data",), ("sampler",), ("estimator",), ("objective",), ("model", "net")]


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES, ids=".".join)
@pytest.mark.parametrize("evil", EVIL, ids=lambda node: node["_target_"])
def test_no_class_of_a_config_runs(stranger, evil, place, monkeypatch, capsys):
    import webbrowser

    monkeypatch.setattr(webbrowser, "open", lambda *_: pytest.fail("a browser was opened"))
    monkeypatch.setattr(torch.hub, "load", lambda *_: pytest.fail("the hub was asked"))
    poison(stranger, place, evil)
    ways = [("sample", "run"), ("eval", "run"), ("train", "resume"), ("train", "init_from")]
    unused = {("sampler",): "eval", ("estimator",): "sample"}.get(place)
    ways = [(verb, key) for verb, key in ways if verb != unused]
    verb, key = ways[(EVIL.index(evil) + PLACES.index(place)) % len(ways)]  # in turn; the campaign tries all
    assert main([verb, f"{key}={stranger}", "device=cpu"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not os.path.exists("ran")
    with pytest.raises(GencliError):
        gencli.load(stranger, device="cpu").sample(1)
    assert not os.path.exists("ran")


def test_a_folder_cannot_trust_itself(stranger, capsys):
    poison(stranger, ("trust",), ["evil"])
    poison(stranger, ("model", "_target_"), "evil.Model")
    refused(stranger, capsys, "add trust=[evil]")


# --- nothing of a run reaches Hydra ----------------------------------------------------------------------------------

RUNNERS = [  # none of them on Hydra's own list of blocked targets
    {"_target_": "torch.utils.collect_env.run", "command": "touch ran"},
    {"_target_": "torch.hub.load", "repo_or_dir": ".", "model": "x", "source": "local"},
    {"_target_": "torch.load", "f": "payload", "weights_only": False},
    {"_target_": "pandas.read_pickle", "filepath_or_buffer": "payload"},
    {"_target_": "joblib.load", "filename": "payload"},
    {"_target_": "evil.Model"},
]


@pytest.mark.slow
@pytest.mark.parametrize("runner", RUNNERS, ids=lambda node: node["_target_"])
@pytest.mark.parametrize("group", ["model", "data", "sampler", "estimator", "objective"])
def test_a_defaults_list_in_a_section_adds_no_callback(stranger, runner, group, capsys, monkeypatch):
    """Hydra reads the key ``defaults`` in any node that it is given: so was a command run without any trust."""
    with open("payload", "wb") as file:
        pickle.dump(Payload(), file)
    monkeypatch.syspath_prepend(os.getcwd())
    config = yaml.safe_load((stranger / "config.yaml").read_text())
    config[group] = {"defaults": [{"/logger@_global_.hydra.callbacks.x": "from_run"}, "_self_"], **config[group]}
    config["logger"] = runner
    (stranger / "config.yaml").write_text(yaml.safe_dump(config))
    turn = RUNNERS.index(runner) + len(group)
    refused(stranger, capsys, f"logger._target_={runner['_target_']}: a section with a _target_ is needed", turn=turn)
    poison(stranger, ("logger",), None)
    refused(stranger, capsys, f"{group}.defaults: ", turn=turn + 1)


def test_hydra_is_given_nothing_of_a_run(stranger):
    """The composed config, Hydra's own sections included, is that of our configs and of the command line."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from gencli.config.compose import prepare
    from gencli.config.locate import config_dir

    def composed():
        prepared = prepare("eval", [f"run={stranger}", "estimator.draws=3", "~sampler"])
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            whole = compose(prepared.config_name, prepared.overrides, return_hydra_config=True)
        return OmegaConf.to_container(whole, resolve=False)

    plain = composed()
    assert plain["hydra"]["callbacks"] == {}
    assert (plain["model"], plain["data"], plain["estimator"]) == ({}, {}, {"draws": 3})
    for group in ("model", "data", "sampler", "estimator", "objective"):
        poison(stranger, (group, "defaults"), [{"override /hydra/launcher@_global_.hydra.launcher": "joblib"}])
        poison(stranger, (group, "hydra"), {"sweeper": {"_target_": "evil.Model"}})
    assert composed() == plain


@pytest.mark.slow
@pytest.mark.parametrize("key", ["_partial_", "_args_", "_convert_", "_recursive_", "defaults", "hydra", "_self_"])
@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_words_of_hydra_are_options_that_nothing_declares(stranger, place, key, capsys):
    poison(stranger, (*place, key), ["x"])
    refused(stranger, capsys, f"{'.'.join(place)}.{key}: ", turn=len(f"{place}{key}"))


@pytest.mark.parametrize("name", ["${oc.env:SECRET}", "a${now:%Y}", "${hydra:run.dir}"])
def test_the_name_of_a_folder_is_not_interpolated(tiny_run, tmp_path, monkeypatch, capsys, name):
    monkeypatch.setenv("SECRET", "hidden")
    shutil.copytree(tiny_run, tmp_path / "outputs" / "m-d" / name)
    assert main(["eval", "run=latest", "device=cpu"]) == 0
    assert f"outputs/m-d/{name}/eval/test-exact.json" in capsys.readouterr().out


def test_settings_of_hydra_in_a_run_are_refused(stranger, capsys):
    poison(stranger, ("hydra",), {"callbacks": {"x": {"_target_": "evil.Model"}}, "searchpath": ["pkg://evil"]})
    refused(stranger, capsys, "hydra: a run has no such key")


# --- a config is plain data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("evil: !!python/object/apply:os.system ['touch ran']", "a tag; a config is plain data"),
        ("evil: !!binary aGk=", "a tag"),
        ("evil: !include other.yaml", "a tag"),
        ("run_dir: !!str x", "a tag"),
        ("a: &a [1]\nb: *a", "an anchor or alias"),
        ("run_dir: &x y", "an anchor or alias"),
        ("trust: [{<<: {a: 1}}]", "a merge key"),
        ("seed: 1", "the key seed is there twice"),
        ("when: 2020-01-01", "when=2020-01-01: date is no plain data"),
        ("1: 2", "1: a key is a printable text"),
        (r'"a\x1b[31m": 2', "a key is a printable text"),
        ("trust: " + "[" * 200 + "]" * 200, "deeper than any config"),
        ("trust: [" + "0, " * 50_000 + "0]", "larger than any config"),
        ("run_dir: " + "x" * 2**20, "larger than 1048576 bytes"),
        ("--- \na: 1", "but found another document"),
        ("run_dir: [", "config.yaml is damaged, line "),
    ],
    ids=lambda text: text[:24],
)
def test_all_by_which_yaml_means_more_than_it_says_is_refused(stranger, text, says, capsys):
    with (stranger / "config.yaml").open("a") as file:
        file.write(text + "\n")
    refused(stranger, capsys, says, turn=len(text))


def test_bytes_that_are_no_text(stranger, capsys):
    with (stranger / "config.yaml").open("ab") as file:
        file.write(b"run_dir: \xff\n")
    refused(stranger, capsys, "it is no UTF-8 at byte ")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("model",), None, "model=None: a section is needed"),
        (("model",), [1], "model=[1]: a section is needed"),
        (("seed",), "1", "seed=1: of the wrong type"),
        (("seed",), True, "seed=True: of the wrong type"),
        (("seed",), 2**70, "an integer of more than 64 bits"),
        (("choices", "model"), "../../x", "choices.model=../../x: no name of an option"),
        (("choices", "sampler"), ["x"], "choices.sampler=['x']: no name of an option"),
        (("trainer", "max_steps"), "many", "trainer.max_steps=many: an integer of at least 1 or auto or null"),
        (("trainer", "batch_size"), -1, "trainer.batch_size=-1: an integer of at least 1 or auto is needed"),
        (("trainer", "precision"), "fp8", "trainer.precision=fp8: one of auto, fp32, bf16, fp16 is needed"),
        (("trainer", "evil"), 1, "trainer.evil: "),
        (
            ("optimizer", "betas"),
            ["x"],
            "optimizer.betas=['x']: a list of 2, each a number of at least 0",
        ),
        (("optimizer", "name"), ["sgd"], "optimizer.name=['sgd']: one of adamw"),
        (("logger",), {"tensorboard": 1}, "logger.tensorboard=1: a section with a _target_ is needed"),
        (("model", "couplings"), "8", "model.couplings=8: an integer of at least 1 is needed"),
        (("model", "net"), 5, "model.net=5: a section with a _target_ is needed"),
        (("model", "_target_"), "x\x1b[31m.y", r"model._target_=x\x1b[31m.y: the dotted name of a class is needed"),
        (("model", "_target_"), "gencli.run.opened.Trained", "takes no such option"),
        (("sampler", "temperature"), [1], "sampler.temperature=[1]: a number of at least 0 is needed"),
        (("estimator", "draws"), 1.5, "estimator.draws=1.5: an integer of at least 1 is needed"),
        (("data", "transform"), {"a": 1}, "data.transform={'a': 1}: one of none, scale, logit, standardize is needed"),
    ],
    ids=str,
)
def test_values_are_of_the_types_that_are_declared(stranger, path, value, says, capsys):
    poison(stranger, path, value)
    refused(stranger, capsys, says, turn=len(says))


def test_a_missing_section_is_named(stranger, capsys):
    config = yaml.safe_load((stranger / "config.yaml").read_text())
    del config["objective"]
    (stranger / "config.yaml").write_text(yaml.safe_dump(config))
    refused(stranger, capsys, "config.yaml: objective is missing")


# --- runs within runs ------------------------------------------------------------------------------------------------


def tilt(folder, inner):
    """Make a run one of an energy that tilts the model of another run."""
    model = {"_target_": "gencli.models.energy.ebm.EBM", "base": "run", "run": str(inner)}
    poison(folder, ("model",), {**model, "net": {"_target_": "gencli.nn.energy.EnergyNet"}})
    poison(folder, ("objective",), {"_target_": "gencli.objectives.energy.energy_discrepancy.EnergyDiscrepancy"})
    poison(folder, ("sampler",), {"_target_": "gencli.samplers.hmc.HMC"})
    poison(folder, ("estimator",), {"_target_": "gencli.estimators.partition.Quadrature"})


def test_a_run_made_of_itself(stranger, capsys):
    tilt(stranger, stranger)
    refused(stranger, capsys, "is made of itself")


def test_no_run_is_opened_with_a_trust_of_its_own(stranger, tiny_run, tmp_path, capsys):
    """A config could once name the class that opens runs, with whom it trusts."""
    inner = tmp_path / "inner"
    shutil.copytree(tiny_run, inner)
    poison(inner, ("model",), {"_target_": "evil.Model"})
    poison(stranger, ("model",), {"_target_": "gencli.run.opened.Trained", "path": str(inner), "trust": ["evil"]})
    refused(stranger, capsys, "model.path: gencli.run.opened.Trained takes no such option")
    tilt(stranger, inner)
    refused(stranger, capsys, "add trust=[evil]")
