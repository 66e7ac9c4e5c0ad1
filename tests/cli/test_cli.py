"""The command line: verbs, exit codes, messages, composition. No command of the package runs here."""

import json
import logging
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import gencli
from gencli.cli import completion
from gencli.cli import main as cli
from gencli.config import locate
from gencli.core.errors import UsageError
from tests.cli.conftest import TOY, ZOO
from tests.runs import ROOT

# --- light commands ---------------------------------------------------------------------------------------------------


def test_help_and_version(capsys):
    for words in (["--help"], [], ["train", "--help"], ["eval", "-h", "x=1"], ["help", "compare"]):
        assert cli.main(words) == 0
        assert "gencli" in capsys.readouterr().out
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"gencli {gencli.__version__}"


@pytest.mark.parametrize(
    ("words", "bar"),
    [(["--help"], 0.3), (["--version"], 0.3), (["--complete", "train", "trainer.m"], 0.3), (["list"], 1.0)],
)
def test_light_commands_are_fast_and_import_nothing_heavy(words, bar):
    code = (
        f"import sys; from gencli.cli.main import main; code = main({words!r}); "
        "sys.exit(code or sum(m in sys.modules for m in ('torch', 'hydra', 'omegaconf', 'numpy', 'rich')))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)  # of the processor: other processes may hold the cores
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < bar


def test_importing_gencli_imports_no_torch():
    code = "import sys, gencli; sys.exit('torch' in sys.modules or 'hydra' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_wrong_verb(capsys):
    assert cli.main(["trian"]) == 2
    assert "Did you mean 'train'?" in capsys.readouterr().err


def test_completion_candidates(tmp_path):
    conf = str(ZOO / "conf")
    assert completion.candidates(["tr"]) == ["train"]
    assert "model=" in completion.candidates(["train", "mo"])
    assert completion.candidates(["train", "optimizer=sg"]) == ["optimizer=sgd"]
    assert completion.candidates(["train", "--config-dir", conf, "model=toy,en"]) == ["model=toy,energy"]
    assert completion.candidates(["train", "trainer.max"]) == [
        *("trainer.max_epochs=", "trainer.max_minutes=", "trainer.max_steps=")
    ]
    assert "optimizer.momentum=" in completion.candidates(["train", "optimizer=sgd", "optimizer."])
    assert "optimizer.momentum=" not in completion.candidates(["train", "optimizer."])
    assert "data.alpha=" in completion.candidates(["train", "data.a"])
    assert completion.candidates(["eval", "weights="]) == ["weights=ema", "weights=raw"]
    assert completion.candidates(["list", "obj"]) == ["objective"]
    (tmp_path / "outputs/m/1").mkdir(parents=True)
    (tmp_path / "outputs/m/1/run.json").touch()
    assert completion.candidates(["eval", "run=out"]) == ["run=outputs/m/1"]


def test_completion_offers_what_fits_the_run():
    runs = ROOT / "tests" / "golden" / "runs"
    pictures = completion.candidates(["sample", f"run={runs / 'vae'}", "picture="])
    assert {"picture=latent", "picture=traverse", "picture=reconstruct"} <= {*pictures}
    assert not {"picture=filters", "picture=magnetisation", "picture=networks"} & {*pictures}
    assert "picture=networks" in completion.candidates(["sample", f"run={runs / 'ergm'}", "picture="])
    estimators = completion.candidates(["eval", f"run={runs / 'vae'}", "estimator="])
    assert {"estimator=elbo", "estimator=iwae"} <= {*estimators}
    assert "estimator=exact" not in estimators
    assert completion.candidates(["train", "model=realnvp", "objective=nl"]) == ["objective=nll"]
    assert "objective=elbo" not in completion.candidates(["train", "model=realnvp", "objective="])
    assert "estimator=exact" in completion.candidates(["eval", "run=nowhere", "estimator="])
    assert completion.candidates(["list", "model", "map"]) == []
    assert completion.candidates(["list", "model", "ma"]) == ["made", "maf"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell, capsys):
    assert cli.main(["--completion", shell]) == 0
    assert "gencli --complete" in capsys.readouterr().out.replace('"${words[0]}"', "gencli").replace(
        '"${words[1]}"', "gencli"
    )


def test_completion_in_bash():
    """The '=' that bash breaks words at does not confuse it."""
    script = (
        completion.script(["bash"]) + f'gencli() {{ "{sys.executable}" -m gencli "$@"; }}\n'
        'COMP_LINE="gencli train optimizer=sg"; COMP_POINT=${#COMP_LINE}; COMP_WORDS=(gencli train optimizer = sg)\n'
        'COMP_CWORD=4; _gencli; echo "${COMPREPLY[*]}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "sgd"


# --- train: what reaches the command ----------------------------------------------------------------------------------


def test_train_gets_a_plain_config(ran):
    assert cli.main(["train", *TOY, "trainer.max_steps=7", "optimizer=sgd", "net@model.net=auto"]) == 0
    verb, config, sweep_dir = ran[0]
    assert (verb, sweep_dir) == ("train", None)
    assert type(config) is dict
    assert json.loads(json.dumps(config)) == config
    assert config["trainer"]["max_steps"] == 7
    assert config["trainer"]["precision"] == "auto"
    assert config["optimizer"] == {
        "name": "sgd",
        "lr": 0.01,
        "weight_decay": 0.0,
        "momentum": 0.9,
        "schedule": "cosine",
        "warmup_steps": 100,
        "final_lr_fraction": 0.0,
    }
    assert config["data"]["alpha"] == 0.01  # what every data set has
    assert config["data"]["n"] == 100
    assert config["model"]["net"]["_target_"] == "gencli.nn.auto.Auto"
    assert config["choices"]["model"] == "toy"
    assert config["choices"]["optimizer"] == "sgd"
    assert config["choices"]["net"] == "auto"
    assert list(Path.cwd().iterdir()) == []


def test_trainer_defaults_are_those_of_the_types(ran):
    from gencli.config.sections import TrainerOptions

    written = yaml.safe_load((locate.config_dir() / "trainer/default.yaml").read_text())
    assert written == vars(TrainerOptions())


def test_a_model_brings_its_partners_and_the_command_line_wins(ran):
    assert cli.main(["train", *TOY, "model=energy"]) == 0
    config = ran[-1][1]
    assert config["choices"]["objective"] == "gap"
    assert config["sampler"] is None
    assert config["estimator"] is None
    assert cli.main(["train", *TOY, "model=energy", "sampler=chained"]) == 0
    assert ran[-1][1]["choices"]["sampler"] == "chained"


def test_experiment_overrides_groups_and_values_and_the_command_line_wins(ran):
    conf = ["--config-dir", str(ZOO / "conf"), "trust=[toyzoo]"]
    assert cli.main(["train", *conf, "experiment=e1"]) == 0
    config = ran[-1][1]
    assert config["choices"]["model"] == "energy"
    assert config["choices"]["objective"] == "gap"
    assert (config["seed"], config["trainer"]["batch_size"], config["trainer"]["auto_steps"]) == (7, 32, 300)
    assert cli.main(["train", *conf, "experiment=e1", "model=toy", "seed=1", "trainer.batch_size=64"]) == 0
    config = ran[-1][1]
    assert config["choices"]["model"] == "toy"
    assert config["choices"]["objective"] == "nll"
    assert (config["seed"], config["trainer"]["batch_size"]) == (1, 64)


REFUSED = [
    ("model=toyy", "model=toyy: there is no such model. Did you mean 'toy'?"),
    ("modle=toy", "Did you mean 'model'"),
    ("trainer.max_step=3", "trainer.max_step: there is no such key in trainer. Did you mean 'max_steps'"),
    ("trainer.max_steps=abc", "trainer.max_steps=abc: an integer of at least 1 or auto or null is needed"),
    ("trainer.precision=fp8", "trainer.precision=fp8: Invalid value 'fp8', expected one of [auto, fp32, bf16, fp16]"),
    ("trainer.precision=2", "trainer.precision=2: Invalid value '2', expected one of [auto, fp32, bf16, fp16]"),
    ("optimizer.betas=${model}", "a list of 2, each a number of at least 0 and below 1, is needed"),
    ("optimizer.lr=${nothing.here}", "Interpolation key 'nothing.here' not found"),
    ("optimizer.schedule=linear", "expected one of [constant, cosine]"),
    ("optimizer.momentum=1", "optimizer.momentum: there is no such key"),
    ("optimizer.name=lion", "optimizer.name=lion"),
    ("trainer.batch_size=0", "trainer.batch_size=0: an integer of at least 1 or auto is needed"),
    ("trainer.max_steps=null", "set trainer.max_steps or trainer.max_minutes"),
    ("data=need", "data=need needs data.path=..."),
    ("model=toy,energy", "add -m"),
    ("a=[1", "cannot read 'a=[1'"),
    (
        "run_dir=ü;",
        "cannot read 'run_dir=ü;': if it is a text, quote it for gencli and for the shell: 'run_dir=\"ü;\"'",
    ),
    ("=3", "cannot read '=3': an override is key=value"),
    ("hydra/sweeper=zz", "there is no such hydra/sweeper. There is: basic.\n"),
    ("net=mlp", "net@model.net=..."),
    ("launcher=joblib", "Did you mean 'hydra/launcher'"),
    ("+extra=1", "extra: there is no such key"),
    ("+trainer.extra=1", "trainer.extra: there is no such key"),
    ("~seed", "~seed: this key cannot be removed"),
    ("net@model.net=mlpp", "there is no such net"),
    ("objective=cdd", "Did you mean 'cd' or 'pcd'?"),
    ("--cgf", "unrecognized arguments: --cgf"),
    ("--experimental-rerun=x", "unpickles"),
    ("seed=15", "no such luck"),
]


@pytest.mark.parametrize(("word", "message"), REFUSED)
def test_refusals_are_short_and_write_nothing(ran, capsys, word, message):
    assert cli.main(["train", *TOY, word]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1
    assert "HYDRA_FULL_ERROR" not in err
    assert list(Path.cwd().iterdir()) == []


def test_a_model_that_does_not_offer_what_the_objective_needs(ran, capsys):
    assert cli.main(["train", *TOY, "model=energy", "objective=nll"]) == 2
    err = capsys.readouterr().err
    assert "objective=nll cannot train model=energy: it needs ExactLikelihood" in err
    assert "objectives that fit model=energy: " in err
    fitting = err.split("models that fit objective=nll: ")[1].splitlines()[0]
    assert "toy" in fitting
    assert "energy" not in fitting
    assert ran == []


@pytest.mark.parametrize(("seed", "code"), [(0, 0), (13, 1), (14, 143), (15, 2), (16, 1)])
def test_exit_codes(ran, capsys, seed, code):
    assert cli.main(["train", *TOY, f"seed={seed}"]) == code
    assert ("Traceback" in capsys.readouterr().err) == (seed == 16)


@pytest.mark.parametrize(("switch", "shown"), [("1", True), ("0", False), ("", False)])
def test_a_refusal_has_its_traceback_if_asked_for(ran, capsys, monkeypatch, switch, shown):
    monkeypatch.setenv("GENCLI_TRACEBACK", switch)
    assert cli.main(["train", *TOY, "seed=15"]) == 2
    err = capsys.readouterr().err
    assert ("Traceback" in err) == shown
    assert "error: no such luck" in err


def test_ctrl_c_outside_a_command(monkeypatch):
    def stop(verb, config, sweep_dir):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run_verb", stop)
    assert cli.main(["train", *TOY]) == 130


@pytest.mark.slow
def test_looking_at_the_config_runs_nothing(ran, capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # --info logs everything from here on
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    assert cli.main(["train", *TOY, "--cfg", "job", "--resolve"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["model"]["scale"] == 1.0
    assert cli.main(["train", *TOY, "--cfg", "job", "--package", "trainer"]) == 0
    assert "max_steps: auto" in capsys.readouterr().out
    for words in (["--info", "defaults"], ["--hydra-help"]):
        assert cli.main(["train", *TOY, *words]) == 0
        assert cli.main(["eval", *words]) == 0
    assert ran == []


# --- Python -----------------------------------------------------------------------------------------------------------


def test_the_python_api_composes_as_the_command_line(ran):
    from gencli.config.compose import compose

    overrides = ["model=toy", "data=toy", "trust=[toyzoo]", "seed=3", "~logger"]
    assert cli.main(["train", "--config-dir", str(ZOO / "conf"), *overrides]) == 0
    assert compose("train", overrides, [str(ZOO / "conf")]) == ran[-1][1]
    with pytest.raises(UsageError, match="there is no such key in trainer"):
        compose("train", [*overrides, "trainer.max_step=1"], [str(ZOO / "conf")])


def test_the_package_has_no_other_names():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        gencli.trian  # noqa: B018


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=made", "data=hmm", "model.masks=3", "estimator.masks=2"], "cannot score windows"),
        (["model=made", "data=hmm", "objective=score_matching"], "moves x continuously"),
        (["model=made", "data=hmm", "sampler=langevin"], "moves x that is real"),
        (["model=made", "data=hmm", "estimator=quadrature"], "moves x continuously"),
        (["model=made", "data=hmm", "sampler.length=40"], "draws its window of 64 symbols only"),
        (["model=transformer", "data=hmm", "sampler.prompt=Z"], "the character 'Z' is not among the 3"),
        (["model=pixelcnn", "data=digits", "sampler.given=top"], "Did you mean 'top_half'?"),
        (["model=transformer", "data=hmm", "model.heads=0"], "model.heads=0: an integer of at least 1 is needed"),
        (["model=ngram", "data=digits"], "data that model=ngram takes: categorical_toys, crabs,"),
        (["model=ising", "data=moons"], "models that take data=moons: cnf, "),
        (["model=ngram", "data=hmm", "data.states=60", "data.symbols=30"], "leave the entropy rate uncertain"),
    ],
)
def test_what_cannot_be_is_refused_before_training(overrides, words, capsys, tmp_path):
    assert cli.main(["train", *overrides, "run_dir=never"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "never").exists()
