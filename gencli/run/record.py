"""The result record: nats summed, dimensions counted, divided once, every part reported."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gencli.core.spec import Bound, Spec
from gencli.estimators.base import Shared


def bits_per_dim(nats: float, dim: int) -> float:
    """Nats per example -> bits per dimension: nats / (D ln 2). The only place where this is done.

    Example:
        >>> bits_per_dim(784 * math.log(256), 784)  # a uniform distribution over 256 levels
        8.0
    """
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
    counts: Tensor | None = None,
    per: str | None = None,
    **rest: Any,
) -> dict[str, Any]:
    """A record of a held-out NLL, in nats per example of data space, or per symbol where rows are windows of a text.

    Per symbol the value is the ratio r = sum_i nll_i / sum_i c_i over rows of c_i scored symbols, and se_examples that
    of the ratio estimator with rows as clusters: sqrt(n / (n - 1) sum_i (nll_i - r c_i)^2) / sum_i c_i.

    Args:
        nll: (N,) float64 nats, one for each example.
        variance: (N,) variance of each entry due to the estimator and its draws; None where it is unknown.
        terms: (N,) nats by name, which add up to nll.
        diagnostics: (N,) values by name, of which the mean is kept.
        shared: what the estimator measured once for all examples.
        spec: specification of the data.
        bound: what the value is to the true NLL.
        entropy: H of the data's own distribution in nats, if known: NLL - H is then the Kullback-Leibler divergence.
        counts: (N,) scored symbols of each row; None: the NLL is one of examples.
        per: what a symbol is, for the unit.
        rest: keys that the caller knows (estimator, settings, split, protocol, ...).

    A non-finite example is counted and makes the value infinite; it is never dropped.
    """
    n = len(nll)
    total = n if counts is None else int(counts.sum())
    nonfinite = int((~torch.isfinite(nll)).sum())
    value = _mean(nll, counts) if nonfinite == 0 else math.inf
    shown = {name: float(value.double().mean()) for name, value in diagnostics.items()}
    if shared is not None:
        shown |= shared.diagnostics
    common = 0.0 if shared is None else shared.variance * (n / total) ** 2
    error = None if variance is None else math.sqrt(float(variance.sum()) / total**2 + common)
    if entropy is not None:
        shown |= {"entropy": entropy, "nll_minus_entropy": value - entropy}
    return {
        "metric": "nll",
        "value": value,
        "unit": "nats" if counts is None else f"nats/{per}",
        "bits_per_dim": bits_per_dim(value, spec.dim if counts is None else 1),
        "perplexity": None if counts is None else math.exp(min(value, 700.0)),
        "bound": bound,
        "se_examples": _standard_error(nll, counts) if nonfinite == 0 and n > 1 else None,
        "se_estimator": error,
        "se_shared": math.sqrt(common) if shared is not None and shared.variance else None,
        "n_examples": n,
        **({} if counts is None else {"n_symbols": total}),
        "n_nonfinite": nonfinite,
        "diagnostics": shown,
        "ledger": [{"term": name, "nats": _mean(values, counts)} for name, values in terms.items()],
        **rest,
    }


def _mean(nats: Tensor, counts: Tensor | None) -> float:
    return float(nats.mean()) if counts is None else float(nats.sum() / counts.sum())


def _standard_error(nll: Tensor, counts: Tensor | None) -> float:
    if counts is None:
        return float(nll.std() / math.sqrt(len(nll)))
    n, c = len(nll), counts.to(nll)
    residual = nll - nll.sum() / c.sum() * c
    return float((residual.square().sum() * n / (n - 1)).sqrt() / c.sum())


def headline(record: dict[str, Any]) -> str:
    """One line for people: value, bound, bits per dimension or per symbol, errors."""
    sign = {"exact": "=", "upper": "<=", "lower": ">=", "estimate": "~"}[record["bound"]]
    error = "" if record["se_examples"] is None else f" ± {record['se_examples']:.3f}"
    unit, per = record["unit"], record["unit"].partition("/")[2]
    bits = f"{record['bits_per_dim']:.3f} bits/{per}" if per else f"{record['bits_per_dim']:.4f} bits/dim"
    bits += f", perplexity {record['perplexity']:.2f}" if per else ""
    line = f"{record['split']} NLL {sign} {record['value']:.3f}{error} {unit} ({bits}"
    line += {"exact": ", exact)", "upper": ", upper bound)", "lower": ", lower bound)", "estimate": ", estimate)"}[
        record["bound"]
    ]
    if "nll_minus_entropy" in record["diagnostics"]:
        line += f", NLL - H = {record['diagnostics']['nll_minus_entropy']:.4f} {unit}"
    return line
