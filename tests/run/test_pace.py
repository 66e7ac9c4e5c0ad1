"""How many rows fit into a budget, by the time that a few of them take."""

import pytest

from gencli.run import pace
from gencli.run.pace import plan


@pytest.fixture
def clock(monkeypatch):
    """A clock that scoring alone moves: so many seconds a call, so many a row, so many for the first call."""

    class Clock:
        now = 0.0

        def scorer(self, a_call, a_row, start_up=0.0):
            late = [start_up]

            def score(rows):
                self.now += a_call + a_row * rows + (late.pop() if late else 0.0)

            return score

    clock = Clock()
    monkeypatch.setattr(pace.time, "perf_counter", lambda: clock.now)
    return clock


def test_what_is_quick_is_measured_whole_and_in_order(clock):
    found = plan(clock.scorer(0.0, 0.0005), 10_000, 500, 30.0)
    assert (found.rows, found.batch_size, found.shuffled) == (10_000, 500, False)
    assert clock.now < 0.1  # finding it out costs next to nothing


@pytest.mark.parametrize(("budget", "rows"), [(30.0, 10), (300.0, 200), (7200.0, 5000), (None, 10_000)])
def test_of_what_is_slow_as_much_as_fits(clock, budget, rows):
    found = plan(clock.scorer(0.0, 1.0), 10_000, 500, budget)
    assert (found.rows, found.shuffled) == (rows, True)
    assert found.batch_size < 10  # progress and stops at least every few seconds
    assert budget is None or rows + clock.now <= 1.2 * budget


def test_a_slow_start_says_nothing_of_the_pace(clock):
    assert plan(clock.scorer(0.0, 0.0005, start_up=4.0), 10_000, 500, 30.0).rows == 10_000


def test_rows_that_share_a_cost_are_timed_together(clock):
    found = plan(
        clock.scorer(1.0, 0.001), 10_000, 500, 120.0
    )  # 20 calls of 1.5 seconds; of 2 rows it would be 84 minutes
    assert (found.rows, found.batch_size) == (10_000, 500)
    assert found.seconds == pytest.approx(30, rel=0.3)


def test_some_rows_are_measured_however_slow_they_are(clock):
    assert plan(clock.scorer(0.0, 100.0), 10_000, 500, 30.0).rows == pace.LEAST
    assert plan(clock.scorer(0.0, 100.0), 4, 500, 30.0).rows == 4


def test_processes_share_the_rows(clock):
    assert plan(clock.scorer(0.0, 1.0), 10_000, 500, 300.0, processes=4).rows == 1000
