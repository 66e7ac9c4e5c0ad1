"""Games: critics by hand, turns that touch only their own, resume to the bit, exact NLL of what a critic trained."""

import functools
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import gencli
from gencli.cli.main import main
from gencli.core.errors import UsageError
from gencli.core.noise import RowNoise, StepNoise
from gencli.core.spec import Batch, Spec, Support
from gencli.estimators.parzen import Parzen
from gencli.models.base import Model, Reparameterized
from gencli.models.generator import Generator
from gencli.models.trained import Learned
from gencli.nn.adversarial import CriticNet, GeneratorNet
from gencli.nn.base import Network
from gencli.objectives.adversarial import GAN, WGAN, WGANGP, Adversarial, Hinge, energy_distance
from gencli.run import checkpoint
from tests.models.test_models import VECTOR, build, labels

CPU = torch.device("cpu")
REALS = Spec((2,), Support("real"))
GAMES = {"gan": GAN, "hinge": Hinge, "wgan": WGAN, "wgan_gp": WGANGP}
FLOWS = [name for name in VECTOR if not name.startswith("gmm")]

small_critic = functools.partial(CriticNet, vector={"hidden": [16]}, image={"width": 8, "steps": "residual"})
small_net = functools.partial(GeneratorNet, vector={"hidden": [16]}, image={"width": 8})


class Linear(Network):
    """D(x) = w x."""

    def __init__(self, in_shape, out_shape, context):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([3.0, 4.0]))

    def forward(self, x, context=None):
        return x @ self.w[:, None]


def game(kind: type[Adversarial], model: Model | None = None, critic=Linear, **options) -> tuple[Adversarial, Model]:
    torch.manual_seed(0)
    model = model or Generator(REALS, net=small_net, latent=4)
    objective = kind(model.spec, critic=critic, **options)
    objective.bind(model)
    return objective, model


def batch(n=64, spec=REALS, seed=0):
    x = torch.randn(n, *spec.shape, generator=torch.Generator().manual_seed(seed)) + 1
    return Batch(x, torch.arange(n) % spec.classes if spec.classes else None)


def noise(seed=0):
    return StepNoise(CPU, seed)


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
    both, _ = game(WGANGP, r1=0.7)
    assert both.penalty(x, x + 1, None, noise()).item() == pytest.approx(160 + 0.35 * 25, rel=1e-5)


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
    with pytest.raises(ValueError, match="plain or residual"):
        CriticNet((1, 8, 8), (1,), 0, image={"steps": "x"})


# --- samples are differentiable ---


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("name", FLOWS)
def test_samples_are_differentiable_in_every_parameter(name, conditional):
    if conditional and name.startswith("gaussian"):
        pytest.skip("closed forms refuse conditions")
    model = build(name, (3,), conditional)
    assert isinstance(model, Reparameterized)
    draw = functools.partial(model.sample, 5, labels(5), noise=RowNoise(0, torch.arange(5)))
    x = draw()
    x.square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key
    # and the gradient is the right one: a finite difference along it
    direction = [p.grad.clone() for p in model.parameters()]
    size = math.sqrt(sum(float(d.square().sum()) for d in direction))
    with torch.enable_grad():
        values = []
        for sign in (1, -1):
            for p, d in zip(model.parameters(), direction, strict=True):
                p.data += sign * 1e-6 * d / size
            values.append(model.sample(5, labels(5), noise=RowNoise(0, torch.arange(5))).square().sum().item())
            for p, d in zip(model.parameters(), direction, strict=True):
                p.data -= sign * 1e-6 * d / size
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(size, rel=1e-3)


def test_sampling_is_the_same_with_and_without_gradients():
    for name in FLOWS:
        model = build(name, (3,))
        grad = model.sample(4, noise=RowNoise(0, torch.arange(4)))
        with torch.no_grad():
            none = model.sample(4, noise=RowNoise(0, torch.arange(4)))
        assert (grad - none).abs().max() < 1e-9


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


# --- end to end ---

