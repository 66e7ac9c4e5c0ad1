"""The question of restoration, asked of a run: what it answers, what it reads, what it refuses."""

import json
import sys

import numpy as np
import pytest
import torch
from fields import three
from latents import LINEAR
from PIL import Image

import gencli
from gencli.cli import main as cli
from gencli.core.errors import UsageError
from gencli.core.spec import Spec, Support
from gencli.data.preprocess import Preprocess
from gencli.methods import operators
from gencli.models.classical.gaussian import Gaussian
from gencli.models.latent.vae import VAE
from gencli.models.trained import Learned
from gencli.paths.schedules import VP
from gencli.samplers import restored
from gencli.samplers.observed import from_file
from gencli.samplers.restore import Restore

SIDE = 8
FEW = {"draws": 19, "chains": 4, "warmup": 20, "steps": 10}
SHORT = ["trainer.max_steps=2", "trainer.eval_every=2", "logger=none", "n=0", "device=cpu"]
"""The law starts at its maximum-likelihood estimate."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A normal law of small images of 16 levels, whose pixels are like their neighbours."""
    folder = tmp_path_factory.mktemp("restored")
    rough = torch.randn(400, 1, SIDE + 2, SIDE + 2, generator=torch.Generator().manual_seed(0))
    x = (8 + 9 * torch.nn.functional.avg_pool2d(rough, 3, 1)).round().clamp(0, 15).to(torch.uint8).numpy()
    np.savez(folder / "x.npz", train=x[:300], val=x[300:340], test=x[340:])
    data = ["data=array", f"data.path={folder / 'x.npz'}", "data.support=levels:16", "data.transform=scale"]
    return gencli.train([*data, "model=gaussian", *SHORT, f"run_dir={folder / 'run'}"])


@pytest.fixture
def few_tuned(monkeypatch):
    """Total variation is tuned on few examples, where its answer is not looked at."""
    monkeypatch.setattr(restored, "TUNED", 1)


@pytest.mark.slow
def test_an_answer_has_the_truth_what_was_seen_and_the_posterior(run):
    pytest.importorskip("skimage")
    answer = run.ask("restore", 5, noise=0.2, **FEW)
    x = answer.arrays
    assert x["draws"].shape == (5, 19, 1, SIDE, SIDE)
    torch.testing.assert_close(x["mean"], x["draws"].mean(1))
    truth = run.parts.dataset.split("test").gather(torch.arange(5)).x
    torch.testing.assert_close(x["original"], (truth + 0.5) / 16)
    assert (x["degraded"] - x["original"]).std() == pytest.approx(0.2, rel=0.15)
    said = answer.diagnostics
    assert said["psnr_degraded"] < said["psnr_total_variation"] < said["psnr_mean"]
    for estimate in ("degraded", "map", "mean", "total_variation"):
        assert said[f"psnr_{estimate}_se"] > 0
        assert -1 < said[f"ssim_{estimate}"] < 1
    # under a normal law MAP is the posterior mean
    assert said["psnr_map"] == pytest.approx(said["psnr_mean"], abs=1)
    assert 0.8 < said["coverage_90"] < 1


@pytest.mark.slow
@pytest.mark.usefixtures("few_tuned")
def test_a_row_does_not_depend_on_how_many_there_are(run):
    pytest.importorskip("skimage")
    two, three_rows = (run.ask("restore", n, method="map").arrays for n in (2, 3))
    for name in ("observed", "map"):
        assert torch.equal(two[name], three_rows[name][:2])
    assert "draws" not in two


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "options", "size"),
    [
        ("inpaint", {"given": "left_half"}, 32),
        ("deblur", {"blur": "box", "width": 3.0}, 64),
        ("superresolve", {"factor": 4}, 4),
    ],
)
def test_an_observation_of_ones_own_is_restored(run, tmp_path, task, options, size):
    side = 2 if task == "superresolve" else SIDE
    levels = np.full((side, side), 8, dtype=np.uint8)
    Image.fromarray(17 * levels).save(tmp_path / "mine.png")
    np.save(tmp_path / "mine.npy", levels[None, None])
    np.save(tmp_path / "floats.npy", (levels[None, None] + 0.5) / 16)
    found = [
        run.ask("restore", 1, task=task, method="map", input=str(tmp_path / name), **options)
        for name in ("mine.png", "mine.npy", "floats.npy")
    ]
    assert found[0].arrays["observed"].shape == (1, size)
    for other in found[1:]:
        torch.testing.assert_close(found[0].arrays["map"], other.arrays["map"])
    assert found[0].arrays["map"].shape == (1, 1, SIDE, SIDE)
    assert "original" not in found[0].arrays
    assert not [name for name in found[0].diagnostics if name.startswith("psnr")]


