"""Tables as people have them: what is understood of a file is kept, said, or asked for."""

import gzip
import zipfile
from decimal import Decimal

import numpy as np
import pytest
import torch
from data_sets import file, refused

from gencli.core.errors import UsageError
from gencli.data.sets.csv import CSV

ALL = {"val": 0.0, "test": 0.0}


def rows(path, **options):
    return CSV(path, **ALL, **options).whole().x.tolist()


# --- the dialect -----------------------------------------------------------------------------------------------------

READ = [
    ("0,12;-0,13\n0,5;0,25\n", [[0.12, -0.13], [0.5, 0.25]]),
    ("1,2\n3,-4\n", [[1, 2], [3, -4]]),  # no row is lost to a header
    ("a,b\n1,2\n", [[1, 2]]),
    ("a, b\n1 , 2\n", [[1, 2]]),
    ("\ufeffa,b\r\n1,2\r\n", [[1, 2]]),
    ("a\tb\n1,5\t2,25\n0,5\t1\n", [[1.5, 2.25], [0.5, 1]]),
    ("a|b\n1.5|2\n", [[1.5, 2]]),
    ("a b  c\n1\t2   3\n  4 5 6  \n", [[1, 2, 3], [4, 5, 6]]),
    ("1,5 2,5\n0,25 1\n", [[1.5, 2.5], [0.25, 1]]),
    ('"a, or\nnot",b\n1,2\n\n3,4\n\n', [[1, 2], [3, 4]]),
    ("x\n1\n2\n", [[1], [2]]),
    (",a\n0,7\n1,5\n", [[7], [5]]),  # as pandas writes a frame with its index
    ("Unnamed: 0,a\n1,7\n2,5\n", [[7], [5]]),
    ("a,b,\n1,2,\n3,4,\n", [[1, 2], [3, 4]]),
    ("# by hand\na,b\n1,2\n", [[1, 2]]),
    ("# in Berlin, 2020\na,b\n1,2\n", [[1, 2]]),
    ("flag\nTrue\nFalse\n", [[1], [0]]),
    ("1e5,2E-3\n.5,-.25\n", [[1e5, 2e-3], [0.5, -0.25]]),
]


@pytest.mark.parametrize(("text", "numbers"), READ)
def test_a_dialect_is_found_out(text, numbers, tmp_path):
    options = {"header": True} if text.startswith("flag") else {}
    assert rows(file(tmp_path, text), **options) == torch.tensor(numbers).float().tolist()


