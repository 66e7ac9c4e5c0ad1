"""The posterior of an energy's parameters, without their Z: the exchange algorithm.

    p(theta | x) is in proportion to p(theta) prod_i exp(-E_theta(x_i)) / Z(theta)^N

knows a Z at every theta, which no chain on theta can do without. A proposal theta' therefore brings N draws w_i of its
own, w_i ~ p(. | theta'), and is accepted with probability min(1, a),

    a = p(theta') / p(theta) exp(sum_i E_theta(x_i) - E_theta'(x_i) + E_theta'(w_i) - E_theta(w_i)),

in which every Z cancels. With exact draws the posterior is the exact stationary law. Draws that are the ends of chains
of some steps make it approximate: the longer the chains, the less (Liang's double Metropolis-Hastings).

References:
    Murray, Ghahramani and MacKay, "MCMC for doubly-intractable distributions", 2006.
    Liang, "A double Metropolis-Hastings sampler for spatial models with intractable normalizing constants", 2010.
    Caimo and Friel, "Bayesian inference for exponential random graph models", 2011.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gencli.core.noise import Noise
from gencli.core.tensors import frozen
from gencli.kernels.adaptation import DualAveraging
from gencli.kernels.base import Kernel
from gencli.kernels.diagnostics import effective_draws, split_r_hat
from gencli.methods.chains import energy_of
from gencli.models.base import DirectSampling, Unnormalized
from gencli.models.structure import ExponentialFamily

TARGET = 0.25
"""Share of proposals to accept: about the best of random walks in a few dimensions."""

WARM = 100
"""Steps from the data at the model's own theta, in which a kernel that adapts learns its settings for all others."""

ROWS = 256
"""Draws of the model from which the curvature is learned, or up to twice as many where there are more data."""


@dataclass(frozen=True)
class Posterior:
    """Draws of theta.

    Args:
        names: of the P parameters.
        draws: (C, S, P) in fp64, of C chains.
        acceptance: share of proposals that were accepted after the warm-up.
        exact: whether the auxiliary draws were exact, so that the posterior is the stationary law.
        moved: mean acceptance of the steps to the auxiliary draws, without which the data mean nothing; None: they
            refuse none.
    """

    names: list[str]
    draws: Tensor
    acceptance: float
    exact: bool
    moved: float | None

    def ess(self) -> list[float]:
        """Effective draws of each parameter, over all chains."""
        return [effective_draws(self.draws[..., p]) for p in range(len(self.names))]

    def r_hat(self) -> list[float]:
        """Split R-hat of each parameter."""
        return [split_r_hat(self.draws[..., p]) for p in range(len(self.names))]


class Parameters:
    """The free parameters of a model as one vector phi (P,), in fp64, and theta, what they mean.

    theta is phi itself, or the parameters of an exponential family, which are linear in phi.
    """

    def __init__(self, model: nn.Module) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.free = [p for _, p in named]
        self.family = model if isinstance(model, ExponentialFamily) else None
        self.names = [f"{name}[{i}]" if p.numel() > 1 else name for name, p in named for i in range(p.numel())]
        if self.family is not None:
            self.names = [*self.family.names]

    def get(self) -> Tensor:
        """phi."""
        return torch.cat([p.detach().flatten().double() for p in self.free])

    def theta(self) -> Tensor:
        """(P,), of the names."""
        return self.get() if self.family is None else self.family.theta.detach().double()

    @torch.no_grad()
    def put(self, phi: Tensor) -> None:
        """Make the model that of phi."""
        for p, part in zip(self.free, phi.split([p.numel() for p in self.free]), strict=True):
            p.copy_(part.view_as(p))

    def gradients(self, energy: Tensor) -> Tensor:
        """dE_i / dphi (M, P) of energies (M,)."""
        found = [torch.autograd.grad(e, self.free, retain_graph=True, materialize_grads=True) for e in energy]
        return torch.stack([torch.cat([g.flatten() for g in row]) for row in found]).double()