QUICK = [
    "trainer.max_steps=6",
    "trainer.eval_every=2",
    "trainer.log_every=1",
    "trainer.batch_size=32",
    "trainer.accumulate=2",
    "optimizer=adam",
    "optimizer.betas=[0.0,0.9]",
    "logger=none",
    "n=4",
    "device=cpu",
]
IMAGES = ["data=digits", "data.transform=scale", "model=generator", "model.conditional=true", "model.net.image.width=8"]


def values(run):
    lines = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
    clock = ("seconds", "steps_per_second", "examples_per_second")
    return [{k: v for k, v in line.items() if k not in clock} for line in lines]


@pytest.mark.parametrize(
    "objective", ["wgan_gp", *(pytest.param(name, marks=pytest.mark.slow) for name in GAMES if name != "wgan_gp")]
)
def test_critics_resume_to_the_bit(objective, monkeypatch):
    """Critic, its optimizer, power iterations, EMA; stopped at step 3 of 6, between two validations."""
    from tests.training.test_train import stop_before, tensors

    game = [f"objective={objective}", "objective.critic.image.width=8", "objective.spectral_norm=true"]
    words = [*IMAGES, *game, *QUICK]
    gencli.train([*words, "run_dir=whole"])
    with monkeypatch.context() as patch:
        trainer, advance = stop_before(2)
        patch.setattr(trainer, "_advance", advance)
        with pytest.raises(gencli.core.errors.Interrupted):
            gencli.train([*words, "run_dir=halves"])
    assert checkpoint.read(Path("halves/checkpoints/last.safetensors"))[1]["step"] == 3
    gencli.train(["resume=halves"])
    whole, halves = tensors("whole"), tensors("halves")
    assert any(name.startswith("objective/critic") for name in whole)
    assert any(name.startswith("optimizer.critic") for name in whole)
    assert set(whole) == set(halves)
    assert [name for name in whole if not torch.equal(whole[name], halves[name])] == []
    assert values("whole") == values("halves")
    best = json.loads(Path("whole/run.json").read_text())["best"]
    scores = {line["step"]: line["energy_distance"] for line in values("whole") if line["split"] == "val"}
    assert scores[best["step"]] == best["energy_distance"] == min(scores.values())


def test_a_generator_has_no_nll_and_eval_says_why(capsys):
    run = gencli.train([*IMAGES, "objective.critic.image.width=8", *QUICK, "run_dir=run"])
    config = run.config
    assert (config["choices"]["net"], config["choices"]["critic"]) == ("generator", "critic")
    samples = np.load("run/samples/direct.npz")["samples"]
    assert samples.dtype == np.uint8
    assert samples.max() <= 16
    assert main(["eval", "run=run"]) == 2
    said = capsys.readouterr().err.strip()
    assert "no density" in said
    assert "parzen" in said
    assert len(said.splitlines()) == 1
    assert list(Path("run/eval").glob("*")) == []
    assert main(["eval", "run=run", "estimator=parzen", "estimator.n=200"]) == 0
    record = json.loads(Path("run/eval/test-parzen.json").read_text())
    assert record["bound"] == "estimate"
    assert record["diagnostics"]["bandwidth"] > 0
    assert "~" in capsys.readouterr().out
    with pytest.raises(UsageError, match="no exact likelihood"):
        run.log_prob(torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["net@objective.critic=resnet"], "needs another net"),
        (["+objective.critic.vector.hiden=[3]"], "hiden"),
        (["objective.critic_steps=0"], "objective.critic_steps=0: at least 1"),
        (["model.latent=0"], "model.latent=0: an integer of at least 1"),
    ],
)
def test_a_critic_that_cannot_be_built_is_refused_in_one_line(words, says, capsys):
    assert main(["train", "model=generator", "data=moons", *words]) == 2
    said = capsys.readouterr().err.strip()
    assert says in said
    assert len(said.splitlines()) == 1
    assert list(Path().iterdir()) == []


