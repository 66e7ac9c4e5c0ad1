"""The posterior of a model's parameters, for energies of few of them."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch

from gencli.core.errors import UsageError
from gencli.core.noise import Purpose, RowNoise, StepNoise, stream
from gencli.core.options import Count, Natural, Positive, Range
from gencli.kernels.base import Kernel
from gencli.methods.chains import require_kernel, usual
from gencli.methods.exchange import Parameters, Posterior, exchange
from gencli.models.base import Unnormalized
from gencli.models.structure import Parametric
from gencli.pictures import canvas, style
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.caption import title
from gencli.run.assembly import Parts
from gencli.run.reporter import Reporter

STUCK = 0.1
"""Mean acceptance below which auxiliary data stay near the data."""


@dataclass(frozen=True, kw_only=True)
class PosteriorOfParameters(Picture):
    """Densities of theta given the training split, by the exchange algorithm, around the theta of the run.

    Mean, deviation, quantiles, effective draws and R-hat of each parameter are printed and written as ``.txt``, the
    draws as ``.npz``. Auxiliary data are exact where the model draws by itself; else they are the ends of chains, and
    the posterior is right as far as ``steps`` is long enough: twice as many must not move it. How often their steps
    are accepted is printed: chains that stand still give back the prior.

    Args:
        draws: recorded steps of each chain on theta.
        warmup: steps before them, in which the size of the proposals adapts.
        chains: chains on theta, one after the other.
        steps: transitions of ``kernel`` for the auxiliary data of one proposal.
        examples: the posterior given so many rows of the training split, from the first on; None: all of them.
        prior: deviation of the normal prior of each parameter, around 0.
        kernel: of the auxiliary data; None: the usual one of such x.

    References:
        Murray, Ghahramani and MacKay, "MCMC for doubly-intractable distributions", 2006.
    """

    MOST, PANELS, COLUMNS = 64, 24, 4

    requires = (Parametric,)
    draws: Annotated[int, Range(low=8)] = 300
    warmup: Natural = 150
    chains: Count = 2
    steps: Count = 20
    examples: Count | None = 200
    prior: Positive = 10.0
    kernel: Kernel[Any] | None = None

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        model = parts.model
        assert isinstance(model, Unnormalized)
        theta = Parameters(model)
        if model.conditional:
            raise UsageError("picture=posterior is for models without y")
        if not 0 < len(theta.names) <= self.MOST:
            raise UsageError(
                f"picture=posterior is for models of 1 to {self.MOST} parameters; this one has {len(theta.names)}"
            )
        kernel = self.kernel or usual(model)
        try:
            require_kernel(kernel, model, f"picture.kernel: {type(kernel).__name__}")
        except ValueError as error:
            raise UsageError(str(error)) from error
        split = parts.dataset.split("train")
        if split is None:
            raise UsageError("picture=posterior needs the training split, which cannot be read (data.path=)")
        ids = torch.arange(min(len(split), self.examples or len(split)))
        x, _ = parts.preprocess(
            split.gather(ids).x.to(parts.device), RowNoise(stream(0, Purpose.PICTURES), ids.to(parts.device))
        )
        noises = [StepNoise(parts.device, stream(seed, Purpose.PICTURES, chain)) for chain in range(self.chains)]
        options = {"steps": self.steps, "draws": self.draws, "warmup": self.warmup}
        with Reporter().progress("posterior", self.chains * (self.warmup + self.draws)) as bar:
            found = exchange(model, x, noises, kernel=kernel, prior=self.prior, tick=bar.at, **options)
        text = table(found)
        arrays = io.BytesIO()
        np.savez(arrays, draws=found.draws.numpy(), names=np.array(found.names))
        own = theta.theta().tolist()
        figure = self._densities(found, own)
        figure.suptitle(title(parts), wrap=True)
        return Drawn({".npz": arrays.getvalue(), ".txt": text.encode()}, text, figures={"": figure})

    def _densities(self, found: Posterior, own: list[float]) -> Any:
        shown = min(len(own), self.PANELS)
        columns = min(self.COLUMNS, shown)
        down = math.ceil(shown / columns)
        figure, axes = canvas.figure(columns, 3.2 * columns, 2.6 * down, rows=down)
        for p, axis in enumerate(axes.flat):
            if p >= shown:
                axis.axis("off")
                continue
            axis.hist(found.draws[..., p].flatten().numpy(), bins=40, density=True, color=style.DATA, alpha=0.6)
            axis.axvline(own[p], color=style.MODEL, linewidth=1, label="the run")
            axis.set_xlabel(found.names[p])
            axis.set_yticks([])
        axes.flat[0].legend(fontsize=8)
        return figure


def table(found: Posterior) -> str:
    """A line for each parameter, under a head; and what is to be said of them all."""
    width = max(len(name) for name in found.names)
    lines = [f"{'':{width}}       mean         sd       2.5%        50%      97.5%    ess  r hat"]
    ends = torch.tensor([0.025, 0.5, 0.975]).double()
    for p, (name, ess, r_hat) in enumerate(zip(found.names, found.ess(), found.r_hat(), strict=True)):
        draws = found.draws[..., p].flatten()
        values = [float(draws.mean()), float(draws.std()), *torch.quantile(draws, ends).tolist()]
        lines.append(f"{name:{width}}{''.join(f' {v:10.4f}' for v in values)} {ess:6.0f} {r_hat:6.3f}")
    how = "exact draws" if found.exact else "chains, so that the posterior is approximate"
    moved = "" if found.moved is None else f", whose steps were accepted at a rate of {found.moved:.3f}"
    lines.append(f"acceptance {found.acceptance:.3f}; auxiliary data by {how}{moved}")
    if found.moved is not None and found.moved < STUCK:
        lines.append("those chains hardly move: the posterior is little but the prior; take another picture.kernel")
    return "\n".join(lines)
