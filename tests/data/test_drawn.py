"""Data sets without files, embedded or drawn from a seed; and that every config of data is one call."""

import ast
import importlib
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from data_sets import FETCHED, needs_files

from gencli.core.spec import Support
from gencli.data.sets.crabs import COUNTS, Crabs
from gencli.data.sets.digits import Digits
from gencli.data.sets.gaussian import Gaussian
from gencli.data.sets.gmm import Mixture
from gencli.data.sets.synthetic_tabular import RADIUS, STD, SyntheticTabular
from gencli.data.sets.toys import GENERATORS, Toy

CONFIGS = Path(__file__).parents[2] / "configs" / "data"


MODULES = Path(__file__).parents[2] / "gencli" / "data" / "sets"


def rows(split):
    return [tuple(r) for r in split.x.flatten(1).tolist()]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.stem)
def test_config_is_one_call(path):
    assert re.match(r"# \S.{10,100}\n_target_: ", path.read_text())
    node = yaml.safe_load(path.read_text())
    module, name = node.pop("_target_").rsplit(".", 1)
    tree = ast.parse((MODULES / f"{module.rsplit('.', 1)[1]}.py").read_text())
    classes = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef)}
    own = [classes[name]]
    for cls in own:  # which grows
        own += [classes[base.id] for base in cls.bases if isinstance(base, ast.Name) and base.id in classes]
    literals = {
        n.target.id: n.value.value
        for cls in reversed(own)
        for n in cls.body
        if isinstance(n, ast.AnnAssign) and isinstance(n.value, ast.Constant)
    }
    if path.stem == "synthetic_tabular":
        assert literals["support"] == "mixed"
    elif path.stem not in ("array", "csv", "text_file"):  # whose support is in the file or an option
        assert Support.parse(literals["support"])
    if path.stem not in ("array", "text_file", "series"):
        assert literals["shape_kind"] in ("vector", "image")
    if path.stem in ("array", "csv", "graph", "image_folder", "series", "text_file"):
        return

    for key in ("transform", "alpha", "flip"):
        node.pop(key, None)
    data = getattr(importlib.import_module(module), name)(**node)
    which = getattr(data, "set", None) or getattr(data, "toy", None) or getattr(data, "which", None)
    which = data.task.name if data.task else which
    assert data.name == (f"{path.stem}_{which}" if which else path.stem)
    assert data.spec.kind == literals["shape_kind"]
    assert str(data.spec.support).partition("(")[0] == literals["support"]


def test_digits_are_the_known_split():
    data = Digits()
    splits = [data.split(name) for name in ("train", "val", "test")]
    assert [len(s) for s in splits] == [1297, 200, 300]
    assert data.split("other") is None
    from sklearn.datasets import load_digits

    everything = sorted(tuple(r) for r in load_digits().data.astype(int).tolist())
    assert sorted(r for s in splits for r in rows(s)) == everything

    # The independent categorical model, smoothed by one count: 107.8 nats are known for this split.
    train, test = splits[0].x.flatten(1).long(), splits[2].x.flatten(1).long()
    p = (torch.nn.functional.one_hot(train, 17).double().sum(0) + 1) / (len(train) + 17)
    assert float(-p.gather(1, test.T).log().sum(0).mean()) == pytest.approx(107.84, abs=0.1)

    image = data.to_image(splits[0].x)
    assert (image.min(), image.max(), tuple(image.shape)) == (0, 1, (1297, 1, 8, 8))


def test_crabs_are_pearsons():
    whole = Crabs()
    assert (len(whole.split("train")), whole.split("val"), whole.split("test"), whole.train_on) == (
        1000,
        None,
        None,
        "all",
    )
    assert torch.bincount(whole.split("train").x.flatten().int()).tolist() == [count for _, count in COUNTS]
    offset, width = Crabs.unit
    for k, (upper, _) in enumerate(COUNTS[:-1]):
        assert offset + width * (k + 1) == pytest.approx(upper)

    dealt = Crabs(in_sample=False)
    assert [len(dealt.split(n)) for n in ("train", "val", "test")] == [800, 100, 100]
    assert dealt.train_on == "train"


@needs_files
def test_crabs_equal_the_published_table():
    lines = (Path(FETCHED) / "naples_crabs" / "pearson.txt").read_text().split("\n")[1:]
    assert [(float(a), int(b)) for a, b in (line.split() for line in lines if line)] == list(COUNTS)


def mixture_nll(x, centres, std):
    """-log p under equal isotropic Gaussians, (N,)."""
    squares = (x[:, None] - centres[None]).square().sum(2) / (2 * std**2)
    return -((-squares).logsumexp(1) - math.log(len(centres)) - math.log(2 * math.pi * std**2))


def ring_nll(x, radii, std):
    """-log p under equal rings of radius R blurred by std: the mean over R of N(r; R) exp(..) I0(r R / std^2)."""
    r = x.norm(dim=1, keepdim=True)
    radii = torch.tensor(radii, dtype=torch.float64)
    bessel = torch.special.i0e(r * radii / std**2).log()
    return -((-((r - radii) ** 2) / (2 * std**2) + bessel).logsumexp(1) - math.log(len(radii) * 2 * math.pi * std**2))


def eight():
    angle = torch.arange(8).double() * math.pi / 4
    return torch.stack([angle.cos(), angle.sin()], 1) * 4 / 1.414


