"""Latent variable models: bounds in the right order below exact answers, weights, gradients, normalised parts."""

from __future__ import annotations

import functools
import importlib
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn

from gencli.core.noise import RowNoise, StepNoise
from gencli.core.spec import Batch, Spec, Support
from gencli.data.preprocess import Preprocess
from gencli.estimators.elbo import ELBO as EstimateELBO
from gencli.estimators.iwae import IWAE as EstimateIWAE
from gencli.models.base import DataInitialized, DirectSampling, ExactLikelihood, LatentVariable
from gencli.models.classical.ppca import PPCA
from gencli.models.latent.decoders import DECODERS, make_decoder
from gencli.models.latent.hvae import HVAE
from gencli.models.latent.vae import VAE
from gencli.nn.mlp import MLP
from gencli.nn.pyramid import Pyramid
from gencli.objectives.elbo import ELBO
from gencli.objectives.iwae import IWAE

REAL = Support("real")
CLASSES = 3
LINEAR = functools.partial(MLP, hidden=[])
SMALL = functools.partial(MLP, hidden=[16], activation="tanh")
FLOW = {"transforms": 2, "hidden": [12], "features": 5}


def noise(n: int, seed: int = 3) -> RowNoise:
    return RowNoise(seed, torch.arange(n))


def rows(n: int, *shape: int, seed: int = 2) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def jitter(model: nn.Module, scale: float = 0.3, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)


def data(support: str, shape: tuple[int, ...], n: int = 200) -> tuple[Spec, Tensor]:
    """A specification, and examples as they come to a model."""
    spec = Spec(shape, Support.parse(support), CLASSES)
    if spec.support.kind == "real":
        return spec, rows(n, *shape).float()
    x = torch.randint(0, spec.support.levels, (n, *shape), generator=torch.Generator().manual_seed(4))
    return spec, x.float() if spec.support.kind == "binary" else x


def labels(n: int) -> Tensor:
    return torch.arange(n) % CLASSES


# --- instances -------------------------------------------------------------------------------------------------------

VAES = {
    "vae": {},
    "vae-iaf": {"posterior": "iaf", "flow": FLOW},
    "vae-realnvp": {"posterior": "realnvp", "flow": FLOW},
    "vae-mixture": {"prior": "mixture", "prior_components": 7},
    "vae-vamp": {"prior": "vamp", "prior_components": 7},
    "vae-flow": {"prior": "flow", "flow": FLOW},
    "vae-iaf-flow": {"posterior": "iaf", "prior": "flow", "flow": FLOW},
}
NAMES = [*VAES, "hvae", "hvae-3"]


def build(
    name: str, support: str = "binary", shape: tuple[int, ...] = (6,), conditional: bool = False, scale: float = 0.3
) -> tuple[LatentVariable, Tensor]:
    """A model started from data and moved off its start, in fp64, with those data."""
    spec, x = data(support, shape)
    torch.manual_seed(0)
    model: LatentVariable
    if name.startswith("hvae"):
        layers = {"hvae": ((4, 2), ((8,),)), "hvae-3": ((4, 3, 2), ((8,), (7,)))}[name]
        model = HVAE(spec, net=SMALL, latent=layers[0], hidden=layers[1], conditional=conditional)
    else:
        model = VAE(spec, net=SMALL, latent=3, conditional=conditional, **VAES[name])
    model.initialize(x, labels(len(x)))
    jitter(model, scale)
    return model.double().eval(), x.double() if support in ("real", "binary") else x


