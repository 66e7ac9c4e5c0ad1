"""Where a state goes: the state before, a mean increment and correlated noise, both given by a network.

    x = A y + b + r (mu(y) + L(y) eps),    eps ~ N(0, I)

x is the state after y. A, b and r, a number for each coordinate, start from the data: A y + b is the least-squares
forecast, r the deviation that it leaves. So the identity need not be learned, on whatever scales x and y are, and the
network learns what is left in its own unit. Or the mean stays that forecast (mu = 0), and the noise alone is learned:
likelihood weighs an error by what the noise leaves narrow, so that a slow and broad one, which costs it next to nothing
in one step, may grow where examples are few, and spoils a forecast of many steps. The density is normal and exact:

    -log p(x given y) = |L^-1 z|^2 / 2 + log det L + sum log r + D/2 log 2 pi,    z = (x - A y - b) / r - mu(y)
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from gencli.core.noise import Noise
from gencli.core.options import Count
from gencli.core.spec import Spec
from gencli.core.tensors import LOG_2PI, factor, positive
from gencli.models.base import DataInitialized, ExactLikelihood, Reparameterized
from gencli.models.line import least_squares, on_line
from gencli.nn.base import NetworkFactory

Covariance = Literal["diagonal", "low_rank", "full", "shared"]
Mean = Literal["network", "linear"]

_BOUND = 5.0
"""Of a logarithm of a deviation that the network gives, in units of r."""
_LEAST = 0.05
"""Share of a coordinate's variance that low-rank factors leave to it at the start."""