TRUE_NLL = {
    "circles": lambda x: ring_nll(x, [3.0, 1.5], 0.24),
    "rings": lambda x: ring_nll(x, [3.0, 2.25, 1.5, 0.75], 0.08),
    "eight_gaussians": lambda x: mixture_nll(x, eight(), 0.5 / 1.414),
    "twentyfive_gaussians": lambda x: mixture_nll(
        x, torch.cartesian_prod(*[torch.arange(-2, 3).double() * 4] * 2) / 1.414, 0.2 / 1.414
    ),
    "two_gaussians": lambda x: (
        -torch.logaddexp(
            math.log(0.2) - 0.5 * (x - x.new_tensor([-4.0, 0.0])).square().sum(1),
            math.log(0.8) - 0.5 * (x - x.new_tensor([4.0, 0.0])).square().sum(1),
        )
        + math.log(2 * math.pi)
    ),
    "checkerboard": lambda x: torch.where(
        ((x[:, 0] / 2).floor() + (x[:, 1] / 2).floor()) % 2 == 0, x.new_tensor(math.log(32)), math.inf
    ),
}


@pytest.mark.parametrize("which", sorted(TRUE_NLL))
def test_nll_of_the_true_density_is_the_entropy(which):
    data = Toy(which)
    nll = TRUE_NLL[which](data.split("train").x.double())
    assert nll.isfinite().all()
    error = nll.std().item() / math.sqrt(len(nll))
    assert nll.mean().item() == pytest.approx(data.entropy, abs=4 * error + data.entropy_error + 1e-9)


def test_entropies_are_the_tabulated_ones():
    table = {
        "twentyfive_gaussians": 2.145032,
        "eight_gaussians": 2.8317,
        "circles": 3.2680,
        "moons": 2.3935,
        "pinwheel": 2.3181,
        "swissroll": 2.6695,
        "spirals": 2.6455,
        "checkerboard": 3.465736,
    }
    for which, entropy in table.items():
        assert GENERATORS[which][1] == pytest.approx(entropy, abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["moons", "circles", "rings", "pinwheel", "swissroll", "spirals", "eight_gaussians"])
def test_histogram_entropy_is_the_tabulated_one(which):
    """Histogram entropies with Miller-Madow correction; Richardson removes their error of order (bin size)^2.

    Their standard error is about that of the mean of -log p, whose deviation is near 1: 0.0008 of 1,500,000 draws.
    """
    generate, entropy, _ = GENERATORS[which]
    rng, n = np.random.default_rng(5), 1_500_000
    x = generate(rng, n)
    estimates = []
    for side in (0.05, 0.1):
        cells = np.floor(x / side).astype(np.int64)
        counts = np.unique(cells[:, 0] * 100_000 + cells[:, 1], return_counts=True)[1]
        p = counts / n
        estimates.append(-(p * np.log(p)).sum() + (len(p) - 1) / (2 * n) + 2 * math.log(side))
    assert (4 * estimates[0] - estimates[1]) / 3 == pytest.approx(entropy, abs=4e-3)


def test_toy_splits_are_fixed_and_apart():
    a, b = Toy("moons", 500, 200, 100), Toy("moons", 500, 200, 100)
    assert [len(a.split(n)) for n in ("train", "val", "test")] == [500, 200, 100]
    assert a.split("train").sha256 == b.split("train").sha256
    assert len({r for n in ("train", "val", "test") for r in rows(a.split(n))}) == 800
    assert Toy("moons", 500, 200, 100, seed=1).split("train").sha256 != a.split("train").sha256


def test_the_synthetic_table_has_the_entropy_of_its_law():
    data = SyntheticTabular(train=40_000)
    x = data.split("train").x.double()
    r = x[:, :2].norm(dim=1)
    nll = (
        ((r - RADIUS) / STD).square() / 2
        + math.log(math.sqrt(2 * math.pi) * STD)
        + (2 * math.pi * r).log()
        + math.log(4)
    )
    assert float(nll.mean()) == pytest.approx(data.entropy, abs=4 * float(nll.std()) / math.sqrt(len(nll)))
    angle = torch.atan2(x[:, 1], x[:, 0]) % (2 * math.pi)
    clear = (8 * angle / (2 * math.pi) % 1 - 0.5).abs() < 0.49  # not where float32 decides
    colour = ((8 * angle / (2 * math.pi)).floor() + 4 * x[:, 2]) % 16
    assert torch.equal(colour[clear], x[clear, 3])
    assert torch.bincount(x[:, 2].long()).double().sub(10_000).abs().max() < 4 * math.sqrt(7500)
    rows = data.to_rows(data.split("val").x[:3])
    assert [type(rows[name][0]) for name in ("x", "y", "ring", "colour")] == [float, float, int, int]
    assert data.to_plane(data.split("val").x).norm(dim=1).max() == pytest.approx(6, abs=0.3)


@pytest.mark.parametrize("dim", [1, 2, 30])
def test_gaussian_entropy_is_its_nll(dim):
    data = Gaussian(dim=dim, seed=4)
    law = torch.distributions.MultivariateNormal(data.mean, data.covariance)
    assert data.entropy == pytest.approx(law.entropy().item())
    nll = -law.log_prob(data.split("train").x.double())
    assert nll.mean().item() == pytest.approx(data.entropy, abs=4 * nll.std().item() / math.sqrt(len(nll)))


@pytest.mark.parametrize("dim", [1, 2, 30])
def test_mixture_entropy_is_its_nll(dim):
    data = Mixture(dim=dim, components=4, seed=4)
    law = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(data.weights),
        torch.distributions.Independent(torch.distributions.Normal(data.means, 1.0), 1),
    )
    x = data.split("train").x.double()
    torch.testing.assert_close(data.log_prob(x), law.log_prob(x))
    nll = -data.log_prob(x)
    error = math.hypot(nll.std().item() / math.sqrt(len(nll)), data.entropy_error)
    assert nll.mean().item() == pytest.approx(data.entropy, abs=4 * error)
