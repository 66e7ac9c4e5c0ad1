"""Benchmarks start, take turns, and say on which machine they were run."""

import importlib
import json
from pathlib import Path

import pytest
import torch

import gencli
from benchmarks.racing import RESULTS, Report, race, stepper

NAMES = sorted(path.stem for path in Path(RESULTS).parent.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", NAMES)
def test_it_fits_the_gencli_of_today(name):
    importlib.import_module(f"benchmarks.{name}")


def test_works_take_turns_and_the_first_round_is_left_out():
    order = []
    works = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    assert [len(times) for times in race(works, 3).values()] == [2, 2]
    assert order == ["a", "b"] * 3
    assert len(race(works, 1)["a"]) == 1


def test_a_stepper_trains():
    torch.manual_seed(0)
    model, x = torch.nn.Linear(2, 1), torch.ones(8, 2)
    work = stepper(model, lambda rows: model(rows).square().mean(), x, steps=4, batch=2)
    before = float(model(x).detach().abs().mean())
    for _ in range(20):
        work()
    assert float(model(x).detach().abs().mean()) < before / 2


def test_a_result_names_its_machine(tmp_path, capsys):
    report = Report("loop")
    report.table("training", {"gencli": [1.0, 2.0, 3.0], "bare": [4.0]}, count=10)
    assert "bare" in capsys.readouterr().out
    result = json.loads(report.write(tmp_path / "results").read_text())
    assert result["tables"][0]["median"] == {"gencli": 2.0, "bare": 4.0}
    assert result["machine"]["versions"]["gencli"] == gencli.__version__
    assert result["machine"]["versions"]["torch"] == torch.__version__
    assert result["machine"]["threads"] == torch.get_num_threads()
    assert result["machine"]["cpu"]
    assert result["date"].endswith("+00:00")
