"""A published number on real data, reproduced to rounding: what certifies loader, split, logit and units at once."""

import os
from pathlib import Path

import pytest

import gencli

DATA = os.environ.get("GENCLI_DATA", "")


@pytest.mark.slow
@pytest.mark.skipif(not (Path(DATA) / "MNIST").is_dir(), reason="GENCLI_DATA names no folder with MNIST")
def test_a_gaussian_on_mnist_is_the_papers():
    """-1366.9 nats after the logit (Papamakarios et al., 2017, table 2), which is 2.01 bits/dim in data space."""
    record = gencli.train(["experiment=mnist_gaussian", "logger=none", "n=0", "device=cpu", "run_dir=run"]).results[0]
    model = next(line["nats"] for line in record["ledger"] if line["term"] == "model")
    assert model == pytest.approx(1366.9, abs=3)
    assert record["bits_per_dim"] == pytest.approx(2.01, abs=0.006)
    assert record["bound"] == "upper"
