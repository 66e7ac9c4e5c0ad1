"""Loggers that need a package: each against the real one in its offline mode, where it is installed."""

import importlib.util
import json
import struct
import time
from pathlib import Path

import pytest
import torch

import gencli
from gencli.core.errors import UsageError
from gencli.loggers.base import Logger
from gencli.loggers.mark import Mark
from gencli.loggers.params import flat, public
from tests.conftest import TINY

FAST = [word for word in TINY if not word.startswith("logger=")]
CONFIG = {
    "seed": 0,
    "model": {"_target_": "gencli.models.Toy", "hidden": [8, 8], "flow": None},
    "data": {"path": "https://me:secret@host/x"},
    "logger": {"mine": {"key": "secret"}},
    "choices": {"model": "toy", "logger": ["mine"]},
}
RECORD = {"metric": "nll", "split": "test", "value": 2.5, "bound": "exact", "bits_per_dim": 1.8}


def told(logger):
    """What a run tells a logger, with one step that it took twice."""
    logger.text("model", "one\ntwo")
    logger.parameters(flat(public(CONFIG)))
    for step in range(logger.start + 1, logger.start + 4):
        logger.scalars(step, {"train/loss": step / 10})
    logger.scalars(logger.start + 3, {"val/nll": 3.0})
    logger.image(logger.start + 3, "samples", torch.rand(3, 8, 8))


def ended(logger):
    logger.result(logger.start + 3, RECORD)
    logger.close()


def test_a_config_is_told_without_credentials():
    assert flat(public(CONFIG)) == {
        **{"model": "toy", "seed": 0, "model.hidden": "[8, 8]"},
        **{"data.path": "https://***@host/x"},
    }


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_a_package_that_is_missing_is_named_before_anything_is_written(name, monkeypatch, tmp_path):
    own = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda word, *rest: None if word == name else own(word, *rest))
    with pytest.raises(UsageError) as error:
        gencli.train([*FAST, f"logger=[csv,{name}]", "run_dir=a"])
    assert str(error.value) == f"logger={name}: the package {name} is not installed: pip install 'gencli-nll[{name}]'"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_that_name_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "wandb_of_nobody").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))

    class Mine(Logger):
        package = "wandb_of_nobody"

    assert "is not installed" in Mine.missing()


def test_a_step_is_told_once(tmp_path):
    mark = Mark(tmp_path, "x")
    mark.save()
    assert [mark.new(step) for step in (5, 5, 10)] == [True, True, True]
    again = Mark(tmp_path, "x")
    assert (again.id, again.known, again.heard) == (mark.id, True, 10)
    assert [again.new(step) for step in (5, 10, 11)] == [False, False, True]


@pytest.mark.parametrize("text", ["", "{", '{"id": "../x", "step": 1}', '{"id": 3, "step": 1}', '{"id": "a"}'])
def test_a_damaged_mark_begins_anew(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    mark = Mark(tmp_path, "x")
    assert (mark.known, mark.heard) == (False, -1)


@pytest.mark.slow
def test_a_logger_that_cannot_be_reached_is_left_out_and_training_goes_on(tmp_path, monkeypatch):
    from gencli.loggers.csv_tables import CSVTables

    own = CSVTables.scalars

    def scalars(self, step, values):
        if step > 5:
            raise ConnectionError("nobody there")
        own(self, step, values)

    monkeypatch.setattr(CSVTables, "scalars", scalars)
    gencli.train([*FAST, "logger=csv", "run_dir=a"])
    log = Path("a/train.log").read_text()
    assert log.count("warning: CSVTables failed and is told no more: nobody there") == 1


# --- the services ----------------------------------------------------------------------------------------------------


def entries(data, block=32768):
    """The records of a file in the log format of LevelDB, after seven bytes of wandb's own."""
    at, whole = 7, b""
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
            continue
        (length,), kind = struct.unpack("<H", data[at + 4 : at + 6]), data[at + 6]
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


def wandb_records(folder):
    """(id, steps of train/loss, keys of the config, summary) over all files that a run has written."""
    from wandb.proto import wandb_internal_pb2

    ids, steps, keys, summary = set(), [], set(), {}
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for data in entries(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                ids.add(record.run.run_id)
            values = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
            steps += [int(values["_step"])] if "train/loss" in values else []
            keys |= {"/".join(item.nested_key) or item.key for item in record.config.update}
            summary |= {"/".join(item.nested_key) or item.key: item.value_json for item in record.summary.update}
    return ids, steps, keys, summary


@pytest.mark.slow
def test_wandb_goes_on_in_its_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    from gencli.loggers.wandb import Wandb

    first = Wandb(tmp_path)
    told(first)
    first.close()
    began = int(time.time())
    while int(time.time()) == began:  # wandb names its folders by the second
        time.sleep(0.05)
    second = Wandb(tmp_path, 2)  # killed after step 3, saved at step 2
    told(second)
    ended(second)
    until = time.monotonic() + 20
    while (
        len((found := wandb_records(tmp_path))[1]) < 5 and time.monotonic() < until
    ):  # a process of wandb's writes them
        time.sleep(0.1)
    ids, steps, keys, summary = found
    assert len(ids) == 1
    assert steps == [1, 2, 3, 4, 5]
    assert "model.hidden" in keys
    assert json.loads(summary["test/value"]) == 2.5
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 4
    assert not any(b"secret" in data for data in written)


@pytest.mark.slow
def test_mlflow_goes_on_in_its_run(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a new database takes seconds
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    from gencli.loggers.mlflow import MLflow

    first = MLflow(tmp_path)
    told(first)
    first.close()
    second = MLflow(tmp_path, 2)
    told(second)
    ended(second)
    client, own = second.client, second.mark.id
    assert len(client.search_runs([client.get_experiment_by_name("gencli").experiment_id])) == 1
    assert sorted(metric.step for metric in client.get_metric_history(own, "train/loss")) == [1, 2, 3, 4, 5]
    run = client.get_run(own)
    assert run.info.status == "FINISHED"
    assert run.data.params["model.hidden"] == "[8, 8]"
    assert run.data.params["data.path"] == "https://***@host/x"
    assert {"model.txt", "test-nll.json", "images"} <= {artifact.path for artifact in client.list_artifacts(own)}


@pytest.mark.slow
def test_trackio_goes_on_in_its_run(tmp_path, monkeypatch):
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "store"))
    from trackio.sqlite_storage import SQLiteStorage

    from gencli.loggers.trackio import Trackio

    first = Trackio(tmp_path)
    told(first)
    first.close()
    second = Trackio(tmp_path, 2)
    told(second)
    ended(second)
    (name,) = SQLiteStorage.get_runs("gencli")
    logs = SQLiteStorage.get_logs("gencli", name)
    assert [line["step"] for line in logs if "train/loss" in line] == [1, 2, 3, 4, 5]
    assert [line["test/value"] for line in logs if "test/value" in line] == [2.5]
