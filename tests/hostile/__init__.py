"""Run folders of strangers: what a hostile one may hold, case by case.

A case changes a fresh copy of a good run, and perhaps what lies around it. ``opening`` opens it with every verb and
says what went wrong. Cases are data, so that one list serves the tests and scripts/campaign.
"""

from hostile import (
    around,
    classes,
    defaults,
    files,
    links,
    records,
    runs,
    storage,
    studies,
    texts,
    values,
    verbs,
    weights,
)
from hostile.base import Case

_KINDS = (defaults, classes, texts, runs, values, files, records, weights, links, around, verbs, storage, studies)


def cases() -> list[Case]:
    """Every case, in the order of the kinds.

    Raises:
        ValueError: two have one name.
    """
    found = [case for kind in _KINDS for case in kind.cases()]
    names = [case.name for case in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"cases of one name: {sorted(twice)}")
    return found