class LinearVAE:
    """A VAE whose networks are linear and whose decoder is Gaussian: p(x) is a known normal."""

    def __init__(self, D: int = 5, d: int = 2) -> None:
        torch.manual_seed(0)
        self.model = VAE(Spec((D,), REAL), net=LINEAR, latent=d).double()
        jitter(self.model, 0.4)
        self.W = self.model.decoder.net.layers[0].weight.detach()
        self.mean = (self.model.decoder.net.layers[0].bias + self.model.decoder.bias[0]).detach()
        self.noise = float(self.model.decoder.log_std.detach().exp()) ** 2
        covariance = self.W @ self.W.T + self.noise * torch.eye(D).double()
        self.exact = torch.distributions.MultivariateNormal(self.mean, covariance)

    def set_posterior(self, widen: float) -> None:
        """Give q the posterior's mean, and its marginal standard deviations times ``widen``."""
        d = self.W.shape[1]
        M = self.W.T @ self.W + self.noise * torch.eye(d).double()
        gain = torch.linalg.solve(M, self.W.T)
        layer = self.model.encoder.layers[0]
        with torch.no_grad():
            layer.weight.zero_()
            layer.weight[:d] = gain
            layer.bias[:d] = -gain @ self.mean
            layer.bias[d:] = 0.5 * (self.noise * torch.linalg.inv(M).diagonal()).log() + math.log(widen)


# --- bounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("widen", [None, 1.0, 1.5])
def test_bounds_are_in_order_below_the_exact_likelihood(widen):
    """ELBO <= L_5 <= L_50 <= log p, each difference within 4 standard errors of paired samples."""
    linear = LinearVAE()
    if widen is not None:
        linear.set_posterior(widen)
    n, k = 50, 1000
    x = linear.exact.sample((n,))
    with torch.no_grad():
        log_w = linear.model.log_weights(x, k, noise=noise(n))
        terms = linear.model.elbo(x, noise=noise(n, 8))
        levels = [log_w]
        for m in (5, 50):
            groups = log_w.view(n, k // m, m).logsumexp(2) - math.log(m)
            levels.append(groups.repeat_interleave(m, 1))
    levels.append(linear.exact.log_prob(x)[:, None].expand(n, k))
    for low, high in pairwise(levels):
        gap = (high - low).view(n, -1, 50).mean(2)  # groups of 50 are independent
        error = gap.std(1).square().mean().div(gap.numel()).sqrt()
        assert gap.mean() > -4 * error
    if widen != 1.0:
        assert (levels[-1] - levels[0]).mean() > 0.01
    # the analytic decomposition is the same ELBO
    one = -(terms.distortion + terms.rate.sum(1)) - log_w.mean(1)
    assert abs(one.mean()) < 4 * one.std() / math.sqrt(n)


def test_many_samples_reach_the_exact_likelihood():
    linear = LinearVAE()
    linear.set_posterior(1.5)
    x = linear.exact.sample((20,))
    with torch.no_grad():
        estimate = EstimateIWAE(k=5000).nll(linear.model, Batch(x), noise(20))
    away = estimate.nll + linear.exact.log_prob(x)
    assert away.abs().max() < 0.05
    assert (away / estimate.variance.sqrt()).abs().max() < 4.5


def test_stated_variance_is_that_of_repeated_estimates():
    linear = LinearVAE()
    linear.set_posterior(1.5)
    x = linear.exact.sample((1,)).expand(2000, 5)
    with torch.no_grad():
        estimate = EstimateIWAE(k=200).nll(linear.model, Batch(x), noise(2000))
    ratio = float(estimate.nll.var() / estimate.variance.mean())
    assert ratio == pytest.approx(1, abs=0.15)  # 4 standard errors of a variance of 2000 values


def test_ppca_weights_are_all_equal():
    x = rows(300, 9) @ rows(9, 9, seed=5) + 3
    model = PPCA(Spec((9,), REAL), latent=4)
    model.initialize(x.float())
    for precision, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-10)):
        model, some = model.to(precision), x[:50].to(precision)
        log_p = model.log_prob(some)
        assert (model.log_weights(some, 20, noise=noise(50)) - log_p[:, None]).abs().max() < tolerance
        terms = model.elbo(some, noise=noise(50))
        assert (terms.distortion + terms.rate.sum(1) + log_p).abs().max() < tolerance
    W = model.W
    exact = torch.distributions.MultivariateNormal(
        model.mean, W @ W.T + (2 * model.log_sigma).exp() * torch.eye(9).double()
    )
    assert torch.allclose(model.log_prob(x), exact.log_prob(x))
    sample = model.sample(20_000, noise=noise(20_000))
    assert (torch.cov(sample.T) - exact.covariance_matrix).abs().max() < 0.06 * exact.covariance_matrix.abs().max()


