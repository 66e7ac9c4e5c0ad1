"""PixelCNN and PixelCNN++: normalised, causal, no blind spot; cached decoding is the naive one."""

import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import built

import gencli
from gencli.cli import main as cli
from gencli.core.errors import UsageError
from gencli.core.noise import RowNoise
from gencli.core.spec import Given, Spec, Support
from gencli.data.sets.digits import Digits
from gencli.models.autoregressive.pixelcnn import PixelCNN, PixelCNNPP
from gencli.models.base import Autoregressive
from gencli.models.distributions import Categorical, Conditional
from gencli.pictures.grow import trace
from gencli.pictures.surprise import Surprise
from gencli.samplers.ancestral import Ancestral

CLASSES = 3
KINDS = {
    "pixelcnn": (PixelCNN, {"width": 6, "layers": 3, "hidden": 8}),
    "pixelcnn_pp": (PixelCNNPP, {"width": 6, "blocks": 2, "components": 3}),
}


def build(name, shape, support, conditional=False, **options):
    """A model moved off its start by seeded noise, in evaluation mode and fp64."""
    kind, defaults = KINDS[name]
    torch.manual_seed(0)
    model = kind(Spec(shape, Support.parse(support), CLASSES), conditional=conditional, **{**defaults, **options})
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model.eval().double()


def states(shape, levels):
    """Every x there is."""
    return torch.tensor(list(itertools.product(range(levels), repeat=math.prod(shape)))).view(-1, *shape)


def rows(model, n, seed=2):
    levels = model.spec.support.levels
    x = torch.randint(levels, (n, *model.spec.shape), generator=torch.Generator().manual_seed(seed))
    return x.double() if model.spec.support.kind == "binary" else x


def labels(n):
    return torch.arange(n) % CLASSES


def noise(n, seed=3):
    return RowNoise(seed, torch.arange(n))


ENUMERABLE = [
    ("pixelcnn", (1, 3, 3), "binary"),
    ("pixelcnn", (1, 2, 2), "levels:3"),
    ("pixelcnn", (1, 1, 2), "levels:17"),
    ("pixelcnn", (2, 2, 2), "binary"),
    ("pixelcnn", (3, 1, 1), "categorical:5"),
    ("pixelcnn_pp", (1, 2, 2), "levels:4"),
    ("pixelcnn_pp", (1, 1, 2), "levels:17"),
    ("pixelcnn_pp", (3, 1, 2), "levels:3"),
    ("pixelcnn_pp", (1, 3, 3), "levels:2"),
]


@pytest.mark.parametrize(("name", "shape", "support"), ENUMERABLE)
def test_all_states_add_up_to_one(name, shape, support):
    model = build(name, shape, support, conditional=True)
    x = states(shape, model.spec.support.levels)
    with torch.no_grad():
        for y in (0, 1):
            log_p = model.log_prob(x, torch.full((len(x),), y))
            assert log_p.exp().sum() == pytest.approx(1, abs=1e-10)
        assert log_p.std() > 0.1  # it is not the uniform distribution that adds up


IMAGES = [
    ("pixelcnn", (1, 5, 6), "binary"),
    ("pixelcnn", (1, 5, 4), "levels:17"),
    ("pixelcnn", (3, 4, 4), "levels:5"),
    ("pixelcnn", (2, 3, 4), "categorical:3"),
    ("pixelcnn_pp", (1, 5, 6), "levels:17"),
    ("pixelcnn_pp", (3, 3, 4), "levels:5"),
]


