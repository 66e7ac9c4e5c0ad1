"""Any table, however it is written: its numbers are those of the file, or it is refused in a line."""

import csv
import io

import numpy as np
import pytest
from data_sets import QUICK, file
from hypothesis import given, settings
from hypothesis import strategies as st

from gencli.core.errors import UsageError
from gencli.data.dialect import Dialect
from gencli.data.sets.csv import CSV
from gencli.data.table_files import read

ALL = {"val": 0.0, "test": 0.0}


def in_one_line(error, end=""):
    assert "\n" not in str(error)
    assert str(error).endswith(end)


WORDS = st.text(st.sampled_from("abz ,;|\t\"'#.é0\n"), min_size=1, max_size=5).map(str.strip).filter(bool)
NUMBERS = st.one_of(
    st.integers(-2000, 2000).map(str),
    st.floats(-1e4, 1e4, allow_nan=False, width=32).map(repr),
    st.sampled_from(["1e3", "-2.5E-1", "+7", "0.10"]),
)


@st.composite
def drawn(draw):
    """(columns of texts by name, label column or None, how it is written)."""
    names = draw(st.lists(WORDS.map(lambda w: f"n{w}"), min_size=1, max_size=4, unique=True))
    n = draw(st.integers(1, 8))
    table = {name: draw(st.lists(NUMBERS, min_size=n, max_size=n)) for name in names}
    kinds = draw(st.none() | st.lists(WORDS, min_size=n, max_size=n))
    style = {
        "separator": draw(st.sampled_from([",", ";", "\t", "|"])),
        "decimal": draw(st.sampled_from(["point", "comma"])),
        "quoting": draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
        "end": draw(st.sampled_from(["\n", "\r\n"])),
        "mark": draw(st.sampled_from(["", "\ufeff"])),
        "header": draw(st.booleans()),
        "order": draw(st.permutations([*names, *(["kind"] if kinds else [])])),
        "told": draw(st.booleans()),
    }
    return table, kinds, style


def written(table, kinds, style):
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=style["separator"], quoting=style["quoting"], lineterminator=style["end"])
    comma = style["decimal"] == "comma"
    cells = {name: [c.replace(".", ",") if comma else c for c in column] for name, column in table.items()}
    cells |= {"kind": kinds} if kinds else {}
    if style["header"]:
        writer.writerow(style["order"])
    writer.writerows(zip(*(cells[name] for name in style["order"]), strict=True))
    return style["mark"] + out.getvalue()


def check_table(folder, case):
    table, kinds, style = case
    path = file(folder, written(table, kinds, style))
    where = {name: name if style["header"] else str(style["order"].index(name)) for name in style["order"]}
    told = {key: style[key] for key in ("separator", "decimal", "header")} if style["told"] else {}
    data = CSV(path, columns=[where[n] for n in table], label=where["kind"] if kinds else None, **ALL, **told)
    try:
        whole = data.whole()
    except UsageError as error:
        hidden = kinds and not style["header"] and style["order"][0] == "kind" and kinds[0].startswith("#")
        in_one_line(error, "never" if style["told"] and not hidden else "")
        return
    numbers = np.array([[float(c) for c in column] for column in table.values()]).T
    assert np.array_equal(whole.x.numpy(), numbers.astype(whole.x.numpy().dtype))
    if style["header"]:  # in other words the same, by name
        turned = {"separator": "\t", "decimal": "point", "header": True, "order": style["order"][::-1]}
        again = file(folder, written(table, kinds, style | turned), "u.csv")
        other = CSV(again, columns=[*table], label="kind" if kinds else None, separator="\t", **ALL)
        other.apply(data.schema())
        assert other.whole().sha256 == whole.sha256
    if kinds:
        named = [data.class_names()[k] for k in whole.y]
        same = [[(a == b) for b in kinds] for a in kinds]
        assert all(same[i][j] <= (named[i] == named[j]) for i in range(len(kinds)) for j in range(len(kinds)))
        assert all(a == b or float(a) == float(b.replace(",", ".")) for a, b in zip(named, kinds, strict=True))


@pytest.mark.slow
@given(drawn())
@settings(QUICK, max_examples=150)
def test_numbers_are_those_of_the_file_or_there_is_a_line(tmp_path, case):
    check_table(tmp_path, case)


@given(st.text(st.sampled_from('ab1,;\t|"# \n\r.-é\0')))
@settings(QUICK, max_examples=150)
def test_any_text_is_a_table_or_refused_in_a_line(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode())
    for dialect in (Dialect(), Dialect(",", ".", True), Dialect(r"\s+", ",", False)):
        try:
            table = read(path, dialect)
            assert len({len(column) for column in table.columns.values()}) <= 1
        except UsageError as error:
            in_one_line(error)
