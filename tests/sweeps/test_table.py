"""What a sweep shows: it fits 80 columns, and a pipe gets plain lines."""

import io
import json

import pytest
from rich.console import Console

from gencli.sweeps import table
from gencli.sweeps.progress import Progress, read, result
from gencli.sweeps.table import Display, Row, draw

LONG = "[12/24] model=nsf_coupling optimizer.lr=0.0003 model.net.vector.hidden=[128,128] seed=2"


def screen(*args, width=80, **kwargs):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(draw(*args, **kwargs))
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 120, 60])
def test_the_table_fits(width):
    rows = [
        Row("[3/24] model=maf seed=0", Progress(0.4, 1200, 3000, "nll 2.417"), 60.0),
        Row(LONG, Progress(0.25, 99999, None, "denoising_score_matching -1234.567"), 4000.0, began_at=0.2),
        Row("[9/24] seed=[bold]1", Progress(1.0, 3000, 3000, "nll 2.417"), 60.0),
    ]
    lines = screen("7 of 24 done, 1 failed, 3 running, 13 waiting, about 2h03m left", rows, width=width)
    assert len(lines) == 5
    assert all(len(line) <= width for line in lines)
    if width >= 80:
        assert "[3/24] model=maf seed=0" in lines[1]
        assert lines[1].split()[-3:] == ["nll", "2.417", "1m30s"]
        assert "1200/3000" in lines[1]
        assert "measuring" in lines[3]
    assert lines[-1].startswith("7 of 24 done")


def test_more_jobs_than_lines():
    lines = screen("s", [Row(str(k), Progress(), 1.0) for k in range(30)], most=5)
    assert len(lines) == 8
    assert lines[-2] == "and 25 more"


def test_time_left_goes_by_the_pace_of_this_start():
    assert Row("", Progress(0.5), 10.0).left == 10.0
    assert Row("", Progress(0.5), 10.0, began_at=0.25).left == 20.0
    assert Row("", Progress(0.25), 10.0, began_at=0.25).left is None


def test_a_pipe_gets_plain_lines(monkeypatch):
    monkeypatch.setattr(table, "PLAIN_EVERY", 0.0)
    console = Console(file=io.StringIO(), highlight=False, soft_wrap=True)
    with Display(console) as display:
        display.say("[1/2] seed=0: failed: \x1b[31m", "red")
        display.update(lambda: "0 of 2 done", lambda: [Row(LONG, Progress(0.4, 1200, 3000, "nll 2.4"), 60.0)])
    assert console.file.getvalue().splitlines() == [
        "[1/2] seed=0: failed: \\x1b[31m",
        "0 of 2 done",
        f"  {LONG}: 1200/3000, nll 2.4, 1m30s",
    ]


def test_a_terminal_is_drawn_without_threads():
    import threading

    before = threading.active_count()
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24)
    with Display(console) as display:
        display.update(lambda: "1 of 2 done", lambda: [Row("a", Progress(), 1.0)], now=True)
        assert threading.active_count() == before  # jobs are forks
        display.say("a line")
    assert "1 of 2 done" in console.file.getvalue()


def test_progress_is_read_from_the_run(tmp_path):
    config = {"trainer": {"max_steps": 100, "max_minutes": 1}}
    assert read(tmp_path / "none", config) == Progress(0.0, 0, 100, "")
    lines = [{"step": 10, "seconds": 3.0}, {"step": 20, "seconds": 45.0, "loss": 1.0}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "metrics.jsonl").write_text("x" * 5000 + "\n" + text + '{"step": 30, "seco')
    (tmp_path / "run.json").write_text('{"status": "running", "best": {"step": 10, "nll": 2.5}}')
    assert read(tmp_path, config) == Progress(0.75, 20, 100, "nll 2.500")
    assert result(tmp_path) == ""
    (tmp_path / "run.json").write_text('{"status": "running", "steps": 40}')  # as epochs come to
    assert read(tmp_path, {"trainer": {"max_steps": "auto"}}) == Progress(0.5, 20, 40, "")
    found = {"split": "test", "value": 84.2441, "unit": "nats", "bits_per_dim": 1.899, "bound": "upper"}
    (tmp_path / "run.json").write_text(json.dumps({"status": "finished", "result": found}))
    assert result(tmp_path) == "test NLL <= 84.244 nats (1.8990 bits/dim)"
