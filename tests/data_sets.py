"""What the tests of data sets share."""

import os
import re

import numpy as np
import pytest

from gencli.core.errors import UsageError

RNG = np.random.default_rng(0)


FETCHED = os.environ.get("GENCLI_DATA")


needs_files = pytest.mark.skipif(not FETCHED, reason="GENCLI_DATA names no folder with the files")


def refused(text):
    return pytest.raises(UsageError, match=f"^{re.escape(text)}$")


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


class Payload:
    def __reduce__(self):
        return os.system, ("touch stolen",)


def save(path, **arrays):
    np.savez(path, **arrays)
    return str(path)
