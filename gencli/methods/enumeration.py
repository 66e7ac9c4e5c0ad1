"""Z as the sum that it is: over every state of discrete x, or over the fewer terms that a model has for it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gencli.core.spec import Spec
from gencli.core.tensors import place
from gencli.models.base import Unnormalized
from gencli.models.structure import Enumerable

MOST = 1 << 22
"""Terms that are summed."""
CELLS = 1 << 20
"""Coordinates that are laid out at once."""


def states(spec: Spec, index: Tensor) -> Tensor:
    """The states of discrete x that are numbered index (m,), the last coordinate the fastest: (m, *).

    Example:
        >>> from gencli.core.spec import Support
        >>> states(Spec((2,), Support.parse("categorical:3")), torch.tensor([0, 1, 5])).tolist()
        [[0, 0], [0, 1], [1, 2]]
    """
    K = spec.support.size
    rest, digits = index, []
    for _ in range(spec.dim):
        digits.append(rest % K)
        rest = rest // K
    x = torch.stack(digits[::-1], 1).view(-1, *spec.shape)
    return x.to(torch.get_default_dtype()) if spec.support.kind == "binary" else x


def terms(model: Unnormalized) -> int | None:
    """How many terms Z has; None: x is real, and they cannot be written down."""
    if isinstance(model, Enumerable):
        return model.terms
    return model.spec.support.size**model.spec.dim if model.spec.support.discrete else None


def require_few(model: Unnormalized, what: str, instead: str) -> None:
    """Refuse a model whose Z is no sum that can be taken.

    Args:
        model: whose Z it is.
        what: the part that would sum, for the message.
        instead: what to take.

    Raises:
        ValueError: it has more than ``MOST`` terms, or x is real.
    """
    count = terms(model)
    if count is None:
        raise ValueError(f"{what} sums over states; this model's x is {model.spec.support}: {instead}")
    if count > MOST:
        size = f"{count:,}" if count < 10**12 else f"about 10^{len(str(count)) - 1}"
        raise ValueError(f"{what} sums at most {MOST:,} terms; Z of this model has {size}: {instead}")


def log_partition(model: Unnormalized) -> Tensor:
    """log Z in fp64, a scalar: the terms are in the precision of the model, their sum is not; differentiable.

    Of many terms no more than a part is in memory: their gradients work them out once more.
    """
    count = terms(model)
    assert count is not None
    rows = max(1, CELLS // model.spec.dim)

    def part(start: int) -> Tensor:
        return _log_terms(model, start, min(start + rows, count)).double().logsumexp(0)

    again = torch.is_grad_enabled() and count > rows
    starts = range(0, count, rows)
    return torch.stack([checkpoint(part, i, use_reentrant=False) if again else part(i) for i in starts]).logsumexp(0)


def _log_terms(model: Unnormalized, start: int, end: int) -> Tensor:
    """The logarithms of the terms start..end-1 of Z."""
    at = place(model)
    index = torch.arange(start, end, device=at.device)
    if isinstance(model, Enumerable):
        return model.log_terms(index)
    x = states(model.spec, index)
    return -model.energy(x.to(at) if x.is_floating_point() else x)
