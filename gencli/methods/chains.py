"""The energy of a model as chains see it, and the kernel that moves them where none is named."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from gencli.core.noise import Noise
from gencli.core.tensors import slope
from gencli.kernels.base import Energy, Kernel
from gencli.kernels.graphs import TieNoTie
from gencli.kernels.hmc import HMC
from gencli.kernels.informed import usual_of_discrete
from gencli.models.base import Unnormalized
from gencli.models.structure import BlockGibbs, Pairwise, Relaxed, Sloped


def usual(model: Unnormalized) -> Kernel[Any]:
    """The kernel of chains where none is named.

    Tie or no tie of networks, Hamiltonian Monte Carlo of reals, ``usual_of_discrete`` of other x.
    """
    spec = model.spec
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
    if not support.discrete:
        own = (lambda x: model.slope(x, given(x))) if isinstance(model, Sloped) else None
        return Energy(lambda x: model.energy(x, given(x)), support, slope=own)

    asked = type(model).changes is Unnormalized.changes  # of every neighbour, for want of a shorter way

    def taylor(x: Tensor) -> tuple[Tensor, Tensor]:
        assert isinstance(model, Relaxed)
        flat = x.flatten(1).long()
        energy, gradient = slope(lambda p: model.relaxed(p, given(x)), F.one_hot(flat, support.size).float())
        if not asked:  # a lattice sums it more exactly
            energy = model.energy(x, given(x))
        return energy, gradient - gradient.gather(2, flat[..., None])

    def resample(x: Tensor, noise: Noise) -> Tensor:
        assert isinstance(model, BlockGibbs)
        return model.resample(x, noise, given(x))

    return Energy(
        lambda x: model.energy(x, given(x)),
        support,
        None if asked else lambda x, where: model.changes(x, where, given(x)),
        taylor if isinstance(model, Relaxed) else None,
        model.blocks(),
        resample if isinstance(model, BlockGibbs) else None,
        pairs=model.pairwise if isinstance(model, Pairwise) else None,
        toggle=lambda x, where: model.toggles(x, where, given(x)),
    )


def require_pairs(kernel: Kernel[Any], model: Unnormalized, what: str) -> None:
    """Refuse a kernel that moves clusters of an energy over pairs, where the model's is none.

    Args:
        kernel: of the chains.
        model: whose energy it is.
        what: the part that has the kernel, for the message.

    Raises:
        ValueError: the model is not ``Pairwise``.
    """
    if kernel.over_pairs and not isinstance(model, Pairwise):
        raise ValueError(f"{what} needs an energy over pairs, such as model=ising or model=potts; take kernel=gibbs")
