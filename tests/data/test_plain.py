"""Large tables of plain numbers are read as numbers at once, and are what their texts are."""

import gzip

import numpy as np
import pytest
from data_sets import QUICK
from hypothesis import given, settings
from hypothesis import strategies as st

from gencli.core.errors import UsageError
from gencli.data import dialect, plain
from gencli.data.sets.csv import CSV
from gencli.data.table_files import read

NUMBERS = ["0", "1", "-2.5", "+3.", ".5", "1e3", "-1E-7", "007", "12345678901234567890.", "0.1", "4.9e-324", " 6", "7 "]
ODD = [
    "1e400",
    "nan",
    "NaN",
    "inf",
    "",
    "NA",
    "0x10",
    "1_000",
    "１２",
    "1,5",
    "1 2",
    "1d5",
    "true",
    "a",
    "\x0b1",
    "1\x1c",
    "-9007199254740993",  # which float64 would round
]
WORDS = ["a", " b", "1", "007", "1.0", "ä", "", "x y"]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """So that small tables count as large ones, of several blocks."""
    monkeypatch.setattr(dialect, "SAMPLE", 5)
    monkeypatch.setattr(plain, "LARGE", 900)
    monkeypatch.setattr(plain, "BLOCK", 500)


def told(path, texts=(), as_texts=False):
    """All that a table says, or why it is refused; and how many columns were read as numbers."""
    with pytest.MonkeyPatch.context() as patch:
        if as_texts:
            patch.setattr(plain, "LARGE", 10**9)
        try:
            table = read(path, texts=texts)
        except UsageError as error:
            return str(error), 0
    places = [table.place(row) for row in range(len(table))]
    found = [places, table.dialect, table.notes, table.unnamed, dict(table.first_row())]
    for name in table.columns:
        try:
            found += [name, table.numbers(name).tolist(), table.is_numeric(name)]
        except UsageError as error:
            found.append(str(error))
        found.append(table.missing(name).tolist())
        found += table.texts(name) if name in texts else []
    return found, sum(cells.dtype != object for cells in table.columns.values())


def same(path, texts=()):
    """The number of columns that were read as numbers, of a file that is the same by both ways."""
    by_blocks, count = told(path, texts)
    assert by_blocks == told(path, texts, as_texts=True)[0]
    return count


@st.composite
def tables(draw):
    separator = draw(st.sampled_from([",", ";", "\t", "|", " ", "  "]))
    width, end = draw(st.integers(1, 4)), draw(st.sampled_from(["\n", "\r\n"]))
    kinds = [draw(st.sampled_from([NUMBERS, NUMBERS, NUMBERS, WORDS])) for _ in range(width)]
    cycle = draw(st.integers(1, 13))
    rows = [[kind[(3 * i * (k + 1) + cycle) % len(kind)] for k, kind in enumerate(kinds)] for i in range(150)]
    for _ in range(draw(st.integers(0, 2))):
        row = rows[draw(st.integers(0, 149))]
        change = draw(st.sampled_from(["odd", "odd", "short", "long", "quote", "empty", "comment"]))
        if change == "odd":
            row[-1:] = [draw(st.sampled_from(ODD))]
        elif change == "quote":
            row[-1:] = [f'"{row[-1] if row else ""}"']
        else:
            row[:] = {"short": row[:-1], "long": [*row, "1"], "empty": [], "comment": ["# 1", *row[1:]]}[change]
    head = draw(st.sampled_from(["", "# a comment" + end, "\ufeff"]))
    names = end.join([separator.join(f"c{k}" for k in range(width)), ""]) if draw(st.booleans()) else ""
    tail = draw(st.sampled_from(["", end, end + end, end + " " + end]))
    return head + names + end.join(map(separator.join, rows)) + tail


@settings(QUICK, max_examples=12)
@given(tables())
def test_numbers_and_refusals_are_those_of_the_texts(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode())
    same(path)
    same(path, texts=["c0", "0"])


@pytest.mark.slow
@settings(QUICK, max_examples=120)
@given(tables())
def test_numbers_and_refusals_are_those_of_many_texts(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode())
    same(path)
    same(path, texts=["c0", "0"])


@pytest.mark.parametrize(("separator", "packed"), [(",", False), ("\t", True), ("  ", False)])
def test_plain_numbers_are_read_at_once_and_to_the_bit(separator, packed, tmp_path):
    x = np.random.default_rng(0).standard_normal((200, 3)) * np.array([1e-300, 1.0, 1e300])
    lines = [separator.join(["a", "b", "c"]), *(separator.join(map(repr, row)) for row in x.tolist())]
    path = tmp_path / "t.csv"
    path.write_bytes((gzip.compress if packed else bytes)("\n".join(lines).encode()))
    assert same(path) == 3
    table = read(path)
    assert np.array_equal(table.matrix(["a", "b", "c"]), x)
    assert table.matrix(["a", "b", "c"]) is table.values
    assert all(np.shares_memory(table.columns[name], table.values) for name in "abc")
    assert np.array_equal(table.matrix(["c", "a"]), x[:, [2, 0]])
    assert table.place(199) == "line 201"


def test_a_column_of_words_stays_texts_among_numbers(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["x,y,z", *(f"{i},{'ab'[i % 2]} ,0{i}" for i in range(300))]))
    assert same(path) == 2
    assert same(path, texts=["z"]) == 1
    assert read(path, texts=["z"]).texts("z")[7] == "07"  # a name that a number would not keep


def test_integers_that_float64_holds_are_read_however_large(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["x,y,z", *(f"{2**60 + 256 * i},1e20,{i}.12345678901234567" for i in range(300))]))
    assert same(path) == 0  # as texts, since the digits may be too many
    assert read(path).numbers("x").tolist() == [2**60 + 256 * i for i in range(300)]
    path.write_text("\n".join(["x,y,z", *(f"1234567890123456{i}.5,1e20,{i}.12345678901234567" for i in range(300))]))
    assert same(path) == 3


@pytest.mark.parametrize("cell", ODD)
def test_a_late_cell_that_is_no_number_is_named_with_its_line(cell, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["x;y", *(f"{i};{i}.5" for i in range(300)), f"7;{cell}", "8;1"]))
    same(path)
    data = CSV(str(path))
    if cell not in ("１２", "\x0b1", "1\x1c"):  # which are numbers to Python
        with pytest.raises(UsageError, match="column 'y', line 302 is"):
            data.split("train")


@pytest.mark.parametrize("late", [["1;2;3", "4"], ["4", "1;2;3"], ["4;5;"]])
@pytest.mark.parametrize("last", ["0.5", "a"])
def test_late_rows_of_other_lengths_are_named_though_their_cells_add_up(late, last, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["x;y", *(f"{i};{last}" for i in range(300)), *late, f"8;{last}"]))
    assert same(path) == 0
    with pytest.raises(UsageError, match=r"line 302 has [13] cells"):
        read(path)
