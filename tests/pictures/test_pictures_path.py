"""Pictures of fields: the way from noise to data, and guidance; on fields that are known in closed form."""

import io
from itertools import pairwise

import pytest
import torch
from fields import PATHS, MixtureField, three
from PIL import Image

from gencli.core.errors import UsageError
from gencli.core.noise import RowNoise
from gencli.core.spec import Spec, Support
from gencli.data.preprocess import Preprocess
from gencli.data.sets.digits import Digits
from gencli.data.sets.toys import Toy
from gencli.models.base import VelocityField
from gencli.paths.schedules import VE, VP
from gencli.pictures import canvas
from gencli.pictures.guidance import Guidance
from gencli.pictures.path import Recorder, SamplePath
from gencli.run.assembly import Parts
from gencli.samplers.diffusion.ddim import DDIM, DDPM
from gencli.samplers.diffusion.dpm_solver import DPMSolver
from gencli.samplers.diffusion.edm import EDM
from gencli.samplers.diffusion.ode import ODE
from gencli.samplers.diffusion.sde import EulerMaruyama, PredictorCorrector
from gencli.samplers.direct import Direct

SAMPLERS = {
    "euler": ODE(method="euler", steps=9),
    "rk4": ODE(method="rk4", steps=9),
    "dopri5": ODE(),
    "ddim": DDIM(steps=9),
    "ddpm": DDPM(steps=9),
    "euler_maruyama": EulerMaruyama(steps=9),
    "predictor_corrector": PredictorCorrector(steps=9),
    "edm": EDM(steps=9),
    "dpm_solver": DPMSolver(steps=9),
}


def noise(n, seed=0):
    return RowNoise(seed, torch.arange(n))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_watched_walk_is_the_walk(name):
    """From the noise at t_max to the samples at t_min, and nobody minds that it was seen."""
    sampler, field, seen = SAMPLERS[name], three(VP()), []
    alone = sampler.sample(field, 6, None, noise(6))
    field.evaluations = 0
    watched = sampler.run(field, 6, None, noise(6), lambda x, t: seen.append((x.clone(), float(t))))
    ways, at = [x for x, _ in seen], [t for _, t in seen]
    assert torch.equal(ways[0], noise(6).randn(6, 2))
    assert torch.equal(ways[-1], watched.x)
    assert at[0] == 1
    assert at[-1] == pytest.approx(VP().t_min)
    assert at == sorted(at, reverse=True)
    if name == "dopri5":  # solved stretch by stretch
        assert len(seen) == 41
        assert torch.allclose(watched.x, alone.x, atol=1e-3)
        assert watched.diagnostics["nfe"] > alone.diagnostics["nfe"]
    else:
        assert len(seen) == 10
        assert torch.equal(watched.x, alone.x)
        assert watched.diagnostics == alone.diagnostics == {"nfe": field.evaluations}


@pytest.mark.parametrize("visits", [2, 7, 41, 43, 1000])
def test_points_are_evenly_kept(visits):
    recorder = Recorder(10)
    for i in range(visits):
        recorder(torch.tensor(float(i)), torch.tensor(1 - i / visits))
        assert len(recorder.kept) <= 40
    places = [int(p.x) for p in recorder.points(11)]
    assert places[0] == 0
    assert places[-1] == visits - 1
    assert min(visits, 11) - 1 <= len(places) <= min(visits, 11)
    gaps = [b - a for a, b in pairwise(places)]
    assert max(gaps) <= 1.5 * (visits - 1) / (len(places) - 1) + 1


def parts(field, dataset, sampler, **options) -> Parts:
    preprocess = Preprocess(dataset.spec, field.supports, ("vector",), **options)
    return Parts(torch.device("cpu"), dataset, preprocess, field, None, sampler, None)


def of_digits(sampler, path=None, conditional=False):
    """Digits whose classes are narrow modes."""
    dataset = Digits()
    rows = dataset.split("train").gather(torch.arange(200))
    means = torch.stack([rows.x[rows.y == k][0] for k in range(10)]).flatten(1) / 17 - 0.47
    field = MixtureField(path or VP(), means, 0.005, conditional=conditional)
    return parts(field, dataset, sampler, transform="scale")


class Still(VelocityField):
    """Noise that falls to half its size; no path."""

    def velocity(self, x, t, y=None):
        return torch.log(torch.tensor(2.0)) * x


@pytest.fixture
def drawn(monkeypatch):
    """What ``canvas.labelled`` is given, call by call."""
    seen = []
    own = canvas.labelled

    def spy(images, columns, **names):
        seen.append({"images": images, "columns": columns, **names})
        return own(images, columns, **names)

    monkeypatch.setattr(canvas, "labelled", spy)
    return seen


def opened(content):
    return Image.open(io.BytesIO(content))


