"""Data that float32 would change: far from zero, in steps finer than it has, beyond its range; x and context alike."""

import math

import numpy as np
import pytest
import torch
from data_sets import refused, save

from gencli.core.errors import UsageError
from gencli.core.integers import ADVICE
from gencli.core.spec import Batch, Spec, Support
from gencli.data.preprocess import Preprocess
from gencli.data.sets.array import Array
from gencli.data.split import TensorSplit

REAL = Support("real")
RNG = np.random.RandomState(0)
NORMAL = RNG.randn(400, 2)


def chain(x, y=None, transform="standardize", support="real"):
    split = TensorSplit(torch.as_tensor(x), None if y is None else torch.as_tensor(y))
    spec = Spec(tuple(split.x.shape[1:]), Support.parse(support), context=0 if y is None else split.y.shape[1])
    p = Preprocess(spec, ("real",), ("vector",), transform=transform)
    p.fit(split)
    return p, split.x


@pytest.mark.parametrize(("scale", "offset"), [(1, 1e8), (1, -1e11), (1e39, 0), (1e-42, 0), (0.5, 1.7e9), (1e150, 0)])
def test_scaled_data_give_the_same_z_and_the_nll_of_their_units(scale, offset, tmp_path):
    np.save(tmp_path / "a.npy", offset + scale * NORMAL)
    data = Array(str(tmp_path / "a.npy"))
    assert {data.split(name).x.dtype for name in ("val", "test", "train")} == {torch.float64}
    x = data.split("train").x
    p, _ = chain(x)
    z, terms = p(x)
    assert z.dtype == torch.float32
    kept = (x.double() - offset) / scale
    torch.testing.assert_close(z, ((kept - kept.mean(0)) / kept.std(0, correction=0)).float(), rtol=1e-5, atol=1e-5)
    assert terms["standardize log|det|"][0].item() == pytest.approx(
        kept.std(0, correction=0).log().sum().item() + 2 * math.log(scale), rel=1e-6
    )
    back = p.inverse(z)
    assert back.dtype == torch.float64
    torch.testing.assert_close((back - offset) / scale, kept, rtol=0, atol=1e-5)
    copy = Preprocess(p.spec, ("real",), ("vector",), transform="standardize")
    copy.load_state_dict(p.state_dict())
    assert copy.precise
    assert torch.equal(copy(x)[0], z)


def test_half_seconds_of_unix_time_stay_apart(tmp_path):
    np.save(tmp_path / "a.npy", 1.7e9 + 0.5 * np.arange(60.0))
    data = Array(str(tmp_path / "a.npy"), val=0, test=0)
    p, x = chain(data.split("train").x)
    assert len(p(x)[0].unique()) == 60


def test_ordinary_data_are_float32_in_all_splits(tmp_path):
    path = save(tmp_path / "a.npz", x=NORMAL, labels=1000 + RNG.randn(400, 1))
    data = Array(path)
    for name in ("test", "train"):
        assert (data.split(name).x.dtype, data.split(name).y.dtype) == (torch.float32, torch.float32)
    p, x = chain(data.split("train").x)
    z, _ = p(x)
    assert not p.precise
    assert torch.equal(z, (x - p.mean) / p.std)  # as ever, to the bit


def test_the_training_split_decides_for_all_splits_and_for_new_files(tmp_path):
    path = save(tmp_path / "a.npz", train=1e8 + NORMAL, val=NORMAL[:3], test=np.full((2, 2), 1e8 + 0.25))
    data = Array(path)
    assert {data.split(name).x.dtype for name in ("train", "val", "test")} == {torch.float64}
    opened = Array(save(tmp_path / "c.npz", train=np.full((1, 2), 1e8 + 0.25), test=np.full((1, 2), 1e8 + 0.5)))
    opened.keep_float64(True, False)  # as the run says
    assert opened.split("test").x.tolist() == [[1e8 + 0.5] * 2]
    narrow = save(tmp_path / "b.npz", train=NORMAL, test=np.full((2, 2), 1e39))
    with refused(
        "data=b: its split test cannot be read: a value is beyond float32 (3.4e38), in which the training split is kept"
    ):
        Array(narrow).split("test")


def test_a_few_values_far_away_do_not_hide_what_rounding_does_to_the_others():
    x = torch.cat([1.7e9 + torch.arange(60.0).double(), torch.zeros(1).double()])[:, None]
    with pytest.raises(
        ValueError, match=r"^data.transform=standardize: float32 moves coordinate 0 .* a few that lie far"
    ):
        chain(x)


