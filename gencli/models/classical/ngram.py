"""N-grams with Witten-Bell interpolation: what every other model of text has to beat.

For a context h of k - 1 symbols, h' without its first one, c counts in the training text and N(h) different symbols
after h,

    p_k(w | h) = (c(h w) + N(h) p_(k-1)(w | h')) / (c(h) + N(h)),    p_0(w) = 1 / V,

and p_k = p_(k-1) where h was never seen.

References:
    Witten and Bell, "The zero-frequency problem: estimating the probabilities of novel events in adaptive text
    compression", 1991.
    Chen and Goodman, "An empirical study of smoothing techniques for language modeling", 1999 (the recursion).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gencli.core.options import Count
from gencli.core.spec import Batch, Given, Spec
from gencli.models.base import Autoregressive, DataInitialized
from gencli.models.distributions import Categorical, Conditional


class NGram(Autoregressive, DataInitialized):
    """p(x) = prod_t p_k(x_t | x_(t-k+1) .. x_(t-1)) with k = min(order, t): a closed form, counted once.

    All coordinates share the same counts. The counts are buffers, so that they travel in a checkpoint.

    Args:
        spec: what one example is.
        conditional: refused.
        order: n, the symbols of the longest n-gram.

    Raises:
        ValueError: conditional, or V^n is beyond 63 bits.
    """

    supports = ("binary", "levels", "categorical")
    layouts = ("vector", "sequence")  # what stands before a pixel in a row is not what lies near it
    any_length = True
    initial_examples = 1 << 62

    def __init__(self, spec: Spec, *, conditional: bool = False, order: Count = 5) -> None:
        super().__init__(spec, conditional=conditional)
        V = spec.support.size
        if conditional:
            raise ValueError("model.conditional=true: n-grams have no network to condition; take transformer")
        if order > 62 or V**order >= 1 << 62:
            most = max(n for n in range(1, 63) if V**n < 1 << 62)
            raise ValueError(f"model.order={order}: 1 to {most} with {V} symbols")
        self.order, self.V = order, V
        for k in range(1, order + 1):
            for kind in _TABLES:
                self.register_buffer(f"{kind}_{k}", torch.zeros(0, dtype=torch.long))

    def _tables(self, k: int) -> list[Tensor]:
        return [getattr(self, f"{kind}_{k}") for kind in _TABLES]

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        for name, buffer in list(self.named_buffers()):  # sizes are the text's own
            if prefix + name in state_dict:
                setattr(self, name, buffer.new_empty(len(state_dict[prefix + name])))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    # --- counts --------------------------------------------------------------------------------------------------

    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        self.initialize_from(Batch(x))

    def initialize_from(self, batch: Batch) -> None:
        """Count the n-grams whose last symbol is scored: where windows overlap, each one of the text once."""
        x = batch.x.long()
        scored = torch.ones_like(x, dtype=torch.bool)
        if batch.given is not None:
            scored = torch.arange(x.shape[1], device=x.device) >= batch.given[:, None]
            if len(x) > 1 and int(batch.given.max()) < self.order - 1:
                raise ValueError(
                    f"model.order={self.order}: n-grams are counted within windows that overlap by {self.order - 1} "
                    f"symbols or more; here it is {int(batch.given.max())}: take a smaller data.stride"
                )
        for k in range(1, self.order + 1):
            codes = self._codes(x.unfold(1, k, 1))[scored[:, k - 1 :]] if k <= x.shape[1] else x.new_zeros(0)
            grams, counts = codes.unique(return_counts=True)
            contexts, kinds = (grams // self.V).unique_consecutive(return_counts=True)
            total = counts.cumsum(0)[kinds.cumsum(0) - 1].diff(prepend=counts.new_zeros(1))
            for kind, table in zip(_TABLES, (grams, counts, contexts, total, kinds), strict=True):
                setattr(self, f"{kind}_{k}", table)

    def _codes(self, grams: Tensor) -> Tensor:
        """N-grams (..., k) as integers in base V."""
        code = torch.zeros_like(grams[..., 0])
        for k in range(grams.shape[-1]):
            code = code * self.V + grams[..., k]
        return code

    # --- probabilities -------------------------------------------------------------------------------------------

    def _p(self, grams: Tensor) -> Tensor:
        """p of the last symbol of (..., n) given those before it, fp64; -1 stands for a symbol before the start."""
        p = torch.full(grams.shape[:-1], 1 / self.V, dtype=torch.float64, device=grams.device)
        for k in range(1, self.order + 1):
            some = grams[..., self.order - k :]
            code = self._codes(some)
            keys, counts, contexts, totals, kinds = self._tables(k)
            c_hw, c_h, N_h = _look(keys, counts, code), *(_look(contexts, t, code // self.V) for t in (totals, kinds))
            mixed = (c_hw + N_h * p) / (c_h + N_h).clamp(min=1)
            p = torch.where((c_h > 0) & (some[..., 0] >= 0), mixed, p)
        return p

    def log_conditionals(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        grams = F.pad(x.long(), (self.order - 1, 0), value=-1).unfold(1, self.order, 1)
        return self._p(grams).log()

    def decode(
        self,
        n: int,
        y: Tensor | None = None,
        *,
        pick: Callable[[Conditional], Tensor],
        given: Given | None = None,
        cached: bool = True,
    ) -> Tensor:
        """As the contract says; there is no state to keep, so ``cached`` changes nothing."""
        length = self.spec.dim if given is None else given.x.shape[1]
        device = self._tables(1)[0].device
        x = torch.full((n, self.order - 1 + length), -1, device=device)
        every = torch.arange(self.V, device=device).expand(n, self.V)[..., None]
        for t in range(length):
            before = x[:, None, t : t + self.order - 1].expand(-1, self.V, -1)
            drawn = pick(Categorical(self._p(torch.cat([before, every], 2)).log()))
            x[:, t + self.order - 1] = drawn if given is None else torch.where(given.mask[:, t], given.x[:, t], drawn)
        return x[:, self.order - 1 :]


_TABLES = ("grams", "counts", "contexts", "totals", "kinds")
"""Of each order: n-grams and their counts; contexts, the symbols seen after them and how many different ones."""


def _look(keys: Tensor, values: Tensor, wanted: Tensor) -> Tensor:
    """values at the sorted keys, 0 where a key is not there."""
    if len(keys) == 0:
        return torch.zeros_like(wanted)
    at = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(keys[at] == wanted, values[at], 0)
