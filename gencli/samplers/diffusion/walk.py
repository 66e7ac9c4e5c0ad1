"""What samplers of fields share: the times they visit, guidance, and a count of network evaluations.

A sampler starts from the path's prior at t_max and goes to t_min. Each gives the step that it takes from a time t to an
earlier time s.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Count
from gencli.core.progress import counted
from gencli.core.spec import Given
from gencli.models.base import TimeField, VelocityField
from gencli.models.trained import Learned
from gencli.paths.base import Path, Prediction
from gencli.samplers.base import Sampler, Samples

Visit = Callable[[Tensor, Tensor], None]
"""Told x (n, *) and its time at every point of a walk, the first and the last among them."""

F = TypeVar("F", bound=VelocityField)
Grid = Literal["uniform", "quadratic", "log_snr", "karras"]
RANGE = 14.0
"""Steps of ``log_snr`` and ``karras`` lie within log-SNR [-RANGE, RANGE]; beyond it is one step to the path's end."""
RHO = 7.0


def times(path: Path, steps: int, grid: Grid, *, finite: bool = False) -> Tensor:
    """Times (steps + 1,) in fp64 from t_max down to t_min.

    ``uniform`` in t; ``quadratic``: in the root of t, finer near the data; ``log_snr``: in log-SNR; ``karras``: in
    (sigma/alpha)^(1/7), after "Elucidating the design space of diffusion-based generative models" (Karras et al.,
    2022).

    Args:
        path: whose times.
        steps: their number.
        grid: one of the above.
        finite: start where log-SNR is at least -RANGE, for what divides by alpha.
    """
    u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    ends = torch.tensor([path.t_max, path.t_min], dtype=torch.float64)
    if finite and path.log_snr(ends[:1]) < -RANGE:
        ends[:1] = path.time(torch.full((1,), -RANGE, dtype=torch.float64))
    if grid == "uniform":
        t = ends[0] + u * (ends[1] - ends[0])
    elif grid == "quadratic":
        t = (ends[0].sqrt() + u * (ends[1].sqrt() - ends[0].sqrt())).square()
    else:
        low, high = path.log_snr(ends).clamp(-RANGE, RANGE)
        if grid == "log_snr":
            log_snr = low + u * (high - low)
        else:
            most, least = (-0.5 * low).exp() ** (1 / RHO), (-0.5 * high).exp() ** (1 / RHO)
            log_snr = -2 * RHO * (most + u * (least - most)).log()
        t = path.time(log_snr)
    t[0], t[-1] = ends
    return t


def on(t: Tensor, x: Tensor) -> Tensor:
    """Times on the device of x, in fp64 where it has that."""
    return t.to(x.device, torch.float32 if x.device.type == "mps" else torch.float64)


