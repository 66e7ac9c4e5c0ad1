"""Going on in a run of a service that takes nothing back: its id there, and the last step that it has heard of.

A run that was killed goes on from its last checkpoint, and takes some steps anew. What is said of them is what was
said before, so the service is not told twice.
"""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path

from gencli.core.files import inside, write_json

_ID = re.compile(r"[\w.-]{1,128}", re.ASCII)


class Mark:
    """The file ``<service>.json`` of a run folder.

    Args:
        folder: the run folder.
        service: its name.

    Attributes:
        id: of the run at the service; a new one where the run is told of for the first time.
        known: whether the service knows the run.
        heard: the last step that earlier processes told of; -1: none.
    """

    def __init__(self, folder: Path, service: str) -> None:
        self.file = inside(folder, f"{service}.json")
        self.id, self.heard = secrets.token_hex(8), -1
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))
            known = found["id"], int(found["step"])
        except (OSError, ValueError, KeyError, TypeError):  # none yet, or damaged: a run of its own
            self.known = False
        else:
            self.known = isinstance(known[0], str) and _ID.fullmatch(known[0]) is not None
        if self.known:
            self.id, self.heard = known
        self._step = self.heard

    def save(self, own: str | None = None) -> None:
        """Keep the id, which the service may have chosen."""
        self.id = own or self.id
        write_json(self.file, {"id": self.id, "step": self._step})

    def new(self, step: int) -> bool:
        """Whether the service has to be told of a step; it counts as told from now on, even if we are killed."""
        if step <= self.heard:
            return False
        if step > self._step:
            self._step = step
            self.save()
        return True
