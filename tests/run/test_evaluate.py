"""The number end to end: probabilities of all states add up to one through preprocessing and model, in data space."""

import json
import math

import pytest
import torch
from estimates import NOTHING, SOURCE

import gencli
from gencli.cli.main import main
from gencli.config import stored
from gencli.core.noise import Noise, StepNoise
from gencli.core.spec import Spec, Support
from gencli.data.preprocess import Preprocess
from gencli.data.split import TensorSplit, at_most
from gencli.estimators.base import Estimate, Shared
from gencli.estimators.exact import Exact
from gencli.models.base import ExactLikelihood
from gencli.models.flows.coupling import AffineCoupling
from gencli.nn.mlp import MLP
from gencli.run.record import nll_record
from gencli.run.scoring import Scores, held_out_streams, score_split

SPEC = Spec((2,), Support.parse("levels:4"))
CPU = torch.device("cpu")


class Grid(Noise):
    """u on a regular grid of cell centres instead of at random: dequantization by the midpoint rule."""

    def __init__(self, side):
        centres = (torch.arange(side) + 0.5) / side
        self.points = torch.cartesian_prod(centres, centres)

    def rand(self, *shape):
        return self.points.repeat(shape[0] // len(self.points), 1)

    def randn(self, *shape):
        raise AssertionError


def flow(preprocess):
    torch.manual_seed(0)
    net = lambda i, o, c: MLP(i, o, c, hidden=[8])  # noqa: E731
    model = AffineCoupling(preprocess.model_spec, mixing="random", net=net, couplings=3, marginal=5)
    model.initialize(preprocess(torch.randint(0, 4, (512, 2), dtype=torch.uint8), StepNoise(CPU, 0))[0])
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    return model.eval()


def test_a_subset_is_a_set_of_its_own():
    whole = TensorSplit(torch.arange(40.0)[:, None], torch.arange(40))
    some = at_most(whole, 7)
    batch = some.gather(torch.arange(7))
    assert len(some) == 7
    assert batch.x.flatten().unique(sorted=True).tolist() == batch.x.flatten().tolist()  # distinct, in order
    assert torch.equal(batch.x[:, 0].long(), batch.y)
    assert len({whole.sha256, some.sha256, at_most(whole, 8).sha256}) == 3
    assert at_most(whole, 7).sha256 == some.sha256
    assert at_most(whole, 40) is whole
    assert at_most(whole, None) is whole


@pytest.mark.slow
def test_examples_can_be_few(tmp_path, capsys):
    run = gencli.train(
        [
            "model=gaussian",
            "data=moons",
            "data.train=500",
            "data.test=400",
            "trainer.max_steps=1",
            f"run_dir={tmp_path}",
        ]
    )
    whole = run.results[0]
    assert main(["eval", f"run={tmp_path}", "examples=90"]) == 0
    record = json.loads((tmp_path / "eval" / "test-exact-examples=90.json").read_text())
    assert stored.record(tmp_path / "eval" / "test-exact.json") == whole
    assert (whole["n_examples"], record["n_examples"], record["n_split"]) == (400, 90, 400)
    assert "90 of 400 examples at random" in record["flags"]
    assert "flags" not in whole
    assert "90 of 400 examples at random" in capsys.readouterr().out
    assert record["split_sha256"] != whole["split_sha256"]
    assert abs(record["value"] - whole["value"]) < 5 * record["se_examples"]
    assert main(["eval", f"run={tmp_path}", "examples=0"]) == 2
    assert "examples=0: an integer of at least 1" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("transform", ["none", "scale", "logit", "standardize"])
def test_probabilities_of_all_states_add_up_to_one(transform):
    """P(x) is the integral of the density over the bin of x; mass outside [0, 4)^2 is the model's own loss."""
    preprocess = Preprocess(SPEC, ("real",), ("vector",), transform=transform, alpha=0.05)
    states = torch.cartesian_prod(torch.arange(4), torch.arange(4)).to(torch.uint8)
    preprocess.fit(TensorSplit(states))
    model, side = flow(preprocess), 300
    total = 0.0
    with torch.no_grad():
        for state in states:
            z, terms = preprocess(state.repeat(side * side, 1), Grid(side))
            total += float((model.log_prob(z) - sum(terms.values())).double().exp().mean())
        if transform == "logit":  # the image of [0, 1) is [logit alpha, logit 1 - alpha), not the whole line
            low, high = math.log(0.05 / 0.95), math.log(0.95 / 0.05)
        else:
            corners, _ = preprocess(torch.tensor([[0, 0], [3, 3]], dtype=torch.uint8), Corners())
            low, high = corners[0, 0].item(), corners[1, 0].item()
        n = 1200
        axis = low + (high - low) * (torch.arange(n) + 0.5) / n
        points = torch.cartesian_prod(axis, axis)
        inside = float(model.log_prob(points).double().exp().mean()) * (high - low) ** 2
    assert 0.05 < inside <= 1 + 1e-3
    assert total == pytest.approx(inside, rel=2e-3)


class Corners(Noise):
    """u = 0 for the first row and 1 for the second: the corners of the data's range."""

    def rand(self, *shape):
        return torch.tensor([[0.0], [1.0]]).expand(shape)

    def randn(self, *shape):
        raise AssertionError


def score(batch_size=100, draws=2):
    x = torch.randint(0, 4, (500, 2), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    preprocess = Preprocess(SPEC, ("real",), ("vector",), transform="logit", alpha=0.05)
    split = TensorSplit(x)
    return scores_of(flow(preprocess), preprocess, Exact(draws=draws), split, batch_size)


def scores_of(model, preprocess, estimator, split, batch_size, seed=0):
    return score_split(
        preprocess,
        lambda batch, noise: estimator.nll(model, batch, noise, NOTHING),
        split,
        streams=held_out_streams(seed, estimator.draws),
        device=CPU,
        batch_size=batch_size,
    )


def test_batch_size_does_not_matter():
    a, b = score(500), score(37)
    assert torch.allclose(a.nll, b.nll, atol=1e-6)
    assert torch.allclose(a.variance, b.variance, atol=1e-5)


def test_terms_add_up_to_the_nll():
    scores = score()
    assert torch.allclose(sum(scores.terms.values()), scores.nll, atol=1e-9)


def test_the_error_of_the_estimator_is_calibrated():
    """se_estimator of 4 draws predicts the spread of the mean over independent seeds."""
    x = torch.randint(0, 4, (200, 2), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    preprocess = Preprocess(SPEC, ("real",), ("vector",), transform="logit", alpha=0.05)
    model, split = flow(preprocess), TensorSplit(x)
    values, errors = [], []
    for seed in range(60):
        s = scores_of(model, preprocess, Exact(draws=4), split, 200, seed)
        values.append(float(s.nll.mean()))
        errors.append(float(s.variance.sum().sqrt() / len(s.nll)))
    spread = torch.tensor(values).std()
    assert float(spread / torch.tensor(errors).mean()) == pytest.approx(1, abs=4 / math.sqrt(2 * 59))


class Broken(ExactLikelihood):
    """Gives one example no probability at all."""

    def log_prob(self, x, y=None):
        return torch.where(x[:, 0] > 0.9, -math.inf, 0.0)


def test_a_non_finite_example_is_counted_not_dropped():
    data = Spec((2,), Support.parse("real"))
    preprocess = Preprocess(data, ("real",), ("vector",))
    split = TensorSplit(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.5]]))
    s = scores_of(Broken(data), preprocess, Exact(), split, 2)
    record = nll_record(s, shared=Shared("exact"), spec=data, **SOURCE)
    assert (record.value, record.n_nonfinite, record.n_examples) == (math.inf, 1, 3)


