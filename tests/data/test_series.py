"""Series in the order of time: rows, splits that never leak, files, ERA5."""

import math

import numpy as np
import pytest
import torch

from gencli.core.errors import UsageError
from gencli.data.preprocess import Preprocess
from gencli.data.sets.era5 import ERA5UK, dial
from gencli.data.sets.series import Series
from gencli.data.split import TensorSplit
from gencli.data.transitions import stretches, transitions


def written(tmp_path, states, name="s.npy"):
    path = tmp_path / name
    np.save(path, states)
    return str(path)


@pytest.mark.parametrize(("lags", "lead", "gap"), [(1, 1, 0), (3, 1, 2), (1, 4, 0), (2, 3, 5)])
def test_no_row_of_a_split_sees_another_split(tmp_path, lags, lead, gap):
    times = np.random.RandomState(0).permutation(200).astype(float)  # in any order, since no row may follow from others
    series = Series(written(tmp_path, times), lags=lags, lead=lead, gap=gap)
    at = torch.from_numpy(times).argsort()
    seen, end = {}, -1
    for name in ("train", "val", "test"):
        split = series.split(name)
        split = TensorSplit(at[split.x.long()].float(), at[split.y.long()].float())
        assert torch.equal(split.x[:, 0] - split.y[:, -1], torch.full((len(split),), float(lead)))
        if lags > 1:
            assert (split.y.diff(dim=1) == 1).all()
        seen[name] = {*split.x.flatten().tolist(), *split.y.flatten().tolist()}
        assert min(seen[name]) > end + (gap if name != "train" else 0)  # later than all before, and apart
        end = max(seen[name])
    assert end == 199
    assert [len(series.split(name)) for name in ("val", "test")] == [20, 40]
    assert torch.equal(at[series.split("test").x[:, 0].long()], torch.arange(160, 200))


@pytest.mark.parametrize("name", ["s.npy", "s.csv"])
def test_a_series_without_noise_has_no_density(tmp_path, name):
    t = np.arange(900)
    states = np.stack([np.sin(0.1 * t), np.random.RandomState(0).randn(900), np.cos(0.17 * t)], 1)
    path = tmp_path / name
    if name == "s.npy":
        np.save(path, states)
    else:
        np.savetxt(path, states, delimiter=",", header="a,b,c", comments="", fmt="%.9g")
    with pytest.raises(UsageError, match=r"(column a|coordinate 0) follows from the states before it without noise"):
        Series(str(path), lags=2).split("train")
    assert len(Series(str(path), lags=1).split("train")) > 600
    states[:, [0, 2]] += 1e-4 * np.random.RandomState(1).randn(900, 2)
    np.save(tmp_path / "noisy.npy", states)
    assert len(Series(str(tmp_path / "noisy.npy"), lags=2).split("train")) > 600


def test_a_planted_future_changes_nothing_of_training(tmp_path):
    states = np.random.RandomState(0).randn(300, 2).cumsum(0)
    planted = states.copy()
    planted[300 - 60 - 30 - 2 :] += 1e6  # of validation and test, and the states before their first x
    fitted = []
    for k, content in enumerate((states, planted)):
        series = Series(written(tmp_path, content, f"{k}.npy"), lags=2)
        preprocess = Preprocess(series.spec, ("real",), ("vector",), transform="standardize")
        preprocess.fit(series.split("train"))
        fitted.append((series.split("train").sha256, preprocess.mean, preprocess.context_std))
    assert fitted[0][0] == fitted[1][0]
    assert torch.equal(fitted[0][1], fitted[1][1])
    assert torch.equal(fitted[0][2], fitted[1][2])
    assert float(series.split("test").y.min()) > 1e5


def test_rows_hold_the_states_in_order_for_images_too():
    states = torch.arange(2 * 6 * 3 * 4.0).view(1, 12, 1, 3, 4)
    split = transitions(states, lags=2, lead=2)
    assert split.x.shape == (9, 1, 3, 4)
    assert split.y.shape == (9, 2, 3, 4)
    assert torch.equal(split.y[4], states[0, 4:6, 0])
    assert torch.equal(split.x[4], states[0, 7])
    assert (split.groups.diff() >= 0).all()


def test_stretches_leave_something_or_say_what_does_not():
    assert stretches(100, 0, 10, 1, 1, 0) == {"test": range(89, 100), "train": range(89)}
    with pytest.raises(ValueError, match=r"data.val and data.test: 40 and 60 of 100 states"):
        stretches(100, 40, 60, 1, 1, 0)