@pytest.mark.slow  # scikit-learn takes its time to be imported
@pytest.mark.parametrize(("latent", "published"), [(20, 152.21), (40, 140.84)])
def test_ppca_of_the_digits(latent, published):
    """x + u in 0..17 as it is, no transform: what scikit-learn's PCA.score says, but for its n - 1."""
    decomposition = pytest.importorskip("sklearn.decomposition")
    from gencli.data.sets.digits import Digits

    digits = Digits()
    preprocess = Preprocess(digits.spec, PPCA.supports, PPCA.shapes)
    train, test = (digits.split(name).gather(torch.arange(n)).x for name, n in (("train", 1297), ("test", 300)))
    x, _ = preprocess(train, StepNoise(torch.device("cpu"), 0))
    model = PPCA(preprocess.model_spec, latent=latent)
    model.initialize(x)
    z, terms = preprocess(test, noise(300))
    nll = float((terms["bins"] - model.log_prob(z)).mean())
    sklearn = decomposition.PCA(latent, svd_solver="full").fit(17 * x.double().numpy())
    assert nll == pytest.approx(-sklearn.score(17 * z.double().numpy()), abs=5e-3)
    assert nll == pytest.approx(published, abs=0.3)  # that was another draw of u


@pytest.mark.parametrize("name", NAMES)
def test_weights_have_the_probability_as_their_mean(name):
    """Over all 2^6 states the estimates of p(x) add up to 1 within 4.5 standard errors: p, q and noise fit together."""
    model, _ = build(name, scale=0.05 if "flow" in name or name == "hvae-3" else 0.12)  # else weights have heavy tails
    states = torch.cartesian_prod(*[torch.arange(2.0, dtype=torch.float64)] * 6)
    k = 3000
    with torch.no_grad():
        w = model.log_weights(states, k, noise=noise(64)).exp()
    error = (w.var(1) / k).sum().sqrt()
    assert error < 0.03
    assert abs(float(w.mean(1).sum()) - 1) < 4.5 * float(error)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("conditional", [False, True])
def test_elbo_terms_are_the_mean_log_weight(name, conditional):
    if conditional and name == "vae-vamp":
        pytest.skip("refused")
    model, x = build(name, conditional=conditional)
    n = 200
    y = labels(n)
    with torch.no_grad():
        log_w = model.log_weights(x, 200, y, noise=noise(n))
        terms = [model.elbo(x, y, noise=noise(n, seed)) for seed in range(10, 40)]
    nll = torch.stack([t.distortion + t.rate.sum(1) for t in terms])
    gap = nll.mean(0) + log_w.mean(1)
    error = math.sqrt(float(nll.var(0).mean() / 30 + log_w.var(1).mean() / 200) / n)
    assert abs(float(gap.mean())) < 4.5 * error
    assert terms[0].rate.shape[0] == n


def test_hvae_that_is_linear_and_gaussian_stays_below_the_exact_likelihood():
    torch.manual_seed(0)
    model = HVAE(Spec((4,), REAL), net=LINEAR, latent=(3, 2), hidden=[[]]).double()
    jitter(model, 0.15)
    with torch.no_grad():
        for net, d in ((model.up[0], 2), (model.down[0], 3)):
            net.layers[0].weight[d:] = 0  # constant scales
    down, out = model.down[0].layers[0], model.decoder.net.layers[0]
    A, a = down.weight[:3], down.bias[:3]
    inner = A @ A.T + torch.diag((2 * down.bias[3:]).exp())
    W = out.weight
    covariance = W @ inner @ W.T + (2 * model.decoder.log_std).exp() * torch.eye(4).double()
    exact = torch.distributions.MultivariateNormal(W @ a + out.bias + model.decoder.bias[0], covariance)
    with torch.no_grad():
        x = exact.sample((40,))
        log_p = exact.log_prob(x)
        estimators = [EstimateELBO(), *(EstimateIWAE(k=k) for k in (5, 50, 10_000))]
        nll = [float(e.nll(model, Batch(x), noise(40)).nll.mean()) for e in estimators]
    assert nll[0] > nll[1] > nll[2] > nll[3]
    assert nll[3] == pytest.approx(-float(log_p.mean()), abs=0.05)


