"""`gencli ls`: what is here, in 80 columns."""

import json
import math
import shutil
from pathlib import Path

import pytest

from gencli.cli import main as cli

CONFIG = Path(__file__).parents[1] / "golden/runs/realnvp/config.yaml"


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make_run(name, status="finished", **result):
        run = tmp_path / "outputs" / name
        run.mkdir(parents=True)
        info = {"status": status, "seed": 0, "progress": {"step": 3000}, "result": result or None}
        (run / "run.json").write_text(json.dumps(info))
        shutil.copyfile(CONFIG, run / "config.yaml")
        return run

    return make_run


def test_runs_with_their_numbers_and_bounds(make, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    make("realnvp-digits/2026-01-31_12-00-00", split="test", metric="nll", value=84.2351, unit="nats", bound="upper")
    make("vae-digits/2026-01-31_12-00-01", status="interrupted")
    (make("broken") / "run.json").write_text("{")
    assert cli.main(["ls"]) == 0
    out = capsys.readouterr().out
    assert "<= 84.235" in out
    assert "interrupted" in out
    assert "damaged" in out
    assert cli.main(["ls", "--json", "outputs"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [line["value"] for line in found].count(None) == 2


@pytest.mark.parametrize(
    "result",
    [{"value": ""}, {"value": []}, {"value": 1.0, "bound": ["upper"]}, {"value": True}, {"value": 1.0, "unit": 3}],
)
def test_a_damaged_result_hides_no_other_run(make, capsys, result):
    make("bad", **result)
    make("good", split="test", value=84.2351, unit="nats", bound="upper")
    assert cli.main(["ls"]) == 0
    out = capsys.readouterr().out
    assert "damaged" in out
    assert "<= 84.235" in out
    assert cli.main(["compare", "outputs/bad"]) == 2
    (key,) = {*result} - {"value"} or {"value"}
    assert f"run.json is damaged: result.{key}=" in capsys.readouterr().err


def test_numbers_without_end_are_told_by_their_size_and_infinite_ones_are_json(make, capsys):
    make("large", split="test", value=1.2e60, unit="nats", bound="upper")
    make("infinite", split="test", value=math.inf, unit="nats", bound="upper")
    assert cli.main(["ls"]) == 0
    assert "<= 1.200e+60" in capsys.readouterr().out
    assert cli.main(["ls", "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert {line["run"]: line["value"] for line in found} == {"outputs/large": 1.2e60, "outputs/infinite": "Infinity"}


def test_only_the_newest_are_shown(make, capsys):
    for i in range(32):
        make(f"r{i:02d}")
    assert cli.main(["ls"]) == 0
    out = capsys.readouterr().out
    assert "2 older runs: gencli ls --all" in out
    assert len(out.splitlines()) == 32
    assert cli.main(["ls", "--all"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 33


def test_a_folder_that_is_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["ls", "nowhere"]) == 2
    assert cli.main(["ls"]) == 0
    assert "no runs below outputs/ yet" in capsys.readouterr().out
