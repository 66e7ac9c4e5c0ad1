"""Values that repeat: what is discrete in truth is named, what is rounded gets a word, what is continuous nothing."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from data_sets import FETCHED, needs_files

from gencli.core.spec import Spec, Support
from gencli.data.preprocess import Preprocess
from gencli.data.sets.toys import Toy
from gencli.data.split import TensorSplit
from gencli.data.statistics import Repeats

RNG = np.random.RandomState(0)
NORMAL = RNG.randn(400, 2)


def of(x):
    return Repeats.of(TensorSplit(torch.as_tensor(np.asarray(x, dtype=float)).float()))


def beside(column):
    return np.stack([NORMAL[:, 0], np.resize(column, 400)], 1)


UNBOUNDED = [
    (
        RNG.randint(0, 2, (400, 2)),
        r"coordinate [01] is [01] in 5.% of the training rows and has 2 distinct values \(and 1",
    ),
    (beside(np.where(RNG.rand(400) < 0.45, 0, RNG.randn(400))), r"coordinate 1 is 0 in 4.% of the training rows"),
    (beside(RNG.randint(70, 83, 400)), r"coordinate 1 is \d+ in 1?\d% of the training rows and has 13 distinct values"),
    (np.repeat(NORMAL[:130], 3, 0), r"67% of the training rows are copies of others; leave copies out$"),
    (beside([7]), r"coordinate 1 is constant \(7\)"),
]


@pytest.mark.parametrize(("x", "text"), UNBOUNDED)
def test_what_is_discrete_in_truth_is_named(x, text):
    said = of(x).unbounded()
    assert said.startswith("the likelihood has no upper limit: ")
    assert re.search(text, said), said


def test_what_is_continuous_is_not_flagged():
    for found in (of(NORMAL), of(NORMAL[:20]), Repeats.of(Toy("moons").split("train"))):
        assert (found.unbounded(), found.rounded()) == (None, None)


def test_rounded_data_get_a_word():
    found = of(NORMAL.round(1))
    assert found.unbounded() is None
    assert found.rounded().startswith("2 of 2 coordinates repeat values, as rounded data do: coordinate ")


@needs_files
def test_real_tables():
    import pandas as pd

    penguins = pd.read_csv(Path(FETCHED) / "tables" / "penguins.csv").select_dtypes("number").dropna()
    assert of(penguins).unbounded() is None
    mpg = pd.read_csv(Path(FETCHED) / "tables" / "mpg.csv").select_dtypes("number").dropna()
    discrete = [name for name, flag in zip(mpg, of(mpg).discrete.tolist(), strict=True) if flag]
    assert discrete == ["cylinders", "model_year"]
    assert of(np.load(Path(FETCHED) / "miniboone_fragment" / "miniboone_first1523.npy")).unbounded() is None


def test_what_was_found_goes_with_the_checkpoint():
    p = Preprocess(Spec((2,), Support("real")), ("real",), ("vector",))
    assert p.fit(TensorSplit(torch.from_numpy(NORMAL).float())) is None
    assert (p.unbounded, "repeats" in p.state_dict()) == (None, False)
    p.fit(TensorSplit(torch.from_numpy(beside([0.0, 1.0])).float()))
    copy = Preprocess(p.spec, ("real",), ("vector",))
    copy.load_state_dict(p.state_dict())
    assert copy.unbounded == p.unbounded
    assert "coordinate 1 is 0 in 50% of the training rows" in p.unbounded


def test_a_constant_coordinate_of_vectors_is_refused():
    p = Preprocess(Spec((2,), Support("real")), ("real",), ("vector",))
    with pytest.raises(
        ValueError, match=r"^data: coordinate 1 is constant \(7\) in training: no density has a limit there"
    ):
        p.fit(TensorSplit(torch.from_numpy(beside([7.0])).float()))


def test_one_example_of_reals_is_refused():
    p = Preprocess(Spec((2,), Support("real")), ("real",), ("vector",))
    with pytest.raises(ValueError, match=r"^data: one example in training: no density of reals has a limit there"):
        p.fit(TensorSplit(torch.tensor([[1.5, 2.0]])))


def test_one_example_of_integers_is_refused_as_reals_only():
    one, spec = TensorSplit(torch.ones(1, 2)), Spec((2,), Support("binary", 2))
    with pytest.raises(ValueError, match=r"one example in training: .*, or a model whose x is binary"):
        Preprocess(spec, ("real",), ("vector",)).fit(one)
    assert Preprocess(spec, ("binary",), ("vector",)).fit(one) is None
