"""Games: critics by hand, turns that touch only their own, the validation score."""

import math

import numpy as np
import pytest
import torch
from games import GAMES, REALS, Linear, batch, game, noise, small_critic, small_net
from torch import nn

from gencli.core.noise import RowNoise
from gencli.core.spec import Spec, Support
from gencli.models.generator import Generator
from gencli.nn.adversarial import CriticNet, GeneratorNet
from gencli.objectives.adversarial import GAN, WGAN, WGANGP, Hinge, energy_distance

# --- losses ---


def test_a_critic_that_cannot_tell_gives_two_ln_two():
    objective, _ = game(GAN)
    zero = torch.zeros(5)
    assert objective.critic_loss(zero, zero) == pytest.approx(2 * math.log(2))
    assert objective.model_loss(zero) == pytest.approx(math.log(2))


def test_the_best_critic_of_the_gan_gives_the_jensen_shannon_divergence():
    """D* = log p/q between N(-1, 1) and N(1, 1): 2 ln 2 - 2 JSD, by quadrature."""
    objective, _ = game(GAN)
    grid = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    p, q = (torch.distributions.Normal(m, 1.0).log_prob(grid) for m in (-1.0, 1.0))
    mixture = torch.logaddexp(p, q) - math.log(2)
    step = grid[1] - grid[0]
    jsd = 0.5 * step * ((p.exp() * (p - mixture)).sum() + (q.exp() * (q - mixture)).sum())
    at_p = step * (p.exp() * nn.functional.softplus(q - p)).sum()
    at_q = step * (q.exp() * nn.functional.softplus(p - q)).sum()
    assert at_p + at_q == pytest.approx(2 * math.log(2) - 2 * float(jsd), abs=1e-6)
    x = torch.tensor([0.3, -2.0])  # and the objective computes just that softplus
    assert objective.critic_loss(x, -x) == pytest.approx(2 * float(nn.functional.softplus(-x).mean()))


def test_losses_of_the_other_games():
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 1.0])
    hinge, wgan = game(Hinge)[0], game(WGAN)[0]
    assert hinge.critic_loss(real, fake) == pytest.approx(0.5 + 1.0)
    assert wgan.critic_loss(real, fake) == pytest.approx(-1.0 - 1.0)
    assert hinge.model_loss(fake) == wgan.model_loss(fake) == pytest.approx(1.0)


def test_gradient_penalty_and_r1_of_a_linear_critic():
    """|grad D| = |w| = 5 everywhere: 10 (5 - 1)^2, and 0.7 / 2 of 25; their gradients in w by hand."""
    x = batch().x
    objective, _ = game(WGANGP, gradient_penalty=10.0)
    penalty = objective.penalty(x, x + 1, None, noise())
    assert penalty.item() == pytest.approx(160.0, rel=1e-5)
    penalty.backward()
    assert torch.allclose(objective.critic.w.grad, 10 * 2 * 4 * torch.tensor([0.6, 0.8]), rtol=1e-4)
    objective, _ = game(GAN, r1=0.7)
    penalty = objective.penalty(x, x + 1, None, noise())
    assert penalty.item() == pytest.approx(0.35 * 25)
    penalty.backward()
    assert torch.allclose(objective.critic.w.grad, 0.7 * torch.tensor([3.0, 4.0]))
    both, _ = game(WGANGP, gradient_penalty=10.0, r1=0.7)
    assert both.penalty(x, x + 1, None, noise()).item() == pytest.approx(160 + 0.35 * 25, rel=1e-5)


def test_the_weight_of_the_gradient_penalty_goes_by_the_number_of_coordinates():
    x = batch().x
    objective, _ = game(WGANGP)
    assert objective.penalty(x, x + 1, None, noise()).item() == pytest.approx(x.shape[1] / 20 * 16, rel=1e-5)


