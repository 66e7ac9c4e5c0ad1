"""A training whose test split stays closed, as trials of a search have it."""

import json

import pytest

from gencli.config.compose import compose
from gencli.core.errors import UsageError
from gencli.data.lazy import Lazy
from gencli.training.session import Session
from tests.conftest import TINY


@pytest.fixture
def opened(tiny_run, monkeypatch):
    """Splits that are asked for."""
    names, own = [], Lazy.split

    def split(self, name):
        names.append(name)
        return own(self, name)

    monkeypatch.setattr(Lazy, "split", split)
    return names


@pytest.mark.slow
def test_a_trial_measures_validation_as_a_run_does_and_never_opens_the_test_split(opened, tiny_run, tmp_path):
    with Session.open(compose("train", [*TINY, "n=16"]), tmp_path / "run", test=False) as session:
        session.fit()
        record = session.finish()
    assert "val" in opened
    assert "test" not in opened
    assert record.split == "val"
    assert record.value == json.loads((tiny_run / "eval" / "val-exact.json").read_text())["value"]  # to the bit
    assert [file.name for file in sorted((tmp_path / "run" / "eval").iterdir())] == ["val-exact.json", "val-exact.npz"]
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["result"]["split"] == "val"
    assert info["sampling_seconds"] > 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["split"] == "val"] == [0, 10, 20]


def test_data_without_validation_cannot_be_searched(monkeypatch, tmp_path):
    own = Lazy.split
    monkeypatch.setattr(Lazy, "split", lambda self, name: None if name == "val" else own(self, name))
    with pytest.raises(UsageError, match="data=moons has no validation split, by which a search chooses"):
        Session.open(compose("train", TINY), tmp_path / "run", test=False)
    assert not (tmp_path / "run").exists()
