"""Arrays as people have them: read as the numbers that they are, or refused in one line."""

import numpy as np
import pytest
import torch
from data_sets import LONG, QUICK, again, one_line, refused, save
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gencli.core.errors import UsageError
from gencli.data.mapped import MappedSplit
from gencli.data.sets.array import Array

SPLITS = ("train", "val", "test")


def rows(n=20, d=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


X = rows()
LABELS = [
    (np.arange(20) % 3 + 1, ["1", "2", "3"]),
    (np.arange(20) % 2 + 10**6, ["1000000", "1000001"]),
    (np.arange(20)[:, None] % 12, [str(k) for k in range(12)]),
    (np.array([str(k % 12) for k in range(20)]), [str(k) for k in range(12)]),
    (np.array(["dog", "cat"] * 10), ["cat", "dog"]),
    (np.array([b"dog", b"cat"] * 10), ["cat", "dog"]),
    (np.array([2.0, -1.0] * 10), ["-1", "2"]),
    (np.array([True, False] * 10), ["0", "1"]),
    (np.array([7, 9] * 10, ">u2"), ["7", "9"]),
]


@pytest.mark.parametrize(("labels", "names"), LABELS, ids=lambda v: str(v)[:20] if isinstance(v, list) else v.dtype.str)
def test_labels_of_any_values_are_numbered_and_their_names_kept(labels, names, tmp_path):
    data = Array(save(tmp_path / "a.npz", x=X, labels=labels))
    assert (data.spec.classes, data.class_names()) == (len(names), names)
    whole = data.whole()
    text = [v.decode() if isinstance(v, bytes) else v for v in labels.reshape(-1).tolist()]
    assert [names[k] for k in whole.y.tolist()] == [v if isinstance(v, str) else str(int(v)) for v in text]
    assert sorted(torch.cat([data.split(s).x for s in SPLITS])[:, 0].tolist()) == sorted(whole.x[:, 0].tolist())


REFUSED = [
    ({"x": X, "labels": np.ones((20, 2), int)}, "labels holds int64 of shape (20, 2): one class a row (of one-hot"),
    ({"x": X, "labels": np.array(3)}, "key 'labels' cannot be read: it is a single value"),
    ({"x": X, "labels": np.zeros(19, int)}, "x has 20 examples, but labels 19 rows"),
    ({"x": X, "labels": np.array([1.5, np.nan] * 10)}, "labels holds float64 of shape (20, 1); a context of 1 reals,"),
    ({"x": X, "labels": np.array([1j] * 20)}, "labels holds complex128 of shape (20,): one class a row"),
    ({"x": X, "labels": np.array(["a", 1] * 10, object)}, "key 'labels' cannot be read: it holds Python objects"),
    ({"x": X + 1j}, "x holds complex128 of shape (20, 3), not numbers"),
    ({"x": np.zeros(20, [("a", "f4"), ("b", "f4")])}, "x holds [('a', '<f4'), ('b', '<f4')] of shape (20,), not"),
    ({"x": np.arange(20).astype("m8[s]")}, "x holds timedelta64[s] of shape (20,), not numbers"),
    ({"x": np.array(["a"] * 20)}, "x holds <U1 of shape (20,), not numbers"),
    ({"x": np.zeros((2, 2, 2, 2, 2))}, "x is an array of shape (2, 2, 2, 2, 2): (N,), (N, D), (N, H, W),"),
    ({"train": X, "valid": X}, "key 'valid' is not read (splits are train, val, test, their labels train_labels, "),
    ({"train": X, "Validation": X}, "key 'Validation' is not read"),
    ({"train": X, "labels": np.ones(20)}, "key 'labels' is not read"),
    ({"train": X, "train_label": np.ones(20)}, "key 'train_label' is not read"),
    ({"train": X, "train_labels": np.arange(20), "val_labels": np.arange(20)}, "key 'val_labels' is not read"),
    ({"x_train": X, "y_train": X}, "key 'train' is needed, or one array (its labels are 'labels'); found x_train, y"),
    ({"val": X, "test": X}, "key 'train' is needed, or one array; found val, test"),
    ({"train": X, "train_labels": np.arange(20), "test": X}, "labels for all splits or for none; found train_labels,"),
    (
        {"train": X, "train_labels": np.arange(20), "test": X, "test_labels": X[:, 0]},
        "the labels of one split are classes, those of another a context",
    ),
]


@pytest.mark.parametrize(("arrays", "text"), REFUSED, ids=lambda v: v[:30] if isinstance(v, str) else "")
def test_arrays_that_cannot_be_read(arrays, text, tmp_path):
    path = save(tmp_path / "a.npz", **arrays)
    with pytest.raises(UsageError) as caught:
        [Array(path).split(name) for name in SPLITS]
    assert str(caught.value).startswith(f"data.path={path}: {text}")
    one_line(caught.value)


@pytest.mark.parametrize("memory", [4, 0])
def test_integers_that_float64_does_not_hold_are_refused(tmp_path, memory):
    """And integers of any size are whole numbers, of which the user says what they are."""
    path, big = tmp_path / "a.npy", 2**53 + 1
    for last, dtype in ((big, np.int64), (-big, np.int64), (2**63 - 1, np.int64), (2**64 - 1, np.uint64), (big, ">u8")):
        np.save(path, np.array([[1, 2]] * 11 + [[1, last]], dtype))
        ends = f"{min(last, 1)} to {max(last, 2)}"
        with refused(f"data.path={path} holds whole numbers from {ends}: say data.support=real"):
            Array(str(path), memory=memory).split("train")
        data = Array(str(path), support="real", val=0, test=0, memory=memory)
        with pytest.raises(UsageError, match=rf"train.* holds the integer {last}, which float64 would round to"):
            data.split("train")
    np.save(path, np.array([[1, 2]] * 11 + [[2**53, 2**63]], np.uint64))
    held = Array(str(path), support="real", val=0, test=0, memory=memory)
    assert held.split("train").gather(torch.arange(12)).x.max() == 2.0**63
    with pytest.raises(UsageError, match=r"does not fit data.support=levels:9: it needs integers from 0 to 8"):
        Array(str(path), support="levels:9", memory=memory).split("train")


def test_shares_that_leave_nothing_for_training(tmp_path):
    path = save(tmp_path / "a.npz", x=X[:3], labels=np.zeros(3, int))
    assert len(Array(path, val=0.5).split("val")) == 2
    with pytest.raises(UsageError, match=r"data.val=0.5 and data.test=0.4 of 3 examples leave none for training$"):
        Array(path, val=0.5, test=0.4).split("val")


def test_a_new_array_is_read_as_the_training_file_was(tmp_path):
    first = Array(save(tmp_path / "a.npz", train=X, train_labels=np.arange(20) % 3 + 1))
    kept = again(first)
    lost = Array(str(tmp_path / "lost.npz"))
    lost.apply(kept)
    assert (lost.spec, lost.class_names()) == (first.spec, ["1", "2", "3"])

    new = Array(save(tmp_path / "b.npz", test=X[:4], test_labels=["3", "1", "3", "2"], ids=np.arange(4)))
    new.apply(kept)
    assert new.whole().y.tolist() == [2, 0, 2, 1]
    assert new.split("train") is None
    assert new.understood() == ["b: keys that are not read: ids"]
    plain = Array(save(tmp_path / "c.npz", test=X[:4].astype(">f4")))
    plain.apply(kept)
    assert plain.whole().y is None  # a model without labels needs none

    strange = Array(save(tmp_path / "d.npz", test=X[:1], test_labels=[4]))
    strange.apply(kept)
    with refused(f"data.path={tmp_path}/d.npz: test_labels has 4, which is no class of train. There is: 1, 2, 3."):
        strange.whole()
    wide = Array(save(tmp_path / "e.npz", test=X[:, :2]))
    wide.apply(kept)
    with refused(f"data.path={tmp_path}/e.npz: test has examples of shape (2,), train of (3,)"):
        wide.whole()


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [0]},
        {"shape": 3},
        {"shape": [True]},
        {"context": "1"},
        {"context": -1},
        {"classes": ["1", "1"]},
        {"classes": "ab"},
        {"support": "levels:x"},
        {"support": 3},
    ],
    ids=str,
)
def test_a_damaged_schema_is_refused(change):
    with pytest.raises(UsageError, match=r"^data.json does not fit the run's data: "):
        Array("a.npz").apply({"shape": [3], "support": "real", "classes": ["1", "2"], "context": 0} | change)


