"""Completion by samplers of time fields, where p(rest | given) is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from fields import PATHS, NormalField, gaussian, three
from PIL import Image

import gencli
from gencli.cli import main as cli
from gencli.core.errors import UsageError
from gencli.core.noise import RowNoise
from gencli.core.regions import region
from gencli.core.spec import Given, Spec, Support
from gencli.models.trained import Learned
from gencli.paths.schedules import VP, Straight
from gencli.samplers.diffusion.ddim import DDIM, DDPM
from gencli.samplers.diffusion.edm import EDM
from gencli.samplers.diffusion.sde import EulerMaruyama, PredictorCorrector


def noise(n, seed=0):
    return RowNoise(seed, torch.arange(n))


def complete(sampler, field, at: dict[int, float], n: int, seed: int = 1) -> torch.Tensor:
    """n completions of a vector of which ``at`` is known."""
    x, mask = torch.zeros(n, *field.spec.shape), torch.zeros(n, *field.spec.shape, dtype=torch.bool)
    for k, value in at.items():
        x[:, k], mask[:, k] = value, True
    out = sampler.sample(field, n, None, noise(n, seed), given=Given(x, mask)).x
    assert torch.equal(out[mask], x[mask])
    return out.double()


PAIR = torch.tensor([0.3, -0.2]), torch.tensor([[1.0, 0.8], [0.8, 1.0]])
TRIPLE = torch.zeros(3), torch.tensor([[1.0, 0.7, 0.3], [0.7, 1.0, 0.6], [0.3, 0.6, 1.0]])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "path", "normal", "at"),
    [
        (lambda: EulerMaruyama(steps=12, resample=40), VP(), PAIR, {0: 1.5}),
        (lambda: EulerMaruyama(steps=12, resample=40), PATHS["cosine"](), TRIPLE, {0: 1.0, 2: -1.0}),
        (lambda: PredictorCorrector(steps=12, resample=20), VP(), PAIR, {1: -1.0}),
    ],
    ids=["pair", "triple_cosine", "corrected"],
)
def test_resampled_completions_follow_the_conditional(make, path, normal, at):
    """Mean and variance of normal data within 3 standard errors, and 0.02 for the steps and the rest of 1/resample."""
    field, n = NormalField(path, *normal), 700
    rest = [k for k in range(field.spec.dim) if k not in at]
    found = complete(make(), field, at, n)[:, rest]
    mean, cov = field.rest_given(list(at), torch.tensor([list(at.values())]))
    spread = float(cov[0, 0]) ** 0.5
    assert float(found.mean() - mean) == pytest.approx(0, abs=3 * spread / math.sqrt(n) + 0.02)
    assert float(found.var() / cov[0, 0]) == pytest.approx(1, abs=3 * math.sqrt(2 / n) + 0.02)


@pytest.mark.slow
@pytest.mark.parametrize("make", [DDPM, DDIM, EulerMaruyama, EDM], ids=["ddpm", "ddim", "euler_maruyama", "edm"])
def test_replacement_alone_is_far_off_and_resampling_mends_it_as_one_over_its_times(make):
    """E[x1 | x0 = 1.5] = 0.76: replacement alone falls short by 0.39 to 0.6, and 1/resample of that is left."""
    field, n = NormalField(VP(), *PAIR), 600
    mean, _ = field.rest_given([0], torch.tensor([[1.5]]))
    short = {}
    for resample in (1, 6, 16):
        found = complete(make(steps=20, resample=resample), field, {0: 1.5}, n)
        short[resample] = float(mean - found[:, 1].mean())
    error = 3 * 0.6 / math.sqrt(n)
    assert short[1] > 0.3
    assert short[6] < short[1] / 2.5
    assert short[16] < short[6] / 2.5 + error


@pytest.mark.slow
def test_modes_have_their_weights_given_a_coordinate():
    """p(mode | x0 = 0.75) is 0, 0.6, 0.4 where p(mode) is 0.5, 0.3, 0.2."""
    field, n = three(VP()), 1200
    x1 = complete(EulerMaruyama(steps=40, resample=10), field, {0: 0.75}, n)[:, 1]
    for i, weight in ((1, 0.6), (2, 0.4)):
        mine = x1[(x1 > -0.25) == (i == 1)]
        assert len(mine) / n == pytest.approx(weight, abs=3 * math.sqrt(weight * (1 - weight) / n) + 0.01)
        assert float(mine.mean()) == pytest.approx(float(field.means[i, 1]), abs=3 * 0.3 / math.sqrt(len(mine)) + 0.02)
        assert float(mine.std() / 0.3) == pytest.approx(1, abs=3 / math.sqrt(2 * len(mine)) + 0.05)


SOME = {
    "ddpm": DDPM(steps=8, resample=3),
    "ddim": DDIM(steps=8, resample=3),
    "euler_maruyama": EulerMaruyama(steps=8, resample=3),
    "predictor_corrector": PredictorCorrector(steps=8, corrections=2, resample=3),
    "edm": EDM(steps=8, resample=3),
}


@pytest.mark.slow
@pytest.mark.parametrize("path", ["vp", "ve", "straight", "subvp"])
@pytest.mark.parametrize("name", SOME)
def test_completions_cost_what_is_said_and_do_not_depend_on_their_batch(name, path):
    field, sampler = three(PATHS[path]()), SOME[name]
    mask = torch.tensor([[True, False]]).expand(5, 2)
    x = torch.linspace(-1, 1, 10).view(5, 2)
    drawn = sampler.sample(field, 5, None, noise(5), given=Given(x, mask))
    whole = drawn.x
    assert field.evaluations == drawn.diagnostics["nfe"]
    alone = field.evaluations
    part = sampler.sample(field, 2, None, RowNoise(0, torch.tensor([1, 3])), given=Given(x[[1, 3]], mask[[1, 3]])).x
    assert torch.allclose(whole[[1, 3]], part, atol=1e-5)
    assert torch.isfinite(whole).all()
    field.evaluations = 0
    sampler.sample(field, 5, None, noise(5))
    assert alone == 3 * field.evaluations  # each step three times, and none where nothing is given


def test_guided_completions():
    """The label and what is given both count: mode 2 alone, whose second coordinate is -1.5 +- 0.3."""
    field, n = three(VP(), conditional=True), 400
    mask = torch.tensor([[True, False]]).expand(n, 2)
    y = torch.full((n,), 2)
    for w, low, high in ((1.0, -1.6, -1.4), (0.0, -0.4, 0.4)):  # without the label: 0.6 * 1 - 0.4 * 1.5 = 0
        sampler = EulerMaruyama(steps=30, guidance=w, resample=5)
        x = sampler.sample(field, n, y, noise(n), given=Given(torch.full((n, 2), 0.75), mask)).x
        assert low < float(x[:, 1].mean()) < high


def test_what_completion_refuses():
    field = gaussian(Straight(), dim=2)
    DDIM(given=[0]).check(field, Learned())
    with pytest.raises(ValueError, match=r"sampler\.given=\[0\].*coupling=optimal"):
        DDIM(given=[0]).check(field, Learned(score=False))


# --- what can be given -----------------------------------------------------------------------------------------------


def test_regions_and_coordinates():
    image, vector = Spec((3, 4, 6), Support("real")), Spec((4,), Support("real"))
    mask = region(image, "left_half")
    assert mask[:, :, :3].all()
    assert not mask[:, :, 3:].any()
    assert region(vector, [0, 2]).tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("shape", "given", "message"),
    [
        ((4,), [4], "4 is no coordinate; this data has 0 to 3"),
        ((4,), [-1], "-1 is no coordinate"),
        ((4,), ["a"], "a is no coordinate"),
        ((4,), [], "at least one of the 4"),
        ((4,), [0, 1, 2, 3], "and not all"),
        ((4,), "top_half", "needs images.*sampler.given=\\[0\\]"),
        ((1, 4, 4), [0], "of images a region is kept: top_half"),
        ((1, 4, 4), "top", "Did you mean 'top_half'"),
    ],
)
def test_what_cannot_be_given(shape, given, message):
    with pytest.raises(UsageError, match=message):
        region(Spec(shape, Support("real")), given)


FAST = ["trainer.max_steps=4", "trainer.eval_every=4", "logger=none", "n=4", "device=cpu"]
FIELD = ["model=diffusion", "estimator=null", "model.net.vector={width: 16, blocks: 1}", "sampler=ddim"]


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    """A small field on moons."""
    folder = tmp_path_factory.mktemp("plane") / "run"
    few = ["data=moons", "data.train=200", "data.val=40", "data.test=60"]
    gencli.train([*FIELD, *FAST, *few, f"run_dir={folder}"])
    return folder


def sampled(folder, name):
    return np.load(folder / "samples" / f"{name}.npz")["samples"], Image.open(folder / "samples" / f"{name}.png")


@pytest.mark.slow
def test_a_coordinate_is_imputed(plane, capsys):
    words = ["sampler.given=[1]", "sampler.steps=4", "n=30", "device=cpu"]
    assert cli.main(["sample", f"run={plane}", "sampler=euler_maruyama", *words]) == 0
    out = capsys.readouterr().out
    assert "nfe 40" in out
    assert "approximate p(rest | given)" in out
    x, picture = sampled(plane, "euler_maruyama-given-1-steps=4-seed0")
    original = gencli.load(str(plane)).parts.dataset.split("test").gather(torch.arange(30)).x.numpy()
    assert np.allclose(x[:, 1], original[:, 1], atol=1e-6)
    assert not np.allclose(x[:, 0], original[:, 0], atol=1e-2)
    assert picture.width > picture.height


@pytest.mark.slow
def test_what_has_no_completion_says_so(plane, capsys):
    assert cli.main(["sample", f"run={plane}", "sampler=ode", "sampler.given=[1]", "device=cpu"]) == 2
    assert "given" in capsys.readouterr().err
    assert cli.main(["sample", f"run={plane}", "sampler=ddim", "sampler.given=[2]", "device=cpu"]) == 2
    assert "2 is no coordinate" in capsys.readouterr().err


@pytest.mark.slow
def test_flattened_images_keep_a_region_of_the_image(tmp_path):
    gencli.train([*FIELD, *FAST, "data=digits", "data.flatten=true", f"run_dir={tmp_path}/run"])
    words = ["sampler.given=top_half", "sampler.steps=3", "sampler.resample=2", "device=cpu", "n=3"]
    assert cli.main(["sample", f"run={tmp_path}/run", *words]) == 0
    x, picture = sampled(tmp_path / "run", "ddim-top_half-steps=3-resample=2-seed0")
    original = gencli.load(f"{tmp_path}/run").parts.dataset.split("test").gather(torch.arange(3)).x.numpy()
    assert np.array_equal(x[:, :, :4], original[:, :, :4])
    assert picture.width > 3 * 60


@pytest.mark.slow
def test_autoregressive_models_impute_coordinates_too(tmp_path):
    small = ["model.hidden=[16]", "trainer.max_steps=5", "trainer.eval_every=5", "logger=none", "n=4", "device=cpu"]
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(200, 5)).astype("float32"))
    gencli.train(["model=made", "data=array", f"data.path={tmp_path}/rows.npy", *small, f"run_dir={tmp_path}/run"])
    words = ["sampler.given=[0,2]", "device=cpu", "n=12"]
    assert cli.main(["sample", f"run={tmp_path}/run", *words]) == 0
    x, picture = sampled(tmp_path / "run", "ancestral-given-0-2-seed0")
    original = gencli.load(f"{tmp_path}/run").parts.dataset.split("test").gather(torch.arange(12)).x.numpy()
    assert np.allclose(x[:, [0, 2]], original[:, [0, 2]], atol=1e-4)
    assert picture.width > 2 * picture.height  # a panel for each of the three that were free


@pytest.mark.slow
def test_a_metric_records_what_its_samples_cost(plane):
    words = ["metrics=[mmd]", "metrics.mmd.permutations=5", "sampler=dpm_solver", "sampler.steps=7", "n=20"]
    assert cli.main(["eval", f"run={plane}", *words, "device=cpu"]) == 0
    name = "test-mmd-permutations=5-n=20-sampler=dpm_solver-steps=7.json"
    record = json.loads((plane / "eval" / name).read_text())
    assert record["sampler_settings"]["steps"] == 7
    assert record["sampler_diagnostics"] == {"nfe": 7}
