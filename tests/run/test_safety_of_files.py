"""Files of a stranger's run: nothing is written through its links, its text stays text, its weights are tensors."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save
from strangers import Payload, commands, poison

import gencli
from gencli.cli.completion import candidates
from gencli.cli.main import main
from gencli.core.errors import GencliError
from gencli.run import checkpoint

# --- nothing outside of the folder -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["samples", "eval", "checkpoints", "tensorboard", "metrics.jsonl", "train.log"])
def test_nothing_is_written_through_a_link(stranger, tmp_path, name, capsys):
    victim = tmp_path / "victim"
    own = stranger / name
    if own.is_dir():
        shutil.copytree(own, victim)
        shutil.rmtree(own)
    elif name == "tensorboard":
        victim.mkdir()
    else:
        victim.write_text(own.read_text())
        own.unlink()
    own.symlink_to(victim)
    before = {path: path.read_bytes() for path in [victim, *victim.rglob("*")] if path.is_file()}
    verb = {"samples": "sample", "eval": "eval"}.get(name, "train")
    words = next(words for words in commands(stranger) if words[0] == verb)
    assert main([*words, *(["trainer.max_steps=21", "logger=tensorboard"] if verb == "train" else [])]) == 1
    error = capsys.readouterr().err
    assert f"{name} is a symbolic link" in error
    assert len(error.splitlines()) == 1
    assert {path: path.read_bytes() for path in [victim, *victim.rglob("*")] if path.is_file()} == before


@pytest.mark.parametrize("name", ["../x", "a/b", "x\ny"])
def test_a_name_does_not_leave_the_folder(tiny_run, name, capsys):
    assert main(["sample", f"run={tiny_run}", f"name='{name}'", "device=cpu"]) == 2
    assert "a file name without / is needed" in capsys.readouterr().err


def test_nothing_is_downloaded_into_a_folder_that_a_run_names(stranger, tmp_path, capsys):
    data = {"_target_": "gencli.data.sets.mnist.MNIST", "root": str(tmp_path / "elsewhere"), "transform": "logit"}
    poison(stranger, ("data",), data)
    assert main(["train", f"resume={stranger}"]) == 2
    assert "nothing is downloaded into a folder that a run names" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere").exists()


# --- what a run says is shown as text --------------------------------------------------------------------------------


@pytest.mark.slow
def test_escapes_and_markup_are_text(stranger, capsys):
    named = stranger.rename(stranger.with_name("\x1b[31m[link=x]\nevil"))
    file = named / "eval" / "test-exact.json"
    record = json.loads(file.read_text())
    record["protocol"]["data"] = "\x1b]0;mine\x07[b]moons\n\na table of mine"
    file.write_text(json.dumps(record))
    for words in ([], ["--csv"], ["--json"]):
        assert main(["compare", str(named), *words]) == 0
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert "\x07" not in out
        assert "\na table of mine" not in out
        assert "[link=x]" in out
    assert main(["sample", f"run={named}", "sampler.x=1"]) == 2
    assert main(["sample", "-m", f"run='{named}'", "n=2,3", "device=cpu"]) == 0
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    file.write_text(json.dumps({**record, "estimator": "x\ny"}))
    assert main(["compare", str(named)]) == 2
    error = capsys.readouterr().err
    assert r"estimator=x\ny is no short text of one line" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"value": "low"}, "value=low is of the wrong type"),
        ({"value": float("nan")}, "value=nan"),
        ({"value": float("-inf")}, "value=-inf"),
        ({"bound": "Lower"}, "Lower is none of exact, upper, lower, estimate"),
        ({"estimator": "x" * 120}, "is no short text of one line"),
        ({"bound": 3}, "bound=3 is of the wrong type"),
        ({"diagnostics": {"ess": "x"}}, "diagnostics.ess is no number"),
        ({"protocol": [1]}, "protocol=[1] is of the wrong type"),
        ({"se_examples": [1]}, "se_examples=[1] is of the wrong type"),
    ],
    ids=str,
)
def test_a_damaged_record_is_named_and_not_ranked(stranger, tiny_run, change, says, capsys):
    file = stranger / "eval" / "test-exact.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    assert main(["compare", str(stranger), str(tiny_run)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert says in out
    with pytest.raises(GencliError, match="is damaged"):
        gencli.load(stranger).results  # noqa: B018


def test_a_pickle_among_scores_is_not_opened(stranger, tiny_run, capsys):
    np.savez(stranger / "eval" / "test-exact.npz", ids=np.arange(2), nll=np.array([Payload(), 1], dtype=object))
    assert main(["compare", str(stranger), str(tiny_run)]) == 0
    assert "test-exact.npzisdamaged" in "".join(capsys.readouterr().out.split())  # wherever a long path is broken
    assert not os.path.exists("ran")


def test_a_name_that_a_shell_would_run_is_not_completed():
    for name in ("$(touch ran)", "a;touch ran", "`touch ran`", "a b", "plain-1"):
        folder = Path("outputs") / name
        folder.mkdir(parents=True)
        for file in ("run.json", "config.yaml"):
            (folder / file).touch()
    assert candidates(["sample", "run="]) == ["run=latest", "run=outputs/plain-1"]


@pytest.mark.slow
def test_modules_in_the_current_folder_are_not_taken(tiny_run):
    for name in ("torch.py", "numpy.py", "hydra_plugins/evil.py", "matplotlib.py"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("open('ran', 'w').close()\n")
    Path("matplotlibrc").write_text("text.usetex: True\n")
    environment = {**os.environ, "PYTHONPATH": str(Path(gencli.__file__).resolve().parents[1])}
    words = ["sample", f"run={tiny_run}", "n=4", "name=here", "device=cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "gencli", *words], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not os.path.exists("ran")
    (tiny_run / "samples" / "here.png").unlink()
    (tiny_run / "samples" / "here.npz").unlink()


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("meta", "says"),
    [
        ([1], "its scalars are no mapping"),
        ({"step": "x"}, "step=x is of the wrong type"),
        ({"step": -1}, "a counter is -1"),
        ({"seconds": float("nan")}, "a counter is nan"),
        ({"best": [1]}, "best=[1] is no score and step"),
        ({"optimizers": {"model": 3}}, "does not fit the run's config"),
    ],
    ids=str,
)
def test_scalars_of_a_checkpoint_are_checked(stranger, meta, says, capsys):
    file = stranger / "checkpoints" / "last.safetensors"
    with safe_open(str(file), framework="pt") as opened:
        header = opened.metadata()
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    header["meta"] = json.dumps({**json.loads(header["meta"]), **meta} if isinstance(meta, dict) else meta)
    del header["sha256"]
    header["sha256"] = checkpoint._digest(tensors, header)  # a stranger can do that too
    file.write_bytes(save(tensors, metadata=header))
    assert main(["train", f"resume={stranger}", "trainer.max_steps=21"]) == 1
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1


def test_an_interpolation_in_a_run_stays_text(stranger, monkeypatch):
    monkeypatch.setenv("SECRET", "42")
    poison(stranger, ("data", "which"), "${oc.env:SECRET}")
    assert main(["sample", f"run={stranger}"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["pickle", "torch"])
def test_pickled_weights_are_not_opened(stranger, protocol, capsys):
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
