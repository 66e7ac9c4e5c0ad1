"""Monte Carlo maximum likelihood: the ratio Z(theta) / Z(psi) from samples of a reference parameter psi."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from gencli.core.distributed import largest
from gencli.core.errors import RunFailed
from gencli.core.noise import Noise, StepNoise
from gencli.core.options import Count, ProperFraction, Range
from gencli.core.spec import Batch, Spec
from gencli.core.tensors import ess, frozen, log_mean_exp
from gencli.kernels.adaptation import DualAveraging
from gencli.kernels.base import Kernel, require_moves
from gencli.kernels.hmc import HMC, Point, hmc
from gencli.methods.chains import energy_of
from gencli.models.base import Unnormalized
from gencli.models.trained import Learned
from gencli.objectives.base import Loss, Turn
from gencli.objectives.energy.base import ChainObjective, refuse_steps, vacant, walk


@dataclass(frozen=True)
class Move:
    """What a step of the optimizer starts from.

    Args:
        parameters: as they were.
        batch: that the step has seen.
        energies: of the batch, (B,).
        anchored: whether the parameters were psi.
    """

    parameters: list[Tensor]
    batch: Batch
    energies: Tensor
    anchored: bool


class MonteCarloMLE(ChainObjective):
    """L = E_data[E_theta(x)] + log 1/M sum_j exp(E_psi(x_j) - E_theta(x_j)), x_j ~ p_psi: the NLL less log Z(psi).

    Every ``anchor`` steps psi becomes theta, and the x_j walk on: of reals by Hamiltonian Monte Carlo with one step
    size for all that is adapted meanwhile, of discrete x by the usual kernel. The loss is right only while the weights
    are even: their effective sample size is logged (``ess``, a share of M). A step of the optimizer that leaves less
    than ``least`` is halved until it does not, and psi follows at once.

    Chains that have left the data say nothing of them. Along each first step from a psi, the change of the energy of
    the data is compared with that of each chain (``departed``; the share of chains that are far is ``away`` in the logs
    of discrete x). All are far where training starts far from its end, and come nearer. A model whose mass lies in
    other regions too, such as full networks, keeps them away: that fit ends with an explanation.

    Args:
        spec: of model space.
        samples: M.
        anchor: training steps with one psi.
        steps: transitions at each new psi.
        leaps: leapfrog steps a transition.
        least: share of M below which weights are too uneven.
        kernel: another transition; it does not adapt. null: Hamiltonian Monte Carlo or Gibbs sampling.
        shared: options of ``ChainObjective``.

    Raises:
        ValueError: an option that the kernel says itself or that discrete x do not have.

    References:
        Geyer, "On the convergence of Monte Carlo maximum likelihood calculations", 1994. Handcock, "Assessing
        degeneracy in statistical models of social networks", 2003. Hummel, Hunter and Handcock, "Improving
        simulation-based algorithms for fitting ERGMs", 2012 (shorter steps).
    """

    shards = False  # steps are shortened by the energies that they lead to

    x: Tensor
    energies: Tensor
    size: Tensor
    age: Tensor

    TARGET = 0.7
    HALVINGS = 10
    AWAY, PATIENCE = 0.1, 20  # share of chains that may be far, and anchors of more after which none will come back

    def __init__(
        self,
        spec: Spec,
        *,
        samples: Annotated[int, Range(low=2)] = 1000,
        anchor: Count = 20,
        steps: Count = 10,
        leaps: Count = 5,
        least: ProperFraction = 0.1,
        kernel: Kernel[Any] | None = None,
        **shared: Any,
    ) -> None:
        refuse_steps(spec, leaps=leaps != 5)
        if kernel is not None and leaps != 5:
            raise ValueError(f"objective.leaps={leaps}: objective.kernel says this itself; leave it as it is")
        if kernel is None and not spec.support.discrete:
            require_moves(HMC(leaps=leaps), spec.support, "objective=mcmc_mle")
        super().__init__(spec, kernel=kernel, **shared)
        self.gradients = leaps != 5
        self.anchor, self.steps, self.leaps, self.least = anchor, steps, leaps, least
        self.register_buffer("x", vacant(spec, samples))
        self.register_buffer("energies", torch.zeros(samples))
        self.register_buffer("size", torch.tensor(0.1))
        self.register_buffer("age", torch.zeros((), dtype=torch.int64))
        self.steps_taken: int | None = 0  # ``age`` on the host, so that no step waits for the device
        self.register_load_state_dict_post_hook(lambda module, _: setattr(module, "steps_taken", None))  # type: ignore[no-untyped-call]
        self.move: Move | None = None
        self.away, self.nearest, self.lost = 0.0, (math.inf, math.inf), 0

    def advice(self) -> str:
        norm = float(self.x.flatten(1).float().norm(dim=1).max())
        return (
            f"Chains: {self.kernel or f'HMC with a step size of {float(self.size):.3g}'}, largest norm of a chain "
            f"{norm:.3g}. "
            "Take a smaller optimizer.lr or a smaller objective.anchor"
        )

    def bind(self, model: Unnormalized) -> Learned:
        if model.conditional:
            raise ValueError("objective=mcmc_mle keeps chains without labels: model.conditional=false")
        return super().bind(model)

    def turns(self, model: Unnormalized) -> list[Turn]:
        (turn,) = super().turns(model)
        return [replace(turn, project=lambda: self._shorten(model, turn.parameters))]

    @torch.no_grad()
    def start(self, model: Unnormalized, examples: Batch | None) -> None:
        super().start(model, examples)
        self.x.copy_(model.start(len(self.x), noise=StepNoise(self.x.device, 2)))

    def _anchor(self, model: Unnormalized, noise: Noise) -> None:
        """psi <- theta: chains walk on, and their energies are kept."""
        energy = energy_of(model)
        with frozen(model):
            if self.kernel is not None:
                x, _ = walk(self.kernel, energy, self.x, noise, self.steps)
                self.x.copy_(x)
                with torch.no_grad():
                    self.energies.copy_(energy(x))
                return
            point, sizes = Point.at(energy, self.x), DualAveraging.start(self.size.view(1))
            for _ in range(self.steps):
                point, accept = hmc(energy, point, noise, step=sizes.step.expand(len(self.x)), leaps=self.leaps)
                sizes = sizes.update(accept.mean().view(1), self.TARGET)
        self.x.copy_(point.x)
        self.energies.copy_(point.energy)
        self.size.copy_(sizes.average[0])

    def loss(self, model: Unnormalized, batch: Batch, noise: Noise) -> Loss:
        if self.steps_taken is None:
            self.steps_taken = int(self.age)
        anchored = self.steps_taken % self.anchor == 0
        if anchored:
            self._anchor(model, noise)
        self.steps_taken += 1
        self.age += 1
        of_data, of_samples = model.energy(batch.x, batch.y), model.energy(self.x)
        parameters = [p.detach().clone() for p in model.parameters() if p.requires_grad]
        self.move = Move(parameters, batch, of_data.detach(), anchored)
        log_weights = self.energies - of_samples
        value = of_data.mean() + log_mean_exp(log_weights)[0]
        share = ess(log_weights.detach()) / len(self.x)
        seen = {"away": torch.tensor(self.away)} if self.spec.support.discrete else {"step_size": self.size.clone()}
        return Loss(value + self.held_level(of_data, of_samples), {"ess": share, **seen})

    @torch.no_grad()
    def _shorten(self, model: Unnormalized, parameters: list[nn.Parameter]) -> None:
        """Halve the last step while it leaves the chains too few weights.

        Raises:
            RunFailed: the chains have left the data.
        """
        assert self.move is not None
        log_weights = self.energies - model.energy(self.x)
        if self.move.anchored:
            of_data = self.move.energies - model.energy(self.move.batch.x, self.move.batch.y)
            rounding = 1e-5 * float(self.energies.abs().max())
            seen = torch.tensor(departed(of_data.mean(), log_weights, rounding))
            self._look(*largest(seen).tolist())  # all processes end together
        halvings = 0
        while float(largest(-ess(log_weights))) > -self.least * len(self.x) and halvings < self.HALVINGS:
            for p, before in zip(parameters, self.move.parameters, strict=True):
                p.lerp_(before, 0.5)
            log_weights = self.energies - model.energy(self.x)
            halvings += 1
        if halvings:  # psi follows at the next step
            wait = -int(self.age) % self.anchor
            self.age += wait
            self.steps_taken = int(self.age)

    def _look(self, away: float, gap: float) -> None:
        """Count references whose chains have left the data and do not come nearer, less those whose chains have not."""
        fine = away <= self.AWAY
        nearer = away < self.nearest[0] - 0.02 or (away == 1 and gap < self.nearest[1])
        self.lost = max(0, self.lost - 1) if fine or nearer else self.lost + 1
        best = (min(away, self.nearest[0]), min(gap, self.nearest[1]))
        self.away, self.nearest = away, (math.inf, math.inf) if fine else best
        if self.lost >= self.PATIENCE:
            raise RunFailed(
                f"the chains have left the data: degenerate. {100 * away:.0f} % of them are far from all data along "
                f"the steps that training takes, and {self.lost} references have brought none nearer. Mass of this "
                "model lies where no data are. Take other statistics (of networks gwesp in place of triangles, "
                "gwdegree in place of stars), a smaller optimizer.lr, or more objective.steps"
            )


def departed(data: Tensor, chains: Tensor, rounding: float, far: float = 10.0) -> tuple[float, float]:
    """How many chains have left the data, as one number of each tells.

    Where the numbers of the chains fall in two parts, at their largest gap, the part on the side of the data says what
    is far, by its deviation. If it has less than a tenth of them, or there is no such part, all of them do.

    Args:
        data: mean over the data, ().
        chains: (M,).
        rounding: distances below say nothing.
        far: in deviations.

    Returns:
        The share of chains that are far, and the distance of the mean of all from the data in their deviations.
    """
    ordered = chains.sort().values
    cut = int(ordered.diff().argmax())
    lower = bool(data < (ordered[cut] + ordered[cut + 1]) / 2)
    near = ordered[: cut + 1] if lower else ordered[cut + 1 :]
    if len(near) < max(2, len(chains) / 10):
        near = ordered
    away = ((chains - data).abs() > far * near.std() + rounding).double().mean()
    return float(away), float((chains.mean() - data).abs() / chains.std())
