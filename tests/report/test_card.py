"""`gencli card`: what a hub reads is YAML, and what a person reads is text, whatever a run says."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from gencli.cli import main as cli

GOLDEN = Path(__file__).parents[1] / "golden/runs/realnvp"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r" / "eval").mkdir(parents=True)
    shutil.copyfile(GOLDEN / "config.yaml", tmp_path / "r/config.yaml")
    (tmp_path / "r/run.json").write_text(json.dumps({"status": "finished", "seed": 3, "parameters": 7}))
    return tmp_path / "r"


def record(run, **changes):
    found = {
        "metric": "nll",
        "value": 84.25,
        "unit": "nats",
        "bits_per_dim": 1.9,
        "bound": "upper",
        "estimator": "iwae",
        "settings": {"k": 5},
        "se_examples": 0.6,
        "se_shared": 0.8,
        "n_examples": 300,
        "split": "test",
        "split_sha256": "abc",
        "protocol": {"data": "digits", "support": "levels:17"},
        "ledger": [{"term": "model", "nats": 84.25}],
    } | changes
    (run / "eval" / "test-iwae.json").write_text(json.dumps(found))


def test_the_head_is_a_model_index(run, capsys):
    record(run)
    assert cli.main(["card", "r"]) == 0
    _, head, body = capsys.readouterr().out.split("---\n", 2)
    (result,) = yaml.safe_load(head)["model-index"][0]["results"]
    assert result["dataset"]["revision"] == "abc"
    assert result["metrics"][0]["value"] == 84.25
    assert result["metrics"][0]["name"] == "nll (nats, upper)"
    assert result["metrics"][0]["args"]["bound"] == "upper"
    assert "84.250 ± 1.000 nats (1.9000 bits/dim)" in body  # sqrt(0.6^2 + 0.8^2)
    assert "It is an upper bound" in body
    assert "what all examples share, such as log Z: 0.8" in body
    assert "| estimator | iwae (k=5) |" in body


def test_the_head_has_the_caveats(run, capsys):
    """It is copied without the text below it."""
    said = {"flags": ["50 of 300 examples at random"], "n_examples": 50, "n_split": 300, "n_seen": 22}
    said |= {"se_lower_limits": ["se_estimator"], "se_blocks": 7}
    record(run, **said)
    assert cli.main(["card", "r"]) == 0
    out = capsys.readouterr().out
    (result,) = yaml.safe_load(out.split("---\n", 2)[1])["model-index"][0]["results"]
    args = result["metrics"][0]["args"]
    assert args["bound"] == "upper"
    assert said.items() <= args.items()
    assert "84.250 ± 1.000 nats" in out  # no lower limit: it holds none of se_estimator alone
    record(run, se_lower_limits=["se_estimator", "se_shared"])
    assert cli.main(["card", "r"]) == 0
    assert r"84.250 ± \>1.000 nats" in capsys.readouterr().out


def test_what_a_run_says_is_text(run, capsys):
    odd = '</td><script>alert(1)</script> | [x](javascript:1) `code` "'
    record(run, protocol={"data": odd}, flags=[odd])
    assert cli.main(["card", "r"]) == 0
    _, head, body = capsys.readouterr().out.split("---\n", 2)
    assert yaml.safe_load(head)["model-index"][0]["results"][0]["dataset"]["name"].startswith("</td><script>")
    text = body.replace(r"\<", "").replace(r"\>", "").replace(r"\|", "").replace(r"\[", "").replace(r"\`", "")
    assert "<" not in text
    assert "[x]" not in text


def test_a_run_without_a_number_has_no_card(run, capsys):
    assert cli.main(["card", "r"]) == 2
    assert "no record on split=test" in capsys.readouterr().err
    assert cli.main(["card"]) == 2