def test_runs_older_than_schemas_read_labels_as_they_did(tmp_path):
    data = Array(save(tmp_path / "a.npz", x=X, labels=np.arange(20) % 3 + 1))
    data.older()
    assert data.spec.classes == 4
    assert data.whole().y.tolist() == (np.arange(20) % 3 + 1).tolist()
    floats = Array(save(tmp_path / "b.npz", x=X, labels=np.arange(20.0)))
    floats.older()
    assert (floats.spec.classes, floats.spec.context) == (None, (1,))


DTYPES = [
    "<f8",
    ">f8",
    "<f4",
    ">f4",
    "<f2",
    ">f2",
    "g",
    "?",
    "u1",
    "i1",
    "<i2",
    ">i2",
    "<u2",
    ">u2",
    ">u4",
    "<u8",
    ">i8",
]
SHAPES = [(), (3,), (4, 5), (1, 4, 5), (3, 4, 5), (2, 5, 3), (6, 5, 3), (6, 5, 1), (5, 5, 4), (8, 4, 4), (5, 3, 3)]
TURNED = {(6, 5, 3), (6, 5, 1), (5, 5, 4)}


@st.composite
def arrays(draw):
    n, shape = draw(st.integers(4, 9)), draw(st.sampled_from(SHAPES))
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 120, (n, *shape))
    dtype = draw(st.sampled_from(DTYPES))
    return np.asarray(values % 2 if dtype == "?" else values).astype(dtype, order=draw(st.sampled_from("CF")))


