"""How near a restored image is to the true one, and what total variation makes of the same observation.

scikit-image (the extra ``images``) has the measures and the denoiser. Images are float arrays (C, H, W).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gencli.methods.operators import Operator

WEIGHTS = tuple(float(w) for w in np.logspace(-2.5, 0.5, 10))
"""Of total variation, those that are tried on examples of validation, in units of the images' range."""
_STEPS, _STILL = 40, 1e-3  # proximal steps at most, and the relative move at which they end


def require() -> None:
    """Whether scikit-image is there.

    Raises:
        ValueError: it is not; says how to get it.
    """
    try:
        for name in ("metrics", "restoration"):
            importlib.import_module(f"skimage.{name}")
    except ImportError as error:
        raise ValueError(
            f"sampler=restore measures images with scikit-image: pip install gencli-nll[images] ({error})"
        ) from error


def psnr(truth: Tensor, x: Tensor, span: float) -> np.ndarray:
    """10 log10(span^2 / mean squared error) of each image (n, C, H, W), in dB: (n,)."""
    from skimage.metrics import peak_signal_noise_ratio

    pairs = zip(_array(truth), _array(x), strict=True)
    return np.array([peak_signal_noise_ratio(a, b, data_range=span) for a, b in pairs])


def ssim(truth: Tensor, x: Tensor, span: float) -> np.ndarray:
    """Structural similarity in windows of 7 pixels of each image (n, C, H, W), at most 1: (n,)."""
    from skimage.metrics import structural_similarity

    side = min(7, (min(truth.shape[2:]) - 1) // 2 * 2 + 1)
    pairs = zip(_array(truth), _array(x), strict=True)
    return np.array([structural_similarity(a, b, data_range=span, channel_axis=0, win_size=side) for a, b in pairs])


def total_variation(operator: Operator, z: Tensor, weight: float, start: Tensor) -> Tensor:
    """argmin_x |z - A x|^2 / 2 + weight TV(x) of each row, (n, C, H, W), by accelerated proximal steps.

    References:
        Rudin, Osher and Fatemi, "Nonlinear total variation based noise removal algorithms", 1992; Chambolle, "An
        algorithm for total variation minimization and applications", 2004 (the proximal step); Beck and Teboulle, "A
        fast iterative shrinkage-thresholding algorithm for linear inverse problems", 2009.
    """
    size = 1 / max(1.05 * operator.norm(z.device), 1e-6) ** 2
    x = at = start
    momentum = 1.0
    for _ in range(_STEPS):
        new = _proximal(at + size * operator.adjoint(z - operator(at)), size * weight)
        after = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        at = new + (momentum - 1) / after * (new - x)
        moved, x, momentum = float((new - x).norm() / new.norm().clamp(min=1e-12)), new, after
        if moved < _STILL:
            break
    return x


def _proximal(x: Tensor, weight: float) -> Tensor:
    from skimage.restoration import denoise_tv_chambolle

    found = [denoise_tv_chambolle(one, weight=weight, channel_axis=0, max_num_iter=100) for one in _array(x)]
    return torch.from_numpy(np.stack(found)).to(x)


def best_weight(operator: Operator, z: Tensor, truth: Tensor, span: float) -> float:
    """The weight of total variation that restores known images best: the greatest mean PSNR.

    Args:
        operator: A.
        z: (n, m) what was observed of them.
        truth: (n, C, H, W).
        span: from the least value to the greatest.
    """
    start = operator.seen(z)

    def quality(weight: float) -> float:
        return float(psnr(truth, total_variation(operator, z, weight * span, start), span).mean())

    return span * max(WEIGHTS, key=quality)


def _array(x: Tensor) -> np.ndarray:
    return x.detach().double().cpu().numpy()


Measure = Callable[[Tensor, Tensor, float], np.ndarray]
MEASURES: dict[str, Measure] = {"psnr": psnr, "ssim": ssim}
