"""Path sampling: log Z as an integral of mean energies along a path from a density whose Z is known.

With E_beta = (1 - beta) E_0 + beta E_1, E_0 = -log q normalised and E_1 that of the model,

    d log Z_beta / d beta = E_beta[E_0 - E_1],    log Z = integral from 0 to 1 of E_beta[E_0 - E_1] d beta.

Means are linear in what chains see, so that nothing is weighted and no weights collapse. What can go wrong is that
chains do not follow beta, as in degenerate models: therefore they go up and down, and the gap is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from gencli.core.noise import Ahead, Noise
from gencli.core.options import Count, Natural, Range
from gencli.core.progress import counted
from gencli.core.tensors import frozen, place
from gencli.estimators.annealed import acceptance
from gencli.estimators.base import Shared
from gencli.estimators.partition import PartitionEstimator
from gencli.kernels.base import Energy, Kernel, State, require_moves
from gencli.kernels.energy import weighted
from gencli.kernels.hmc import HMC
from gencli.methods.chains import energy_of, usual
from gencli.models.base import DirectSampling, ExactLikelihood, Unnormalized
from gencli.models.structure import ExponentialFamily
from gencli.models.trained import Learned

APART = 4.0
"""Standard errors that both directions may lie apart."""

WARM = 50
"""Steps at beta = 0 in which a kernel that adapts learns its settings, which then follow beta."""

STUCK = 0.02
"""Mean acceptance below which chains stand still, so that both directions agree on nothing."""


@dataclass(frozen=True, kw_only=True)
class PathSampling(PartitionEstimator):
    """log Z by Gauss-Legendre quadrature over ``bridges`` values of beta, with chains that go up from q, and back down.

    The chains are independent of each other, so the spread of what each has found on its own way, up and down, gives
    ``log_z_se`` with all that a chain remembers. ``log_z_gap`` is down minus up; where it is more than four standard
    errors, half of it is part of the error, which is told as a lower limit; so is that of chains that hardly move at
    some beta (``acceptance`` is the mean over all). The error of the quadrature itself is not in it: it falls
    exponentially in the number of bridges where the integrand is smooth.

    Of an exponential family, means and covariance of its statistics at beta = 1 give for the N examples that it was
    started from: ``theta``, ``theta_se`` by the inverse Fisher information, ``theta_gap`` (a Newton step to the maximum
    of the likelihood) with its Monte Carlo error ``theta_gap_se``, ``log_likelihood``, ``aic`` and ``bic`` with
    ``log_likelihood_se`` and ``aic_se``, which BIC shares. BIC counts the coordinates of all examples as observations,
    as statnet does.

    Args:
        kernel: of the chains; None: the usual one of such x.
        base: q: the model's ``reference``, or ``uniform`` on the values of discrete x; None: the reference where
            there is one.
        chains: number of chains.
        bridges: values of beta.
        burn: steps at each of them before those that count.
        steps: steps that count.

    References:
        Gelman and Meng, "Simulating normalizing constants: from importance sampling to bridge sampling to path
        sampling", 1998; Hunter and Handcock, "Inference in curved exponential family models for networks", 2006.
    """

    kernel: Kernel[Any] | None = None
    base: Literal["reference", "uniform"] | None = None
    chains: Annotated[int, Range(low=2)] = 200
    bridges: Count = 16
    burn: Natural = 2
    steps: Count = 3

    bound = "estimate"

    def check(self, model: Unnormalized, learned: Learned) -> None:
        super().check(model, learned)
        if self.kernel is not None:
            require_moves(self.kernel, model.spec.support, f"estimator.kernel: {type(self.kernel).__name__}")
        if self._from(model) == "reference" and model.reference() is None:
            raise ValueError("estimator.base=reference: this model has none; estimator.base=uniform is for discrete x")
        if self._from(model) == "uniform" and not model.spec.support.discrete:
            raise ValueError(
                f"estimator.base=uniform: this model's x is {model.spec.support}; estimator.base=reference"
            )

    def _from(self, model: Unnormalized) -> str:
        has_none = model.reference() is None and model.spec.support.discrete
        return self.base or ("uniform" if has_none else "reference")

    def measure(self, model: Unnormalized, x: Tensor, noise: Noise) -> Shared:
        nodes, shares = np.polynomial.legendre.leggauss(self.bridges)
        betas, shares = (nodes + 1) / 2, shares / 2
        ahead, kernel = Ahead(noise), self._kernel(model)
        rates: list[Tensor | None] = []
        with frozen(model), torch.no_grad():
            zero, at = self._start(model, ahead)
            one = energy_of(model)
            up, down = (at.new_zeros(self.chains, dtype=torch.float64) for _ in range(2))

            def add(total: Tensor, state: State, k: int) -> State:
                energy = weighted([(1 - float(betas[k]), zero), (float(betas[k]), one)])
                state, seen = self._walk(
                    kernel, energy, state, ahead, lambda x: (zero(x).double() - one(x).double())[:, None], rates
                )
                total += float(shares[k]) * seen.mean(0)[:, 0]
                return state

            state: State = kernel.warmed(zero, at, WARM if kernel.adapts else 0, ahead)
            for k in counted("bridges up", range(self.bridges)):
                state = add(up, state, k)
            family = model if isinstance(model, ExponentialFamily) else None
            statistics = (lambda x: x[:, :0]) if family is None else family.statistics
            state, seen = self._walk(kernel, one, state, ahead, statistics, rates)
            for k in counted("bridges down", range(self.bridges)[::-1]):
                state = add(down, state, k)
        log_z = (up + down) / 2
        value, variance = float(log_z.mean()), float(log_z.var()) / self.chains
        gap, gap_se = float((down - up).mean()), (float((down - up).var()) / self.chains) ** 0.5
        said = {"log_z_gap": gap, "log_z_gap_se": gap_se, **acceptance(rates)}
        apart = abs(gap) > APART * gap_se + 1e-6 * abs(value)
        refusing = [rate for rate in rates if rate is not None]
        stuck = bool(refusing) and float(torch.stack(refusing).min()) < STUCK
        if apart:
            variance += (gap / 2) ** 2
        if family is not None:
            said |= likelihood(family, seen, value, variance**0.5)
        return Shared(self.bound, value, variance, apart or stuck, said)

    def _kernel(self, model: Unnormalized) -> Kernel[Any]:
        """Of the energies between, which are weighted sums: nothing draws their reals at once."""
        return self.kernel or (usual(model) if model.spec.support.discrete else HMC())

    def _start(self, model: Unnormalized, noise: Noise) -> tuple[Energy, Tensor]:
        """E_0 and exact samples."""
        spec, like = model.spec, place(model)
        if self._from(model) == "uniform":
            level = spec.dim * math.log(spec.support.size)
            values = (noise.rand(self.chains, *spec.shape) * spec.support.size).floor()
            at = values.to(like) if spec.support.kind == "binary" else values.long().to(like.device)
            return _flat(level, like, spec.support.size, energy_of(model)), at
        q = model.reference()
        assert isinstance(q, ExactLikelihood)
        assert isinstance(q, DirectSampling)
        return energy_of(q), q.sample(self.chains, noise=noise)

    def _walk(
        self,
        kernel: Kernel[Any],
        energy: Energy,
        learned: State,
        noise: Noise,
        see: Callable[[Tensor], Tensor],
        rates: list[Tensor | None],
    ) -> tuple[State, Tensor]:
        """Chains in an energy, from where they were and what they learned in the last one.

        Returns:
            Their end, and what is seen of them at each step that counts: (steps, n, K) in fp64. ``rates`` grows by the
            mean acceptance of each of those.
        """
        state, seen = kernel.followed(energy, learned.x, learned, self.burn, noise), []
        for _ in range(self.steps):
            state, info = kernel.step(energy, state, noise)
            rates.append(None if info.accept is None else info.accept.mean())
            seen.append(see(state.x).double())
        return state, torch.stack(seen)


def _flat(level: float, like: Tensor, values: int, of: Energy) -> Energy:
    """The constant energy D ln K."""

    def zeros(*shape: int) -> Tensor:
        return like.new_zeros(shape)

    def energy(x: Tensor) -> Tensor:
        return zeros(len(x)) + level

    return Energy(
        energy,
        of.support,
        lambda x, where: zeros(len(x), len(where), values),
        lambda x: (energy(x), zeros(len(x), x[0].numel(), values)),
        of.blocks,
        toggle=lambda x, where: zeros(len(x)),
    )


def likelihood(model: ExponentialFamily, seen: Tensor, log_z: float, se: float) -> dict[str, float]:
    """What chains at the model say of its parameters and of the likelihood of the N examples that it started from.

    Args:
        model: of K parameters.
        seen: statistics of n independent chains (steps, n, K), fp64.
        log_z: log Z.
        se: its standard error.
    """
    (observed, N), K = model.observed, seen.shape[2]
    if N == 0:
        return {}
    theta = model.theta.detach().double()
    by_chain = seen.mean(0)
    covariance = torch.cov(seen.flatten(0, 1).T).view(K, K)
    size = covariance.diagonal().sqrt()
    log_likelihood = N * float(theta @ observed - log_z)
    said = {f"theta.{name}": value for name, value in zip(model.names, theta.tolist(), strict=True)}
    correlation = covariance / size.outer(size)
    if bool((size > 0).all()) and float(torch.linalg.eigvalsh(correlation)[0]) > 1e-8:
        inverse = torch.linalg.inv(correlation) / size.outer(size)
        step = inverse @ (observed - by_chain.mean(0))
        spread = torch.cov(by_chain.T).view(K, K) / by_chain.shape[0]
        errors = {
            "theta_se": (inverse.diagonal() / N).sqrt(),
            "theta_gap": step,
            "theta_gap_se": (inverse @ spread @ inverse).diagonal().sqrt(),
        }
        for what, values in errors.items():
            said |= {f"{what}.{name}": value for name, value in zip(model.names, values.tolist(), strict=True)}
    coordinates = N * model.spec.dim
    return said | {
        "log_likelihood": log_likelihood,
        "log_likelihood_se": N * se,
        "aic": 2 * K - 2 * log_likelihood,
        "bic": K * math.log(coordinates) - 2 * log_likelihood,
        "aic_se": 2 * N * se,
    }
