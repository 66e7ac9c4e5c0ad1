"""One look for all pictures that matplotlib draws: colours, sizes, light and dark, file formats.

Colours of lines and points are those of Okabe and Ito ("Color universal design", 2008), values have the map viridis:
both can be told apart by the colour-blind.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from gencli.config.sections import StyleOptions
from gencli.core.errors import RunFailed

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
"""Of Okabe and Ito; the first is data, the second the model's samples, where both are shown."""

DATA, MODEL = "C0", "C1"

_PAPER = {"light": "#FFFFFF", "dark": "#15181E"}
_INK = {"light": "#1A1A1A", "dark": "#E6E6E6"}
_FAINT = {"light": "#D0D0D0", "dark": "#464B55"}

_current: ContextVar[StyleOptions | None] = ContextVar("style", default=None)
_LOCK = threading.RLock()
"""matplotlib keeps one set of defaults for the whole process, which one thread at a time may change."""


def _matplotlib() -> Any:
    if "matplotlib" not in sys.modules:
        # It reads a file matplotlibrc in the current folder, and evaluates parts of it: any folder but the user's.
        with _chdir(Path(__file__).parent):
            import matplotlib
    import matplotlib

    return matplotlib


@contextmanager
def _chdir(folder: Path) -> Iterator[None]:
    """Another current folder for a while (contextlib has it from Python 3.11 on)."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def applied(style: StyleOptions | None = None) -> Iterator[None]:
    """All that is drawn within has a style; None: that of an outer one, or the default."""
    style = style or _current.get() or StyleOptions()
    paper, ink, faint = (colours[style.theme] for colours in (_PAPER, _INK, _FAINT))
    matplotlib = _matplotlib()
    settings = {
        "figure.facecolor": paper, "savefig.facecolor": paper, "axes.facecolor": paper, "legend.facecolor": paper,
        "text.color": ink, "axes.labelcolor": ink, "axes.edgecolor": ink, "xtick.color": ink, "ytick.color": ink,
        "grid.color": faint, "legend.edgecolor": faint, "boxplot.boxprops.color": ink,
        "boxplot.whiskerprops.color": ink, "boxplot.capprops.color": ink,
        "boxplot.medianprops.color": COLOURS[1],
        "axes.prop_cycle": matplotlib.cycler(color=COLOURS), "image.cmap": "viridis",
        "font.size": 9, "axes.titlesize": 10, "figure.titlesize": 11, "legend.fontsize": 8, "axes.labelsize": 9,
        "axes.linewidth": 0.8, "lines.linewidth": 1.4, "axes.spines.top": False, "axes.spines.right": False,
        "text.usetex": False, "text.parse_math": False, "svg.hashsalt": "gencli", "svg.fonttype": "none",
    }  # fmt: skip
    token = _current.set(style)
    try:
        with _LOCK, matplotlib.rc_context(settings):
            yield
    finally:
        _current.reset(token)


def ink() -> str:
    """The colour of text and of what was observed."""
    return _INK[(_current.get() or StyleOptions()).theme]


def paper() -> str:
    """The colour of the ground."""
    return _PAPER[(_current.get() or StyleOptions()).theme]


def faint() -> str:
    """A colour for what lies behind."""
    return _FAINT[(_current.get() or StyleOptions()).theme]


def blank(width: float, height: float) -> Any:
    """An empty figure of width x height inches, times the style's scale; no pyplot: no global state, no display."""
    _matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style = _current.get() or StyleOptions()
    made = Figure(figsize=(width * style.scale, height * style.scale), layout="constrained", dpi=style.dpi)
    FigureCanvasAgg(made)
    return made


def rendered(figure: Any, format: str = "png") -> bytes:
    """A figure as a file: png, svg or pdf, the same bytes each time.

    Raises:
        RunFailed: it is too small for what stands in it.
    """
    buffer = io.BytesIO()
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "constrained_layout not applied")
        try:
            figure.savefig(buffer, format=format, metadata=dates.get(format))
        except UserWarning as error:
            raise RunFailed("style.scale: the picture is too small for its words; take a larger one") from error
    return buffer.getvalue()