def test_the_gradient_penalty_lies_between_data_and_samples():
    """A quadratic critic: |grad D(x)| = |x|, so the penalty tells where it was measured: on the segment."""

    class Quadratic(Linear):
        def forward(self, x, context=None):
            return 0.5 * (x * x).sum(1, keepdim=True) + 0 * self.w.sum()

    objective, _ = game(WGANGP, critic=Quadratic, gradient_penalty=1.0)
    x, fake = torch.tensor([[2.0, 0.0]]).expand(4096, 2), torch.tensor([[4.0, 0.0]]).expand(4096, 2)
    # E (t - 1)^2 for t ~ U[2, 4] = (27 - 1) / 6; the standard error is 2.4 / 64
    assert objective.penalty(x, fake, None, noise()).item() == pytest.approx(26 / 6, abs=4 * 2.4 / 64)


@pytest.mark.parametrize("kind", GAMES.values())
def test_a_critics_gradient_is_that_of_finite_differences(kind):
    """Double backward included, in the critic's own turn."""
    objective, model = game(kind, critic=small_critic, r1=0.5)
    model.eval()
    turn = objective.turns(model)[0]
    data = batch(16)
    turn.loss(data, noise()).value.backward()
    weight = objective.critic.net.layers[0].weight
    with torch.enable_grad():
        step = 1e-2
        values = []
        for sign in (1, -1):
            weight.data[0, 0] += sign * step
            values.append(turn.loss(data, noise()).value.item())
            weight.data[0, 0] -= sign * step
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(weight.grad[0, 0]), rel=2e-2, abs=2e-3)


def test_spectral_norm_holds_every_layer_at_one():
    spec = Spec((1, 8, 8), Support("real"))
    model = Generator(spec, net=small_net, latent=4)
    objective, _ = game(Hinge, model, small_critic, spectral_norm=True)
    turn = objective.turns(model)[0]
    optimizer = torch.optim.Adam(turn.parameters, 0.05)
    for step in range(30):
        optimizer.zero_grad()
        turn.loss(batch(8, spec, step), noise(step)).value.backward()
        optimizer.step()
    objective.critic.train()
    with torch.no_grad():
        for _ in range(30):  # power iteration lags behind such strides; at rest it settles
            objective.critic(batch(2, spec).x)
        objective.critic.eval()
        layers = [m for m in objective.critic.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        norms = [float(torch.linalg.matrix_norm(m.weight.flatten(1), 2)) for m in layers]
        raw = [float(torch.linalg.matrix_norm(m.parametrizations.weight.original.flatten(1), 2)) for m in layers]
    assert len(norms) > 3
    assert norms == pytest.approx([1.0] * len(norms), abs=0.02)
    assert max(raw) > 1.2


# --- turns ---


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(before, module):
    return [name for name, tensor in module.state_dict().items() if not torch.equal(before[name], tensor)]


@pytest.mark.parametrize("kind", GAMES.values())
def test_a_turn_touches_only_its_own(kind):
    """Parameters and buffers to the bit, power iterations included; and no gradient is left on the other side."""
    spec = Spec((1, 8, 8), Support("real"), classes=3)
    model = Generator(spec, net=small_net, conditional=True, latent=4).train()
    objective, _ = game(kind, model, small_critic, spectral_norm=True)
    critic, player = objective.turns(model)
    assert {p for p in critic.parameters} == set(objective.parameters())
    assert {p for p in player.parameters} == set(model.parameters())
    for turn, own, other in ((critic, objective, model), (player, model, objective)):
        for p in [*critic.parameters, *player.parameters]:
            p.requires_grad_(any(p is q for q in turn.parameters))
            p.grad = None
        mine, theirs = state(own), state(other)
        optimizer = torch.optim.Adam(turn.parameters, 0.01)
        turn.loss(batch(12, spec), noise()).value.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in own.parameters())
        assert all(p.grad is None for p in other.parameters())
        optimizer.step()
        if turn.project:
            turn.project()
        assert changed(theirs, other) == []
        assert changed(mine, own)


