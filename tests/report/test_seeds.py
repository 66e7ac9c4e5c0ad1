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


@pytest.fixture
def measured(make):
    """Write a run with records: (estimator, bound, value) on test, or with `val`; `named`: what its config names."""

    def measured_run(seed, test, val=(), named=None, settings=None, started=None, **config):
        run = make([0.0], seed, **config)
        template = json.loads((run / "eval" / "test-exact.json").read_text())
        for file in (run / "eval").iterdir():
            file.unlink()
        whole = yaml.safe_load((run / "config.yaml").read_text())
        if named is not None:
            whole["choices"]["estimator"] = named
        whole["estimator"] |= settings or {}
        (run / "config.yaml").write_text(yaml.safe_dump(whole))
        if started is not None:
            (run / "run.json").write_text(json.dumps({"status": "finished", "seed": seed, "started": started}))
        for split, records in (("test", test), ("val", val)):
            for estimator, bound, value, *of in records:
                record = template | {"split": split, "estimator": estimator, "bound": bound, "value": value}
                record["settings"] = dict(*of)
                (run / "eval" / f"{split}-{estimator}.json").write_text(json.dumps(record))
        return run

    return measured_run


@pytest.mark.parametrize(
    ("named", "others", "bound"),
    [
        ("iwae", [("elbo", "upper", 95.0)], "upper"),
        ("iwae", [("elbo", "upper", 89.0), ("enumerate", "exact", 89.5)], "upper"),  # as its config says
        ("enumerate", [("ais", "lower", 70.0)], "exact"),
        ("enumerate", [("bridge", "estimate", 99.0), ("ais", "lower", 99.0)], "exact"),
    ],
)
def test_seeds_are_averaged_over_the_runs_own_numbers(measured, named, others, bound):
    runs = [measured(0, [(named, bound, 90.0), *others], named=named), measured(1, [(named, bound, 90.2)], named=named)]
    (entry,) = table(runs)
    assert entry.value == pytest.approx(90.1)
    assert entry.bound == bound
    assert entry.se_seeds == pytest.approx(0.1)
    (rows,) = compare(runs).groups
    assert len(rows) == 2 + len(others)  # each is shown


@pytest.mark.parametrize(
    ("records", "value"),
    [
        ([("elbo", "upper", 95.0), ("iwae", "upper", 90.0)], 90.0),
        ([("ais", "lower", 70.0), ("bridge", "estimate", 80.0), ("elbo", "upper", 95.0)], 95.0),
        ([("ais", "lower", 70.0), ("elbo", "upper", 89.9), ("enumerate", "exact", 90.0)], 90.0),
        ([("ais", "lower", 70.0), ("bridge", "estimate", 80.0)], 80.0),
        ([("ais", "lower", 70.0), ("smc", "lower", 75.0)], 75.0),
    ],
)
def test_a_run_without_a_number_of_its_estimator_is_known_by_what_bounds_the_nll(measured, records, value):
    (entry,) = table([measured(0, records, named="parzen")])
    assert entry.value == value
    assert entry.certain == (value >= 90)


@pytest.mark.parametrize(("masks", "value"), [(None, 3.0), (4, 2.0)])
def test_settings_that_the_name_of_a_number_tells_are_those_of_the_config(measured, masks, value):
    records = [("exact", "exact", 3.0, {"masks": None}), ("exact-masks4", "exact", 2.0, {"masks": 4})]
    (entry,) = table([measured(0, records, settings={"masks": masks})])
    assert entry.value == value


def test_the_newest_run_of_a_seed_is_the_one_that_began_last(measured):
    """Whatever its number is, and in whatever time zone."""
    times = ["2026-03-01T10:00:00+01:00", "2026-03-01T09:30:00+00:00", "2026-02-28T23:00:00-05:00", "soon"]
    runs = [measured(0, [("exact", "exact", v)], started=t) for v, t in zip((3.0, 4.0, 5.0, 6.0), times, strict=True)]
    for order in (runs, runs[::-1]):
        (entry,) = table(order)
        assert [row.run for row in entry.rows] == [runs[1]]
        assert entry.value == 4.0


def test_other_settings_stand_for_no_run(make):
    """Better ones do not either: neither of the NLL nor of a metric on samples."""
    run = make([3.0], 0)
    record = json.loads((run / "eval" / "test-exact.json").read_text())
    (run / "eval" / "test-exact-raw.json").write_text(json.dumps(record | {"value": 2.0}))
    mmd = record | {"metric": "mmd", "better": "lower", "n_samples": 50, "n_reference": 50}
    (run / "eval" / "test-mmd.json").write_text(json.dumps(mmd | {"value": 0.5}))
    (run / "eval" / "test-mmd-raw.json").write_text(json.dumps(mmd | {"value": 0.1}))
    groups = compare([run], further=True).groups
    assert [len(rows) for rows in groups] == [2, 2]
    assert [entry.value for rows in groups for entry in entries(rows, [])] == [3.0, 0.5]


def test_a_lower_bound_on_validation_chooses_nothing(measured):
    test = [("enumerate", "exact", 10.1)]
    a = measured(0, test, [("enumerate", "exact", 10.0)], named="enumerate", lr=0.1)
    b = measured(
        0,
        [("enumerate", "exact", 12.1)],
        [("ais", "lower", 5.0), ("enumerate", "exact", 12.0)],
        named="enumerate",
        lr=0.2,
    )
    (entry,) = table([a, b], ["model"], "validation")
    assert entry.value == 10.1
    c = measured(0, [("enumerate", "exact", 12.1)], [("ais", "lower", 5.0)], named="ais", lr=0.3)
    (entry,) = table([c, a], ["model"], "validation")
    assert entry.value == 10.1


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
