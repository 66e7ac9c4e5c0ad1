"""The command line: verbs, exit codes, messages, composition. No command of the package runs here."""

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import gencli
from gencli.cli import completion
from gencli.cli import main as cli
from gencli.config import catalog, locate
from gencli.core.errors import Interrupted, RunFailed, UsageError

ROOT = Path(__file__).resolve().parents[2]
ZOO = ROOT / "tests" / "zoo"
TOY = ["--config-dir", str(ZOO / "conf"), "model=toy", "data=toy", "trust=[toyzoo]"]


@pytest.fixture(autouse=True)
def zoo(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ZOO))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ZOO)]))
    monkeypatch.chdir(tmp_path)
    catalog.class_info.cache_clear()
    catalog._module.cache_clear()


@pytest.fixture
def ran(monkeypatch):
    """Commands write their config here instead of running; seed 13 fails, 14 is stopped, 15 is refused."""
    calls = []

    def run_verb(verb, config, sweep_dir):
        calls.append((verb, config, sweep_dir))
        if config["seed"] == 13:
            raise RunFailed("the loss is not finite")
        if config["seed"] == 14:
            raise Interrupted("stopped", 15)
        if config["seed"] == 15:
            raise UsageError("no such luck")
        if config["seed"] == 16:
            raise ZeroDivisionError("a bug")
        if sweep_dir is not None:
            assert not sweep_dir.exists()
            sweep_dir.mkdir(parents=True)
            (sweep_dir / "run.json").write_text("{}")

    monkeypatch.setattr(cli, "_run_verb", run_verb)
    return calls


@pytest.fixture
def run(ran, tmp_path):
    """A run folder of model=toy data=toy with odd entries in its config."""
    assert cli.main(["train", *TOY, "seed=5"]) == 0
    config = ran.pop()[1]
    config["data"]["note"] = "${oc.env:HOME} \\${x}"
    del config["resume"]  # as commands.train stores it
    folder = tmp_path / "some runs" / "a=1"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "run.json").write_text("{}")
    (folder / "checkpoints" / "best.safetensors").touch()
    return folder


# --- light commands --------------------------------------------------------------------------------------------------


def test_help_and_version(capsys):
    for words in (["--help"], [], ["train", "--help"], ["eval", "-h", "x=1"], ["help", "compare"]):
        assert cli.main(words) == 0
        assert "gencli" in capsys.readouterr().out
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"gencli {gencli.__version__}"
    assert f'version = "{gencli.__version__}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("words", "bar"),
    [(["--help"], 0.3), (["--version"], 0.3), (["--complete", "train", "trainer.m"], 0.3), (["list"], 1.0)],
)
def test_light_commands_are_fast_and_import_nothing_heavy(words, bar):
    code = (
        f"import sys; from gencli.cli.main import main; code = main({words!r}); "
        "sys.exit(code or sum(m in sys.modules for m in ('torch', 'hydra', 'omegaconf', 'numpy', 'rich')))"
    )
    seconds = []
    for _ in range(3):  # the fastest of three: another process may hold the cores
        start = time.perf_counter()
        assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < bar


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
    assert completion.candidates(["train", "trainer.max"]) == ["trainer.max_minutes=", "trainer.max_steps="]
    assert "optimizer.momentum=" in completion.candidates(["train", "optimizer=sgd", "optimizer."])
    assert "optimizer.momentum=" not in completion.candidates(["train", "optimizer."])
    assert "data.alpha=" in completion.candidates(["train", "data.a"])
    assert completion.candidates(["eval", "weights="]) == ["weights=ema", "weights=raw"]
    assert completion.candidates(["list", "obj"]) == ["objective"]
    (tmp_path / "outputs/m/1").mkdir(parents=True)
    (tmp_path / "outputs/m/1/run.json").touch()
    assert completion.candidates(["eval", "run=out"]) == ["run=outputs/m/1"]


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


