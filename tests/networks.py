"""Time fields with small networks."""

from __future__ import annotations

import functools

import torch
from fields import PATHS

from gencli.core.noise import RowNoise
from gencli.core.spec import Spec, Support
from gencli.models.diffusion.field import NetworkField
from gencli.nn.auto import AutoField

CPU = torch.device("cpu")
PLANE = Spec((2,), Support("real"), classes=3)
SMALL = functools.partial(
    AutoField, vector={"width": 16, "blocks": 2}, image={"width": 8, "multipliers": [1, 2], "heads": 2, "groups": 4}
)


def noise(n, seed=0):
    return RowNoise(seed, torch.arange(n))


def build(path="vp", shape=(2,), conditional=False, moved=True, **options):
    torch.manual_seed(0)
    model = NetworkField(
        Spec(shape, Support("real"), classes=3), net=SMALL, path=PATHS[path], conditional=conditional, **options
    )
    model.initialize(1 + 2 * torch.randn(500, *shape, generator=torch.Generator().manual_seed(1)))
    if moved:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.05 * torch.randn(parameter.shape)
    return model.eval()
