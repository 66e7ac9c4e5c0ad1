"""Sequences of symbols, seen through windows; measured in nats per symbol over all of the held-out sequence.

An example is a window of T symbols, which a model scores from its own start: p(x_1) p(x_2 | x_1) ... Training reads
every window of the training text. Held-out text is covered by windows in which each symbol is scored exactly once
(``WindowSplit``): a symbol of the text's first window given all before it, any other given at least T - stride.
"""

from __future__ import annotations

import string
from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from gencli.core.options import Range
from gencli.core.spec import Spec, Support
from gencli.data.base import Split
from gencli.data.lazy import Lazy
from gencli.data.split import WindowSplit, storage_dtype

Window = Annotated[int, Range(low=2)]

LETTERS = string.ascii_letters + string.digits
"""Names of symbols that are no text."""


class Alphabet:
    """Characters as symbols 0..V-1.

    Args:
        characters: all of them, in the order of their symbols.
    """

    def __init__(self, characters: str) -> None:
        self.characters = characters
        codes = _codes(characters)
        self.code_of = torch.from_numpy(codes.astype(np.int64))
        self.table = np.full(int(codes.max()) + 2, -1, np.int16 if len(codes) < 1 << 15 else np.int32)
        self.table[codes] = np.arange(len(codes))

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> Tensor:
        """Symbols (L,) of a text, in the smallest dtype of data.

        Raises:
            ValueError: names the first character that is not in the alphabet, and where it stands.
        """
        codes = np.minimum(_codes(text), len(self.table) - 1)
        symbols = self.table[codes]
        unknown = np.flatnonzero(symbols < 0)
        if len(unknown):
            k = int(unknown[0])
            line, column = text.count("\n", 0, k) + 1, k - text.rfind("\n", 0, k)
            raise ValueError(
                f"the character {text[k]!r} is not among the {len(self)} of this data (line {line}, column {column})"
            )
        return torch.from_numpy(symbols).to(storage_dtype(Support("categorical", len(self))))

    def decode(self, symbols: Tensor) -> str:
        """Symbols (L,) as text."""
        return self.code_of[symbols.long()].numpy().astype("<u4").tobytes().decode("utf-32-le")


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


class Windows(Lazy):
    """Splits that are one long sequence of symbols each, seen through windows.

    Args:
        window: T.
        stride: new symbols that each held-out window scores; None: half a window.
        per: what a symbol is.

    Raises:
        ValueError: the stride is longer than the window.
    """

    layout: ClassVar[str] = "sequence"
    alphabet: Alphabet | None
    """The symbols; None: bytes."""

    def __init__(self, window: int, stride: int | None, per: Literal["char", "byte", "symbol"]) -> None:
        super().__init__()
        self.window, self.stride, self.per = window, window // 2 if stride is None else stride, per
        if self.stride > window:
            raise ValueError(f"data.stride={stride}: at most data.window={window}")

    @abstractmethod
    def symbols(self, name: str) -> Tensor | None:
        """The sequence (L,) of a split; None where there is no such split."""

    def load(self, name: str) -> Split | None:
        symbols = self.symbols(name)
        return None if symbols is None else WindowSplit(symbols, self.window, self.stride)

    def training(self) -> Split:
        symbols = self.symbols("train")
        assert symbols is not None
        return WindowSplit(symbols, self.window)

    def specification(self, alphabet: Alphabet | None) -> Spec:
        """What a window of these symbols is."""
        return Spec((self.window,), Support("categorical", 256 if alphabet is None else max(2, len(alphabet))))

    def fit(self, sizes: Mapping[str, int]) -> None:
        """Refuse a window that is longer than a split.

        Raises:
            ValueError: names the split and the largest window that fits.
        """
        name = min(sizes, key=lambda name: sizes[name])
        if (size := sizes[name]) < self.window:
            fits = f"at most data.window={size}" if size > 1 else "more text is needed"
            raise ValueError(f"data.window={self.window}: the {name} split has only {size} {self.per}s: {fits}")

    def protocol(self) -> dict[str, object]:
        return {"symbols": self.per, "window": f"{self.window}, stride {self.stride}"}

    def encode(self, text: str) -> Tensor:
        if self.alphabet is None:
            return torch.tensor(list(text.encode("utf-8")), dtype=torch.uint8)
        try:
            return self.alphabet.encode(text)
        except ValueError as error:
            raise ValueError(f"sampler.prompt: {error}") from error

    def to_text(self, x: Tensor) -> list[str]:
        if self.alphabet is None:
            return [bytes(row.tolist()).decode("utf-8", errors="replace") for row in x.cpu()]
        return [self.alphabet.decode(row) for row in x.cpu()]


class Sequences(Windows):
    """Sequences whose symbols and lengths are known before anything is read.

    Args:
        alphabet: the symbols; None: bytes.
        sizes: symbols of each split that there is.
        window: T.
        stride: new symbols that each held-out window scores; None: half a window.
        per: what a symbol is.

    Raises:
        ValueError: a stride or a window that is too long.
    """

    def __init__(
        self,
        alphabet: Alphabet | None,
        sizes: Mapping[str, int],
        window: int,
        stride: int | None,
        per: Literal["char", "byte", "symbol"],
    ) -> None:
        super().__init__(window, stride, per)
        self.alphabet, self.sizes = alphabet, dict(sizes)
        self.fit(sizes)
        self.spec = self.specification(alphabet)

    def symbols(self, name: str) -> Tensor | None:
        return self.read(name) if name in self.sizes else None

    @abstractmethod
    def read(self, name: str) -> Tensor:
        """The sequence (L,) of a split that there is."""
