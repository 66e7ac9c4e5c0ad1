"""NLL by the probability flow.

dz/dt = velocity(z, t) takes x at t_min to z at t_max, and

    log p(x) = log N(z; 0, prior_std^2 I) + integral over t of div velocity.

This is the density of what the sampler ``ode`` draws in the limit of exact steps, whatever the velocity. That the flow
starts at t_min > 0 and from a normal prior is part of the model that is measured; ``prepare`` states how far both are
from the path that was trained.

With the exact trace the only error is the solver's. ``prepare`` measures it against a tight solve of examples, whatever
the tolerance is, and calls the number exact only if their NLL agrees. With Hutchinson's estimate of the trace it is
unbiased and has a standard error: an estimate. The mean error of the solver joins the record's errors either way.

References:
    Chen, Rubanova, Bettencourt and Duvenaud, "Neural ordinary differential equations", 2018; Grathwohl et al., "FFJORD:
    Free-form continuous dynamics for scalable reversible generative models", 2019; Song et al., "Score-based generative
    modeling through stochastic differential equations", 2021.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Auto, Count, Positive, Range
from gencli.core.spec import Batch, Bound, Spec
from gencli.core.tensors import like
from gencli.estimators.base import Estimate, Estimator, Shared
from gencli.methods import ode, volume
from gencli.models.base import TimeField, VelocityField
from gencli.models.trained import Learned
from gencli.paths.base import Path

EXACT_DIM = 64
"""Dimension up to which ``trace=auto`` takes the exact trace."""
AGREE = 0.01
"""Nats that the NLL of an example may be off on average for the number to be called exact."""
TOLERANCE = {"exact": 1e-5, "hutchinson": 1e-4}
"""Of dopri5 where it is ``auto``, by the trace: errors of a solve are small beside those of probes."""
TIGHT = {"exact": 1e-7, "hutchinson": 1e-6}
"""Tolerance of the solve that says so by the trace, or a tenth of the estimator's own."""
TIGHT_NFE = 50_000
"""Evaluations after which it gives up: the error is then unknown."""

FIRST = 2
"""Examples that are checked however long it takes."""
SHARE = 0.4
"""Of the time of a preparation, for the solver's check: what is measured needs it too."""
COARSE = 1e-3
"""Tolerance of a point of a picture, and ``auto`` with probes where time is short."""
WANTED = 100
"""Solves of an example that time should suffice for."""


