"""For tests that call an estimator or make a record themselves."""

from gencli.estimators.base import Shared

NOTHING = Shared("estimate")
"""Of an estimator whose ``nll`` needs nothing that ``prepare`` found."""

SOURCE = {
    "estimator": "exact",
    "settings": {},
    "split": "test",
    "split_sha256": "0" * 64,
    "protocol": {"support": "levels:256"},
    "weights": "raw",
    "checkpoint": None,
    "checkpoint_sha256": None,
    "seed": 0,
    "seconds": 0.0,
}
"""What a record says of where it comes from."""