def check_array(tmp_path, x, other, labels):
    """x and its labels are read as they are; and the same numbers in the type of ``other``, as those of a new file."""
    if labels is None:
        np.save(tmp_path / "a.npy", x)
        path = tmp_path / "a.npy"
    else:
        path = save(tmp_path / "a.npz", data=x, labels=labels[: len(x)])
    data = Array(str(path), support=None if x.dtype.kind in "fb" or x.dtype == np.uint8 else "levels:120")
    expected = np.moveaxis(x, -1, 1) if x.shape[1:] in TURNED else x[:, None] if x.ndim in (1, 3) else x
    assert data.spec.shape == expected.shape[1:]
    whole = data.whole()
    assert np.array_equal(whole.x.double().numpy(), expected.astype("f8"))
    if labels is not None:
        assert [data.class_names()[k] for k in whole.y.tolist()] == [str(v) for v in labels[: len(x)].tolist()]
    parts = [part for name in SPLITS if (part := data.split(name)) is not None]
    assert sorted(torch.cat([part.x for part in parts]).flatten(1).tolist()) == sorted(whole.x.flatten(1).tolist())

    new = Array(save(tmp_path / "b.npz", train=np.asfortranarray(x.astype(other))), support=None)
    new.apply(again(data))
    assert torch.equal(new.whole().x, whole.x)


@pytest.mark.slow
@QUICK
@given(
    arrays(),
    st.sampled_from(["<f8", ">f8", ">i8", "<u2", "f4"]),
    st.none() | st.lists(st.integers(-5, 400), min_size=9, max_size=9),
)
def test_arrays_of_any_type_order_and_shape_are_read_as_they_are(tmp_path, x, other, labels):
    check_array(tmp_path, x, other, None if labels is None else np.array(labels))