# --- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vae", "vae-realnvp", "vae-iaf", "vae-vamp", "hvae"])
def test_dreg_has_the_expectation_of_the_plain_gradient(name):
    """Along random directions of all parameters the two agree within 4.5 standard errors; dreg's spread is smaller."""
    model, x = build(name, shape=(4,), scale=0.25)
    x = x[:1]
    n, k, repeats = 400, 6, 12
    parameters = list(model.parameters())
    generator = torch.Generator().manual_seed(9)
    normal = functools.partial(torch.randn, generator=generator, dtype=torch.float64)
    directions = [[normal(p.shape) for p in parameters] for _ in range(4)]

    def slopes(gradient: str, seed: int) -> Tensor:
        (turn,) = IWAE(model.spec, k=k, gradient=gradient).turns(model)
        loss = turn.loss(Batch(x.expand(n, -1)), noise(n, seed)).value
        g = torch.autograd.grad(loss, parameters, allow_unused=True)
        return torch.stack([sum((a * b).sum() for a, b in zip(g, d, strict=True) if a is not None) for d in directions])

    plain = torch.stack([slopes("plain", seed) for seed in range(repeats)])
    dreg = torch.stack([slopes("dreg", seed) for seed in range(repeats)])
    gap = dreg - plain  # the same noise: what they share cancels
    assert (gap.mean(0).abs() < 4.5 * gap.std(0) / math.sqrt(repeats) + 1e-9).all()
    assert gap.abs().max() > 1e-9  # and yet they are not the same estimator


def test_dreg_vanishes_for_an_exact_posterior():
    """With q the posterior log w is constant in z: the gradient of q's parameters is 0 sample by sample."""
    linear = LinearVAE(d=1)
    linear.set_posterior(1.0)
    x = linear.exact.sample((30,))

    def gradient(kind: str) -> float:
        (turn,) = IWAE(linear.model.spec, k=8, gradient=kind).turns(linear.model)
        loss = turn.loss(Batch(x), noise(30)).value
        return max(float(g.abs().max()) for g in torch.autograd.grad(loss, linear.model.encoder.parameters()))

    assert gradient("dreg") < 1e-9
    assert gradient("plain") > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_held_parameters_give_the_same_weights(name):
    model, x = build(name)
    with torch.no_grad():
        plain = model.log_weights(x, 4, noise=noise(200))
        held = model.log_weights(x, 4, noise=noise(200), through=lambda z: z)
    assert (plain - held).abs().max() < 1e-8
    assert all(p.requires_grad for p in model.parameters())


