"""Pictures of codes and of the way between samples: what is drawn where, on models whose codes are known."""

import io

import pytest
import torch
from PIL import Image

from gencli.core.errors import UsageError
from gencli.core.noise import RowNoise
from gencli.data.preprocess import Preprocess
from gencli.data.sets.digits import Digits
from gencli.data.sets.toys import Toy
from gencli.models.base import Elbo, LatentVariable, Reparameterized
from gencli.pictures import canvas
from gencli.pictures.latent import Between, Interpolate, LatentMap, Reconstruct, Traverse
from gencli.run.assembly import Parts
from gencli.run.sampling import held_out


class Pixels(LatentVariable):
    """Its code is some of the image's own pixels; all others are forgotten. A conditional one keeps every y it sees."""

    shapes = ("vector", "image")

    def __init__(self, spec, kept=(0,), conditional=False):
        super().__init__(spec, conditional=conditional)
        self.kept, self.latent_dim, self.seen = list(kept), len(kept), []

    def encode(self, x, y=None):
        return x.flatten(1)[:, self.kept]

    def decode(self, z, y=None):
        assert (y is not None) == self.conditional
        self.seen.append(y)
        x = z.new_full((len(z), self.spec.dim), -0.5)
        x[:, self.kept] = z
        return x.view(-1, *self.spec.shape)

    def infer(self, x, y=None):
        raise AssertionError

    def log_weights(self, x, k, y=None, *, noise, inferred=None, through=None):
        raise AssertionError

    def elbo(self, x, y=None, *, noise) -> Elbo:
        raise AssertionError

    def sample(self, n, y=None, *, noise, temperature=1.0):
        raise AssertionError


class Base(Reparameterized):
    """The noise itself, scaled into the range of the data."""

    shapes = ("vector", "image")

    def sample(self, n, y=None, *, noise, temperature=1.0):
        return 0.1 * noise.randn(n, *self.spec.shape)


def parts(kind, dataset=None, **options) -> Parts:
    dataset = dataset or Digits()
    transform = {"transform": "scale"} if dataset.spec.kind == "image" else {}
    preprocess = Preprocess(dataset.spec, kind.supports, kind.shapes, **transform)
    model = kind(preprocess.model_spec, **options)
    return Parts(torch.device("cpu"), dataset, preprocess, model, None, None, None)


@pytest.fixture
def drawn(monkeypatch):
    """What ``canvas.labelled`` is given."""
    seen = {}
    own = canvas.labelled

    def spy(images, columns, **names):
        seen.update(images=images, columns=columns, **names)
        return own(images, columns, **names)

    monkeypatch.setattr(canvas, "labelled", spy)
    return seen


def opened(drawn):
    assert list(drawn.figures) == [""]
    assert not drawn.files
    return Image.open(io.BytesIO(drawn.contents()[".png"]))


def test_reconstructions_lie_below_their_examples(drawn):
    some = parts(Pixels, kept=range(32))
    image = opened(Reconstruct(columns=5).make(some, 12, seed=0))
    assert image.width > image.height
    assert drawn["rows"] == ["example", "from its code"] * 2
    originals = some.dataset.to_image(held_out(some).gather(torch.arange(10)).x)
    above, below = drawn["images"].view(2, 2, 5, 1, 8, 8).unbind(1)
    assert torch.equal(above.flatten(0, 1), originals)
    assert torch.equal(below.flatten(0, 1)[:, :, :4], originals[:, :, :4])  # the half that the code keeps
    assert not below.flatten(0, 1)[:, :, 4:].any()


def test_traversal_moves_one_latent_a_row_the_most_active_first(drawn):
    kept = [0, 20, 27, 36]  # a corner is always empty, so its code moves by its dequantization only
    opened(Traverse(latents=4, columns=5, width=1.0).make(parts(Pixels, kept=kept), 1, seed=0))
    rows = drawn["images"].view(4, 5, 8, 8)
    moved = [sorted({8 * int(i) + int(j) for _, i, j in (row != row[:1]).nonzero()}) for row in rows]
    assert all(len(cells) <= 1 for cells in moved)
    assert sorted(cell for cells in moved[:3] for cell in cells) == [20, 27, 36]
    variances = [float(name.rpartition(" ")[2]) for name in drawn["rows"]]
    assert variances == sorted(variances, reverse=True)
    assert drawn["rows"][3].startswith("z[0]")
    assert drawn["heads"] == ["-1.0", "-0.5", "+0.0", "+0.5", "+1.0"]


