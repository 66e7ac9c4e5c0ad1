"""How near restored examples are to what they were."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from gencli.core.uncertainty import standard_error
from gencli.data.split import random_order
from gencli.methods import image_quality
from gencli.methods.operators import Operator
from gencli.models.subject import Subject
from gencli.samplers.observed import Observed, degraded

CENTRAL = 0.9
"""Share of the posterior within the interval of each coordinate."""
RANGED = 4096  # training examples whose range is that of real images
TUNED, TUNING = 8, 2  # examples that total variation is tuned on, and the number of their noise


def quality(
    subject: Subject, seen: Observed, operator: Operator, sigma: float, arrays: dict[str, Tensor], *, like: bool
) -> dict[str, float]:
    """Means over examples with their standard errors: PSNR and SSIM of images, else squared errors; coverage of draws.

    ``psnr_gain``: dB of the posterior's mean, else of MAP, above total variation, image by image.

    Args:
        subject: the model and its data.
        seen: the observation, and the truth.
        operator: A.
        sigma: deviation of the noise.
        arrays: ``degraded``, ``map``, ``mean``, ``draws`` by name, as far as there are such, each (n, *); images get
            ``total_variation`` beside them.
        like: whether ``degraded`` is an estimate of x that can be compared.
    """
    truth, image = seen.truth, subject.dataset.spec.kind == "image"
    assert truth is not None
    estimates = {name: x for name, x in arrays.items() if name in ("map", "mean") or (like and name == "degraded")}
    found: dict[str, np.ndarray] = {}
    said: dict[str, float] = {}
    if image:
        span = _span(subject)
        weight = _weight(subject, operator, sigma, span)
        arrays["total_variation"] = image_quality.total_variation(operator, seen.z, weight, operator.seen(seen.z))
        estimates["total_variation"] = arrays["total_variation"]
        said = {"total_variation_weight": weight, "range": span}
        for kind, measure in image_quality.MEASURES.items():
            found |= {f"{kind}_{name}": measure(truth, x, span) for name, x in estimates.items()}
        best = "mean" if "mean" in estimates else "map"
        found["psnr_gain"] = found[f"psnr_{best}"] - found["psnr_total_variation"]
    else:
        for name, x in estimates.items():
            found[f"squared_error_{name}"] = (x - truth).square().flatten(1).mean(1).cpu().numpy()
    if "draws" in arrays:
        assert seen.values is not None
        found["coverage_90"] = covered(arrays["draws"], seen.values)
    return spread(found) | said


def _span(subject: Subject) -> float:
    """The range of values that PSNR and SSIM take: of reals that of training examples, whatever n is asked for."""
    if subject.dataset.spec.support.kind != "real":
        return 1.0
    split = subject.dataset.split("train")
    assert split is not None
    x = split.gather(random_order(len(split), min(len(split), RANGED))).x
    return float(x.max() - x.min())


def _weight(subject: Subject, operator: Operator, sigma: float, span: float) -> float:
    """That of total variation, chosen on examples of validation, or of training where there is none; never on test."""
    name = "val" if subject.dataset.split("val") is not None else "train"
    split = subject.dataset.split(name)
    assert split is not None
    some = degraded(subject, split, min(TUNED, len(split)), operator, sigma, TUNING)
    assert some.truth is not None
    return image_quality.best_weight(operator, some.z, some.truth, span)


def spread(found: dict[str, np.ndarray]) -> dict[str, float]:
    """The mean of each array over examples, and its standard error where there are two examples."""
    said: dict[str, float] = {}
    for name, values in found.items():
        said[name] = float(values.mean())
        error = standard_error(values, None).value
        said |= {} if error is None else {f"{name}_se": error}
    return said


def covered(draws: Tensor, truth: Tensor) -> np.ndarray:
    """The share of the coordinates of each example whose truth lies in the central 90 % of its draws, (n,).

    The quantiles of k draws are at positions q (k + 1), so that an interval of exchangeable draws and truth has its
    coverage on average.

    Args:
        draws: (n, k, *).
        truth: (n, *).
    """
    tail = (1 - CENTRAL) / 2
    low, high = np.quantile(draws.double().cpu().numpy(), [tail, 1 - tail], axis=1, method="weibull")
    x = truth.double().cpu().numpy()
    return ((low <= x) & (x <= high)).reshape(len(x), -1).mean(1)