says = "(data.separator= says what separates them)"
often = "; does every line end in a separator, or has the first column no name?"
ASKED = [
    ("a,b,c\n1,2,3,\n4,5,6,\n", f": line 2 has 4 cells, line 1 has 3 {says}{often}"),
    ('"a" "b"\n"1" 1.5 2\n"2" 2.5 3\n', f": line 2 has 3 cells, line 1 has 2 {says}{often}"),
    ('"a\nb",c\n1,2\n\n3\n1,2\n', f": line 5 has 1 cells, line 1 has 2 {says}"),
    ("a,b\n1,2\n# more\n3,4\n", f": line 3 has 1 cells, line 1 has 2 {says}"),
    ('a,b\n1,"2\n3,4\n', ": line 2 is no row of a table (unexpected end of data)"),
    ('a,b\n"1,234",2\n', ": is 1,234 a fraction or a thousand? data.decimal=comma or point says which"),
    (
        "a;b\n1.234,5;2\n0,5;4\n",
        ": column 'a', line 2 is '1.234,5', not a number (thousands are not separated; data.decimal= says what a "
        "fraction begins with)",
    ),
    ("a,b\n1_000,2\n", ": column 'a', line 2 is '1_000', not a number (data.columns chooses columns)"),
    ("a,b\n1,inf\n", ": column 'b', line 2 is 'inf', not a number (data.columns chooses columns)"),
    ("a,b\n1,\n2,3\n", ": column 'b', line 2 is missing (''): leave out the row, or the column by data.columns"),
    (
        "a;b\n1;2\n3;0,5\n1;0.5\n",
        ": column 'b', line 3 is '0,5', not a number (data.decimal=comma reads decimal commas; thousands are not "
        "separated)",
    ),
    ("u;v,w\na;b,c\n", ": ',' and ';' all cut its lines into equally many cells; data.separator= says which it is"),
    ("1,2\n3,4\n", ": is 1,2 two cells or a number? data.decimal=point or comma says"),
    ("red,round\nblue,flat\n", ": its first line, red, round, names the columns or is a row; data.header=true or "),
    ("0,1,2,3\n1.5,2,3,4\n", ": its first line, 0, 1, 2, 3, names the columns or is a row; data.header=true or "),
    (
        "2019,2020\n1.5,2.5\n",
        ": its first line, 2019, 2020, names the columns or is a row; data.header=true or false says",
    ),
    ("400.5,401,401.5,402\n1,2,0,1\n", ": its first line, 400.5, 401, 401.5, 402, names the columns or is a row;"),
    ("x,2020\n1.5,2\n", ": its first line, x, 2020, names the columns or is a row; data.header=true or false says"),
    ("NA,1\n2,2\n3,4\n", ": its first line, NA, 1, names the columns or is a row; data.header=true or false says"),
    ("# x y\n1 2\n3 4\n", ": line 1 is a comment or names the columns; data.header=true or false decides"),
    ("#,1\nb,2\n", ": line 1 is a comment or names the columns; data.header=true or false decides"),
    ("#,1\n#,2\n", " is no table: all its lines begin with #"),
    ("x\n1\n\n2\n", ": line 3 is empty: leave it out"),
    (",a\n5,7\n1,5\n", ": column 1 has no name: data.columns leaves it out"),
    ("a,b,a\n1,2,3\n", " has two columns 'a': give each a name of its own"),
    ("a,b\n", " has no rows to learn"),
    ("\n\n", " is no table: it is empty"),
    ("a,b\n1,\0\n", " is no table: line 2 has a zero byte"),
    ("a,b\n1,2\n".encode("utf-16"), " is UTF-16: save it as UTF-8"),
    ("a,é\n1,2\n".encode("latin-1"), " is no UTF-8 (line 1): save it as UTF-8"),
]


@pytest.mark.parametrize(("text", "said"), ASKED)
def test_what_can_be_read_in_two_ways_is_asked(text, said, tmp_path):
    path = file(tmp_path, text)
    with pytest.raises(UsageError) as error:
        rows(path)
    assert str(error.value).startswith(f"data.path={path}{said}")
    assert "\n" not in str(error.value)


def test_the_options_decide(tmp_path):
    assert rows(file(tmp_path, "0,1,2,3\n1.5,2,3,4\n"), header=True) == [[1.5, 2, 3, 4]]
    assert rows(file(tmp_path, "0,1,2,3\n1.5,2,3,4\n"), header=False) == [[0, 1, 2, 3], [1.5, 2, 3, 4]]
    assert rows(file(tmp_path, "a;b\n1,234;5\n"), decimal="comma") == [[np.float32(1.234), 5]]
    assert rows(file(tmp_path, "1,2\n3,5\n"), decimal="comma") == [[np.float32(1.2)], [3.5]]
    assert rows(file(tmp_path, "1,2\n3,5\n"), decimal="point") == [[1, 2], [3, 5]]
    assert rows(file(tmp_path, "1,2\n3,5\n"), separator=",") == [[1, 2], [3, 5]]
    assert rows(file(tmp_path, "# x y\n1 2\n"), header=True, columns=["y"]) == [[2]]
    assert rows(file(tmp_path, "# x y\n1 2\n"), header=False) == [[1, 2]]
    assert rows(file(tmp_path, "a\tb\n1\t2\n"), separator=r"\t") == [[1, 2]]
    assert rows(file(tmp_path, "x;y\n1,5;2\n"), columns=["y"], separator=";", decimal="comma") == [[2]]
    assert rows(file(tmp_path, ",a\nMo,7\nTu,5\n"), columns=["a"]) == [[7], [5]]
    with pytest.raises(UsageError, match=r"line 1 is a comment or a row: remove it, or the #$"):
        rows(file(tmp_path, "#,1\nb,2\n"), header=False, columns=[1])
    with pytest.raises(ValueError, match=r"^data.separator=ab: one character"):
        CSV("t.csv", separator="ab")