@pytest.mark.parametrize(("name", "shape", "support"), IMAGES)
def test_a_conditional_sees_what_comes_before_and_nothing_else(name, shape, support):
    """Changing x_s leaves the logits of every t <= s as they are, to the bit; and moves those of the next one."""
    model = build(name, shape, support)
    channels, height, width = shape
    x = rows(model, 1)
    levels = model.spec.support.levels

    def logits(x):
        with torch.no_grad():
            out = model.logits(model.net(model.encode(x)), x)
        return out.movedim(1, 3).flatten(1, 3)  # (B, D, K) in the order of decoding

    changed = []
    for i, j, c in itertools.product(range(height), range(width), range(channels)):
        other = x.clone()
        other[:, c, i, j] = (other[:, c, i, j] + 1) % levels
        changed.append(other)
    moved = (logits(torch.cat(changed)) != logits(x.expand(len(changed), -1, -1, -1))).any(-1)  # (s, t)
    dim = model.spec.dim
    later = torch.arange(dim) > torch.arange(dim)[:, None]
    assert not moved[~later].any()
    assert moved.diagonal(1).float().mean() > 0.7  # at a new row the last pixel may be out of reach


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("conditional", [False, True])
def test_gradients_are_exactly_causal_and_there_is_no_blind_spot(name, conditional):
    deep = {"layers": 6, "first": 3} if name == "pixelcnn" else {"blocks": 4}
    model = build(name, (1, 6, 6), "levels:17", conditional, **deep)
    seen = model.encode(rows(model, 1)).requires_grad_()
    features = model.net(seen, model.context(labels(1)))
    for t in range(36):
        (gradient,) = torch.autograd.grad(
            features[:, :, t // 6, t % 6].square().sum(), seen, retain_graph=True, allow_unused=True
        )
        assert (gradient.flatten()[t:] == 0).all()
        assert (gradient.flatten()[:t] != 0).all()


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize(("name", "shape", "support"), IMAGES)
def test_cached_samples_are_the_naive_ones(name, shape, support, conditional):
    n = 5
    model, y = build(name, shape, support, conditional), labels(n)
    kept = Given(rows(model, n), torch.rand(n, *shape, generator=torch.Generator().manual_seed(4)) < 0.4)
    for given in (None, kept):
        seen = {}
        for cached in (True, False):
            source, logits = noise(n), []

            def pick(conditional, source=source, logits=logits):
                logits.append(conditional.logits)
                return conditional.sample(source)

            seen[cached] = model.decode(n, y, pick=pick, given=given, cached=cached), torch.stack(logits)
        assert torch.equal(seen[True][0], seen[False][0])
        assert torch.allclose(seen[True][1], seen[False][1], atol=1e-9)
        assert len(seen[True][1]) == model.spec.dim


@pytest.mark.parametrize("name", KINDS)
def test_float32_too(name):
    model = build(name, (1, 6, 6), "levels:17").float()
    fast, slow = (Ancestral(cached=cached).sample(model, 8, None, noise(8)).x for cached in (True, False))
    assert torch.equal(fast, slow)


@pytest.mark.parametrize(("name", "shape", "support"), IMAGES)
def test_decoding_follows_the_scored_conditionals(name, shape, support):
    """The conditionals that ``decode`` hands out give x the probability that ``log_conditionals`` says."""
    n = 4
    model = build(name, shape, support, conditional=True)
    x, picked = rows(model, n), []

    def pick(conditional: Categorical):
        picked.append(conditional.logits.log_softmax(-1))
        return torch.zeros(n)

    out = model.decode(n, labels(n), pick=pick, given=Given(x, torch.ones_like(x, dtype=torch.bool)))
    assert torch.equal(out, x)
    log_p = torch.stack(picked, 1).gather(-1, x.movedim(1, 3).flatten(1).long()[..., None]).squeeze(-1)
    with torch.no_grad():
        expected = model.log_conditionals(x, labels(n))
    assert torch.allclose(log_p, expected.movedim(1, 3).flatten(1), atol=1e-9)


@pytest.mark.parametrize("name", KINDS)
def test_completion_keeps_what_is_given(name):
    n, shape = 6, (1, 6, 5)
    model = build(name, shape, "levels:9")
    x = rows(model, n)
    mask = torch.zeros(n, *shape, dtype=torch.bool)
    mask[:, :, :3] = True
    whole = Ancestral().sample(model, n, None, noise(n), Given(x, mask)).x
    assert torch.equal(whole[mask], x[mask])
    assert not torch.equal(whole, x)
    free = Ancestral().sample(model, n, None, noise(n)).x
    late = Ancestral().sample(model, n, None, noise(n), Given(x, ~mask)).x
    assert torch.equal(late[mask], free[mask])  # what comes before the given part is drawn as if nothing were given


def test_samples_have_the_frequencies_of_the_model():
    """Chi-squared over the 16 states of 2x2 bits; 44.3 is the 0.9999 quantile for 15 degrees of freedom."""
    model, n = build("pixelcnn", (1, 2, 2), "binary"), 20_000
    x = states((1, 2, 2), 2).double()
    with torch.no_grad():
        p = model.log_prob(x).exp()
    drawn = Ancestral().sample(model, n, None, noise(n)).x.flatten(1).long()
    seen = torch.bincount(drawn @ torch.tensor([8, 4, 2, 1]), minlength=16)
    assert ((seen - n * p).square() / (n * p)).sum() < 44.3


@pytest.mark.parametrize("name", KINDS)
def test_a_sample_does_not_depend_on_its_batch(name):
    model = build(name, (3, 4, 4), "levels:5", conditional=True)
    whole = Ancestral().sample(model, 6, labels(6), noise(6)).x
    part = Ancestral().sample(model, 2, labels(6)[3:5], RowNoise(3, torch.tensor([3, 4]))).x
    assert torch.equal(whole[3:5], part)


@pytest.mark.parametrize("name", KINDS)
def test_classes_matter_to_a_conditional_model_only(name):
    for conditional in (False, True):
        model = build(name, (1, 4, 4), "levels:5", conditional)
        x = rows(model, 8)
        with torch.no_grad():
            log_p = [model.log_conditionals(x, torch.full((8,), y)) for y in range(CLASSES)]
        assert (log_p[0] == log_p[1]).all() != conditional
        if conditional:
            assert (log_p[0] != log_p[1])[:, :, 0, 0].all()  # the first pixel too
            with pytest.raises(ValueError, match="needs y"):
                model.log_prob(x)


@pytest.mark.parametrize(("name", "shape", "support"), IMAGES)
def test_every_parameter_gets_a_gradient(name, shape, support):
    model = build(name, shape, support, conditional=True)
    model.log_prob(rows(model, 16), labels(16)).mean().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", KINDS)
def test_dropout_is_for_training(name):
    model = build(name, (1, 4, 4), "levels:5", dropout=0.5)
    x = rows(model, 8)
    with torch.no_grad():
        assert torch.equal(model.log_prob(x), model.log_prob(x))
        model.train()
        assert not torch.equal(model.log_prob(x), model.log_prob(x))


@pytest.mark.parametrize("name", KINDS)
def test_likelihoods_are_fp32_under_autocast(name):
    model = build(name, (1, 4, 4), "levels:5").float()
    x = rows(model, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        low = model.log_conditionals(x)
    assert low.dtype == torch.float32
    with torch.no_grad():
        assert (low - model.log_conditionals(x)).abs().mean() < 0.02


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        (PixelCNN, "kernel", 4),
        (PixelCNN, "first", 1),
        (PixelCNN, "layers", 0),
        (PixelCNN, "width", 0),
        (PixelCNN, "dropout", 1.0),
        (PixelCNNPP, "components", 0),
        (PixelCNNPP, "blocks", 0),
    ],
)
def test_a_wrong_option_is_named(kind, option, value):
    with pytest.raises((UsageError, ValueError), match=f"model.{option}={value}"):
        built("model", kind, Spec((1, 4, 4), Support.parse("levels:5")), **{option: value})


