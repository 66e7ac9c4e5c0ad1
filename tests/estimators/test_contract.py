"""What holds for every estimator: it keeps nothing, changes nothing, and its options are its fields."""

from __future__ import annotations

import math

import pytest
import torch
from energies import normal, spec
from estimates import NOTHING, SOURCE
from fields import gaussian
from torch import Tensor

from gencli import interfaces
from gencli.core import options
from gencli.core.errors import UsageError
from gencli.core.noise import RowNoise, StepNoise
from gencli.core.spec import Batch, Spec
from gencli.estimators.ais import AIS
from gencli.estimators.base import Estimate, Estimator, Shared
from gencli.estimators.bridge import Bridge
from gencli.estimators.elbo import ELBO
from gencli.estimators.exact import Exact
from gencli.estimators.iwae import IWAE
from gencli.estimators.ode import ODE
from gencli.estimators.partition import Importance, Quadrature
from gencli.estimators.parzen import Parzen
from gencli.estimators.smc import SMC
from gencli.estimators.vlb import VLB
from gencli.models.autoregressive.made import MADE
from gencli.models.classical.gmm import GMM
from gencli.models.classical.ppca import PPCA
from gencli.models.energy.reference import Reference
from gencli.paths.schedules import VP
from gencli.run.build import Builder
from gencli.run.record import nll_record
from gencli.run.scoring import Scores

CPU = torch.device("cpu")


def modes(away: float = 2.0) -> GMM:
    """Two unit normals of the plane."""
    model = GMM(spec(2), components=2, covariance="isotropic")
    with torch.no_grad():
        model.normals.mean[1, 0] = away
    return model.eval()


def latent() -> PPCA:
    torch.manual_seed(0)
    model = PPCA(spec(2), latent=1)
    model.initialize(normal(200, 2).float() @ torch.tensor([[1.0, 0.5], [0.0, 0.3]]))
    return model.eval()


def ensemble() -> MADE:
    torch.manual_seed(0)
    return MADE(spec(2), hidden=[8], direct=False, masks=3, orderings="random", components=2).eval()


def base(of: Spec) -> Reference:
    return Reference(of, widen=1.3)


SMALL = {"base": base, "chains": 200, "betas": 10, "leaps": 1}
TABLE = {
    "exact": (Exact, {}, modes, "exact"),
    "masks": (Exact, {"masks": 2}, ensemble, "exact"),
    "elbo": (ELBO, {}, latent, "upper"),
    "iwae": (IWAE, {"k": 20, "rows": 100}, latent, "upper"),
    "parzen": (Parzen, {"n": 400, "rows": 50}, modes, "estimate"),
    "ode": (ODE, {"atol": 1e-3, "rtol": 1e-3}, lambda: gaussian(VP()), "exact"),
    "hutchinson": (ODE, {"trace": "hutchinson", "method": "rk4", "steps": 8}, lambda: gaussian(VP()), "estimate"),
    "vlb": (VLB, {"samples": 4}, lambda: gaussian(VP()), "upper"),
    "importance": (Importance, {"proposal": base, "samples": 2000}, modes, "lower"),
    "quadrature": (Quadrature, {}, modes, "exact"),
    "ais": (AIS, SMALL, modes, "lower"),
    "reverse": (AIS, {**SMALL, "report": "reverse", "path": "moments"}, modes, "upper"),
    "smc": (SMC, SMALL, modes, "lower"),
    "bridge": (Bridge, SMALL, modes, "estimate"),
}
"""Each estimator: its class, options, a model that it serves, and what its number is to the true one."""


def made(name: str):
    kind, given, model, _ = TABLE[name]
    return kind(**given), model()


def rows(model, seed: int = 0, n: int = 60) -> Batch:
    return Batch(normal(n, model.spec.dim, seed).to(torch.get_default_dtype()))