@pytest.mark.slow
def test_a_matrix_of_ones_own(run, tmp_path):
    A = np.random.default_rng(0).normal(size=(70, SIDE**2)).astype(np.float32)
    np.save(tmp_path / "A.npy", A)
    truth = torch.full((1, SIDE**2), 0.55)
    np.save(tmp_path / "z.npy", truth.numpy() @ A.T)
    answer = run.ask(
        "restore", 1, task="matrix", matrix=str(tmp_path / "A.npy"), input=str(tmp_path / "z.npy"), method="map",
        noise=0.001,
    )  # fmt: skip
    torch.testing.assert_close(answer.arrays["map"].flatten(1), truth, atol=0.03, rtol=0)


def test_files_of_strangers_are_data_or_refused(run, tmp_path):
    class Code:
        def __reduce__(self):
            return (exec, ("raise SystemExit('ran')",))

    np.save(tmp_path / "code.npy", np.array([Code()], dtype=object), allow_pickle=True)
    np.save(tmp_path / "text.npy", np.array(["a"]))
    np.save(tmp_path / "nan.npy", np.full((3, SIDE**2), np.nan))
    np.save(tmp_path / "wide.npy", np.zeros((3, 5)))
    (tmp_path / "empty.npy").write_bytes(b"")
    for name, words in {
        "code": "cannot be read",
        "empty": "cannot be read",
        "none": "cannot be read",
        "text": "numbers",
        "nan": "not finite",
        "wide": r"\(m, 64\) is needed",
    }.items():
        with pytest.raises(UsageError, match=words) as caught:
            run.ask("restore", 1, task="matrix", matrix=str(tmp_path / f"{name}.npy"))
        assert "\n" not in str(caught.value)
        assert "sampler.matrix" in str(caught.value)
    Image.fromarray(np.zeros((5, 4), dtype=np.uint8)).save(tmp_path / "small.png")
    with pytest.raises(UsageError, match="4 x 5 pixels; 8 x 8"):
        run.ask("restore", 1, input=str(tmp_path / "small.png"))


def prepared(shape, support):
    return Preprocess(Spec(shape, Support.parse(support)), ("real",), ("image", "vector"))


def read(path, values, shape=(1, 2, 3), support="levels:16", task="denoise", operator=None, sigma=0.1):
    """The observation that a file with these values is."""
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)
    return from_file(str(path), operator or operators.Identity(shape), prepared(shape, support), task, sigma).z


WIDE = np.array([[0, 3, 15], [7, 8, 9]])


def test_integers_are_levels_of_the_data_and_floats_are_in_their_unit(tmp_path):
    x = torch.from_numpy(WIDE).flatten()[None].float()
    for kind in (np.uint8, np.int64, np.uint64):
        assert torch.equal(read(tmp_path / "x.npy", WIDE[None].astype(kind)), (x + 0.5) / 16)
    torch.testing.assert_close(read(tmp_path / "x.npy", WIDE[None] / 16), x / 16)
    assert torch.equal(read(tmp_path / "x.npy", WIDE[None] > 8, support="binary"), 0.25 + 0.5 * (x > 8))
    assert torch.equal(read(tmp_path / "x.npy", WIDE[None], support="real"), x)  # whose unit is the file's
    assert torch.equal(read(tmp_path / "x.npy", WIDE[None] * 1e4, support="real"), x * 1e4)
    means = operators.block_means((1, 4, 6), 2)
    assert torch.equal(
        read(tmp_path / "x.npy", WIDE[None], (1, 4, 6), task="superresolve", operator=means), (x + 0.5) / 16
    )


def test_what_is_not_seen_may_hold_anything(tmp_path):
    seen = torch.tensor([[[True, False, True], [True, True, True]]])
    values = np.where(seen.numpy(), WIDE, -99)
    found = read(tmp_path / "x.npy", values, task="inpaint", operator=operators.Selection((1, 2, 3), seen))
    assert found.tolist() == ((torch.tensor([[0, 15, 7, 8, 9]]) + 0.5) / 16).tolist()


LEVELS = r"integers from 0 to 15, or floats from 0 \(the least\) to 1 \(the greatest\) are needed"


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        (WIDE + 1, {}, rf"integers from 1 to 16: {LEVELS}"),
        (WIDE - 1, {}, rf"integers from -1 to 14: {LEVELS}"),
        (WIDE / 1.0, {}, rf"values from 0 to 15: {LEVELS}"),
        (WIDE * 17 / 1.0, {"sigma": 3.0}, rf"values from 0 to 255: {LEVELS}"),
        (WIDE.astype(np.uint8), {"support": "unit"}, r"values from 0 to 15: floats from 0 .* to 1 .* are needed"),
    ],
)
def test_numbers_in_another_unit_are_refused(tmp_path, values, options, words):
    with pytest.raises(ValueError, match=words) as caught:
        read(tmp_path / "x.npy", values[None], **options)
    assert str(caught.value).startswith(f"sampler.input={tmp_path}")
    assert "\n" not in str(caught.value)


