"""Densities in the plane: what is drawn is p, a bound on it, or neither, and says which."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gencli.core.errors import UsageError
from gencli.data.preprocess import Preprocess
from gencli.data.sets.digits import Digits
from gencli.data.sets.gaussian import Gaussian
from gencli.data.sets.toys import Toy
from gencli.estimators.iwae import IWAE
from gencli.estimators.ode import ODE
from gencli.models.classical.gmm import GMM
from gencli.models.classical.ppca import PPCA
from gencli.models.energy.exponential import Quadratic
from gencli.pictures import caption, plane, style, surface
from gencli.pictures.density import Density
from gencli.pictures.samples import of_samples
from gencli.run.assembly import Parts
from gencli.run.run import load

LOW, HIGH = torch.tensor([-7.0, -7.0]), torch.tensor([7.0, 7.0])


def parts_of(kind, dataset=None, estimator=None, **options):
    dataset = dataset or Gaussian(train=200, val=20, test=20)
    preprocess = Preprocess(dataset.spec, kind.supports, kind.shapes)
    torch.manual_seed(0)
    model = kind(preprocess.model_spec, **options)
    return Parts(torch.device("cpu"), dataset, preprocess, model, None, None, estimator)


def test_a_density_has_all_of_its_mass_in_a_wide_frame():
    drawn = surface.surface_of(parts_of(PPCA, latent=1), LOW, HIGH, 60)
    assert drawn.normalised
    assert drawn.how == ""
    assert drawn.mass == pytest.approx(1, abs=1e-3)


def test_rows_are_the_second_coordinate():
    parts = parts_of(PPCA, latent=1)
    drawn = surface.surface_of(parts, LOW, HIGH, 8)
    points = surface.grid_points(parts, LOW, HIGH, 8)
    assert points[1, 0] == points[0, 0]
    assert float(drawn.log_p[3, 5]) == pytest.approx(float(surface.log_density(parts, points[5 * 8 + 3 :][:1])[0]))


def test_an_energy_is_no_density_until_log_z_is_measured(monkeypatch):
    parts = parts_of(Quadratic)
    free = surface.surface_of(parts, LOW, HIGH, 60)
    assert not free.normalised
    figure, axes = plane.canvas.figure(1, 4, 3)
    plane.draw_log(figure, axes[0], free)
    assert axes[0].get_title() == "-E(x) = log p(x) + log Z, nats"
    log_z = math.log(free.mass)
    monkeypatch.setattr(surface, "record_of", lambda parts: {"diagnostics": {"log_z": log_z}})
    known = surface.surface_of(parts, LOW, HIGH, 60)
    assert known.normalised
    assert known.mass == pytest.approx(1, abs=1e-6)
    assert "record" in known.how


def test_importance_weights_give_a_lower_bound_close_to_the_density(monkeypatch):
    parts = parts_of(PPCA, latent=1, estimator=IWAE(k=5000))
    exact = surface.surface_of(parts, LOW, HIGH, 12)
    monkeypatch.setattr(surface, "Unnormalized", type("None of them", (), {}))
    bound = surface.surface_of(parts, LOW, HIGH, 12)
    assert bound.how == "a lower bound by IWAE"
    near = exact.log_p > exact.log_p.max() - 6
    assert float((bound.log_p - exact.log_p)[near].abs().max()) < 0.5


def test_a_coarse_estimator_is_never_finer_than_its_own():
    assert IWAE(k=50).coarse() == IWAE(k=50)
    assert IWAE(k=5000).coarse().k == 200
    assert ODE().coarse() == replace(ODE(), atol=1e-3, rtol=1e-3)
    assert ODE(atol=0.1, rtol=1e-8).coarse() == replace(ODE(), atol=0.1, rtol=1e-3)


@pytest.mark.parametrize(
    ("dataset", "options", "says"),
    [
        (Gaussian(dim=3, train=20), {}, "data=gaussian is not of two real columns"),
        (Digits(), {}, "data=digits is not of two real columns"),
        (Toy("moons", train=20), {"conditional": True}, "the model is conditional"),
    ],
)
def test_what_has_no_density_in_the_plane_is_refused(dataset, options, says):
    parts = SimpleNamespace(
        dataset=dataset,
        model=SimpleNamespace(conditional=options.get("conditional", False)),
        preprocess=SimpleNamespace(stochastic=False),
    )
    with pytest.raises(UsageError, match=f"^picture=density shows a density in the plane; {says}"):
        Density().make(parts, 4, 0)


@pytest.mark.slow
def test_the_truth_stands_beside_the_model_in_the_same_colours():
    parts = parts_of(PPCA, latent=1)
    with style.applied():
        figure = Density(side=20).make(parts, 4, 0).figures[""]
    images = [axis.images[0] for axis in figure.axes if axis.images]
    assert len(images) == 4  # p and log p, of both
    assert images[0].get_clim() == images[1].get_clim()
    assert images[2].get_clim() == images[3].get_clim()
    titles = [axis.get_title() for axis in figure.axes if axis.images]
    assert [title.split(":")[0] for title in titles] == ["true", "model", "true", "model"]


def test_a_number_stands_above_its_own_weights_only(tiny_run):
    shutil.copytree(tiny_run, "run")
    file = Path("run/eval/test-exact.json")
    record = json.loads(file.read_text())
    run = load("run", device="cpu")
    assert f"NLL = {record['value']:.3f}" in caption.title(run.parts)
    assert "NLL" not in caption.title(load("run", device="cpu", checkpoint="last", weights="raw").parts)
    for split in ("test", "val", "train"):  # as an interrupted resume leaves them
        Path(f"run/eval/{split}-exact.json").write_text(
            json.dumps({**record, "checkpoint_sha256": "0" * 64, "seal": None})
        )
    assert caption.title(run.parts) == "realnvp on moons"


@pytest.mark.parametrize(
    ("bound", "flags", "said"),
    [
        ("exact", [], "NLL = 2.500 ± 0.100 nats (1.803 bits/dim, exact)"),
        ("upper", ["in-sample"], "NLL ≤ 2.500 ± 0.100 nats (1.803 bits/dim, upper bound; in-sample)"),
        ("lower", [], "NLL ≥ 2.500 ± 0.100 nats (1.803 bits/dim, lower bound)"),
        ("estimate", [], "NLL ≈ 2.500 ± 0.100 nats (1.803 bits/dim, estimate)"),
    ],
)
def test_a_bound_is_called_one(bound, flags, said):
    record = {"bound": bound, "value": 2.5, "unit": "nats", "split": "test", "se_examples": 0.1, "flags": flags}
    record["bits_per_dim"] = 1.8034
    assert caption.number_of(record) == said


def test_true_p_of_one_dimension():
    parts = parts_of(GMM, Gaussian(dim=1, train=200), components=1)
    with style.applied():
        (axis,) = of_samples(parts, torch.randn(50, 1)).axes
    assert [line.get_label() for line in axis.lines] == ["p(x) of the model", "true p(x)"]
