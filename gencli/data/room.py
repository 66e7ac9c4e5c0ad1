"""Room for the numbers of a large table: an array in memory, or in a file that is mapped into it."""

from __future__ import annotations

import os
import tempfile

import numpy as np

from gencli.core.errors import UsageError, quoted
from gencli.core.files import user_cache

PART = 100_000
"""Rows of an array that are copied, or looked at, at a time."""


def room(shape: tuple[int, ...], memory: float) -> np.ndarray:
    """An array in fp64, without values yet.

    Args:
        shape: of it.
        memory: GB up to which it is in memory; a larger one is a ``numpy.memmap`` of a file without a name, which is
            gone when the array is. It lies in the user's cache, since temporary folders are memory on many machines.

    Raises:
        UsageError: there is no such room on the disk.
    """
    size = 8 * int(np.prod(shape, dtype=object))
    if size <= 1e9 * memory:
        return np.empty(shape)
    try:
        user_cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=user_cache()) as file:
            if hasattr(os, "posix_fallocate"):  # a disk that fills up later ends the process
                os.posix_fallocate(file.fileno(), 0, max(size, 1))
            return np.memmap(file, np.float64, "r+", shape=shape)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"data.memory={memory:g}: a file of {size / 1e9:.3g} GB is needed in {quoted(user_cache(), 200)} "
            f"({quoted(str(error) or type(error).__name__, 200)}): more data.memory, or XDG_CACHE_HOME, of another disk"
        ) from error