# --- train: what reaches the command ---------------------------------------------------------------------------------


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
    from gencli.config.schema import Trainer

    written = yaml.safe_load((locate.config_dir() / "trainer/default.yaml").read_text())
    typed = {k: getattr(v, "name", v) for k, v in vars(Trainer()).items()}
    assert written == typed


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
    assert (config["seed"], config["trainer"]["batch_size"], config["trainer"]["max_steps"]) == (7, 32, 300)
    assert cli.main(["train", *conf, "experiment=e1", "model=toy", "seed=1", "trainer.batch_size=64"]) == 0
    config = ran[-1][1]
    assert config["choices"]["model"] == "toy"
    assert config["choices"]["objective"] == "nll"
    assert (config["seed"], config["trainer"]["batch_size"]) == (1, 64)


REFUSED = [
    ("model=toyy", "model=toyy: there is no such model. Did you mean 'toy'?"),
    ("modle=toy", "Did you mean 'model'"),
    ("trainer.max_step=3", "trainer.max_step: there is no such key in trainer. Did you mean 'max_steps'"),
    ("trainer.max_steps=abc", "trainer.max_steps=abc: Value 'abc' of type 'str' could not be converted to Integer"),
    ("trainer.precision=fp8", "trainer.precision=fp8: Invalid value 'fp8', expected one of [auto, fp32, bf16, fp16]"),
    ("optimizer.schedule=linear", "expected one of [constant, cosine]"),
    ("optimizer.momentum=1", "optimizer.momentum: there is no such key"),
    ("optimizer.name=lion", "optimizer.name=lion"),
    ("trainer.batch_size=0", "trainer.batch_size=0: at least 1"),
    ("trainer.max_steps=null", "set trainer.max_steps or trainer.max_minutes"),
    ("trainer.accumulate=3", "trainer.batch_size=128 does not divide"),
    ("data=need", "data=need needs data.path=..."),
    ("model=toy,energy", "add -m"),
    ("a=[1", "cannot read 'a=[1'"),
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
    assert len(err.splitlines()) <= 2
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


def test_ctrl_c_outside_a_command(monkeypatch):
    def stop(verb, config, sweep_dir):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run_verb", stop)
    assert cli.main(["train", *TOY]) == 130


def test_looking_at_the_config_runs_nothing(ran, capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # --info logs everything from here on
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    assert cli.main(["train", *TOY, "--cfg", "job", "--resolve"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["model"]["scale"] == 1.0
    assert cli.main(["train", *TOY, "--cfg", "job", "--package", "trainer"]) == 0
    assert "max_steps: 3000" in capsys.readouterr().out
    for words in (["--info", "defaults"], ["--hydra-help"]):
        assert cli.main(["train", *TOY, *words]) == 0
        assert cli.main(["eval", *words]) == 0
    assert ran == []


# --- sweeps ----------------------------------------------------------------------------------------------------------


def test_every_job_of_a_sweep_runs(ran, capsys):
    assert cli.main(["train", *TOY, "-m", "seed=1,13,15,2"]) == 1
    out, err = capsys.readouterr()
    assert [config["seed"] for _, config, _ in ran] == [1, 13, 15, 2]
    assert "job 1: model=toy data=toy trust=[toyzoo] seed=13" in out
    assert "2 of 4 jobs done" in err
    assert "job 1 failed" in err
    assert "the loss is not finite" in err.splitlines()[-2]
    (sweep,) = Path("outputs/sweeps").iterdir()
    assert sorted(path.name for path in sweep.iterdir()) == ["0", "3", "multirun.yaml"]


def test_a_sweep_of_refusals_leaves_nothing_behind(ran):
    assert cli.main(["train", *TOY, "-m", "model=energy", "objective=nll", "seed=1,2"]) == 2
    assert not Path("outputs").exists()


@pytest.mark.parametrize("word", ["model=glob(zzz*)", "model=toy,nope", "trainer.max_steps=1,abc"])
def test_sweeps_that_cannot_start(ran, word, capsys):
    assert cli.main(["train", *TOY, "-m", word]) == 2
    assert ran == []
    assert not Path("outputs").exists()
    assert "Traceback" not in capsys.readouterr().err


def test_globs_see_options_only(ran):
    assert cli.main(["train", *TOY, "-m", "optimizer=glob(*)"]) == 0
    assert [config["choices"]["optimizer"] for _, config, _ in ran] == ["adam", "adamax", "adamw", "rmsprop", "sgd"]


def test_an_interrupted_job_ends_the_sweep(ran):
    assert cli.main(["train", *TOY, "-m", "seed=1,14,2"]) == 143
    assert [config["seed"] for _, config, _ in ran] == [1, 14]


def test_two_sweeps_in_one_second(ran, monkeypatch):
    monkeypatch.setattr(cli.time, "strftime", lambda form: "now")
    for _ in range(2):
        assert cli.main(["train", *TOY, "-m", "seed=1,2"]) == 0
    assert sorted(path.name for path in Path("outputs/sweeps").iterdir()) == ["now", "now-2"]


def test_no_sweep_inside_torchrun(ran, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.main(["train", *TOY, "-m", "seed=1,2"]) == 2
    assert "torchrun" in capsys.readouterr().err


def test_joblib_launcher(capfd):
    """Jobs in other processes: their refusals come back as the exit code and in the summary."""
    words = ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "model=energy", "objective=nll", "seed=1,2"]
    assert cli.main(["train", *TOY, *words]) == 2
    err = capfd.readouterr().err
    assert "0 of 2 jobs done" in err
    assert err.count("failed (") == 2
    assert not Path("outputs").exists()


# --- commands about a run --------------------------------------------------------------------------------------------


def quoted(run):
    return f"run='{run}'"


def test_eval_takes_its_groups_from_the_run(ran, run):
    assert cli.main(["eval", quoted(run), "estimator.draws=4", "data.root=/x", "trust=[toyzoo]"]) == 0
    config = ran[-1][1]
    assert config["estimator"]["draws"] == 4
    assert config["data"]["root"] == "/x"
    assert config["data"]["note"] == "${oc.env:HOME} \\${x}"  # plain text, not interpolated
    assert config["model"]["_target_"] == "toyzoo.models.Toy"
    assert config["choices"]["model"] == "toy"
    assert config["choices"]["estimator"] == "exact"
    assert (config["run"], config["checkpoint"], config["trust"], config["seed"]) == (str(run), "best", ["toyzoo"], 0)


def test_a_checkpoint_inside_the_run(ran, run):
    assert (
        cli.main(["sample", quoted(run / "checkpoints" / "best.safetensors"), "model=toy", "n=3", "trust=[toyzoo]"])
        == 0
    )
    config = ran[-1][1]
    assert (config["run"], config["n"]) == (str(run), 3)
    assert config["checkpoint"] == str(run / "checkpoints" / "best.safetensors")


@pytest.mark.parametrize(
    ("verb", "word", "message"),
    [
        ("eval", "model=energy", "a run of model=toy"),
        ("eval", "data=digits", "a run of data=toy"),
        ("sample", "objective=gap", "a run of objective=nll"),
        ("eval", "estimator.drws=1", "Did you mean 'draws'?"),
        ("eval", "estimator=exakt", "Did you mean 'exact'?"),
        ("eval", "weights=mean", "expected one of [ema, raw]"),
        ("sample", "sampler.temprature=1", "Did you mean 'temperature'?"),
    ],
)
def test_overrides_that_contradict_the_run(ran, run, capsys, verb, word, message):
    assert cli.main([verb, quoted(run), word, "trust=[toyzoo]"]) == 2
    assert message in capsys.readouterr().err
    assert ran == []


def test_resume_takes_everything_from_the_run(ran, run, capsys):
    resume = f"resume='{run}'"
    assert cli.main(["train", resume, "trainer.max_steps=9000", "trust=[toyzoo]"]) == 0
    config = ran[-1][1]
    assert (config["seed"], config["trainer"]["max_steps"], config["checkpoint"]) == (5, 9000, "last")
    assert config["resume"] == str(run)
    assert config["optimizer"]["name"] == "adamw"
    for word, message in [
        ("optimizer=sgd", "a run of optimizer=adamw"),
        ("experiment=e1", "no experiment to choose"),
        ("optimizer.lr=abc", "optimizer.lr=abc: a number is needed"),
        ("trainer.max_stps=1", "Did you mean 'max_steps'"),
    ]:
        assert cli.main(["train", resume, word]) == 2
        assert message in capsys.readouterr().err


def test_runs_that_are_not_there(ran, run, capsys):
    assert cli.main(["eval"]) == 2
    assert "gencli eval needs run=RUN" in capsys.readouterr().err
    assert cli.main(["eval", "run=latest"]) == 2
    assert "there is no run under outputs/" in capsys.readouterr().err
    made = Path("outputs/toy-toy/2026-01-01_00-00-00")
    made.parent.mkdir(parents=True)
    run.rename(made)
    assert cli.main(["eval", "run=outputs/toy-toy/2026-01-01_00-00-01"]) == 2
    assert f"Did you mean '{made}'?" in capsys.readouterr().err
    (made / "config.yaml").write_text("a: [")
    assert cli.main(["eval", "run=latest"]) == 2
    assert "config.yaml is damaged, line 1: " in capsys.readouterr().err


def test_latest_is_the_newest_run_sweeps_included(run):
    for age, name in [(20, "m-d/1"), (5, "sweeps/x/0"), (10, "m-d/2")]:
        folder = Path("outputs") / name
        folder.mkdir(parents=True)
        for file in ("run.json", "config.yaml"):
            (folder / file).touch()
        os.utime(folder / "run.json", (1000 - age, 1000 - age))
    assert locate.find_run("latest") == Path("outputs/sweeps/x/0")


def test_a_sweep_over_runs(ran, run):
    other = run.with_name("b")
    other.mkdir()
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["choices"]["model"] = "energy"
    config["estimator"] = None
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    (other / "run.json").write_text("{}")
    assert cli.main(["eval", "-m", f"run='{run}','{other}'", "seed=1,2", "trust=[toyzoo]"]) == 0
    seen = [(config["run"], config["choices"]["model"], config["seed"]) for _, config, _ in ran]
    assert seen == [(str(r), m, s) for r, m in ((run, "toy"), (other, "energy")) for s in (1, 2)]
    assert ran[-1][1]["estimator"] is None
    assert not Path("outputs").exists()


def test_the_run_of_one_command_is_forgotten_by_the_next(ran, run):
    assert cli.main(["eval", quoted(run), "trust=[toyzoo]"]) == 0
    assert cli.main(["train", *TOY, "estimator=from_run"]) == 2


# --- Python ----------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=made", "data=hmm", "model.masks=3", "estimator.masks=2"], "cannot score windows"),
        (["model=made", "data=hmm", "objective=nce"], "moves x continuously"),
        (["model=made", "data=hmm", "sampler=langevin"], "moves x that is real"),
        (["model=made", "data=hmm", "estimator=importance"], "moves x continuously"),
        (["model=made", "data=hmm", "sampler.length=40"], "draws its window of 64 symbols only"),
        (["model=transformer", "data=hmm", "sampler.prompt=Z"], "the character 'Z' is not among the 3"),
        (["model=pixelcnn", "data=digits", "sampler.given=top"], "Did you mean 'top_half'?"),
        (["model=transformer", "data=hmm", "model.heads=0"], "model.heads=0: at least 1"),
        (["model=ngram", "data=hmm", "data.states=60", "data.symbols=30"], "leave the entropy rate uncertain"),
    ],
)
def test_what_cannot_be_is_refused_before_training(overrides, words, capsys, tmp_path):
    assert cli.main(["train", *overrides, "run_dir=never"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "never").exists()
