"""`gencli compare`: what is ranked, what stands apart, and the paired errors."""

import csv
import io
import json
import math
import re
import shutil
import subprocess

import numpy as np
import pytest
from rich.cells import cell_len

from gencli.cli import main as cli
from gencli.core.errors import UsageError
from gencli.report.collect import expand
from gencli.report.compare import compare
from gencli.report.forms import latex
from gencli.report.render import difference
from gencli.report.sheet import Sheet

PROTOCOL = {"data": "digits", "support": "levels:17", "dequantization": "uniform", "transform": [], "train_on": "train"}


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make(tmp_path):
    """Write a run folder whose examples cost `nats`; more keys replace those of its record."""

    def make_run(name, nats, ids=None, estimator="exact", status="finished", **record):
        run = tmp_path / "outputs" / name
        (run / "eval").mkdir(parents=True, exist_ok=True)
        (run / "run.json").write_text(
            json.dumps({"status": status, "parameters": 12345, "wall_seconds": 75.0, "seed": 3, "status_note": ""})
        )
        (run / "config.yaml").write_text("{}")
        if nats is None:
            return run
        nats = np.asarray(nats, dtype=float)
        full = {
            "metric": "nll",
            "value": float(nats.mean()),
            "unit": "nats",
            "bits_per_dim": float(nats.mean()) / (64 * math.log(2)),
            "bound": "upper",
            "estimator": estimator,
            "se_examples": float(nats.std() / math.sqrt(len(nats))),
            "se_estimator": None,
            "split": "test",
            "split_sha256": "abc",
            "protocol": PROTOCOL,
            "weights": "raw",
            "seed": 0,
        }
        (run / "eval" / f"test-{estimator}.json").write_text(json.dumps(full | record))
        ids = np.arange(len(nats)) if ids is None else ids
        np.savez(run / "eval" / f"test-{estimator}.npz", ids=ids, nll=nats)
        return run

    return make_run


def test_paired_difference_and_rank(make):
    rng = np.random.default_rng(0)
    base = rng.normal(90, 20, 400)
    noise = rng.normal(1.0, 2.0, 400)
    better, worse = make("m/a", base), make("m/b", base + noise)
    (rows,) = compare([worse, better]).groups
    assert [row.run for row in rows] == [better, worse]
    assert [row.rank for row in rows] == [1, 2]
    assert rows[0].difference is None
    assert rows[1].difference == pytest.approx(noise.mean())
    assert rows[1].difference_se == pytest.approx(noise.std(ddof=1) / 20)  # not the spread of the examples, 1.4
    assert rows[1].z == pytest.approx(noise.mean() / noise.std(ddof=1) * 20)


def test_differences_of_a_sequence_have_the_errors_of_blocks(make):
    rng = np.random.default_rng(0)
    base, counts = rng.normal(90, 20, 400), np.full(400, 64)
    drift = np.repeat(rng.normal(1.0, 2.0, 20), 20)  # one value for a block of 20 rows
    for name, nats in (("m/a", base), ("m/b", base + drift)):
        file = make(name, nats, value=nats.sum() / counts.sum()) / "eval" / "test-exact.npz"
        np.savez(file, ids=np.arange(400), nll=nats, counts=counts)
    (rows,) = compare([file.parent.parent, file.parent.parent.with_name("a")]).groups
    assert rows[1].difference_se == pytest.approx(drift[::20].std(ddof=1) / math.sqrt(20) / 64)


def test_pairs_go_by_id_and_only_over_shared_ones(make):
    nats = np.array([1.0, 2.0, 3.0, 4.0])
    a = make("m/a", nats)
    order = np.array([3, 1, 0])
    b = make("m/b", nats[order] + 1.0, ids=order, value=3.5)
    (rows,) = compare([a, b]).groups
    assert rows[1].difference_se == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"split_sha256": "def"}, "split_sha256 is def, not abc"),
        ({"unit": "bits"}, "unit is bits, not nats"),
        ({"metric": "mmd", "better": "lower"}, "metric is mmd, not nll"),
        ({"protocol": PROTOCOL | {"dequantization": None}}, "dequantization is None, not uniform"),
        ({"protocol": PROTOCOL | {"transform": ["logit(0.01)"]}}, "transform is logit(0.01), not none"),
        ({"protocol": PROTOCOL | {"context": "labels"}}, "context is labels, not None"),
        ({"protocol": PROTOCOL | {"data": "moons"}, "split_sha256": "x"}, "data is moons, not digits"),
    ],
)
def test_only_equal_protocols_are_ranked_together(make, change, reason):
    comparison = compare([make("m/a", [2, 3]), make("m/b", [2.5, 3]), make("m/c", [1, 2], **change)])
    assert [len(rows) for rows in comparison.groups] == [2, 1]
    assert comparison.reasons == [reason]
    assert comparison.groups[1][0].difference is None


