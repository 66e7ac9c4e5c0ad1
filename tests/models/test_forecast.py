"""Roll-outs and their skill: scores with known values, forecasts of a system by its own law."""

import math
from dataclasses import dataclass

import pytest
import torch

from gencli.core.spec import Spec, Support
from gencli.core.uncertainty import standard_error
from gencli.data.base import Dataset
from gencli.data.preprocess import Preprocess
from gencli.data.sets.dynamics import Advection, Lorenz63
from gencli.data.sets.gaussian import Gaussian
from gencli.data.transitions import transitions
from gencli.metrics.forecast import Forecast
from gencli.models import forecast
from gencli.models.base import Model
from gencli.models.subject import Subject
from gencli.models.trained import Learned
from gencli.samplers.rollout import Rollout


@dataclass(frozen=True, kw_only=True)
class TrueLaw(Subject):
    """A system as its own model, whose noise may be off by a factor."""

    factor: float = 1.0
    bound = "exact"

    def nll(self, batch):
        raise NotImplementedError

    def draw(self, n, y=None, number=0):
        generator = torch.Generator().manual_seed(1000 * self.seed + number)
        return self.dataset.advance(y) + self.factor * self.dataset.noise * torch.randn(
            n, y.shape[1], generator=generator
        )

    def noise(self, rows, number=0):
        raise NotImplementedError

    def data(self, name):
        raise NotImplementedError


class Conditional(Model):
    """A model that only says that it is conditional."""


def subject(dataset, factor=1.0, seed=0):
    return TrueLaw(
        model=Conditional(dataset.spec, conditional=True),
        learned=Learned(),
        dataset=dataset,
        preprocess=Preprocess(dataset.spec, ("real",), ("vector",)),
        split=dataset.split("test"),
        device=torch.device("cpu"),
        seed=seed,
        batch_size=500,
        factor=factor,
    )


@pytest.fixture(scope="module")
def wave():
    return Advection(dimension=8, train=20, val=1, test=60, length=30)


def crps_of_normal(m, s, x):
    """The CRPS of N(m, s^2) in closed form (Gneiting and Raftery, 2007)."""
    z = (x - m) / s
    normal = torch.distributions.Normal(0.0, 1.0)
    return s * (z * (2 * normal.cdf(z) - 1) + 2 * normal.log_prob(z).exp() - 1 / math.sqrt(math.pi))


@pytest.mark.parametrize("members", [2, 5, 50])
def test_the_fair_crps_is_unbiased_whatever_the_members(members):
    generator = torch.Generator().manual_seed(members)
    m, s, n = 0.7, 2.0, 20_000
    truth = torch.tensor([-1.0, 0.7, 3.0]).double()
    ensemble = m + s * torch.randn(n, members, 3, generator=generator, dtype=torch.float64)
    found = forecast.fair_crps(ensemble, truth.expand(n, 3))
    error = found.std(0) / math.sqrt(n)
    assert ((found.mean(0) - crps_of_normal(m, s, truth)) / error).abs().max() < 3.5


