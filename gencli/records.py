"""The result record: nats summed, dimensions counted, divided once, every part reported."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gencli.interfaces import Bound, Shared, Spec


def bits_per_dim(nats: float, dim: int) -> float:
    """Nats per example -> bits per dimension: nats / (D ln 2). The only place where this is done."""
    return nats / (dim * math.log(2.0))


def composed_bound(estimator: Bound, preprocessing: Bound) -> Bound:
    """What a number is to the NLL of the data, given what its two steps are.

    Dequantization can only raise the NLL: through it an exact number or an upper bound is an upper bound, while a lower
    bound is bounded from neither side.
    """
    if preprocessing == "exact":
        return estimator
    return "upper" if estimator in ("exact", "upper") else "estimate"


def nll_record(
    *,
    nll: Tensor,
    variance: Tensor | None,
    terms: dict[str, Tensor],
    diagnostics: dict[str, Tensor],
    shared: Shared | None = None,
    spec: Spec,
    bound: Bound,
    entropy: float | None,
    **rest: Any,
) -> dict[str, Any]:
    """A record of a held-out NLL, in nats per example of data space.

    Args:
        nll: (N,) float64 nats, one for each example.
        variance: (N,) variance of each entry due to the estimator and its draws; None where it is unknown.
        terms: (N,) nats by name, which add up to nll.
        diagnostics: (N,) values by name, of which the mean is kept.
        shared: what the estimator measured once for all examples.
        spec: specification of the data.
        bound: what the value is to the true NLL.
        entropy: H of the data's own distribution in nats, if known: NLL - H is then the Kullback-Leibler divergence.
        rest: keys that the caller knows (estimator, settings, split, protocol, ...).

    A non-finite example is counted and makes the value infinite; it is never dropped.
    """
    n = len(nll)
    nonfinite = int((~torch.isfinite(nll)).sum())
    value = float(nll.mean()) if nonfinite == 0 else math.inf
    shown = {name: float(value.double().mean()) for name, value in diagnostics.items()}
    if shared is not None:
        shown |= shared.diagnostics
    common = 0.0 if shared is None else shared.variance
    error = None if variance is None else math.sqrt(float(variance.sum()) / n**2 + common)
    if entropy is not None:
        shown |= {"entropy": entropy, "nll_minus_entropy": value - entropy}
    return {
        "metric": "nll",
        "value": value,
        "unit": "nats",
        "bits_per_dim": bits_per_dim(value, spec.dim),
        "perplexity": None,
        "bound": bound,
        "se_examples": float(nll.std() / math.sqrt(n)) if nonfinite == 0 and n > 1 else None,
        "se_estimator": error,
        "n_examples": n,
        "n_nonfinite": nonfinite,
        "diagnostics": shown,
        "ledger": [{"term": name, "nats": float(values.mean())} for name, values in terms.items()],
        **rest,
    }


def headline(record: dict[str, Any]) -> str:
    """One line for people: value, bound, bits/dim, errors."""
    sign = {"exact": "=", "upper": "<=", "lower": ">=", "estimate": "~"}[record["bound"]]
    error = "" if record["se_examples"] is None else f" ± {record['se_examples']:.3f}"
    line = f"{record['split']} NLL {sign} {record['value']:.3f}{error} nats ({record['bits_per_dim']:.4f} bits/dim"
    line += {"exact": ", exact)", "upper": ", upper bound)", "lower": ", lower bound)", "estimate": ", estimate)"}[
        record["bound"]
    ]
    if "nll_minus_entropy" in record["diagnostics"]:
        line += f", NLL - H = {record['diagnostics']['nll_minus_entropy']:.4f} nats"
    return line
