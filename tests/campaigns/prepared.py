"""A process that has imported everything, with a few good runs, from which each try is forked into a folder of its own.

Everything of a user lies in that folder: home, cache, temporary files. Linux only.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from campaigns.children import Ended, bound_memory, forked, import_everything, settle, warm_up

MEMORY = 4 * 2**30
"""Address space of a child beyond what it has at its start: who asks for more is told so."""

_WARNING = re.compile(r"^\S*/gencli/\S+:\d+: \w*Warning: .*", re.M)


class Room:
    """Forks tries; the process has to be young.

    Args:
        parent: a folder for the good runs and those of the tries.
        runs: the good runs: the words of a training by name, trained in this order in one folder.
        warm: commands that fill caches which each child would fill anew, in a folder with the good runs.
    """

    def __init__(self, parent: Path, runs: Mapping[str, Sequence[str]], warm: Sequence[Sequence[str]] = ()) -> None:
        self.parent = parent
        import_everything()
        self.good = parent / "good"
        self.good.mkdir()
        ended = self._forked(self.good, parent, lambda: _train(runs), 600)
        if ended.code:
            raise RuntimeError(f"the good runs cannot be made:\n{ended.out.decode()}\n{ended.err.decode()}")
        with self.folder() as scratch:
            shutil.copytree(self.good, scratch / "work", dirs_exist_ok=True)
            warm_up(scratch / "work", warm)
        gc.collect()
        gc.freeze()  # children share these pages

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder for one try: ``work`` in it is empty."""
        scratch = Path(tempfile.mkdtemp(prefix="try-", dir=self.parent))
        try:
            for name in ("work", "home", "cache", "tmp"):
                (scratch / name).mkdir()
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def call(self, scratch: Path, words: Sequence[str], limit: float) -> Ended:
        """A command in the working directory of a try."""
        from gencli.cli.main import main

        return self._forked(scratch / "work", scratch, lambda: main(words), limit)

    def act(self, scratch: Path, work: Callable[[], int], limit: float) -> Ended:
        """A function in the working directory of a try."""
        return self._forked(scratch / "work", scratch, work, limit)

    @staticmethod
    def _forked(folder: Path, scratch: Path, work: Callable[[], int], limit: float) -> Ended:
        return forked(work, scratch, limit, lambda: _begin(folder, scratch))


def our_warnings(text: str) -> list[str]:
    """Warnings of Python in what a command said that name a line of gencli."""
    return [f"a warning of our own: {found.rpartition('/gencli/')[2][:200]}" for found in _WARNING.findall(text)]


def _train(runs: Mapping[str, Sequence[str]]) -> int:
    import gencli

    for name, words in runs.items():
        gencli.train([*words, f"run_dir={name}"])
    return 0


def _begin(folder: Path, scratch: Path) -> None:
    settle(folder, scratch)
    os.environ.pop("GENCLI_DATA", None)
    bound_memory(MEMORY)
