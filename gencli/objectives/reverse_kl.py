"""Reverse KL: fit a density q_theta to an unnormalised one, p~(x) = exp(-E(x)), without examples of it.

With Z = integral of p~ and p = p~ / Z,

    E_q[log q(x) - log p~(x)] = KL(q || p) - log Z,

so that the negative of the loss is a lower bound on log Z, tight where q = p. A q that has found one of several modes
loses no more than the log of that mode's share: the bound seeks modes, and does not cover them.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from gencli.core.errors import UsageError
from gencli.core.noise import Noise
from gencli.core.options import Fraction, Range
from gencli.core.spec import Batch, Spec
from gencli.core.tensors import ess
from gencli.models.base import ExactLikelihood, Reparameterized, Unnormalized
from gencli.models.trained import Learned, TrainedRun
from gencli.objectives.base import Loss, Objective, Turn


class LogProb(nn.Module):
    """log q(x given y) as a module's forward, so that it can be called with other tensors for its parameters."""

    def __init__(self, model: ExactLikelihood) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
        return self.model.log_prob(x, y)


class ReverseKL(Objective[Reparameterized]):
    """E_q[log q(x) + E(x)] over samples x = g(eps; theta), in nats; the negative of it is a lower bound on log Z.

    The energy is that of a run in its model space, which must be the space of the model, or of the data set where its
    density is known (then log Z = 0). Examples of the data decide nothing but where a flow starts and how many samples
    a step draws: one a row of the batch. Dropout is off: a sample and its density would see other units.

    The gradient of the total derivative has the term E[grad_theta log q(x)] at fixed x, which is zero on average and
    noise otherwise; ``path`` leaves it out, so that no noise is left where q = p.

    Args:
        spec: of model space.
        target: a run folder, or ``data``.
        gradient: ``path`` or ``total``.
        anneal: share of training in which the target is p~^(1/T), with T falling from ``temperature`` to 1 by equal
            factors; separate modes are one at high T.
        temperature: the first T.

    Raises:
        ValueError: (by ``open``) no such run, one of another space or without an energy, or data of unknown density.

    References:
        Rezende and Mohamed, "Variational inference with normalizing flows", 2015.
        Roeder, Wu and Duvenaud, "Sticking the landing: simple, lower-variance gradient estimators for variational
        inference", 2017 (path gradient).
        Noé, Olsson, Köhler and Wu, "Boltzmann generators: sampling equilibrium states of many-body systems with deep
        learning", 2019 (temperatures).
    """

    requires = (Reparameterized, ExactLikelihood)
    score_name = "minus_log_z_lower"
    opened: tuple[Unnormalized, ...] = ()  # a tuple, so that it is not registered and not saved

    def __init__(
        self,
        spec: Spec,
        *,
        target: TrainedRun | Literal["data"] = "data",
        gradient: Literal["path", "total"] = "path",
        anneal: Fraction = 0.0,
        temperature: Annotated[float, Range(low=1)] = 20.0,
    ) -> None:
        super().__init__(spec)
        self.target, self.gradient, self.anneal, self.hot = target, gradient, anneal, temperature
        self.known: tuple[ExactLikelihood, ...] = ()

    def bind(self, model: Reparameterized) -> Learned:
        return Learned(target=self.target)

    def tell(self, density: ExactLikelihood | None) -> None:
        self.known = () if density is None else (density,)

    def open(self, model: Reparameterized) -> None:
        if self.target == "data":
            if not self.known or model.conditional:
                raise ValueError(
                    "objective.target=data: the density of these data is not known; name a run whose energy it is"
                )
            self.opened = self.known
            return
        try:
            energy = self.target.target(model)
        except (ValueError, UsageError) as error:
            raise ValueError(f"objective.target: {error}") from error
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.opened = (energy.to(device),)

    def temperature(self, progress: float) -> float:
        """T after a share of the training."""
        return self.hot ** max(0.0, 1 - progress / self.anneal) if self.anneal else 1.0

    def terms(self, model: Reparameterized, batch: Batch, noise: Noise, path: bool) -> tuple[Tensor, Tensor]:
        """log q and E of one sample a row, (B,) each; with ``path`` the parameters of log q itself are constants."""
        assert isinstance(model, ExactLikelihood)
        for layer in model.modules():
            if isinstance(layer, nn.Dropout | nn.Dropout2d):
                layer.eval()
        y = batch.y if model.conditional else None
        x = model.sample(len(batch.x), y, noise=noise)
        with torch.autocast(x.device.type, enabled=False):
            x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
            if path:
                frozen = {f"model.{name}": p.detach() for name, p in model.named_parameters()}
                log_q = torch.func.functional_call(LogProb(model), frozen, (x, y))
            else:
                log_q = model.log_prob(x, y)
            return log_q, self.opened[0].energy(x, y)

    def turns(self, model: Reparameterized) -> list[Turn]:

        def loss(batch: Batch, noise: Noise) -> Loss:
            T = self.temperature(batch.progress)
            log_q, energy = self.terms(model, batch, noise, self.gradient == "path")
            log_w = (-energy - log_q).detach()
            logs = {"log_z_lower": log_w.mean(), "ess_share": ess(log_w) / len(log_w)}
            if self.anneal:
                logs["temperature"] = log_w.new_tensor(T)
            return Loss((log_q + energy / T).mean(), logs)

        return [Turn("model", list(model.parameters()), loss, static=not self.anneal)]

    def score(self, model: Reparameterized, batch: Batch, noise: Noise) -> Tensor:
        log_q, energy = self.terms(model, batch, noise, path=False)
        return log_q + energy

    def advice(self) -> str:
        return "The energy may be infinite where the model draws; else a smaller optimizer.lr or trainer.clip_norm"