def test_an_objective_that_needs_differentiable_samples_refuses_a_mixture(capsys):
    assert main(["train", "model=gmm", "data=moons", "objective=wgan_gp"]) == 2
    assert "Reparameterized" in capsys.readouterr().err


def test_a_flow_trained_by_a_critic_keeps_its_exact_nll():
    """Flow-GAN (Grover, Dhar and Ermon, 2018): the number is the density's own, and that integrates to one."""
    words = ["data=moons", "data.train=2000", "data.val=500", "data.test=500", "model=realnvp", "objective=wgan_gp"]
    small = ["model.net.vector.hidden=[16]", "objective.critic.vector.hidden=[16]", "model.couplings=4"]
    run = gencli.train([*words, *small, *QUICK, "trainer.max_steps=20", "trainer.eval_every=20", "run_dir=run"])
    record = run.results[0]
    assert (record["bound"], record["estimator"]) == ("exact", "exact")
    test = run.parts.dataset.split("test").gather(torch.arange(500)).x
    assert record["value"] == pytest.approx(float(-run.log_prob(test).mean()), abs=1e-4)
    x = run.sample(4000)
    low, high = x.amin(0) - 2, x.amax(0) + 2
    axes = [torch.linspace(float(a), float(b), 500) for a, b in zip(low, high, strict=True)]
    cell = math.prod(float(axis[1] - axis[0]) for axis in axes)
    total = run.log_prob(torch.cartesian_prod(*axes)).exp().sum() * cell
    assert total == pytest.approx(1, abs=5e-3)


@pytest.mark.slow
def test_a_critic_finds_every_mode():
    """Four separate modes: after 500 steps each has its share, and nearly all samples lie on one."""
    torch.manual_seed(0)
    centres = 2 * torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    hidden = {"hidden": [64, 64]}
    model = Generator(REALS, net=functools.partial(GeneratorNet, vector=hidden), latent=8)
    objective = WGANGP(REALS, critic=functools.partial(CriticNet, vector=hidden), gradient_penalty=0.1)
    objective.bind(model)
    turns = objective.turns(model)
    optimizers = [torch.optim.Adam(turn.parameters, 2e-3, betas=(0.5, 0.9)) for turn in turns]
    moves = 0
    for _ in range(500):
        for turn, optimizer in zip(turns, optimizers, strict=True):
            for _ in range(turn.repeats):
                generator = torch.Generator().manual_seed(moves)
                x = centres[torch.randint(4, (64,), generator=generator)]
                x = x + 0.3 * torch.randn(64, 2, generator=generator)
                optimizer.zero_grad()
                turn.loss(Batch(x), noise(moves)).value.backward()
                optimizer.step()
                moves += 1
    with torch.no_grad():
        x = model.sample(4000, noise=noise(7))
    distance, nearest = torch.cdist(x, centres).min(1)
    assert (distance < 1.2).float().mean() > 0.8
    assert torch.bincount(nearest, minlength=4).min() > 500


# --- Parzen windows ---


class Normal(Generator):
    """N(0, 1) in D dimensions, shifted by 3 y if conditional."""

    def __init__(self, spec, conditional=False):
        super().__init__(spec, net=small_net, conditional=conditional, latent=1)

    def sample(self, n, y=None, *, noise, temperature=1.0):
        x = noise.randn(n, self.spec.dim)
        return x + 3 * y[:, None] if self.conditional else x


def rows(n, dim=1, seed=5):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def test_parzen_is_a_kernel_density():
    from sklearn.neighbors import KernelDensity

    model = Normal(Spec((3,), Support("real")))
    parzen = Parzen(n=500)
    shared = parzen.prepare(model, Batch(rows(100, 3)), noise())
    x = rows(20, 3, seed=6)
    nll = parzen.nll(model, Batch(x), noise(), shared).nll
    samples, h = shared.state.samples, shared.state.bandwidth
    direct = -torch.distributions.MultivariateNormal(torch.zeros(3), h * h * torch.eye(3)).log_prob(
        x[:, None] - samples
    ).logsumexp(1) + math.log(500)
    assert torch.allclose(nll.float(), direct, atol=1e-4)
    theirs = KernelDensity(bandwidth=h).fit(samples.numpy()).score_samples(x.numpy())
    assert np.allclose(nll.numpy(), -theirs, atol=1e-4)


