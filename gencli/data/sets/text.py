"""Text as data: windows of symbols, measured in nats per character or byte over all of the held-out text.

An example is a window of T symbols, which a model scores from its own start: p(x_1) p(x_2 | x_1) ... Training reads
every window of the training text. Held-out text is covered by windows in which each symbol is scored exactly once
(``WindowSplit``): a symbol of the text's first window given all before it, any other given at least T - stride.
"""

from __future__ import annotations

import string
import zipfile
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.core.options import Count, Range
from gencli.core.spec import Spec, Support
from gencli.data.base import Split
from gencli.data.lazy import Lazy
from gencli.data.root import data_root, fetch, need, user_path
from gencli.data.split import SPLITS, WindowSplit, storage_dtype

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
            ValueError: names the first character that is not in the alphabet.
        """
        codes = np.minimum(_codes(text), len(self.table) - 1)
        symbols = self.table[codes]
        unknown = np.flatnonzero(symbols < 0)
        if len(unknown):
            raise ValueError(f"the character {text[unknown[0]]!r} is not among the {len(self)} of this data")
        return torch.from_numpy(symbols).to(storage_dtype(Support("categorical", len(self))))

    def decode(self, symbols: Tensor) -> str:
        """Symbols (L,) as text."""
        return self.code_of[symbols.long()].numpy().astype("<u4").tobytes().decode("utf-32-le")


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


class Sequences(Lazy):
    """Splits that are one long sequence of symbols each, seen through windows.

    Args:
        alphabet: the symbols; None: bytes.
        sizes: symbols of each split that there is.
        window: T.
        stride: new symbols that each held-out window scores; None: half a window.

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
        super().__init__()
        self.window, self.stride = window, window // 2 if stride is None else stride
        if self.stride > window:
            raise ValueError(f"data.stride={stride}: at most data.window={window}")
        for name, size in sizes.items():
            if size < window:
                raise ValueError(f"data.window={window}: the {name} split has only {size} {per}s")
        self.alphabet, self.sizes, self.per = alphabet, dict(sizes), per
        self.spec = Spec((window,), Support("categorical", 256 if alphabet is None else max(2, len(alphabet))))

    @abstractmethod
    def symbols(self, name: str) -> Tensor:
        """The sequence (L,) of a split that there is."""

    def load(self, name: str) -> Split | None:
        return WindowSplit(self.symbols(name), self.window, self.stride) if name in self.sizes else None

    def training(self) -> Split:
        return WindowSplit(self.symbols("train"), self.window)

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


class TextFile(Sequences):
    """Your own text, by character or byte: the first 90 % for training, 5 % for validation, the last 5 % for test.

    Characters are those of all files together, in the order of their code points.

    Args:
        path: the file, UTF-8 where it is read by character.
        val_path: a file of its own for validation; with it or ``test_path``, all of ``path`` is for training.
        test_path: a file of its own for test.
        level: ``char`` or ``byte``.
        window: T, the symbols that a model sees at once.
        stride: new symbols that each held-out window scores; None: half a window.

    Raises:
        UsageError: a file is missing or no UTF-8.
        ValueError: a text or a window that is too short.
    """

    shape_kind: ClassVar[str] = "vector"

    def __init__(
        self,
        path: str | None = None,
        val_path: str | None = None,
        test_path: str | None = None,
        level: Literal["char", "byte"] = "char",
        window: Window = 128,
        stride: Count | None = None,
    ) -> None:
        file = user_path(path, "a text file")
        self.name = file.stem
        texts = {"train": _read(file, level)}
        for name, other in (("val", val_path), ("test", test_path)):
            if other:
                texts[name] = _read(user_path(other, "a text file", f"data.{name}_path"), level)
        if len(texts) == 1:
            whole = texts["train"]
            first, second = len(whole) * 90 // 100, len(whole) * 95 // 100
            texts = {"train": whole[:first], "val": whole[first:second], "test": whole[second:]}
        characters = "".join(sorted(set().union(*texts.values()))) if level == "char" else ""  # type: ignore[arg-type]
        self.texts = texts
        sizes = {name: len(text) for name, text in texts.items()}
        alphabet = Alphabet(characters) if characters else None
        if level == "char" and (alphabet is None or len(alphabet) < 2):
            raise ValueError(f"data.path={path}: the text needs at least 2 different characters")
        super().__init__(alphabet, sizes, window, stride, "char" if level == "char" else "byte")

    def symbols(self, name: str) -> Tensor:
        text = self.texts[name]
        if isinstance(text, bytes):
            return torch.from_numpy(np.frombuffer(text, np.uint8).copy())
        assert self.alphabet is not None
        return self.alphabet.encode(text)


