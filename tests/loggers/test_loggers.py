"""The group ``logger``: which a command takes, what they hear, and those of runs of an older gencli."""

import textwrap
from pathlib import Path

import pytest
import torch
import yaml

import gencli
from gencli.cli.main import main
from gencli.config import compose, stored
from gencli.core.errors import UsageError
from gencli.loggers.csv_tables import CSVTables
from gencli.loggers.tensorboard import TensorBoard
from tests.conftest import TINY

BOARD = {"tensorboard": {"_target_": "gencli.loggers.tensorboard.TensorBoard"}}
FAST = [word for word in TINY if not word.startswith("logger=")]
ECHO = """
    from pathlib import Path
    from gencli.interfaces import Logger

    class Echo(Logger):
        def __init__(self, folder: Path, start: int = 0, *, prefix: str = "") -> None:
            super().__init__(folder, start)
            self.prefix, self.lines = prefix, [f"from {start}"]
        def scalars(self, step, values):
            self.lines += [f"{self.prefix}{name}@{step}" for name in values]
        def image(self, step, name, image):
            self.lines.append(f"image {name}@{step}")
        def text(self, name, text):
            self.lines.append(f"text {name}")
        def close(self):
            Path(self.folder, "echo.txt").write_text("\\n".join(self.lines))
"""


@pytest.fixture
def echo(tmp_path, monkeypatch):
    """A logger of a user's own, as the README has plug-ins: a class and a YAML."""
    (tmp_path / "mine.py").write_text(textwrap.dedent(ECHO))
    (tmp_path / "conf" / "logger").mkdir(parents=True)
    (tmp_path / "conf" / "logger" / "echo.yaml").write_text("echo:\n  _target_: mine.Echo\n  prefix: ''\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return ["conf"]


@pytest.mark.parametrize(
    ("words", "section", "choice"),
    [
        ([], BOARD, "tensorboard"),
        (["logger=none"], None, "none"),
        (["logger=null"], None, None),
        (["logger=[tensorboard]"], BOARD, ["tensorboard"]),
        (["logger=[]"], None, []),
    ],
)
def test_a_command_takes_one_or_several(words, section, choice):
    config = compose.compose("train", words)
    assert (config["logger"], config["choices"].get("logger")) == (section, choice)


@pytest.mark.slow
def test_several_loggers_hear_the_same(echo):
    run = gencli.train([*FAST, "logger=[tensorboard,echo]", "logger.echo.prefix=x:", "trust=[mine]", "run_dir=a"], echo)
    said = Path("a/echo.txt").read_text().splitlines()
    assert said[:3] == ["from 0", "text model", "text config"]
    lines = run.metrics
    keys = ("step", "split", "seconds", "weights")
    expected = [f"x:{line['split']}/{name}@{line['step']}" for line in lines for name in line if name not in keys]
    assert [line for line in said if line.startswith("x:")] == expected
    assert list(Path("a/tensorboard").iterdir())
    assert run.config["choices"]["logger"] == ["tensorboard", "echo"]

    gencli.train(["resume=a", "trainer.max_steps=21", "trust=[mine]"], echo)  # the run's own go on
    assert Path("a/echo.txt").read_text().startswith("from 20")
    gencli.train(["resume=a", "trainer.max_steps=22", "logger=none"])  # others may be chosen
    assert Path("a/echo.txt").read_text().startswith("from 20")
    assert gencli.load("a", trust=["mine"]).config["logger"] is None


@pytest.mark.slow
def test_a_logger_of_a_stranger_is_not_built(echo, capsys):
    gencli.train([*FAST, "logger=echo", "trust=[mine]", "run_dir=a"], echo)
    before = Path("a/echo.txt").read_text()
    assert main(["train", "resume=a", "trainer.max_steps=21"]) == 2
    assert "logger.echo._target_=mine.Echo: this class is not part of gencli" in capsys.readouterr().err
    assert Path("a/echo.txt").read_text() == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["logger=nope"], "there is no such logger"),
        (["logger.tensorboard.flush=3"], "logger.tensorboard.flush: there is no such key"),
        (["+logger.tensorboard.flush=3"], "logger.tensorboard.flush: gencli.loggers.tensorboard.TensorBoard takes no"),
        (["logger.tensorboard=true"], "logger.tensorboard=True: a section with a _target_ is needed"),
        (["logger.tensorboard._target_=gencli.samplers.direct.Direct"], "this is no Logger of gencli"),
    ],
)
def test_what_no_logger_is_is_refused_before_anything_is_written(words, says, tmp_path):
    with pytest.raises(UsageError) as error:
        gencli.train([*FAST, *words, "run_dir=a"])
    assert says in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("old", "now"), [({"tensorboard": True}, BOARD), ({"tensorboard": False}, None), (None, None)])
def test_the_section_of_an_older_run_is_read(tiny_run, tmp_path, old, now):
    config = yaml.safe_load((tiny_run / "config.yaml").read_text()) | {"logger": old}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert stored.config(tmp_path)["logger"] == now


def test_tensorboard_reads_back_what_was_written(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoard(tmp_path)
    logger.scalars(3, {"train/loss": 0.5})
    logger.image(4, "samples", torch.zeros(3, 2, 2))
    logger.text("model", "one\ntwo")
    logger.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(3, 0.5)]
    assert [e.step for e in events.Images("samples")] == [4]
    (text,) = events.Tensors("model/text_summary")
    assert text.tensor_proto.string_val[0] == b"    one\n    two"


def test_tensorboard_has_parameters_beside_the_result(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    logger = TensorBoard(tmp_path)
    logger.parameters({"model": "maf", "seed": 0, "optimizer.lr": 0.1, "data.flip": False})
    logger.result(7, {"split": "test", "value": 2.5, "bits_per_dim": 1.8, "perplexity": None})
    logger.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = events.PluginTagToContent("hparams")
    session = metadata.parse_session_start_info_plugin_data(found[metadata.SESSION_START_INFO_TAG])
    assert session.hparams["model"].string_value == "maf"
    assert session.hparams["optimizer.lr"].number_value == 0.1
    experiment = metadata.parse_experiment_plugin_data(found[metadata.EXPERIMENT_TAG])
    assert "test/nll" in [info.name.tag for info in experiment.metric_infos]
    assert metadata.SESSION_END_INFO_TAG in found
    assert [(e.step, round(e.value, 6)) for e in events.Scalars("test/bits_per_dim")] == [(7, 1.8)]


def test_csv_takes_back_what_came_after_the_checkpoint(tmp_path):
    first = CSVTables(tmp_path)
    for step in (5, 10, 15):
        first.scalars(step, {"train/loss": step / 2})
    first.scalars(10, {"val/nll": 1.0})
    first.scalars(15, {"train/loss": 7.5, "train/odd, name": 1.0})  # a column more
    second = CSVTables(tmp_path, 10)
    second.scalars(15, {"train/loss": 0.5})
    second.close()
    assert (tmp_path / "csv" / "train.csv").read_text() == "step,loss\n5,2.5\n10,5.0\n15,0.5\n"
    assert (tmp_path / "csv" / "val.csv").read_text() == "step,nll\n10,1.0\n"
    CSVTables(tmp_path).scalars(3, {"train/a,b": 1.0})  # from the start again
    assert (tmp_path / "csv" / "train.csv").read_text() == 'step,"a,b"\n3,1.0\n'