class Increment(ExactLikelihood, Reparameterized, DataInitialized):
    """A normal step from state to state, whose mean and covariance a network gives.

    The context must be the state before x, or several of them of which the latest comes last: along the first axis of
    images, in the flat order of vectors. What else is known of the time may stand before them, a channel of an image.
    A forecasts a vector by all of its context, and a pixel by what its own place had before.

    Args:
        spec: what one example is.
        net: makes the network from the shape of the context: to (parameters, D) for vectors, and to as many channels
            for each of an image.
        conditional: false is refused.
        covariance: of the noise: ``diagonal``, L = diag s(y); ``low_rank``, L L^T = diag s(y)^2 + W(y) W(y)^T;
            ``full``, any L(y), of vectors; ``shared``, one full L for all y, which starts from the data.
        rank: columns of W.
        mean: by the ``network`` and a line that is trained, or ``linear``, the least-squares forecast as it is; with a
            shared covariance there is no network then.

    Raises:
        ValueError: the context is no state of x, or ``full`` for images.

    References:
        Lam et al., "Learning skillful medium-range global weather forecasting", 2023 (a state and a learned increment,
        in units of its deviation).
    """

    shapes = ("vector", "image")
    initial_examples = 20_000

    def __init__(
        self,
        spec: Spec,
        *,
        net: NetworkFactory,
        conditional: bool = True,
        covariance: Covariance = "diagonal",
        rank: Count = 8,
        mean: Mean = "network",
    ) -> None:
        super().__init__(spec, conditional=conditional)
        if not conditional:
            raise ValueError("model.conditional=false: increment is p(state given the state before) and needs true")
        context = spec.context if spec.kind == "image" else (spec.context_dim,)
        if (
            not spec.context
            or len(context) != len(spec.shape)
            or context[1:] != spec.shape[1:]
            or context[0] % spec.shape[0]
        ):
            raise ValueError(
                f"model=increment needs the state before x as context, of shape {spec.shape}; this data has "
                + (f"a context of shape {spec.context}" if spec.context else "classes")
            )
        if covariance == "full" and spec.kind == "image":
            raise ValueError("model.covariance=full is for vectors; of images: diagonal, low_rank or shared")
        self.covariance, self.in_shape = covariance, context
        self.rank = min(rank, spec.dim) if covariance == "low_rank" else 0
        D = spec.dim
        self.slope: Tensor  # A
        self.offset: Tensor  # b
        for name, start in (("slope", torch.zeros(*spec.shape[:1], *context)), ("offset", torch.zeros(spec.shape))):
            if mean == "network":
                self.register_parameter(name, nn.Parameter(start))
            else:
                self.register_buffer(name, start)
        self.register_buffer("unit", torch.ones(spec.shape))  # r
        self.unit: Tensor
        if covariance == "low_rank":
            self.log_rest = nn.Parameter(torch.zeros(D))
            self.factors = nn.Parameter(torch.zeros(D, self.rank))
        elif covariance == "shared":
            self.log_diagonal = nn.Parameter(torch.zeros(D))
            self.lower = nn.Parameter(torch.zeros(D, D))
        self.linear = mean == "linear"
        each = (not self.linear) + (covariance != "shared") * (1 + self.rank)
        self.net: nn.Module | None = None
        if covariance == "full":
            self.net = net(context, (each * D + D * (D - 1) // 2,), 0)
        elif each:
            self.net = net(context, (each, D) if spec.kind == "vector" else (each * spec.shape[0], *spec.shape[1:]), 0)

    def _outputs(self, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """A y + b + r mu(y) as (B, D), and the network's other outputs: (B, P, D), of a full covariance (B, P)."""
        before, D = self._before(y), self.spec.dim
        mean = on_line(self.slope, self.offset, before).flatten(1)
        rest = mean.new_zeros(len(mean), 0) if self.net is None else self.net(before).flatten(1)
        if not self.linear:
            mean, rest = mean + self.unit.flatten() * rest[:, :D], rest[:, D:]
        return mean, rest if self.covariance == "full" else rest.view(len(rest), -1, D)

    def _before(self, y: Tensor | None) -> Tensor:
        """The context (B, *) in its own shape; of vectors (B, C)."""
        flat = self.context(y)
        assert flat is not None
        return flat.view(-1, *self.in_shape)

    def mean(self, y: Tensor) -> Tensor:
        """E(x given y): (B, *)."""
        return self._outputs(y)[0].view(-1, *self.spec.shape)

    def _factor(self, rest: Tensor) -> Tensor:
        """L in units of r, lower triangular: (B, D, D), of a shared covariance (D, D)."""
        if self.covariance == "shared":
            return self.lower.tril(-1) + torch.diag_embed(self.log_diagonal.exp())
        D = self.spec.dim
        below = torch.tril_indices(D, D, -1, device=rest.device)
        L = torch.diag_embed(_bounded(rest[:, :D]).exp())
        L[:, below[0], below[1]] = rest[:, D:]
        return L

    def _columns(self, rest: Tensor) -> tuple[Tensor, Tensor]:
        """log s (B, D) and W (B, D, rank), which may have no columns, in units of r."""
        log_s = _bounded(rest[:, 0])
        if not self.rank:
            return log_s, rest.new_zeros(*log_s.shape, 0)
        return log_s + self.log_rest, self.factors + rest[:, 1:].mT

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        mean, rest = self._outputs(y)
        z = (x.flatten(1) - mean) / self.unit.flatten()
        if self.covariance in ("full", "shared"):
            L = self._factor(rest)
            log_det = L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            white = torch.linalg.solve_triangular(L, z.T if L.ndim == 2 else z[:, :, None], upper=False)
            square = white.square().sum(0) if L.ndim == 2 else white.square().sum((1, 2))
        else:
            log_s, W = self._columns(rest)
            e = z * (-log_s).exp()
            log_det, square = log_s.sum(1), e.square().sum(1)
            if self.rank:  # Woodbury: M = I + W^T diag(s)^-2 W
                U = W * (-log_s).exp()[:, :, None]
                C = factor(U.mT @ U + torch.eye(self.rank, device=x.device, dtype=U.dtype))
                inside = torch.linalg.solve_triangular(C, U.mT @ e[:, :, None], upper=False)
                square = square - inside.square().sum((1, 2))
                log_det = log_det + C.diagonal(dim1=1, dim2=2).log().sum(1)
        return -0.5 * square - log_det - self.unit.log().sum() - 0.5 * self.spec.dim * LOG_2PI

    def sample(self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0) -> Tensor:
        mean, rest = self._outputs(y)
        D = self.spec.dim
        eps = noise.randn(n, D + self.rank).to(mean) * temperature
        if self.covariance in ("full", "shared"):
            L = self._factor(rest)
            z = eps @ L.T if L.ndim == 2 else (L @ eps[:, :, None])[..., 0]
        else:
            log_s, W = self._columns(rest)
            z = log_s.exp() * eps[:, :D] + (W @ eps[:, D:, None])[..., 0]
        return (mean + self.unit.flatten() * z).view(n, *self.spec.shape)

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        A, offset, residual = least_squares(self._before(y).double(), x.double())
        residual = residual.flatten(1)
        unit = positive(residual.square().mean(0), "x follows from y without noise: it has no density").sqrt()
        self.slope.copy_(A)
        self.offset.copy_(offset)
        self.unit.copy_(unit.view(self.spec.shape))
        self._initialize_covariance(residual / unit)

    def _initialize_covariance(self, residual: Tensor) -> None:
        """Start W or a shared L from residuals (N, D) in units of r."""
        if self.covariance == "shared":
            from sklearn.covariance import ledoit_wolf

            found = torch.from_numpy(ledoit_wolf(residual.cpu().numpy(), assume_centered=True)[0]).to(residual)
            L = torch.linalg.cholesky(found)
            self.log_diagonal.copy_(L.diagonal().log())
            self.lower.copy_(L.tril(-1))
        elif self.covariance == "low_rank":  # the principal components of the residuals (Tipping and Bishop, 1999)
            _, s, V = torch.linalg.svd(residual / math.sqrt(len(residual)), full_matrices=False)
            k, D = min(self.rank, len(s)), self.spec.dim
            other = (D - s[:k].square().sum()).clamp(min=0) / max(D - k, 1)
            W = V[:k].T * (s[:k].square() - other).clamp(min=0).sqrt()
            self.factors[:, :k] = W.to(self.factors)
            self.log_rest.copy_(0.5 * (1 - W.square().sum(1)).clamp(min=_LEAST).log())


def _bounded(log_s: Tensor) -> Tensor:
    return _BOUND * torch.tanh(log_s / _BOUND)
