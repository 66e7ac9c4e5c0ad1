"""What the tests of data sets share."""

import json
import os
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

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


def file(folder, text, name="t.csv"):
    """The path of a new file of these characters or bytes."""
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return str(folder / name)


QUICK = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
LONG = settings(QUICK, max_examples=200)


def again(data):
    """The schema as a run keeps it."""
    return json.loads(json.dumps(data.schema()))


def one_line(error):
    assert "\n" not in str(error)
    assert str(error).startswith("data")
