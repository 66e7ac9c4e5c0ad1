"""Latent variable models: bounds in the right order below exact answers, and what the estimator reports."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from estimates import NOTHING
from latents import LINEAR, NAMES, REAL, LinearVAE, build, jitter, labels, noise, rows
from refusals import built

from gencli.core.errors import UsageError
from gencli.core.noise import RowNoise, StepNoise
from gencli.core.spec import Batch, Spec
from gencli.data.preprocess import Preprocess
from gencli.estimators.elbo import ELBO as EstimateELBO
from gencli.estimators.iwae import IWAE as EstimateIWAE
from gencli.models.classical.ppca import PPCA
from gencli.models.latent.hvae import HVAE


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
        estimate = EstimateIWAE(k=5000).nll(linear.model, Batch(x), noise(20), NOTHING)
    away = estimate.nll + linear.exact.log_prob(x)
    assert away.abs().max() < 0.05
    assert (away / estimate.variance.sqrt()).abs().max() < 4.5


def test_stated_variance_is_that_of_repeated_estimates():
    linear = LinearVAE()
    linear.set_posterior(1.5)
    x = linear.exact.sample((1,)).expand(2000, 5)
    with torch.no_grad():
        estimate = EstimateIWAE(k=200).nll(linear.model, Batch(x), noise(2000), NOTHING)
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
    nll = float((terms["bins"] - model.log_prob(z)).detach().mean())
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
        nll = [float(e.nll(model, Batch(x), noise(40), NOTHING).nll.mean()) for e in estimators]
    assert nll[0] > nll[1] > nll[2] > nll[3]
    assert nll[3] == pytest.approx(-float(log_p.mean()), abs=0.05)


@pytest.mark.parametrize("name", ["vae", "vae-iaf", "hvae"])
def test_samples_used_are_those_reported_for_any_batch_and_piece(name):
    model, x = build(name, scale=0.12)
    x = x[:12]
    with torch.no_grad():
        whole = EstimateIWAE(k=101, rows=10**6).nll(model, Batch(x), noise(12), NOTHING)
        for size, limit in ((12, 90), (5, 20), (1, 30)):
            estimator = EstimateIWAE(k=101, rows=limit)
            parts = []
            for ids in torch.arange(12).split(size):
                used = estimator.log_weights(model, Batch(x[ids]), RowNoise(3, ids), 101)
                assert used.shape == (len(ids), 101)
                parts.append(estimator.nll(model, Batch(x[ids]), RowNoise(3, ids), NOTHING))
            assert torch.allclose(torch.cat([p.nll for p in parts]), whole.nll, atol=1e-8)
            for key, value in whole.diagnostics.items():
                assert torch.allclose(torch.cat([p.diagnostics[key] for p in parts]), value, atol=1e-6), key
    assert (whole.diagnostics["k"] == 101).all()
    assert (whole.diagnostics["ess"] <= 101 + 1e-6).all()
    with torch.no_grad():
        first = EstimateIWAE(k=10).nll(model, Batch(x), noise(12), NOTHING)
    assert torch.allclose(whole.diagnostics["nll_tenth"], first.nll)


def test_active_units_are_counted():
    linear = LinearVAE()
    linear.set_posterior(1.0)
    with torch.no_grad():
        linear.model.encoder.layers[0].weight[1] = 0  # the mean of unit 1 is constant
    shared = EstimateIWAE().prepare(linear.model, Batch(linear.exact.sample((500,))), noise(500))
    assert shared.diagnostics == {"active_units": 1.0, "latent_dim": 2}


def test_samples_go_by_time_and_are_told_and_one_number_is_by_all():
    """With less time the bound is that of fewer samples, bit by bit, and the record says of how many."""
    linear = LinearVAE()
    linear.set_posterior(0.6)
    x = linear.exact.sample((12,))
    auto, examples = EstimateIWAE(), Batch(linear.exact.sample((100,)))
    with torch.no_grad():
        for seconds, k in ((None, 5000), (1e9, 5000), (1e-9, 50)):
            shared = auto.within(seconds).prepare(linear.model, examples, StepNoise(torch.device("cpu"), 0))
            assert shared.settled == {"k": k}
            assert shared.flags == (() if k == 5000 else ("50 of 5,000 samples a row",))
            found = auto.nll(linear.model, Batch(x), noise(12), shared).nll
            assert torch.equal(found, EstimateIWAE(k=k).nll(linear.model, Batch(x), noise(12), NOTHING).nll)
        few = EstimateIWAE(k=7).within(1e-9).prepare(linear.model, examples, StepNoise(torch.device("cpu"), 0))
    assert (few.settled, few.flags) == ({}, ())  # what was asked for is kept


@pytest.mark.parametrize(
    ("key", "kind", "options"),
    [("estimator.k=0", EstimateIWAE, {"k": 0}), ("estimator.samples=0", EstimateELBO, {"samples": 0})],
)
def test_wrong_options_of_the_estimators(key, kind, options):
    with pytest.raises((UsageError, ValueError), match=f"^{key}"):
        built("estimator", kind, **options)
