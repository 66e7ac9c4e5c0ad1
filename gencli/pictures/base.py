"""The contract of the group ``picture``: what ``gencli sample picture=NAME`` draws of a run instead of samples."""

from __future__ import annotations

import io
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

from gencli.core.errors import UsageError
from gencli.models.base import Model
from gencli.pictures import canvas, style
from gencli.run.assembly import Parts
from gencli.run.drawing import Drawing
from gencli.run.subject import ask
from gencli.samplers.base import Answer, Question


@dataclass(frozen=True)
class Drawn:
    """What a picture is.

    Args:
        files: by the end of their names: ``.html``, ``.npz``.
        terminal: anything that rich can print; None: nothing.
        figures: matplotlib figures, which the style gives a format, by what stands between name and suffix of their
            file: "" for the first.
        film: moving pictures, which the style gives a format, too; None: there are none.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    terminal: Any = None
    figures: dict[str, Any] = field(default_factory=dict)
    film: canvas.Film | None = None

    def contents(self, format: str = "png", film: str = "gif") -> dict[str, bytes]:
        """All files by the end of their names, figures in a format (png, svg or pdf), a film in one (gif or mp4)."""
        found = {f"{name}.{format}": style.rendered(figure, format) for name, figure in self.figures.items()}
        if self.film is not None:
            found[f".{film}"] = self.film.encoded(film)
        return found | self.files


class Page(str):
    """HTML that a notebook shows."""

    def _repr_html_(self) -> str:
        return self


class Picture(Drawing):
    """A way to look at a trained model: a frozen dataclass whose fields are its options.

    ``layouts``: of the data that it shows, as models name them; none named: of any.
    ``example_keys``: keys that an example of a command needs beside it.
    """

    requires: ClassVar[tuple[type[Model], ...]] = ()
    layouts: ClassVar[tuple[str, ...]] = ()
    example_keys: ClassVar[str] = ""

    def show(self, parts: Parts, n: int, seed: int) -> Any:
        with style.applied():
            drawn = self.make(parts, n, seed)
        if drawn.figures:
            return next(iter(drawn.figures.values()))
        if drawn.film is not None:
            from PIL import Image

            return Image.open(io.BytesIO(drawn.film.encoded("gif")))
        for suffix, content in drawn.files.items():
            if suffix.endswith(".html"):
                return Page(content.decode("utf-8"))
        return drawn.terminal

    @abstractmethod
    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        """The picture, made from n examples or samples, drawn in the style that is ``applied``.

        Raises:
            UsageError: the data or the model cannot be shown like this.
        """


class AnswerPicture(Picture):
    """The picture of a question's answer.

    ``option``: its name in its own group. ``question``: that of the question in the group ``sampler``; None: the same.
    """

    option: ClassVar[str]
    question: ClassVar[str | None] = None

    @abstractmethod
    def of(self, answer: Answer, parts: Parts) -> Drawn:
        """The picture of an answer, drawn in the style that is ``applied``."""

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        question = self.question or self.option
        if not isinstance(parts.sampler, Question) or parts.sampler.option != question:
            raise UsageError(f"picture={self.option} shows an answer: sampler={question} asks the question")
        return self.of(ask(parts, n, seed), parts)
