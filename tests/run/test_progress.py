"""The progress line fits any terminal, and says what matters most."""

import io
import re

import pytest
import torch
from rich.console import Console

from gencli.core.noise import StepNoise
from gencli.core.progress import counted
from gencli.core.spec import Batch, Spec, Support
from gencli.estimators.bridge import Bridge
from gencli.models.energy.ising import Ising
from gencli.models.energy.reference import Reference
from gencli.run import progress
from gencli.run.progress import Bar


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


NOTES = {"loss": "loss -1234.567", "val": "val nll 12345.678", "bits": "1.234 bpd", "rate": "123.4 steps/s"}


def line(width, clock, terminal=True):
    """What a terminal of that width shows of a training a third through, after 40 seconds."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width)
    said = []
    bar = Bar(console, said.append, "training", 123_456)
    clock.now += 40
    bar.at(41_152, **NOTES)
    if not terminal:
        return said[-1]
    plain = Console(file=io.StringIO(), width=width)
    plain.print(bar.rich.get_renderable())
    return plain.file.getvalue()


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 160])
def test_a_line_fits_and_cuts_no_number(width, clock):
    shown = line(width, clock)
    assert shown.count("\n") == 1
    assert len(shown.rstrip("\n")) <= width
    said = " ".join(re.sub("[━╸╺]+", " ", shown).split())
    whole = "training 41,152/123,456 0:40 left 1:20 " + " ".join(NOTES.values())
    assert whole.startswith(said)
    assert said == whole or whole[len(said)] == " "
    assert "…" not in shown


def test_eighty_columns_hold_what_one_wants_to_know(clock):
    for wanted in ("41,152/123,456", "0:40", "left 1:20", "loss -1234.567", "val nll 12345.678"):
        assert wanted in line(80, clock)


def test_a_pipe_hears_elapsed_and_left(clock):
    assert line(80, clock, terminal=False).startswith("training  41,152/123,456  0:40  left 1:20  loss -1234.567")


def test_what_is_left_follows_the_budget_that_binds_and_a_resumed_run_its_own_pace(clock):
    bar = Bar(Console(file=io.StringIO()), print, "training", None, start=0.5)
    clock.now += 10
    bar.at(900, 0.6)
    assert bar.parts() == ["900/~1,500", "0:10", "left 0:40"]


def test_a_long_loop_tells_how_far_it_is_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_EVERY", -1.0)
    said = []
    model = Ising(Spec((1, 2, 2), Support.parse("binary")), K=0.1)
    with Bar(Console(file=io.StringIO()), said.append, "preparing bridge", None):
        Bridge(base=Reference, chains=4, betas=3, refresh=2).prepare(
            model, Batch(torch.zeros(2, 1, 2, 2)), StepNoise(torch.device("cpu"), 0)
        )
    loops = [line.split("  ")[-1] for line in said]
    assert all(line.startswith("preparing bridge  0:0") for line in said)
    assert loops[0] == "pilot run 0/4"
    assert [line for line in loops if line.startswith("chains")] == [
        *(f"chains from the base {k}/3" for k in range(3)),
        *(f"chains moved on {k}/2" for k in range(2)),
        *(f"chains to the base {k}/3" for k in range(3)),
    ]
    assert [*counted("afterwards", range(3))] == [0, 1, 2]
    assert len(said) == len(loops)
