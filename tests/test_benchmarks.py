"""Benchmarks start, take turns, and say on which machine they were run."""

import importlib
import json
from pathlib import Path

import pytest
import torch

import gencli
from benchmarks import check, table
from benchmarks.racing import RESULTS, Report, peers, race, ratios, stepper

NAMES = sorted(path.stem for path in Path(RESULTS).parent.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", NAMES)
def test_it_fits_the_gencli_of_today(name):
    importlib.import_module(f"benchmarks.{name}")


def test_works_take_turns_and_the_first_round_is_left_out():
    order = []
    works = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    assert [len(times) for times in race(works, 3).values()] == [2, 2]
    assert order == ["a", "b", "b", "a", "a", "b"]
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
    assert torch.__version__.startswith(result["machine"]["versions"]["torch"])  # a CUDA wheel says less of itself
    assert result["machine"]["threads"] == torch.get_num_threads()
    assert result["machine"]["cpu"]
    assert result["date"].endswith("+00:00")


def test_ratios_are_to_the_best_peer_and_to_each_floor():
    median = {"gencli": 2.0, "gencli, compiled": 1.0, "bare loop": 1.0, "bare, fused": 0.5, "slow": 9.0, "fast": 3.0}
    assert ratios(median) == {"peer": 1.5, "bare loop": 0.5, "bare, fused": 0.25}
    assert ratios({"gencli": 1.0}) == {}


def test_a_peer_that_is_missing_is_left_out_and_said(capsys):
    def missing():
        import no_such_peer  # noqa: F401

    assert list(peers({"here": lambda: {}, "there": missing})) == ["here"]
    assert "without there: No module named 'no_such_peer'" in capsys.readouterr().out


def test_a_work_that_lost_a_third_is_told():
    kept = {"a": 0.9, "b": 0.9, "c": 0.9}
    assert check.lost(kept, {"a": 0.7, "b": 0.5}) == [
        "b: 0.50 of a loop by hand, 0.90 before",
        "c: 0.00 of a loop by hand, 0.90 before",
    ]


def result(date, commit, **median):
    tables = [{"title": "training", "median": median}]
    return {"benchmark": "vae", "arguments": ["--rounds", date[-1]], "date": date, "commit": commit, "tables": tables}


def test_the_table_takes_the_races_of_the_newest_commit(tmp_path):
    for k, (commit, seconds) in enumerate([("old", 9.0), ("new", 1.0), ("new", 2.0), ("new", 4.0)]):
        median = {"gencli": seconds, "fast": 2.0, "slow": 8.0, "bare loop": 1.0}
        (tmp_path / f"flow-{k}.json").write_text(json.dumps(result(f"2026-01-0{k + 1}", commit, **median)))
    (row,) = table.rows(table.newest(tmp_path)[0])
    assert row == {
        "what": "vae: training",
        "races": "3",
        "best peer": "fast: 1.00 (0.50 to 2.00)",
        "floor": "loop: 0.50 (0.25 to 1.00)",
    }


def test_a_compiled_race_tells_of_what_is_compiled():
    """Its other works are those of the race without, and would be called compiled."""
    race = result("2026-01-01", "new", **{"gencli": 2.0, "gencli, compiled": 1.0, "fast": 3.0})
    race["arguments"] = ["--compile"]
    race["tables"].append({"title": "samples", "median": {"gencli": 1.0, "fast": 2.0}})
    (row,) = table.rows([race])
    assert (row["what"], row["best peer"]) == ("vae, compiled: training", "fast: 3.00")


def test_the_table_of_the_page_is_made_from_the_results_that_are_kept():
    text = table.PAGE.read_text(encoding="utf-8")
    assert table.table(table.newest()) in text
