"""Small games of a critic and a model."""

import functools

import torch
from torch import nn

from gencli.core.noise import StepNoise
from gencli.core.spec import Batch, Spec, Support
from gencli.models.base import Model
from gencli.models.generator import Generator
from gencli.nn.adversarial import CriticNet, GeneratorNet
from gencli.nn.base import Network
from gencli.objectives.adversarial import GAN, WGAN, WGANGP, Adversarial, Hinge

CPU = torch.device("cpu")
REALS = Spec((2,), Support("real"))
GAMES = {"gan": GAN, "hinge": Hinge, "wgan": WGAN, "wgan_gp": WGANGP}

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
