"""Text as data, measured in nats per character or byte: your own, and the published ones."""

from __future__ import annotations

import codecs
import string
import zipfile
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from gencli.core.errors import UsageError, quoted
from gencli.core.files import named
from gencli.core.options import Count, Range
from gencli.core.spec import Spec
from gencli.data.base import Split
from gencli.data.lazy import UserFiles, counted
from gencli.data.root import data_root, fetch, need, user_path
from gencli.data.split import SPLITS, WindowSplit
from gencli.data.windows import Alphabet, Sequences, Window, Windows


class TextFile(UserFiles, Windows):
    """Your own text, by character or byte: the first 90 % for training, 5 % for validation, the last 5 % for test.

    Characters are those of all files together, in the order of their code points; a byte order mark is none of them.

    Args:
        path: the file, UTF-8 where it is read by character.
        val_path: a file of its own for validation; with it or ``test_path``, all of ``path`` is for training.
        test_path: a file of its own for test.
        level: ``char`` or ``byte``.
        window: T, the symbols that a model sees at once.
        stride: new symbols that each held-out window scores; None: half a window.

    Raises:
        ValueError: the stride is longer than the window; (by ``spec``) a text is too short.
        UsageError: (by ``spec`` and ``split``) a file is missing, empty or no UTF-8, or has a character that the run's
            alphabet lacks.
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
        super().__init__(path, "a text file", window=window, stride=stride, per=level)
        others = {"val": val_path, "test": test_path}
        self.keys = {"data.path": self.path} | {
            f"data.{name}_path": named(other, f"data.{name}_path=") for name, other in others.items() if other
        }
        self._texts: dict[str, str] = {}
        self._symbols: dict[str, Tensor] = {}

    def understand(self) -> dict[str, Any]:
        characters = None
        if self.per == "char":
            characters = "".join(sorted(set().union(*map(self._text, self.keys))))
            if len(characters) < 2:
                raise ValueError(f"data.path={self.path}: the text needs at least 2 different characters")
        self.meaning = {"alphabet": characters}
        self.fit({name: len(symbols) for name in SPLITS if (symbols := self.symbols(name)) is not None})
        return self.meaning

    def specify(self, schema: Mapping[str, Any]) -> Spec:
        characters = schema["alphabet"]
        if self.per == "char" and (not isinstance(characters, str) or len(set(characters)) < max(2, len(characters))):
            raise ValueError("an alphabet is different characters")
        return self.specification(Alphabet(characters) if self.per == "char" else None)

    @cached_property
    def alphabet(self) -> Alphabet | None:  # type: ignore[override]
        return Alphabet(self.meaning["alphabet"]) if self.per == "char" else None

    def understood(self) -> list[str]:
        if self.kept or not self._symbols:
            return []
        found = counted({name: 0 if (symbols := self.symbols(name)) is None else len(symbols) for name in SPLITS})
        known = f"; {len(self.alphabet)} different: {quoted(self.alphabet.characters, 120)}" if self.alphabet else ""
        return [f"{self.name}: {found} {self.per}s{known}"]

    def symbols(self, name: str) -> Tensor | None:
        if f"data.{name}_path" in self.keys:
            return self._read(f"data.{name}_path")
        if len(self.keys) > 1:
            return self._read("data.path") if name == "train" else None
        whole = self._read("data.path")
        first, second = len(whole) * 90 // 100, len(whole) * 95 // 100
        return {"train": whole[:first], "val": whole[first:second], "test": whole[second:]}[name]

    def whole(self) -> Split:
        symbols = self._read("data.path")
        try:
            return WindowSplit(symbols, self.window, self.stride)
        except ValueError as error:
            raise UsageError(f"data.path={self.path}: {error}") from error

    def _read(self, key: str) -> Tensor:
        """The symbols (L,) of a file."""
        if key not in self._symbols:
            if self.alphabet is None:
                self._symbols[key] = torch.from_numpy(np.frombuffer(self._bytes(key), np.uint8).copy())
            else:
                try:
                    self._symbols[key] = self.alphabet.encode(self._text(key))
                except ValueError as error:
                    raise UsageError(f"{key}={self.keys[key]}: {error}") from error
                del self._texts[key]
        return self._symbols[key]

    def _text(self, key: str) -> str:
        """A file as text, line ends as they are.

        Raises:
            UsageError: it is no UTF-8, or no text.
        """
        if key not in self._texts:
            content, where = self._bytes(key), f"{key}={self.keys[key]}"
            if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                raise UsageError(f"{where} is UTF-16: save it as UTF-8, or take data.level=byte")
            try:
                text = content.decode("utf-8")
            except UnicodeDecodeError as error:
                raise UsageError(f"{where} is no UTF-8 at byte {error.start}: take data.level=byte") from error
            if not self.old:
                text = text.removeprefix("\ufeff")
                if "\0" in text:
                    raise UsageError(f"{where} is no text: character {text.index(chr(0))} is NUL; take data.level=byte")
            self._texts[key] = text
        return self._texts[key]

    def _bytes(self, key: str) -> bytes:
        path = user_path(str(self.keys[key]), self.what, key, self.typed)
        if path.is_dir():
            raise UsageError(f"{key}={path} is a folder; a text file is expected")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UsageError(f"{key}={path} cannot be read: {error}") from error
        if not content:
            raise UsageError(f"{key}={path} is empty")
        return content


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

    def read(self, name: str) -> Tensor:
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

    def read(self, name: str) -> Tensor:
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
