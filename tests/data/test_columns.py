"""Tables with a support for each column: what is read, refused, kept, and written back as rows."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch

import gencli
from gencli.core.errors import UsageError
from gencli.core.spec import Spec
from gencli.data.preprocess import Preprocess
from gencli.data.sets.csv import CSV
from gencli.models.classical.independent import Independent

NAN = float("nan")
FILE = """age,job,year,sure,member,height
31,clerk,1970,true,no,1.7
,smith,1972,false,yes,1.8
25.5,,1973,true,no,1.65
40,clerk,1970,,yes,1.9
"""
COLUMNS = {
    "age": "real?",
    "job": "categorical?",
    "year": "levels",
    "sure": "binary?",
    "member": "binary",
    "height": "real",
}


@pytest.fixture
def file(tmp_path):
    (tmp_path / "t.csv").write_text(FILE)
    return str(tmp_path / "t.csv")


def rows(data: CSV) -> list[list[float]]:
    return data.whole().x.tolist()


def same(x, y) -> bool:
    return torch.equal(torch.tensor(x).nan_to_num(-9), torch.tensor(y).nan_to_num(-9))


def test_cells_become_coordinates_and_rows_again(file):
    data = CSV(file, columns=COLUMNS)
    assert str(data.spec.support) == "mixed(real?, categorical:2?, levels:4, binary?, binary, real)"
    expected = [
        [31, 0, 0, 1, 0, 1.7],
        [NAN, 1, 2, 0, 1, 1.8],
        [25.5, NAN, 3, 1, 0, 1.65],
        [40, 0, 0, NAN, 1, 1.9],
    ]
    assert same(rows(data), expected)
    assert data.whole().x.dtype == torch.float32
    assert data.to_rows(data.whole().x) == {
        "age": [31.0, None, 25.5, 40.0],
        "job": ["clerk", "smith", None, "clerk"],
        "year": [1970, 1972, 1973, 1970],
        "sure": [True, False, True, None],
        "member": ["no", "yes", "no", "yes"],
        "height": [1.7, 1.8, 1.65, 1.9],
    }


def test_a_new_file_is_read_as_the_first(file, tmp_path):
    schema = json.loads(json.dumps(CSV(file, columns=COLUMNS).schema()))
    (tmp_path / "new.csv").write_text("job,member,age,sure,year,height\nsmith,yes,NA,true,1971,2\n")
    data = CSV(str(tmp_path / "new.csv"), columns=COLUMNS)
    data.apply(schema)
    assert str(data.spec.support) == "mixed(real?, categorical:2?, levels:4, binary?, binary, real)"
    assert same(rows(data), [[NAN, 1, 1, 1, 1, 2]])
    away = CSV(str(tmp_path / "none.csv"), columns=COLUMNS)
    away.apply(schema)
    assert away.to_rows(torch.tensor([[1.5, NAN, 3, NAN, 0, 0.1]])) == {
        "age": [1.5],
        "job": [None],
        "year": [1973],
        "sure": [None],
        "member": ["no"],
        "height": [0.1],
    }


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("smiht,yes,1,true,1971,2", "column 'job', line 2 is 'smiht', none of its values. Did you mean 'smith'?"),
        (
            "smith,yes,1,true,1974,2",
            "column 'year', line 2 is 1974, outside of the levels of data.columns.year, 1970 to 1973",
        ),
        (
            "smith,,1,true,1971,2",
            "column 'member', line 2 is missing: leave out the row, or say data.columns.member=binary?",
        ),
        (
            "smith,yes,1,true,1971,",
            "column 'height', line 2 is missing: leave out the row, or say data.columns.height=real?",
        ),
        ("smith,yes,1,true,1970.5,2", "column 'year', line 2 is 1970.5, no integer: data.columns.year=real"),
        ("smith,yes,old,true,1970,2", "column 'age', line 2 is 'old', not a number"),
    ],
)
def test_a_new_file_with_other_values_is_refused(row, text, file, tmp_path):
    schema = CSV(file, columns=COLUMNS).schema()
    (tmp_path / "new.csv").write_text(f"job,member,age,sure,year,height\n{row}\n")
    data = CSV(str(tmp_path / "new.csv"), columns=COLUMNS)
    data.apply(json.loads(json.dumps(schema)))
    with pytest.raises(UsageError, match=re.escape(text)):
        data.whole()


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"job": "binary?", "age": "levels?"}, "column 'age', line 4 is 25.5, no integer: data.columns.age=real"),
        ({"job": "categorical"}, "column 'job', line 4 is missing"),
        ({"year": "binary"}, "column 'year' has 3 values: data.columns.year=binary needs two"),
        ({"year": "levels:3"}, "column 'year', line 2 is 1970, outside of the levels of data.columns.year, 0 to 2"),
        ({"member": "categorical:2"}, "column 'member', line 2 is 'no', none of its values"),
        ({"jop": "categorical"}, "has no column 'jop'. Did you mean 'job'?"),
    ],
)
def test_columns_that_do_not_fit(columns, text, file):
    with pytest.raises(UsageError, match=re.escape(text)):
        CSV(file, columns=columns).split("train")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"columns": {"a": "reals"}},
            "data.columns.a=reals: real, levels, levels:K, categorical, categorical:K or binary is",
        ),
        ({"columns": {"a": "real:3"}}, "data.columns.a=real:3: real, levels"),
        ({"columns": {"a": "levels:1"}}, "data.columns.a=levels:1: 2 to 4096 values"),
        (
            {"columns": {"a": "real"}, "support": "binary"},
            "data.support=binary: data.columns gives each column its support",
        ),
    ],
)
def test_options_that_make_no_sense(options, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        CSV("none.csv", **options)


@pytest.mark.parametrize(
    "damage",
    [
        {"kind": "strings"},
        {"optional": 1},
        {"names": None},
        {"names": ["a", "a"]},
        {"names": ["a", 1]},
        {"low": 3},
        {"kind": "levels", "names": None, "low": 1, "high": 10**9},
        {"kind": "levels", "names": None, "low": 1, "high": 1.5},
        {"more": 1},
    ],
)
def test_a_damaged_schema_is_refused(damage, file):
    schema = CSV(file, columns=COLUMNS).schema()
    schema["kinds"][1] |= damage
    with pytest.raises(UsageError, match=r"^data.json is damaged: kinds"):
        CSV(file, columns=COLUMNS).apply(schema)


def test_columns_of_one_support_are_a_table_as_before(file, tmp_path):
    (tmp_path / "c.csv").write_text("a,b,part\nx,u,train\ny,v,train\ny,u,test\n")
    path = str(tmp_path / "c.csv")
    one = CSV(path, columns={"a": "categorical"}, split="part")
    assert str(one.spec.support) == "categorical:2"
    assert one.split("train").x.dtype == torch.uint8
    assert one.split("train").x.tolist() == [[0], [1]]
    assert one.to_rows(one.split("test").x) == {"a": ["y"]}
    both = CSV(path, columns={"a": "categorical", "b": "categorical"}, split="part")
    assert str(both.spec.support) == "categorical:2"
    real, plain = CSV(file, columns={"height": "real", "year": "real"}), CSV(file, columns=["height", "year"])
    assert (real.spec, real.split("train").sha256) == (plain.spec, plain.split("train").sha256)
    assert plain.to_rows(plain.whole().x)["height"] == [1.7, 1.8, 1.65, 1.9]


def test_names_of_values_are_nothing_to_the_nats(tmp_path):
    """Renamed categories, in another order then, and other units of the real: the same NLL but for its density."""
    generator = torch.Generator().manual_seed(0)
    jobs, ages = torch.randint(3, (60,), generator=generator).tolist(), torch.randn(60, generator=generator).tolist()
    nats = []
    for k, (names, scale) in enumerate(((("a", "b", "c"), 1.0), (("z", "m", "b"), 1.0), (("a", "b", "c"), 8.0))):
        path = tmp_path / f"{k}.csv"
        path.write_text("job,age\n" + "".join(f"{names[j]},{scale * a!r}\n" for j, a in zip(jobs, ages, strict=True)))
        data = CSV(str(path), columns={"job": "categorical", "age": "real"})
        preprocess = Preprocess(data.spec, Independent.supports, ("vector",), transform="standardize")
        preprocess.fit(data.split("train"))
        z, terms = preprocess(data.whole().x)
        model = Independent(Spec((2,), data.spec.support))
        model.initialize(z)
        nats.append((-model.log_prob(z) + terms["standardize log|det|"]).detach())
    assert torch.allclose(nats[0], nats[1], atol=1e-6)
    assert torch.allclose(nats[2] - nats[0], torch.tensor(math.log(8.0)), atol=1e-5)


def test_standardised_columns(file):
    data = CSV(file, columns=COLUMNS, val=0.0, test=0.0)
    preprocess = Preprocess(data.spec, ("mixed",), ("vector",), transform="standardize").double()
    preprocess.fit(data.split("train"))
    x = data.whole().x
    z, terms = preprocess(x)
    ages = torch.tensor([31, 25.5, 40]).double()
    assert z[[0, 2, 3], 0].tolist() == pytest.approx(((ages - ages.mean()) / ages.std(correction=0)).tolist())
    assert torch.equal(z[:, 1:5].nan_to_num(-9), x[:, 1:5].double().nan_to_num(-9))
    height, age = x[:, 5].double().std(correction=0).log(), ages.std(correction=0).log()
    assert torch.allclose(terms["standardize log|det|"], height + age * torch.tensor([1, 0, 1, 1]))
    assert torch.allclose(preprocess.inverse(z), x.double(), equal_nan=True)
    with pytest.raises(ValueError, match=r"^the model supports real; this data is mixed\(real\?, categorical:2\?"):
        Preprocess(data.spec, ("real",), ("vector",))
    with pytest.raises(ValueError, match=r"^data.transform=logit needs data in \[0, 1\]; this data is mixed"):
        Preprocess(data.spec, ("mixed",), ("vector",), transform="logit")


# --- a run -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    generator = torch.Generator().manual_seed(0)
    lines = []
    for k in range(200):
        job, age = int(torch.randint(3, (1,), generator=generator)), float(torch.randn(1, generator=generator))
        lines.append(f"{'abc'[job]},{'' if k % 5 == 0 else job + age},{1970 + job}\n")
    (folder / "t.csv").write_text("job,age,year\n" + "".join(lines))
    gencli.train(
        [
            *("model=made", "model.hidden=[8]", "data=csv", f"data.path={folder}/t.csv", "data.transform=standardize"),
            "data.columns={job: categorical, age: real?, year: levels}",
            *("trainer.max_steps=30", "trainer.eval_every=15", "logger=none", "n=8", "device=cpu"),
            f"run_dir={folder}/run",
        ]
    )
    return folder / "run"


@pytest.mark.slow
def test_a_record_has_two_parts_and_no_bits_per_dimension(run):
    record = json.loads((run / "eval" / "test-exact.json").read_text())
    assert [line["term"] for line in record["ledger"]] == [
        "model, discrete",
        "model, continuous",
        "standardize log|det|",
    ]
    assert sum(line["nats"] for line in record["ledger"]) == pytest.approx(record["value"])
    assert (record["bits_per_dim"], record["bound"]) == (None, "exact")
    assert record["protocol"]["support"] == "mixed(categorical:3, real?, levels:3)"
    log = (run / "train.log").read_text()
    assert "nats (exact)" in log
    assert "bits" not in log + (run / "metrics.jsonl").read_text()


@pytest.mark.slow
def test_log_prob_and_samples_of_a_run_need_no_file(run):
    opened = gencli.load(run, device="cpu")
    split = opened.parts.dataset.split("test")
    x = split.x
    assert -opened.log_prob(x).mean() == pytest.approx(opened.nll()["value"])
    (run.parent / "t.csv").rename(run.parent / "away.csv")
    opened = gencli.load(run, device="cpu")
    rows = opened.parts.dataset.to_rows(opened.sample(20))
    assert {*rows["job"]} <= {"a", "b", "c"}
    assert {*rows["year"]} <= {1970, 1971, 1972}
    assert all(age is None or isinstance(age, float) for age in rows["age"])
    with pytest.raises(UsageError, match=r"x is not in data units: integers 0\.\.2"):
        opened.log_prob(torch.tensor([[3.0, 0.0, 1.0]]))
    with pytest.raises(UsageError, match=r"x is not in data units: integers 0\.\.2"):
        opened.log_prob(torch.tensor([[NAN, 0.0, 1.0]]))
    (run.parent / "away.csv").rename(run.parent / "t.csv")


def test_samples_are_compared_column_by_column(run):
    measured = gencli.load(run, device="cpu").measure(["mmd"], split="train")["mmd"]
    assert math.isfinite(measured["value"])
    assert "real: standardised" in measured["protocol"]["space"]


def test_columns_without_names_are_numbered(tmp_path):
    path, folder = tmp_path / "t.csv", tmp_path / "run"
    path.write_text("".join(f"{'ab'[k % 2]},{k}.5\n" for k in range(20)))
    words = [
        "model=independent",
        "data=csv",
        f"data.path={path}",
        "data.header=false",
        "data.columns={0: categorical, 1: real}",
    ]
    words += ["trainer.max_steps=2", "trainer.eval_every=2", "logger=none", "n=0", "device=cpu", f"run_dir={folder}"]
    trained = gencli.train(words)
    assert trained.config["data"]["columns"] == {"0": "categorical", "1": "real"}
    assert gencli.load(folder, device="cpu").nll()["value"] == trained.results[0]["value"]
