"""Joint energies of x and its class: what E(x, y), E(x) and p(y | x) are to each other, and how they are trained."""

import pytest
import torch
from energies import noise, normal, spec
from labelled import MEANS, Both, TwoNormals
from torch.nn import functional as F

from gencli.core.noise import RowNoise
from gencli.core.spec import Batch, Spec, Support
from gencli.models.energy.ebm import EBM
from gencli.models.energy.joint_ebm import JointEBM
from gencli.nn.energy import EnergyNet
from gencli.objectives.energy.contrastive_divergence import ContrastiveDivergence
from gencli.objectives.energy.cross_entropy import CrossEntropy
from gencli.objectives.energy.energy_discrepancy import EnergyDiscrepancy
from gencli.pictures.generation import OfClass, descended
from gencli.samplers.hmc import HMC

LABELLED = Spec((2,), Support("real"), 3)


def net(i, o, c):
    return EnergyNet(i, o, c, vector={"hidden": [16]})


def joint(base="gaussian"):
    torch.manual_seed(0)
    model = JointEBM(LABELLED, net=net, base=base)
    model.initialize(normal(200, 2).float())
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    return model.eval()


def batch(n=64):
    return Batch(normal(n, 2, seed=1).float(), torch.arange(n) % 3)


@pytest.mark.parametrize("base", ["gaussian", "none"])
def test_classes_add_up_to_the_density_and_divide_it(base):
    model, x = joint(base), batch().x
    together, alone = model.joint(x), model.energy(x)
    assert together.shape == (64, 3)
    assert torch.allclose(-(-together).logsumexp(1), alone, atol=1e-5)
    assert torch.allclose(model.log_classes(x), alone[:, None] - together, atol=1e-5)
    assert torch.allclose(model.log_classes(x).exp().sum(1), torch.ones(64))
    assert torch.equal(model.energy(x, batch().y), alone)
    assert model.health(x, batch().y)["accuracy"] == float((together.argmin(1) == batch().y).float().mean())


def test_without_labels_there_is_no_joint_model():
    with pytest.raises(ValueError, match="this data has no labels; take model=ebm"):
        JointEBM(spec(2), net=net)
    with pytest.raises(ValueError, match="objective=cross_entropy needs data with labels"):
        CrossEntropy(spec(2)).bind(None)


@pytest.mark.parametrize("kind", [EnergyDiscrepancy, ContrastiveDivergence])
def test_labels_add_cross_entropy_to_loss_gradient_and_score(kind):
    model, data, found = joint(), batch(), []
    for weight in (0.0, 0.7):
        objective = kind(LABELLED, classification=weight)
        objective.bind(model)
        objective.start(model, data)
        loss = objective.turns(model)[0].loss(data, noise())
        (gradient,) = torch.autograd.grad(loss.value, [*model.net.parameters()][-1])  # the bias of the logits
        found.append(
            (loss, gradient, objective.score(model, data, RowNoise(0, torch.arange(64))), objective.score_name)
        )
    (alone, g, score, name), (both, g_both, score_both, name_both) = found
    p, one_hot = model.log_classes(data.x).exp(), F.one_hot(data.y, 3)
    nats = F.cross_entropy(model.log_classes(data.x), data.y, reduction="none").detach()
    assert float((both.value - alone.value).detach()) == pytest.approx(0.7 * float(nats.mean()), abs=1e-5)
    assert torch.allclose(g_both - g, 0.7 * (p - one_hot).mean(0), atol=1e-5)
    assert torch.allclose(score_both - score, 0.7 * nats, atol=1e-5)
    assert name_both == f"{name}+labels"
    assert float(both.logs["nll_y"]) == pytest.approx(float(nats.mean()), abs=1e-5)
    assert "accuracy" not in alone.logs


def test_only_a_model_of_classes_takes_a_weight_of_labels():
    objective = EnergyDiscrepancy(LABELLED)
    objective.bind(EBM(LABELLED, net=net))
    assert objective.score_name == "loss"
    with pytest.raises(ValueError, match=r"objective.classification=0.5: this model has no p\(y \| x\)"):
        EnergyDiscrepancy(LABELLED, classification=0.5).bind(EBM(LABELLED, net=net))


@pytest.mark.slow
def test_chains_of_a_class_draw_its_normal_and_descent_ends_at_its_mean():
    model = Both(TwoNormals({}).spec, torch.tensor([0.8, 0.2]))
    of_class, n = OfClass(model), 500
    y, random = torch.ones(n, dtype=torch.long), RowNoise(0, torch.arange(n))
    x = HMC(steps=12, warmup=12).run(of_class, of_class.start(n, y, noise=random), y, random).x
    assert torch.allclose(x.mean(0), MEANS[1], atol=4 / n**0.5)
    assert torch.allclose(x.var(0), torch.ones(2), atol=4 * (2 / n) ** 0.5)
    down = descended(of_class, torch.zeros(2, 2), torch.tensor([0, 1]), 200, 0.1)
    assert torch.allclose(down, MEANS, atol=1e-3)
