"""Hydra remembers, for the length of the tests, what it reads of our own config files: most commands choose the same.

A composition has two halves. The first depends on the options that groups take and on the files: the defaults list and
the merged sections. The second sets the values that the command names. Only the first is kept, only where no other
folder is searched, and every command gets a copy of its own; ``tests/config/test_hydra.py`` compares it with Hydra's.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra._internal import config_loader_impl as hydra
from hydra._internal.defaults_list import DefaultsList, Overrides

from gencli.config.locate import config_dir

_LISTS = hydra.create_defaults_list
_SECTIONS = hydra.ConfigLoaderImpl._compose_config_from_defaults_list
_OURS = str(config_dir())

_lists: dict[tuple, DefaultsList] = {}
_sections: dict[int, tuple[list, Any]] = {}
"""By the identity of a remembered defaults list, which stands beside its sections so that it lives as long."""


def remember() -> None:
    """From here on, Hydra composes what it has composed before from a copy."""
    hydra.create_defaults_list = _list
    hydra.ConfigLoaderImpl._compose_config_from_defaults_list = _merged


@contextmanager
def anew() -> Iterator[None]:
    """Hydra as it is."""
    hydra.create_defaults_list, hydra.ConfigLoaderImpl._compose_config_from_defaults_list = _LISTS, _SECTIONS
    try:
        yield
    finally:
        remember()


def _list(repo, config_name, overrides_list, prepend_hydra, skip_missing) -> DefaultsList:
    places = tuple(source.path for source in repo.get_sources())
    if {*places} != {_OURS, "hydra.conf", ""}:
        return _LISTS(repo, config_name, overrides_list, prepend_hydra, skip_missing)
    mine = Overrides(repo=repo, overrides_list=overrides_list)
    chosen = (mine.override_choices, mine.deletions, mine.append_group_defaults)
    key = (places, config_name, prepend_hydra, skip_missing, *map(repr, chosen))
    if key not in _lists:
        _lists[key] = _LISTS(repo, config_name, overrides_list, prepend_hydra, skip_missing)
    known = _lists[key]
    return DefaultsList(known.defaults, known.defaults_tree, mine.config_overrides, known.overrides)


def _merged(loader, defaults, repo) -> Any:
    if id(defaults) not in _sections:
        found = _SECTIONS(loader, defaults, repo)
        if not any(known.defaults is defaults for known in _lists.values()):
            return found
        _sections[id(defaults)] = defaults, found
    return copy.deepcopy(_sections[id(defaults)][1])
