"""A process that has imported everything, with a few good runs, from which each try is forked into a folder of its own.

Everything of a user lies in that folder: home, cache, temporary files. Linux only.
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from campaigns.children import BELONGINGS, Ended, bound_memory, forked, import_everything, settle, warm_up

MEMORY = 4 * 2**30
"""Address space of a child beyond what it has at its start: who asks for more is told so."""


class Prepared:
    """Forks tries; the process has to be young.

    Args:
        parent: a folder for the good runs and those of the tries.
        make: makes the good runs in the folder where it is called; what it returns is an exit code.
        warm: commands that fill caches which each child would fill anew, in a folder with the good runs.
        memory: address space of a child beyond what it has at its start.
    """

    def __init__(
        self, parent: Path, make: Callable[[], int], warm: Sequence[Sequence[str]] = (), memory: int = MEMORY
    ) -> None:
        self.parent, self.memory = parent, memory
        import_everything()
        self.good = parent / "good"
        self.good.mkdir()
        ended = self.act(parent, make, 600, folder=self.good)
        if ended.code:
            raise RuntimeError(f"the good runs cannot be made:\n{''.join(ended.texts)}")
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
            for name in ("work", *{*BELONGINGS.values()}):
                (scratch / name).mkdir()
            yield scratch
        finally:
            remove(scratch)

    def act(
        self,
        scratch: Path,
        work: Callable[[], int],
        limit: float,
        meanwhile: Callable[[int], None] = lambda child: None,
        begin: Callable[[], None] = lambda: None,
        folder: Path | None = None,
    ) -> Ended:
        """A function in a folder, None: ``work`` of a try; what is left are arguments of ``forked``."""

        def first() -> None:
            settle(folder or scratch / "work", scratch)
            os.environ.pop("GENCLI_DATA", None)
            bound_memory(self.memory)
            begin()

        return forked(work, scratch, limit, first, meanwhile)


def training(runs: Mapping[str, Sequence[str]]) -> Callable[[], int]:
    """What makes good runs: the words of a training by name; a later one may name an earlier one."""

    def make() -> int:
        import gencli

        for name, words in runs.items():
            gencli.train([*words, f"run_dir={name}"])
        return 0

    return make


def remove(folder: Path) -> None:
    """Take the folder of a try away, whatever its rights are."""
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder)