def test_objective_elbo():
    model, x = build("vae", support="levels:5")
    batch = Batch(x, progress=0.25)
    terms = model.elbo(x, noise=noise(200))
    distortion, rate = terms.distortion.mean(), terms.rate.mean(0)

    def loss(**options: float) -> Tensor:
        (turn,) = ELBO(model.spec, **options).turns(model)
        return turn.loss(batch, noise(200)).value

    assert torch.isclose(loss(), distortion + rate.sum())
    assert torch.isclose(loss(beta=3.0), distortion + 3 * rate.sum())
    assert torch.isclose(loss(beta=3.0, warmup=0.5), distortion + 1.5 * rate.sum())
    free = float(rate.median())
    assert torch.isclose(loss(free_bits=free), distortion + rate.clamp(min=free).sum())
    score = ELBO(model.spec, beta=3.0, warmup=0.5, free_bits=1.0).score(model, batch, noise(200))
    assert torch.allclose(score, terms.distortion + terms.rate.sum(1))


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda s: ELBO(s, beta=-1), "objective.beta"),
        (lambda s: ELBO(s, warmup=2), "objective.warmup"),
        (lambda s: IWAE(s, k=0), "objective.k"),
        (lambda s: IWAE(s, gradient="double"), "objective.gradient"),
        (lambda s: EstimateIWAE(k=0), "estimator.k"),
        (lambda s: EstimateELBO(samples=0), "estimator.samples"),
        (lambda s: VAE(s, net=SMALL, latent=0), "model.latent"),
        (lambda s: VAE(s, net=SMALL, posterior="planar"), "model.posterior"),
        (lambda s: VAE(s, net=SMALL, prior="cauchy"), "model.prior"),
        (lambda s: VAE(s, net=SMALL, prior="vamp", conditional=True), "model.prior"),
        (lambda s: VAE(s, net=SMALL, prior="flow", latent=1), "model.prior"),
        (lambda s: VAE(s, net=SMALL, posterior="realnvp", latent=1), "model.posterior"),
        (lambda s: VAE(s, net=SMALL, decoder="poisson"), "model.decoder"),
        (lambda s: VAE(s, net=SMALL, variance="full"), "model.variance"),
        (lambda s: HVAE(s, net=SMALL, latent=(3,), hidden=()), "model.latent"),
        (lambda s: HVAE(s, net=SMALL, latent=(3, 2), hidden=()), "model.hidden"),
        (lambda s: PPCA(s, latent=6), "model.latent"),
        (lambda s: PPCA(s, conditional=True), "model.conditional"),
    ],
)
def test_refusals(make, key):
    with pytest.raises(ValueError, match=key.replace(".", r"\.")):
        make(Spec((6,), REAL, CLASSES))


def test_ppca_refuses_dreg():
    with pytest.raises(ValueError, match=r"objective\.gradient"):
        IWAE(Spec((6,), REAL), gradient="dreg").check(PPCA(Spec((6,), REAL), latent=2))


# --- the estimator ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vae", "vae-iaf", "hvae"])
def test_samples_used_are_those_reported_for_any_batch_and_piece(name):
    model, x = build(name, scale=0.12)
    x = x[:12]
    with torch.no_grad():
        whole = EstimateIWAE(k=101, rows=10**6).nll(model, Batch(x), noise(12))
        for size, limit in ((12, 90), (5, 20), (1, 30)):
            estimator = EstimateIWAE(k=101, rows=limit)
            parts = []
            for ids in torch.arange(12).split(size):
                used = estimator.log_weights(model, Batch(x[ids]), RowNoise(3, ids))
                assert used.shape == (len(ids), 101)
                parts.append(estimator.nll(model, Batch(x[ids]), RowNoise(3, ids)))
            assert torch.allclose(torch.cat([p.nll for p in parts]), whole.nll, atol=1e-8)
            for key, value in whole.diagnostics.items():
                assert torch.allclose(torch.cat([p.diagnostics[key] for p in parts]), value, atol=1e-6), key
    assert (whole.diagnostics["k"] == 101).all()
    assert (whole.diagnostics["ess"] <= 101 + 1e-6).all()
    with torch.no_grad():
        first = EstimateIWAE(k=10).nll(model, Batch(x), noise(12))
    assert torch.allclose(whole.diagnostics["nll_tenth"], first.nll)


def test_active_units_are_counted():
    linear = LinearVAE()
    linear.set_posterior(1.0)
    with torch.no_grad():
        linear.model.encoder.layers[0].weight[1] = 0  # the mean of unit 1 is constant
    shared = EstimateIWAE().prepare(linear.model, Batch(linear.exact.sample((500,))), noise(500))
    assert shared.diagnostics == {"active_units": 1.0, "latent_dim": 2}


