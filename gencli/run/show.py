"""A run in a line, and in a notebook: what it is, its number with bound and error, and its samples.

All of it is read from the files of the run, which may be a stranger's: nothing is built, and texts are escaped.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gencli.config import stored
from gencli.core import bounds
from gencli.core.errors import UsageError, quoted

PICTURE = 2 << 20
"""Bytes of the largest picture that is shown with a run."""


def number(run: Path) -> str:
    """The run's own number with its bound and standard error, as ``test NLL <= 84.244 ± 0.615 nats (upper bound)``.

    Empty where it has none yet.

    Raises:
        UsageError: a file is damaged.
    """
    record = stored.own_record(run)
    value, bound = record.get("value"), str(record.get("bound"))
    if not isinstance(value, int | float) or bound not in bounds.SIGNS:
        return ""
    limits = record.get("se_lower_limits")
    about = bounds.error_of(record.get("se_examples"), record.get("se_shared"), limits)
    words = bounds.words_of(bound, limits, record.get("flags"))
    said = f"{record.get('split')} NLL {bounds.SIGNS[bound]} {bounds.nats(value)}{about} {record.get('unit')} ({words})"
    return quoted(said, 300)


def told(run: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """What is to be said of a run: ``model``, ``data``, ``status`` and its ``number``."""
    choices = config.get("choices") or {}
    facts = {key: quoted(choices.get(key) or "?", 60) for key in ("model", "data")}
    try:
        return {**facts, "status": quoted(stored.info(run).get("status"), 20), "number": number(run)}
    except UsageError as error:
        return {**facts, "status": quoted(f"damaged: {error}", 200), "number": ""}


def line(run: Path, config: Mapping[str, Any]) -> str:
    """A run in one line."""
    facts = told(run, config)
    said = [f"model={facts['model']}", f"data={facts['data']}", facts["status"], facts["number"]]
    return f"Run({quoted(run, 200)}: {', '.join(text for text in said if text)})"


def page(run: Path, config: Mapping[str, Any]) -> str:
    """A run as HTML, with the last picture of its samples."""
    facts = {key: html.escape(text) for key, text in told(run, config).items()}
    picture = _picture(run)
    shown = f'<img alt="samples" style="max-width: 20em" src="data:image/png;base64,{picture}">' if picture else ""
    return (
        f"<div><b>{facts['model']}</b> on <b>{facts['data']}</b>, {facts['status']}<br>"
        f"{facts['number'] or 'no number yet'}<br><small>{html.escape(quoted(run, 300))}</small><br>{shown}</div>"
    )


def _picture(run: Path) -> str:
    """The newest PNG of samples in base64; empty where there is none of this folder that is small enough."""
    folder = run / "samples"
    if folder.is_symlink():
        return ""
    files = [file for file in folder.glob("*.png") if file.is_file() and not file.is_symlink()]
    for file in sorted(files, key=lambda file: file.stat().st_mtime_ns, reverse=True):
        if file.stat().st_size <= PICTURE and (content := file.read_bytes()).startswith(b"\x89PNG\r\n\x1a\n"):
            return base64.b64encode(content).decode()
    return ""