def test_what_was_understood_is_said(tmp_path):
    data = CSV(file(tmp_path, "n;x;kind\n0;0,5;b\n1;1,5;a\n2;7;b\n"), label="kind", **ALL)
    data.split("train")
    assert data.understood() == [
        "t: 3 rows of 3 named columns, separated by ';' with decimal commas, x = n, x; 2 classes of kind: a, b",
        "t: the first row is n=0, x=0,5, kind=b",
        "t: n counts the rows; data.columns leaves it out",
    ]


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (map(str, range(12)), [str(k) for k in range(12)]),
        (["1.0", "1", "2e0", "10"], ["1", "2", "10"]),
        (["01", "1", "2"], ["01", "1", "2"]),  # codes, not numbers
        (["cat", " cat", "dog"], ["cat", "dog"]),
        (["9007199254740993", "9007199254740992"], ["9007199254740992", "9007199254740993"]),
    ],
)
def test_classes_are_numbered_in_order(cells, classes, tmp_path):
    cells = list(cells)
    data = CSV(file(tmp_path, "x,k\n" + "".join(f"0.5,{cell}\n" for cell in cells)), label="k", **ALL)
    assert data.class_names() == classes
    named = [classes[k] for k in data.whole().y]
    assert all(float(a) == float(b) if a[0].isdigit() else a == b.strip() for a, b in zip(named, cells, strict=True))


def test_a_split_column_is_read_by_its_three_words(tmp_path):
    path = file(tmp_path, "a,part\n1,train\n2,valid\n3,test\n")
    with refused(
        f"data.path={path}: column 'part', line 3 is 'valid': data.split needs train, val or test. Did you mean 'val'?"
    ):
        CSV(path, split="part").split("train")


# --- other files -----------------------------------------------------------------------------------------------------


def test_compressed_files_and_archives(tmp_path):
    text = b"a,b\n1,2\n"
    assert rows(file(tmp_path, gzip.compress(text), "t.csv.gz")) == [[1, 2]]
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("t.csv", text)
    assert rows(str(tmp_path / "t.zip")) == [[1, 2]]
    with zipfile.ZipFile(tmp_path / "t.zip", "a") as archive:
        archive.writestr("u.csv", text)
    with refused(f"data.path={tmp_path}/t.zip holds 2 files; one table is expected"):
        rows(str(tmp_path / "t.zip"))
    with pytest.raises(UsageError, match="is no table"):
        rows(file(tmp_path, gzip.compress(text)[:-9], "t.csv.gz"))


def test_npz_has_an_array_a_column(tmp_path):
    path = str(tmp_path / "t.npz")
    np.savez(path, b=np.arange(3, dtype=">i2"), a=np.array([0.5, 1, 2], np.float16), k=np.array(["u", "v", "u"]))
    data = CSV(path, columns=["a", "b"], label="k", **ALL)
    assert data.whole().x.tolist() == [[0.5, 0], [1, 1], [2, 2]]
    assert data.whole().y.tolist() == [0, 1, 0]
    for arrays, said in (
        ({"a": np.zeros((3, 2))}, ": key 'a' is float64[3, 2]: one array (N,) of numbers or texts a column is needed"),
        ({"a": np.zeros(3), "b": np.zeros(4)}, ": 'b' has 4 rows, 'a' 3"),
        ({"a": np.array([1, np.nan])}, ": column 'a', row 2 is missing ('nan'): leave out the row"),
        ({"a": np.array([None])}, " is no table: "),
    ):
        np.savez(path, **arrays)
        with pytest.raises(UsageError) as error:
            rows(path)
        assert str(error.value).startswith(f"data.path={path}{said}")