# --- decoders --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "support"),
    [
        ("bernoulli", "binary"),
        ("categorical", "binary"),
        ("categorical", "categorical:3"),
        ("categorical", "levels:4"),
        ("logistic", "levels:2"),
        ("logistic", "levels:4"),
        ("logistic", "levels:256"),
    ],
)
@pytest.mark.parametrize("scale", [0.5, 6.0])
def test_decoders_sum_to_one_and_say_their_own_mean(name, support, scale):
    spec, x = data(support, (2,))
    decoder = make_decoder(name, spec, SMALL, 3, 0, components=2, variance="shared")
    decoder.initialize(x)
    jitter(decoder, scale)
    decoder.double()
    z = rows(4, 3)
    K = spec.support.levels
    if K > 100:  # coordinates are independent: a line through all values of the first one, at a fixed second
        states = torch.stack([torch.arange(K), torch.full((K,), 7)], 1)
    else:
        states = torch.cartesian_prod(torch.arange(K), torch.arange(K))
    with torch.no_grad():
        log_p = decoder.log_prob(states.double() if name == "bernoulli" else states, z[None].expand(len(states), 4, 3))
        mean = decoder.mean(z)
    if K > 100:
        other = torch.stack([torch.full((K,), 7), torch.arange(K)], 1)
        with torch.no_grad():
            second = decoder.log_prob(other, z[None].expand(K, 4, 3))
        both = log_p.logsumexp(0) + second.logsumexp(0)  # log P(x2=7) + log P(x1=7) = log P(7, 7)
        assert torch.allclose(both, log_p[7], atol=1e-6)
    else:
        assert torch.allclose(log_p.logsumexp(0), torch.zeros(4).double(), atol=1e-6)
        if spec.support.kind != "categorical":
            assert torch.allclose(torch.einsum("sn,sd->nd", log_p.exp(), states.double()), mean, atol=1e-5)


@pytest.mark.parametrize("variance", ["shared", "pixel", "network"])
def test_gaussian_decoders_integrate_to_one(variance):
    spec = Spec((1,), REAL)
    decoder = make_decoder("gaussian", spec, SMALL, 3, 0, components=1, variance=variance)
    jitter(decoder, 0.7)
    decoder.double()
    grid = torch.linspace(-60, 60, 24_001).double()[:, None]
    z = rows(1, 4, 3).expand(len(grid), 4, 3)
    with torch.no_grad():
        log_p = decoder.log_prob(grid, z)
        assert torch.allclose(log_p.exp().sum(0) * 0.005, torch.ones(4).double(), atol=1e-6)
        assert torch.allclose((log_p.exp() * grid).sum(0) * 0.005, decoder.mean(z[0])[:, 0], atol=1e-6)


@pytest.mark.parametrize("name", list(DECODERS))
def test_decoders_start_at_the_marginals_of_the_data(name):
    """Before training the NLL is about that of independent coordinates."""
    support = {"bernoulli": "binary", "categorical": "categorical:4", "logistic": "levels:16", "gaussian": "real"}[name]
    spec = Spec((3,), Support.parse(support))
    p = torch.tensor([0.1, 0.5, 0.9])
    n = 4000
    generator = torch.Generator().manual_seed(0)
    if name == "gaussian":
        x = 2 * torch.randn(n, 3, generator=generator) + p
        expected = float(0.5 * (x.var(0).mean().log() + math.log(2 * math.pi) + 1)) * 3
    else:
        top = spec.support.levels - 1
        x = (torch.rand(n, 3, top, generator=generator) < p[:, None]).sum(2)  # binomial
        counts = torch.stack([torch.bincount(x[:, j], minlength=top + 1) for j in range(3)]).double() / n
        expected = float(-(counts * counts.clamp(min=1e-9).log()).sum())
    model = VAE(spec, net=SMALL, latent=2, decoder=name, components=1)
    inputs = x.float() if name in ("bernoulli", "gaussian") else x
    model.initialize(inputs)
    with torch.no_grad():
        terms = model.elbo(inputs, noise=noise(n))
    assert terms.rate.abs().max() < 0.1 * n
    assert float(terms.distortion.mean()) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("support", ["levels:256", "real", "categorical:5"])