def test_bounds(make):
    runs = [
        make("m/lower", [1, 1], bound="lower"),
        make("m/upper", [2, 2], bound="upper"),
        make("m/nan", [3, 3], value=math.inf),
    ]
    (rows,) = compare(runs).groups
    assert [(row.run.name, row.rank) for row in rows] == [("upper", 1), ("nan", 2), ("lower", None)]
    assert rows[1].difference is None


def test_flags_are_shown_beside_the_number_that_they_are_about(make, capsys):
    make("m/a", [2, 3]), make("m/b", [1, 2], flags=["unbounded likelihood", "se is a lower limit"])
    assert cli.main(["compare", "outputs/m/*"]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert [line.endswith("unbounded likelihood") for line in lines if line.startswith(("1 ", "2 "))] == [True, False]
    assert any(line.strip() == "se is a lower limit" for line in lines)
    assert cli.main(["compare", "outputs/m/a", "--csv"]) == 0
    assert next(csv.DictReader(io.StringIO(capsys.readouterr().out)))["notes"] == ""


@pytest.mark.parametrize("flags", ["one", [1], ["two\nlines"], ["x" * 101]])
def test_damaged_flags_are_told(make, flags):
    ((_, problem),) = compare([make("m/a", [2, 3], flags=flags)]).unfinished
    assert "is damaged: flags" in problem


def test_an_error_that_all_examples_share_stands_everywhere_and_a_lower_limit_is_no_measure(make, capsys):
    nats = [2.0, 3.0, 4.0]
    shared = {"bound": "exact", "se_shared": 0.3}
    (rows,) = compare([make("m/a", nats), make("m/b", np.add(nats, 1), **shared)]).groups
    assert rows[1].se == pytest.approx(math.hypot(rows[1].record["se_examples"], 0.3))
    assert rows[1].z == pytest.approx(1 / 0.3)
    make("m/b", np.add(nats, 1), **shared, se_lower_limits=["se_estimator", "se_shared"])
    make("m/c", np.add(nats, 2), se_lower_limits=["se_estimator"])  # of the rows: their spread holds it
    assert cli.main(["compare", "outputs/m/*"]) == 0
    _, second, third = (line for line in capsys.readouterr().out.splitlines() if "exact raw" in line)
    assert "±>0.559" in second
    assert "+1.000 ±>0.300 " in second
    assert "+2.000 ±0.000 " in third


def test_table(make, capsys):
    make("realnvp-digits/2026-01-01_10-00-00", [92.0, 93.0, 91.0])
    make("maf-digits/2026-01-01_10-00-00", [91.0, 92.5, 90.0], bound="exact", se_estimator=0.01)
    make("maf-moons/2026-01-01_10-00-00", [1.0, 2.0], protocol=PROTOCOL | {"data": "moons"})
    make("glow-digits/2026-01-01_10-00-00", None, status="interrupted")
    assert cli.main(["compare", "outputs/*/*"]) == 0
    out = capsys.readouterr().out
    assert all(len(line.rstrip()) <= 100 for line in out.splitlines())
    table = out[: out.index("not comparable")]
    first, second = (line for line in table.splitlines() if "=" in line)
    assert "maf-digits/ " in first  # whole, though the numbers take most of the line
    assert "exact raw" in first
    assert "= 91.167" in first
    assert "<= 92.000" in second
    assert "+0.833 ±0.167" in second
    assert "5.0" in second
    assert "12.3k" in first
    assert "data is moons, not digits" in out
    assert "glow-digits" in out
    assert "interrupted, no result on test" in out


def test_csv_and_json(make, capsys):
    make("m/a", [1.0, 2.0])
    make("m/b", [2.0, 2.0])
    assert cli.main(["compare", "outputs/m/a", "outputs/m/b", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["run"], row["rank"], row["value"]) for row in rows] == [
        ("outputs/m/a", "1", "1.5"),
        ("outputs/m/b", "2", "2.0"),
    ]
    assert cli.main(["compare", "--json", "outputs/m"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [row["difference"] for row in content["groups"][0]["rows"]] == [None, 0.5]


def test_json_has_no_bare_infinities(make, capsys):
    make("m/a", [1.0, 2.0])
    make("m/b", [2.0, 2.0], value=math.inf)
    for words in ([], ["--group-by", "config"]):
        assert cli.main(["compare", "--json", "outputs/m", *words]) == 0
        content = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
        assert [row["value"] for row in content["groups"][0]["rows"]] == [1.5, "Infinity"]


def test_what_cannot_be_compared(make, capsys):
    assert cli.main(["compare"]) == 2
    assert cli.main(["compare", "outputs/nothing"]) == 2
    assert "no such run folder" in capsys.readouterr().err
    run = make("m/a", None, status="running")
    (run / "eval" / "test-exact.json").write_text('{"value": ')  # cut short
    assert cli.main(["compare", "outputs/m/a"]) == 2
    assert "outputs/m/a/eval/test-exact.json is damaged" in capsys.readouterr().err
    (run / "eval" / "test-exact.json").unlink()
    assert cli.main(["compare", "outputs/m/a"]) == 2
    assert "outputs/m/a: running, no result on test" in capsys.readouterr().err
    (run.parent / "empty").mkdir()
    with pytest.raises(UsageError, match="no run folder"):
        expand(["outputs/m/empty"])


def test_patterns_name_each_run_once(make, tmp_path):
    make("sweeps/x/0", [1, 2])
    make("sweeps/x/1", [1, 2])
    found = expand(["outputs/sweeps/x", "outputs/sweeps/*/1", "latest"])
    assert sorted(str(path) for path in found) == ["outputs/sweeps/x/0", "outputs/sweeps/x/1"]


def test_no_text_of_a_run_cuts_the_numbers_of_another(make, capsys):
    make("m/a", [123456.789, 123456.789], estimator="a" * 90)
    run = make("m/b", [123457.789, 123457.789])
    (run / "run.json").write_text(json.dumps({"wall_seconds": 1e308, "parameters": 2**63, "seed": 2**63}))
    assert cli.main(["compare", "outputs/m"]) == 0
    out = capsys.readouterr().out
    for number in ("123456.789", "123457.789", "+1.000", str(2**63)):
        assert number in out


def test_what_better_means_is_not_for_a_likelihood_to_say(make):
    (rows,) = compare([make("m/a", [3.0, 3.0]), make("m/b", [1000.0, 1000.0], better="higher")]).groups
    assert [row.run.name for row in rows] == ["a", "b"]
    low, high = ({"metric": "mmd", "better": better} for better in ("lower", "higher"))
    groups = compare([make("m/c", [0.1, 0.1], **low), make("m/d", [0.9, 0.9], **high)]).groups
    assert [len(rows) for rows in groups] == [1, 1]


def test_tables_fit_80_columns_and_cut_no_number(make, capsys, monkeypatch):
    from gencli.report import sheet

    monkeypatch.setattr(sheet, "WIDTH", 80)
    for k, name in enumerate(
        ("sweep/" + "realnvp-digits-long_name_" * 3 + "lr1.5e-3-seed0", "sweep/学习率学习率学习率学习率学习率")
    ):
        make(name, np.linspace(1234 + k, 1240 + k, 30))
    assert cli.main(["compare", "outputs/sweep"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines[: lines.index("")]
    assert all(cell_len(line.rstrip()) <= 80 for line in lines)
    assert "<= 1237.000 ±0.327" in table[2]
    assert "+1.000 ±0.000" in "".join(table)
    assert "..." in table[2]  # of three lines the middle
    assert table[3].split()[0].endswith("lr1.5e-3-seed0")
    assert table[-1] == "not in 80 columns: params, time (--json has all)"


def test_a_small_difference_is_told_in_enough_digits(make, capsys):
    nats = np.linspace(1, 2, 50)
    make("m/a", nats)
    make("m/b", nats + 1.2e-4 + 1e-5 * np.cos(np.arange(50)))
    assert cli.main(["compare", "outputs/m"]) == 0
    assert "+0.0001200 ±0.0000010" in capsys.readouterr().out
    assert difference(0.0, 0.0) == "+0.000 ±0.000"
    assert difference(1e-17, None) == "+0.000"


def test_an_example_that_carries_the_mean_is_told(make, capsys):
    nats = np.linspace(1, 2, 50)
    make("m/a", nats)
    make("m/b", np.where(np.arange(50) == 17, 900.0, nats), ids=np.arange(50) + 100)
    assert cli.main(["compare", "outputs/m"]) == 0
    assert "b: example 117 carries the mean and most of its error" in capsys.readouterr().out
    assert cli.main(["compare", "outputs/m", "--json"]) == 0
    (group,) = json.loads(capsys.readouterr().out)["groups"]
    assert [row["outlier"] for row in group["rows"]] == [None, 117]


def test_latex_is_sound_whatever_a_name_holds(tmp_path):
    """Compiled where pdflatex is there; else rows have as many cells as columns, and nothing is left open."""
    odd = ["a_b & c%#$", r"\input{x}", "~^{}<=>=", "[3] *", "±↑↓≤ü\x1b\u202e"]
    tex = latex(Sheet("100% & more", [("run", "left"), ("NLL", "right")], [[name, "= 1.0"] for name in odd], (1,)))
    bare = re.sub(r"\\[&%$#_{}]", "", tex)
    assert bare.count("{") == bare.count("}")
    assert bare.isascii()
    rows = bare[bare.index(r"\midrule") : bare.index(r"\bottomrule")].splitlines()[1:]
    assert [row.count("&") for row in rows] == [1] * len(odd)
    assert all(row.endswith(r" \\") and not row.startswith(("[", "*")) for row in rows)
    assert not set("%#~^<>") & set(bare.replace("$<$", "").replace("$>$", ""))
    assert r"\makebox[\linewidth]{\begin{tabular}" in tex  # a wide table keeps its last columns on the page
    if shutil.which("pdflatex") is None:
        return
    page = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{tex}\end{{document}}"
    (tmp_path / "page.tex").write_text(page)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
