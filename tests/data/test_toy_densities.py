"""The densities of the toys, against the entropies that are known of them otherwise."""

import math

import pytest
import torch

from gencli.data.sets.gaussian import Gaussian
from gencli.data.sets.gmm import Mixture
from gencli.data.sets.potentials import ENTROPIES, Potential
from gencli.data.sets.toys import GENERATORS, Toy

KNOWN = [name for name in GENERATORS if name != "pinwheel"]


@pytest.mark.parametrize("name", KNOWN)
def test_the_mean_of_minus_log_p_is_the_entropy(name):
    data = Toy(name, train=1, val=1, test=600)
    surprise = -data.log_density(data.split("test").x)
    error = float(surprise.std()) / math.sqrt(len(surprise)) + data.entropy_error
    assert float(surprise.mean()) == pytest.approx(data.entropy, abs=4 * error + 1e-9)


@pytest.mark.parametrize("name", ["moons", "checkerboard", "two_gaussians"])
def test_a_density_integrates_to_one(name):
    side = torch.linspace(-8, 8, 81, dtype=torch.float64)[:-1] + 0.1
    p = Toy(name, train=1).log_density(torch.cartesian_prod(side, side)).exp()
    assert float(p.sum()) * 0.2**2 == pytest.approx(1, abs=0.01)


def test_other_data_know_theirs():
    for data in (Gaussian(dim=3, test=2000), Mixture(dim=3, test=2000)):
        surprise = -data.log_density(data.split("test").x)
        assert float(surprise.mean()) == pytest.approx(data.entropy, abs=4 * float(surprise.std()) / math.sqrt(2000))
    assert Toy("pinwheel", train=1).log_density(torch.zeros(3, 2)) is None


@pytest.mark.parametrize("which", ENTROPIES)
def test_potentials_are_drawn_from_their_density(which):
    data = Potential(which, train=1, val=1, test=20_000)
    x = data.split("test").x
    surprise = -data.log_density(x)
    assert float(surprise.mean()) == pytest.approx(data.entropy, abs=4 * float(surprise.std()) / math.sqrt(len(x)))
    side = torch.linspace(-9, 9, 361, dtype=torch.float64)
    points = torch.cartesian_prod(side, side)
    p = data.log_density(points).exp() * float(side[1] - side[0]) ** 2
    assert float(p.sum()) == pytest.approx(1, abs=1e-4)
    for moment in (lambda x: x[:, 0].cos(), lambda x: x[:, 1], lambda x: x[:, 0] * x[:, 1]):  # mean by both ways
        seen = moment(x.double())
        assert float(seen.mean()) == pytest.approx(
            float(p @ moment(points)), abs=4 * float(seen.std()) / math.sqrt(len(x))
        )
