"""Texts as people have them: read as they are, or refused in one line."""

import pytest
import torch
from data_sets import LONG, QUICK, again, one_line, refused
from hypothesis import given
from hypothesis import strategies as st

from gencli.core.errors import UsageError
from gencli.data.sets.text import TextFile

SPLITS = ("train", "val", "test")

PLAIN = "hello world\n" * 20


def text_file(tmp_path, content, **options):
    (tmp_path / "x.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    return TextFile(str(tmp_path / "x.txt"), **{"window": 4} | options)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (PLAIN.encode("utf-16"), "is UTF-16: save it as UTF-8, or take data.level=byte"),
        (PLAIN.encode("utf-16-be"), "is no text: character 0 is NUL; take data.level=byte"),
        (b"abc\xed\xa0\x80" * 20, "is no UTF-8 at byte 3: take data.level=byte"),
        (b"", "is empty"),
    ],
)
def test_texts_that_cannot_be_read(content, text, tmp_path):
    with refused(f"data.path={tmp_path}/x.txt {text}"):
        _ = text_file(tmp_path, content).spec
    if content:
        assert "".join(map(chr, text_file(tmp_path, content, level="byte").whole().symbols)) == content.decode(
            "latin-1"
        )


def test_texts_that_are_too_short(tmp_path):
    with pytest.raises(ValueError, match=r"^data.window=128: the val split has only 12 chars: at most data.window=12$"):
        _ = text_file(tmp_path, PLAIN, window=128).spec
    with pytest.raises(ValueError, match=r"the text needs at least 2 different characters"):
        _ = text_file(tmp_path, "a" * 100).spec
    with refused(f"data.path={tmp_path} is a folder; a text file is expected"):
        _ = TextFile(str(tmp_path)).spec


def test_a_new_text_is_read_by_the_alphabet_of_the_run(tmp_path):
    first = text_file(tmp_path, PLAIN)
    kept = again(first)
    assert first.understood() == ["x: 216 train, 12 val, 12 test chars; 9 different: \\n dehlorw"]
    lost = TextFile(str(tmp_path / "lost.txt"), window=4)
    lost.apply(kept)
    assert (lost.spec, lost.to_text(lost.encode("hello")[None])) == (first.spec, ["hello"])
    new = text_file(tmp_path, "well")
    new.apply(kept)
    assert new.to_text(new.whole().symbols[None]) == ["well"]
    strange = text_file(tmp_path, "well\nwe see")
    strange.apply(kept)
    with refused(f"data.path={tmp_path}/x.txt: the character 's' is not among the 9 of this data (line 2, column 4)"):
        strange.whole()
    for alphabet in ("aa", "a", 3, ["a", "b"], None):
        with pytest.raises(UsageError, match=r"^data.json does not fit the run's data"):
            lost.apply({"alphabet": alphabet})


def check_text(tmp_path, text, encoding):
    content = text.encode(encoding, "replace")
    data = text_file(tmp_path, content, window=2)
    try:
        whole = data.whole()
    except (UsageError, ValueError) as error:
        one_line(error)
        assert encoding != "utf-8" or "\0" in text or len(set(text)) < 2 or len(text) < 40
    else:
        assert data.to_text(whole.symbols[None]) == [content.decode("utf-8-sig")]
        parts = [data.split(name).symbols for name in SPLITS]
        assert torch.equal(torch.cat(parts), whole.symbols)
        assert data.alphabet.characters == "".join(sorted(data.alphabet.characters))


TEXTS = st.text(max_size=60) | st.text("ab\r\n é𝕏", min_size=40, max_size=60)


@QUICK
@given(TEXTS, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]))
def test_any_text_is_read_as_it_is_or_takes_one_line(tmp_path, text, encoding):
    check_text(tmp_path, text, encoding)


@pytest.mark.slow
@LONG
@given(TEXTS, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "latin-1", "cp1252"]))
def test_many_texts_are_read_as_they_are_or_take_one_line(tmp_path, text, encoding):
    check_text(tmp_path, text, encoding)
