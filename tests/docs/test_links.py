"""What README and docs name is there: files, links, headings; and every option of a group has its word somewhere."""

import re

import pytest
from pages import DOCS, PAGES, ROOT, text

from gencli.config import catalog

LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


def named(page):
    """Paths of the project within `code`."""
    for code in re.findall(r"`([^`\n]+)`", page):
        yield from re.findall(r"(?<![\w/.])(?:gencli|configs|docs|tests|scripts|benchmarks)/[\w/.-]*\w", code)


def anchors(path):
    """The headings of a page as links name them."""
    heads = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def broken(page):
    at = (ROOT / page).parent
    for name in named(text(page)):
        if name != "benchmarks/results" and not any((folder / name).exists() for folder in (at, ROOT)):
            yield name  # benchmarks/results is made by the first benchmark
    for target, anchor in LINK.findall(text(page)):
        path = at / target if target else ROOT / page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            yield f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_is_there(page):
    assert [*broken(page)] == []


def test_what_is_missing_is_found():
    assert {*named("`scripts/none x`, `python tests/c.py`, `other/tests`")} == {"scripts/none", "tests/c.py"}
    assert LINK.findall("[a](b.md) [c](#d) [e](f.md#g) [h](https://i)") == [("b.md", ""), ("", "d"), ("f.md", "g")]
    assert "6-how-to-add" in anchors(ROOT / "docs/architecture.md")


@pytest.mark.parametrize("group", ["model", "objective", "estimator", "sampler", "kernel", "path", "metric", "picture"])
def test_every_option_has_its_word_on_a_page(group):
    spans = [
        span for page in DOCS for span in re.findall(r"`([^`\n]+)`", re.sub(r"^```.*", "", text(page), flags=re.M))
    ]
    words = {word for span in spans for word in re.findall(r"\w+", span)}
    assert {*catalog.options(group)} - words == set()


def test_every_page_is_in_a_table_of_contents():
    listed = {
        line
        for block in re.findall(r"```{toctree}(.*?)```", text("docs/index.md"), re.DOTALL)
        for line in block.split()
    }
    missing = {page.removeprefix("docs/").removesuffix(".md") for page in DOCS} - listed
    assert missing == {"index"}