@pytest.mark.parametrize(
    ("x", "support", "text"),
    [
        (
            1e8 + NORMAL,
            "real",
            r"^data.transform=none: float32 moves coordinate [01] of the training data by .*standardize",
        ),
        (1e39 * NORMAL, "real", r"^data.transform=none: .*standardize computes in float64"),
        (
            10**8 - 1 - RNG.randint(0, 9, (99, 1)),
            "levels:100000000",
            r"^data.transform=none: .* than levels:100000000$",
        ),
    ],
)
def test_what_rounding_would_change_is_refused_without_standardize(x, support, text):
    with pytest.raises(ValueError, match=text):
        chain(x, transform="none", support=support)
    p, x = chain(x, support=support)
    assert p.precise


def test_sixteen_bits_pass():
    p, _ = chain(RNG.randint(0, 65536, (500, 3)), transform="scale", support="levels:65536")
    assert not p.precise


# --- the context -----------------------------------------------------------------------------------------------------


def test_a_context_is_standardised_whatever_its_units():
    contexts = [RNG.randn(400, 2)]
    contexts += [1e6 * contexts[0] + 1e7, 1e12 + contexts[0]]
    seen = []
    for y in contexts:
        p, x = chain(NORMAL.astype(np.float32), y=y)
        batch, _ = p.batch(Batch(x, torch.as_tensor(y)))
        assert batch.y.dtype == torch.float32
        torch.testing.assert_close(batch.y.std(0, correction=0), torch.ones(2), rtol=1e-5, atol=0)
        seen.append(batch.y)
        copy = Preprocess(p.spec, ("real",), ("vector",), transform="standardize")
        copy.load_state_dict(p.state_dict())
        assert torch.equal(copy.context(torch.as_tensor(y)), batch.y)
    for y in seen[1:]:
        torch.testing.assert_close(y, seen[0], rtol=0, atol=1e-3)


def test_a_run_from_before_gets_its_context_as_it_is():
    p, _ = chain(NORMAL.astype(np.float32), y=RNG.randn(400, 2))
    old = {name: t for name, t in p.state_dict().items() if "context" not in name}
    p.load_state_dict(old)
    assert torch.equal(p.context(torch.full((3, 2), 7.5)), torch.full((3, 2), 7.5))


def test_a_constant_context_is_refused():
    with pytest.raises(
        ValueError, match=r"^data.context: coordinate 1 of the context is constant in training: leave it"
    ):
        chain(NORMAL, y=np.stack([RNG.randn(400), np.ones(400)], 1))


def test_a_context_is_checked_in_one_place():
    p, _ = chain(NORMAL, y=RNG.randn(400, 2).astype(np.float32))
    for y in (torch.ones(3, 2), np.ones((3, 2)), [[1, 1]] * 3):
        assert p.checked_context(y, 3).tolist() == [[1, 1]] * 3
    for y, text in (
        (np.ones((3, 1)), "y has shape (3, 1); contexts of 3 rows have (3, 2)"),
        ([[1, 2], [3]], "y: its rows differ in length"),
        ([["a", "b"]], "y: numbers are needed, not <U1"),
        (
            np.array([[1, 2**53 + 1]]),
            f"y holds the integer {2**53 + 1}, which float64 would round to {2**53}: {ADVICE}",
        ),
        ([[1, math.nan]], "y holds a value that is not finite (NaN or infinite)"),
    ):
        with refused(text):
            p.checked_context(y, 1 if len(y) == 1 else 3)
    far, _ = chain(NORMAL, y=1e12 + RNG.randn(400, 1))
    assert far.checked_context([1e12], 1).tolist() == [[1e12]]
    with refused("y is float32, which is too coarse for this context: give float64"):
        far.checked_context(torch.ones(2, 1), 2)


def test_classes_are_checked_in_the_same_place():
    p = Preprocess(Spec((2,), REAL, classes=3), ("real",), ("vector",))
    assert p.checked_context(np.array([0.0, 2.0]), 2).dtype == torch.long
    for y in ([0, 3], [-1, 0], [0.5, 1]):
        with refused("y holds something else than the classes 0 to 2"):
            p.checked_context(y, 2)
    with pytest.raises(UsageError, match=r"^y has shape \(1,\); classes of 2 rows have \(2,\)$"):
        p.checked_context([1], 2)