KEYS = st.sampled_from(["train", "val", "test", "train_labels", "test_labels", "labels", "valid", "x", "y", "arr_0"])
ANY = st.one_of(
    hnp.arrays(
        st.one_of(hnp.scalar_dtypes(), hnp.byte_string_dtypes(), hnp.unicode_string_dtypes(), hnp.array_dtypes()),
        hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3),
    ),
    hnp.arrays(st.sampled_from([np.int64, np.float64, np.uint8]), hnp.array_shapes(min_dims=1, max_dims=3, max_side=5)),
)


def check_any(tmp_path, found, support):
    path = save(tmp_path / "a.npz", **found)
    try:
        data = Array(path, support=support)
        assert [part.x.shape[1:] for name in SPLITS if (part := data.split(name)) is not None]
        assert data.whole() is not None
        data.understood()
    except (UsageError, ValueError) as error:
        one_line(error)


@pytest.mark.slow
@LONG
@given(st.dictionaries(KEYS, ANY, max_size=4), st.sampled_from([None, "real", "binary", "levels:9", "unit"]))
def test_many_arrays_are_read_or_take_one_line(tmp_path, found, support):
    check_any(tmp_path, found, support)


def test_what_was_understood_is_said(tmp_path):
    x = np.zeros((20, 6, 5, 3), np.uint8)
    data = Array(save(tmp_path / "a.npz", train=x, train_labels=np.arange(20.0) % 2, val=x[:0], val_labels=[], ids=[1]))
    assert [data.split(name) is None for name in SPLITS] == [False, True, True]
    assert data.understood() == [
        "a: 20 train, no val, no test images of 3 x 6 x 5 (C, H, W), of (H, W, C), levels:256; 2 classes: 0, 1 "
        "(floats, but whole numbers; of shape (N, 1) they would be a context)",
        "a: keys that are not read: ids",
    ]


def test_a_whole_array_is_as_precise_as_its_training_split(tmp_path):
    x = 1e8 + np.arange(40).reshape(20, 2) / 4
    data = Array(save(tmp_path / "a.npz", x=x))
    data.split("train")
    assert torch.equal(data.whole().x, torch.from_numpy(x))
    near = Array(save(tmp_path / "b.npz", x=X))
    assert (near.whole().x.dtype, near.split("val").x.dtype) == (torch.float32, torch.float32)


@pytest.mark.parametrize(
    "x",
    [
        np.random.default_rng(0).standard_normal((300, 3)),
        1e6 + np.random.default_rng(0).standard_normal((300, 3)),  # which float32 would round
        np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8),
        np.random.default_rng(0).standard_normal((300, 2)).astype(">f4"),
    ],
)
def test_a_large_array_is_not_read_whole_and_has_the_same_examples(x, tmp_path):
    np.save(tmp_path / "x.npy", x)
    small, large = (Array(str(tmp_path / "x.npy"), memory=memory) for memory in (4, 0))
    native = x.dtype.isnative
    for name in ("train", "val", "test"):
        there, mapped = small.split(name), large.split(name)
        assert isinstance(mapped, MappedSplit) == native  # bytes of another order are turned round as a whole
        index = torch.randperm(len(there))
        assert torch.equal(there.gather(index).x, mapped.gather(index).x)
        assert there.gather(index).x.dtype == mapped.gather(index).x.dtype
        assert there.sha256 == mapped.sha256
        base = mapped.x
        while native and not isinstance(base, np.memmap):
            base = base.base
    assert small.whole().sha256 == large.whole().sha256
    assert small.schema() == large.schema()


def test_a_large_array_is_refused_as_a_small_one(tmp_path):
    x = np.zeros((100, 2))
    x[17, 1] = np.nan
    np.save(tmp_path / "x.npy", x)
    for memory in (4, 0):
        with pytest.raises(UsageError, match=r"train.* holds 1 values that are not finite \(NaN or infinite\)"):
            Array(str(tmp_path / "x.npy"), val=0, test=0, memory=memory).split("train")
