"""Importances of hyper-parameters: those of a known law, in its order, and none where there are too few runs."""

import json
from pathlib import Path

import numpy as np
import pytest

from gencli.cli import main as cli
from gencli.core.errors import UsageError
from gencli.report.collect import Row
from gencli.report.importance import importances
from gencli.report.seeds import swept, telling


def sweep(configurations, rng, noise=0.01):
    """Runs of two seeds each, whose NLL depends much on the rate, less on the model, and not on the batch size."""
    rows, configs = [], []
    for _ in range(configurations):
        rate, model, batch = float(10 ** -rng.uniform(2, 4)), int(rng.integers(3)), int(rng.choice([64, 128]))
        for seed in range(2):
            value = (np.log10(rate) + 3) ** 2 + 0.2 * model + noise * rng.normal()
            record = {"metric": "nll", "value": value, "bound": "exact"}
            rows.append(Row(Path(str(len(rows))), record, "", {"seed": seed}))
            config = {"model": "abc"[model], "model._target_": f"x.{model}", "optimizer.lr": rate}
            configs.append({**config, "trainer.batch_size": batch, "data": "moons"})
    return rows, configs


def test_what_was_swept_is_neither_part_of_a_choice_nor_a_twin_nor_left_out():
    _, configs = sweep(20, np.random.default_rng(0))
    configs = [{**config, "twin": 2 * config["optimizer.lr"]} for config in configs]
    assert swept(configs) == ["model", "twin", "trainer.batch_size"]
    assert "trainer.batch_size" not in telling(configs)  # random numbers tell all, which is enough for a name


@pytest.mark.slow
def test_importances_are_those_of_the_law():
    rows, configs = sweep(40, np.random.default_rng(0))
    rows[7].record["value"] = np.inf  # a run that went astray is the last, and no more
    found = importances(rows, configs)
    assert [one.key for one in found.keys] == ["optimizer.lr", "model", "trainer.batch_size"]
    rate, model, batch = found.keys
    assert rate.value > 1
    assert 2 * model.se < model.value < rate.value
    assert abs(batch.value) < 0.05
    assert found.explained > 0.7
    assert found.configurations == 40


@pytest.mark.slow
def test_what_depends_on_nothing_is_not_explained():
    rng = np.random.default_rng(0)
    rows, configs = sweep(40, rng)
    for row, value in zip(rows, np.repeat(rng.normal(size=40), 2), strict=True):
        row.record["value"] = value
    found = importances(rows, configs)
    assert found.explained < 0.3
    assert "too little to trust" in found.note


def test_too_few_are_refused():
    rows, configs = sweep(19, np.random.default_rng(0))
    with pytest.raises(UsageError, match=r"--importance: at least 20 configurations"):
        importances(rows, configs)


@pytest.mark.slow
def test_the_command_tells_them(tmp_path, monkeypatch, capsys):
    from gencli.cli import compare

    rows, configs = sweep(20, np.random.default_rng(0))
    for row in rows:
        folder = tmp_path / row.run / "eval"
        folder.mkdir(parents=True)
        (tmp_path / row.run / "run.json").write_text("{}")
        (folder / "val-exact.json").write_text(json.dumps({**row.record, "split": "val", "estimator": "exact"}))
    known = {str(row.run): config for row, config in zip(rows, configs, strict=True)}
    monkeypatch.setattr(compare, "flat", lambda run: known[run.name])
    for form, holds in ([], "optimizer.lr "), (["--json"], '"explained"'), (["--csv"], "key,importance,se"):
        assert cli.main(["compare", str(tmp_path), "--importance", *form]) == 0
        assert holds in capsys.readouterr().out
    assert cli.main(["compare", str(tmp_path), "--importance", "--group-by", "model"]) == 2
