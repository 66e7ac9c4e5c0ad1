"""Hydra remembers, for the length of the tests, what it reads of our own config files: most commands choose the same.

A composition has two halves. The first depends on the options that groups take and on the files: the defaults list and
the merged sections. The second sets the values that the command names. Only the first is kept, only where no other
folder is searched, and every command gets a copy of its own. Our files and words of commands are read once, too.
``tests/config/test_hydra.py`` compares all of it with Hydra's.
"""

from __future__ import annotations

import copy
import functools
import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import omegaconf
from hydra._internal import config_loader_impl as hydra
from hydra._internal import defaults_list
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra._internal.defaults_list import DefaultsList, Overrides
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import grammar_parser

from gencli.config.locate import config_dir

_OURS = str(config_dir())

_lists: dict[tuple, DefaultsList] = {}
_sections: dict[int, tuple[list, bytes]] = {}
"""By the identity of a remembered defaults list, which stands beside its sections so that it lives as long."""
_files: dict[tuple, tuple[Any, bytes]] = {}
_types: dict[int, type] = {}
_words: dict[tuple[str, str], Any] = {}


def _places(repo) -> tuple[str, ...]:
    return tuple(source.path for source in repo.get_sources())


def _ours(places) -> bool:
    """Whether no other folder is searched."""
    return {*places} == {_OURS, "hydra.conf", ""}


def _list(repo, config_name, overrides_list, prepend_hydra, skip_missing) -> DefaultsList:
    places = _places(repo)
    if not _ours(places):
        return _LIST(repo, config_name, overrides_list, prepend_hydra, skip_missing)
    mine = Overrides(repo=repo, overrides_list=overrides_list)
    chosen = (mine.override_choices, mine.deletions, mine.append_group_defaults)
    key = (places, config_name, prepend_hydra, skip_missing, *map(repr, chosen))
    if key not in _lists:
        _lists[key] = _LIST(repo, config_name, overrides_list, prepend_hydra, skip_missing)
    known = _lists[key]
    return DefaultsList(known.defaults, known.defaults_tree, mine.config_overrides, known.overrides)


def _merged(loader, defaults, repo) -> Any:
    if id(defaults) not in _sections:
        found = _MERGED(loader, defaults, repo)
        if not any(known.defaults is defaults for known in _lists.values()):
            return found
        _sections[id(defaults)] = defaults, _packed(found)
    return _unpacked(_sections[id(defaults)][1])


def _packed(value: Any) -> bytes:
    """What ``_unpacked`` makes a copy of, three times faster than a deep copy."""
    packed = io.BytesIO()
    _Pickler(packed, pickle.HIGHEST_PROTOCOL).dump(value)
    return packed.getvalue()


def _unpacked(packed: bytes) -> Any:
    return _Unpickler(io.BytesIO(packed)).load()


class _Pickler(pickle.Pickler):
    """Classes are told by their identity: those that are made for Hydra stand in no module."""

    def persistent_id(self, value: Any) -> int | None:
        if isinstance(value, type):
            _types[id(value)] = value
            return id(value)
        return None


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, name: int) -> type:
        return _types[name]


def _file(repo, config_path) -> Any:
    places = _places(repo)
    if not _ours(places):
        return _FILE(repo, config_path)
    if (places, config_path) not in _files:
        found = _FILE(repo, config_path)
        _files[places, config_path] = found, _packed(found and found.config)
    known, config = _files[places, config_path]
    return known and replace(known, config=_unpacked(config))  # Hydra changes it


def _word(parser, text, rule) -> Any:
    if (text, rule) not in _words:
        _words[text, rule] = _WORD(parser, text, rule)
    return copy.copy(_words[text, rule])  # Hydra tells it who loads


_tree = functools.cache(grammar_parser.parse)  # of ${...}; nothing changes a tree


def _choices(overrides, defaults, self_added) -> Any:
    """What ``${...}`` in a defaults list may name; most lists have none."""
    return _CHOICES(overrides, defaults, self_added) if any(each.is_interpolation() for each in defaults) else {}


def _repository(self, delegate) -> None:
    self.delegate, self.cache = copy.copy(delegate), {}  # new sources are a new list: no need to copy each


_PLACES = (
    (hydra, "create_defaults_list", _list),
    (hydra.ConfigLoaderImpl, "_compose_config_from_defaults_list", _merged),
    (ConfigRepository, "load_config", _file),
    (OverridesParser, "parse_rule", _word),
    (defaults_list, "_create_interpolation_map", _choices),
    (CachingConfigRepository, "__init__", _repository),
    (omegaconf.base, "parse", _tree),
    (omegaconf._utils, "parse", _tree),
)
_HYDRAS = _LIST, _MERGED, _FILE, _WORD, _CHOICES, *_ = tuple(getattr(owner, name) for owner, name, _ in _PLACES)


def remember() -> None:
    """From here on, Hydra composes what it has composed before from a copy."""
    for owner, name, ours in _PLACES:
        setattr(owner, name, ours)


def forget() -> None:
    """From here on, Hydra is as it is: what is watched is to be gencli's own doing."""
    for (owner, name, _), own in zip(_PLACES, _HYDRAS, strict=True):
        setattr(owner, name, own)


@contextmanager
def anew() -> Iterator[None]:
    """Hydra as it is, within."""
    forget()
    try:
        yield
    finally:
        remember()
