"""Time fields known in closed form: data that are a mixture of normal distributions, seen along a path."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gencli.core.spec import Spec, Support
from gencli.core.tensors import like, shared
from gencli.models.base import TimeField
from gencli.models.trained import Learned, TrainedModel, TrainedRun
from gencli.paths.base import Path, Prediction
from gencli.paths.learned import LearnedSchedule
from gencli.paths.schedules import VE, VP, Cosine, Straight, SubVP, Trigonometric


def learned() -> LearnedSchedule:
    """A schedule that training has bent."""
    path = LearnedSchedule()
    with torch.no_grad():
        path.w.copy_(torch.linspace(-1.5, 1.5, len(path.w)).square())
    return path.requires_grad_(False)


PATHS = {
    "vp": VP,
    "subvp": SubVP,
    "cosine": Cosine,
    "ve": VE,
    "straight": Straight,
    "trigonometric": Trigonometric,
    "learned": learned,
}


class NormalField(TimeField):
    """Data N(mean, S): x_t ~ N(alpha mean, C), C = alpha^2 S + sigma^2 I."""

    def __init__(self, path: Path, mean: Tensor, S: Tensor) -> None:
        super().__init__(Spec((len(mean),), Support("real")))
        self.path, self.mean, self.S = path, mean.double(), S.double()

    def predict(self, x, t, y=None):
        at = t[:1].double()
        alpha, sigma = self.path.alpha(at), self.path.sigma(at)
        inverse = torch.linalg.inv(alpha**2 * self.S + sigma**2 * torch.eye(len(self.S)).double())
        away = (x.double() - alpha * self.mean) @ inverse
        x0, eps = self.mean + alpha * away @ self.S, sigma * away
        W = self.path.turn(at)
        v = self.path.d_alpha(at) / W * x0 + self.path.d_sigma(at) / W * eps
        return Prediction(self.path, x, t, v.to(x))

    def rest_given(self, known: list[int], x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (n, F) and covariance (F, F) of the other coordinates given x (n, K)."""
        rest = [k for k in range(len(self.S)) if k not in known]
        gain = self.S[rest][:, known] @ torch.linalg.inv(self.S[known][:, known])
        mean = self.mean[rest] + (x.double() - self.mean[known]) @ gain.T
        return mean, self.S[rest][:, rest] - gain @ self.S[known][:, rest]


class MixtureField(TimeField):
    """Data sum_k w_k N(mu_k, s^2 I): at time t a mixture of N(alpha mu_k, (alpha^2 s^2 + sigma^2) I).

    With labels, y = k is the component.
    """

    label_dropout = 0.5

    def __init__(
        self, path: Path, means: Tensor, std: float, weights: Tensor | None = None, conditional: bool = False
    ) -> None:
        super().__init__(Spec((means.shape[1],), Support("real"), classes=len(means)), conditional=conditional)
        self.path, self.means, self.std = path, means.double(), std
        self.weights = torch.full((len(means),), 1 / len(means)).double() if weights is None else weights.double()
        self.evaluations = 0

    def predict(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Prediction:
        self.evaluations += 1
        at = shared(t)  # all rows are at one time as a rule
        alpha, sigma = like(self.path.alpha(at), x), like(self.path.sigma(at), x)
        V = (alpha * self.std).square() + sigma.square()
        away = x[:, None] - alpha[:, None] * self.means.to(x)  # (B, K, D)
        logits = self.weights.log().to(x) - 0.5 * away.square().sum(2) / V
        if y is not None:
            known = y >= 0
            mine = torch.nn.functional.one_hot(y.clamp(min=0), len(self.means)).bool()
            logits = logits.masked_fill(known[:, None] & ~mine, -math.inf)
        r = logits.softmax(1)[..., None]
        # Of each component: E[x0] = mu + alpha s^2 away / V, E[eps] = sigma away / V
        away_mean, mean = (r * away).sum(1) / V, (r * self.means.to(x)).sum(1)
        W = self.path.turn(at)
        a, b = like(self.path.d_alpha(at) / W, x), like(self.path.d_sigma(at) / W, x)
        return Prediction(self.path, x, t, a * (mean + alpha * self.std**2 * away_mean) + b * sigma * away_mean)

    def log_prob(self, x: Tensor, t: float | None = None) -> Tensor:
        """log p_t(x); of the data themselves if t is None."""
        at = torch.tensor(0.0 if t is None else t, dtype=torch.float64)
        alpha = torch.ones(()).double() if t is None else self.path.alpha(at)
        V = (alpha * self.std) ** 2 + (0 if t is None else self.path.sigma(at) ** 2)
        away = (x[:, None].double() - alpha * self.means).square().sum(2)
        return (self.weights.log() - 0.5 * away / V).logsumexp(1) - 0.5 * x.shape[1] * torch.log(2 * math.pi * V)

    def draw(self, n: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        return self.means[k] + self.std * torch.randn(n, self.means.shape[1], generator=generator).double()


def gaussian(path: Path, mean: float = 0.5, std: float = 0.6, dim: int = 1) -> MixtureField:
    return MixtureField(path, torch.full((1, dim), mean), std)


def three(path: Path, conditional: bool = False) -> MixtureField:
    """Three modes of unequal weight in the plane."""
    means = torch.tensor([[-1.5, 0.0], [1.0, 1.0], [0.5, -1.5]])
    return MixtureField(path, means, 0.3, torch.tensor([0.5, 0.3, 0.2]), conditional)


def twentyfive(path: Path) -> MixtureField:
    side = torch.arange(-2.0, 3.0) * 4 / 1.414
    return MixtureField(path, torch.cartesian_prod(side, side), 0.2 / 1.414)


def flow_of_gaussian(field: MixtureField, x: Tensor, t0: float, t1: float) -> Tensor:
    """The exact probability flow of normal data: (x - alpha mu) / sqrt(V) is kept."""
    out = []
    for t in (t0, t1):
        at = torch.tensor(t, dtype=torch.float64)
        alpha = field.path.alpha(at)
        out.append((alpha * field.means[0], ((alpha * field.std) ** 2 + field.path.sigma(at) ** 2).sqrt()))
    return out[1][0] + (x - out[0][0]) / out[0][1] * out[1][1]


class Known(TrainedRun):
    """A run whose model is at hand."""

    def __init__(self, field, learned=None):
        self.field, self.learned = field, learned or Learned()

    def open(self, spec):
        return TrainedModel(self.field, self.learned)

    def density(self, spec):
        return self.field
