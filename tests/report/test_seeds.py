"""`gencli compare --group-by`: seeds as one row, errors apart, p values that hold what they say."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from gencli.cli import main as cli
from gencli.core.errors import UsageError
from gencli.report import forms
from gencli.report.compare import compare
from gencli.report.seeds import Entry, entries, holm

CONFIG = (Path(__file__).parents[1] / "golden/runs/realnvp/config.yaml").read_text()


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Write a run of a configuration and a seed whose examples cost `nats`; `val`: its NLL on the validation split."""
    monkeypatch.chdir(tmp_path)

    def make_run(nats, seed, val=None, **config):
        run = tmp_path / "outputs" / f"{len(list(tmp_path.glob('outputs/*'))):04d}"
        (run / "eval").mkdir(parents=True)
        (run / "run.json").write_text(json.dumps({"status": "finished", "seed": seed}))
        whole = yaml.safe_load(CONFIG)
        whole["choices"]["model"] = config.pop("model", "maf")
        whole["optimizer"] |= config
        (run / "config.yaml").write_text(yaml.safe_dump(whole | {"seed": seed}))
        for split, values in (("test", np.asarray(nats, float)), ("val", val)):
            if values is None:
                continue
            record = {
                "metric": "nll",
                "value": float(np.mean(values)),
                "unit": "nats",
                "bound": "exact",
                "estimator": "exact",
                "se_examples": 0.1,
                "split": split,
                "split_sha256": "abc",
                "protocol": {"data": "moons"},
            }
            (run / "eval" / f"{split}-exact.json").write_text(json.dumps(record))
        np.savez(run / "eval" / "test-exact.npz", ids=np.arange(len(nats)), nll=nats)
        return run

    return make_run


def table(runs, keys=(), chosen=None):
    (rows,) = compare(runs).groups
    return entries(rows, keys, chosen)


def test_seeds_are_one_row_with_both_errors(make):
    rng = np.random.default_rng(0)
    base = rng.normal(3, 1, 400)
    shifts = [0.0, 0.3, -0.3]
    runs = [make(base + shift, seed) for seed, shift in enumerate(shifts)]
    (entry,) = table(runs)
    assert len(entry.rows) == 3
    assert entry.value == pytest.approx(base.mean())
    assert entry.se_seeds == pytest.approx(0.3 / math.sqrt(3))
    assert entry.se_examples == pytest.approx(base.std(ddof=1) / 20)


def test_differences_are_paired_and_names_are_short(make):
    rng = np.random.default_rng(0)
    base, gap = rng.normal(3, 1, 400), rng.normal(0.1, 0.5, 400)
    runs = [make(base + 0.01 * seed, seed, lr=0.1) for seed in range(3)]
    runs += [make(base + gap + 0.01 * seed, seed, lr=0.2) for seed in range(3)]
    best, other = table(runs)
    assert [best.name, other.name] == ["optimizer.lr=0.1", "optimizer.lr=0.2"]
    assert other.difference == pytest.approx(gap.mean())
    seeds = 0.01 / math.sqrt(3)
    assert other.difference_se == pytest.approx(math.hypot(gap.std(ddof=1) / 20, seeds, seeds))


def test_a_p_value_holds_what_it_says(make):
    """Of two configurations that are alike, p < 0.05 in 5 % of 400 experiments, give or take 3 standard errors."""
    from gencli.report.collect import Row
    from gencli.report.seeds import _rank

    rng = np.random.default_rng(1)
    S, N, found = 3, 100, []
    for _ in range(400):
        examples = rng.normal(0, 1, N)
        pair = []
        for _ in "ab":
            interaction = rng.normal(0, 0.3, N)
            rows = []
            for seed in range(S):
                nats = examples + interaction + rng.normal(0, 0.1) + rng.normal(0, 0.2, N)
                record = {"metric": "nll", "value": nats.mean(), "bound": "exact"}
                rows.append(Row(None, record, "", {"seed": seed}, {"ids": np.arange(N), "nll": nats}))
            pair.append(Entry("", rows, {}))
        _rank(pair)
        found.append(pair[1].p)
    share = np.mean(np.array(found) < 0.05)
    assert abs(share - 0.05) < 3 * math.sqrt(0.05 * 0.95 / 400)


def test_holm():
    table = [Entry("", [], {}, p=p) for p in (0.01, 0.04, 0.03, 0.005)]
    holm(table)
    assert [round(entry.p, 3) for entry in table] == [0.03, 0.06, 0.06, 0.02]


