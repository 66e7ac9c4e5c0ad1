"""A density held against the energy that it was fitted to: bounds on log Z from both sides, and what was missed.

With log w(x) = -E(x) - log q(x) and p = exp(-E) / Z,

    E_q[log w] = log Z - KL(q || p)  <=  log Z  <=  E_p[log w] = log Z + KL(p || q).

Samples of q say nothing of a mode of p that q does not have: only the right side does, and it needs examples of p.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.core.noise import Noise
from gencli.core.options import Range
from gencli.data.base import Dataset
from gencli.methods.integral import log_integral
from gencli.methods.weights import weighed
from gencli.metrics.base import Measured, ModelMetric
from gencli.models.base import DirectSampling, ExactLikelihood, Model, Unnormalized
from gencli.models.known import known
from gencli.models.subject import Subject
from gencli.models.trained import TrainedRun

MOST = 10_000
"""Held-out rows."""
MISSED = math.log(100)
"""Nats by which log q(x) lies below log p(x) at a row that is missed."""
TOLERANCE, SIDE = 1e-3, 1024
"""Of the quadrature of log Z: nats, and points a side at most."""


@dataclass(frozen=True, kw_only=True)
class Target(ModelMetric):
    """The lower bound E_q[-E(x) - log q(x)] on log Z of an energy E, over samples of the model q, in nats.

    Beside it: ``log_z``, the importance estimate from the same samples, which is below log Z on average, too, with
    ``ess_share``, the effective share of its weights, and ``pareto_k`` of their tail (above 0.7 it is not to be
    believed). ``log_z_exact``: 0 of a density, by quadrature in one or two dimensions. On held-out rows, taken for
    examples of p: ``log_z_upper``, the mean of log w there, an upper bound as far as they are; ``missed``, the
    share at which q has less than a hundredth of the density of p; ``modes_missed`` of modes that the data know.

    Args:
        run: whose energy it is; None: what the model was fitted to, or else the density of the data where it is known.
        samples: of the model.

    Raises:
        ValueError: there is no such energy, or it is of another space.
    """

    better = "higher"
    needs = "a likelihood with samples, and an energy that it was fitted to"
    run: TrainedRun | None = None
    samples: Annotated[int, Range(low=100)] = 10_000

    def check(self, dataset: Dataset, model: Model) -> None:
        if not isinstance(model, ExactLikelihood) or not isinstance(model, DirectSampling):
            raise ValueError("metrics=[target] needs a model with a likelihood and samples of its own, such as a flow")
        if model.conditional:
            raise ValueError("metrics=[target]: an energy has another Z for each y; the model is conditional")

    def measure(self, subject: Subject) -> Measured:
        energy, q = self.energy(subject), subject.model
        assert isinstance(q, ExactLikelihood)
        drawn, log_w = self._drawn(subject, energy)
        found = weighed(log_w)
        lower, se = float(log_w.mean()), float(log_w.std()) / math.sqrt(len(log_w))
        told = {"log_z": found.log_mean, "log_z_se": found.variance**0.5, "ess_share": found.ess / len(log_w)}
        told |= {"pareto_k": found.pareto_k}
        rows = torch.arange(min(len(subject.split), MOST))
        x, batch = self._held_out(subject, rows), subject.split.gather(rows)
        exact = self._exact(subject, energy, torch.cat([x, drawn]))
        log_z = told["log_z"] if exact is None else exact
        told |= {} if exact is None else {"log_z_exact": exact}
        ratio = torch.cat([_log_w(energy, q, some) for some in x.split(subject.batch_size)])
        told |= {"log_z_upper": float(ratio.mean()), "log_z_upper_se": float(ratio.std()) / math.sqrt(len(ratio))}
        missed = (ratio - log_z > MISSED).double()
        told["missed"] = float(missed.mean())
        says = "lower bound on log Z"
        if found.collapsed:
            says += ", log_z not to be believed"
        if told["missed"] > 0:
            says += f", {told['missed']:.1%} of held-out rows missed"
        if subject.dataset.modes is not None:
            centres = subject.dataset.modes.centres.to(batch.x.device).double()
            nearest = torch.cdist(batch.x.flatten(1).double(), centres).argmin(1).cpu()
            shares = [missed[nearest == mode] for mode in range(len(centres))]
            told["modes_missed"] = float(sum(bool(len(share)) and float(share.mean()) > 0.5 for share in shares))
            told["of"] = float(len(centres))
        return Measured(lower, se, told, {"says": says}, drawn=len(log_w), examples=len(rows))

    def energy(self, subject: Subject) -> Unnormalized:
        """The energy that the model is held against, in model space."""
        target = self.run or subject.learned.target
        if isinstance(target, TrainedRun):
            try:
                return target.target(subject.model).to(subject.device)
            except (ValueError, UsageError) as error:
                raise ValueError(f"metrics.target.run: {error}") from error
        density = known(subject.dataset, subject.preprocess)
        if density is None:
            raise ValueError(
                "metrics.target.run=null: the model was fitted to examples, and their density is not known; "
                "name the run whose energy it is held against"
            )
        return density

    def _drawn(self, subject: Subject, energy: Unnormalized) -> tuple[Tensor, Tensor]:
        """Samples (n, *) of the model in model space, and their log w (n,)."""
        q = subject.model
        assert isinstance(q, DirectSampling)
        assert isinstance(q, ExactLikelihood)
        samples, weights = [], []
        for rows, noise in self._noise(subject):
            x = q.sample(len(rows), noise=noise)
            samples.append(x)
            weights.append(_log_w(energy, q, x))
        return torch.cat(samples), torch.cat(weights)

    def _noise(self, subject: Subject) -> Iterator[tuple[Tensor, Noise]]:
        for rows in torch.arange(self.samples).split(subject.batch_size):
            yield rows, subject.noise(rows, 1)

    def _held_out(self, subject: Subject, rows: Tensor) -> Tensor:
        """Held-out rows (m, *) in model space."""
        parts = []
        for some in rows.split(subject.batch_size):
            batch, _ = subject.preprocess.batch(subject.split.gather(some).to(subject.device), subject.noise(some, 2))
            parts.append(batch.x)
        return torch.cat(parts)

    def _exact(self, subject: Subject, energy: Unnormalized, points: Tensor) -> float | None:
        """log Z where it is known: of a density, or by quadrature within its tolerance."""
        if isinstance(energy, ExactLikelihood):
            return 0.0
        if energy.spec.dim > 2:
            return None

        def f(x: Tensor) -> Tensor:
            some = [energy.energy(part.to(points).view(-1, *energy.spec.shape)) for part in x.split(16_384)]
            return -torch.cat(some).cpu().double()

        places = points[:: max(1, len(points) // 4096)].flatten(1).cpu().double().unique(dim=0)
        finest = 8 * torch.finfo(points.dtype).eps
        try:
            found = log_integral(f, places, subject.noise(torch.arange(2048), 3), TOLERANCE, SIDE, finest)
        except ArithmeticError:
            return None
        return found.value if found.error <= TOLERANCE else None


def _log_w(energy: Unnormalized, q: ExactLikelihood, x: Tensor) -> Tensor:
    """log w (n,) in fp64 on the CPU."""
    return (-energy.energy(x).double() - q.log_prob(x).double()).cpu()