def test_bernoulli_refuses_anything_but_bits(support):
    for kind in (VAE, functools.partial(HVAE, latent=(3, 2))):
        with pytest.raises(ValueError, match=r"model\.decoder=bernoulli"):
            kind(Spec((4,), Support.parse(support)), net=SMALL, decoder="bernoulli")


def test_decoders_sample_what_they_score():
    for name, support in (("bernoulli", "binary"), ("categorical", "levels:4"), ("logistic", "levels:4")):
        spec, x = data(support, (2,))
        decoder = make_decoder(name, spec, SMALL, 3, 0, components=2, variance="shared")
        decoder.initialize(x)
        jitter(decoder, 1.0)
        n, K = 20_000, spec.support.levels
        z = rows(1, 3).float().expand(n, 3)
        with torch.no_grad():
            drawn = decoder.sample(z, noise=noise(n)).long()
            states = torch.cartesian_prod(torch.arange(K), torch.arange(K))
            p = decoder.log_prob(states.float() if K == 2 else states, z[: K * K, None]).exp()[:, 0].double()
        seen = torch.bincount(K * drawn[:, 0] + drawn[:, 1], minlength=K * K)
        keep = n * p > 5
        chi2 = ((seen - n * p)[keep].square() / (n * p)[keep]).sum()
        df = int(keep.sum())
        assert chi2 < df + 4.5 * math.sqrt(2 * df)


# --- priors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", ["standard", "mixture", "vamp", "flow"])
@pytest.mark.parametrize("d", [1, 2])
def test_priors_integrate_to_one_and_sample_themselves(prior, d):
    if prior == "flow" and d == 1:
        pytest.skip("refused")
    spec, x = data("binary", (6,))
    torch.manual_seed(0)
    model = VAE(spec, net=SMALL, latent=d, prior=prior, prior_components=5, flow=FLOW)
    model.initialize(x)
    jitter(model, 0.15)
    model.double()
    axis = torch.linspace(-9, 9, 901 if d == 2 else 20_001).double()
    grid = torch.cartesian_prod(*[axis] * d).view(-1, d)
    with torch.no_grad():
        p = model.prior.log_prob(grid).exp() * float(axis[1] - axis[0]) ** d
        z = model.prior.sample(20_000, noise(20_000)).double()
    assert float(p.sum()) == pytest.approx(1, abs=2e-3)
    mean = p @ grid
    error = z.std(0) / math.sqrt(len(z))
    assert ((z.mean(0) - mean).abs() < 4.5 * error + 1e-3).all()
    variance = p @ (grid - mean).square()
    assert torch.allclose(z.var(0), variance, rtol=0.08)


def test_vamp_is_the_mean_of_the_encoders_posteriors():
    model, _ = build("vae-vamp")
    z = rows(5, 3)
    with torch.no_grad():
        mean, log_std = model._moments(model.prior.inputs)
        normals = torch.distributions.Normal(mean, log_std.exp())
        expected = normals.log_prob(z[:, None]).sum(2).logsumexp(1) - math.log(7)
        assert torch.allclose(model.prior.log_prob(z), expected, atol=1e-9)
        in_fp32 = model.float().prior.log_prob(z.float())
    assert torch.allclose(in_fp32.double(), expected, atol=1e-3)


# --- shapes, samples, codes ------------------------------------------------------------------------------------------

KINDS = [("binary", (6,)), ("real", (4,)), ("levels:5", (1, 4, 4)), ("categorical:3", (5,)), ("binary", (1, 12, 10))]


