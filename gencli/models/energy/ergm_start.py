"""Where a fit of exponential random graphs starts: the maximum of the pseudo-likelihood.

    log PL(theta) = sum over dyads of log p(y_ij | the rest),    logit p(y_ij = 1 | the rest) = theta . change_ij

is a logistic regression of ties on their change statistics. Where dyads are independent it is the likelihood.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

STEPS, FLAT, DEPENDENT = 100, 1e-9, 1e-10


def pseudo_likelihood(changes: Tensor, ties: Tensor, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """theta (K,) at the maximum, by Newton's method with step halving, and the information (K, K) there; in fp64.

    "Pseudolikelihood estimation for social networks" (Strauss and Ikeda, 1990).

    Args:
        changes: change statistics of M dyads (M, K).
        ties: (M,) 0 or 1.
        names: of the statistics, for messages.

    Raises:
        ValueError: statistics depend on each other, or there is no maximum.
    """
    C, t = changes.double(), ties.double()
    size = C.square().mean(0).sqrt()
    if bool((size == 0).any()):
        raise ValueError(f"model.terms: no tie changes {names[int((size == 0).nonzero()[0])]}: leave it out")
    C = C / size
    values, vectors = torch.linalg.eigh(C.T @ C / len(C))
    if float(values[0]) < DEPENDENT * float(values[-1]):
        part = vectors[:, 0].abs()
        among = ", ".join(name for name, v in zip(names, part.tolist(), strict=True) if v > 1e-3)
        raise ValueError(f"model.terms: {among} say the same of these networks: leave one out")

    def value(theta: Tensor) -> Tensor:
        eta = C @ theta
        return (t * eta - torch.nn.functional.softplus(eta)).sum()

    theta = C.new_zeros(C.shape[1])
    for _ in range(STEPS):
        p = (C @ theta).sigmoid()
        information = (C * (p * (1 - p))[:, None]).T @ C
        gradient = C.T @ (t - p)
        curvature, along = torch.linalg.eigh(information)
        if float(curvature[0]) < FLAT * float(values[0]) * len(C):
            worst = int(along[:, 0].abs().argmax())
            way = "-" if float(theta[worst]) < 0 else ""
            raise ValueError(
                f"model.terms: the pseudo-likelihood has no maximum: theta of {names[worst]} goes to {way}infinity, "
                "because what is observed lies at the edge of what networks can have; leave it out"
            )
        step = along @ ((along.T @ gradient) / curvature)
        while float(step.abs().max()) > 1e-9 and not float(value(theta + step)) >= float(value(theta)):
            step = step / 2
        theta = theta + step
        if float(step.abs().max()) < 1e-9:
            break
    return theta / size, information * size.outer(size)
