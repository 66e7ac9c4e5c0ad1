"""Discrete data that stand for points of the plane: clouds where they belong, and the KL where all can be listed."""

import math

import pytest
import torch

from gencli.data.preprocess import Preprocess
from gencli.data.sets.gray_toys import GrayToys
from gencli.data.sets.synthetic_tabular import SyntheticTabular
from gencli.models.base import Unnormalized
from gencli.models.classical.independent import Independent
from gencli.pictures import canvas, plane, style, surface
from gencli.pictures.samples import of_samples
from gencli.run.assembly import Parts

FEW = {"train": 3000, "val": 10, "test": 10}


def parts_of(dataset, model):
    preprocess = Preprocess(dataset.spec, model.supports, model.shapes)
    return Parts(torch.device("cpu"), dataset, preprocess, model, None, None, None)


class Table(Unnormalized):
    """The energy of the law itself, off by a constant."""

    supports = ("binary",)

    def __init__(self, dataset):
        super().__init__(dataset.spec)
        every, log_p = dataset.law()
        self.code = 1 << torch.arange(16)
        self.e = torch.empty(1 << 16, dtype=torch.float64)
        self.e[(every.long() * self.code).sum(1)] = 3.0 - log_p.clamp(min=-200)

    def energy(self, x, y=None):
        return self.e[(x.long() * self.code).sum(1)]


def test_the_kl_of_sixteen_bits_is_a_sum_over_all_states():
    data = GrayToys("circles", 16, **FEW)
    log_z, kl = surface.normalised(parts_of(data, Table(data)))
    assert (log_z, kl) == (pytest.approx(-3), pytest.approx(0, abs=1e-9))
    model = Independent(data.spec)  # logits 0: the uniform distribution
    log_z, kl = surface.normalised(parts_of(data, model))
    assert (log_z, kl) == (pytest.approx(0, abs=1e-5), pytest.approx(16 * math.log(2) - data.entropy, abs=1e-5))


@pytest.mark.parametrize("bits", [16, 32])
def test_codes_are_drawn_where_their_points_lie(bits):
    data = GrayToys("circles", bits, **FEW)
    parts = parts_of(data, Independent(data.spec))
    clouds, shown, density = of_samples(parts, data.split("test").x).axes[:3]
    radius = torch.from_numpy(clouds.collections[0].get_offsets().data).norm(dim=1)
    assert float((radius - 3).abs().minimum((radius - 1.5).abs()).quantile(0.99)) < 0.7
    assert shown.get_title() == "10 samples"
    kl = 16 * math.log(2) - data.entropy
    assert density.get_title() == ("log p(x), nats" + (f"; KL(data | model) = {kl:.4f}" if bits == 16 else ""))
    assert torch.tensor(density.images[0].get_array().data).std() < 1e-6  # a uniform distribution


def test_a_table_of_rings_is_drawn_with_its_rings_apart():
    data = SyntheticTabular(**FEW)
    radius = surface.in_plane(data, data.split("train").x).norm(dim=1)
    assert all(float((radius / 1.5 - k).abs().min()) < 0.01 for k in (1, 2, 3, 4))
    assert not surface.has_surface(parts_of(data, Independent(data.spec)))


def test_few_points_are_drawn_larger():
    with style.applied():
        (axis,) = canvas.figure(1, 3, 3)[1]
        few, many = (plane.scatter(axis, torch.zeros(n, 2), style.MODEL).get_sizes() for n in (64, 5000))
    assert few > 4 * many
