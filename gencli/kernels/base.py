"""What transitions of Markov chains on an energy share.

Every function works on n chains at once, x (n, *), whose energies do not depend on each other. The density is
exp(-E(x)); a temperature T is the energy E / T. Energies are in fp32 even under autocast: a chain lives on differences.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gencli.core.errors import RunFailed

Energy = Callable[[Tensor], Tensor]
"""(n, *) -> (n,) nats."""


def slope(energy: Energy, x: Tensor) -> tuple[Tensor, Tensor]:
    """E(x) (n,) and its gradient (n, *), detached."""
    with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        x = x.detach().requires_grad_()
        e = energy(x)
        (gradient,) = torch.autograd.grad(e.sum(), x)
    return e.detach(), gradient


def require_finite(x: Tensor, norms: Tensor, what: str) -> None:
    """Stop where a chain has left for infinity.

    Args:
        x: (n, *) where chains have ended.
        norms: (steps,) the largest norm among the chains at each step so far.
        what: the options that lead there.

    Raises:
        RunFailed: says which step size, how large the chains had become, and when.
    """
    bad = int((~torch.isfinite(x.flatten(1)).all(1)).sum())
    if bad:
        kept = norms[: int(torch.isfinite(norms).long().cumprod(0).sum())]
        grown = (
            f"the largest norm was {float(kept[-1]):.3g} at step {len(kept)}"
            if len(kept)
            else "they were so at the start"
        )
        raise RunFailed(
            f"{bad} of {len(x)} chains diverged with {what}: {grown} of {len(norms)}. Take a smaller step, or an "
            "accepted chain (mala, hmc), whose step adapts"
        )
