"""The energy of a model as chains see it, and the kernel that moves them where none is named."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from gencli.core.noise import Noise
from gencli.core.tensors import slope
from gencli.kernels.base import Energy, Kernel, require_moves
from gencli.kernels.gibbs import Gibbs
from gencli.kernels.graphs import TieNoTie
from gencli.kernels.hmc import HMC
from gencli.kernels.informed import usual_of_discrete
from gencli.models.base import Unnormalized
from gencli.models.structure import BlockGibbs, Pairwise, Relaxed, Sloped


def usual(model: Unnormalized) -> Kernel[Any]:
    """The kernel of chains in the energy of a model where none is named.

    Tie or no tie of networks, Gibbs sampling where the model draws all of x through auxiliary variables, Hamiltonian
    Monte Carlo of other reals, ``usual_of_discrete`` of other x.
    """
    spec = model.spec
    if isinstance(model, BlockGibbs):
        return Gibbs()
    if spec.graph is not None:
        return TieNoTie()
    return usual_of_discrete(energy_of(model), spec.dim) if spec.support.discrete else HMC()


def energy_of(model: Unnormalized, y: Tensor | None = None, n: int = 0) -> Energy:
    """E(. , y) of a model, for n chains; where more rows are asked for, the replicas of a chain lie side by side.

    Args:
        model: the density.
        y: the context of each chain, (n,) or (n, C); None: it has none.
        n: number of chains; only where there is a context.
    """

    def given(x: Tensor) -> Tensor | None:
        return y if y is None or len(x) == n else y.repeat_interleave(len(x) // n, 0)

    support = model.spec.support

    def resample(x: Tensor, noise: Noise) -> Tensor:
        assert isinstance(model, BlockGibbs)
        return model.resample(x, noise, given(x))

    drawn = resample if isinstance(model, BlockGibbs) else None
    if not support.discrete:
        own = (lambda x: model.slope(x, given(x))) if isinstance(model, Sloped) else None
        return Energy(lambda x: model.energy(x, given(x)), support, resample=drawn, slope=own)

    asked = type(model).changes is Unnormalized.changes  # of every neighbour, for want of a shorter way

    def taylor(x: Tensor) -> tuple[Tensor, Tensor]:
        assert isinstance(model, Relaxed)
        flat = x.flatten(1).long()
        energy, gradient = slope(lambda p: model.relaxed(p, given(x)), F.one_hot(flat, support.size).float())
        if not asked:  # a lattice sums it more exactly
            energy = model.energy(x, given(x))
        return energy, gradient - gradient.gather(2, flat[..., None])

    return Energy(
        lambda x: model.energy(x, given(x)),
        support,
        None if asked else lambda x, where: model.changes(x, where, given(x)),
        taylor if isinstance(model, Relaxed) else None,
        model.blocks(),
        drawn,
        pairs=model.pairwise if isinstance(model, Pairwise) else None,
        toggle=lambda x, where: model.toggles(x, where, given(x)),
    )


def require_kernel(kernel: Kernel[Any], model: Unnormalized, what: str) -> None:
    """Refuse a kernel that cannot move chains in the energy of a model.

    Args:
        kernel: of the chains.
        model: whose energy it is.
        what: the key that holds the kernel and its name, ``sampler.kernel: HMC``.

    Raises:
        ValueError: it does not move the support's kind, other than by auxiliary variables that the model has; or it
            moves clusters of an energy over pairs, and the model is not ``Pairwise``.
    """
    if not (kernel.in_blocks and isinstance(model, BlockGibbs)):
        require_moves(kernel, model.spec.support, what)
    if kernel.over_pairs and not isinstance(model, Pairwise):
        raise ValueError(f"{what} needs an energy over pairs, such as model=ising or model=potts; take kernel=gibbs")