def test_the_fair_crps_is_its_definition():
    x, o = torch.randn(4, 6, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    pairs = (x[:, :, None] - x[:, None]).abs().sum((1, 2)) / (2 * 6 * 5)
    assert torch.allclose(forecast.fair_crps(x, o), (x - o[:, None]).abs().mean(1) - pairs)


def test_starts_are_of_one_trajectory_and_far_enough_from_its_end(wave):
    begun = forecast.starts(wave, wave.split("test"), 100, 25)
    assert begun.truth.shape == (100, 25, 8)
    states = torch.cat([begun.state[:, None], begun.truth], 1)
    for k in range(25):  # a step within a trajectory is F and noise
        z = (states[:, k + 1].double() - wave.advance(states[:, k])) / wave.noise
        assert z.abs().max() < 6
    every = forecast.starts(wave, wave.split("test"), 10**6, 25)
    assert len(every.y) == 60 * 6
    assert len(every.groups.unique()) == 60
    with pytest.raises(ValueError, match="30 steps is how far held-out states of data=advection reach, not 31"):
        forecast.starts(wave, wave.split("test"), 5, 31)
    with pytest.raises(ValueError, match="data=gaussian is no series of states"):
        forecast.starts(Gaussian(train=5, val=5, test=5), None, 5, 1)


@pytest.mark.parametrize("lead", [1, 4, 12])
def test_trajectories_are_told_apart_whatever_the_lead(lead):
    """The first rows of each go on from none; that is no end of a trajectory."""
    generator = torch.Generator().manual_seed(0)

    class Walk(Dataset):
        name, follows, spec = "walk", lead, Spec((1,), Support("real"), context=(1,))

        def split(self, which):
            return None

    several = transitions(torch.randn(30, 40, 1, generator=generator), lead=lead)
    found = forecast.starts(Walk(), several, len(several), 1).groups
    assert torch.equal(found.unique(return_inverse=True)[1], several.groups)
    one = transitions(torch.randn(1, 2000, 1, generator=generator), lead=lead)
    blocks = forecast.starts(Walk(), one, len(one), 1).groups
    assert 19 <= len(blocks.unique()) <= 22
    assert torch.equal(blocks, blocks.sort().values)


def test_a_system_forecasts_itself_with_the_spread_that_it_should(wave):
    found = Forecast(leads=[1, 8], members=20, starts=360).measure(subject(wave))
    values, at = found.diagnostics, wave.multiplier.abs()
    for lead in (1, 8):
        assert abs(values[f"spread/skill@{lead}"] - 1) < 3 * values[f"se_spread/skill@{lead}"]
    # after t steps each wave number has variance sigma^2 (1 + |m|^2 + ... + |m|^(2 (t - 1))); 0 and D / 2 count once
    each = torch.tensor([1.0, 2, 2, 2, 1], dtype=torch.float64) / 8
    for lead in (1, 8):
        variance = wave.noise**2 * float((each * sum(at ** (2 * k) for k in range(lead))).sum())
        rmse = math.sqrt(variance * (1 + 1 / 20))
        assert abs(values[f"rmse@{lead}"] - rmse) < 3 * values[f"se_rmse@{lead}"]
        assert abs(values[f"crps@{lead}"] - math.sqrt(variance / math.pi)) < 3 * values[f"se_crps@{lead}"]
    assert values["crps@8"] < min(values["crps_persistence@8"], values["crps_climatology@8"])
    assert values["acc@1"] > values["acc@8"] > 0.5
    assert found.value == pytest.approx((values["crps@1"] + values["crps@8"]) / 2)
    assert found.drawn == 360 * 20


def test_too_little_noise_is_seen(wave):
    right = Forecast(leads=[1], starts=60).measure(subject(wave))
    wrong = Forecast(leads=[1], starts=60).measure(subject(wave, factor=0.3))
    assert wrong.diagnostics["spread/skill@1"] < 0.4
    assert wrong.value > right.value + 3 * right.se


def test_scaling_by_the_climate_takes_units_away(wave):
    found = Forecast(leads=[2], starts=60, standardised=True).measure(subject(wave))
    assert 0.9 < found.diagnostics["rmse_climatology@2"] < 1.1


def test_errors_of_means_are_those_of_groups():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(60, generator=generator, dtype=torch.float64)
    groups = torch.arange(12).repeat_interleave(5)
    found = forecast._jackknifed({"a": values}, groups, lambda e: e["a"])
    known = standard_error(values.numpy(), None, groups.numpy())
    assert found.se == pytest.approx(known.value)
    assert forecast._jackknifed({"a": values}, torch.zeros(60), lambda e: e["a"]).se is None


def test_members_do_not_depend_on_what_is_asked_for_beside_them():
    dataset = Lorenz63(length=12, train=2, val=1, test=4)
    few = Rollout(steps=3, members=4).answer(subject(dataset), 4)
    many = Rollout(steps=6, members=4).answer(subject(dataset), 4)
    assert few.arrays["members"].shape == (4, 4, 3, 3)
    assert many.arrays["truth"].shape == (4, 6, 3)
    first = Rollout(steps=3, members=4).answer(subject(dataset), 4)
    assert torch.equal(first.arrays["members"], few.arrays["members"])
    assert not torch.equal(few.arrays["members"][0, 0], few.arrays["members"][0, 1])
    assert {"rmse@3", "crps@1", "rmse@3_se"} <= {*few.diagnostics}


def test_what_leaves_all_bounds_is_said():
    dataset = Lorenz63(length=12, train=2, val=1, test=4)
    with pytest.raises(ValueError, match="leaves all bounds at step"):
        Rollout(steps=12).answer(subject(dataset, factor=1e200), 2)