def test_an_estimators_own_variance_reaches_the_record():
    class Noisy(Exact):
        def nll(self, model, batch, noise, shared):
            n = len(batch.x)
            return Estimate(torch.ones(n), torch.full((n,), 0.09), {"ess": torch.full((n,), 5.0)})

    data = Spec((2,), Support.parse("real"))
    preprocess = Preprocess(data, ("real",), ("vector",))
    split = TensorSplit(torch.zeros(9, 2))
    s = scores_of(Broken(data), preprocess, Noisy(), split, 4)
    record = nll_record(s, shared=Shared("upper"), spec=data, **SOURCE)
    assert record.se_estimator == pytest.approx(0.3 / 3)
    assert record.diagnostics["ess"] == 5


def test_one_draw_of_the_dequantization_claims_no_error():
    assert score(draws=1).variance is None


def test_what_all_rows_share_does_not_average_out():
    nll = torch.ones(9, dtype=torch.float64)
    record = nll_record(
        Scores(nll, {"model": nll}, torch.full_like(nll, 0.09)),
        shared=Shared("lower", variance=0.15, diagnostics={"log_z": 7.0}),
        spec=Spec((2,), Support.parse("real")),
        **SOURCE,
    )
    assert record.se_estimator == pytest.approx(math.sqrt(0.01 + 0.15))
    assert record.diagnostics["log_z"] == 7