def test_parzen_tends_to_the_nll_of_a_normal_on_the_line():
    model, test = Normal(Spec((1,), Support("real"))), rows(500, seed=9)
    exact = -torch.distributions.Normal(0.0, 1.0).log_prob(test).mean()
    gaps = []
    for n in (50, 5000):
        parzen = Parzen(n=n)
        shared = parzen.prepare(model, Batch(rows(200)), noise())
        gaps.append(abs(float(parzen.nll(model, Batch(test), noise(), shared).nll.mean() - exact)))
    assert gaps[1] < 0.01 < gaps[0]


def test_the_bandwidth_is_the_best_on_validation_rows():
    model, parzen = Normal(Spec((2,), Support("real"))), Parzen(n=300)
    validation = Batch(rows(200, 2))
    shared = parzen.prepare(model, validation, noise())
    best = shared.state.bandwidth
    mean = {}
    for h in (0.9 * best, best, 1.1 * best):
        other = replace(shared, state=replace(shared.state, bandwidth=h))
        mean[h] = float(parzen.nll(model, validation, noise(), other).nll.mean())
    assert min(mean, key=mean.get) == best


def test_parzens_own_error_is_calibrated():
    """The spread of the number over independent sets of samples is what the record says."""
    model, test = Normal(Spec((1,), Support("real"))), Batch(rows(500, seed=9))
    numbers, variances = [], []
    for seed in range(40):
        parzen = Parzen(n=200)
        shared = parzen.prepare(model, Batch(rows(500)), noise(seed))
        variances.append(shared.variance)
        numbers.append(float(parzen.nll(model, test, noise(), shared).nll.mean()))
    assert np.std(numbers) == pytest.approx(math.sqrt(np.mean(variances)), rel=0.5)


def test_parzen_compares_a_row_with_its_own_class():
    spec = Spec((1,), Support("real"), classes=2)
    model, parzen = Normal(spec, conditional=True), Parzen(n=2000)
    y = torch.arange(200) % 2
    shared = parzen.prepare(model, Batch(rows(200) + 3 * y[:, None], y), noise())
    x = rows(500, seed=9)
    right = parzen.nll(model, Batch(x, torch.zeros(500, dtype=torch.long)), noise(), shared).nll.mean()
    wrong = parzen.nll(model, Batch(x, torch.ones(500, dtype=torch.long)), noise(), shared).nll.mean()
    assert right == pytest.approx(0.5 * math.log(2 * math.pi * math.e), abs=0.1)
    assert wrong > right + 1


def test_parzen_refuses_what_has_no_kernel():
    binary = Generator(Spec((2,), Support.parse("binary")), net=small_net)
    with pytest.raises(ValueError, match="model of reals"):
        Parzen().check(binary, Learned())
    with pytest.raises(ValueError, match="vector context"):
        Parzen().check(Generator(Spec((2,), Support("real"), context=3), net=small_net, conditional=True), Learned())
    with pytest.raises(ValueError, match=r"estimator\.n=5"):
        Parzen(n=5).check(Generator(Spec((2,), Support("real"), classes=3), net=small_net, conditional=True), Learned())


def test_a_flow_can_be_measured_both_ways(tiny_run):
    """On the plane Parzen windows come near the exact number, and say that they are an estimate."""
    shutil.copytree(tiny_run, "copy")
    assert main(["eval", "run=copy", "split=val", "estimator=parzen", "estimator.n=500"]) == 0
    kernels = json.loads(Path("copy/eval/val-parzen.json").read_text())
    exact = gencli.load("copy").nll("val")
    assert (exact["bound"], kernels["bound"]) == ("exact", "estimate")
    assert kernels["value"] == pytest.approx(exact["value"], abs=0.3)
