"""Sequences of a stationary hidden Markov model, whose entropy rate is known.

s_1 ~ pi,  s_t ~ A[s_(t-1), :],  x_t ~ B[s_t, :],  pi A = pi
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor

from gencli.core.noise import mix_seed
from gencli.core.options import Count, Finite, Range, Seed
from gencli.data.split import SPLITS, storage_dtype
from gencli.data.windows import LETTERS, Alphabet, Sequences, Window

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
        symbols: V.
        sharpness: scale of the logits of A and B.
        seed: of the parameters and of the sequences.
        train: symbols of the training sequence.
        val: symbols of the validation sequence.
        test: symbols of the test sequence.
        window: T, the symbols that a model sees at once.
        stride: new symbols that each held-out window scores; None: half a window.

    Raises:
        ValueError: a split or a stride that does not fit the window, or an entropy rate that stays uncertain.
    """

    name = "hmm"
    support: ClassVar[str] = "categorical:3"
    shape_kind: ClassVar[str] = "vector"

    def __init__(
        self,
        states: Count = 8,
        symbols: Annotated[int, Range(low=2, high=62)] = 3,  # as many LETTERS as there are
        sharpness: Finite = 3.0,
        seed: Seed = 0,
        train: Count = 200_000,
        val: Count = 20_000,
        test: Count = 100_000,
        window: Window = 64,
        stride: Count | None = None,
    ) -> None:
        sizes = dict(zip(SPLITS, (train, val, test), strict=True))
        super().__init__(Alphabet(LETTERS[:symbols]), sizes, window, stride, "symbol")
        self.seed = seed
        generator = torch.Generator().manual_seed(mix_seed(seed))
        logits = sharpness * torch.randn(states, states + symbols, generator=generator, dtype=torch.float64)
        self.transition, self.emission = logits[:, :states].softmax(1), logits[:, states:].softmax(1)
        self.stationary = _stationary(self.transition)
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
            # not a product of matrices, whose last bits depend on the number of threads
            joint = sum(emitted[:, :, s, :, None] * row for s, row in enumerate(self.transition)).flatten(1, 2)
            n += 1
        return low, high

    def read(self, name: str) -> Tensor:
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


def _stationary(transition: Tensor) -> Tensor:
    """pi (S,) with pi A = pi, by elimination of one state after the other, which subtracts nothing.

    Grassmann, Taksar and Heyman, "Regenerative analysis and steady state distributions for Markov chains", 1985. In
    plain numpy, because the last bits of a solver depend on the number of threads.

    Raises:
        ValueError: a state is not left for those before it.
    """
    a = transition.numpy().copy()
    for n in range(len(a) - 1, 0, -1):
        if not (left := a[n, :n].sum()) > 0:
            raise ValueError("data.sharpness: so far from 0, some states are never left; take it nearer to 3")
        a[:n, n] /= left
        a[:n, :n] += np.outer(a[:n, n], a[n, :n])
    pi = np.ones(len(a))
    for n in range(1, len(a)):
        pi[n] = (pi[:n] * a[:n, n]).sum()
    return torch.from_numpy(pi / pi.sum())


def _entropy(p: Tensor) -> float:
    """H in nats; numpy adds up in the same order whatever the number of threads."""
    return -float(torch.special.xlogy(p, p).numpy().sum())


def _steps(rows: Tensor) -> list[list[float]]:
    """Where the cumulative distribution of each row steps to its next value."""
    return rows.cumsum(1)[:, :-1].tolist()