def test_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def written(**columns):
        parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
        return str(tmp_path / "t.parquet")

    kinds = pa.array(["u", "v", "u"]).dictionary_encode()
    data = CSV(
        written(a=[0.5, 1, 2], b=pa.array([1, 2, 3], pa.int8()), t=[True, False, True], k=kinds), label="k", **ALL
    )
    assert data.whole().x.tolist() == [[0.5, 1, 1], [1, 2, 0], [2, 3, 1]]
    assert (data.class_names(), data.whole().y.tolist()) == (["u", "v"], [0, 1, 0])
    with pytest.raises(UsageError, match=r"column 'a', row 2 is missing"):
        rows(written(a=[1, None, 2]))
    with pytest.raises(UsageError, match=r"column 'a' is list<.*>: numbers, texts or truth values are needed"):
        rows(written(a=[[1], [2]]))


BIG = 2**53 + 1
ROUNDED = f"is {BIG}, an integer that float64 would round to {BIG - 1}: rescale, or take differences"


def test_integers_that_float64_does_not_hold_are_refused(tmp_path):
    """Those that it holds are read, and classes are texts, which lose nothing."""
    for text, place in ((f"id,a\n1,1\n{BIG},2\n", 3), (f"id;a\n1,5;1\n+{BIG};2\n", 3), (f"a id\n1 -{BIG}\n1 1\n", 2)):
        with pytest.raises(UsageError, match=rf"column 'id', line {place} is [+-]?{BIG}, an integer that"):
            rows(file(tmp_path, text))
    held = f"id,a\n{BIG - 1},1.5\n{2**60},1e300\n{10**17},{BIG}.0\n"
    assert CSV(file(tmp_path, held), **ALL).whole().x[:, 0].tolist() == [BIG - 1, 2**60, 10**17]
    labelled = CSV(file(tmp_path, f"id,a\n{BIG},1\n{BIG - 1},2\n{BIG},3\n"), label="id", **ALL)
    assert labelled.class_names() == [str(BIG - 1), str(BIG)]
    np.savez(tmp_path / "t.npz", a=np.zeros(2), id=np.array([1, 2**64 - 1], np.uint64))
    with pytest.raises(UsageError, match=rf"column 'id', row 2 is {2**64 - 1}, an integer that float64 would round"):
        rows(str(tmp_path / "t.npz"))


def test_integers_of_parquet_are_those_of_the_file_or_refused(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = str(tmp_path / "t.parquet")
    decimals = [Decimal(2), Decimal(BIG), Decimal(4)]
    for cells in ([1, BIG, 3], pa.array([1, BIG, 3], pa.uint64()), decimals, pa.array([1, BIG, 3]).dictionary_encode()):
        parquet.write_table(pa.table({"id": cells, "a": [0.5, 1, 2]}), path)
        with pytest.raises(UsageError, match="column 'id', row 2 " + ROUNDED):
            rows(path)
    parquet.write_table(pa.table({"id": [1, BIG, BIG - 1, None], "a": [0.5, 1, 2, 3]}), path)
    with pytest.raises(UsageError, match="column 'id', row 2 " + ROUNDED):
        rows(path, columns={"id": "real?", "a": "real"})
    named = CSV(path, columns={"id": "categorical?", "a": "real"}, **ALL)
    assert named.to_rows(named.whole().x)["id"] == [1, BIG, BIG - 1, None]
    parquet.write_table(pa.table({"id": [1, 2**60, None], "a": [0.5, 1, 2]}), path)
    optional = CSV(path, columns={"id": "real?", "a": "real"}, **ALL)
    assert optional.whole().x[:2, 0].tolist() == [1, 2**60]


def test_a_wide_table(tmp_path):
    x = np.random.default_rng(0).normal(size=(3, 5_000)).astype(np.float32)
    text = "\n".join(map(",".join, [[f"c{k}" for k in range(x.shape[1])], *(map(repr, row) for row in x.tolist())]))
    assert np.array_equal(CSV(file(tmp_path, text), **ALL).whole().x.numpy(), x)


def test_a_support_has_no_more_values_than_float64_counts(tmp_path):
    with pytest.raises(ValueError, match=r"^data.support: 'levels:99999999999999999999': 2 to 2\^53 values$"):
        CSV("t.csv", support="levels:99999999999999999999")
