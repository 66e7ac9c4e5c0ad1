"""What a number means must not depend on the units of x or y, nor on what Python gives them as."""

import numpy as np
import pytest
import torch
from data_sets import refused, save

import gencli
from gencli.cli.main import main

RNG = np.random.RandomState(0)
Y = RNG.randn(200, 1)
X = np.concatenate([Y + 0.1 * RNG.randn(200, 1), RNG.randn(200, 1)], 1)
QUICK = ["logger=none", "device=cpu", "n=0", "trainer.eval_every=20", "trainer.batch_size=40", "trainer.max_steps=20"]
FLOW = ["model=realnvp", "model.conditional=true", "model.net.vector.hidden=[8]", "model.couplings=2"]


def trained(tmp_path, name, *words, **arrays):
    path = save(tmp_path / f"{name}.npz", **arrays)
    return gencli.train([*QUICK, "data=array", f"data.path={path}", *words, f"run_dir={tmp_path}/{name}"])


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    """A flow on (x, y), and one on the same in other units."""
    folder = tmp_path_factory.mktemp("units")
    words = [*FLOW, "data.transform=standardize"]
    return (
        trained(folder, "own", *words, x=X, labels=Y),
        trained(folder, "other", *words, x=1e8 + 100 * X, labels=1e7 + 1e6 * Y),
    )


def test_an_nll_follows_from_the_units(conditional):
    own, other = conditional
    a, b = (run.nll(split="test")["value"] for run in conditional)
    assert b == pytest.approx(a + 2 * np.log(100), abs=2e-4)
    assert other.parts.preprocess.precise
    assert not own.parts.preprocess.precise


def test_a_run_far_from_zero_says_the_same_when_it_is_opened(conditional):
    run = gencli.load(conditional[1].path)
    kept = np.load(run.path / "eval" / "test-exact.npz")["nll"]
    batch = run.parts.dataset.split("test").gather(torch.arange(len(kept)))
    assert batch.x.dtype == torch.float64
    assert torch.equal(-run.log_prob(batch.x, batch.y), torch.from_numpy(kept))
    samples = run.sample(50, y=np.full((50, 1), 1e7))
    assert samples.dtype == torch.float64
    assert abs(samples.mean().item() - 1e8) < 100


def test_python_takes_tensors_arrays_and_lists(conditional):
    own, other = conditional
    x, y = X[:4].astype(np.float32), Y[:4].astype(np.float32)
    told = own.log_prob(torch.from_numpy(x), torch.from_numpy(y))
    assert torch.equal(own.log_prob(x, y, ids=np.arange(4)), told)
    torch.testing.assert_close(own.log_prob(x.tolist(), y[:, 0].tolist(), ids=[3, 2, 1, 0]), told, rtol=0, atol=1e-4)
    assert torch.equal(own.sample(4, y=y), own.sample(4, y=torch.from_numpy(y)))
    for call, text in (
        (
            lambda: own.log_prob(x),
            "this model is conditional: log_prob(x, y) needs a label or context for each row of x",
        ),
        (lambda: own.log_prob(x, y[:2]), "y has shape (2, 1); contexts of 4 rows have (4, 1)"),
        (lambda: own.sample(4, y=np.ones((4, 3))), "y has shape (4, 3); contexts of 4 rows have (4, 1)"),
        (lambda: own.log_prob([["a", "b"]], [1.0]), "x: numbers are needed, not <U1"),
        (lambda: other.log_prob(x, Y[:4]), "x is float32, which is too coarse for this data: give float64"),
        (
            lambda: other.log_prob(np.full((4, X.shape[1]), 2**53 + 1), Y[:4]),
            f"x holds the integer {2**53 + 1}, which float64 would round to {2**53}: rescale, or take differences",
        ),
        (
            lambda: other.log_prob(np.full((4, X.shape[1]), 2**63, dtype=np.uint64), Y[:4]),
            "x: 9223372036854775808 is more than integers of 64 bits with a sign hold",
        ),
    ):
        with refused(text):
            call()


def test_a_context_that_no_one_is_told_is_refused_before_anything_is_written(tmp_path, capsys):
    path = save(tmp_path / "a.npz", x=X, labels=Y)
    assert main(["train", *QUICK, "model=gaussian", "data=array", f"data.path={path}", f"run_dir={tmp_path}/r"]) == 2
    assert (
        "error: data.context: this model would not be told the data's context of 1 numbers" in capsys.readouterr().err
    )
    assert not (tmp_path / "r").exists()


def test_a_likelihood_without_a_limit_is_said_wherever_its_number_is(tmp_path, capsys):
    run = trained(tmp_path, "bits", "model=gaussian", x=RNG.randint(0, 2, (200, 2)).astype(float))
    assert main(["eval", f"run={run.path}", "split=val"]) == 0
    assert main(["compare", str(run.path)]) == 0
    said = capsys.readouterr()
    assert said.out.count("exact; unbounded likelihood)") == 2
    assert "likelihood" in said.out.rpartition("bits, test split")[2]
    assert said.out.count("the likelihood has no upper limit: coordinate") == 3
    assert all(record["flags"] == ["unbounded likelihood"] for record in run.results)
    with refused("y: this model is not conditional, so that y would change nothing (model.conditional=true)"):
        run.log_prob([[0.0, 1.0]], [1.0])


@pytest.mark.slow
def test_a_teacher_that_was_told_another_context_is_refused(tmp_path):
    field = [
        "model=flow_matching",
        "model.conditional=true",
        "model.net.vector.width=8",
        "estimator=null",
        "sampler=null",
    ]
    teacher = trained(tmp_path, "teacher", *field, x=X, labels=Y)
    student = [*field, "objective=reflow", f"objective.teacher={teacher.path}", "objective.pairs=40"]
    trained(tmp_path, "same", *student, x=X, labels=Y)
    with refused(f"the run {teacher.path} was told its context on another scale: train it anew"):
        trained(tmp_path, "other", *student, x=X, labels=2 * Y)
