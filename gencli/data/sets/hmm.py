"""Sequences of a stationary hidden Markov model, whose entropy rate is known.

s_1 ~ pi,  s_t ~ A[s_(t-1), :],  x_t ~ B[s_t, :],  pi A = pi
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import ClassVar

import torch
from torch import Tensor

from gencli.core.noise import mix_seed
from gencli.data.sets.text import LETTERS, Alphabet, Sequences
from gencli.data.split import SPLITS, storage_dtype

_LARGEST = 1 << 23  # entries of a table of the enumeration
_LOOSE = 2e-3  # nats between the bounds of an entropy rate that is called known


class HMM(Sequences):
    """A hidden Markov model with A and B drawn from the seed: rows softmax(sharpness N(0, I)).

    ``entropy`` is the rate h in nats per symbol: the middle of the bounds

        H(X_n | X_1 .. X_(n-1), S_1) <= h <= H(X_n | X_1 .. X_(n-1))

    (Cover and Thomas, "Elements of information theory", 2006, theorem 4.5.1), both computed by enumeration of all
    words of n symbols; ``entropy_error`` is half their distance.

    Args:
        states: S.
        symbols: V, at most 62.
        sharpness: scale of the logits of A and B.
        seed: of the parameters and of the sequences.
        train: symbols of the training sequence.
        val: symbols of the validation sequence.
        test: symbols of the test sequence.
        window: T, the symbols that a model sees at once.
        stride: new symbols that each held-out window scores; None: half a window.

    Raises:
        ValueError: a size out of range.
    """

    name = "hmm"
    support: ClassVar[str] = "categorical:3"
    shape_kind: ClassVar[str] = "vector"

    def __init__(
        self,
        states: int = 8,
        symbols: int = 3,
        sharpness: float = 3.0,
        seed: int = 0,
        train: int = 200_000,
        val: int = 20_000,
        test: int = 100_000,
        window: int = 64,
        stride: int | None = None,
    ) -> None:
        if states < 1 or not 2 <= symbols <= len(LETTERS):
            raise ValueError(f"data.states={states}: at least 1; data.symbols={symbols}: 2 to {len(LETTERS)}")
        if not math.isfinite(sharpness):
            raise ValueError(f"data.sharpness={sharpness}: a finite scale")
        sizes = dict(zip(SPLITS, (train, val, test), strict=True))
        super().__init__(Alphabet(LETTERS[:symbols]), sizes, window, stride, "symbol")
        self.seed = seed
        generator = torch.Generator().manual_seed(mix_seed(seed))
        logits = sharpness * torch.randn(states, states + symbols, generator=generator, dtype=torch.float64)
        self.transition, self.emission = logits[:, :states].softmax(1), logits[:, states:].softmax(1)
        system = torch.cat([self.transition.T - torch.eye(states).double(), torch.ones(1, states).double()])
        right = torch.zeros(states + 1, 1).double()
        right[-1] = 1
        pi = torch.linalg.lstsq(system, right).solution[:, 0].clamp(min=0)
        self.stationary = pi / pi.sum()
        low, high = self.entropy_bounds()
        if not high - low < _LOOSE:
            raise ValueError(
                f"data.states={states} and data.symbols={symbols}: words short enough to enumerate leave the entropy "
                f"rate uncertain by {high - low:.2g} nats; take fewer of them, or data.sharpness nearer to 3"
            )
        self.entropy, self.entropy_error = (low + high) / 2, (high - low) / 2

    def entropy_bounds(self, length: int | None = None) -> tuple[float, float]:
        """Bounds of the entropy rate from words of ``length`` symbols; None: as many as memory allows, or need be."""
        symbols = self.emission.shape[1]
        joint = torch.diag(self.stationary)[:, None, :]  # p(s_1, word, state of the next symbol)
        low, high = 0.0, float("inf")
        last_word, last_both = 0.0, _entropy(self.stationary)
        n = 0
        while n != length if length else joint.numel() * symbols <= _LARGEST and high - low > 1e-9:
            emitted = joint[:, :, :, None] * self.emission  # (s_1, word, s_n, x_n)
            words = emitted.sum(2)
            word, both = _entropy(words.sum(0)), _entropy(words)
            low, high, last_word, last_both = both - last_both, word - last_word, word, both
            joint = torch.einsum("iwsx,st->iwxt", emitted, self.transition).flatten(1, 2)
            n += 1
        return low, high

    def symbols(self, name: str) -> Tensor:
        generator = torch.Generator().manual_seed(mix_seed(self.seed, 1 + SPLITS.index(name)))
        u = torch.rand(self.sizes[name], 2, generator=generator, dtype=torch.float64).tolist()
        to, out = (_steps(table) for table in (self.transition, self.emission))
        state = bisect_right(_steps(self.stationary[None])[0], float(torch.rand(1, generator=generator)))
        x = []
        for first, second in u:
            x.append(bisect_right(out[state], first))
            state = bisect_right(to[state], second)
        return torch.tensor(x).to(storage_dtype(self.spec.support))

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats by the forward algorithm in fp64: (B, T) -> (B,)."""
        ahead = self.stationary.expand(len(x), -1)  # p(s_t | x_<t)
        total = torch.zeros(len(x), dtype=torch.float64)
        for column in x.long().T:
            joint = ahead * self.emission[:, column].T
            p = joint.sum(1)
            total += p.log()
            ahead = (joint / p[:, None]) @ self.transition
        return total


def _entropy(p: Tensor) -> float:
    return float(-torch.special.xlogy(p, p).sum())


def _steps(rows: Tensor) -> list[list[float]]:
    """Where the cumulative distribution of each row steps to its next value."""
    return rows.cumsum(1)[:, :-1].tolist()