def test_a_product_has_no_levels(tmp_path):
    A = operators.Matrix((1, 2, 3), torch.ones(4, 6))
    assert read(tmp_path / "z.npy", np.full((1, 4), 99.0), task="matrix", operator=A).tolist() == [[99.0] * 4]
    with pytest.raises(ValueError, match="holds integers, but A x has no levels: floats are needed"):
        read(tmp_path / "z.npy", np.full((1, 4), 9), task="matrix", operator=A)


def test_an_image_of_any_height_and_width_is_read_as_it_is_seen(tmp_path):
    pixels = (WIDE * 17).astype(np.uint8)
    shown = torch.from_numpy(WIDE).flatten()[None] / 15.0
    for support, levels in (("levels:16", 16), ("levels:256", 256), ("binary", 2)):
        found = read(tmp_path / "x.png", pixels, support=support)
        torch.testing.assert_close(found, (shown * (levels - 1) + 0.5) / levels)
    torch.testing.assert_close(read(tmp_path / "x.png", pixels, support="unit"), shown)
    exif = Image.Exif()
    exif[0x112] = 6  # a viewer turns it by a quarter, clockwise
    Image.fromarray(np.ascontiguousarray(np.rot90(pixels))).save(tmp_path / "turned.png", exif=exif)
    found = from_file(
        str(tmp_path / "turned.png"), operators.Identity((1, 2, 3)), prepared((1, 2, 3), "unit"), "denoise", 0.1
    )
    torch.testing.assert_close(found.z, shown)
    with pytest.raises(ValueError, match="2 x 3 pixels; 3 x 2 are needed"):
        read(tmp_path / "x.png", pixels.T.copy())
    with pytest.raises(ValueError, match=r"an image file has no units, and these data are reals: an array of shape"):
        read(tmp_path / "x.png", pixels, support="real")
    with pytest.raises(ValueError, match=r"an array of shape \(2, 2, 3\) in a file .npy is needed"):
        read(tmp_path / "x.png", pixels, (2, 2, 3))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "inpaint"}, "given=null: sampler.task=inpaint needs what is seen"),
        ({"given": "top_half"}, "given=top_half: is for sampler.task=inpaint"),
        ({"task": "inpaint", "given": "top"}, "Did you mean 'top_half'"),
        ({"task": "superresolve", "factor": 3}, "factor=3 does not divide"),
        ({"task": "deblur", "blur": "box", "width": 2.5}, "whole number"),
        ({"draws": 50, "chains": 2, "steps": 20}, "draws=50"),
        ({"draws": 5}, "at least 19"),
        ({"method": "guided"}, "needs a model with a score"),
        ({"task": "denoize"}, "denoise"),
    ],
)
def test_what_makes_no_sense_is_refused(run, options, words):
    with pytest.raises(UsageError, match=words) as caught:
        run.ask("restore", 1, **options)
    assert "\n" not in str(caught.value)


def test_models_that_have_no_posterior_are_refused():
    real, bits = Spec((2,), Support("real")), Spec((4,), Support("binary"))
    ask, learned = Restore(), Learned()
    assert ask.way(Gaussian(real), learned) == "chain"
    field = three(VP())
    assert ask.way(field, learned) == "guided"
    with pytest.raises(ValueError, match=r"velocity only.*score"):
        ask.way(field, Learned(score=False))
    with pytest.raises(ValueError, match="method=chain needs an energy"):
        Restore(method="chain").way(field, learned)
    with pytest.raises(ValueError, match="neither an energy nor a score"):
        ask.way(VAE(real, net=LINEAR), learned)
    with pytest.raises(ValueError, match="x is binary"):
        ask.way(VAE(bits, net=LINEAR), learned)


