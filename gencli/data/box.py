"""Open boxes of R^D, each side of which may have no end, and the way from them to R^D and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Box:
    """The points with low < x < high in each coordinate.

    Args:
        low: (D,) ends, -inf where there is none.
        high: (D,) ends, inf where there is none.
    """

    low: Tensor
    high: Tensor

    @classmethod
    def everywhere(cls, dim: int) -> Box:
        """All of R^D."""
        ends = torch.full((dim,), torch.inf, dtype=torch.float64)
        return cls(-ends, ends)

    @property
    def bounded(self) -> bool:
        """Whether any side has an end."""
        return bool((self.low.isfinite() | self.high.isfinite()).any())

    def contains(self, x: Tensor) -> Tensor:
        """Which rows x (n, D) lie in it, (n,)."""
        low, high = self._ends(x)
        return ((x > low) & (x < high)).all(1)

    def within(self, x: Tensor) -> Tensor:
        """Rows x (n, D) whose rounding may have put them on an end, moved inside by one unit in the last place."""
        low, high = self._ends(x)
        up, down = torch.full_like(low, torch.inf), torch.full_like(low, -torch.inf)
        # an end that has no exact form in the dtype of x is rounded: to be inside of either is to be inside of both
        return x.clamp(
            torch.nextafter(torch.nextafter(low, up), up), torch.nextafter(torch.nextafter(high, down), down)
        )

    def unbounded(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """v (n, D) in R^D of rows x, and -log|dv/dx| (n,) nats, which the NLL of v lacks to be that of x.

        v = log((x - low) / (high - x)) between two ends, log(x - low) above one, -log(high - x) below one, else x.
        Outside of the box the density is 0: inf nats, at some v.
        """
        low, high = self._ends(x)
        above, below = low.isfinite(), high.isfinite()
        both = above & below
        middle = torch.where(both, (low + high) / 2, torch.where(above, low + 1, torch.where(below, high - 1, 0.0)))
        inside = (x > low) & (x < high)
        safe = torch.where(inside, x, middle)
        log_up = torch.where(above, safe - low, 1.0).log()
        log_down = torch.where(below, high - safe, 1.0).log()
        v = torch.where(above | below, log_up - log_down, safe)
        width = torch.where(both, high - low, 1.0).log()
        nats = (log_up + log_down - width).sum(1)
        return v, torch.where(inside.all(1), nats, torch.inf)

    def bounded_at(self, v: Tensor) -> Tensor:
        """Rows x in the box of rows v (n, D) of R^D: the inverse of ``unbounded``."""
        low, high = self._ends(v)
        above, below = low.isfinite(), high.isfinite()
        between = torch.lerp(torch.where(above, low, 0.0), torch.where(below, high, 1.0), v.sigmoid())
        x = torch.where(above, low + v.exp(), torch.where(below, high - (-v).exp(), v))
        return self.within(torch.where(above & below, between, x))

    def _ends(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.low.to(x), self.high.to(x)