def exchange(
    model: Unnormalized,
    x: Tensor,
    noises: Sequence[Noise],
    *,
    kernel: Kernel[Any],
    steps: int,
    draws: int,
    warmup: int,
    prior: float,
    tick: Callable[[int], None] = lambda done: None,
) -> Posterior:
    """Chains on theta, which start around the model's own and walk by normal proposals.

    They walk in phi. The covariance of the proposals is (N Cov[dE / dphi] + I / prior^2)^-1, that of the posterior to
    second order where phi is theta; in a warm-up its scale adapts to an acceptance of 0.25. The model stays as it is.

    Args:
        model: E and theta; an exact sampler of its own is used where it has one.
        x: (N, *) the data.
        noises: one for each chain, for any number of rows.
        kernel: of the auxiliary draws, from the data on.
        steps: transitions of that kernel for each proposal.
        draws: S, recorded steps of each chain.
        warmup: steps before them.
        prior: deviation of the normal prior of each parameter, around 0.
        tick: told after every step, of the warm-up too, how many all chains have made.
    """
    model = copy.deepcopy(model)
    parameters = Parameters(model)
    start, exact = parameters.get(), isinstance(model, DirectSampling)

    @torch.no_grad()
    def level(x: Tensor) -> Tensor:
        """sum_i E_theta(x_i)."""
        return model.energy(x).double().sum()

    rows = min(max(len(x), ROWS), 2 * ROWS)
    index = torch.arange(rows, device=x.device) * len(x) // rows
    auxiliary = _Auxiliary(model, x[index], kernel, steps, noises[0])
    spread = parameters.gradients(model.energy(auxiliary(x[index], noises[0])))
    information = len(x) * spread.T.cov().view(len(start), -1)
    eye = torch.eye(len(start)).to(start)
    L = torch.linalg.cholesky(torch.linalg.inv(information + eye / prior**2))

    chains, accepted = [], 0
    for chain, noise in enumerate(noises):
        phi = start + L @ noise.randn(1, len(start)).to(L)[0]
        parameters.put(phi)
        theta = parameters.theta()
        own, sizes, walked = level(x), DualAveraging.start(L.new_full((1,), 0.238 * len(start) ** -0.5)), []
        size = sizes.step
        for step in range(warmup + draws):
            proposed = phi + size * (L @ noise.randn(1, len(start)).to(L)[0])
            parameters.put(proposed)
            w, theta_there = auxiliary(x, noise), parameters.theta()
            there, of_there = level(x), level(w)
            parameters.put(phi)
            log_a = own - there + of_there - level(w) - 0.5 * (theta_there.square() - theta.square()).sum() / prior**2
            accept = torch.nan_to_num(log_a.clamp(max=0).exp(), nan=0.0)
            moves = bool(noise.rand(1, 1).to(L) < accept)
            if moves:
                phi, theta, own = proposed, theta_there, there
            if step < warmup:
                sizes = sizes.update(accept.view(1), TARGET)
                size = sizes.step if step < warmup - 1 else sizes.average
            else:
                accepted += moves
                walked.append(theta)
            tick(chain * (warmup + draws) + step + 1)
        chains.append(torch.stack(walked))
    share = accepted / (draws * len(noises))
    return Posterior(parameters.names, torch.stack(chains).cpu(), share, exact, auxiliary.acceptance)


class _Auxiliary:
    """w ~ p(. | theta), as many as x, at whatever theta the model has: exact draws, or the ends of chains from x.

    Args:
        model: E and theta.
        x: rows from which the kernel learns its settings.
        kernel: of the chains.
        steps: of a chain.
        noise: of the warm-up.
    """

    def __init__(self, model: Unnormalized, x: Tensor, kernel: Kernel[Any], steps: int, noise: Noise) -> None:
        self.model, self.kernel, self.steps = model, kernel, steps
        self.energy, self.rates = energy_of(model), list[Tensor]()
        if not isinstance(model, DirectSampling):
            with frozen(model):
                self.learned = kernel.warmed(self.energy, x, WARM if kernel.adapts else 0, noise)

    @property
    def acceptance(self) -> float | None:
        """The mean over all steps so far, but those in which the kernel adapts."""
        return float(torch.stack(self.rates).mean()) if self.rates else None

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        if isinstance(self.model, DirectSampling):
            with torch.no_grad():
                return self.model.sample(len(x), noise=noise)
        adapting = self.steps // 2  # another theta may want other settings: where all is refused, w is x
        with frozen(self.model):
            state = self.kernel.followed(self.energy, x, self.learned, adapting, noise)
            for _ in range(self.steps - adapting):
                state, info = self.kernel.step(self.energy, state, noise)
                if info.accept is not None:
                    self.rates.append(info.accept.mean())
        return state.x
