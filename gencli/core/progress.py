"""How far a long loop is, for whoever shows progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

shown: ContextVar[Callable[[str], None] | None] = ContextVar("shown", default=None)
"""Who shows a few words in the place of the last ones; None: nobody."""


def counted(what: str, steps: Sequence[T]) -> Iterator[T]:
    """The steps of a loop; before each, ``shown`` is told how many are done, of how many.

    Args:
        what: the loop does, in a word or two.
        steps: what it goes over.

    Example:
        >>> told = []
        >>> token = shown.set(told.append)
        >>> sum(counted("adding", [1, 2, 3]))
        6
        >>> shown.reset(token)
        >>> told
        ['adding 0/3', 'adding 1/3', 'adding 2/3']
    """
    for done, step in enumerate(steps):
        show = shown.get()
        if show is not None:
            show(f"{what} {done:,}/{len(steps):,}")
        yield step