RUN = ["data=digits", "device=cpu", "logger=none", "trainer.max_steps=4", "trainer.eval_every=2", "n=4"]
SMALL = ["model.width=4", "trainer.batch_size=16"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pixelcnn") / "run"
    gencli.train([*RUN, "model=pixelcnn", "model.conditional=true", "model.layers=1", *SMALL, f"run_dir={folder}"])
    return folder


def test_the_whole_chain(run):
    opened = gencli.load(str(run))
    record = opened.results[0]
    assert record["bound"] == "exact"
    assert record["protocol"]["dequantization"] is None
    assert 0 < record["bits_per_dim"] < math.log2(17) + 0.5
    assert opened.sample(3).shape == (3, 1, 8, 8)


@pytest.mark.slow
def test_the_logistic_model_trains_too(tmp_path):
    gencli.train([*RUN, "model=pixelcnn_pp", "model.blocks=1", *SMALL, f"run_dir={tmp_path}/run"])
    assert gencli.load(f"{tmp_path}/run").results[0]["bound"] == "exact"


def test_completions_are_shown_beside_what_they_complete(run):
    assert cli.main(["sample", f"run={run}", "n=3", "sampler.given=top_half", "device=cpu"]) == 0
    arrays = np.load(run / "samples" / "ancestral-top_half-seed0.npz")
    data = Digits().split("test").gather(torch.arange(3))
    assert np.array_equal(arrays["samples"][:, :, :4], data.x[:, :, :4].numpy())
    assert np.array_equal(arrays["labels"], data.y.numpy())  # completed as what they are
    picture = Image.open(run / "samples" / "ancestral-top_half-seed0.png")
    assert picture.width > 3 * 60


@pytest.mark.slow
def test_grow(run):
    assert cli.main(["sample", f"run={run}", "n=3", "picture=grow", "picture.steps=7", "device=cpu"]) == 0
    assert Image.open(run / "samples" / "grow-steps=7-seed0.png").width >= 8 * 64
    assert Image.open(run / "samples" / "grow-steps=7-seed0.gif").n_frames == 8


class Backwards(Autoregressive):
    """Decodes from the last coordinate to the first, after a pick that is none of a coordinate."""

    def log_conditionals(self, x, y=None):
        raise NotImplementedError

    def coordinate(self, n):
        return Categorical(torch.zeros(n, self.spec.support.levels))

    def decode(self, n, y=None, *, pick, given=None, cached=True):
        pick(Categorical(torch.zeros(n, 2)))
        x = torch.zeros(n, *self.spec.shape)
        for d in reversed(range(self.spec.dim)):
            x[:, d] = pick(self.coordinate(n)).float()
        return x


class Reals(Backwards):
    def coordinate(self, n):
        class Normal(Conditional):
            def sample(self, noise, temperature=1.0):
                return temperature * noise.randn(n)

        return Normal()


@pytest.mark.parametrize(("kind", "support"), [(Backwards, "binary"), (Backwards, "levels:3"), (Reals, "real")])
def test_growth_is_told_from_any_order(kind, support):
    z, times = trace(kind(Spec((11,), Support.parse(support))), 4, None, 0, torch.device("cpu"))
    assert torch.equal(times, torch.arange(10, -1, -1).expand(4, -1))
    assert z.float().std() > 0


def test_growth_of_an_image_is_raster_order():
    model = build("pixelcnn", (1, 3, 4), "levels:3").float()
    z, times = trace(model, 2, None, 5, torch.device("cpu"))
    assert torch.equal(times, torch.arange(12).expand(2, -1))
    assert torch.equal(z, Ancestral().sample(model, 2, None, noise(2, 5)).x)


@pytest.mark.slow
def test_surprise(run, monkeypatch):
    seen = []
    own = Surprise._image
    monkeypatch.setattr(
        Surprise, "_image", lambda self, images, surprise: seen.append(surprise) or own(self, images, surprise)
    )
    for unit in ("bits", "nats"):
        assert cli.main(["sample", f"run={run}", "n=5", "picture=surprise", f"picture.unit={unit}", "device=cpu"]) == 0
    nll = np.load(run / "eval" / "test-exact.npz")["nll"][:5]
    assert torch.allclose(seen[1].sum((1, 2)), torch.tensor(nll), atol=1e-3)  # pixels add up to the record's rows
    assert torch.allclose(seen[0] * math.log(2), seen[1])
    monkeypatch.undo()
    assert cli.main(["sample", f"run={run}", "n=5", "picture=surprise", "device=cpu"]) == 0
    assert Image.open(run / "samples" / "surprise-seed0.png").width > 300


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["picture=surprise", "picture.unit=dits"], "picture.unit=dits: one of bits, nats is needed"),
        (["picture=surprise", "picture.split=tset"], "picture.split=tset: one of train, val, test is needed"),
        (["picture=grow", "picture.frames=1"], "at least 2"),
        (["sampler.given=top_haf"], "Did you mean 'top_half'"),
    ],
)
def test_what_a_picture_cannot_do_is_said(run, capsys, words, message):
    assert cli.main(["sample", f"run={run}", "device=cpu", *words]) == 2
    assert message in capsys.readouterr().err


def test_growth_needs_an_order(tiny_run, capsys):
    assert cli.main(["sample", f"run={tiny_run}", "picture=grow", "device=cpu"]) == 2
    assert "it needs Autoregressive, which realnvp does not offer" in capsys.readouterr().err
