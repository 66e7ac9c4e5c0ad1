"""Held-out text, each symbol coloured by its surprise -log p(x_t | x_<t)."""

from __future__ import annotations

import html
from dataclasses import dataclass

import torch
from rich.style import Style
from rich.text import Text
from torch import Tensor

from gencli.core.errors import UsageError, shown
from gencli.core.noise import Purpose, RowNoise, stream
from gencli.core.options import Count, Positive
from gencli.models.base import Autoregressive
from gencli.pictures.base import Drawn, Picture
from gencli.run.assembly import Parts

_PAGE = """<!doctype html>
<html><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 15px/1.6 monospace; max-width: 60em; margin: 2em auto }} pre {{ white-space: pre-wrap }}</style>
</head><body><p>{title}</p><p>nats: {legend}</p><pre>{text}</pre></body></html>
"""


@dataclass(frozen=True, kw_only=True)
class SurpriseText(Picture):
    """The beginning of the held-out text on a ground from white (sure) to red (``top`` nats or more), in context.

    Each symbol is scored as the record scores it. The terminal gets the same as the HTML file, where each symbol also
    tells its nats when pointed at.

    Args:
        symbols: how many are shown.
        top: nats that get the full colour.
    """

    layouts = ("sequence",)
    requires = (Autoregressive,)
    symbols: Count = 1500
    top: Positive = 6.0

    @torch.no_grad()
    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        name = next(s for s in ("test", "val", "train") if parts.dataset.split(s) is not None)
        split = parts.dataset.split(name)
        assert split is not None
        if split.counts is None or parts.dataset.to_text(split.gather(torch.arange(1)).x) is None:
            raise UsageError("picture=surprise_text needs data that is text")
        assert isinstance(parts.model, Autoregressive)
        rows = int((split.counts.cumsum(0) < self.symbols).sum()) + 1
        texts: list[str] = []
        nats: list[Tensor] = []
        for ids in torch.arange(min(rows, len(split))).split(64):
            batch = split.gather(ids)
            given = batch.given
            assert given is not None
            noise = RowNoise(stream(seed, Purpose.PICTURES), ids.to(parts.device))
            there, _ = parts.preprocess.batch(batch.to(parts.device), noise)
            surprise = -parts.model.log_conditionals(there.x, there.y).cpu()
            for row, values, start in zip(batch.x.cpu(), surprise, given.tolist(), strict=True):
                nats.append(values[start:])
                texts += [(parts.dataset.to_text(symbol.view(1, 1)) or [""])[0] for symbol in row[start:]]
        values = torch.cat(nats)[: self.symbols].tolist()
        texts = texts[: self.symbols]
        mean = sum(values) / len(values)
        title = f"{parts.dataset.name}, {name} split, {len(values)} {parts.dataset.per}s at {mean:.3f} nats on average"
        return Drawn({".html": self._html(title, texts, values).encode()}, self._rich(title, texts, values))

    def _share(self, nats: float) -> int:
        """The ground's green and blue, 255 (white) to 64 (red)."""
        return round(255 - 191 * min(nats / self.top, 1.0))

    def _rich(self, title: str, texts: list[str], values: list[float]) -> Text:
        drawing = Text(f"{title}\nnats ")
        for k in range(int(self.top) + 1):
            drawing.append(f" {k} ", self._style(k))
        drawing.append("\n\n")
        for text, nats in zip(texts, values, strict=True):
            drawing.append("⏎\n" if text == "\n" else shown(text), self._style(nats))
        return drawing

    def _style(self, nats: float) -> Style:
        share = self._share(nats)
        return Style(color="rgb(0,0,0)", bgcolor=f"rgb(255,{share},{share})")

    def _html(self, title: str, texts: list[str], values: list[float]) -> str:
        def span(text: str, nats: float) -> str:
            share = self._share(nats)
            safe = "⏎\n" if text == "\n" else html.escape(text)
            return f'<span style="background:rgb(255,{share},{share})" title="{nats:.2f}">{safe}</span>'

        legend = "".join(span(f" {k} ", k) for k in range(int(self.top) + 1))
        body = "".join(span(text, nats) for text, nats in zip(texts, values, strict=True))
        return _PAGE.format(title=html.escape(title), legend=legend, text=body)