def test_interpolation_between_examples(drawn):
    some = parts(Pixels, kept=range(64))
    opened(Interpolate(columns=3).make(some, 6, seed=0))
    rows = drawn["images"].view(2, 5, 1, 8, 8)
    originals = some.dataset.to_image(held_out(some).gather(torch.arange(4)).x).view(2, 2, 1, 8, 8)
    assert torch.equal(rows[:, 0], originals[:, 0])
    assert torch.equal(rows[:, 1], originals[:, 0])
    assert torch.equal(rows[:, 3], originals[:, 1])
    assert torch.equal(rows[:, 4], originals[:, 1])
    middle = (originals[:, 0] + originals[:, 1]) / 2
    assert (rows[:, 2] - middle).abs().max() <= 1 / 16 + 1e-6  # up to dequantization and rounding down


def test_conditional_models_are_told_whose_code_it_is(drawn):
    some = parts(Pixels, kept=range(64), conditional=True)
    y = held_out(some).gather(torch.arange(6)).y
    for picture, expected in (
        (Reconstruct(columns=3), y),
        (Traverse(latents=2, columns=2, example=4), y[4].expand(4)),
        (Interpolate(columns=2), y[::2].repeat_interleave(2)),
    ):
        some.model.seen.clear()
        picture.make(some, 6, seed=0)
        assert torch.equal(torch.cat(some.model.seen), expected)
    opened(LatentMap(examples=20).make(some, 1, seed=0))


def test_interpolation_between_samples(drawn):
    some = parts(Base)
    opened(Interpolate(columns=4).make(some, 12, seed=5))
    rows = drawn["images"].view(3, 4, 1, 8, 8)
    for t, first in ((0, 0), (-1, 1)):
        noise = RowNoise(5, torch.arange(first, 6, 2))
        ends = some.preprocess.inverse(some.model.sample(3, noise=noise))
        assert torch.equal(rows[:, t], some.dataset.to_image(ends))


def test_noise_on_the_way_is_normal():
    n = 20_000
    row = torch.arange(n)
    for t in (0.0, 0.3, 0.5):
        z = Between(0, row, row + n, torch.full((n,), t)).randn(n, 2)
        assert z.mean().abs() < 4 / (2 * n) ** 0.5
        assert z.var() == pytest.approx(1, abs=4 * (2 / (2 * n)) ** 0.5)
    assert torch.equal(Between(0, row, row + n, torch.full((n,), 0.7)).rand(n), RowNoise(0, row).rand(n))


@pytest.mark.parametrize("kept", [(20, 27), (20, 27, 36)])
def test_a_map_of_two_latents_has_a_grid_and_one_of_more_has_components(kept):
    image = opened(LatentMap(examples=50, side=4).make(parts(Pixels, kept=kept), 1, seed=0))
    assert (image.width > 1.5 * image.height) == (len(kept) == 2)


def test_maps_and_refusals():
    vectors = parts(Pixels, Toy("moons", train=100, val=10, test=50), kept=(0, 1))
    opened(LatentMap(examples=20).make(vectors, 1, seed=0))  # points need no image
    for picture in (Reconstruct(), Traverse(), Interpolate()):
        with pytest.raises(UsageError, match="shows images"):
            picture.make(vectors, 4, seed=0)
    integers = parts(Base)
    integers.model.spec = integers.dataset.spec
    with pytest.raises(UsageError, match="draws integers"):
        Interpolate().make(integers, 4, seed=0)
    with pytest.raises(UsageError, match="two latents"):
        LatentMap().make(parts(Pixels, kept=(3,)), 1, seed=0)
    with pytest.raises(UsageError, match="example=400"):
        Traverse(example=400).make(parts(Pixels), 1, seed=0)