def test_clipped_weights_after_a_step():
    objective, model = game(WGAN, critic=small_critic, clip=0.02)
    turn = objective.turns(model)[0]
    optimizer = torch.optim.SGD(turn.parameters, 1.0)
    turn.loss(batch(), noise()).value.backward()
    optimizer.step()
    assert max(p.abs().max().item() for p in turn.parameters) > 0.02
    turn.project()
    assert max(p.abs().max().item() for p in turn.parameters) == pytest.approx(0.02)


def test_a_critic_sees_what_the_model_sees():
    spec = Spec((2,), Support("real"), classes=3)
    for conditional in (False, True):
        model = Generator(spec, net=small_net, conditional=conditional, latent=4)
        objective, _ = game(WGANGP, model, small_critic)
        x = torch.zeros(3, 2)
        values = objective.critic(x, model.context(torch.arange(3)))
        assert len(values.unique()) == (3 if conditional else 1)
        assert model.sample(3, torch.arange(3), noise=noise()).shape == (3, 2)


def test_a_wasserstein_critic_is_bounded_by_something():
    with pytest.raises(ValueError, match=r"objective\.clip=null"):
        WGAN(REALS, critic=Linear, clip=None)
    WGAN(REALS, critic=Linear, clip=None, r1=1.0)


def test_networks_fit_every_shape():
    for steps in ("plain", "residual"):
        for shape in ((1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 5, 6), (1, 4, 4)):
            image = {"width": 4, "steps": steps}
            x = GeneratorNet((6,), shape, 2, image=image)(torch.randn(3, 6), torch.ones(3, 2))
            assert x.shape == (3, *shape)
            assert CriticNet(shape, (1,), 2, image=image)(x, torch.ones(3, 2)).shape == (3, 1)


# --- the validation score ---


def test_energy_distance_against_its_definition():
    generator = torch.Generator().manual_seed(0)
    x, z = torch.randn(40, 3, generator=generator), torch.randn(40, 3, generator=generator) + 0.5
    i, j = torch.triu_indices(40, 40, 1)
    within = [(a[i] - a[j]).norm(dim=1).mean() for a in (x, z)]
    off = ~torch.eye(40, dtype=torch.bool)
    between = (x[:, None] - z).norm(dim=2)[off].mean()
    shares = energy_distance(x, z)
    assert shares.shape == (40,)
    assert shares.mean() == pytest.approx(float(2 * between - within[0] - within[1]), abs=1e-5)
    assert torch.allclose(energy_distance(x + 100, z + 100), shares, atol=1e-3)
    assert energy_distance(x[:1], z[:1]).tolist() == [0.0]


def test_energy_distance_is_unbiased():
    """Zero on average between equal distributions, and 2 (E|u + d| - E|u|) for shifted normals, u ~ N(0, 2)."""
    null, shifted = [], []
    for seed in range(400):
        x, z = torch.randn(2, 20, 1, generator=torch.Generator().manual_seed(seed))
        null.append(float(energy_distance(x, z).mean()))
        shifted.append(float(energy_distance(x, z + 1).mean()))
    folded = 2 / math.sqrt(math.pi) * math.exp(-0.25) + math.erf(0.5)  # E|N(1, 2)|
    expected = 2 * (folded - 2 / math.sqrt(math.pi))
    for values, truth in ((null, 0.0), (shifted, expected)):
        error = np.std(values) / math.sqrt(len(values))
        assert np.mean(values) == pytest.approx(truth, abs=4 * error)


def test_the_score_is_a_function_of_its_noise():
    objective, model = game(WGANGP, critic=small_critic)
    data = batch(50)
    with torch.no_grad():
        scores = [objective.score(model, data, RowNoise(s, torch.arange(50))) for s in (1, 1, 2)]
    assert torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], scores[2])
