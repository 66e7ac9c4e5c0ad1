"""A trained run inside another: the base that an energy tilts, noise, where annealing starts, a teacher."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import yaml
from torch import Tensor

from gencli import checkpoint as checkpoints
from gencli.build import component
from gencli.interfaces import DirectSampling, ExactLikelihood, Model, Spec
from gencli.locate import find_run
from gencli.noise import Noise


def opened(spec: Spec, *, path: str, trust: Sequence[str] = ()) -> Model:
    """The model of a run as it was at its best checkpoint (EMA weights if it has them), fixed.

    Args:
        spec: of the model that uses it. Any model in its space will do; one of other data is merely far away.
        path: the run folder.
        trust: packages other than gencli whose classes its config may name.

    Raises:
        UsageError: there is no such run.
        ValueError: its model is of another space.
    """
    folder = find_run(path)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    model = component(config["model"], Model, trust, spec)
    best = folder / "checkpoints" / "best.safetensors"
    tensors, _ = checkpoints.read(best if best.exists() else checkpoints.path_of(folder, "last"))
    try:
        model.load_state_dict(checkpoints.under("ema", tensors) or checkpoints.under("model", tensors))
    except RuntimeError as error:
        raise ValueError(f"{path}: the model of this run is not of the shape {spec.shape}") from error
    return model.eval().requires_grad_(False)


class Trained(ExactLikelihood, DirectSampling):
    """The model of a run as a density in model space.

    Args:
        spec: of the model that uses it.
        path: the run folder.
        trust: packages other than gencli whose classes its config may name.

    Raises:
        UsageError: there is no such run.
        ValueError: its model has no density or no samples of its own, is conditional, or is of another space.
    """

    supports = ("real", "unit", "binary", "levels", "categorical")
    shapes = ("vector", "image")

    def __init__(self, spec: Spec, *, path: str, trust: Sequence[str] = ()) -> None:
        super().__init__(spec)
        model = opened(spec, path=path, trust=trust)
        if not isinstance(model, ExactLikelihood) or not isinstance(model, DirectSampling):
            raise ValueError(f"run={path}: its model has no exact density with samples of its own")
        if model.conditional:
            raise ValueError(f"run={path}: its model is conditional")
        self.model = model

    def train(self, mode: bool = True) -> Trained:
        """Stays in evaluation mode: it is no part of what is trained."""
        return super().train(False)

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        assert isinstance(self.model, ExactLikelihood)
        return self.model.log_prob(x)

    @torch.no_grad()
    def sample(self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0) -> Tensor:
        assert isinstance(self.model, DirectSampling)
        return self.model.sample(n, noise=noise, temperature=temperature)
