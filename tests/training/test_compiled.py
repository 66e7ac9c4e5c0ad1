"""When trainer.compile=auto compiles, where that is kept, and that a compiled model is the model."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import gencli
from gencli.core.errors import Interrupted, RunFailed
from gencli.run import checkpoint
from gencli.training import compiled
from tests.conftest import TINY
from tests.runs import before_step, same, tensors

LONG = [*TINY, "trainer.compile=auto", "trainer.max_steps=40"]


@pytest.mark.parametrize(
    ("step", "steps", "seconds", "chosen"),
    [
        (0.02, 3000, None, False),  # a minute
        (0.02, 7500, None, True),  # 150 seconds
        (0.02, 7499, None, False),
        (0.02, 10**6, 100.0, False),  # the clock ends it before
        (0.02, None, 600.0, True),
        (9.0, None, 149.0, False),
    ],
)
def test_it_pays_where_enough_training_is_left(step, steps, seconds, chosen):
    assert compiled.pays(step, steps, seconds) is chosen


def test_steps_are_timed_after_a_warm_up():
    times = iter([10.0, 40.0])
    watch = compiled.Watch(lambda: next(times), torch.device("cpu"))
    found = [watch.step() for _ in range(compiled.WARM + compiled.TIMED + 1)]
    assert found == [None] * 20 + [30.0 / compiled.TIMED]


@pytest.fixture
def eager(monkeypatch):
    """torch.compile as it would be if it changed nothing but the last bits, and took no time; names what it took."""
    taken = []

    def fake(function):
        taken.append(function.__name__)
        return lambda *args: function(*args) * (1 + 2**-20)

    monkeypatch.setattr(torch, "compile", fake)
    monkeypatch.setattr(compiled, "pays", lambda *_: True)
    monkeypatch.setattr(compiled, "compiler", lambda device: True)
    return taken


def stop(trainer):
    trainer.stop.signal = 15


@pytest.mark.slow
@pytest.mark.parametrize("at", [11, 31])
def test_a_run_stopped_before_or_after_the_choice_is_the_same_to_the_bit(eager, monkeypatch, at):
    gencli.train([*LONG, "run_dir=whole"])
    with monkeypatch.context() as patch:
        before_step(patch, at, stop)
        with pytest.raises(Interrupted):
            gencli.train([*LONG, "run_dir=halves"])
    since = json.loads(Path("halves/run.json").read_text()).get(compiled.KEY, "none yet")
    assert since == ("none yet" if at == 11 else 20)
    if at == 31:
        gencli.train(["resume=halves"])
        assert same(tensors("whole"), tensors("halves")) == []
    else:  # what is timed is the process that goes on
        assert gencli.train(["resume=halves"]).info[compiled.KEY] == 32
    assert "log_prob" in eager


@pytest.mark.slow
def test_what_was_chosen_holds_from_its_own_step_on(eager):
    """Killed between the choice and the next checkpoint, a run takes the steps before it anew, as they were."""
    whole = gencli.train([*LONG, "run_dir=whole", "trainer.eval_every=100"])
    assert whole.info[compiled.KEY] == 20
    assert "compiled from here on" in Path("whole/train.log").read_text()
    shutil.copytree("whole", "killed")
    start = Path("killed/checkpoints/previous.safetensors")
    assert checkpoint.read(start)[1]["step"] == 0
    gencli.train(["resume=killed", "checkpoint=previous"])
    assert same(tensors("whole"), tensors("killed")) == []


@pytest.mark.slow
def test_a_short_run_is_not_compiled(monkeypatch):
    monkeypatch.setattr(torch, "compile", None)
    run = gencli.train([*LONG, "run_dir=run"])
    assert run.info[compiled.KEY] is None
    assert Path("run/train.log").read_text().count("trainer.compile=auto: ") == 1


@pytest.mark.parametrize("asked", ["auto", "true"])
def test_what_cannot_be_compiled_goes_on_or_is_one_line(eager, monkeypatch, asked):
    def broken(function):
        def fail(*args):
            raise RuntimeError("no such operation\nand a long story")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    words = [*LONG, f"trainer.compile={asked}", "trainer.max_steps=22", "run_dir=run"]
    if asked == "true":
        with pytest.raises(RunFailed, match=r"^trainer\.compile=true: .*\(no such operation\)") as caught:
            gencli.train(words)
        assert "\n" not in str(caught.value)
    else:
        assert gencli.train(words).info[compiled.KEY] is None
        assert "warning: trainer.compile=auto: not compiled, since that failed" in Path("run/train.log").read_text()


@pytest.mark.parametrize(
    "name", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("vae", "flow_matching")), "realnvp"]
)
def test_losses_call_the_pieces_that_are_compiled(eager, name, monkeypatch):
    """Each piece that a class names is called by the usual loss of its models, on a view of the same weights."""
    calls = []
    monkeypatch.setattr(torch, "compile", lambda own: lambda *args: calls.append(own.__name__) or own(*args))
    words = [word for word in TINY if not word.startswith(("data", "model"))]
    small = ["data=digits" if name == "vae" else "data=moons", f"model={name}", "trainer.max_steps=2"]
    run = gencli.train([*words, *small, "trainer.compile=true", "estimator=null", "run_dir=run"])
    model = run.parts.model
    named = {piece.rpartition(".")[2] for piece in compiled.pieces(model)}
    assert {*calls} == named - {"energy"}
    assert not any(named & {*vars(part)} for part in model.modules())  # the run's own model is as it was
