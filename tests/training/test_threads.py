"""How many threads threads=auto comes to, of steps whose times are known."""

import json
from pathlib import Path

import pytest
import torch

import gencli
from gencli.core.errors import Interrupted
from gencli.run import device
from gencli.training import threads as choice
from tests.conftest import TINY
from tests.runs import before_step, cores


class Told(list):
    """A reporter and a folder at once."""

    say = list.append

    def update(self, **info):
        self.append(info)


class Threads:
    """Those of a machine with ``count`` cores, without its cores."""

    def __init__(self, count):
        self.count, self.open = count, count > 1

    def take(self, count):
        self.count = count


def paced(times, most, steps=200, **kinds):
    """Train on a machine where a step with n threads takes ``times[n]`` seconds."""
    threads, told, clock = Threads(most), Told(), [0.0]
    found = choice.ThreadChoice(
        threads, kinds.pop("device", torch.device("cpu")), lambda: clock[0], told, told, **kinds
    )
    used = []
    for step in range(steps):
        found.before_step()
        used.append(threads.count)
        clock[0] += times[threads.count] * (10 if step == 5 else 1)  # somebody else had the core
    found.end()
    return threads.count, used, told


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ({1: 0.018, 2: 0.040}, 1),  # small operations
        ({1: 0.600, 2: 0.390}, 2),
        ({1: 0.100, 2: 0.095}, 1),  # not worth another core
        ({1: 0.800, 2: 0.420, 4: 0.220, 6: 0.180}, 6),
        ({1: 0.800, 2: 0.420, 4: 0.220, 6: 0.210}, 4),
        ({1: 0.800, 2: 0.420, 4: 0.600, 8: 0.001}, 2),
    ],
)
def test_threads_are_doubled_for_as_long_as_that_pays(times, chosen):
    count, used, told = paced(times, max(times))
    assert count == used[-1] == told[0]["threads"] == chosen
    assert told[1].startswith(f"threads=auto: {chosen}, {1000 * times[chosen]:.3g} ms a step (")
    assert used[0] == 1


def test_long_steps_are_timed_but_three_times():
    _, used, _ = paced({1: 20.0, 2: 11.0}, 2)
    assert used.count(1) == choice.WARM + 3
    assert paced({1: 0.02, 2: 0.04}, 2)[1].count(2) == choice.WARM + choice.TIMED


def test_where_nothing_is_to_be_chosen_or_found_out_all_stays_as_it_was():
    assert paced({1: 1.0, 2: 9.0}, 2, alone=False) == (2, [2] * 200, [])
    assert paced({1: 1.0, 2: 9.0}, 2, device=torch.device("meta")) == (2, [2] * 200, [])
    count, _, told = paced({1: 0.01, 2: 9.0}, 2, steps=4)
    assert (count, told) == (2, [{"threads": 2}])
    count, used, told = paced({1: 0.01, 2: 9.0}, 2, steps=15)  # it ends while two are timed
    assert (count, used[-1]) == (1, 2)
    assert told == [{"threads": 1}, "threads=auto: 1, 10 ms a step"]


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(device, "_others", lambda: 0)
    with cores(monkeypatch, 2):
        yield


LONG = [*TINY, "trainer.max_steps=40", "run_dir=run"]


@pytest.mark.parametrize("pays", [0.0, 1e9])
def test_a_run_keeps_and_says_what_it_chose_and_goes_on_with_it(pays, two_cores, monkeypatch, capsys):
    monkeypatch.setattr(choice, "PAYS", pays)
    seen = []
    for step in (0, 39):
        before_step(monkeypatch, step, lambda trainer: seen.append(trainer.choice.threads.count))
    count = 2 if pays == 0 else 1
    assert gencli.train(LONG).info["threads"] == count
    assert seen == [2, count]
    out = capsys.readouterr().out
    assert "cpu with up to 2 threads" in out
    assert f"threads=auto: {count}, " in out
    assert torch.get_num_threads() == 2
    assert gencli.train(["resume=run", "trainer.max_steps=41"]).info["threads"] == count
    assert "threads=auto" not in capsys.readouterr().out


def test_a_run_that_is_stopped_before_has_chosen_nothing(two_cores, monkeypatch):
    with monkeypatch.context() as patch:
        before_step(patch, 5, lambda trainer: setattr(trainer.stop, "signal", 15))
        with pytest.raises(Interrupted):
            gencli.train(LONG)
    assert json.loads(Path("run/run.json").read_text())["threads"] is None
    assert gencli.train(["resume=run"]).info["threads"] in (1, 2)
