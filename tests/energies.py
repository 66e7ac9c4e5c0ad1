"""What tests of energies share: specifications, noise and normal rows of fixed seeds, energies whose law is known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gencli.core.noise import StepNoise
from gencli.core.spec import Batch, Spec, Support
from gencli.models.classical.gmm import GMM
from gencli.models.energy.ebm import EBM
from gencli.models.energy.exponential import Quadratic
from gencli.models.trained import Learned
from gencli.nn.energy import EnergyNet

CPU = torch.device("cpu")


def spec(dim: int) -> Spec:
    return Spec((dim,), Support("real"))


def noise(seed: int = 0) -> StepNoise:
    return StepNoise(CPU, seed)


def normal(n: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def quadratic(dim: int = 2) -> Quadratic:
    """A correlated normal, in fp64."""
    model = Quadratic(spec(dim)).double()
    with torch.no_grad():
        model.b.copy_(torch.linspace(0.5, -0.8, dim) if dim > 1 else torch.tensor([0.5]))
        model.log_diagonal.copy_(torch.linspace(0.3, -0.2, dim) if dim > 1 else torch.tensor([0.3]))
        model.lower.copy_(0.4 * torch.ones(dim, dim))
    return model


def law(model: Quadratic) -> tuple[Tensor, Tensor]:
    """Mean and covariance of a quadratic energy."""
    factor = model.factor().detach()
    covariance = torch.linalg.inv(factor @ factor.T)
    return covariance @ model.b.detach(), covariance


def two_modes(dim: int = 2, distance: float = 8.0) -> GMM:
    """Unit normals at distance 8 with weights 0.2 and 0.8, in fp32."""
    model = GMM(spec(dim), components=2, covariance="isotropic")
    with torch.no_grad():
        model.logits.copy_(torch.tensor([0.2, 0.8]).log())
        model.normals.mean[1, 0] = distance
    return model.eval()


def wavy(base: str = "gaussian", dim: int = 2) -> EBM:
    """A small energy network with random weights."""
    torch.manual_seed(3)
    model = EBM(spec(dim), net=lambda i, o, c: EnergyNet(i, o, c, vector={"hidden": [16, 16]}), base=base)
    model.initialize(normal(500, dim).float() * 1.5)
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter += 0.4 * torch.randn_like(parameter)
    return model.eval()


def exact_samples(model: Quadratic, n: int, seed: int = 0) -> Tensor:
    mean, covariance = law(model)
    return mean + normal(n, len(mean), seed).to(mean) @ torch.linalg.cholesky(covariance).T


def measured(estimator, model, x: Tensor, seed: int = 0) -> tuple[float, float, dict[str, float]]:
    """log Z as an estimator finds it, its standard error, and all that it says."""
    estimator.check(model, Learned())
    shared = estimator.prepare(model, Batch(x), noise(seed))
    return shared.diagnostics["log_z"], math.sqrt(shared.variance), shared.diagnostics