def test_without_the_extra_it_says_how_to_get_it(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    with pytest.raises(UsageError, match=r"pip install gencli-nll\[images\]"):
        run.ask("restore", 1)


@pytest.mark.slow
@pytest.mark.usefixtures("few_tuned")
def test_the_command_writes_arrays_and_a_picture(run, capsys):
    pytest.importorskip("skimage")
    words = [f"sampler.{key}={value}" for key, value in FEW.items()]
    assert cli.main(["sample", f"run={run.path}", "sampler=restore", "n=2", "sampler.noise=0.2", *words]) == 0
    out = capsys.readouterr().out
    assert "psnr mean" in out
    assert "±" in out
    assert "from 0 (the least) to 1" in out
    (png,) = (run.path / "samples").glob("restore*.png")
    assert Image.open(png).size[0] > 300
    with np.load(png.with_suffix(".npz"), allow_pickle=False) as arrays:
        assert {"original", "observed", "degraded", "map", "mean", "deviation", "draws", "total_variation"} == {*arrays}


@pytest.mark.slow
@pytest.mark.usefixtures("few_tuned")
def test_a_record_has_the_numbers_of_the_answer(run, capsys):
    pytest.importorskip("skimage")
    words = [f"sampler.{key}={value}" for key, value in FEW.items()] + ["sampler.noise=0.2"]
    asked = ["eval", f"run={run.path}", "metrics=[restoration]", "sampler=restore", "estimator=null", "n=3"]
    assert cli.main([*asked, *words]) == 0
    assert "psnr_gain" in capsys.readouterr().out
    (file,) = (run.path / "eval").glob("test-restoration-*.json")
    record = json.loads(file.read_text())
    said = run.ask("restore", 3, noise=0.2, **FEW).diagnostics
    assert (record["value"], record["se"]) == pytest.approx((said["psnr_mean"], said["psnr_mean_se"]))
    assert record["better"] == "higher"
    assert record["settings"]["says"] == "dB of the posterior mean"
    assert (record["n_samples"], record["n_reference"]) == (3 * 19, 3)
    assert record["sampler_settings"]["noise"] == 0.2
    numbers = record["diagnostics"]
    assert numbers["psnr_gain"] == pytest.approx(said["psnr_mean"] - said["psnr_total_variation"])
    # image by image, which two separate errors do not know
    assert numbers["psnr_gain_se"] != pytest.approx(np.hypot(said["psnr_mean_se"], said["psnr_total_variation_se"]))
    assert numbers["coverage_90"] == said["coverage_90"]


def test_records_of_answers_need_the_question(run, tmp_path, capsys):
    pytest.importorskip("skimage")
    np.save(tmp_path / "mine.npy", np.full((1, 1, SIDE, SIDE), 8, dtype=np.uint8))
    ask = ["sampler=restore", "sampler.method=map"]
    for words, told in (
        (["metrics=[restoration]"], "metrics=[restoration] measures an answer: sampler=restore asks the question"),
        (["metrics=[restoration,mmd]", *ask], "metrics=[mmd] compares samples, and sampler=restore draws none"),
        (["metrics=[restoration]", *ask, f"sampler.input={tmp_path}/mine.npy"], "needs the truth"),
        (["metrics=[restoration]", *ask, "n=999"], "n=999: there are 60 held-out examples"),
        (["metrics=[psnr]", *ask], "Did you mean metrics=[restoration]?"),
    ):
        assert cli.main(["eval", f"run={run.path}", "estimator=null", *words]) == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1


@pytest.mark.slow
def test_intervals_of_integers_cover_the_value_that_was_seen(tmp_path):
    """The prior is right, a normal in bins of 1/16, which are wider than the posterior: 90 % within four errors."""
    x = np.floor(16 * np.random.default_rng(0).normal(0.5, 0.12, (1200, 6))).clip(0, 15).astype(np.uint8)
    np.savez(tmp_path / "x.npz", train=x[:800], val=x[800:1000], test=x[1000:])
    data = ["data=array", f"data.path={tmp_path}/x.npz", "data.support=levels:16", "data.transform=scale"]
    options = ["trainer.max_steps=2", "trainer.eval_every=2", "logger=none", "n=0", "device=cpu", "run_dir=bins"]
    run = gencli.train([*data, "model=gaussian", *options])
    found = run.ask("restore", 60, noise=0.01, chains=4, draws=40, warmup=100, steps=60).diagnostics
    assert abs(found["coverage_90"] - 0.9) < 4 * found["coverage_90_se"] + 0.02 < 0.1


@pytest.mark.slow
@pytest.mark.usefixtures("few_tuned")
def test_the_range_of_real_images_is_that_of_training_whatever_n_is(tmp_path):
    x = np.random.default_rng(0).normal(0, 10, (300, 1, 4, 4)).astype(np.float32)
    np.savez(tmp_path / "x.npz", train=x[:200], val=x[200:250], test=x[250:])
    options = ["trainer.max_steps=2", "trainer.eval_every=2", "logger=none", "n=0", "device=cpu", "run_dir=reals"]
    run = gencli.train(["data=array", f"data.path={tmp_path}/x.npz", "model=gaussian", *options])
    one, more = (run.ask("restore", n, method="map", noise=5.0).diagnostics for n in (1, 8))
    assert one["range"] == more["range"] == pytest.approx(float(x[:200].max() - x[:200].min()))