@pytest.mark.parametrize(("support", "shape"), KINDS)
@pytest.mark.parametrize("name", ["vae", "hvae"])
@pytest.mark.parametrize("conditional", [False, True])
def test_every_kind_of_data(name, support, shape, conditional):
    spec, x = data(support, shape, n=12)
    image = {"width": 2, "hidden": 8}
    net = functools.partial(Pyramid, vector={"hidden": [8]}, image=image)
    options = {"latent": (4, 2), "hidden": ((8,),)} if name == "hvae" else {"latent": 3}
    model = (HVAE if name == "hvae" else VAE)(spec, net=net, conditional=conditional, **options)
    y = labels(12)
    model.initialize(x, y)
    jitter(model, 0.1)
    log_w = model.log_weights(x, 3, y, noise=noise(12))
    log_w.sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert log_w.shape == (12, 3)
    with torch.no_grad():
        code = model.encode(x, y)
        assert code.shape == (12, model.latent_dim)
        assert model.decode(code, y).shape == x.shape
        drawn = model.sample(12, y, noise=noise(12))
        alone = torch.cat([model.sample(1, y[i : i + 1], noise=RowNoise(3, torch.tensor([i]))) for i in range(12)])
    assert drawn.shape == x.shape
    assert drawn.dtype == x.dtype
    close = torch.isclose(drawn.double(), alone.double(), atol=1e-5)
    assert close.float().mean() > 0.98  # rounding may tip a discrete draw
    if conditional:
        with pytest.raises(ValueError, match="needs y"):
            model.encode(x)


def test_hvae_codes_go_through_what_was_inferred():
    model, x = build("hvae-3", support="real", shape=(4,))
    with torch.no_grad():
        code = model.encode(x)
        z_1 = model.infer(x)[0]
        assert torch.allclose(model._generate(code), z_1, atol=1e-8)


def test_iaf_posterior_starts_as_its_mean_field_twin():
    spec, x = data("binary", (6,))
    torch.manual_seed(0)
    model = VAE(spec, net=SMALL, latent=3, posterior="iaf", flow=FLOW)
    mean, log_std, _ = model.infer(x)
    z, _ = model._sample_q(model.infer(x), 2, noise(200))
    assert torch.allclose(z.flip(2), mean[:, None] + log_std.exp()[:, None] * noise(200).randn(200, 2, 3))


def test_capabilities():
    for kind in (VAE, HVAE, PPCA):
        assert issubclass(kind, LatentVariable)
        assert issubclass(kind, DirectSampling)
        assert issubclass(kind, DataInitialized)
    assert issubclass(PPCA, ExactLikelihood)


@pytest.mark.parametrize(("side", "levels"), [((28, 28), 2), ((9, 13), 3), ((32, 32), 3)])
def test_pyramids_reach_the_image_they_promise(side, levels):
    shape = (2, *side)
    image = {"width": 2, "levels": levels, "hidden": 8}
    x = torch.zeros(3, 5)
    assert Pyramid((5,), shape, 4, image=image)(x, torch.zeros(3, 4)).shape == (3, *shape)
    assert Pyramid(shape, (7,), 4, image=image)(torch.zeros(3, *shape), torch.zeros(3, 4)).shape == (3, 7)


CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("name", ["vae", "hvae", "ppca"])
def test_configs_are_constructor_calls(name):
    options = yaml.safe_load((CONFIGS / "model" / f"{name}.yaml").read_text())
    module, _, target = options.pop("_target_").rpartition(".")
    kind = getattr(importlib.import_module(module), target)
    if {"/net@net": "pyramid"} in options.pop("defaults"):
        net = yaml.safe_load((CONFIGS / "net" / "pyramid.yaml").read_text())
        net.pop("_target_")
        options["net"] = functools.partial(Pyramid, **net)
    if "latent" in options and name == "ppca":
        options["latent"] = 2
    model = kind(Spec((4,), REAL), **options)
    assert model.log_weights(torch.zeros(3, 4), 2, noise=noise(3)).shape == (3, 2)