def test_the_configuration_is_chosen_on_validation(make):
    """The better one on test is not taken: it is worse on validation."""
    runs = [make(np.full(30, 1.0) + 0.01 * np.arange(30), 0, val=[5.0], lr=0.1)]
    runs += [make(np.full(30, 2.0) + 0.01 * np.arange(30), 0, val=[4.0], lr=0.2)]
    (entry,) = table(runs, ["model"], "validation")
    assert entry.value == pytest.approx(2.145)
    with pytest.raises(UsageError, match=r"differ in optimizer.lr too"):
        table(runs, ["model"])
    with pytest.raises(UsageError, match=r"Did you mean 'model'"):
        table(runs, ["modle"])


def test_an_example_that_carries_the_mean_is_named(make):
    nats = np.random.default_rng(0).normal(3, 1, 100)
    (plain,) = table([make(nats, 0)])
    assert plain.outlier is None
    nats[17] = 500.0
    (carried,) = table([make(nats, 1, lr=0.3)])
    assert carried.outlier == 17
    assert any("example 17 carries the mean" in line for line in forms.caveats([carried]))


def test_bold_where_every_difference_is_significant(make, capsys):
    rng = np.random.default_rng(0)
    base = rng.normal(3, 1, 200)
    for seed in range(3):
        make(base + 0.001 * seed, seed, model="m_1")
        make(base + 1 + 0.1 * rng.normal(size=200), seed, model="b_2")
    assert cli.main(["compare", "outputs/*", "--group-by", "model", "--latex"]) == 0
    tex = capsys.readouterr().out
    assert r"model=m\_1 & 3 & \textbf{= " in tex
    assert r"model=b\_2 & 3 & = " in tex
    assert cli.main(["compare", "outputs/*", "--group-by", "model", "--markdown"]) == 0
    text = capsys.readouterr().out
    assert r"| 1 | model=m\_1 | 3 | **= " in text
    assert r"model=b\_2 | 3 | = " in text
    for seed in range(3):
        make(base + 0.001 * seed + 1e-4 * rng.normal(size=200), seed, model="m_2")
    assert cli.main(["compare", "outputs/*", "--group-by", "model", "--latex"]) == 0
    assert "textbf" not in capsys.readouterr().out
    assert cli.main(["compare", "outputs/*", "--group-by", "config", "--csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert cli.main(["compare", "outputs/*", "--group-by", "config", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["groups"][0]["rows"]) == 3


def test_choosing_needs_keys(make, capsys):
    make(np.arange(5.0), 0)
    assert cli.main(["compare", "outputs/*", "--best", "validation"]) == 2
    assert "--group-by KEYS" in capsys.readouterr().err


def test_frames_of_pieces_have_the_errors_of_pieces(make):
    """Groups and weights count as in the record: the difference to the best is that of `compare` without --group-by."""
    rng = np.random.default_rng(0)
    groups, weights = np.repeat(np.arange(20), 10), np.repeat(rng.uniform(0.5, 2, 20), 10)
    base, drift = rng.normal(3, 1, 200), np.repeat(rng.normal(0.5, 1, 20), 10)
    runs = [make(base, 0, lr=0.1), make(base + drift, 0, lr=0.2)]
    for run, nats in zip(runs, (base, base + drift), strict=True):
        np.savez(run / "eval" / "test-exact.npz", ids=np.arange(200), nll=nats, groups=groups, weights=weights)
    (rows,) = compare(runs).groups
    other = entries(rows, [])[1]
    assert other.difference_se == pytest.approx(rows[1].difference_se)
    assert other.difference_se > 3 * drift.std() / math.sqrt(200)  # not that of independent frames


def test_the_error_of_log_z_is_told_and_a_lower_limit_has_no_p(make):
    rng = np.random.default_rng(0)
    runs = [make(rng.normal(3 + lr, 1, 400), 0, lr=lr) for lr in (0.1, 5.0)]
    for run in runs:
        file = run / "eval" / "test-exact.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"se_shared": 0.4}))
    first, other = table(runs)
    assert first.se_examples == pytest.approx(math.hypot(0.4, rows_error(first)))
    assert other.p < 1e-3
    file = runs[0] / "eval" / "test-exact.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"se_lower_limits": ["se_shared"]}))
    _, other = table(runs)
    assert other.p is None


def rows_error(entry):
    """Standard error over the examples alone."""
    nats = entry.scores["nll"]
    return nats.std(ddof=1) / math.sqrt(len(nats))