def test_a_table_and_an_array_are_the_same_series(tmp_path):
    states = np.random.RandomState(1).randn(50, 2)
    lines = ["a,day,b", *(f"{float(a)!r},{k},{float(b)!r}" for k, (a, b) in enumerate(states))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    table = Series(str(tmp_path / "t.csv"), columns=["a", "b"])
    array = Series(written(tmp_path, states))
    assert table.split("test").sha256 == array.split("test").sha256
    assert table.to_rows(torch.zeros(1, 2)) == {"a": [0.0], "b": [0.0]}
    assert array.to_rows(torch.zeros(1, 2)) is None
    assert "50 states in the order of time, a, b; rows: 32 train, 5 val, 10 test" in table.understood()[0]
    again = Series(str(tmp_path / "t.csv"))
    again.apply(table.schema())  # a run knows its columns
    assert again.spec.shape == (2,)
    assert len(again.whole()) == 49


@pytest.mark.parametrize(
    ("states", "options", "message"),
    [
        (np.array([[0.0], [np.nan], [1.0]]), {}, "state 1 .the first is 0. holds a number that is not finite"),
        (np.array(["a", "b"]), {}, "numbers of shape .T, D."),
        (np.array([1, 2**53 + 1]), {}, "holds the integer 9007199254740993, which float64 would round to"),
        (np.zeros((5, 2)), {"columns": ["a"]}, "data.columns=.* is of a table"),
        (np.zeros((5, 2)), {"columns": ["a", "a"]}, "data.columns names a twice"),
        (np.zeros((9, 2)), {"val": 0.4, "test": 0.5}, "data.val and data.test: 4 and 4 of 9 states"),
        (np.zeros((9, 2)), {"val": 0.5, "test": 0.6}, "data.val=0.5 and data.test=0.6 are shares"),
    ],
)
def test_what_is_no_series_is_refused_in_a_line(tmp_path, states, options, message):
    with pytest.raises((UsageError, ValueError), match=message):
        Series(written(tmp_path, states), **options).split("train")


def test_a_new_file_has_the_states_of_the_run(tmp_path):
    run = Series(written(tmp_path, np.random.RandomState(0).randn(40, 3)))
    other = Series(written(tmp_path, np.random.RandomState(0).randn(40, 2), "other.npy"))
    other.apply(run.schema())
    with pytest.raises(UsageError, match="has states of 2 numbers; the run's are of 3"):
        other.whole()


def test_the_clock_goes_on():
    dataset = ERA5UK(lags=2, clock=True, lead=1)
    assert dataset.spec.context == (4, 33, 49)
    for hour in range(24):
        y = torch.cat([dial(torch.tensor([hour])), torch.zeros(1, 1, 33, 49), torch.ones(1, 1, 33, 49)], 1)
        after = dataset.following(y, torch.full((1, 1, 33, 49), 2.0))
        assert torch.equal(after[:, :2], dial(torch.tensor([(hour + 1) % 24])))
        assert after[0, 2:, 0, 0].tolist() == [1.0, 2.0]
    assert ERA5UK(lags=2, lead=6).follows is None


@pytest.fixture(scope="module")
def era5(request):
    dataset = ERA5UK()
    if not dataset.path.is_file():
        pytest.skip("GENCLI_DATA has no era5_uk/t2m_2019-03.npz")
    return dataset


def test_era5_gives_the_known_errors_of_persistence_and_climatology(era5):
    t2m = era5.fields[0].double()
    test = t2m[-144:]
    for lead, wanted in ((1, 0.581), (6, 2.722), (24, 1.539)):
        found = (test - t2m[-144 - lead : -lead]).square().mean().sqrt()
        assert abs(float(found) - wanted) < 5e-4, lead
    assert abs(float((test - t2m[:600].mean(0)).square().mean().sqrt()) - 2.344) < 5e-4
    split = era5.split("test")
    assert len(split) == 144
    assert torch.equal(split.x, test.float())
    assert abs(float((split.x - split.y).double().square().mean().sqrt()) - 0.581) < 5e-4


def test_splits_of_era5_are_apart_in_time(era5):
    at = ERA5UK(lags=2, gap=6).times
    assert at["train"].stop + 6 == at["val"].start
    assert at["val"].stop + 6 == at["test"].start
    assert at["test"].stop == 744
    assert math.isclose(len(at["val"]), 72 + 2)
