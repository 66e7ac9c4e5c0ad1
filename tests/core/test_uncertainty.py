"""Standard errors cover the truth as often as they say, of rows that depend on each other too."""

import math

import numpy as np
import pytest

from gencli.core.uncertainty import standard_error


def autoregressive(rng, runs, n):
    """Rows of mean 3 whose autocorrelation at lag k is 0.8^k."""
    noise, rows = rng.normal(size=(runs, n)) * math.sqrt(1 - 0.8**2), np.empty((runs, n))
    rows[:, 0] = rng.normal(size=runs)
    for k in range(1, n):
        rows[:, k] = 0.8 * rows[:, k - 1] + noise[:, k]
    return 3 + rows


def regimes(rng, runs, n):
    """Rows of mean 3 whose hidden state, -1 or 1, changes once in 12 rows on average."""
    switches = rng.random((runs, n)) < 1 / 12
    state = rng.choice([-1, 1], (runs, 1)) * (-1) ** switches.cumsum(1)
    return 3 + state + rng.normal(size=(runs, n))


@pytest.mark.parametrize("draw", [autoregressive, regimes])
@pytest.mark.parametrize("counted", ["full", "short"])
def test_blocks_cover_the_mean_of_a_sequence(draw, counted):
    rng = np.random.default_rng(0)
    counts = np.full(2000, 64.0)
    if counted == "short":
        counts[-1] = 3  # what is left at the end
    covered = naive = 0
    for rows in draw(rng, 300, 2000):
        nats = rows * counts
        off = abs(nats.sum() / counts.sum() - 3)
        found = standard_error(nats, counts)
        covered += off < 1.96 * found.value
        naive += off < 1.96 * standard_error(rows, None).value
        assert found.blocks == 20
    assert 0.92 < covered / 300 < 0.98
    assert naive / 300 < 0.7


def test_independent_rows_keep_their_formula():
    rows = np.array([1.0, 2.0, 4.0, 7.0])
    found = standard_error(rows, None)
    assert found.value == pytest.approx(math.sqrt(21 / 3 / 4))
    assert (found.blocks, found.caveat) == (None, "error from 4 rows only")
    assert standard_error(np.arange(6.0), None).caveat == ""


def test_rows_that_are_all_equal_are_told():
    rows = np.full(7, 0.1)  # whose mean is another number, by rounding
    for counts in (None, np.full(7, 3.0)):
        found = standard_error(rows, counts)
        assert (found.value, found.caveat) == (0.0, "no error: all 7 rows are equal")


def test_two_rows_are_two_blocks():
    found = standard_error(np.array([2.0, 2.0]), np.array([1.0, 3.0]))  # r = 1: residuals 1 and -1
    assert found.value == pytest.approx(math.sqrt(2 * 2) / 4)
    assert found.caveat == "error from 2 blocks only"
    assert standard_error(np.array([2.0]), np.array([1.0])).value is None


def test_what_outlasts_a_block_is_told():
    rng = np.random.default_rng(1)
    counts = np.ones(400)
    assert standard_error(rng.normal(size=400), counts).caveat == ""
    assert "correlated" in standard_error(rng.normal(size=400) + np.linspace(-3, 3, 400), counts).caveat


def test_groups_cover_the_mean_of_rows_that_share_a_level():
    """Sequences of 3 to 40 rows, each with a level of its own: independent rows would be far too sure."""
    rng = np.random.default_rng(1)
    covered = naive = 0
    for _ in range(300):
        groups = np.repeat(np.arange(40), rng.integers(3, 41, 40))
        rows = 3 + rng.normal(size=40)[groups] + rng.normal(size=len(groups))
        found = standard_error(rows, None, groups)
        covered += abs(rows.mean() - 3) < 1.96 * found.value
        naive += abs(rows.mean() - 3) < 1.96 * standard_error(rows, None).value
        assert found.blocks == 40
    assert 0.9 < covered / 300 < 0.98
    assert naive / 300 < 0.7
    assert standard_error(rows, None, np.zeros(len(rows), int)).value is None


def test_blocks_of_one_series_that_are_correlated_are_told():
    rng = np.random.default_rng(0)
    groups = np.arange(2000) * 20 // 2000
    slow = np.zeros(2000)
    for t in range(1, 2000):
        slow[t] = 0.999 * slow[t - 1] + rng.normal()
    assert "too small" in standard_error(slow, None, groups).caveat
    assert standard_error(rng.normal(size=2000), None, groups).caveat == ""