def state_of(model) -> dict[str, object]:
    """Every parameter, buffer and plain attribute of a model and its parts."""
    found: dict[str, object] = {}
    for where, module in model.named_modules():
        for key, value in vars(module).items():
            if not key.startswith("_") and key != "evaluations":  # a count that the tests' own fields keep
                found[f"{where}.{key}"] = value.numpy().tobytes() if isinstance(value, Tensor) else repr(value)
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        found[name] = (value.detach().numpy().tobytes(), value.requires_grad, value.grad)
    return found


@pytest.mark.parametrize("name", TABLE)
def test_measuring_leaves_model_and_estimator_as_they_were(name):
    estimator, model = made(name)
    before, own = state_of(model), dict(vars(estimator))
    with torch.no_grad():
        shared = estimator.prepare(model, rows(model), StepNoise(CPU, 0))
        estimator.nll(model, rows(model, 1), RowNoise(1, torch.arange(60)), shared)
    assert state_of(model) == before
    assert vars(estimator) == own


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_two_measurements_with_one_estimator_know_nothing_of_each_other(name):
    estimator, model = made(name)

    def nll(shared: Shared) -> Tensor:
        with torch.no_grad():
            return estimator.nll(model, rows(model, 1), RowNoise(1, torch.arange(60)), shared).nll

    first = estimator.prepare(model, rows(model), StepNoise(CPU, 0))
    alone = nll(first)
    second = estimator.prepare(model, Batch(2 * rows(model, 7).x), StepNoise(CPU, 9))
    other = nll(second)
    assert torch.equal(nll(first), alone)
    if first.state is not None and name != "quadrature":
        assert not torch.equal(other, alone)


@pytest.mark.parametrize("name", TABLE)
def test_a_measurement_says_what_its_number_is(name):
    estimator, model = made(name)
    shared = estimator.prepare(model, rows(model), StepNoise(CPU, 0))
    assert shared.bound == TABLE[name][3]
    assert type(estimator).bound in ("exact", "upper", "lower", "estimate")


@pytest.mark.parametrize("name", ["importance", "quadrature", "ais", "reverse", "smc", "bridge", "parzen"])
def test_a_known_density_is_found(name):
    """Within four of its own standard errors, and a little for the grid and the kernels."""
    estimator, model = made(name)
    with torch.no_grad():
        x = model.sample(500, noise=StepNoise(CPU, 3))
        shared = estimator.prepare(model, Batch(x), StepNoise(CPU, 0))
        found = estimator.nll(model, Batch(x), RowNoise(1, torch.arange(500)), shared).nll.double().mean()
        exact = -model.log_prob(x).double().mean()
    slack = 0.15 if name == "parzen" else 2e-3
    assert float(found) == pytest.approx(float(exact), abs=4 * math.sqrt(shared.variance) + slack)


def test_bounds_of_a_latent_variable_model_are_in_order():
    """Of ppca every weight is p(x), so that both bounds are tight; noisy weights loosen them in turn."""

    class Wide(PPCA):
        def log_weights(self, x, k, y=None, *, noise, inferred=None, through=None):
            log_w = super().log_weights(x, k, y, noise=noise, inferred=inferred, through=through)
            return log_w + noise.randn(len(x), k).to(log_w) - 0.5  # weights of mean 1

    torch.manual_seed(0)
    model = Wide(spec(2), latent=1)
    model.initialize(normal(200, 2).float())
    x = rows(model, 5, 400)
    noise = RowNoise(3, torch.arange(400))
    with torch.no_grad():
        exact = Exact().nll(model, x, noise, NOTHING).nll.double().mean()
        nll = [IWAE(k=k).nll(model, x, noise, NOTHING).nll.mean() for k in (1, 4, 64)]
    assert nll[0] > nll[1] > nll[2] > exact - 0.02


class Even(PPCA):
    """All weights of a row are equal."""

    def log_weights(self, x, k, y=None, *, noise, inferred=None, through=None):
        return x[:, :1].expand(-1, k)