class TinyShakespeare(Sequences):
    """1,115,394 characters of Shakespeare's plays, 65 different ones (Karpathy, char-rnn, 2015).

    Test is the last 10 % (111,540 characters), the held-out part of nanoGPT; validation is the end of the rest.

    Args:
        root: the folder of data files, which has tinyshakespeare/input.txt.
        validation: characters of the validation split; 0: there is none, all 1,003,854 are for training.
        window: T, the characters that a model sees at once.
        stride: new characters that each held-out window scores; None: half a window.
        download: whether a missing file may be fetched.

    Raises:
        ValueError: a split or a stride that does not fit the window.
        UsageError: (by ``split``) the file is missing and cannot be downloaded, or is damaged.
    """

    name = "tinyshakespeare"
    support: ClassVar[str] = "categorical:65"
    shape_kind: ClassVar[str] = "vector"
    url: ClassVar[str] = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
    checksum: ClassVar[str] = "6fb458f1232090904fb40fe944165e91"
    characters: ClassVar[str] = "\n !$&',-.3:;?" + string.ascii_uppercase + string.ascii_lowercase

    def __init__(
        self,
        root: str | None = None,
        validation: Annotated[int, Range(low=0, high=1_003_853)] = 10_000,
        window: Window = 128,
        stride: Count | None = None,
        download: bool = True,
    ) -> None:
        self.download = download
        self.file = data_root(root) / self.name / "input.txt"
        self.train_on = "train" if validation else "train+val"
        sizes = {"train": 1_003_854 - validation, "val": validation, "test": 111_540}
        if not validation:
            del sizes["val"]
        super().__init__(Alphabet(self.characters), sizes, window, stride, "char")

    def symbols(self, name: str) -> Tensor:
        assert self.alphabet is not None
        whole = self.alphabet.encode(fetch(self.file, self.checksum, [self.url], self.download).read_bytes().decode())
        return _cut(whole, self.sizes)[name]


class Enwik8(Sequences):
    """The first 10^8 bytes of English Wikipedia of 2006 (Hutter prize), split 90 / 5 / 5 million.

    Args:
        root: the folder of data files, which has enwik8/enwik8 or enwik8/enwik8.zip.
        window: T, the symbols that a model sees at once.
        stride: new symbols that each held-out window scores; None: half a window.

    Raises:
        ValueError: a stride longer than the window.
        UsageError: (by ``split``) the file is missing or has another size.
    """

    name = "enwik8"
    support: ClassVar[str] = "categorical:256"
    shape_kind: ClassVar[str] = "vector"
    alphabet_of: ClassVar[str] = ""

    def __init__(self, root: str | None = None, window: Window = 256, stride: Count | None = None) -> None:
        self.folder = data_root(root) / self.name
        sizes = {"train": 90_000_000, "val": 5_000_000, "test": 5_000_000}
        alphabet = Alphabet(self.alphabet_of) if self.alphabet_of else None
        super().__init__(alphabet, sizes, window, stride, "char" if alphabet else "byte")

    def symbols(self, name: str) -> Tensor:
        content = self._read()
        if len(content) != 100_000_000:
            raise UsageError(f"{self.folder}/{self.name} has {len(content)} bytes, not 100000000: fetch it again")
        content = {k: content[a:b] for k, a, b in _bounds(self.sizes)}[name]
        if self.alphabet is None:
            return torch.from_numpy(np.frombuffer(content, np.uint8).copy())
        return self.alphabet.encode(content.decode("ascii"))

    def _read(self) -> bytes:
        plain = self.folder / self.name
        if plain.is_file():
            return plain.read_bytes()
        packed = need(self.folder / f"{self.name}.zip", f"fetch http://mattmahoney.net/dc/{self.name}.zip into there")
        try:
            with zipfile.ZipFile(packed) as archive:
                return archive.read(self.name)
        except (zipfile.BadZipFile, KeyError, OSError) as error:
            raise UsageError(f"{packed} is no zip file of {self.name}: fetch it again ({error})") from error


class Text8(Enwik8):
    """The first 10^8 characters of the cleaned text of Wikipedia: a to z and space (Mahoney, 2006)."""

    name = "text8"
    support: ClassVar[str] = "categorical:27"
    shape_kind: ClassVar[str] = "vector"
    alphabet_of = " " + string.ascii_lowercase


def _read(path: Path, level: str) -> str | bytes:
    """A file as text or bytes, line ends as they are.

    Raises:
        UsageError: it cannot be read, or is no UTF-8.
    """
    try:
        content = path.read_bytes()
        return content if level == "byte" else content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"data.path={path} is no UTF-8 at byte {error.start}: take data.level=byte") from error
    except OSError as error:
        raise UsageError(f"data.path={path} cannot be read: {error}") from error


def _bounds(sizes: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """(name, start, end) of consecutive splits."""
    found, start = [], 0
    for name in SPLITS:
        if name in sizes:
            found.append((name, start, start + sizes[name]))
            start += sizes[name]
    return found


def _cut(whole: Tensor, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """One sequence as consecutive splits."""
    return {name: whole[start:end] for name, start, end in _bounds(sizes)}
