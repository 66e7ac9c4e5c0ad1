"""log of the integral of exp(f) over R^1 or R^2, with what is left open and a check that shares nothing with it.

Cells start in the box of points where mass is known to lie, half as wide again on each side, and from those points and
draws around them. Around the box come frames, each twice as large, until they add less than a thousandth of the
tolerance. The check is an importance estimate from the draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.methods import cubature
from gencli.methods.weights import weighed

AROUND = 2048
"""Draws of the check."""
FRAMES = 60
REFUSED = 1.0
"""Nats that may be left open."""
DISAGREES = 5.0
"""Standard errors of the check."""


@dataclass(frozen=True)
class Integral:
    """What was found.

    Args:
        value: the logarithm, in nats.
        error: the larger of what cells and frames leave open, and of how far the check is off beyond its own error.
        diagnostics: of cells, frames and check.
    """

    value: float
    error: float
    diagnostics: dict[str, float] = field(default_factory=dict)


def log_integral(
    f: cubature.LogDensity, known: Tensor, noise: Noise, tolerance: float, points: int, finest: float
) -> Integral:
    """The integral of exp(f) in one or two dimensions.

    Args:
        f: asked at float64 points.
        known: (P, D) float64, different points where mass is known to lie.
        noise: of the draws around them.
        tolerance: nats, at which cells need not be halved further.
        points: f is asked at as many points as a square grid of this side has, at most.
        finest: the smallest cells, as ``cubature.Mesh`` has it.

    Raises:
        ArithmeticError: mass grows without end around the points, or cells leave more than a nat open.
    """
    low, high = known.amin(0), known.amax(0)
    centre, half = (low + high) / 2, (0.75 * (high - low)).clamp(min=1e-6)
    near, log_q = cubature.around(known, noise, AROUND)
    mesh = cubature.Mesh(f, torch.cat([known, near]), finest)
    check = weighed(mesh.heights[len(known) :] - log_q)
    cells = (32 if len(half) == 1 else 4) * (points // 256)  # a side, for the first look
    core = mesh.add(*cubature.grid(centre, half, cells))
    frames, tail = _frames(mesh, centre, half, core, cells, tolerance)
    mesh.refine(tolerance / 2, points**2)
    log_z, left = float(mesh.log_mass), mesh.error + tail
    if left > REFUSED:
        spent = mesh.evaluations > 0.9 * points**2
        way = "raise estimator.points" if spent else "parts are finer than the precision of the energy resolves"
        raise ArithmeticError(f"log Z still moves by {left:.2g} nats after {mesh.evaluations:,} evaluations: {way}")
    away = 0.0 if check.collapsed else abs(check.log_mean - log_z) - DISAGREES * check.variance**0.5
    inside = ((mesh.centre - centre).abs() <= half).all(1)
    said = {
        "cells": float(len(mesh.centre)),
        "evaluations": float(mesh.evaluations),
        "mass_outside_box": float((mesh.halves[~inside].flatten().logsumexp(0) - mesh.log_mass).exp()),
        "frames": float(frames),
        "log_z_check": check.log_mean,
        "log_z_check_se": math.inf if check.collapsed else check.variance**0.5,
    }
    return Integral(log_z, max(left, away), said)


def _frames(
    mesh: cubature.Mesh, centre: Tensor, half: Tensor, core: Tensor, cells: int, tolerance: float
) -> tuple[int, float]:
    """Lay frames around the box; how many, and the share of Z that lies beyond them if it goes on falling so."""
    total, last, share = core, math.inf, math.nan
    for frame in range(1, FRAMES + 1):
        places, sizes = cubature.grid(centre, half * 2**frame, cells)
        outer = ((places - centre).abs() > half * 2 ** (frame - 1)).any(1)
        mass = mesh.add(places[outer], sizes[outer])
        total = torch.logaddexp(total, mass)
        share = float((mass - total).exp())
        if share < 1e-3 * tolerance and mass < last:
            ratio = float((mass - last).exp()) if math.isfinite(last) else 0.5
            return frame, share * ratio / (1 - ratio)
        if frame > 20 and not mass < last:
            break
        last = float(mass)
    raise ArithmeticError(
        f"this energy has no Z that quadrature could find: boxes up to 2^{frame} times the data's still "
        f"add {share:.1%}. It does not grow away from the data: take model.base=gaussian"
    )
