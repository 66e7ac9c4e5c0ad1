"""A path whose schedule is learned with the model: x_t = alpha x_0 + sigma eps with log-SNR = -gamma(t)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencli.core.options import Count, Finite
from gencli.paths.base import Path

_BISECTIONS = 54  # as many as fp64 has bits


class LearnedSchedule(Path):
    """Variance preserving: sigma^2 = sigmoid(gamma(t)), alpha^2 = sigmoid(-gamma(t)), gamma growing from end to end.

    gamma(t) = gamma_0 + (gamma_1 - gamma_0) m(t), where m, from 0 to 1, is a polynomial in Bernstein's form,

        m(t) = sum over k of c_k B_k,K(t),    m'(t) = K sum over k of (c_k+1 - c_k) B_k,K-1(t) > 0,

    whose c grow from c_0 = 0 to c_K = 1 in steps softmax(w). It starts as m(t) = t. The published monotone network does
    the same with 3,072 weights; a polynomial is as smooth, and has its derivative in closed form.

    A bound in continuous time depends on the ends alone. Towards data of a continuous density gamma_0 would fall for
    ever if the network knew the score at any noise; it stops where the network no longer does.

    Args:
        gamma_0: -log-SNR at the data when training starts.
        gamma_1: -log-SNR at the noise when training starts.
        degree: K.

    Raises:
        ValueError: gamma_0 is not below gamma_1.

    References:
        Kingma, Salimans, Poole and Ho, "Variational diffusion models", 2021.
    """

    def __init__(self, gamma_0: Finite = -14.0, gamma_1: Finite = 6.0, degree: Count = 16) -> None:
        super().__init__()
        if gamma_0 >= gamma_1:
            raise ValueError(f"model.path.gamma_0={gamma_0}: below gamma_1={gamma_1}")
        self.gamma_0 = nn.Parameter(torch.tensor(float(gamma_0)))
        self.width = nn.Parameter(torch.tensor(math.log(math.expm1(gamma_1 - gamma_0))))  # softplus: never below 0
        self.w = nn.Parameter(torch.zeros(degree))
        self.degree = degree

    def interior(self) -> list[nn.Parameter]:
        return [self.w]

    def _ends(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """gamma_0 and gamma_1 - gamma_0, of the type of t."""
        return self.gamma_0.to(t), F.softplus(self.width.to(t))

    def _m(self, t: Tensor) -> Tensor:
        c = F.pad(self.w.to(t).softmax(0).cumsum(0), (1, 0))
        return bernstein(t, self.degree) @ c

    def gamma(self, t: Tensor) -> Tensor:
        """-log-SNR."""
        start, width = self._ends(t)
        return start + width * self._m(t)

    def d_gamma(self, t: Tensor) -> Tensor:
        """d gamma / dt, above 0."""
        steps = self.degree * self.w.to(t).softmax(0)
        return self._ends(t)[1] * (bernstein(t, self.degree - 1) @ steps)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sigmoid(-self.gamma(t)).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sigmoid(self.gamma(t)).sqrt()

    def d_alpha(self, t: Tensor) -> Tensor:
        gamma = self.gamma(t)
        return -0.5 * self.d_gamma(t) * torch.sigmoid(gamma) * torch.sigmoid(-gamma).sqrt()

    def d_sigma(self, t: Tensor) -> Tensor:
        gamma = self.gamma(t)
        return 0.5 * self.d_gamma(t) * torch.sigmoid(-gamma) * torch.sigmoid(gamma).sqrt()

    def turn(self, t: Tensor) -> Tensor:
        gamma = self.gamma(t)
        return 0.5 * self.d_gamma(t) * (torch.sigmoid(gamma) * torch.sigmoid(-gamma)).sqrt()

    def numbers(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        gamma = self.gamma(t)
        alpha, sigma = torch.sigmoid(-gamma).sqrt(), torch.sigmoid(gamma).sqrt()
        return alpha, sigma, -sigma, alpha, 0.5 * self.d_gamma(t) * alpha * sigma

    def log_snr(self, t: Tensor) -> Tensor:
        return -self.gamma(t)

    def d_log_snr(self, t: Tensor) -> Tensor:
        return -self.d_gamma(t)

    @torch.no_grad()
    def time(self, log_snr: Tensor) -> Tensor:
        """By bisection; the nearer end for what lies beyond."""
        start, width = self._ends(log_snr)
        m = (-log_snr - start) / width
        low, high = torch.zeros_like(m), torch.ones_like(m)
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            early = self._m(middle) < m
            low, high = torch.where(early, middle, low), torch.where(early, high, middle)
        return 0.5 * (low + high)


def bernstein(t: Tensor, degree: int) -> Tensor:
    """B_k(t) = binomial(K, k) t^k (1 - t)^(K - k) for k = 0..K: (*) -> (*, K + 1); they sum to 1."""
    binomials = torch.tensor([math.comb(degree, k) for k in range(degree + 1)]).to(t)
    return binomials * _powers(t, degree) * _powers(1 - t, degree).flip(-1)


def _powers(t: Tensor, degree: int) -> Tensor:
    """t^0 ... t^K, without the price of general powers: (*) -> (*, K + 1)."""
    return F.pad(t[..., None].expand(*t.shape, degree).cumprod(-1), (1, 0), value=1.0)
