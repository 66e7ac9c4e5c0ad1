"""`gencli report`: a page that fetches nothing, runs nothing, and shows what runs say as text."""

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml

from gencli.cli import main as cli
from gencli.report import plots
from gencli.report.collect import expand
from gencli.report.page import gather

CONFIG = (Path(__file__).parents[1] / "golden/runs/realnvp/config.yaml").read_text()
ODD = "</pre></style><script>alert(1)</script><img src=x onerror=alert(2)>\u202e\x1b[31m&amp;"
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make_run(name, seed=0, value=3.0, lr=1e-3, odd=""):
        run = tmp_path / "outputs" / "s" / name
        (run / "eval").mkdir(parents=True)
        (run / "samples").mkdir()
        (run / "samples" / "grid.png").write_bytes(PIXEL)
        config = yaml.safe_load(CONFIG)
        config["optimizer"]["lr"] = lr
        (run / "config.yaml").write_text(yaml.safe_dump(config | {"seed": seed}))
        info = {"status": "finished", "seed": seed, "wall_seconds": 10.0 * (seed + 1), "device": "cpu" + odd}
        (run / "run.json").write_text(json.dumps(info))
        lines = [{"step": s, "split": "val", "nll": value + 1 / (s + 1)} for s in range(0, 3000, 100)]
        lines += [{"step": s, "split": "train", "loss": value + 2 / (s + 1)} for s in range(0, 3000, 50)]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        nats = np.random.default_rng(seed).normal(value, 1, 50)
        record = {
            "metric": "nll",
            "value": float(nats.mean()),
            "unit": "nats",
            "bound": "upper",
            "estimator": "exact",
            "se_examples": 0.1,
            "n_examples": 50,
            "split": "test",
            "split_sha256": "abc",
            "protocol": {"data": "digits" + odd},
            "flags": [f"odd {odd}"] if odd else [],
            "ledger": [{"term": "model" + odd, "nats": 3.0}],
        }
        (run / "eval" / "test-exact.json").write_text(json.dumps(record))
        np.savez(run / "eval" / "test-exact.npz", ids=np.arange(50), nll=nats)
        return run

    return make_run


class Seen(HTMLParser):
    """Tags, attributes and text of a page, with every tag closed in order."""

    VOID = ("meta", "img", "br", "rect", "line", "circle", "link")

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_one_run(make):
    make("a")
    assert cli.main(["report", "outputs/s/a"]) == 0
    seen = Seen(Path("outputs/s/a/report.html").read_text())
    text = " ".join(seen.text)
    assert not seen.open
    assert "an upper bound: the NLL is no larger" in text
    assert re.search(r"<= [23]\.\d{3} ± 0\.100 nats", text)
    assert "polyline" in seen.tags
    assert ("img", "src", "data:image/png;base64," + base64.b64encode(PIXEL).decode()) in seen.attributes


def test_several_runs_with_seeds_and_hyper_parameters(make):
    for lr in (1e-3, 1e-2):
        for seed in range(2):
            make(f"{lr}-{seed}", seed, 3 + 10 * lr, lr)
    assert cli.main(["report", "outputs/s"]) == 0
    page = Path("outputs/s/report.html").read_text()
    seen = Seen(page)
    text = " ".join(seen.text)
    assert "optimizer.lr=0.001" in text
    assert "NLL by optimizer.lr" in text
    assert seen.tags.count("circle") == 8  # by time, by learning rate
    focused = [value for tag, key, value in seen.attributes if tag == "g" and key == "tabindex"]
    assert len(focused) == seen.tags.count("circle") + seen.tags.count("polyline")
    assert page.count('class="tip"') == len(focused)  # its name is shown at focus
    assert ("a", "href", "#runs") in seen.attributes
    assert ("h2", "id", "runs") in seen.attributes
    assert len(page) < 200_000


def test_a_run_is_one_point_of_its_own_estimator(make):
    for k, lr in enumerate((1e-3, 1e-2)):
        run = make(f"{lr}", 0, 3 + k, lr)
        record = json.loads((run / "eval" / "test-exact.json").read_text())
        lower = record | {"estimator": "ais", "bound": "lower", "value": -777.0}
        (run / "eval" / "test-ais.json").write_text(json.dumps(lower))
    page = gather(expand(["outputs/s"]))
    ((_, sheet, _),) = page.tables
    assert len(sheet.lines) == 4
    assert len(page.differences.lines) == 2
    assert cli.main(["report", "outputs/s"]) == 0
    assert Seen(Path("outputs/s/report.html").read_text()).tags.count("circle") == 4


def test_it_fetches_and_runs_nothing_and_what_a_run_says_is_text(make):
    make("a", odd=ODD)
    make("b", 1)
    assert cli.main(["report", "outputs/s", "--out", "page.html"]) == 0
    page = Path("page.html").read_text()
    seen = Seen(page)
    assert "script" not in seen.tags
    assert [(tag, key) for tag, key, _ in seen.attributes if key.startswith("on")] == []
    loads = [value for _, key, value in seen.attributes if key in ("src", "href", "srcset", "action")]
    assert all(value.startswith("data:image/png;base64,") or value == "#runs" for value in loads)
    assert not re.search(r"https?://|@import|url\(", page)
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_where_it_cannot_be_written(make, capsys):
    make("a")
    assert cli.main(["report", "outputs/s/a", "--out", "nowhere/page.html"]) == 2
    assert "--out" in capsys.readouterr().err
    assert cli.main(["report"]) == 2


def test_ticks_are_round_and_within():
    for low, high in ((0.0, 1.0), (-3.2, 17.0), (2.0, 2.0), (1e-5, 3e-5), (84.1, 84.3)):
        axis = plots.scale([low, high], 0, 100)
        ticks = axis.ticks()
        assert 2 <= len(ticks) <= 9
        assert all(-0.1 <= tick.at <= 100.1 for tick in ticks)
    powers = plots.scale([1e-5, 1e-1], 0, 100, log=True).ticks()
    assert [tick.label for tick in powers] == ["1e-05", "0.0001", "0.001", "0.01", "0.1"]


@pytest.mark.slow
def test_a_browser_opens_it_without_a_complaint(make, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here")
    make("a", odd=ODD)
    make("b", 1)
    assert cli.main(["report", "outputs/s", "--out", "page.html"]) == 0
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0", "--dump-dom"]
    done = subprocess.run(
        [*words, f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "page.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Compared" in done.stdout
    assert "CONSOLE" not in done.stderr


def test_only_pictures_of_the_folder_are_taken_in(make, tmp_path):
    run = make("a")
    (tmp_path / "secret.png").write_bytes(PIXEL + b"secret")
    (run / "samples" / "link.png").symlink_to(tmp_path / "secret.png")
    (run / "samples" / "broken.png").symlink_to("nowhere")
    (run / "samples" / "text.png").write_text("no picture")
    assert cli.main(["report", "outputs/s/a"]) == 0
    page = Path("outputs/s/a/report.html").read_text()
    assert page.count("<img") == 1
    assert base64.b64encode(PIXEL + b"secret").decode() not in page
    assert "broken.png, link.png, text.png" in page


@pytest.mark.slow
def test_a_split_that_has_a_record_is_named_where_the_asked_one_has_none(make):
    make("a")
    assert cli.main(["report", "outputs/s/a", "--split", "train"]) == 0
    assert "no result on train but on test (--split)" in Path("outputs/s/a/report.html").read_text()
