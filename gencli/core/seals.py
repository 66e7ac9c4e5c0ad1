"""What a file of a run says of itself: whose it is, and a SHA-256 of all else. Against damage and mix-ups, not forgery.

JSON files have a key ``seal``; ``config.yaml`` begins with comments. Files of older versions have none, and whoever
changes a file by hand takes its seal out: what is not sealed is taken as it is.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

KEY = "seal"
_HASH = re.compile(r"# sha256 ([0-9a-f]{64}) of all below; take this line out after a change by hand\n")
_RUN = re.compile(r"(?:# sha256 [^\n]*\n)?# run ([0-9a-f]{12})\n")


def sealed(value: Mapping[str, Any], **about: str | None) -> dict[str, Any]:
    """A mapping with its seal.

    Args:
        value: what JSON can hold.
        about: what the seal says besides; None is left out.
    """
    seal = {key: said for key, said in about.items() if said is not None}
    return {**value, KEY: {**seal, "sha256": _digest(value, seal)}}


def is_whole(value: Mapping[str, Any], seal: Mapping[str, Any]) -> bool:
    """Whether a mapping, without its seal, is what was sealed.

    Example:
        >>> made = sealed({"value": 1.25}, run="a")
        >>> seal = made.pop("seal")
        >>> is_whole(made, seal), is_whole({"value": 1.26}, seal), is_whole(made, seal | {"run": "b"})
        (True, False, False)
    """
    return seal.get("sha256") == _digest(value, {key: said for key, said in seal.items() if key != "sha256"})


def _digest(value: Mapping[str, Any], seal: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps([value, seal]))  # as a reader gets it
    return sha256(json.dumps(plain, sort_keys=True).encode())


def sha256(data: bytes) -> str:
    """Of some bytes."""
    return hashlib.sha256(data).hexdigest()


def sealed_text(text: str, run: str | None) -> str:
    """A text of YAML below its seal; None: the run has no name."""
    below = (f"# run {run}\n" if run else "") + text
    return f"# sha256 {sha256(below.encode())} of all below; take this line out after a change by hand\n{below}"


def is_whole_text(text: str) -> bool:
    """Whether a text of YAML is what was sealed, or has no seal."""
    found = _HASH.match(text)
    return found is None or found[1] == sha256(text[found.end() :].encode())


def run_of(text: str) -> str | None:
    """The run that a sealed text is of, by its first lines."""
    found = _RUN.match(text)
    return found[1] if found else None
