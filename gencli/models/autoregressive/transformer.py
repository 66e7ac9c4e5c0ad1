"""A decoder-only transformer over symbols: text, the pixels of an image in raster order, or the columns of a table.

    p(x | y) = prod_t softmax(W h_t)_(x_t),    h_t = body(start, x_1 .. x_(t-1))

References:
    Radford et al., "Improving language understanding by generative pre-training", 2018.
    Chen et al., "Generative pretraining from pixels", 2020.
    Press and Wolf, "Using the output embedding to improve language models", 2017 (tied weights).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencli.core.options import BelowOne, Count
from gencli.core.spec import Given, Spec
from gencli.models.autoregressive.columns import Columns
from gencli.models.base import Autoregressive
from gencli.models.distributions import CategoricalHead, Conditional, Head, head_of
from gencli.nn.attention import Activation, Cache, CausalTransformer
from gencli.nn.base import NetworkFactory


class Transformer(Autoregressive):
    """Categorical conditionals from causal attention over all symbols before.

    Images are read in raster order, the channels of a pixel one after another; each token also knows where the pixel
    lies that it predicts. A class y is added to every token. Columns of several kinds are read from the first to the
    last; each is embedded, and its distribution read off, by weights of its own.

    Sequences longer than the window of D symbols: when a window is full, its last D // 2 symbols become the beginning
    of the next one, which starts anew; so a symbol is drawn given the D // 2 to D - 1 symbols before it, as held-out
    text is scored with a stride of half a window.

    Args:
        spec: what one example is; its D coordinates are the window.
        conditional: model p(x given y).
        context: network from y to features that all others see; None: they see y itself.
        layers: number of blocks.
        heads: of the attention.
        width: of a token.
        hidden: width of the layer within each MLP; None: 4 widths, or 8/3 for ``swiglu``.
        activation: ``gelu``, ``relu2`` (its square saves a tenth of a step on a CPU) or ``swiglu``.
        dropout: probability that a unit is dropped in training.
        tied: the output weights are the embeddings of the symbols, which a table of several kinds does not have.
        components: C, of the mixtures of normals (of real columns; None: 1) and of logistics (of levels; None: 5) in a
            table of several kinds; nothing else has them.

    Raises:
        ValueError: the heads do not share the width in even parts, or components of data that has none.
    """

    supports = ("binary", "levels", "categorical", "mixed")
    shapes = ("vector", "image")
    any_length = True

    def __init__(
        self,
        spec: Spec,
        *,
        conditional: bool = False,
        context: NetworkFactory | None = None,
        layers: Count = 4,
        heads: Count = 4,
        width: Count = 128,
        hidden: Count | None = None,
        activation: Activation = "gelu",
        dropout: BelowOne = 0.0,
        tied: bool = True,
        components: Count | None = None,
    ) -> None:
        super().__init__(spec, conditional=conditional, context=context)
        self.dropout = dropout
        self.distribution: Head
        self.columns: Columns | None = None
        if spec.support.columns:
            self.distribution = head_of(spec.support, components=components)
            self.columns = Columns(spec.support, self.distribution, width)
        else:
            if components is not None:
                raise ValueError(f"model.components={components} is for columns of several kinds, not {spec.support}")
            self.distribution = CategoricalHead(spec.support)
            self.symbols = nn.Embedding(spec.support.size, width)
        self.bos = nn.Parameter(torch.zeros(width))
        self.places = nn.Parameter(torch.zeros(spec.dim, width)) if spec.kind == "image" else None
        self.of_context = nn.Linear(self.context_dim, width, bias=False) if self.context_dim else None
        self.body = CausalTransformer(
            spec.dim, width=width, layers=layers, heads=heads, hidden=hidden, activation=activation, dropout=dropout
        )
        self.head = None if tied or self.columns else nn.Linear(width, spec.support.size, bias=False)
        for name, weight in self.named_parameters():
            if not name.startswith(("body.", "context_net.")):
                nn.init.normal_(weight, std=0.02)
        self.natural = spec.kind != "image" or spec.shape[0] == 1

    # --- raster order --------------------------------------------------------------------------------------------

    def _line(self, x: Tensor) -> Tensor:
        """(B, *) -> (B, D) in the order of the model: channels of a pixel one after another."""
        return x.movedim(1, -1).flatten(1) if self.spec.kind == "image" else x

    def _event(self, line: Tensor) -> Tensor:
        """(B, D) in the order of the model -> (B, *)."""
        if self.spec.kind != "image":
            return line
        channels, height, width = self.spec.shape
        return line.view(-1, height, width, channels).movedim(-1, 1)

    # --- densities -----------------------------------------------------------------------------------------------

    def _params(self, line: Tensor, y: Tensor | None, cache: Cache | None = None) -> Tensor:
        """Parameters (B, t + 1, P) of the coordinates that follow the start and each of the symbols line (B, t).

        With a cache that holds the start, only of those that follow the symbols: (B, t, P).
        """
        first = 0 if cache is None else cache.length
        h = self.columns.embed(line, max(first - 1, 0)) if self.columns else self.symbols(line)
        if first == 0:
            h = torch.cat([self.bos.expand(len(line), 1, -1), h], 1)
        if self.places is not None:
            h = h + self.places[first : first + h.shape[1]]
        context = self.context(y)
        if context is not None and self.of_context is not None:
            h = h + self.of_context(context.to(h.dtype))[:, None]
        if self.dropout:
            h = F.dropout(h, self.dropout, self.training)
        h = self.body(h, cache)
        if self.columns:
            return self.columns.read(h, first)
        return F.linear(h, self.symbols.weight) if self.head is None else self.head(h)

    def log_conditionals(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        line = self._line(x) if self.columns else self._line(x).long()
        params = self._params(line[:, :-1], y)
        params = params.to(torch.promote_types(params.dtype, torch.float32))  # also under autocast
        return self._event(self.distribution.log_prob(line, params))

    # --- samples -------------------------------------------------------------------------------------------------

    def decode(
        self,
        n: int,
        y: Tensor | None = None,
        *,
        pick: Callable[[Conditional], Tensor],
        given: Given | None = None,
        cached: bool = True,
    ) -> Tensor:
        D = self.spec.dim
        length = given.x.shape[1] if given is not None and self.spec.kind != "image" else D
        dtype = self.bos.dtype if self.columns else torch.long
        x = torch.zeros(n, length, dtype=dtype, device=self.bos.device)
        known, some, prompt = None, [False] * length, 0
        if given is not None:
            known = self._line(given.mask)
            x = torch.where(known, self._line(given.x).to(dtype), x)
            some = known.any(0).tolist()
            prompt = int(known.all(0).long().cumprod(0).sum())  # leading coordinates that every row has
        begin = first = ahead = 0  # the window begins at coordinate begin; params are of coordinates first .. ahead - 1
        params, cache = torch.empty(0), self.body.cache(n) if cached else None
        for t in range(length):
            if t == begin + D:
                begin = t - D // 2
                if cache is not None:
                    cache.length = 0
                ahead = t
            if t == ahead:
                if cache is None:
                    first, params = t, self._params(x[:, begin:t], y)[:, -1:]
                elif cache.length == 0:  # all that is known of this window, in one pass
                    known_to = min(max(t, prompt), begin + D - 1)
                    first, params = begin, self._params(x[:, begin:known_to], y, cache)
                else:
                    first, params = t, self._params(x[:, t - 1 : t], y, cache)
                ahead = first + params.shape[1]
            head = self.distribution.column(t)
            drawn = pick(head.conditional(params[:, t - first, : head.n_params]))
            x[:, t] = torch.where(known[:, t], x[:, t], drawn) if known is not None and some[t] else drawn
        return self._event(x)