class Guided(Generic[F]):
    """A field with classifier-free guidance: velocity = velocity(no label) + w (velocity(label) - velocity(no label)).

    All that a prediction says is linear in the velocity, so this guides them all. w = 1 is the conditional model and
    w = 0 the unconditional one, each at the price of one evaluation; any other w costs two.

    Args:
        model: the field.
        y: labels (n,) or contexts, or None.
        w: the guidance weight.
        given: what is known of the examples to come.

    References:
        Ho and Salimans, "Classifier-free diffusion guidance", 2022.
    """

    def __init__(self, model: F, y: Tensor | None, w: float, given: Given | None = None) -> None:
        self.model, self.y, self.w, self.given = model, y, w, given
        self.cost = 1 if y is None or w in (0, 1) else 2
        self.nfe: float = 0

    @property
    def path(self: Guided[TimeField]) -> Path:
        """The path of a time field."""
        return self.model.path

    def _asked(self, y: Tensor | None) -> tuple[Tensor | None, ...]:
        """What the model is asked with: the labels y, none, or none and then the labels."""
        self.nfe += self.cost
        if y is None or self.w == 1:
            return (y,)
        return (None,) if self.w == 0 else (None, y)

    def __call__(self: Guided[TimeField], x: Tensor, t: Tensor) -> Prediction:
        """The guided prediction for x (n, *) at a time t."""
        at = t.expand(len(x))
        said, *labelled = (self.model.predict(x, at, y) for y in self._asked(self.y))
        if not labelled:
            return said
        v = said.v + self.w * (labelled[0].v - said.v)
        return Prediction(self.path, x, at, v, level=said.level)

    def velocity(self, x: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        """The guided velocity for x (n, *) at times t (n,); rows: which of the labels these are."""
        y = None if self.y is None else self.y[rows]
        said, *labelled = (self.model.velocity(x, t, y) for y in self._asked(y))
        return said + self.w * (labelled[0] - said) if labelled else said


@dataclass(frozen=True, kw_only=True)
class Walk(Sampler[F]):
    """A sampler of a field: from its prior at t_max to data at t_min.

    finite: whether it divides by alpha. any_time: whether it asks for times between those of a discrete model.

    Args:
        guidance: w; 1 is the model itself, more is more typical of the class.
    """

    finite: ClassVar[bool] = False
    any_time: ClassVar[bool] = False

    guidance: float = 1.0

    @property
    def stochastic(self) -> bool:
        """Whether it adds noise on its way, for which it needs the score."""
        return False

    @property
    def steps_of(self) -> str | None:
        """Its name, where models are distilled for its steps (``Learned.steps_of``)."""
        return None

    def check(self, model: F, learned: Learned) -> None:
        if self.guidance != 1 and not (model.conditional and model.label_dropout):
            raise ValueError(
                f"sampler.guidance={self.guidance}: this model has to know p(x) beside p(x given y); train with "
                "model.conditional=true and a model.label_dropout such as 0.1"
            )
        if learned.steps_of not in (None, self.steps_of):
            raise ValueError(f"sampler: {learned.limit}; other samplers are not valid for it")
        if self.stochastic and not learned.score:
            raise ValueError(f"sampler: {learned.limit}; samplers that add noise need them: sampler=ode")
        if self.any_time and model.timesteps:
            raise ValueError(
                f"model.timesteps={model.timesteps}: this sampler asks for times in between; sampler=ddpm, ddim or "
                "dpm_solver"
            )

    def sample(self, model: F, n: int, y: Tensor | None, noise: Noise, given: Given | None = None) -> Samples:
        return self.run(model, n, y, noise, given=given)

    def run(
        self,
        model: F,
        n: int,
        y: Tensor | None,
        noise: Noise,
        visit: Visit | None = None,
        given: Given | None = None,
    ) -> Samples:
        """The samples of ``sample``, shown to ``visit`` on their way."""
        field = Guided(model, y if model.conditional else None, self.guidance, given)
        parameter = next(model.parameters(), torch.zeros(()))
        prior = noise.randn(n, *model.spec.shape).to(parameter.device) * model.prior_std
        if visit is not None:
            visit(prior, torch.tensor(model.t_max, dtype=torch.float64))
        x = self.walk(field, prior, noise, visit)
        return Samples(x, {"nfe": field.nfe})

    @abstractmethod
    def walk(self, field: Guided[F], x: Tensor, noise: Noise, visit: Visit | None = None) -> Tensor:
        """From x (n, *) at t_max to samples at t_min; ``visit`` is told of every later point."""


@dataclass(frozen=True, kw_only=True)
class Gridded(Walk[TimeField]):
    """A sampler with a number of steps to choose, from time to time of a grid.

    Args:
        steps: their number.
        grid: ``uniform``, ``quadratic``, ``log_snr`` or ``karras``.
    """

    steps: Count
    grid: Grid

    def times(self, model: TimeField) -> Tensor:
        """The times visited, on the discrete times of a discrete model."""
        return snapped(model, self.steps, self.grid, finite=self.finite)


def snapped(model: TimeField, steps: int, grid: Grid, *, finite: bool = False) -> Tensor:
    """``times`` of a model's path, on its discrete times where it is discrete."""
    found = times(model.path, steps, grid, finite=finite)
    return torch.cat([model.snap(found[:-1]), found[-1:]]).unique().flip(0)


@dataclass(frozen=True, kw_only=True)
class Steps(Walk[TimeField]):
    """A sampler whose steps do not know each other; subclasses say the times and write the step."""

    def walk(self, field: Guided[TimeField], x: Tensor, noise: Noise, visit: Visit | None = None) -> Tensor:
        grid = on(self.times(field.model), x)
        path, given = field.path, field.given
        if grid[0] < path.t_max:  # almost no data is left there either
            x = x * (path.sigma(grid[0]) / path.prior_std).to(x)
        x = _replaced(field, x, grid[0], noise)
        for t, s in counted("steps from noise", [*pairwise(grid)]):
            for k in range(self.repeats(given)):
                if k:
                    x = _renoised(path, x, s, t, noise)
                x = _replaced(field, self.step(field, x, t, s, noise), s, noise)
            if visit is not None:
                visit(x, s)
        return x if given is None else torch.where(given.mask, given.x.to(x), x)

    @abstractmethod
    def times(self, model: TimeField) -> Tensor:
        """The times visited, in fp64, from t_max down to t_min."""

    @abstractmethod
    def step(self, field: Guided[TimeField], x: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """From x_t to x_s, s < t, both scalars."""

    def repeats(self, given: Given | None) -> int:
        """Times that each step is taken."""
        return 1


@dataclass(frozen=True, kw_only=True)
class Completing(Steps):
    """Steps that can complete what is partly given.

    The given part of x_t is alpha x_0 + sigma eps at every time, with eps drawn anew ("replacement"), and the rest is
    what the steps make of it. A step from t to s sees what is given through that noise only, so that the rest comes out
    too little tied to it. With each step taken several times, and noise from s back up to t in between, the rest is a
    chain: the error falls as 1/resample, and the limit for short steps is p(rest | given). What a step has wrong by
    itself is repeated too: few steps of ``ddpm`` with its small variance make the rest too narrow, where those of
    ``euler_maruyama`` do not.

    Args:
        given: what is kept of held-out examples: a region of images or a list of a vector's coordinates; None: nothing.
        resample: times that each step is taken where something is given; 1 is replacement alone.

    References:
        Song et al., "Score-based generative modeling through stochastic differential equations", 2021 (replacement);
        Lugmayr et al., "RePaint: inpainting using denoising diffusion probabilistic models", 2022 (resampling).
    """

    caveat = "completions approximate p(rest | given): the error falls as sampler.resample grows"

    given: str | list[int] | None = None
    resample: Count = 10

    def check(self, model: TimeField, learned: Learned) -> None:
        super().check(model, learned)
        if self.given is not None and not learned.score:
            raise ValueError(f"sampler.given={self.given}: {learned.limit}; completion needs its score")

    def repeats(self, given: Given | None) -> int:
        return 1 if given is None else self.resample


def _replaced(field: Guided[TimeField], x: Tensor, t: Tensor, noise: Noise) -> Tensor:
    """x_t with what is given in its place, alpha x_0 + sigma eps."""
    if field.given is None:
        return x
    eps = noise.randn(*x.shape).to(x)
    known = field.path.alpha(t).to(x) * field.given.x.to(x) + field.path.sigma(t).to(x) * eps
    return torch.where(field.given.mask, known, x)


def _renoised(path: Path, x: Tensor, s: Tensor, t: Tensor, noise: Noise) -> Tensor:
    """From x_s back to x_t ~ q(x_t | x_s), t > s."""
    ratio = path.alpha(t) / path.alpha(s)
    added = (path.sigma(t) ** 2 - (ratio * path.sigma(s)) ** 2).clamp(min=0).sqrt()
    return ratio.to(x) * x + added.to(x) * noise.randn(*x.shape).to(x)
