"""Networks as energies of bits, levels and categories."""

from __future__ import annotations

import pytest
import torch
from discrete import every, log_z
from energies import noise

from gencli.core.spec import Spec, Support
from gencli.methods.chains import energy_of
from gencli.models.energy.discrete_ebm import DiscreteEBM
from gencli.nn.energy import EnergyNet, ResidualEnergy

SHAPES = [
    ((4,), "binary", None),
    ((3,), "categorical:3", None),
    ((3,), "levels:4", None),
    ((2,), "levels:4", "value"),
    ((1, 2, 3), "binary", None),
    ((2, 2, 2), "levels:3", None),
]


def net(i, o, c):
    return EnergyNet(i, o, c, vector={"hidden": [16, 16]}, image={"width": [4, 8]})


def model_of(shape, support, encoding=None, base="independent", network=net) -> DiscreteEBM:
    torch.manual_seed(0)
    spec = Spec(shape, Support.parse(support))
    model = DiscreteEBM(spec, net=network, base=base, encoding=encoding)
    x = (noise().rand(300, *shape) ** 2 * spec.support.size).floor()
    model.initialize(x if support == "binary" else x.long())
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model.double().eval()


@pytest.mark.parametrize(("shape", "support", "encoding"), SHAPES)
def test_one_hot_rows_have_the_energy_of_x(shape, support, encoding):
    model = model_of(shape, support, encoding)
    x = every(model.spec)[::3]
    p = torch.nn.functional.one_hot(x.flatten(1).long(), model.spec.support.size).double()
    assert torch.allclose(model.relaxed(p), model.energy(x), atol=1e-10)
    assert model.energy(x).std() > 0.1


def test_changes_to_first_order_are_exact_where_the_network_is_linear():
    """Of a base alone every coordinate stands for itself, and a gradient in one-hot rows says all."""
    model = model_of((3,), "categorical:4")
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter.zero_()
    energy, x = energy_of(model.float()), every(model.spec)
    for found, exact in zip(energy.expansion(x), (energy(x), energy.changes(x)), strict=True):
        assert torch.allclose(found, exact, atol=1e-5)


def test_it_starts_at_the_base():
    torch.manual_seed(0)
    model = DiscreteEBM(Spec((5,), Support.parse("binary")), net=net)
    x = (torch.rand(500, 5) < 0.3).float()
    model.initialize(x)
    assert torch.equal(model.energy(x), model.reference().energy(x))
    assert log_z(model.double()) == pytest.approx(0, abs=1e-10)
    assert model.start(7, noise=noise()).shape == (7, 5)
    flat = model_of((5,), "binary", base="none")
    assert flat.reference() is None
    assert set(flat.start(50, noise=noise()).unique().tolist()) == {0.0, 1.0}


def test_the_base_is_not_trained():
    model = model_of((4,), "binary")
    assert not any(p.requires_grad for p in model.base.parameters())
    assert all(p.requires_grad for p in model.net.parameters())


@pytest.mark.parametrize(("size", "features"), [(8, 1), (7, 2)])
def test_a_residual_energy_sees_images(size, features):
    torch.manual_seed(0)
    network = ResidualEnergy((features, size, size), (1,), 0, width=8, blocks=2)
    x = torch.randn(5, features, size, size)
    assert torch.equal(network(x), torch.zeros(5, 1))
    with torch.no_grad():
        network.last.weight += torch.randn_like(network.last.weight)
    far = x.clone()
    far[..., -1, -1] += 1.0
    assert ((network(far) - network(x)).abs() > 1e-6).all()
    with pytest.raises(ValueError, match="image"):
        ResidualEnergy((4,), (1,), 0)


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"^model\.encoding=onehot is for levels"):
        model_of((3,), "binary", "onehot")
    with pytest.raises(ValueError, match=r"^model\.conditional=true"):
        DiscreteEBM(Spec((3,), Support("binary", 2), classes=2), net=net, conditional=True)
