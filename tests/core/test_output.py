"""What is said, where the reader lacks characters or has left."""

import io
import os
import subprocess
import sys

import pytest

from gencli.cli.main import main
from gencli.core.output import output
from gencli.run.reporter import Reporter
from tests.runs import ROOT


def stream(monkeypatch, raw, encoding):
    found = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    monkeypatch.setattr(sys, "stdout", found)
    return found


def test_what_an_encoding_lacks_is_spelled(monkeypatch):
    raw = io.BytesIO()
    kept = stream(monkeypatch, raw, "ascii")
    Reporter().say("2.1 ± 0.3 of ü ↑")
    assert raw.getvalue() == b"2.1 +- 0.3 of \\xfc ^\n"
    kept.detach()


@pytest.mark.parametrize("close", [True, False])
def test_training_needs_no_reader(monkeypatch, close):
    """A pipe whose reader has gone; a process without a standard output."""
    if close:
        ours, theirs = os.pipe()
        os.close(ours)
        stream(monkeypatch, io.FileIO(theirs, "w"), "utf-8")
    else:
        monkeypatch.setattr(sys, "stdout", None)
    reporter = Reporter()
    with reporter.progress("training", 2) as bar:
        reporter.say("once")
        bar.at(1)
        reporter.say("twice")


@pytest.mark.slow
def test_a_reader_of_ascii_and_a_locale_of_none(tiny_run):
    words = [sys.executable, "-m", "gencli", "compare", str(tiny_run)]
    plain = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    for more in ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "ascii"}):
        done = subprocess.run(words, env={**plain, **more}, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b" +-" in done.stdout


def test_output_is_that_of_the_moment(capsys):
    stream = output()
    print("here", file=stream)
    assert capsys.readouterr().out == "here\n"
    assert not stream.isatty()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device")
@pytest.mark.parametrize("words", [["list"], ["ls"], ["--version"], ["train", "--help"]])
def test_a_full_disk_is_told_in_one_line(monkeypatch, capsys, words):
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(words) == 1
    assert capsys.readouterr().err == "error: the standard output cannot be written: No space left on device\n"