@pytest.mark.slow
def test_images_on_their_way(drawn):
    some = of_digits(DDIM(steps=40))
    files = SamplePath(frames=5, steps=12).make(some, 6, seed=3).contents()
    assert list(files) == [".png", "-x0.png", ".gif"]
    assert opened(files[".gif"]).n_frames == 13
    way, means = (call["images"].view(6, 5, 1, 8, 8) for call in drawn)
    samples = some.sampler.sample(some.model, 6, None, noise(6, 3)).x
    shown = some.dataset.to_image(some.preprocess.inverse(samples))
    assert torch.equal(way[:, -1], shown)
    assert torch.equal(means[:, -1], shown)
    start = some.dataset.to_image(some.preprocess.inverse(noise(6, 3).randn(6, 64)))
    assert torch.equal(way[:, 0], start)
    assert drawn[0]["heads"] == ["1.00", "0.75", "0.50", "0.25", "0.00"]
    # What the field makes of pure noise is nearly the mean of the data, the same for all; then it makes up its mind
    spread = means.std(0).mean((1, 2, 3))
    assert spread[0] < 0.3 * spread[-1]
    assert (means[:, -2] - shown).abs().mean() < (means[:, 1] - shown).abs().mean()


def test_few_steps_give_few_frames():
    files = SamplePath().make(of_digits(DPMSolver(steps=4)), 3, seed=0).contents()
    assert opened(files[".gif"]).n_frames == 5


def test_an_exploding_path_is_shown_in_the_size_of_its_noise(drawn):
    some = of_digits(DDIM(steps=10), VE())
    SamplePath(frames=3, steps=5).make(some, 2, seed=0)
    start = some.dataset.to_image(some.preprocess.inverse(noise(2).randn(2, 64)))  # not 50 times that: black or white
    assert torch.allclose(drawn[0]["images"].view(2, 3, 1, 8, 8)[:, 0], start, atol=1.01 / 16)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["vp", "ve", "straight"])
def test_clouds_in_the_plane(path):
    some = parts(three(PATHS[path]()), Toy("moons"), DDPM(steps=12))
    files = SamplePath(frames=4, steps=6).make(some, 3, seed=0).contents()
    assert list(files) == [".png", ".gif"]
    assert opened(files[".gif"]).n_frames == 7
    strip = opened(files[".png"])
    assert strip.width > strip.height


def test_a_field_without_a_path_has_no_denoised_mean(drawn):
    dataset = Digits()
    some = parts(Still(Spec((64,), Support("real"))), dataset, ODE(), transform="scale")
    files = SamplePath(frames=3, steps=4).make(some, 2, seed=0).contents()
    assert list(files) == [".png", ".gif"]
    halved = some.dataset.to_image(some.preprocess.inverse(noise(2).randn(2, 64) / 2))
    assert torch.allclose(drawn[0]["images"].view(2, 3, 1, 8, 8)[:, -1], halved, atol=1.01 / 16)


def test_the_same_noise_under_more_guidance(drawn):
    sampler = DDPM(steps=10, classes=[7, 2, 4])
    some = of_digits(sampler, conditional=True)
    files = Guidance(weights=[0.0, 1.0, 3.0], each=2).make(some, 64, seed=5).contents()
    assert list(files) == [".png"]
    assert sampler.guidance == 1  # the run's own sampler is left as it was
    assert drawn[0]["heads"] == ["7", "2", "4"]
    assert drawn[0]["rows"] == ["w = 0", "", "w = 1", "", "w = 3", ""]
    rows = drawn[0]["images"].view(3, 6, 1, 8, 8)
    y = torch.tensor([7, 2, 4, 7, 2, 4])
    for row, w, labels in ((0, 1.0, None), (1, 1.0, y), (2, 3.0, y)):
        own = DDPM(steps=10, guidance=w).sample(some.model, 6, labels, noise(6, 5)).x
        assert torch.equal(rows[row], some.dataset.to_image(some.preprocess.inverse(own)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SamplePath().make(of_digits(Direct()), 4, 0), "a sampler that goes from noise to data"),
        (lambda: SamplePath().make(of_digits(DDIM(given="top_half")), 4, 0), "take sampler.given=null"),
        (lambda: Guidance(weights=[1]).make(of_digits(DDIM()), 4, 0), "model.conditional=true"),
        (lambda: Guidance(weights=[1]).make(of_digits(Direct(), conditional=True), 4, 0), "goes from noise to data"),
        (lambda: Guidance(weights=[2]).make(undropped(), 4, 0), "sampler.guidance=2.*label_dropout"),
        (lambda: SamplePath().make(table(), 4, 0), "neither"),
    ],
)
def test_what_cannot_be_shown(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def undropped():
    some = of_digits(DDIM(), conditional=True)
    some.model.label_dropout = 0.0
    return some


def table():
    dataset = Toy("moons")
    dataset.spec = Spec((3,), Support("real"))
    return parts(MixtureField(VP(), torch.zeros(1, 3), 1.0), dataset, DDIM(steps=3))