@dataclass(frozen=True, kw_only=True)
class ODE(Estimator[VelocityField]):
    """The density of the probability flow, ``exact`` if ``prepare`` finds that it is.

    Args:
        trace: ``exact``: D derivatives; ``hutchinson``: E e^T J e over Rademacher probes e, which are fixed
            within a solve; ``auto``: exact up to 64 dimensions.
        probes: number of e for each row, at least 2 so that there is a standard error.
        method: ``dopri5``, or ``euler``, ``heun``, ``rk4`` with steps uniform in t.
        steps: of a method with fixed steps.
        atol: absolute tolerance of dopri5, for z and for nats; ``auto``: 1e-5 with the exact trace, else 1e-4, and
            1e-3 where the measurement that training ends with would see few examples in its time.
        rtol: relative tolerance of dopri5; ``auto``: likewise.
        max_nfe: evaluations of dopri5 after which it gives up.
    """

    trace: volume.Trace = "auto"
    probes: Annotated[int, Range(low=2)] = 2
    method: ode.Method = "dopri5"
    steps: Count = 100
    atol: Auto[Positive] = "auto"
    rtol: Auto[Positive] = "auto"
    max_nfe: Count = 5000
    _seconds: float | None = field(default=None, init=False, repr=False)

    bound = "estimate"
    examples = 32

    def check(self, model: VelocityField, learned: Learned) -> None:
        if not learned.velocity:
            raise ValueError(f"estimator: {learned.limit}, whose samples have no known density: estimator=null")
        if model.timesteps:
            raise ValueError(
                f"model.timesteps={model.timesteps}: the flow runs through times in between, which this model does not "
                "know; estimator=vlb"
            )

    def within(self, seconds: float | None) -> ODE:
        bounded = copy.copy(self)
        object.__setattr__(bounded, "_seconds", seconds)
        return bounded

    def coarse(self) -> ODE:
        atol, rtol = (COARSE if value == "auto" else max(value, COARSE) for value in (self.atol, self.rtol))
        return replace(self, atol=atol, rtol=rtol)

    @torch.no_grad()
    def nll(self, model: VelocityField, batch: Batch, noise: Noise, shared: Shared) -> Estimate:
        own = replace(self, **shared.settled)
        log_p, nfe = own.log_prob(model, batch.x, batch.y, self._probes(model, batch.x, noise))
        variance = log_p.new_zeros(len(log_p)) if log_p.shape[1] == 1 else log_p.var(1) / log_p.shape[1]
        return Estimate(-log_p.mean(1), variance, {"nfe": nfe.to(log_p)})

    @torch.no_grad()
    def prepare(self, model: VelocityField, examples: Batch | None, noise: Noise) -> Shared:
        """Check the code on a normal distribution and the solver on examples; say where path and prior end."""
        assert examples is not None
        x = examples.x
        said = {"self_check_error": self._self_check(model, x, noise)}

        probes = self._probes(model, x, noise)
        own, tightest = self._fitting(model, examples, probes), TIGHT[_trace(probes)]
        atol, rtol = own._tolerances(probes)
        tight = replace(
            self,
            method="dopri5",
            atol=min(tightest, atol / 10),
            rtol=min(tightest, rtol / 10),
            max_nfe=max(TIGHT_NFE, self.max_nfe),
        )
        error = torch.cat(list(self._errors(own, tight, model, examples, probes)))
        flags = [f"solver checked on {len(error)} of {len(x)} examples"] if len(error) < len(x) else []
        flags += [f"solver at {COARSE:g}"] if own is not self else []
        said |= {"solver_error": float(error.abs().mean()), "largest_solver_error": float(error.abs().max())}
        if isinstance(model, TimeField):
            said |= _ends(model.path, x)
        exact = probes is None and said["solver_error"] <= AGREE
        bound: Bound = "exact" if exact else "estimate"
        settled: dict[str, Any] = {"atol": atol, "rtol": rtol} if self.method == "dopri5" else {}
        return Shared(bound, variance=float(error.mean()) ** 2, diagnostics=said, flags=tuple(flags), settled=settled)

    def _fitting(self, model: VelocityField, examples: Batch, probes: Tensor | None) -> ODE:
        """This, or with a coarser solver where the time suffices for few solves only."""
        if self._seconds is None or self.method != "dopri5" or probes is None or "auto" not in (self.atol, self.rtol):
            return self
        began, few = time.perf_counter(), examples.rows(torch.arange(FIRST, device=examples.x.device))
        self.log_prob(model, few.x, few.y, probes[:FIRST])
        if WANTED * (time.perf_counter() - began) / FIRST <= self._seconds:
            return self
        return replace(
            self,
            atol=COARSE if self.atol == "auto" else self.atol,
            rtol=COARSE if self.rtol == "auto" else self.rtol,
        )

    def _errors(
        self, own: ODE, tight: ODE, model: VelocityField, examples: Batch, probes: Tensor | None
    ) -> Iterator[Tensor]:
        """How far the log p of examples is from that of a tight solve, in nats: of all, or of what time allows."""
        began, done, rows = time.perf_counter(), 0, len(examples.x) if self._seconds is None else FIRST
        while done < len(examples.x):
            piece = examples.rows(torch.arange(done, min(done + rows, len(examples.x)), device=examples.x.device))
            e = probes if probes is None else probes[done : done + rows]
            found = own.log_prob(model, piece.x, piece.y, e)[0]
            try:
                yield (found - tight.log_prob(model, piece.x, piece.y, e)[0]).mean(1)
            except ode.SolverError:
                yield torch.full_like(found[:, 0], math.inf)
            done += len(piece.x)
            rows = done  # twice as many have been checked after the next
            if self._seconds is not None and 2 * (time.perf_counter() - began) > SHARE * self._seconds:
                return

    def log_prob(
        self, model: VelocityField, x: Tensor, y: Tensor | None, probes: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """log p(x) in nats for each probe (B, K), or (B, 1) with the exact trace; and the evaluations (B,)."""
        if self.method == "dopri5":
            atol, rtol = self._tolerances(probes)
            solve = volume.adaptive(model, atol=atol, rtol=rtol, max_nfe=self.max_nfe, what="estimator.max_nfe")
        else:

            def solve(f: ode.Derivative, start: Tensor, K: int) -> ode.Solution:
                grid = torch.linspace(model.t_min, model.t_max, self.steps + 1, dtype=start.dtype, device=x.device)
                return ode.fixed(f, start, grid, self.method)

        return volume.log_prob(model, x, y, probes, solve)

    def _tolerances(self, probes: Tensor | None) -> tuple[float, float]:
        """Absolute and relative, of a solve with these probes or the exact trace."""
        usual = TOLERANCE[_trace(probes)]
        return (usual if self.atol == "auto" else self.atol, usual if self.rtol == "auto" else self.rtol)

    def _probes(self, model: VelocityField, x: Tensor, noise: Noise) -> Tensor | None:
        """Rademacher probes (B, K, D), or None for the exact trace."""
        if self.trace == "exact" or (self.trace == "auto" and model.spec.dim <= EXACT_DIM):
            return None
        return volume.rademacher(noise, x, self.probes)

    def _self_check(self, model: VelocityField, x: Tensor, noise: Noise) -> float:
        """Largest error in nats on normal data of mean 0.3 and deviation 0.7, whose flow is known in closed form.

        Raises:
            SolverError: it exceeds a tenth of a nat and a thousandth of a nat a dimension.
        """
        field, D, prior = _Normal(model), model.spec.dim, model.prior_std
        x = 0.3 + 0.7 * noise.randn(8, *x.shape[1:]).to(x)
        ends = torch.tensor([model.t_min, model.t_max], dtype=torch.float64)
        mean, std = field.moments(ends)
        z = mean[1] + (x.cpu().double() - mean[0]) / std[0] * std[1]
        exact = -0.5 * (z / prior).square().flatten(1).sum(1)
        exact = exact + D * (std[1] / std[0]).log() - D * math.log(prior * math.sqrt(2 * math.pi))
        found = self.log_prob(field, x, None, self._probes(model, x, noise))[0].cpu()
        error = float((found - exact[:, None]).abs().max())
        if not error <= max(0.1, 1e-3 * D):
            raise ode.SolverError(
                f"the estimator is {error:.3g} nats off on a normal distribution: lower estimator.atol and rtol, or "
                "take more estimator.steps"
            )
        return error


def _trace(probes: Tensor | None) -> str:
    return "exact" if probes is None else "hutchinson"


def _ends(path: Path, x: Tensor) -> dict[str, float]:
    """Where the path starts, and KL(q(x_t_max | x) || prior) of mean examples, which bounds what the prior is off."""
    ends = torch.tensor([path.t_min, path.t_max], dtype=torch.float64)
    alpha, sigma, prior = float(path.alpha(ends)[1]), float(path.sigma(ends)[1]), path.prior_std
    squares = (alpha * x.double()).square().flatten(1).sum(1).mean().item()
    D = x[0].numel()
    kl = 0.5 * (D * ((sigma / prior) ** 2 - 1 - 2 * math.log(sigma / prior)) + squares / prior**2)
    return {"prior_kl": kl, "t_min": path.t_min, "sigma_at_t_min": float(path.sigma(ends)[0])}


class _Normal(VelocityField):
    """Data N(0.3, 0.7^2 I) on the path of another field, or on a straight line to the prior of one without."""

    def __init__(self, model: VelocityField) -> None:
        super().__init__(Spec(model.spec.shape, model.spec.support))
        self.path = model.path if isinstance(model, TimeField) else None
        self.t_min, self.t_max, self.prior_std = model.t_min, model.t_max, model.prior_std

    def _coefficients(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """alpha, sigma and their derivatives."""
        if self.path is not None:
            return self.path.alpha(t), self.path.sigma(t), self.path.d_alpha(t), self.path.d_sigma(t)
        width = self.t_max - self.t_min
        share, rate = (t - self.t_min) / width, torch.full_like(t, 1 / width)
        return 1 - share, self.prior_std * share, -rate, self.prior_std * rate

    def moments(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of x_t."""
        alpha, sigma, _, _ = self._coefficients(t)
        return 0.3 * alpha, ((0.7 * alpha).square() + sigma.square()).sqrt()

    def velocity(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        alpha, sigma, d_alpha, d_sigma = self._coefficients(t)
        mean, std = self.moments(t)
        growth = (0.49 * alpha * d_alpha + sigma * d_sigma) / std.square()  # d ln std / dt
        return 0.3 * like(d_alpha, x) + like(growth, x) * (x - like(mean, x))