def test_equal_weights_have_no_variance_and_no_error():
    """Their effective number rounds to above k; the variance that follows from it must not fall below 0."""
    model, k = Even(spec(2), latent=1), 4
    x = normal(300, 2).float()
    model.initialize(x)
    with torch.no_grad():
        estimate = IWAE(k=k).nll(model, Batch(x), RowNoise(0, torch.arange(300)), NOTHING)
    assert float(estimate.diagnostics["ess"].max()) > k
    assert float(estimate.variance.min()) == 0
    assert float(estimate.variance.max()) < 1e-12
    one = int(estimate.diagnostics["ess"].argmax())
    scores = Scores(estimate.nll[[one]], {"model": estimate.nll[[one]]}, estimate.variance[[one]])
    assert nll_record(scores, shared=Shared("upper"), spec=model.spec, **SOURCE).se_estimator == 0


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (Exact, {"draws": 0}, "estimator.draws=0: an integer of at least 1"),
        (Exact, {"masks": 0}, "estimator.masks=0: an integer of at least 1 or null"),
        (IWAE, {"k": 0}, "estimator.k=0"),
        (ELBO, {"samples": 0}, "estimator.samples=0"),
        (Parzen, {"n": 1}, "estimator.n=1: an integer of at least 2"),
        (Parzen, {"rows": 0}, "estimator.rows=0"),
        (ODE, {"trace": "hutch"}, "estimator.trace=hutch: one of auto, exact, hutchinson"),
        (ODE, {"method": "rk45"}, "estimator.method=rk45: one of euler, heun, rk4, dopri5"),
        (ODE, {"probes": 1}, "estimator.probes=1: an integer of at least 2"),
        (ODE, {"rtol": 0}, "estimator.rtol=0: a number above 0"),
        (VLB, {"samples": 1}, "estimator.samples=1"),
        (VLB, {"timesteps": 1}, "estimator.timesteps=1"),
        (Importance, {"samples": 1}, "estimator.samples=1"),
        (Quadrature, {"tolerance": 0}, "estimator.tolerance=0"),
        (Quadrature, {"points": 255}, "estimator.points=255: an integer of at least 256"),
        (AIS, {"path": "straight"}, "estimator.path=straight: one of geometric, moments, model"),
        (AIS, {"target": 1.0}, "estimator.target=1.0"),
        (AIS, {"refresh": -1}, "estimator.refresh=-1"),
        (AIS, {"report": "both"}, "estimator.report=both: one of forward, reverse"),
        (Bridge, {"chains": 1}, "estimator.chains=1: an integer of at least 2"),
        (Bridge, {"refresh": -1}, "estimator.refresh=-1"),
        (SMC, {"threshold": 1.5}, "estimator.threshold=1.5"),
        (SMC, {"populations": 1}, "estimator.populations=1"),
        (AIS, {"report": "reverse", "reverse": False}, "estimator.report=reverse needs estimator.reverse=true"),
        (SMC, {"chains": 10}, "estimator.populations=8: a divisor of estimator.chains=10"),
        (SMC, {"chains": 8}, "estimator.populations=8: a divisor of estimator.chains=8"),
    ],
)
def test_refusals_name_the_key(kind, given, message):
    node = {"_target_": f"{kind.__module__}.{kind.__name__}", **given}
    with pytest.raises(UsageError) as error:
        Builder((), lambda path, trust: pytest.fail(path)).component(node, Estimator)
    assert message in str(error.value)


class Mine(Estimator):
    """As a package of one's own may have it: a constructor, and attributes that it sets."""

    bound = "estimate"

    def __init__(self, k=3, **options):
        super().__init__(**options)
        self.k = k
        self.examples = 10 * k
        self.scores_given = True

    def nll(self, model, batch, noise, shared):
        return Estimate(torch.full((len(batch.x),), float(self.k)))


def test_an_estimator_with_a_constructor_of_its_own():
    declared = options.of_class(Mine, 0, vars(interfaces))
    assert {*declared.hints} == {"k", "draws"}
    mine = Mine(k=5, draws=3)
    assert (mine.k, mine.draws, mine.examples, mine.scores_given, mine.variant) == (5, 3, 50, True, "")
    assert mine.prepare(modes(), None, StepNoise(CPU, 0)) == Shared("estimate")
    assert Estimator.draws == 2
